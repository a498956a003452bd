# Licensed under a 3-clause BSD style license - see LICENSE
"""`fit_scene`: from pixels and stars to fluxes; first the images and the motion, then the rest."""

from dataclasses import dataclass

import numpy as np

from .._kernels.linear import fit_amplitudes, sandwich
from .images import moving_images
from .motion import find_breaks, smooth
from .noise import find_cosmic_rays, pixel_excess
from .prepare import background_images, displacement_fields, sharpen
from .templates import EmpiricalImages, GivenImages

__all__ = ['SceneFit', 'fit_scene']

# Rounds in which shifts are measured, and the largest step in pixels at which that ends.
_MAX_ROUNDS, _STILL = 6, 2e-3
_THRUSTER = 1 << 20


@dataclass(frozen=True, eq=False)
class SceneFit:
    """Fluxes of the stars of a scene, and what they rest on.

    Parameters
    ----------
    reference : Reference
        The mean image; stars that are taken to be constant come last.
    flux : ndarray, shape (n, k)
        Total fluxes in e-/s of the k free stars.
    covariance, sandwich : ndarray, shape (n, k, k)
        Of the fluxes, by photon and read noise, and with how much each pixel
        scatters over time instead.
    background, background_err : ndarray, shape (n,)
        Fitted part, mean over the pixels, in e-/s.
    shift, shift_err : ndarray, shape (n, 2)
        Smooth motion in pixels, and the error of what was measured.
    mean : ndarray, shape (n, p)
        Model of the pixels.
    variance : ndarray, shape (n, p)
    used, cosmic : ndarray of bool, shape (n, p)
        Pixels in the fit, and those left out for cosmic rays.
    changes : ndarray, shape (m, p)
        Modes in which the images changed, in e-/s; m may be 0.
    alone_err : ndarray, shape (n, k)
        Errors that the fluxes would have if each star were alone.
    """

    reference: object
    flux: np.ndarray
    covariance: np.ndarray
    sandwich: np.ndarray
    background: np.ndarray
    background_err: np.ndarray
    shift: np.ndarray
    shift_err: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    used: np.ndarray
    cosmic: np.ndarray
    changes: np.ndarray
    alone_err: np.ndarray


def fit_scene(pixels, reference, n_free, background, scene):
    """Fit the fluxes of a scene in every cadence.

    Parameters
    ----------
    pixels : ScenePixels
    reference : Reference
        Fit of the mean image.
    n_free : int
        How many of its stars have light curves; the first.
    background : str
        'known', 'fit' or 'plane'.
    scene : Scene

    Returns
    -------
    SceneFit
    """
    backgrounds = background_images(pixels, background)
    shift, shift_err, breaks = _find_motion(pixels, reference, n_free, backgrounds, scene)
    still, reference = reference, sharpen(reference, pixels, scene, background, shift[:, :2])
    if reference is not still:
        shift, shift_err, breaks = _find_motion(pixels, reference, n_free, backgrounds, scene)
    if scene.is_empirical:
        learn = EmpiricalImages(pixels, reference, n_free, backgrounds, shift, scene.fields,
                                breaks, scene.n_modes)
    else:
        learn = GivenImages(pixels, reference, n_free, backgrounds, shift, scene.fields)
    design, known = learn.images(pixels.used)
    fits, used, cosmic = _fit_without_cosmic_rays(pixels, design, known, scene.cosmic_rays)
    if scene.is_empirical and cosmic.any():
        # What was learned may have been learned from them.
        design, known = learn.images(used)
        fits = _fit(pixels, design, known, used)
    return _as_scene_fit(pixels, reference, n_free, fits, design, used, cosmic, backgrounds,
                         (shift[:, :2], shift_err[:, :2]), learn.changes)


def _fit(pixels, design, known, used):
    """Return the `LinearFits` of the amplitudes of a design."""
    return fit_amplitudes(pixels.rate, design, pixels.background + known, pixels.slope,
                          pixels.floor, used=None if used.all() else used,
                          variance=pixels.variance_of(pixels.mean(pixels.rate)))


def _fit_without_cosmic_rays(pixels, design, known, is_wanted):
    """Return the fits, the pixels in them, and those left out for cosmic rays."""
    fits, used = _fit(pixels, design, known, pixels.used), pixels.used
    cosmic = np.zeros_like(used)
    if is_wanted:
        is_fitted = np.isfinite(fits.amplitudes).all(axis=1)[:, np.newaxis]
        cosmic = find_cosmic_rays(pixels.rate - fits.mean, np.sqrt(fits.variance),
                                  used & is_fitted)
        if cosmic.any():
            used = used & ~cosmic
            fits = _fit(pixels, design, known, used)
    return fits, used, cosmic


def _find_motion(pixels, reference, n_free, backgrounds, scene):
    """Return smooth shifts (n, f), their errors before smoothing, and where they begin anew."""
    n = pixels.n_cadences
    told = np.zeros((n, 2))
    told[:] = np.nan_to_num(pixels.motion())
    has_told = np.isfinite(pixels.motion()).any()
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
    measured, error = _measure_shifts(pixels, reference, n_free, backgrounds, scene)
    breaks = find_breaks(cadenceno, measured[:, :2], thrusters)
    variance = error**2
    if source == 'both' and has_told:
        measured, variance = _combine(measured, variance, told, np.isfinite(pixels.motion()))
    smoothed = np.column_stack([smooth(measured[:, j], variance[:, j], breaks)
                                for j in range(n_fields)])
    return smoothed, error, breaks


def _combine(measured, variance, told, is_known):
    """Return the weighted mean of shifts from the pixels and from the file, and its variance."""
    measured, variance = measured.copy(), variance.copy()
    for axis in range(2):
        mine = np.isfinite(measured[:, axis]) & np.isfinite(variance[:, axis])
        both = mine & is_known[:, axis]
        if not both.any():
            continue
        rest = measured[both, axis] - told[both, axis]
        offset = np.median(rest)
        spread = (1.4826 * np.median(np.abs(rest - offset)))**2
        # What the two differ by beyond the noise of the pixels is the error of the file.
        error = max(spread - np.median(variance[both, axis]), 1e-8)
        own = np.where(mine, 1.0 / np.where(mine, variance[:, axis], 1.0), 0.0)
        weight = np.where(is_known[:, axis], 1.0 / error, 0.0)
        total = np.maximum(own + weight, 1e-12)
        measured[:, axis] = (own * np.where(mine, measured[:, axis], 0.0)
                             + weight * (told[:, axis] + offset)) / total
        variance[:, axis] = 1.0 / total
    return measured, variance


def _measure_shifts(pixels, reference, n_free, backgrounds, scene):
    """Return the motion of every cadence (n, f) and its errors, fluxes and background free."""
    n, k = pixels.n_cadences, len(reference.flux)
    fields = displacement_fields(reference, scene.fields)
    motion = np.zeros((n, fields.shape[0]))
    mean_flux = np.maximum(reference.flux, 0.0)
    relative = np.ones((n, n_free))
    variance = None
    for _ in range(_MAX_ROUNDS):
        moved = np.einsum('nf,fkd->nkd', motion, fields)
        images, by_x, by_y = moving_images(reference, pixels, moved, slopes=True)
        flux = np.broadcast_to(mean_flux, (n, k)).copy()
        flux[:, :n_free] *= relative
        slopes = np.stack([np.einsum('nk,nkp->np', flux * fields[f, :, 0], by_x)
                           + np.einsum('nk,nkp->np', flux * fields[f, :, 1], by_y)
                           for f in range(len(fields))], axis=1)
        design = np.concatenate([images[:, :n_free], slopes, np.broadcast_to(
            backgrounds, (n, *backgrounds.shape))], axis=1)
        constant = (mean_flux[n_free:, np.newaxis] * images[:, n_free:]).sum(axis=1)
        fits = fit_amplitudes(pixels.rate, design, pixels.background + constant, pixels.slope,
                              pixels.floor, used=pixels.used, variance=variance, n_rounds=1)
        step = np.nan_to_num(fits.amplitudes[:, n_free:n_free + len(fields)])
        relative = np.nan_to_num(fits.amplitudes[:, :n_free] / np.where(
            mean_flux[:n_free] > 0, mean_flux[:n_free], np.nan), nan=1.0)
        step = np.clip(step, -1.0, 1.0)
        motion = motion + step
        variance = fits.variance
        if np.abs(step).max(initial=0.0) < _STILL:
            break
    chosen = range(n_free, n_free + len(fields))
    error = np.sqrt(np.stack([fits.covariance[:, j, j] for j in chosen], axis=1))
    return motion, error


def _as_scene_fit(pixels, reference, n_free, fits, design, used, cosmic, backgrounds, motion,
                  changes):
    """Return the `SceneFit` of fits to all pixels."""
    n = pixels.n_cadences
    flux, covariance = fits.amplitudes[:, :n_free], fits.covariance[:, :n_free, :n_free]
    robust = sandwich(fits, design, pixel_excess(pixels.rate - fits.mean, fits.variance, used),
                      used)[:, :n_free, :n_free]
    weight = used / fits.variance
    if design.ndim == 2:
        alone = weight @ (design[:n_free]**2).T
    else:
        alone = (design[:, :n_free]**2 @ weight[:, :, np.newaxis])[:, :, 0]
    level = backgrounds.mean(axis=1) if len(backgrounds) else np.zeros(0)
    background = fits.amplitudes[:, n_free:] @ level
    spread = np.einsum('b,nbc,c->n', level, fits.covariance[:, n_free:, n_free:], level)
    with np.errstate(divide='ignore'):
        alone_err = 1.0 / np.sqrt(alone)
    return SceneFit(reference, flux, covariance, robust, background,
                    np.sqrt(spread) if len(level) else np.zeros(n), *motion, fits.mean,
                    fits.variance, used, cosmic, changes, alone_err)
