# Licensed under a 3-clause BSD style license - see LICENSE
"""The stars in the stamps: where they are, and their fluxes under a PRF."""

from dataclasses import dataclass

import numpy as np

__all__ = ['StarFits', 'fit_stars', 'starlight']

# How well, in pixels, a position is known before: it holds stars that are hardly visible.
POSITION_SIGMA = 0.3
REACH = 1.0
LARGEST_STEP, MAX_STEPS = 0.3, 40
LARGEST_DAMPING, SMALL_GAIN = 1e8, 1e-9
# Residuals beyond this many standard deviations, other stars and defects, count linearly.
N_SIGMA = 3.0


@dataclass
class StarFits:
    """The stars of one stamp.

    Parameters
    ----------
    numbers : ndarray of int, shape (n_stars,)
        Which stars.
    is_fitted : ndarray of bool, shape (n_stars,)
        Whether the star is in the stamp; others only shine into it, as much as they do at home.
    expected : ndarray, shape (n_stars, 2)
        Column and row where they should be at the median place.
    places : ndarray, shape (n_images, n_stars, 2)
        Column and row.
    fluxes : ndarray, shape (n_images, n_stars)
        Electrons per cadence.
    levels : ndarray, shape (n_images,)
        Background besides the known one.
    """

    numbers: np.ndarray
    is_fitted: np.ndarray
    expected: np.ndarray
    places: np.ndarray
    fluxes: np.ndarray
    levels: np.ndarray


def starlight(table, stamp, stars, image):
    """Return the stars' shares of light and their derivatives, (n_stars, 3, n_pixels).

    P, and the derivatives of flux times P by the place of the star.
    """
    parts = np.empty((len(stars.numbers), 3, len(stamp.x)))
    for part, (column, row), flux in zip(parts, stars.places[image], stars.fluxes[image]):
        part[:] = table.evaluate(stamp.x - column, stamp.y - row, 3)
        part[1:] *= -flux
    return parts


def residual_of(stamp, stars, image, parts):
    """Return what is left of an image, (n_pixels,)."""
    return stamp.values[image] - stars.fluxes[image] @ parts[:, 0] - stars.levels[image]


def robust_weights(residual, variance):
    """Return the weights with which least squares minimise `robust_loss`."""
    deviation = np.abs(residual) / np.sqrt(variance)
    return np.minimum(1.0, N_SIGMA / np.maximum(deviation, 1e-12)) / variance


def robust_loss(residual, variance):
    """Return Huber's loss, twice: squares, linear beyond some standard deviations."""
    deviation = np.abs(residual) / np.sqrt(variance)
    return float(np.where(deviation <= N_SIGMA, deviation**2,
                          N_SIGMA * (2.0 * deviation - N_SIGMA)).sum())


def columns_of(parts, is_fitted):
    """Return the derivatives (n_pixels, 3 n_fitted + 1) by flux, place and background."""
    free = parts[is_fitted].reshape(-1, parts.shape[-1])
    return np.vstack([free, np.ones(parts.shape[-1])]).T


def prior_of(stamp, stars, image):
    """Return pulls and precisions of the parameters; fluxes are free."""
    n_fitted = np.count_nonzero(stars.is_fitted)
    precision = np.tile([0.0, POSITION_SIGMA**-2, POSITION_SIGMA**-2], n_fitted)
    offsets = (stars.expected + stamp.motion[image] - stars.places[image])[stars.is_fitted]
    pulls = np.column_stack([np.zeros(n_fitted), offsets]).ravel()
    return (np.append(pulls, -stars.levels[image]),
            np.append(precision, stamp.level_precision(image)))


def fit_stars(table, stamp, stars, floor):
    """Fit fluxes, places and background of every image of a stamp in place, the PRF held."""
    for image, variance in enumerate(stamp.variance(floor)):
        _fit_image(table, stamp, stars, image, variance)


def _fit_image(table, stamp, stars, image, variance):
    """Fit one image by Levenberg and Marquardt's method."""
    parts = starlight(table, stamp, stars, image)
    damping, loss = 1e-3, _loss(stamp, stars, image, parts, variance)
    for _ in range(MAX_STEPS):
        known = _values(stars, image)
        _move(stamp, stars, image, _step(stamp, stars, image, parts, variance, damping))
        parts_there = starlight(table, stamp, stars, image)
        gain = loss - _loss(stamp, stars, image, parts_there, variance)
        if gain < 0:
            stars.fluxes[image], stars.places[image], stars.levels[image] = known
            damping *= 10.0
            if damping > LARGEST_DAMPING:
                break
            continue
        damping, loss, parts = 0.1 * damping, loss - gain, parts_there
        if gain < SMALL_GAIN * (1.0 + loss):
            break


def _values(stars, image):
    """Return copies of what `_move` changes."""
    return stars.fluxes[image].copy(), stars.places[image].copy(), stars.levels[image].copy()


def _loss(stamp, stars, image, parts, variance):
    """Return what is minimised."""
    pulls, precision = prior_of(stamp, stars, image)
    return (robust_loss(residual_of(stamp, stars, image, parts), variance)
            + float(precision @ pulls**2))


def _step(stamp, stars, image, parts, variance, damping):
    """Return a step of Levenberg and Marquardt's in all parameters that are fitted."""
    residual = residual_of(stamp, stars, image, parts)
    weights = robust_weights(residual, variance)
    columns = columns_of(parts, stars.is_fitted)
    pulls, precision = prior_of(stamp, stars, image)
    hessian = columns.T * weights @ columns + np.diag(precision)
    gradient = columns.T @ (weights * residual) + precision * pulls
    # Scaled: fluxes and places differ by many orders of magnitude.
    scale = 1.0 / np.sqrt(np.maximum(np.diag(hessian), np.finfo(float).tiny))
    scaled = hessian * np.outer(scale, scale) + damping * np.eye(len(scale))
    return scale * np.linalg.lstsq(scaled, scale * gradient, rcond=1e-12)[0]


def _move(stamp, stars, image, step):
    """Take a step, no further than a fraction of a pixel."""
    moves = step[:-1].reshape(-1, 3)
    longest = np.abs(moves[:, 1:]).max(initial=0.0)
    if longest > LARGEST_STEP:
        moves[:, 1:] *= LARGEST_STEP / longest
    stars.fluxes[image, stars.is_fitted] += moves[:, 0]
    places = stars.places[image, stars.is_fitted] + moves[:, 1:]
    expected = stars.expected[stars.is_fitted] + stamp.motion[image]
    stars.places[image, stars.is_fitted] = np.clip(places, expected - REACH, expected + REACH)
    stars.levels[image] += step[-1]
