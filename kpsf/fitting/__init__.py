# Licensed under a 3-clause BSD style license - see LICENSE
"""Fit astropy models to counts with the Poisson likelihood, one data set at a time."""

from .fitter import PoissonLikelihoodFitter

__all__ = ['PoissonLikelihoodFitter']
