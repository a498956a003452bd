# Licensed under a 3-clause BSD style license - see LICENSE
"""A first approach to a slow model by a fast one that is almost the same."""

from dataclasses import replace

import numpy as np

from .._kernels.shared import solve_series
from ..models import EllipticalGaussianPRF, EllipticalGaussianPSF
from .kernels import kernel_of

__all__ = ['approach']

_MAX_ITER = 12
# What the integration over a pixel adds to the variance of a Gaussian, and the least that is left.
_PIXEL = 1.0 / 12.0
_NARROWEST = 0.1


def approach(problem, start):
    """Improve starting values of integrated Gaussians whose shape is free, in place.

    Sampled Gaussians, a twelfth of a pixel squared wider in variance, have
    the same moments and a kernel of their own; where they end is close to
    the answer. Stamps that do not get there keep their start.

    Parameters
    ----------
    problem : Problem
    start : ndarray, shape (p, m)
    """
    free, shape = problem.constraints.free, slice(3, 6)
    if type(problem.model) is not EllipticalGaussianPRF or len(problem.shared) or not (
            {3, 4, 5} <= set(free)) or problem.constraints.prior_precision[shape].any():
        return
    sampled = replace(problem, model=EllipticalGaussianPSF(), kernel=kernel_of(
        EllipticalGaussianPSF(), problem.shape, free, {}))
    series = sampled.series(1)
    limits = series.constraints
    # Bounds of the shape are those of the other model.
    wide = replace(limits, lower=limits.lower.copy(), upper=limits.upper.copy())
    wide.lower[shape], wide.upper[shape] = -np.inf, np.inf
    first = start.copy()
    first[shape] = _widened(start[shape], _PIXEL)
    fits = solve_series(replace(series, constraints=wide), first, _MAX_ITER)
    found = fits.params.copy()
    found[shape] = _widened(found[shape], -_PIXEL)
    usable = fits.converged & np.isfinite(found).all(axis=0)
    usable &= ((found >= limits.lower) & (found <= limits.upper))[free].all(axis=0)
    start[:, usable] = found[:, usable]


def _widened(precision, variance):
    """Return a, b, c (3, m) of Gaussians whose covariances get a variance more."""
    a, b, c = precision
    half = 0.5 / (a * c - b * b)
    xx, xy, yy = (np.maximum(half * c + variance, _NARROWEST**2), -half * b,
                  np.maximum(half * a + variance, _NARROWEST**2))
    with np.errstate(divide='ignore', invalid='ignore'):
        half = 0.5 / (xx * yy - xy * xy)
    # Too narrow to be an ellipse any more.
    half = np.where(half > 0, half, np.nan)
    return np.array([half * yy, -half * xy, half * xx])
