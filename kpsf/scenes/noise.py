# Licensed under a 3-clause BSD style license - see LICENSE
"""What disturbs a series besides photons: cosmic rays, and scatter that no model explains."""

from dataclasses import replace

import numpy as np
from scipy.ndimage import median_filter

__all__ = ['excess_noise', 'find_cosmic_rays', 'pixel_excess', 'scatter', 'without_spikes']

# Standard deviations from which on a pixel that is high in a single cadence is a cosmic ray's,
# and how much of it may be in the cadences next to it.
_THRESHOLD, _NEIGHBOUR_SHARE = 6.0, 0.5
_WINDOW = 5
# What more than this share of the cadences has is no cosmic ray, and how many standard deviations
# of white noise, of which a median of five was taken, the others are within.
_RARE, _WITHIN = 0.05, 1.98
# A pixel that is fainter than this share of the brightest tells little of a star's brightness.
_BRIGHT = 0.1
# Cadences that tell a scatter.
_FEWEST = 20
# How low a cosmic ray may pull other pixels, relative to itself.
_PULL = 0.6
# A track of more pixels is none.
_MOST = 6
# How much others may change both ways from one cadence to the next: in standard deviations, to
# which noise alone changes the most of a hundred pixels, and relative to a cosmic ray.
_NOISE, _JUMP = 4.5, 0.5


def find_cosmic_rays(residual, sigma, used):
    """Find pixels that are much too high in a single cadence.

    Parameters
    ----------
    residual : ndarray, shape (n, p)
        Data without their model.
    sigma : ndarray, shape (n, p)
        Standard deviation by photons and read noise.
    used : ndarray of bool, shape (n, p)

    Returns
    -------
    ndarray of bool, shape (n, p)
    """
    if len(residual) < 2 * _WINDOW:
        return np.zeros(residual.shape, dtype=bool)
    relative = np.where(used, residual / sigma, 0.0)
    # What a model lacks changes slowly; of the first and the last cadence nothing can be said.
    values = relative - median_filter(relative, size=(_WINDOW, 1), mode='nearest')
    usual = np.quantile(np.abs(values), 1.0 - max(_RARE, 1.5 / len(values)), axis=0) / _WITHIN
    usual = np.maximum(usual, 1.0)
    values /= usual
    high = values > _THRESHOLD
    high[_is_next_to_a_jump(relative / usual, values, high)] = False
    # Where others are as much too low, or many too high, the image has moved; a cosmic ray makes
    # its star too bright, and its other pixels too low by less.
    lowest = np.minimum(-_THRESHOLD, -_PULL * values.max(axis=1, initial=0.0))
    moved = (values < lowest[:, np.newaxis]).any(axis=1) | (high.sum(axis=1) > _MOST)
    high[moved] = False
    share = np.zeros_like(high)
    for step in (1, -1):
        next_to_it = np.roll(values, step, axis=0)
        next_to_it[0 if step > 0 else -1] = 0.0
        share |= next_to_it > _NEIGHBOUR_SHARE * values
    return high & ~share & used


def _is_next_to_a_jump(relative, values, high):
    """Say of each cadence (n,) whether the image jumps right before or after it.

    The median of its neighbours is then that of another place. A jump makes some pixels
    brighter and others fainter; a cosmic ray does neither to any but its own.
    """
    own = high[1:] | high[:-1]
    step = np.where(own, 0.0, np.diff(relative, axis=0))
    both_ways = np.minimum(step.max(axis=1), -step.min(axis=1))
    nearest = np.maximum(np.append(both_ways, 0.0), np.append(0.0, both_ways))
    height = np.where(high, values, 0.0).max(axis=1)
    return nearest > np.maximum(_NOISE, _JUMP * height)


def without_spikes(pixels):
    """Return the pixels with the median of a few cadences in place of what stands out in one.

    Cosmic rays would be light of a star, motion, or a mode that explains them. A flare in a few
    pixels is among them: only what is learned may be from these pixels.
    """
    sigma = np.sqrt(pixels.variance_of(pixels.rate))
    spikes = find_cosmic_rays(pixels.net, sigma, pixels.used)
    if spikes.any():
        # Where stars move far, what most of their pixels say of their brightness jumps, too.
        spikes &= find_cosmic_rays(pixels.net - _as_bright_as(pixels), sigma, pixels.used)
    if not spikes.any():
        return pixels
    slow = median_filter(pixels.rate, size=(_WINDOW, 1), mode='nearest')
    return replace(pixels, rate=np.where(spikes, slow, pixels.rate))


def _as_bright_as(pixels):
    """Return the mean image, in each cadence as bright as most of its bright pixels are (n, p).

    What the star does in a single cadence, at the bottom of a steep dip, is no cosmic ray.
    """
    mean = pixels.mean(pixels.net)
    bright = mean > _BRIGHT * mean.max(initial=0.0)
    if not bright.any():
        return np.zeros_like(pixels.net)
    ratio = np.where(pixels.used[:, bright], pixels.net[:, bright] / mean[bright], np.nan)
    known = np.isfinite(ratio).any(axis=1)
    brightness = np.ones(len(ratio))
    brightness[known] = np.nanmedian(ratio[known], axis=1)
    return brightness[:, np.newaxis] * mean


def pixel_excess(residual, variance, used):
    """Return how much each pixel varies over time, relative to its variance, (p,); at least 1.

    What a model lacks all the time is no noise.

    Parameters
    ----------
    residual, variance : ndarray, shape (n, p)
    used : ndarray of bool, shape (n, p)
    """
    if len(residual) < _FEWEST:
        return np.ones(residual.shape[1])
    values = np.where(used, residual / np.sqrt(variance), np.nan)
    middle = np.nanmedian(values, axis=0)
    deviation = np.nanmedian(np.abs(values - middle), axis=0)
    return np.maximum((1.4826 * deviation)**2, 1.0)


def scatter(values):
    """Return the standard deviation from one value to the next, by the MAD of differences."""
    values = values[np.isfinite(values)]
    if values.size < 3:
        return np.nan
    steps = np.diff(values)
    return 1.4826 * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2.0)


def excess_noise(flux, error):
    """Return the scatter that errors do not explain, as a share of the flux; 0 if they do.

    Parameters
    ----------
    flux, error : ndarray, shape (n,)
    """
    good = np.isfinite(flux) & np.isfinite(error)
    if good.sum() < 3:
        return 0.0
    excess = scatter(flux[good])**2 - np.median(error[good])**2
    level = np.median(flux[good])
    return float(np.sqrt(max(excess, 0.0)) / level) if level > 0 else 0.0
