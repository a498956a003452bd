# Licensed under a 3-clause BSD style license - see LICENSE
"""An image of electrons in which stars are looked for: with its sky, without its spikes."""

from dataclasses import dataclass, replace

import numpy as np

from ..stamps.boxes import Boxes
from .sky import Sky, estimate_sky, find_spikes, smoothed

__all__ = ['CountsImage']

# How far from a star its light is taken along, in units of the FWHM.
STAR_REACH = 8.0


@dataclass(frozen=True)
class CountsImage:
    """Electrons, which of them count, and what is expected without stars."""

    data: np.ndarray
    mask: np.ndarray
    known: np.ndarray | None
    read_variance: float
    sky: Sky | None = None
    n_spikes: int = 0
    stars: np.ndarray | float = 0.0
    smooth: np.ndarray | None = None

    def without_spikes(self, star):
        """Return the image with its sky, and spikes masked."""
        sky = estimate_sky(self.data, self.mask, star.fwhm, self.read_variance, self.known)
        smooth = smoothed(self.data, self.mask, sky)
        spikes = find_spikes(self.data, self.mask, sky, star, self.read_variance, smooth)
        mask = self.mask | spikes
        if spikes.any():
            sky = estimate_sky(self.data, mask, star.fwhm, self.read_variance, self.known)
        return replace(self, mask=mask, sky=sky, smooth=smooth, n_spikes=int(spikes.sum()))

    def with_stars(self, star, found):
        """Return the image with stars expected in it."""
        light = np.zeros_like(self.data)
        side = 2 * int(np.ceil(STAR_REACH * star.fwhm)) + 1
        boxes = Boxes.around(found['x'], found['y'], (side, side), self.data.shape)
        columns, lines = boxes.places()
        images = found['flux'][:, np.newaxis] * star.image(
            columns, lines, found['x'][:, np.newaxis], found['y'][:, np.newaxis])
        inside = ((columns >= 0) & (lines >= 0) & (columns < light.shape[1])
                  & (lines < light.shape[0]))
        np.add.at(light, (lines[inside], columns[inside]), np.maximum(images[inside], 0.0))
        sky = Sky(self.sky.level + light, self.sky.variance + self.sky.excess * light,
                  self.sky.excess)
        return replace(self, sky=sky, stars=self.stars + light)

    def without(self, spikes):
        """Return the image with more spikes masked."""
        return replace(self, mask=self.mask | spikes, n_spikes=self.n_spikes + int(spikes.sum()))
