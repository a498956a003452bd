# Licensed under a 3-clause BSD style license - see LICENSE
"""`fit_scene`: from pixels and stars to fluxes; first the images and the motion, then the rest."""

from dataclasses import dataclass

import numpy as np

from .._kernels.linear import fit_amplitudes, sandwich
from .fields import background_images, displacement_fields, scene_slopes, star_shifts
from .images import MovingImages
from .noise import find_cosmic_rays, pixel_excess
from .prepare import sharpen
from .shifts import find_motion
from .templates import EmpiricalImages, GivenImages

__all__ = ['SceneFit', 'fit_scene']

# Cadences that tell how an error of the motion acts on fluxes.
_SOME = 200


@dataclass(frozen=True, eq=False)
class SceneFit:
    """Fluxes of the stars of a scene, and what they rest on.

    Parameters
    ----------
    reference : Reference
        The mean image; stars that are taken to be constant come last.
    flux : ndarray, shape (n, k)
        Total fluxes in e-/s of the k free stars.
    covariance : ndarray, shape (n, k, k)
        Of the fluxes.
    background, background_err : ndarray, shape (n,)
        Fitted part, mean over the pixels, in e-/s.
    shift, shift_err : ndarray, shape (n, 2)
        Smooth motion in pixels and its error.
    mean : ndarray, shape (n, p)
        Model of the pixels.
    variance : ndarray, shape (n, p)
    used, cosmic : ndarray of bool, shape (n, p)
        Pixels in the fit, and those left out for cosmic rays.
    changes : ndarray, shape (m, p)
        Modes in which the images changed, in e-/s; m may be 0.
    alone_err : ndarray, shape (n, k)
        Errors that the fluxes would have if each star were alone.
    shares : ndarray, shape (k, p)
        Part of the light of all stars in each pixel that is the star's, on average.
    """

    reference: object
    flux: np.ndarray
    covariance: np.ndarray
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
    shares: np.ndarray


def fit_scene(pixels, calm, reference, n_free, background, scene, covariance='fisher'):
    """Fit the fluxes of a scene in every cadence.

    Parameters
    ----------
    pixels : ScenePixels
    calm : ScenePixels
        The same `without_spikes`, from which images and motion are learned.
    reference : Reference
        Fit of the mean image.
    n_free : int
        How many of its stars have light curves; the first.
    background : str
        'known', 'fit' or 'plane'.
    scene : Scene
    covariance : {'fisher', 'sandwich'}, optional
        By photon and read noise, or by how much each pixel scatters over time.

    Returns
    -------
    SceneFit
    """
    backgrounds = background_images(pixels, background)
    # With a pixel replaced, a base PSF that is wrong finds another place: there is none then.
    spikes = calm.rate != pixels.rate
    images = MovingImages(reference, pixels)
    shift, variance, breaks = find_motion(calm, reference, images, n_free, backgrounds, scene,
                                          spikes.any(axis=1))
    blurred, reference = reference, sharpen(reference, calm, scene, background, shift[:, :2])
    if reference is not blurred:
        images = MovingImages(reference, pixels)
        shift, variance, breaks = find_motion(calm, reference, images, n_free, backgrounds, scene,
                                              spikes.any(axis=1))
    fields = displacement_fields(reference, scene.fields)
    moved = star_shifts(shift, fields)
    stars = images(moved)
    if scene.is_empirical:
        learn = EmpiricalImages(calm, reference, stars, n_free, backgrounds, breaks,
                                scene.n_modes)
    else:
        learn = GivenImages(reference, stars, n_free, backgrounds)
    design, known = learn.images(pixels.used & ~spikes)
    fits, used, cosmic = _fit_without_cosmic_rays(pixels, spikes, design, known,
                                                  scene.cosmic_rays)
    if scene.is_empirical and (cosmic & ~spikes).any():
        # What was learned may have been learned from them.
        design, known = learn.images(used & ~spikes)
        fits = _fit(pixels, design, known, used)
    matrix = fits.covariance
    if covariance == 'sandwich':
        excess = pixel_excess(pixels.rate - fits.mean, fits.variance, used)
        matrix = sandwich(fits, design, excess, used)
    # Moved a little, a star alone is as bright as before.
    if n_free > 1:
        matrix = matrix + _motion_covariance(fits, design, used, images, moved, variance, fields)
    return _as_scene_fit(pixels, reference, n_free, fits, matrix, design, known, used, cosmic,
                         backgrounds, (shift[:, :2], np.sqrt(variance[:, :2])), learn.changes)


def _motion_covariance(fits, design, used, images, moved, variance, fields):
    """Return what the error of the motion adds to the covariance of the amplitudes (n, k, k).

    A shift that is a little wrong takes light from one star of a blend and gives it to another.
    """
    n, k, n_stars = len(design), design.shape[1], moved.shape[1]
    # It changes slowly: some cadences stand for those around them.
    some = np.unique(np.linspace(0, n - 1, min(n, _SOME)).round().astype(int))
    nearest = np.abs(np.subtract.outer(np.arange(n), some)).argmin(axis=1)
    _, by_x, by_y = images(moved[some], slopes=True)
    flux = np.zeros((len(some), n_stars))
    n_own = min(k, n_stars)
    flux[:, :n_own] = np.nan_to_num(fits.amplitudes[some, :n_own])
    weighted = design[some] * (used[some] / fits.variance[some])[:, np.newaxis]
    # What a shift of each field does to the amplitudes, (m, k, f).
    slopes = scene_slopes(flux, by_x, by_y, fields)
    change = np.nan_to_num(fits.covariance[some] @ (weighted @ slopes.transpose(0, 2, 1)))
    change = change[nearest] * np.sqrt(np.nan_to_num(variance))[:, np.newaxis]
    return change @ change.transpose(0, 2, 1)


def _fit(pixels, design, known, used):
    """Return the `LinearFits` of the amplitudes of a design."""
    return fit_amplitudes(pixels.rate, design, pixels.background + known, pixels.slope,
                          pixels.floor, used=None if used.all() else used,
                          variance=pixels.variance_of(pixels.mean(pixels.rate)))


def _fit_without_cosmic_rays(pixels, spikes, design, known, is_wanted):
    """Return the fits, the pixels in them, and those left out for cosmic rays."""
    calm = pixels.used & ~spikes
    fits = _fit(pixels, design, known, calm)
    if not is_wanted:
        return fits, pixels.used, np.zeros_like(pixels.used)
    fitted = np.isfinite(fits.amplitudes).all(axis=1)
    cosmic = find_cosmic_rays(pixels.rate - fits.mean, np.sqrt(fits.variance),
                              pixels.used & fitted[:, np.newaxis])
    used = pixels.used & ~cosmic
    if (used != calm).any():
        fits = _fit(pixels, design, known, used)
    return fits, used, cosmic


def _as_scene_fit(pixels, reference, n_free, fits, matrix, design, known, used, cosmic,
                  backgrounds, motion, changes):
    """Return the `SceneFit` of fits to all pixels, with ``matrix`` (n, k, k) for errors."""
    n = pixels.n_cadences
    weight = used / fits.variance
    alone = (design[:, :n_free]**2 @ weight[:, :, np.newaxis])[:, :, 0]
    level = backgrounds.mean(axis=1) if len(backgrounds) else np.zeros(0)
    background = fits.amplitudes[:, n_free:] @ level
    spread = np.einsum('b,nbc,c->n', level, matrix[:, n_free:, n_free:], level)
    with np.errstate(divide='ignore'):
        alone_err = 1.0 / np.sqrt(alone)
    return SceneFit(reference, fits.amplitudes[:, :n_free], matrix[:, :n_free, :n_free],
                    background, np.sqrt(spread) if len(level) else np.zeros(n), *motion, fits.mean,
                    fits.variance, used, cosmic, changes, alone_err,
                    _shares(fits, design, known, n_free))


def _shares(fits, design, known, n_free):
    """Return the part (k, p) of the stars' mean light in each pixel that each of them has."""
    flux = np.nanmedian(fits.amplitudes[:, :n_free], axis=0)
    light = flux[:, np.newaxis] * design[:, :n_free].mean(axis=0)
    total = light.sum(axis=0) + known.mean(axis=0)
    return np.clip(light / np.where(total > 0, total, np.inf), 0.0, 1.0)
