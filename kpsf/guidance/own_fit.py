# Licensed under a 3-clause BSD style license - see LICENSE
"""The fits that `advise` makes itself: of the star, or of the flux at a place without one."""

from dataclasses import dataclass

import numpy as np
from astropy.table import QTable

from ..stamps import fit_stamps
from ..stamps.boxes import Boxes
from .fit_box import suggest_fit_shape
from .image import STAR_REACH
from .information import Star
from .sky import estimate_sky

__all__ = ['OwnFit', 'fit_place', 'fit_star', 'light_of']


@dataclass(frozen=True)
class OwnFit:
    """A fit of one star.

    Attributes
    ----------
    rows : `~astropy.table.QTable`
        The star as a row of results, and others that were held, in one group.
    mean : ndarray, shape (ny, nx)
        What is expected of the image.
    flux, flux_err : float
        Total flux in electrons.
    fit_shape : (int, int)
    """

    rows: QTable
    mean: np.ndarray
    flux: float
    flux_err: float
    fit_shape: tuple


def light_of(star, sources, shape):
    """Return the expected electrons (ny, nx) of sources."""
    light, half = np.zeros(shape), int(np.ceil(STAR_REACH * star.fwhm))
    for row in sources:
        lines, columns = (slice(max(int(row[name]) - half, 0), max(int(row[name]) + half + 1, 0))
                          for name in 'yx')
        part = light[lines, columns]
        y, x = np.indices(part.shape)
        part += row['flux'] * star.image(x + columns.start, y + lines.start, row['x'], row['y'])
    return light


def fit_star(counts, used, known, model, source, shape, read_variance, held=()):
    """Return the `OwnFit` of a source in its box.

    Parameters
    ----------
    counts : ndarray, shape (ny, nx)
    used : ndarray of bool, shape (ny, nx)
    known : ndarray or None
        Background, where it is known.
    model : `~astropy.modeling.Model`
    source : mapping
        ``x``, ``y``, ``flux``, ``flux_err``, ``background``: the start, from which the position
        may move by a FWHM, as it would else walk off to a brighter star.
    shape : (int, int)
    read_variance : float
    held : sequence of mappings, optional
        Further sources, whose light is taken as it is.
    """
    star = Star(model, place=(source['x'], source['y']))
    unit, light = star.unit, light_of(star, held, counts.shape)
    fits, first = _fit_box(counts, used, known, model, star, source, shape, read_variance, light)
    values, errors = (dict(zip(fits.param_names, numbers[0]))
                      for numbers in (fits.params, fits.errors))
    place = {'x': values[unit.x] + first[0], 'y': values[unit.y] + first[1]}
    flux, error = (star.integral * numbers[unit.scale] for numbers in (values, errors))
    level = values.get('background', 0.0)
    if not np.isfinite(fits.params[0]).all():
        place = {name: source[name] for name in 'xy'}
        flux, error, level = source['flux'], source['flux_err'], source['background']
    rows = [{'group_id': 1, 'x_init': source['x'], 'y_init': source['y'], 'x_fit': place['x'],
             'y_fit': place['y'], 'flux_fit': flux / star.integral,
             'flux_err': error / star.integral}]
    rows += [{'group_id': 1, 'x_init': row['x'], 'y_init': row['y'], 'x_fit': row['x'],
              'y_fit': row['y'], 'flux_fit': row['flux'] / star.integral,
              'flux_err': row['flux_err'] / star.integral} for row in held]
    if known is None:
        rows = [row | {'background_fit': level} for row in rows]
    y, x = np.indices(counts.shape)
    mean = flux * star.image(x, y, place['x'], place['y']) + light + (
        level if known is None else known)
    table = QTable({name: np.array([row[name] for row in rows]) for name in rows[0]})
    return OwnFit(table, np.maximum(mean, 0.0), float(flux), float(error), shape)


def _fit_box(counts, used, known, model, star, source, shape, read_variance, light, *,
             position_known=False):
    """Return the `StampFits` of one star in its box, and x and y of the first pixel."""
    unit = star.unit
    boxes = Boxes.around(*(np.atleast_1d(float(source[axis])) for axis in 'xy'), shape,
                         counts.shape)
    first, light = boxes.first[0], boxes.cut(light, 0.0)
    background = ({'background': 'fit', 'known_background': light} if known is None else
                  {'background': light + boxes.cut(np.broadcast_to(known, counts.shape), 0.0)})
    start = {unit.x: source['x'] - first[0], unit.y: source['y'] - first[1]}
    reach = max(star.fwhm, 1.0)
    held = {'fixed': [*unit.shape_names, *start]} if position_known else {
        'fixed': unit.shape_names,
        'bounds': {name: (value - reach, value + reach) for name, value in start.items()}}
    return fit_stamps(boxes.cut(np.where(used, counts, np.nan), np.nan), model, **background,
                      read_variance=read_variance, init=start,
                      origin=boxes.first if unit.is_grid else None, **held), first


def fit_place(counts, used, known, model, place, sources, largest, read_variance):
    """Return the `OwnFit` of the flux of a star at a place, where none is significant.

    The light of the sources around it is taken as it was found. None if there are too few
    pixels.
    """
    star = Star(model, place=place)
    away = np.hypot(sources['x'] - place[0], sources['y'] - place[1])
    light = light_of(star, sources[away < largest + 2.0 * STAR_REACH * star.fwhm], counts.shape)
    sky = estimate_sky(np.where(used, counts - light, 0.0), ~used, star.fwhm, read_variance, known)
    x, y = (int(np.clip(round(value), 0, size - 1))
            for value, size in zip(place, counts.shape[::-1]))
    level = float(sky.level[y, x])
    try:
        # It is the noise of the sky that counts.
        shape = suggest_fit_shape(
            model, 1.0, level, read_variance=read_variance, background_known=known is not None,
            position_known=True, largest=largest, position=place, mask=~used).fit_shape
    except ValueError:
        return None
    source = {'x': place[0], 'y': place[1]}
    fits, _ = _fit_box(counts, used, known, model, star, source, shape, read_variance, light,
                       position_known=True)
    values, errors = (dict(zip(fits.param_names, numbers[0]))
                      for numbers in (fits.params, fits.errors))
    flux, error = (float(star.integral * numbers[star.unit.scale])
                   for numbers in (values, errors))
    if not np.isfinite([flux, error]).all():
        return None
    y, x = np.indices(counts.shape)
    mean = flux * star.image(x, y, *place) + light + (
        values['background'] if known is None else known)
    table = QTable({'x_fit': [place[0]], 'y_fit': [place[1]], 'flux_fit': [flux / star.integral],
                    'flux_err': [error / star.integral]})
    return OwnFit(table, np.maximum(mean, 0.0), flux, error, shape)
