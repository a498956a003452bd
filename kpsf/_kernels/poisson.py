# Licensed under a 3-clause BSD style license - see LICENSE
"""The Poisson deviance of single pixels and its derivatives by the mean."""

import numpy as np

__all__ = ['continued_terms', 'deviance', 'is_impossible', 'log_ratio']

_TINY = 1e-290
_ALMOST_MINUS_ONE = 2.0 ** -52 - 1
# Electrons below zero that are no statement about a pixel.
_RIPPLE = 1e-6


def deviance(counts, mean):
    """Return each pixel's deviance 2 (mean - counts + counts ln(counts / mean)), shape broadcast.

    With r = (mean - counts) / counts it is 2 counts (r - log1p(r)): a difference of numbers of
    the size of the deviance, where -ln L is one of numbers of the size of the counts and loses
    its last digits. 2 mean where counts are 0. Infinite where the mean is negative, or zero under
    positive counts, so that a solver rejects the step. NaN stays NaN.

    Counts below zero, which read noise makes of a shifted Poisson variable, get the same
    expression with ln |counts / mean|: its slope 1 - counts / mean keeps the estimate unbiased,
    where setting them to zero would not.
    """
    counts = np.asarray(counts, dtype=float)
    mean = np.asarray(mean, dtype=float)
    with np.errstate(divide='ignore', invalid='ignore'):
        ratio = (mean - counts) / counts
        logarithm = np.log1p(ratio)
        far_below = ratio < -0.5
        if far_below.any():
            # There the ratio has lost the digits of the mean.
            logarithm = np.where(far_below, np.log(mean / counts), logarithm)
        result = 2.0 * counts * (ratio - logarithm)
    result = np.where(counts == 0.0, 2.0 * mean, result)
    negative = counts < 0
    if negative.any():
        with np.errstate(divide='ignore', invalid='ignore'):
            below = 2.0 * (mean - counts + counts * np.log(np.abs(counts) / mean))
        result = np.where(negative, below, result)
    return np.where(mean < 0.0, np.inf, result)


def is_impossible(counts, mean):
    """Say which pixels have no likelihood: less than nothing expected, or nothing under counts.

    What rounding or a ripple of a spline leaves of nothing is no harm.
    """
    return (mean < -_RIPPLE) | ((mean <= 0.0) & (counts > 0))


def continued_terms(counts, mean, floor):
    """Return half the deviance of each pixel, its slope, and its curvatures.

    Below ``floor`` the deviance goes on as the parabola that has its
    value and slope at the floor and a minimum at zero or at the counts.  A model
    that starts at zero, or that passes through negative values on its way,
    is led back instead of being lost; a floor far below the counts leaves
    the minimum where it was.

    Parameters
    ----------
    counts, mean : ndarray, shape (m, n_pixels)
    floor : float or ndarray, shape (m, 1)
        Positive.

    Returns
    -------
    half_deviance, slope : ndarray, shape (m, n_pixels)
        ``slope`` is 1 - counts / mean.
    expected, observed : ndarray, shape (m, n_pixels)
        Curvatures: 1 / mean and counts / mean^2, and below the floor that
        of the parabola for both.
    """
    below = mean < floor
    if not below.any():
        return _positive_terms(counts, mean)
    held = np.maximum(mean, floor)
    half_deviance, slope, expected, observed = _positive_terms(counts, held)
    step = np.where(below, mean - held, 0.0)
    bend = expected * (1.0 + np.maximum(counts, 0.0) * expected)
    half_deviance += step * (slope + 0.5 * step * bend)
    slope += step * bend
    for curvature in (expected, observed):
        np.copyto(curvature, bend, where=below)
    return half_deviance, slope, expected, observed


def _positive_terms(counts, mean):
    """Return half the deviance, its slope and both curvatures, for positive means."""
    expected = 1.0 / mean
    residual = counts - mean
    ratio = residual * expected                     # counts / mean - 1
    half_deviance = log_ratio(ratio, counts.min(initial=np.inf))
    half_deviance *= counts
    half_deviance -= residual
    observed = ratio + 1.0
    observed *= expected
    return half_deviance, np.negative(ratio, out=ratio), expected, observed


def log_ratio(excess, fewest, out=None):
    """Return ln |counts / mean| with its digits, from excess = counts / mean - 1.

    ``fewest`` is the lowest of the counts. Where counts are 0 the result is
    finite, and a product with them 0; for those below zero see `deviance`.
    """
    if fewest > 0:
        return np.log1p(excess, out=out)
    if fewest < 0:
        return np.log(np.maximum(np.abs(1.0 + excess), _TINY))
    out = np.maximum(excess, _ALMOST_MINUS_ONE, out=out)
    return np.log1p(out, out=out)
