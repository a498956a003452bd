# Licensed under a 3-clause BSD style license - see LICENSE
"""Matched filter with Poisson weights: where a star is most significant, and how much."""

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.signal import fftconvolve
from scipy.special import ndtr

__all__ = ['false_alarm_probability', 'find_peaks', 'score_significance', 'significance_map']

# Half width of the filter in units of the FWHM, and its least in pixels.
REACH, LEAST_REACH = 2.5, 2
# A place at which the pixels hold less of the filter than this share of the best is not looked at.
LEAST_WEIGHT, LEAST_CONTRAST = 0.15, 0.05
# Above this significance the exact tail of the distribution does not matter.
CERTAIN = 30.0
N_NEWTON = 60


def filter_shape(star, shape):
    """Return the odd sides (ny, nx) of the filter for an image of a shape."""
    reach = max(int(np.ceil(REACH * star.fwhm)), LEAST_REACH)
    return tuple(2 * min(reach, max(size - 1, 1)) + 1 for size in shape)


def significance_map(data, mask, sky, star, *, background_known):
    """Return flux over its error of a star in the middle of each pixel, (ny, nx).

    The best linear estimate of a faint star: pixels count by the PSF over
    their variance, and where the background is not known, their weighted
    mean is subtracted.

    Parameters
    ----------
    data, mask : ndarray, shape (ny, nx)
    sky : Sky
    star : Star
    background_known : bool

    Returns
    -------
    ndarray, shape (ny, nx)
        0 where too few pixels tell.
    """
    ny, nx = filter_shape(star, data.shape)
    y, x = np.mgrid[:ny, :nx]
    # A star may be anywhere in the pixel.
    image = star.image(x - nx // 2, y - ny // 2, *star.phases()).mean(axis=0)
    weight = np.where(mask, 0.0, 1.0 / sky.variance)
    light = weight * np.where(mask, 0.0, data - sky.level)
    score, square = _correlate(light, image), _correlate(weight, image**2)
    share = _correlate((~mask).astype(float), image**2) / np.sum(image**2)
    enough = (share > LEAST_WEIGHT) & (square > 0)
    if not background_known:
        ones = np.ones_like(image)
        total = np.maximum(_correlate(weight, ones), 1e-12 * weight.max())
        overlap = _correlate(weight, image) / total
        score = score - overlap * _correlate(light, ones)
        whole, square = square, square - overlap**2 * total
        # A few pixels alone do not tell a star from its background.
        enough &= square > LEAST_CONTRAST * whole
    return np.where(enough, score / np.sqrt(np.where(enough, square, 1.0)), 0.0)


def find_peaks(significance, least):
    """Return x and y of the local maxima above a limit, the highest first, (n,) each."""
    highest = maximum_filter(significance, 3, mode='constant')
    peak = (significance > least) & (significance == highest)
    y, x = np.nonzero(peak)
    order = np.argsort(-significance[y, x], kind='stable')
    return x[order], y[order]


def score_significance(counts, image, level, excess, *, background_known, used):
    """Return how significant stars at given places are, in standard deviations, (m,).

    The score of the flux under the hypothesis that there is no star. Its tail
    is that of weighted Poisson counts by a saddle point [1]_, not a Gaussian's.

    Parameters
    ----------
    counts, image, level : ndarray, shape (m, n_pixels)
        Electrons and their expectation without a star, both with the read
        variance added (a shifted Poisson distribution), and the PSF.
    excess : float
        Variance over the Poisson one.
    background_known : bool
    used : ndarray of bool, shape (m, n_pixels)

    References
    ----------
    .. [1] Lugannani, R. & Rice, S. 1980, Adv. Appl. Prob., 12, 475;
       Barndorff-Nielsen, O. E. 1990, J. R. Stat. Soc. B, 52, 485.
    """
    level = np.where(used, np.maximum(level, 1e-12), 1.0)
    inverse = np.where(used, 1.0 / level, 0.0)
    image = np.where(used, image, 0.0)
    if not background_known:
        share = (image * inverse).sum(axis=1) / np.maximum(inverse.sum(axis=1), 1e-300)
        image = np.where(used, image - share[:, np.newaxis], 0.0)
    weight = image * inverse
    norm = np.sqrt((weight**2 * level).sum(axis=1, keepdims=True))
    weight = weight / np.where(norm > 0, norm, 1.0)
    score = (weight * np.where(used, counts - level, 0.0)).sum(axis=1)
    return _normal_equivalent(score, weight, level) / np.sqrt(excess)


def false_alarm_probability(significance, star, shape, *, background_known):
    """Return how probable a source as significant is anywhere in an image without sources.

    By the expected Euler characteristic of the region in which a smooth
    Gaussian field exceeds a level [1]_.

    Parameters
    ----------
    significance : ndarray, shape (n,)
    star : Star
    shape : (ny, nx)
        Of the image in pixels.
    background_known : bool

    References
    ----------
    .. [1] Adler, R. J. & Taylor, J. E. 2007, Random Fields and Geometry,
       Springer, chapter 12.
    """
    ny, nx = filter_shape(star, shape)
    y, x = np.mgrid[:ny, :nx]
    x, y = x - nx // 2, y - ny // 2
    x_0, y_0 = star.phases()
    image = star.image(x, y, x_0, y_0)
    slopes = star.slopes(x, y, x_0, y_0)
    if not background_known:
        image = image - image.mean(axis=(1, 2), keepdims=True)
        slopes = [slope - slope.mean(axis=(1, 2), keepdims=True) for slope in slopes]
    square = (image**2).sum(axis=(1, 2))
    # The variance of the slopes of a field whose own is 1.
    along = [np.mean(((slope**2).sum(axis=(1, 2)) - (slope * image).sum(axis=(1, 2))**2 / square)
                     / square) for slope in slopes]
    lengths = [size * np.sqrt(variance) for size, variance in zip(shape[::-1], along)]
    level = np.asarray(significance, dtype=float)
    density = np.exp(-0.5 * level**2) / (2.0 * np.pi)
    expected = (lengths[0] * lengths[1] * level * density / np.sqrt(2.0 * np.pi)
                + (lengths[0] + lengths[1]) * density + ndtr(-level))
    # Below its maximum the expectation is none of a probability any more.
    return np.where(level > 1.0, -np.expm1(-np.maximum(expected, 0.0)), 1.0)


def _correlate(image, kernel):
    """Return the correlation of an image with a kernel of odd sides, in its shape."""
    return fftconvolve(image, kernel[::-1, ::-1], mode='same')


def _normal_equivalent(score, weight, level):
    """Return the standard normal deviates of weighted sums of Poisson counts, (m,)."""
    result = np.array(score, dtype=float)
    rows = np.flatnonzero((np.abs(score) < CERTAIN) & (score > 0.1))
    if not len(rows):
        return result
    goal, weight, level = score[rows], weight[rows], level[rows]
    point = _saddle_points(goal, weight, level)
    power = weight * point[:, np.newaxis]
    cumulant = (level * (np.expm1(power) - power)).sum(axis=1)
    curvature = (level * weight**2 * np.exp(power)).sum(axis=1)
    root = np.sqrt(2.0 * np.maximum(point * goal - cumulant, 1e-300))
    with np.errstate(all='ignore'):
        better = root + np.log(point * np.sqrt(curvature) / root) / root
    result[rows] = np.where(np.isfinite(better), better, goal)
    return result


def _saddle_points(goal, weight, level):
    """Return where the slope of the cumulant generating function is the goal, (m,)."""
    low, high = np.zeros(len(goal)), goal.copy()

    def slope(point):
        return (level * weight * np.expm1(weight * point[:, np.newaxis])).sum(axis=1)

    # The slope is convex where positive weights win; bisection is safe in any case.
    for _ in range(N_NEWTON):
        short = slope(high) < goal
        if not short.any():
            break
        high = np.where(short, 2.0 * high, high)
    for _ in range(N_NEWTON):
        middle = 0.5 * (low + high)
        above = slope(middle) > goal
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return 0.5 * (low + high)
