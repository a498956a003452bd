# Licensed under a 3-clause BSD style license - see LICENSE
"""What was found out about each star, collected from single and joint fits."""

from dataclasses import dataclass

import numpy as np

__all__ = ['Found']


@dataclass
class Found:
    """Results of n stars, in units of the data; NaN where nothing was fitted.

    Attributes
    ----------
    params, errors : ndarray, shape (n, k)
        In the order of the model; errors are NaN for fixed parameters.
    background, background_err : ndarray, shape (n,)
        NaN where none was fitted.
    cstat, gof_z : ndarray, shape (n,)
        Of the fit that the star was in.
    abs_residual, centre_residual, chi2 : ndarray, shape (n,)
        Sum of the absolute residuals in the star's box, data minus model in
        its middle, sum of the squares of residuals over errors.
    n_pixels : ndarray of int, shape (n,)
        Pixels in the box that count.
    converged, has_covariance, at_bound : ndarray of bool, shape (n,)
    """

    params: np.ndarray
    errors: np.ndarray
    background: np.ndarray
    background_err: np.ndarray
    cstat: np.ndarray
    gof_z: np.ndarray
    abs_residual: np.ndarray
    centre_residual: np.ndarray
    chi2: np.ndarray
    n_pixels: np.ndarray
    converged: np.ndarray
    has_covariance: np.ndarray
    at_bound: np.ndarray

    @classmethod
    def nothing(cls, n_pixels, k):
        """Return the results before any fit, of stars with so many pixels (n,)."""
        n = len(n_pixels)
        return cls(*np.full((2, n, k), np.nan), *np.full((7, n), np.nan), n_pixels,
                   *np.zeros((3, n), dtype=bool))

    def put(self, rows, **results):
        """Take over the results of some stars, by name."""
        for name, values in results.items():
            getattr(self, name)[rows] = values
