# Licensed under a 3-clause BSD style license - see LICENSE
"""The pixels around a star without its light, and how much they vary."""

from dataclasses import dataclass

import numpy as np

from .._kernels.poisson import deviance
from ..statistics import cstat_moments
from .sky import clipped_mean, highest_without_star

__all__ = ['EmptyPixels', 'empty_pixels']

# A pixel is empty if the star is fainter there than this share of the noise; fewer tell nothing.
FAINT, LEAST_PIXELS = 0.5, 30
# Electrons per pixel from which on percentiles tell a width.
MANY_COUNTS = 10.0


@dataclass(frozen=True)
class EmptyPixels:
    """Pixels without the light of a star.

    Attributes
    ----------
    pixels : ndarray of bool, shape (ny, nx)
        Which, without those that other stars raise.
    counts : ndarray, shape (n,)
        Electrons, with what is left of the star and its companions subtracted, in all of them.
    level : float
        Mean electrons, without those that other stars raise.
    """

    pixels: np.ndarray
    counts: np.ndarray
    level: float

    def excess(self, read_variance):
        """Return the variance over that of electrons, and how significantly it differs from 1."""
        level = self.level + read_variance
        if level > MANY_COUNTS:
            # Stars that nobody fitted do not change the lower half. Whole numbers have rough
            # percentiles, unless they are spread over the unit, which adds a twelfth.
            spread = np.random.default_rng(0).uniform(-0.5, 0.5, self.counts.size)
            low, middle = np.percentile(self.counts + spread, [15.87, 50.0])
            # A Poisson distribution's median is below its mean (Cornish-Fisher).
            width = (middle - low) / (1.0 - 1.0 / (6.0 * np.sqrt(level)))
            excess = (width**2 - 1.0 / 12.0) / level
            return float(excess), float((excess - 1.0) / (3.0 / np.sqrt(self.counts.size)))
        kept = self.counts <= highest_without_star(self.level, read_variance)
        counts, mean = self.counts[kept] + read_variance, np.full(kept.sum(), max(level, 1e-9))
        expected, spread = (moment.sum() for moment in cstat_moments(mean))
        total = deviance(np.maximum(counts, 0.0), mean).sum()
        return float(total / expected), float((total - expected) / np.sqrt(max(spread, 1e-12)))


def empty_pixels(fitted, used):
    """Return the `EmptyPixels` among some pixels, None if there are too few.

    Their level is measured, as that of a fit in a small box is uncertain.

    Parameters
    ----------
    fitted : Fitted
    used : ndarray of bool, shape (ny, nx)
    """
    star = fitted.flux * fitted.image + fitted.companions
    empty = used & (np.abs(star) < FAINT * np.sqrt(fitted.variance))
    if np.count_nonzero(empty) < LEAST_PIXELS:
        return None
    counts = (fitted.counts - star)[empty]
    if fitted.background_known:
        # What is known to vary is no scatter.
        known = (fitted.background - fitted.companions)[empty]
        counts = counts - (known - known.mean())
    level = clipped_mean(counts, fitted.read_variance)
    pixels = empty.copy()
    pixels[empty] = counts <= highest_without_star(level, fitted.read_variance)
    return EmptyPixels(pixels, counts, level)
