# Licensed under a 3-clause BSD style license - see LICENSE
"""Stars that are fitted on their own: one batch of stamps."""

import numpy as np

from ..flags import FitFlag
from ..stamps import fit_stamps

__all__ = ['fit_isolated']

# Stamps that are compared with their models at a time.
_CHUNK = 1024


def fit_isolated(rows, image, sources, boxes, settings, found):
    """Fit the stars ``rows`` (n,) one by one, and put what was found into ``found``.

    Parameters
    ----------
    rows : ndarray of int, shape (n,)
    image : Image
    sources : Sources
    boxes : Boxes
        Of all stars.
    settings : Settings
    found : Found
    """
    if not len(rows):
        return
    boxes, names = boxes.take(rows), settings.names
    local_bkg = np.zeros(())
    if sources.local_bkg[rows].any():
        local_bkg = sources.local_bkg[rows, np.newaxis, np.newaxis]
    subtracted = image.subtracted
    if subtracted.ndim:
        subtracted = boxes.cut(subtracted, 0.0)
    counts = settings.electrons(boxes.cut(image.data, np.nan), subtracted)
    known = settings.known(subtracted, local_bkg, counts)
    origin = boxes.first.astype(float)
    place = {names.x: origin[:, 0], names.y: origin[:, 1]}
    background = ({'background': 'fit', 'known_background': known} if settings.fits_background
                  else {'background': known})
    fits = fit_stamps(
        counts, settings.model, **background, read_variance=settings.read_noise**2,
        origin=origin, n_threads=settings.n_threads, progress_bar=settings.progress_bar,
        **_knowledge(sources, rows, place, settings))
    found.put(rows, **_in_units_of_data(fits, place, settings),
              **_compare(fits, counts, boxes, image, settings))


def _knowledge(sources, rows, place, settings):
    """Return starting values, bounds and priors as `fit_stamps` takes them.

    What no column was found for is measured, and beside a fitted background the flux is in any
    case: together they are a linear fit, of which half would only be worse.
    """
    names, params = settings.names, sources.params
    measured = {*names.free} - sources.given
    if settings.fits_background and names.flux in names.free:
        measured.add(names.flux)
    lower, upper = settings.bounds(params[rows])
    priors = settings.priors(params)
    known = {'init': {}, 'bounds': {}, 'priors': {}}
    for j, name in enumerate(names.params):
        scale, shift = settings.scale_of(name), place.get(name, 0.0)
        if name not in measured:
            known['init'][name] = scale * (params[rows, j] - shift)
        if name not in names.free:
            # What is held may be anywhere.
            known['bounds'][name] = None, None
        elif np.isfinite(lower[:, j]).any() or np.isfinite(upper[:, j]).any():
            known['bounds'][name] = scale * (lower[:, j] - shift), scale * (upper[:, j] - shift)
        if name in priors:
            mean, stddev = priors[name]
            known['priors'][name] = scale * (mean[rows] - shift), scale * stddev
    return known


def _in_units_of_data(fits, place, settings):
    """Return parameters and errors of the fits as `Found` has them."""
    names, k = settings.names, len(settings.names.params)
    params, errors = fits.params[:, :k].copy(), fits.errors[:, :k].copy()
    for j, name in enumerate(names.params):
        params[:, j] = params[:, j] / settings.scale_of(name) + place.get(name, 0.0)
        errors[:, j] /= settings.scale_of(name)
        if name not in names.free:
            errors[:, j] = np.nan
    results = {'params': params, 'errors': errors, 'converged': fits.converged,
               'has_covariance': fits.flags & (FitFlag.NO_COVARIANCE
                                               | FitFlag.TOO_FEW_PIXELS) == 0,
               'at_bound': fits.flags & FitFlag.AT_BOUND > 0}
    if settings.fits_background:
        results['background'] = fits.params[:, k] / settings.gain
        results['background_err'] = fits.errors[:, k] / settings.gain
    return results


def _compare(fits, counts, boxes, image, settings):
    """Return how the fits compare with the counts (n, ny, nx), as `Found` has it."""
    n, middle = len(fits), counts[0].size // 2
    results = {name: np.full(n, np.nan) for name in
               ('abs_residual', 'centre_residual', 'chi2')}
    error = None if image.error is None else boxes.cut(image.error, np.nan).reshape(n, -1)
    for start in range(0, n, _CHUNK):
        part = slice(start, start + _CHUNK)
        own, mean = (images.reshape(-1, counts[0].size)
                     for images in (counts[part], fits.model_images(part)))
        used = np.isfinite(own)
        residual = own - mean if used.all() else np.where(used, own - mean, 0.0)
        residual /= settings.gain
        results['abs_residual'][part] = np.abs(residual).sum(axis=1)
        results['centre_residual'][part] = np.where(used[:, middle], residual[:, middle], np.nan)
        if error is not None:
            ratio = np.where(used, residual / error[part], 0.0)
            results['chi2'][part] = np.vecdot(ratio, ratio)
    return {'cstat': fits.deviance, 'gof_z': fits.gof_z, **results}
