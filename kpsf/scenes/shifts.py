# Licensed under a 3-clause BSD style license - see LICENSE
"""The motion of a scene: measured in the pixels, told by the file, or both; then smoothed."""

import numpy as np

from .._kernels.linear import fit_amplitudes
from .fields import background_images, displacement_fields, scene_slopes, star_shifts
from .images import MovingImages
from .motion import find_breaks, smooth
from .pixels import gather_pixels
from .prepare import fit_mean_image
from .scene import Scene

__all__ = ['find_motion', 'measure_motion']

# Rounds in which shifts are measured, and the largest step in pixels at which that ends.
_MAX_ROUNDS, _STILL = 6, 2e-3
_THRUSTER = 1 << 20
# Doubles of the images of all stars that are worked on at once.
_BLOCK = 500_000


def measure_motion(tpf, x, y):
    """Return the smooth motion (n, 2) of stars in the pixels of one file, under a Gaussian PSF.

    Parameters
    ----------
    tpf : TargetPixels
    x, y : ndarray, shape (k,)
        Places of the stars in stamp pixels.
    """
    scene = Scene({'x': x, 'y': y}, psf='gaussian', motion='data')
    pixels = gather_pixels([tpf])
    background = 'known' if pixels.has_background else 'fit'
    reference = fit_mean_image(pixels, scene, np.asarray(x, float), np.asarray(y, float),
                               np.full(len(x), np.nan), background)
    return find_motion(pixels, reference, MovingImages(reference, pixels), len(x),
                       background_images(pixels, background), scene)[0]


def find_motion(pixels, reference, images, n_free, backgrounds, scene, struck=None):
    """Return smooth shifts (n, f), their variances, and where they begin anew.

    Variances of what is not measured are NaN. Nothing is measured in cadences that are
    ``struck`` (n,), by cosmic rays for example.
    """
    n, told = pixels.n_cadences, pixels.motion()
    is_told, told = np.isfinite(told), np.nan_to_num(told)
    has_told = is_told.any()
    thrusters = (pixels.first.quality[pixels.rows[0]] & _THRUSTER) > 0
    cadenceno = pixels.first.cadenceno[pixels.rows[0]]
    source = scene.motion or ('both' if has_told else 'data')
    n_fields = len(displacement_fields(reference, scene.fields))
    still, unknown = np.zeros((n, n_fields)), np.full((n, n_fields), np.nan)
    if source == 'none':
        return still, unknown, find_breaks(cadenceno)
    if source == 'pos_corr':
        if not has_told:
            raise ValueError(f"motion='pos_corr' needs the columns POS_CORR1 and POS_CORR2, but "
                             f"those of {pixels.first.target} have no values: pass motion='data'.")
        still[:, :2] = told - told.mean(axis=0)
        return still, unknown, find_breaks(cadenceno, told)
    measured, error = _measure_shifts(pixels, reference, images, n_free, backgrounds, scene)
    variance = error**2
    if struck is not None and struck.any() and not struck.all():
        variance[struck], cadences = np.inf, np.arange(n)
        measured = np.column_stack([np.interp(cadences, cadences[~struck], values[~struck])
                                    for values in measured.T])
    breaks = find_breaks(cadenceno, measured[:, :2], thrusters)
    if source == 'both' and has_told:
        measured, variance = _combine(measured, variance, told, is_told)
    if not scene.smooth:
        return measured, np.where(np.isfinite(variance), variance, np.nan), breaks
    smoothed, variance = zip(*(smooth(measured[:, j], variance[:, j], breaks, with_variance=True)
                               for j in range(n_fields)))
    return np.column_stack(smoothed), np.column_stack(variance), breaks


def _combine(measured, variance, told, is_known):
    """Return the weighted mean of shifts from the pixels and from the file, and its variance."""
    measured, variance = measured.copy(), variance.copy()
    for axis in range(2):
        mine = np.isfinite(measured[:, axis]) & np.isfinite(variance[:, axis])
        both = mine & is_known[:, axis]
        if not both.any():
            continue
        rest = measured[:, axis] - told[:, axis]
        # The motion of the file is that of the whole detector: right from one cadence to the
        # next, and off by what the optics do to this place, slowly.
        offset = smooth(np.where(both, rest, 0.0), np.where(both, variance[:, axis], np.inf))
        spread = (1.4826 * np.median(np.abs(rest - offset)[both]))**2
        # What the two differ by beyond the noise of the pixels is the error of the file.
        error = max(spread - np.median(variance[both, axis]), 1e-8)
        own = np.where(mine, 1.0 / np.where(mine, variance[:, axis], 1.0), 0.0)
        weight = np.where(is_known[:, axis], 1.0 / error, 0.0)
        total = np.maximum(own + weight, 1e-12)
        measured[:, axis] = (own * np.where(mine, measured[:, axis], 0.0)
                             + weight * (told[:, axis] + offset)) / total
        variance[:, axis] = 1.0 / total
    return measured, variance


def _measure_shifts(pixels, reference, images, n_free, backgrounds, scene):
    """Return the motion of every cadence (n, f) and its errors, fluxes and background free."""
    fields = displacement_fields(reference, scene.fields)
    typical = pixels.variance_of(pixels.mean(pixels.rate))
    step = max(1, _BLOCK // (len(reference.x) * pixels.x.size))
    blocks = [slice(first, first + step) for first in range(0, pixels.n_cadences, step)]
    motion, error = zip(*(_measure_block(pixels, rows, reference, images, n_free, backgrounds,
                                         fields, typical) for rows in blocks))
    return np.concatenate(motion), np.concatenate(error)


def _measure_block(pixels, rows, reference, images, n_free, backgrounds, fields, variance):
    """Return the motion (m, f) of some cadences and its errors, by Gauss and Newton's method."""
    rate, used = pixels.rate[rows], pixels.used[rows]
    n, n_fields = len(rate), len(fields)
    motion = np.zeros((n, n_fields))
    mean_flux = np.maximum(reference.flux, 0.0)
    flux = np.broadcast_to(mean_flux, (n, len(mean_flux))).copy()
    constant_images = np.broadcast_to(backgrounds, (n, *backgrounds.shape))
    for _ in range(_MAX_ROUNDS):
        stars, by_x, by_y = images(star_shifts(motion, fields), slopes=True)
        slopes = scene_slopes(flux, by_x, by_y, fields)
        design = np.concatenate([stars[:, :n_free], slopes, constant_images], axis=1)
        constant = (mean_flux[n_free:, np.newaxis] * stars[:, n_free:]).sum(axis=1)
        fits = fit_amplitudes(rate, design, pixels.background[rows] + constant, pixels.slope,
                              pixels.floor, used=used, variance=variance, n_rounds=1)
        step = np.clip(np.nan_to_num(fits.amplitudes[:, n_free:n_free + n_fields]), -1.0, 1.0)
        found = fits.amplitudes[:, :n_free]
        flux[:, :n_free] = np.where(np.isfinite(found), found, flux[:, :n_free])
        motion, variance = motion + step, fits.variance
        if np.abs(step).max(initial=0.0) < _STILL:
            break
    chosen = range(n_free, n_free + n_fields)
    return motion, np.sqrt(np.stack([fits.covariance[:, j, j] for j in chosen], axis=1))
