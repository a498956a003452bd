# Licensed under a 3-clause BSD style license - see LICENSE
"""How stars move over a series: series of coefficients, smoothed as far as their noise asks."""

import numpy as np
from scipy.linalg import solveh_banded

__all__ = ['find_breaks', 'smooth']

# Penalties on second differences that are tried.
_PENALTIES = np.geomspace(1e-2, 1e8, 21)
# A step this many times the usual one is a jump, not motion; and a gap of this many cadences.
_JUMP, _GAP = 10.0, 10
# Standard deviations from which on the rest is motion, whatever it is as a rule.
_EXCURSION = 5.0


def find_breaks(cadenceno, series=None, flagged=None):
    """Say before which cadences a series starts anew.

    Parameters
    ----------
    cadenceno : ndarray of int, shape (n,)
    series : ndarray, shape (n,) or (n, k), optional
        What may jump, as positions do when K2's thrusters fire.
    flagged : ndarray of bool, shape (n,), optional
        Cadences at which something is known to have happened.

    Returns
    -------
    ndarray of bool, shape (n,)
        The first is False.
    """
    breaks = np.zeros(len(cadenceno), dtype=bool)
    breaks[1:] = np.diff(cadenceno) > _GAP
    if flagged is not None:
        breaks[1:] |= flagged[1:] | flagged[:-1]
    if series is not None and len(series) > 4:
        steps = np.diff(np.reshape(series, (len(series), -1)), axis=0)
        steps = steps - np.median(steps, axis=0)
        usual = 1.4826 * np.median(np.abs(steps), axis=0)
        breaks[1:] |= (np.abs(steps) > _JUMP * np.maximum(usual, 1e-12)).any(axis=1)
    return breaks


def smooth(series, variance, breaks=None, with_variance=False):
    """Return the series without that part of its noise that can be told from motion.

    A curve with penalised second differences [1]_, whose stiffness
    generalised cross-validation chooses, and, where the rest scatters more
    than the noise does, a share of that: jitter is real motion, too.

    Parameters
    ----------
    series : ndarray, shape (n,)
    variance : float or ndarray, shape (n,)
        Noise of the series; infinite where it tells nothing.
    breaks : ndarray of bool, shape (n,), optional
        Where a new curve begins, see `find_breaks`.
    with_variance : bool, optional
        Whether to return what is not known of the smooth series as well.

    Returns
    -------
    ndarray, shape (n,), or two of these

    References
    ----------
    .. [1] Eilers, P. H. C. 2003, Analytical Chemistry, 75, 3631.
    """
    n = len(series)
    variance = np.broadcast_to(np.asarray(variance, dtype=float), (n,))
    known = np.isfinite(series) & np.isfinite(variance) & (variance >= 0)
    middle = np.mean(series[known]) if known.any() else 0.0
    typical = np.median(variance[known]) if known.any() else 0.0
    if known.sum() < 5 or typical == 0.0:
        same = np.where(known, series, middle)
        return (same, np.where(known, variance, 0.0)) if with_variance else same
    # What is much better known than the rest needs no more weight than this.
    variance = np.maximum(variance, 1e-6 * typical)
    weight = np.where(known, typical / np.where(known, variance, 1.0), 0.0)
    values = np.where(known, series - middle, 0.0)
    bands, n_free = _penalty(n, breaks)
    curves = [_curve(values, weight, bands, penalty) for penalty in _PENALTIES]
    scores = [_score(values, weight, curve, penalty, n_free)
              for curve, penalty in zip(curves, _PENALTIES)]
    best = int(np.argmin(scores))
    curve = curves[best]
    rest = (np.abs(values - curve) / np.sqrt(variance))[known]
    # What the noise itself may scatter beyond its variance is no jitter.
    margin = 1.0 + 4.0 * np.sqrt(2.0 / known.sum())
    jitter = typical * max((1.4826 * np.median(rest))**2 - margin, 0.0)
    noise = np.where(known, variance, np.inf)
    share = jitter / (jitter + noise)
    # A single excursion is as real as motion that goes on.
    share = np.where((values - curve)**2 > _EXCURSION**2 * (jitter + noise), 1.0, share)
    smoothed = middle + curve + np.where(known, share * (values - curve), 0.0)
    if not with_variance:
        return smoothed
    leverage = _freedom(weight, _PENALTIES[best], n_free) / known.sum()
    return smoothed, ((1.0 - share)**2 * (leverage * typical + jitter)
                      + share**2 * np.where(known, variance, 0.0))


def _penalty(n, breaks):
    """Return the upper bands (3, n) of the sum of squared second differences, and its size."""
    inside = np.ones(n - 2)
    if breaks is not None:
        inside[breaks[2:] | breaks[1:-1]] = 0.0
    bands = np.zeros((3, n))
    # Each second difference (1, -2, 1) adds its outer product.
    for i, a in enumerate((1.0, -2.0, 1.0)):
        for j, b in enumerate((1.0, -2.0, 1.0)):
            if j >= i:
                bands[2 - (j - i), j:n - 2 + j] += a * b * inside
    return bands, int(inside.sum())


def _curve(values, weight, bands, penalty):
    """Return the minimum (n,) of squared residuals and penalty."""
    bands = penalty * bands
    # A whiff of weight keeps what nothing determines finite, above the rounding of the penalty.
    bands[2] += weight + 1e-9 + 1e-14 * penalty
    return solveh_banded(bands, weight * values, check_finite=False)


def _score(values, weight, curve, penalty, n_free):
    """Return the generalised cross-validation score of a curve."""
    n_known = np.count_nonzero(weight)
    freedom = _freedom(weight, penalty, n_free)
    return (weight * (values - curve)**2).sum() / (1.0 - freedom / n_known)**2


def _freedom(weight, penalty, n_free):
    """Return the effective number of parameters of a curve."""
    n, n_known = len(weight), np.count_nonzero(weight)
    # Eigenvalues of second differences on a long series; each segment has two free parameters.
    angle = np.pi * (np.arange(n_free) + 1) / (n_free + 1)
    stiffness = penalty / weight.mean() * (2.0 - 2.0 * np.cos(angle))**2
    return min((n - n_free) + (1.0 / (1.0 + stiffness)).sum(), n_known - 1e-6)
