# Licensed under a 3-clause BSD style license - see LICENSE
"""Weighted linear blocks: the amplitudes of known images in every cadence of a series.

Given positions and shapes, a mean image is a sum of images with unknown
factors: the fluxes of stars, a background.  The Poisson likelihood of such
a mean is maximised by Fisher scoring, which here is least squares whose
weights follow the mean: two or three rounds, each a matrix product.  A mean
of less than one count, below zero perhaps, has the variance of one count.
"""

from typing import NamedTuple

import numpy as np

__all__ = ['LinearFits', 'fit_amplitudes', 'sandwich']

# Rounds of weights.
_ROUNDS = 3
# Smallest eigenvalue of a matrix with a diagonal of 1 that has an inverse, and what no element of
# an inverse exceeds unless there are smaller ones.
_SINGULAR, _HARMLESS = 1e-12, 1e10
# Doubles of the design that are worked on at once: what a cache holds.
_BLOCK = 200_000


class LinearFits(NamedTuple):
    """Amplitudes of n cadences.

    Attributes
    ----------
    amplitudes : ndarray, shape (n, k)
        NaN where they are not determined.
    covariance : ndarray, shape (n, k, k)
        Inverse of the information, that of the prior included.
    mean : ndarray, shape (n, p)
        Fitted mean, the known part included.
    variance : ndarray, shape (n, p)
        Variance of the data that goes with it.
    """

    amplitudes: np.ndarray
    covariance: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def fit_amplitudes(data, design, known, slope, floor, used=None, prior=None, variance=None,
                   n_rounds=_ROUNDS):
    """Fit the amplitudes of images to every cadence.

    Parameters
    ----------
    data : ndarray, shape (n, p)
        Rates with everything in; finite where used.
    design : ndarray, shape (k, p) or (n, k, p)
        Images at an amplitude of 1, the same for all cadences or one set each.
    known : ndarray, shape () or broadcastable to (n, p)
        What the mean holds besides.
    slope, floor : ndarray, shape () or broadcastable to (n, p)
        The variance of a pixel is ``slope * mean + floor``; ``slope`` is the
        rate of one count.
    used : ndarray of bool, shape (n, p), optional
        Pixels in the fit.
    prior : tuple of ndarray, optional
        Mean, (k,) or (n, k), and precision, (k, k), (n, k) or (n, k, k), of a
        Gaussian prior.
    variance : ndarray, broadcastable to (n, p), optional
        Of the first round; by default that of the data's own mean over the
        cadences.
    n_rounds : int, optional
        Rounds of weights.

    Returns
    -------
    LinearFits
    """
    n, p = data.shape
    k = design.shape[-2]
    data = data if used is None else np.where(used, data, 0.0)
    known, slope, floor = (np.broadcast_to(array, (n, p)) for array in (known, slope, floor))
    if variance is None:
        variance = _typical_variance(data, used, slope, floor)
    variance = np.broadcast_to(variance, (n, p))
    result = LinearFits(np.empty((n, k)), np.empty((n, k, k)), np.empty((n, p)),
                        np.empty((n, p)))
    step = max(1, _BLOCK // (k * p))
    for first in range(0, n, step):
        rows = slice(first, first + step)
        block = design if design.ndim == 2 else design[rows]
        own_prior = None if prior is None else _rows_of(prior, rows, k, n)
        _fit_block(LinearFits(*(array[rows] for array in result)), data[rows], block,
                   known[rows], slope[rows], floor[rows], None if used is None else used[rows],
                   own_prior, variance[rows], n_rounds)
    return result


def _typical_variance(data, used, slope, floor):
    """Return the variance (p,) or (n, p) of the mean over the cadences."""
    count = len(data) if used is None else np.maximum(used.sum(axis=0), 1)
    return slope * np.maximum(data.sum(axis=0) / count, slope) + floor


def _rows_of(prior, rows, k, n):
    """Return mean (m, k) and precision (m, k, k) of a prior for some rows."""
    mean, precision = prior
    if precision.ndim == 2 and precision.shape != (k, k):
        precision = precision[rows, :, np.newaxis] * np.eye(k)
    elif precision.ndim == 3:
        precision = precision[rows]
    return np.broadcast_to(mean, (n, k))[rows], precision


def _fit_block(result, data, design, known, slope, floor, used, prior, variance, n_rounds):
    """Fit some cadences and write to the views in ``result``."""
    mean = None
    for _ in range(n_rounds):
        weight = 1.0 / variance
        if used is not None:
            weight *= used
        amplitudes, covariance = _solve(weight, data - known, design, prior)
        light = _image(amplitudes, design)
        mean = known + light
        variance = slope * np.maximum(mean, slope) + floor
    # The covariance of the last weights but one differs in nothing that is seen.
    for target, values in zip(result, (amplitudes, covariance, mean, variance)):
        target[...] = values


def _solve(weight, data, design, prior):
    """Return amplitudes (m, k) and covariance (m, k, k) of weighted least squares."""
    if design.ndim == 2:
        k = len(design)
        upper = np.triu_indices(k)
        products = design[upper[0]] * design[upper[1]]
        information = np.empty((len(data), k, k))
        information[:, upper[0], upper[1]] = weight @ products.T
        information[:, upper[1], upper[0]] = information[:, upper[0], upper[1]]
        right = (weight * data) @ design.T
    else:
        weighted = design * weight[:, np.newaxis]
        information = weighted @ design.transpose(0, 2, 1)
        right = (weighted @ data[:, :, np.newaxis])[:, :, 0]
    if prior is not None:
        mean, precision = prior
        information = information + precision
        right = right + (precision @ mean[:, :, np.newaxis])[:, :, 0]
    covariance = _inverse(information)
    return (covariance @ right[:, :, np.newaxis])[:, :, 0], covariance


def _inverse(information):
    """Return the inverses (m, k, k) of symmetric matrices, NaN where there is none."""
    scale = np.sqrt(np.einsum('mkk->mk', information))
    good = (scale > 0).all(axis=1) & np.isfinite(information).all(axis=(1, 2))
    safe = np.where(good[:, np.newaxis], scale, 1.0)
    scaled = information / (safe[:, :, np.newaxis] * safe[:, np.newaxis])
    scaled[~good] = np.eye(information.shape[-1])
    inverse = _inverse_of_all(scaled)
    if inverse is None or not np.abs(inverse).max(initial=0.0) < _HARMLESS:
        # One amplitude that nothing tells apart from another is a matter of its row alone.
        good &= np.linalg.eigvalsh(scaled)[:, 0] > _SINGULAR
        scaled[~good] = np.eye(information.shape[-1])
        inverse = np.linalg.inv(scaled)
    inverse = inverse / (safe[:, :, np.newaxis] * safe[:, np.newaxis])
    inverse[~good] = np.nan
    return inverse


def _inverse_of_all(scaled):
    """Return the inverses of matrices, None if one has none."""
    try:
        return np.linalg.inv(scaled)
    except np.linalg.LinAlgError:
        return None


def _image(amplitudes, design):
    """Return the sums (m, p) of the images with their amplitudes."""
    amplitudes = np.nan_to_num(amplitudes)
    if design.ndim == 2:
        return amplitudes @ design
    return (amplitudes[:, np.newaxis] @ design)[:, 0]


def sandwich(fits, design, excess, used=None):
    """Return covariances (n, k, k) that hold where pixels scatter more than their variance says.

    Parameters
    ----------
    fits : LinearFits
    design, used
        As for `fit_amplitudes`.
    excess : ndarray, broadcastable to (n, p)
        Measured over expected variance of each pixel.
    """
    middle = excess / fits.variance
    if used is not None:
        middle = middle * used
    if design.ndim == 2:
        k = len(design)
        products = design[:, np.newaxis] * design
        scatter = (middle @ products.reshape(k * k, -1).T).reshape(-1, k, k)
    else:
        scatter = (design * middle[:, np.newaxis]) @ design.transpose(0, 2, 1)
    return fits.covariance @ scatter @ fits.covariance
