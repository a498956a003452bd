# Licensed under a 3-clause BSD style license - see LICENSE
"""From a scene and target pixels to the fit of the mean image."""

from dataclasses import replace

import numpy as np
from astropy.modeling import Model
from scipy.ndimage import maximum_filter

from ..guidance.information import Star
from ..prf import KeplerPRF, TessPRF, instrument_prf, require_same_detector
from .fields import background_images
from .reference import Reference, fit_reference, typical_shifts
from .stars import find_stars, place_stars, typical_psf

__all__ = ['fit_mean_image', 'sharpen', 'stars_of']

# Stars this near to each other in units of the FWHM cannot be found, only known.
_LEAST_CONTRAST = 3e-3
# Standard deviation of shifts in pixels that blurs nothing.
_AT_REST = 1e-3


def stars_of(scene, tpfs):
    """Return names, x, y, flux and the number of stars that have a light curve."""
    if scene.stars is not None:
        names, x, y, flux = place_stars(scene.stars, tpfs[0])
        _require_near(tpfs, names, x, y)
        return names, x, y, flux, len(names)
    names, x, y, flux = _with_neighbours(tpfs[0])
    return names, x, y, flux, 1


def _with_neighbours(tpf):
    """Return the target and the stars that are found besides it."""
    target = [float(np.median(place)) for place in tpf.expected_positions()]
    try:
        found = find_stars(tpf)
    except ValueError:
        return [tpf.target], *(np.array([value]) for value in (*target, np.nan))
    x, y, flux = (np.array(found[name]) for name in ('x', 'y', 'flux'))
    if found['name'][0] != 'target':
        # Nothing is seen there; it may be hidden in the light of others.
        x, y, flux = (np.insert(values, 0, value)
                      for values, value in zip((x, y, flux), (*target, np.nan)))
    kept = _are_peaks(tpf, x, y) & (flux > _LEAST_CONTRAST * np.nanmax(flux))
    kept[0] = True
    x, y, flux = x[kept], y[kept], flux[kept]
    return [tpf.target, *(f'star {i}' for i in range(2, len(x) + 1))], x, y, flux


def _are_peaks(tpf, x, y):
    """Say which places are the highest pixel of those around them; others may be a PSF's lobes."""
    good = tpf.good_pixels
    count = good.sum(axis=0)
    image = np.where(count > 0, tpf.flux.sum(axis=0, where=good) / np.maximum(count, 1), -np.inf)
    highest = maximum_filter(image, size=3, mode='constant', cval=-np.inf)
    ny, nx = image.shape
    columns, rows = (np.clip(np.round(places).astype(int), 0, size - 1)
                     for places, size in ((x, nx), (y, ny)))
    return (image == highest)[rows, columns]


def _require_near(tpfs, names, x, y):
    """Raise for stars that leave no light in any stamp."""
    first = tpfs[0]
    for name, star_x, star_y in zip(names, x, y):
        gaps = [np.hypot(*(max(-0.5 - place, place - size + 0.5, 0.0) for place, size in (
            (star_x + first.column - tpf.column, tpf.shape[1]),
            (star_y + first.row - tpf.row, tpf.shape[0])))) for tpf in tpfs]
        if min(gaps) > 3.0:
            raise ValueError(f'The stars of a scene must be on its pixels or next to them, but '
                             f'{name} at ({star_x:.1f}, {star_y:.1f}) is {min(gaps):.1f} pixels '
                             'away: leave it out, or correct its position.')


def fit_mean_image(pixels, scene, x, y, flux, background):
    """Return the `Reference` of a scene.

    Parameters
    ----------
    pixels : ScenePixels
    scene : Scene
    x, y, flux : ndarray, shape (k,)
    background : str
        'known', 'fit' or 'plane'.
    """
    star = _psf_of(scene, pixels.first)
    start = Reference(star, x, y, flux, np.zeros((len(x), pixels.x.size)),
                      np.zeros(pixels.x.size))
    return _fit_from(start, pixels, scene, background)


def sharpen(reference, pixels, scene, background, shift):
    """Return the `Reference` that the mean image of moving stars has, if they move.

    Parameters
    ----------
    reference : Reference
        Of stars at rest: its PSF has the motion in it.
    pixels, scene, background
        As for `fit_mean_image`.
    shift : ndarray, shape (n, 2)
    """
    if shift.std(axis=0).max() < _AT_REST:
        return reference
    motion, weights = typical_shifts(shift)
    return _fit_from(replace(reference, motion=motion, weights=weights), pixels, scene, background)


def _fit_from(start, pixels, scene, background):
    """Return the fit of the mean image, from a start."""
    image = pixels.mean(pixels.net)
    count = np.maximum(pixels.used.sum(axis=0), 1)
    variance = pixels.variance_of(pixels.mean(pixels.rate)) / count
    star = start.star
    free_shape = () if star.unit.is_image else tuple(
        name for name in star.unit.shape_names if not star.model.fixed[name])
    return fit_reference(pixels, image, variance, start, background_images(pixels, background),
                         max(scene.position_error, 1e-4), free_shape)


def _psf_of(scene, tpf):
    """Return the PSF of a scene as a `Star`."""
    psf = scene.base if scene.is_empirical else scene.psf
    if isinstance(psf, str) and psf == 'prf':
        return Star(instrument_prf(tpf))
    if isinstance(psf, Model):
        if isinstance(psf, (KeplerPRF, TessPRF)):
            require_same_detector(psf, tpf)
        return Star(psf)
    return Star(typical_psf(tpf.mission))
