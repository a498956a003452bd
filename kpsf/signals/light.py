# Licensed under a 3-clause BSD style license - see LICENSE
"""The light of one star in the pixels."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter
from scipy.optimize import nnls

from ..lightcurve import LightCurve
from ..models import position_names, total_flux_name
from ..scenes.stars import typical_psf

__all__ = ['StarLight', 'good_cadences', 'pick_star', 'star_light']

# Cadences over which the star's own variation is smoothed.
SMOOTHED = 13
# Cadences for each coefficient that the light of a pixel is given.
PER_COEFFICIENT = 10
CLIP_SIGMA = 5.0
# How high a neighbour's peak must be, as a share of the star's, and how far in pixels, to have
# light of its own: the wings of real PSFs have peaks of up to a tenth.
NEIGHBOUR, APART = 0.2, 2.0
# Pixels within which two places are one star.
SAME_PLACE = 1e-6
# Share of its peak that the PSF is taken to have at a pixel, falling with the square of the
# distance: without that, a Gaussian would leave the wings to nobody.
FLOOR = 1e-4


@dataclass(frozen=True)
class StarLight:
    """What a star puts into the pixels.

    Attributes
    ----------
    pixels : ndarray, shape (n_cadences, ny, nx)
        Its light in e-/s.
    flux : ndarray, shape (n_cadences,)
        Its flux in the light curve in e-/s, smoothed.
    """

    pixels: np.ndarray
    flux: np.ndarray


def pick_star(curves, star):
    """Return the light curve of a star from what `extract_light_curve` returned."""
    if not isinstance(curves, LightCurve):
        return curves[0 if star is None else star]
    if star is not None:
        raise ValueError('star chooses one of the stars of a scene, but the light curve is that '
                         f'of one star, and star is {star!r}: leave it out.')
    return curves


def good_cadences(curve):
    """Return which cadences (n,) have a flux in which nothing was noticed."""
    flux, error = (curve[name].value for name in ('flux', 'flux_err'))
    return (np.asarray(curve['flags']) == 0) & np.isfinite(flux) & np.isfinite(error) & (error > 0)


def star_light(tpf, curves, star=None):
    """Find the light that a star puts into the pixels.

    It is measured, not modelled, since no model of a real PSF is exact and
    a signal of the wrong shape would be recovered wrongly: the pixels
    without background, smoothed as functions of time, of the motion and of
    the star's flux. Where there are other stars as bright, each pixel is
    split as the PSFs are.

    Parameters
    ----------
    tpf : TargetPixels
    curves : LightCurve or container of LightCurve
        What `extract_light_curve` made of them: one star, or all of a scene.
    star : int or str, optional
        Which star of a scene, the first by default.

    Returns
    -------
    StarLight
    """
    curve = pick_star(curves, star)
    good = good_cadences(curve)
    flux = _smooth_flux(curve['flux'].value, good)
    light = tpf.total_rate - _background(tpf, curve)
    used = tpf.good_pixels & good[:, np.newaxis, np.newaxis]
    design = (flux / np.median(flux[good]))[:, np.newaxis] * _basis(tpf, curve, good)
    pixels = np.zeros(light.shape)
    for y, x in np.ndindex(tpf.shape):
        pixels[:, y, x] = _smooth_pixel(design, light[:, y, x], used[:, y, x])
    image = np.where(used.any(axis=0), pixels.mean(axis=0), np.nan)
    return StarLight(pixels * _shares(tpf, curves, star, image), flux)


def _smooth_flux(flux, good):
    """Return the flux (n,) without noise, gaps filled."""
    cadences = np.arange(len(flux))
    return median_filter(np.interp(cadences, cadences[good], flux[good]), SMOOTHED, mode='nearest')


def _background(tpf, curve):
    """Return the background in e-/s (n, ny, nx) that the light curve stands on."""
    known = np.where(tpf.good_pixels, tpf.background, 0.0)
    n_pixels = np.maximum(tpf.good_pixels.sum(axis=(1, 2)), 1)
    level = curve['background'].value - known.sum(axis=(1, 2)) / n_pixels
    return known + level[:, np.newaxis, np.newaxis]


def _basis(tpf, curve, good):
    """Return what the light of a pixel depends on (n, m), a constant first."""
    days = np.linspace(-1.0, 1.0, tpf.n_cadences)
    motion = tpf.pos_corr if tpf.has_pos_corr else np.stack(
        [curve[name].value for name in 'xy'], axis=1)
    motion = np.nan_to_num(motion - np.median(motion[good], axis=0))
    x, y = np.where(good[:, np.newaxis], motion, 0.0).T
    columns = [np.ones(tpf.n_cadences), days, x, y, x * x, x * y, y * y]
    n_columns = max(1, min(len(columns), good.sum() // PER_COEFFICIENT))
    return np.stack(columns[:n_columns], axis=1)


def _smooth_pixel(design, light, used):
    """Return the light (n,) of a pixel as a function of what it depends on."""
    if not used.any():
        return np.zeros(len(light))
    for _ in range(2):
        coefficients = np.linalg.lstsq(design[used], light[used], rcond=None)[0]
        smooth = design @ coefficients
        deviation = np.abs(light - smooth)
        # Cosmic rays are no light of the star.
        used = used & (deviation <= CLIP_SIGMA * 1.4826 * np.median(deviation[used]) + 1e-9)
    return smooth


def _shares(tpf, curves, star, image):
    """Return the part of each pixel's light (ny, nx) that is the star's."""
    curve = pick_star(curves, star)
    if curve.star_share is not None:
        return curve.star_share
    place = _place(curve)
    others = (_neighbours(image, place) if isinstance(curves, LightCurve)
              else _others(curves, place))
    places = [place, *others]
    if len(places) == 1:
        return np.ones(image.shape)
    psf = _psf(tpf, curve)
    y, x = np.indices(image.shape)
    profiles = np.array([psf(x, y, *place) for place in places])
    profiles += FLOOR * profiles.max() / (1.0 + np.array(
        [(x - at_x)**2 + (y - at_y)**2 for at_x, at_y in places]))
    known = np.isfinite(image)
    fluxes = nnls(profiles[:, known].T, np.maximum(image[known], 0.0))[0]
    # A star of which nothing is seen still has its own pixel.
    parts = np.maximum(fluxes, 1e-3 * fluxes.max())[:, np.newaxis, np.newaxis] * profiles
    return parts[0] / parts.sum(axis=0)


def _others(curves, place):
    """Return x and y of the other stars of a scene that were fitted, given the place of one."""
    keys = curves.keys() if hasattr(curves, 'keys') else range(len(curves))
    places = [_place(curves[key]) for key in keys]
    return [other for other in places if np.hypot(*np.subtract(other, place)) > SAME_PLACE]


def _place(curve):
    """Return the typical x and y of a star, NaN without a good cadence."""
    good = good_cadences(curve)
    if not good.any():
        return np.nan, np.nan
    return tuple(float(np.median(curve[name].value[good])) for name in 'xy')


def _neighbours(image, place):
    """Return x and y of the peaks of an image (ny, nx) that are other stars."""
    filled = np.pad(np.nan_to_num(image), 1, constant_values=-np.inf)
    ny, nx = image.shape
    around = np.max([filled[j:j + ny, i:i + nx] for j in range(3) for i in range(3)], axis=0)
    y, x = np.indices(image.shape)
    distance = np.hypot(x - place[0], y - place[1])
    near = distance < APART
    least = NEIGHBOUR * np.nanmax(image[near], initial=0.0)
    with np.errstate(invalid='ignore'):
        peaks = (image >= around) & (image > least) & (image > 0) & ~near
    return [(float(i), float(j)) for j, i in np.argwhere(peaks)]


def _psf(tpf, curve):
    """Return the PSF at unit flux as a function of pixels and a place."""
    try:
        fits = curve.stamp_fits
    except (AttributeError, ValueError):
        model = typical_psf(tpf.mission)
    else:
        model = fits._problem.model.copy()
        row = np.argmax(good_cadences(curve))
        for name, value in zip(fits.param_names, fits.params[row]):
            if name in model.param_names:
                setattr(model, name, value)
    x_name, y_name = position_names(model)
    setattr(model, total_flux_name(model), 1.0)

    def psf(x, y, at_x, at_y):
        setattr(model, x_name, at_x)
        setattr(model, y_name, at_y)
        return np.maximum(model(x, y), 0.0)

    return psf
