# Licensed under a 3-clause BSD style license - see LICENSE
"""Light curves of the stars of a scene."""

import warnings

import astropy.units as u
import numpy as np
from astropy.utils.exceptions import AstropyUserWarning

from .. import __version__
from .._kernels.goodness import cstat_z
from .._kernels.poisson import deviance
from .._validation import require_choice
from ..flags import FitFlag
from ..scenes import Scene
from ..scenes.fit import fit_scene
from ..scenes.noise import excess_noise, scatter, without_spikes
from ..scenes.pixels import as_target_pixels, gather_pixels
from ..scenes.prepare import fit_mean_image, stars_of
from ..scenes.roll import remove_roll
from .blends import SceneLightCurves
from .doubts import is_constant, warn_if_constant, warn_if_saturated
from .identity import identity_of
from .series import FLUX_UNIT, LightCurve
from .start import LEAST_FRACTION

__all__ = ['extract_scene', 'scene_of']

# A star whose error is this many times that of a lone star is not told from its neighbours.
NOT_SEPARABLE = 3.0


def scene_of(psf, scene, shape, background, position):
    """Return the `Scene` that the options of `extract_light_curve` ask for, None if none.

    Raises
    ------
    ValueError
        If options are not those of a scene.
    """
    is_empirical = isinstance(psf, str) and psf == 'empirical'
    if scene is None and not is_empirical:
        return None
    given = {'shape': (shape, 'shared'), 'position': (position, 'free')}
    if scene is not None:
        given |= {'background': (background, None)}
        if not is_empirical:
            given |= {'psf': (psf, 'gaussian')}
    for name, (value, default) in given.items():
        if not (isinstance(value, str | None) and value == default):
            raise ValueError(f"{name} must be left out with a scene or psf='empirical', which "
                             f'have their own, but it is {value!r}: see the options of Scene.')
    if scene is None:
        return Scene(background=background)
    return scene if isinstance(scene, Scene) else Scene(scene)


def extract_scene(tpfs, scene, covariance):
    """Return the `LightCurve` of a scene of one star, or the `SceneLightCurves` of several.

    Parameters
    ----------
    tpfs : one or a list of TargetPixels or of what `read_tpf` reads
    scene : Scene
    covariance : {'sandwich', 'fisher'}
    """
    require_choice(covariance, ('sandwich', 'fisher'), 'covariance of a scene')
    tpfs = as_target_pixels(tpfs)
    pixels = gather_pixels(tpfs)
    background = _background_of(scene, pixels)
    names, x, y, flux, n_free = stars_of(scene, tpfs)
    calm = without_spikes(pixels) if scene.cosmic_rays else pixels
    reference = fit_mean_image(calm, scene, x, y, flux, background)
    fit = fit_scene(pixels, calm, reference, n_free, background, scene, covariance)
    matrix = fit.covariance.copy()
    quality = _quality_of_fit(pixels, fit)
    curves = [_light_curve(pixels, fit, matrix[:, j, j], j, names, scene, background, covariance,
                           quality) for j in range(n_free)]
    warn_if_saturated(pixels.first)
    for j, curve in enumerate(curves):
        _warn_if_useless(pixels.first, names[j], curve)
        matrix[:, j, j] = curve['flux_err'].value**2
    if scene.stars is None:
        found = curves[0]
        found._fitted_cadences = found['cadenceno']
    else:
        found = SceneLightCurves(curves, matrix, names, meta={
            **identity_of(pixels.first), 'kpsf_version': __version__})
    found._scene_fit = fit, pixels
    return found


def _background_of(scene, pixels):
    """Return 'known', 'fit' or 'plane'."""
    if scene.background == 'known' and not pixels.has_background:
        raise ValueError("background='known' needs the column FLUX_BKG, but the file of "
                         f"{pixels.first.target} has none with values: pass background='fit'.")
    return scene.background or ('known' if pixels.has_background else 'fit')


def _light_curve(pixels, fit, variance, j, names, scene, background, covariance, quality):
    """Return the `LightCurve` of one star."""
    tpf, rows = pixels.first, pixels.rows[0]
    flux, order = fit.flux[:, j], 0
    if scene.roll or (scene.roll is None and tpf.mission == 'K2'):
        flux, order = remove_roll(flux, fit.shift, tpf.time[rows].jd)
    excess = excess_noise(flux, np.sqrt(variance))
    flux_err = np.sqrt(variance + (excess * flux)**2)
    x, y = (place[j] + fit.shift[:, axis]
            for axis, place in enumerate((fit.reference.x, fit.reference.y)))
    x_err, y_err = fit.shift_err.T
    n_pixels = fit.used.sum(axis=1)
    known = (pixels.background.sum(axis=1, where=fit.used) / np.maximum(n_pixels, 1)
             + fit.background)
    columns = {'flux': flux * FLUX_UNIT, 'flux_err': flux_err * FLUX_UNIT,
               'x': x * u.pix, 'y': y * u.pix, 'x_err': x_err * u.pix, 'y_err': y_err * u.pix,
               'column': (tpf.column + x) * u.pix, 'row': (tpf.row + y) * u.pix,
               'background': known * FLUX_UNIT, 'background_err': fit.background_err * FLUX_UNIT,
               **quality, 'n_pixels': n_pixels,
               'converged': np.isfinite(flux), 'cadenceno': tpf.cadenceno[rows],
               'quality': tpf.quality[rows], 'flags': _flags(pixels, fit, j, flux, x, y)}
    fraction = fit.reference.images[j].sum()
    columns['flux_fraction'] = np.full(len(flux), fraction)
    columns['flags'] |= np.where(fraction < LEAST_FRACTION, int(FitFlag.LITTLE_FLUX_INSIDE), 0)
    meta = {**identity_of(tpf), 'star': names[j], 'n_stars': len(fit.reference.x),
            'psf': _psf_label(scene), 'shape': 'learned' if scene.is_empirical else 'shared',
            'background': background, 'position': 'smoothed',
            'motion': scene.motion or ('both' if tpf.has_pos_corr else 'data'),
            'psf_residual': float(f'{fit.reference.share:.6g}'),
            'n_modes': len(fit.changes), 'roll_order': order, 'cosmic_rays': int(fit.cosmic.sum()),
            'noise_excess': float(f'{excess:.6g}'), 'covariance': covariance,
            'error_over_scatter': _ratio(flux, flux_err), 'kpsf_version': __version__}
    light_curve = LightCurve(columns, time=tpf.time[rows], meta=meta)
    light_curve._star_share = _in_stamp(tpf, pixels, fit.shares[j])
    return light_curve


def _in_stamp(tpf, pixels, values):
    """Return values of pixels (p,) as an image (ny, nx) of one stamp, 0 where there are none."""
    image = np.zeros(tpf.shape)
    ny, nx = tpf.shape
    inside = (pixels.x >= 0) & (pixels.x < nx) & (pixels.y >= 0) & (pixels.y < ny)
    image[pixels.y[inside].astype(int), pixels.x[inside].astype(int)] = values[inside]
    return image


def _ratio(flux, flux_err):
    """Return the median error over the scatter from one cadence to the next, NaN if unknown."""
    good = np.isfinite(flux) & np.isfinite(flux_err)
    if good.sum() < 3 or is_constant(flux[good]):
        return np.nan
    return float(f'{np.median(flux_err[good]) / scatter(flux[good]):.4g}')


def _psf_label(scene):
    """Return what the PSF is, in a word."""
    def word(psf):
        return psf if isinstance(psf, str) else type(psf).__name__
    return f'empirical ({word(scene.base)})' if scene.is_empirical else word(scene.psf)


def _quality_of_fit(pixels, fit):
    """Return the C-statistic of every cadence and its distance from what is expected."""
    scale = 1.0 / pixels.slope
    shift = pixels.floor * scale**2
    # A linear fit may be below zero, where counts are impossible: as for its weights, an electron.
    counts, mean = pixels.rate * scale + shift, np.maximum(fit.mean * scale, 1.0) + shift
    counts = np.where(fit.used, counts, mean)
    statistic = deviance(counts, mean).sum(axis=1)
    n_free = fit.flux.shape[1] + (fit.background_err.any() > 0)
    return {'cstat': statistic,
            'gof_z': cstat_z(np.maximum(counts, 0.0), mean, n_free, statistic=statistic,
                             used=fit.used, axis=1)}


def _flags(pixels, fit, j, flux, x, y):
    """Return the flags (n,) of a star."""
    good = np.isfinite(flux)
    lone = np.median(fit.alone_err[good, j]) if good.any() else np.nan
    own = np.sqrt(np.median(fit.covariance[good, j, j])) if good.any() else np.nan
    noticed = {
        FitFlag.NO_COVARIANCE: ~good,
        FitFlag.TOO_FEW_PIXELS: fit.used.sum(axis=1) < fit.flux.shape[1],
        FitFlag.FLUX_NOT_POSITIVE: flux <= 0,
        FitFlag.CENTROID_OUTSIDE: ~_is_inside(pixels.tpfs, x, y),
        FitFlag.COSMIC_RAY: fit.cosmic.any(axis=1),
        FitFlag.NOT_SEPARABLE: np.full(len(flux), own > NOT_SEPARABLE * lone),
    }
    flags = np.zeros(len(flux), dtype=np.int64)
    for flag, found in noticed.items():
        flags |= np.where(found, int(flag), 0)
    return flags


def _is_inside(tpfs, x, y):
    """Say which places, counted from the first pixel of the first stamp, are in one of them."""
    inside = np.zeros(len(x), dtype=bool)
    for tpf in tpfs:
        ny, nx = tpf.shape
        column, row = x + tpfs[0].column - tpf.column, y + tpfs[0].row - tpf.row
        inside |= (column > -0.5) & (column < nx - 0.5) & (row > -0.5) & (row < ny - 0.5)
    return inside


def _warn_if_useless(tpf, name, curve):
    """Warn of stars without a light curve, or one that is not their own or no measurement."""
    good = np.isfinite(curve['flux'].value)
    if not good.any():
        warnings.warn(f'A star needs pixels of its own, but of {name} in the scene of '
                      f'{tpf.target} no flux can be told: leave it out, or add stamps that show '
                      'it.', AstropyUserWarning)
    elif (curve['flags'][good] & FitFlag.NOT_SEPARABLE).any():
        warnings.warn(f'Stars should be separable, but the error of {name} in the scene of '
                      f'{tpf.target} is more than {NOT_SEPARABLE:g} times that of a lone star: '
                      'see its covariance with its neighbours, or fit them as one star.',
                      AstropyUserWarning)
    warn_if_constant(curve['flux'].value, name)
