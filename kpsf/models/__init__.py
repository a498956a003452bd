# Licensed under a 3-clause BSD style license - see LICENSE
"""PSF models: what a point source looks like, for any astropy fitter."""

from .gaussian import EllipticalGaussianPSF, precision_to_stddev, stddev_to_precision
from .integrated import EllipticalGaussianPRF
from .names import position_names, scale_name, total_flux_name
from .tabulated import TabulatedPRF

__all__ = ['EllipticalGaussianPRF', 'EllipticalGaussianPSF', 'TabulatedPRF', 'position_names',
           'precision_to_stddev', 'scale_name', 'stddev_to_precision', 'total_flux_name']
