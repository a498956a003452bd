# Licensed under a 3-clause BSD style license - see LICENSE
"""Which stars can be fitted, which on their own and which jointly."""

import warnings

import numpy as np
from astropy.utils.exceptions import AstropyUserWarning
from scipy.special import bdtrc, ndtr

from .._validation import require_finite
from .found import Found
from .groups import fit_groups
from .isolated import fit_isolated

__all__ = ['fit_sources']

# Pixels further below zero than so many standard deviations of the read noise are counted, and
# told of if they are so many times more than it can make, but for a chance of one in a million.
_DEEP, _FACTOR, _CHANCE = 2.0, 2.0, 1e-6


def fit_sources(image, sources, boxes, settings):
    """Fit all stars that can be, and return the `Found`."""
    counted = boxes.cut(~image.mask, False)
    n_pixels = np.where(boxes.overlaps, counted.sum(axis=(1, 2)), 0)
    place = [settings.names.params.index(name)
             for name in (settings.names.x, settings.names.y, settings.names.flux)]
    given = sources.params[:, place if settings.names.flux in sources.given else place[:2]]
    usable = boxes.overlaps & np.isfinite(given).all(axis=1) & (n_pixels > 0) & (
        n_pixels >= settings.n_free)
    _check_error(image, boxes.take(usable), counted[usable])
    _check_starts(sources, settings, usable)
    n_pixels = np.where(np.isfinite(given).all(axis=1), n_pixels, 0)
    found = Found.nothing(n_pixels, sources.params.shape[1])
    rows = np.flatnonzero(usable)
    _, member, size = np.unique(np.asarray(sources.table['group_id'])[rows], return_inverse=True,
                                return_counts=True)
    is_single = size[member] == 1
    fit_isolated(rows[is_single], image, sources, boxes, settings, found)
    fit_groups(rows[~is_single], image, sources, boxes, settings, found)
    # Pixels further below zero than that are an error of the fits.
    _warn_of_negative(image, boxes.take(usable), settings)
    return found


def _check_error(image, boxes, counted):
    """Raise unless errors are positive wherever pixels count."""
    if image.error is None:
        return
    own = boxes.cut(image.error, 1.0)
    with np.errstate(invalid='ignore'):
        bad = counted & ~(np.isfinite(own) & (own > 0))
    if bad.any():
        # Roots of counts are 0 in empty pixels, and without these the fit would be biased.
        raise ValueError(f'Errors must be finite and > 0, but {np.count_nonzero(bad)} of '
                         f'{bad.size} pixels around the stars are not: leave error= away, as no '
                         "flux depends on it (but for background='error'), or correct it; mask "
                         'pixels that are bad, but not empty ones, which count.')


def _check_starts(sources, settings, usable):
    """Raise unless starting values are finite, and bounds leave positions some room."""
    params, names = sources.params[usable], settings.names
    lower, upper = settings.bounds(params)
    for name, column in names.columns.items():
        j = names.params.index(name)
        require_finite(params[:, j] if name in sources.given else np.zeros(0),
                       f'{column} of the stars', 'leave the column out, or remove these stars')
        n_bad = np.count_nonzero(lower[:, j] >= upper[:, j])
        if n_bad and name in names.free:
            raise ValueError(f'Bounds must leave room for {name}, but {n_bad} of {len(params)} '
                             f'stars start too far from the {settings.model.bounds[name]} of the '
                             'model: widen its bounds, or remove these stars.')


def _warn_of_negative(image, boxes, settings):
    """Warn if more pixels around the stars are below zero than read noise explains.

    Whatever is expected of a pixel, as long as it is not negative, read
    noise alone takes it below so many of its standard deviations with a known
    probability at most. Where a background was subtracted, its photon noise
    does, too.
    """
    if not settings.read_noise:
        return
    data = image.data
    limit = -_DEEP * settings.read_noise
    with np.errstate(invalid='ignore'):
        is_whole = np.all((data == np.round(data)) | image.mask)
        # A whole number may have been rounded down by half a unit.
        rounding = 0.5 * settings.gain * is_whole
        deep = settings.gain * (data + image.subtracted) < limit - rounding
    if not deep.any():
        return
    near = boxes.union() & ~image.mask
    n_deep, n = np.count_nonzero(deep & near), np.count_nonzero(near)
    expected = ndtr(-_DEEP)
    if n_deep > _FACTOR * expected * n and bdtrc(n_deep - 1, n, expected) < _CHANCE:
        remedy = ('was a background subtracted? Pass it as background=, or the true read noise as '
                  'read_noise=')
        if image.subtracted.any():
            remedy = ('check that background= is what was subtracted, and pass the true read '
                      'noise as read_noise=')
        warnings.warn(f'{n_deep} of {n} pixels around the stars are below {limit:.3g} electrons, '
                      f'of which read noise of {settings.read_noise:.3g} explains no more than '
                      f'{np.ceil(expected * n):.0f}: {remedy}. Errors and fitted backgrounds are '
                      'wrong otherwise.', AstropyUserWarning)
