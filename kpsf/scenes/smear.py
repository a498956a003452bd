# Licensed under a 3-clause BSD style license - see LICENSE
"""The mean image of stars that move: what the motion adds to it is no light of a neighbour."""

import numpy as np

from .._kernels.linear import fit_amplitudes
from .images import MovingImages
from .prepare import background_images, fit_mean_image, star_shifts
from .shifts import find_motion
from .templates import GivenImages

__all__ = ['fit_moving_stars']

# Rounds in which the mean image is freed from the motion, as long as that changes its chi squared
# by this; the first leaves a few per cent of the error. A model with larger residuals than the
# last has other troubles.
_SMEAR_ROUNDS, _UNSEEN, _USEFUL_SHARE = 2, 0.1, 0.2


def fit_moving_stars(pixels, scene, x, y, flux, n_free, background):
    """Fit the mean image of stars that move, see `fit_mean_image`.

    In the mean image a star that moves is wider than its PSF. A fit that
    does not know takes that for light of a fainter star next to it, moves
    the two against each other, and gives one a part of the other's light.

    Parameters
    ----------
    pixels : ScenePixels
    scene : Scene
    x, y, flux : ndarray, shape (k,)
        Places and fluxes to start from; NaN fluxes are not known.
    n_free : int
        How many of the stars have light curves; the first.
    background : str
        'known', 'fit' or 'plane'.

    Returns
    -------
    Reference
    """
    reference = fit_mean_image(pixels, scene, x, y, flux, background)
    if scene.motion == 'none' or not reference.share < _USEFUL_SHARE:
        return reference
    variance = (pixels.variance_of(pixels.mean(pixels.rate))
                / np.maximum(pixels.used.sum(axis=0), 1))
    known = np.zeros_like(variance)
    for _ in range(_SMEAR_ROUNDS):
        smear = _smear(pixels, reference, n_free, background, scene)
        if ((smear - known)**2 / variance).sum() < _UNSEEN:
            break
        reference = fit_mean_image(pixels, scene, x, y, flux, background, smear)
        known = smear
    return reference


def _smear(pixels, reference, n_free, background, scene):
    """Return what the motion does to the mean image, (p,) in e-/s, beside stars at rest."""
    backgrounds = background_images(pixels, background)
    images = MovingImages(reference, pixels)
    shift, _, _ = find_motion(pixels, reference, images, n_free, backgrounds, scene)
    stars = images(star_shifts(reference, shift, scene.fields))
    design, known = GivenImages(reference, stars, n_free, backgrounds).images(pixels.used)
    fits = fit_amplitudes(pixels.rate, design, pixels.background + known, pixels.slope,
                          pixels.floor, used=pixels.used)
    at_rest = np.concatenate([reference.images[:n_free], backgrounds])
    still = (np.nan_to_num(fits.amplitudes) @ at_rest
             + reference.flux[n_free:] @ reference.images[n_free:])
    return pixels.mean(fits.mean - pixels.background - still)
