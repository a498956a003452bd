# Licensed under a 3-clause BSD style license - see LICENSE
"""A Gaussian PSF for images of which nothing is known."""

import numpy as np

from ..flags import FitFlag
from ..stamps import fit_stamps
from ..stamps.boxes import Boxes
from .detection import significance_map
from .image import CountsImage
from .information import Star
from .locate import locate_source

__all__ = ['gaussian_of_brightest']

# Widths that are tried, in pixels, and the box around the star in units of the width.
TRIED = (1.2, 1.8, 2.7, 4.0, 6.0, 9.0, 14.0, 20.0)
BOX, N_ROUNDS = 4.0, 2
# Pixels of the image that a width needs, in its own units.
LEAST_SIDE = 2.0
# How far from a given position the star may be, in units of the width.
REACH = 2.0


def gaussian_of_brightest(data, *, mask, background=None, near=None, within='auto',
                          read_variance=0.0):
    """Return a round Gaussian, integrated over pixels, as wide as the brightest star.

    The width at which a source is most significant is the starting value of
    a fit of the star.

    Parameters
    ----------
    data, mask : ndarray, shape (ny, nx)
        Electrons, and pixels to leave out.
    background, near, within, read_variance
        As for `locate_source`.

    Returns
    -------
    `~photutils.psf.CircularGaussianPRF`
        With its width held.

    Raises
    ------
    ValueError
        If there is no source.
    """
    image = CountsImage(data, mask, background, read_variance)
    strength = {fwhm: _strength(image, fwhm, near) for fwhm in TRIED
                if LEAST_SIDE * fwhm <= min(data.shape)}
    fwhm = max(strength, key=strength.get, default=None)
    found = () if fwhm is None else locate_source(
        data, _gaussian(fwhm), near=near, within=within, mask=mask, background=background,
        read_variance=read_variance)
    if not len(found):
        raise ValueError('A source is needed to tell the width of the PSF, but there is none in '
                         'the image: pass the PSF.')
    place = float(found['x'][0]), float(found['y'][0])
    for _ in range(N_ROUNDS):
        fwhm, place = _fit(image, fwhm, place)
    return _gaussian(fwhm)


def _gaussian(fwhm):
    """Return a round Gaussian of a width."""
    from photutils.psf import CircularGaussianPRF
    return CircularGaussianPRF(fwhm=fwhm)


def _strength(image, fwhm, near):
    """Return the significance of the strongest source of a width."""
    star = Star(_gaussian(fwhm))
    clean = image.without_spikes(star)
    significance = significance_map(clean.data, clean.mask, clean.sky, star,
                                    background_known=image.known is not None)
    if near is not None:
        y, x = np.indices(significance.shape)
        reach = max(REACH * fwhm, REACH)
        significance = np.where(np.hypot(x - near[0], y - near[1]) <= reach, significance, 0.0)
    return significance.max()


def _fit(image, fwhm, place):
    """Return width and place of the star at a place."""
    psf = _gaussian(fwhm)
    psf.fwhm.fixed, psf.fwhm.bounds = False, (0.5, None)
    side = 2 * max(int(np.ceil(0.5 * BOX * fwhm)), 2) + 1
    boxes = Boxes.around(*(np.array([value]) for value in place), (side, side), image.data.shape)
    first = boxes.first[0]
    known = 'fit' if image.known is None else boxes.cut(
        np.broadcast_to(image.known, image.data.shape), 0.0)
    fits = fit_stamps(boxes.cut(np.where(image.mask, np.nan, image.data), np.nan), psf,
                      background=known, read_variance=image.read_variance,
                      init={'x_0': place[0] - first[0], 'y_0': place[1] - first[1],
                            'fwhm': fwhm})
    if fits.flags[0] & ~int(FitFlag.AT_BOUND):
        return fwhm, place
    row = dict(zip(fits.param_names, fits.params[0].tolist()))
    return row['fwhm'], (row['x_0'] + first[0], row['y_0'] + first[1])
