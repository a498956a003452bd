# Licensed under a 3-clause BSD style license - see LICENSE
"""PSF photometry of an image with the interface of photutils, on the batch engine."""

from .photometry import PoissonPSFPhotometry

__all__ = ['PoissonPSFPhotometry']
