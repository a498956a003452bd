# Licensed under a 3-clause BSD style license - see LICENSE
"""The mean image of a scene: where its stars are, how bright, and what their images look like."""

from dataclasses import dataclass, field, replace

import numpy as np

from .._kernels.linear import fit_amplitudes
from ..guidance.information import Star

__all__ = ['Reference', 'fit_reference', 'typical_shifts']

# Step of differences by position, in pixels, and by parameters of the shape, in their size.
_STEP, _SHAPE_STEP = 1e-3, 1e-4
_MAX_ITERATIONS, _CLOSE, _FARTHEST_STEP = 60, 1e-5, 0.25
_LEAST_DAMPING, _MOST_DAMPING = 1e-10, 1e6
# What is known of the common place of all stars and of a background, to keep them determined.
_COMMON_ERROR = 1.0
# Parts of a path of shifts, each of which has four shifts to stand for it.
_N_PARTS = 6
# Standard deviation in pixels up to which one part is enough.
_SMALL_MOTION = 0.03


@dataclass(frozen=True, eq=False)
class Reference:
    """The fit of a mean image.

    Parameters
    ----------
    star : Star
    x, y, flux : ndarray, shape (k,)
        The stars, places as those of the pixels.
    images : ndarray, shape (k, p)
        Each star at a flux of 1.
    background : ndarray, shape (p,)
        Fitted background.
    share : float
        Sum of the absolute residuals over that of the stars.
    motion : ndarray, shape (m, 2)
        Shifts over which the image is a mean.
    weights : ndarray, shape (m,)
        Their shares; the sum is 1.
    """

    star: Star
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    images: np.ndarray
    background: np.ndarray
    share: float = np.nan
    motion: np.ndarray = field(default_factory=lambda: np.zeros((1, 2)))
    weights: np.ndarray = field(default_factory=lambda: np.ones(1))

    @property
    def light(self):
        """Image (p,) of all stars."""
        return self.flux @ self.images

    def star_images(self, pixels, dx=0.0, dy=0.0):
        """Return the stars (k, p) at a flux of 1, moved by dx and dy; a mean over the motion."""
        x, y = (np.add.outer(moves, places)[:, :, np.newaxis] for moves, places in zip(
            self.motion.T, (self.x + dx, self.y + dy)))
        return np.tensordot(self.weights, self.star.image(pixels.x, pixels.y, x, y), axes=1)

    def slopes(self, pixels):
        """Return the derivatives (k, p) of `star_images` by x and by y."""
        return tuple((self.star_images(pixels, dx, dy) - self.star_images(pixels, -dx, -dy))
                     / (2.0 * _STEP) for dx, dy in ((_STEP, 0.0), (0.0, _STEP)))


def typical_shifts(shift):
    """Return a few shifts (m, 2) with the course and the moments of many (n, 2), and weights (m,).

    A mean image is blurred by the motion; the PSF is not.
    """
    along = np.linalg.svd(shift - shift.mean(axis=0), full_matrices=False)[2][0]
    found, weights = [], []
    # Second moments are all that a small motion does.
    n_parts = min(_N_PARTS, len(shift)) if shift.std(axis=0).max() > _SMALL_MOTION else 1
    for part in np.array_split(np.argsort(shift @ along), n_parts):
        middle = shift[part].mean(axis=0)
        offsets = shift[part] - middle
        size, direction = np.linalg.eigh(offsets.T @ offsets / len(part))
        # Four points with the mean and the covariance of the part.
        arms = (direction * np.sqrt(2.0 * np.maximum(size, 0.0))).T
        found += [middle + arm for arm in (*arms, *-arms)]
        weights += [0.25 * len(part) / len(shift)] * 4
    return np.array(found), np.array(weights)


def fit_reference(pixels, image, variance, start, background, position_error, free_shape=()):
    """Fit positions, fluxes, background and, if asked for, the shape of the PSF to an image.

    Parameters
    ----------
    pixels : ScenePixels
    image, variance : ndarray, shape (p,)
        Mean rate without what is known of the background, and its variance.
    start : Reference
        Stars and PSF to start from; NaN fluxes are not known.
    background : ndarray, shape (b, p)
        Images of the fitted background; b may be 0.
    position_error : float
        What is known of the places of the stars relative to each other, in pixels.
    free_shape : sequence of str, optional
        Parameters of the PSF to fit.

    Returns
    -------
    Reference
    """
    spread = variance
    for _ in range(2):
        found = _descend(pixels, image, spread, start, background, position_error, free_shape)
        rest = image - found.light - found.background
        # A PSF that is wrong leaves more than noise: then less is known of positions, too.
        inflation = max((rest**2 / variance).sum() / image.size, 1.0)
        start, spread = replace(found, x=start.x, y=start.y), inflation * variance
    return replace(found, share=np.abs(rest).sum() / max(np.abs(found.light).sum(), 1e-300))


def _descend(pixels, image, spread, start, background, position_error, free_shape):
    """Return the best fit by iterated linear fits, damped until they help."""
    centre, damping = (start.x, start.y), 1e-3
    current = _with_linear(pixels, image, spread, start, background)
    for _ in range(_MAX_ITERATIONS):
        score = _score(image, spread, current, centre, position_error)
        system = _linear_system(pixels, image, spread, current, background, centre,
                                position_error, free_shape)
        while damping < _MOST_DAMPING:
            step = _solve(*system, damping, len(current.x), len(free_shape))
            tried = _moved(pixels, image, spread, current, step, background, free_shape)
            if _score(image, spread, tried, centre, position_error) <= score:
                break
            damping *= 10.0
        else:
            return current
        # Less would leave stars at one place, whose fluxes nothing tells apart, singular.
        damping = max(0.1 * damping, _LEAST_DAMPING)
        current = tried
        if max(np.abs(part).max(initial=0.0) for part in step) < _CLOSE:
            break
    return current


def _score(image, spread, found, centre, position_error):
    """Return chi squared of a fit, what is known of positions included."""
    dx, dy = found.x - centre[0], found.y - centre[1]
    # Only places relative to each other are known well.
    apart = ((dx - dx.mean())**2 + (dy - dy.mean())**2).sum() / position_error**2
    apart += len(dx) * (dx.mean()**2 + dy.mean()**2) / _COMMON_ERROR**2
    rest = image - found.light - found.background
    total = (rest**2 / spread).sum() + apart
    return total if np.isfinite(total) else np.inf


def _with_linear(pixels, image, spread, found, background):
    """Return a fit with its images and the fluxes and background that fit best."""
    images = found.star_images(pixels)
    if not np.isfinite(found.star.unit(0.0, 0.0)):
        return replace(found, images=images, flux=np.full(len(images), np.nan))
    k = len(images)
    design = np.concatenate([images, background])
    prior = np.zeros(len(design)), _ridge(design, spread)
    fit = fit_amplitudes(image[np.newaxis], design, 0.0, 0.0, spread, prior=prior,
                         variance=spread, n_rounds=1)
    amplitudes = fit.amplitudes[0]
    return replace(found, images=images, flux=amplitudes[:k],
                   background=amplitudes[k:] @ background)


def _ridge(design, spread):
    """Return precisions (k, k) that keep what nothing determines at zero."""
    return np.diag(1e-9 * (design**2 / spread).sum(axis=1) + 1e-30)


def _linear_system(pixels, image, spread, current, background, centre, position_error,
                   free_shape):
    """Return information (j, j) and gradient (j,) of all parameters about the current fit."""
    slopes = [current.flux[:, np.newaxis] * slope for slope in current.slopes(pixels)]
    shapes = [(current.flux @ _shape_slope(pixels, current, name))[np.newaxis]
              for name in free_shape]
    design = np.concatenate([current.images, background, *slopes, *shapes])
    weighted = design / spread
    information = weighted @ design.T
    gradient = weighted @ (image - current.light - current.background)
    k, first = len(current.x), len(current.x) + len(background)
    for axis, places in enumerate((current.x, current.y)):
        own = slice(first + axis * k, first + (axis + 1) * k)
        # What all stars have in common is hardly known beforehand.
        precision = np.eye(k) / position_error**2
        precision -= (1.0 / position_error**2 - 1.0 / _COMMON_ERROR**2) / k
        information[own, own] += precision
        gradient[own] += precision @ (centre[axis] - places)
    return information, gradient


def _solve(information, gradient, damping, k, n_shape):
    """Return damped steps of positions (2, k) and of parameters of the shape (s,)."""
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    scaled = information / np.outer(scale, scale)
    scaled[np.diag_indices_from(scaled)] += damping
    step = np.linalg.solve(scaled, gradient / scale) / scale
    end = len(step) - n_shape
    places = step[end - 2 * k:end].reshape(2, k)
    places = places * min(1.0, _FARTHEST_STEP / max(np.abs(places).max(initial=0.0), 1e-300))
    return places, step[end:]


def _shape_slope(pixels, current, name):
    """Return the derivative (k, p) of the images by a parameter of the shape."""
    size = _SHAPE_STEP * max(abs(current.star.shape[name]), 0.1)

    def images(value):
        star = current.star.with_shape({name: value})
        return replace(current, star=star).star_images(pixels)
    value = current.star.shape[name]
    return (images(value + size) - images(value - size)) / (2.0 * size)


def _moved(pixels, image, spread, current, step, background, free_shape):
    """Return the fit with stars and shape moved by a step."""
    places, shape = step
    star = current.star
    if free_shape:
        star = star.with_shape({name: star.shape[name] + change
                                for name, change in zip(free_shape, shape)})
    moved = replace(current, star=star, x=current.x + places[0],
                    y=current.y + places[1])
    return _with_linear(pixels, image, spread, moved, background)
