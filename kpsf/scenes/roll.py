# Licensed under a 3-clause BSD style license - see LICENSE
"""What K2's roll does to fluxes: pixels answer differently from place to place."""

import numpy as np
from scipy.interpolate import BSpline

from .noise import scatter

__all__ = ['LARGE_MOTION', 'remove_roll']

# Motion in pixels, between its 2nd and 98th percentile, from which on it is worth looking.
LARGE_MOTION = 0.3
# Orders of the polynomial of the place that are tried, and days between knots of the curve of
# time beside it.
_ORDERS, _KNOTS = (0, 1, 2, 3, 4, 5, 6), 0.25
_CLIP, _N_ROUNDS = 4.0, 4
# Changes that the roll makes, as a rule, and at most.
_USUAL, _LARGEST = 0.02, 0.5


def remove_roll(flux, shift, days):
    """Divide a flux by what it owes to the place of the star.

    A polynomial of the place and a smooth curve of time are fitted together,
    so that what the star does within a day is not taken for the roll [1]_;
    what it does within six hours, as the roll does, is, in part. The
    order of the polynomial is the one of the least Bayesian information
    criterion.

    Parameters
    ----------
    flux : ndarray, shape (n,)
        NaN where unknown.
    shift : ndarray, shape (n, 2)
    days : ndarray, shape (n,)

    Returns
    -------
    flux : ndarray, shape (n,)
    order : int
        0 if nothing was removed.

    References
    ----------
    .. [1] Vanderburg, A. & Johnson, J. A. 2014, PASP, 126, 948.
    """
    good = np.isfinite(flux) & np.isfinite(shift).all(axis=1)
    level = np.median(flux[good]) if good.any() else 0.0
    low, high = np.percentile(shift[good], (2, 98), axis=0) if good.any() else (0.0, 0.0)
    if good.sum() < 100 or level <= 0 or np.max(high - low) < LARGE_MOTION:
        return flux, 0
    curve = _curve(days)
    place = (shift - np.median(shift[good], axis=0)) / np.maximum(0.5 * (high - low), 1e-6)
    fits = [_fit(flux / level, curve, _powers(place, order), good) for order in _ORDERS]
    order = int(np.argmin([criterion for criterion, _ in fits]))
    change = fits[order][1]
    change = np.clip(change - np.median(change[good]), -_LARGEST, _LARGEST)
    return flux / (1.0 + change), _ORDERS[order]


def _curve(days):
    """Return cubic splines of time (n, m)."""
    first, last = days.min(), days.max()
    knots = np.linspace(first, last, max(2, int(np.ceil((last - first) / _KNOTS)) + 1))
    padded = np.concatenate([[first] * 3, knots, [last] * 3])
    return BSpline.design_matrix(days, padded, 3).toarray()


def _powers(place, order):
    """Return the powers of a place, up to an order and without the constant, (n, m)."""
    x, y = place.T
    return np.column_stack([np.zeros((len(x), 0)), *(
        x**i * y**(total - i) for total in range(1, order + 1) for i in range(total + 1))])


def _fit(relative, curve, powers, good):
    """Return the information criterion, and what the place does (n,)."""
    design = np.concatenate([curve, powers], axis=1)
    spread = scatter(relative[good])
    # A place that wanders slowly is as good a reason of slow changes as time: time is taken.
    narrow = np.zeros((powers.shape[1], design.shape[1]))
    narrow[:, curve.shape[1]:] = spread / _USUAL * np.eye(powers.shape[1])
    used = good
    for _ in range(_N_ROUNDS):
        coefficients = np.linalg.lstsq(
            np.concatenate([design[used], narrow]),
            np.concatenate([relative[used], np.zeros(len(narrow))]), rcond=1e-10)[0]
        rest = relative - design @ coefficients
        spread = 1.4826 * np.median(np.abs(rest[used]))
        used = good & (np.abs(rest) < _CLIP * spread)
    criterion = 2.0 * good.sum() * np.log(spread) + powers.shape[1] * np.log(good.sum())
    return criterion, powers @ coefficients[curve.shape[1]:]
