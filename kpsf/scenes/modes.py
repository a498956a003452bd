# Licensed under a 3-clause BSD style license - see LICENSE
"""How the images of a series change: a few modes, as many as predict what was left out.

What is learned from are residuals after the fluxes were fitted, divided by
the brightness of the stars: they hold no star's variation.  The first modes
are the motion of the image, to first and to second order; others are focus
and temperature.  How many the data support is decided by prediction: of
cadences that were left out, some pixels are predicted from the others.
"""

import numpy as np

from .motion import smooth

__all__ = ['MAX_MODES', 'learn_changes']

# More modes than these, or than one in six pixels, are not looked for.
MAX_MODES = 12
# Parts into which the cadences, in blocks of this length, and the pixels are divided.
_N_PARTS, _N_PIXEL_PARTS, _BLOCK = 4, 4, 8
# Of the overlap of modes in some pixels: they are not told apart by less.
_RCOND = 1e-8


def learn_changes(residual, breaks, n_modes=None):
    """Learn how the images of a series change.

    Parameters
    ----------
    residual : ndarray, shape (n, p)
        Relative changes in units of their noise; NaN where nothing is known.
    breaks : ndarray of bool, shape (n,)
        Where smoothing begins anew.
    n_modes : int, optional
        Number of modes; by default as many as predict cadences that were
        left out.

    Returns
    -------
    modes : ndarray, shape (j, p)
        Orthonormal images.
    series : ndarray, shape (n, j)
        Their smooth coefficients.
    """
    n, p = residual.shape
    known = np.isfinite(residual)
    residual = np.where(known, residual, 0.0)
    if n_modes is None:
        n_modes = _count_modes(residual)
    modes = _principal(residual, min(n_modes, p - 1, n))
    coefficients = _coefficients(residual, known, modes)
    rest = residual - coefficients @ modes
    noise = (1.4826 * np.median(np.abs(rest[known])))**2 if known.any() else 1.0
    # The modes took some of it.
    noise *= p / max(p - len(modes) - 1, 1)
    series = [smooth(values, noise, breaks) for values in coefficients.T]
    return modes, np.column_stack(series) if series else coefficients


def _parts(n):
    """Return the part of each cadence (n,): blocks in turn, so that each part sees all times."""
    return np.arange(n) // _BLOCK % _N_PARTS


def _principal(rest, n_modes):
    """Return the first modes (j, p), orthonormal."""
    if n_modes == 0:
        return np.zeros((0, rest.shape[1]))
    return np.linalg.eigh(rest.T @ rest)[1][:, ::-1][:, :n_modes].T


def _coefficients(rest, known, modes):
    """Return the coefficients (n, j) of modes in what is known of each cadence."""
    coefficients = rest @ modes.T
    if not len(modes):
        return coefficients
    # A pixel that is not known is not one without a change.
    for t in np.flatnonzero(~known.all(axis=1) & known.any(axis=1)):
        seen = modes[:, known[t]]
        coefficients[t] = np.linalg.pinv(seen @ seen.T, rcond=_RCOND, hermitian=True) @ (
            coefficients[t])
    return coefficients


def _count_modes(rest):
    """Return how many modes predict pixels of cadences that were left out best."""
    n, p = rest.shape
    most = min(MAX_MODES, max(p // 6, 1), n // (2 * _BLOCK))
    if most < 1:
        return 0
    pixels = np.random.default_rng(0).permutation(p) % _N_PIXEL_PARTS
    errors = []
    for part in range(_N_PARTS):
        out = _parts(n) == part
        modes = _principal(rest[~out], most)
        errors += [_prediction_errors(rest[out], modes, pixels == hidden)
                   for hidden in range(_N_PIXEL_PARTS)]
    # Fewer modes, if they are as good within the error of the comparison: a choice that hangs on
    # noise would be another for the next series.
    excess = np.array(errors)
    excess = excess - excess[:, [np.argmin(excess.sum(axis=0))]]
    uncertainty = excess.std(axis=0) / np.sqrt(len(excess))
    return int(np.argmax(excess.mean(axis=0) <= uncertainty))


def _prediction_errors(rest, modes, hidden):
    """Return the squared errors (j + 1,) of hidden pixels with 0 to j modes."""
    seen, unseen = modes[:, ~hidden], modes[:, hidden]
    target, known = rest[:, hidden], rest[:, ~hidden] @ seen.T
    overlap = seen @ seen.T
    errors = [(target**2).sum()]
    for j in range(1, len(modes) + 1):
        coefficients = known[:, :j] @ np.linalg.pinv(overlap[:j, :j], rcond=_RCOND, hermitian=True)
        errors.append(((target - coefficients @ unseen[:j])**2).sum())
    return np.array(errors)
