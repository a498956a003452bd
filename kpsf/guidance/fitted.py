# Licensed under a 3-clause BSD style license - see LICENSE
"""One fit in the form that its diagnosis needs, wherever it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from astropy.modeling import Model
from astropy.table import Row, Table

from .._validation import as_float_array, require_finite, require_number
from ..models import position_names
from ..stamps import StampFits
from ..stamps.boxes import Boxes
from .arguments import read_counts
from .empty import empty_pixels
from .information import Star
from .sky import estimate_sky
from .told import Told
from .words import pixels

__all__ = ['JUDGED', 'Fitted', 'read_fit']

# Side of the box in which a star is judged, in units of the FWHM.
JUDGED = 5.0
# Half width of what of a large image is looked at, in the same.
SURROUNDINGS = 15.0


@dataclass(frozen=True)
class Fitted:
    """One fit of one star, and the pixels that it saw.

    Attributes
    ----------
    counts : ndarray, shape (ny, nx)
        Electrons, 0 where not used.
    used : ndarray of bool, shape (ny, nx)
        Pixels in the fit.
    star : Star
    x, y, flux : float
        Position in the image and total flux.
    background : ndarray, shape (ny, nx)
        Electrons per pixel beside the star.
    background_known : bool
        Whether it was known, or fitted.
    companions : ndarray, shape (ny, nx)
        Electrons of the stars that were fitted jointly with this one, which the background holds.
    read_variance : float
    is_stamp : bool
        Whether all used pixels were fitted, and the fit converged if it says so.
    shape : (ny, nx) or None
        Box around the star that was fitted, where it is known.
    first : (int, int)
        x and y in the user's image of the first pixel.
    start : (float, float) or None
        Where the fit began in the user's image, the middle of its box, where a row says it.
    flux_err : float
        Standard error of the total flux, NaN where it is not known.
    """

    counts: np.ndarray
    used: np.ndarray
    star: Star
    x: float
    y: float
    flux: float
    background: np.ndarray
    background_known: bool
    companions: np.ndarray
    read_variance: float
    is_stamp: bool = False
    shape: tuple | None = None
    first: tuple = (0, 0)
    start: tuple | None = None
    flux_err: float = np.nan

    @property
    def place(self):
        """Return x and y in the user's image."""
        return self.x + self.first[0], self.y + self.first[1]

    def words(self, x, y):
        """Return a place in the user's image in words."""
        return pixels(x + self.first[0], y + self.first[1])

    def cut(self, reach=SURROUNDINGS):
        """Return the surroundings of the star, so many FWHM on all sides."""
        ny, nx = self.counts.shape
        half = int(np.ceil(reach * self.star.fwhm))
        x, y = (int(np.clip(round(place), 0, size - 1)) for place, size in (
            (self.x, nx), (self.y, ny)))
        columns = slice(max(x - half, 0), min(x + half + 1, nx))
        lines = slice(max(y - half, 0), min(y + half + 1, ny))
        part = (lines, columns)
        return replace(self, counts=self.counts[part], used=self.used[part],
                       background=self.background[part], companions=self.companions[part],
                       x=self.x - columns.start, y=self.y - lines.start,
                       first=(self.first[0] + columns.start, self.first[1] + lines.start))

    @cached_property
    def grid(self):
        """Return x and y of the pixels, (ny, nx) each."""
        return _grid(self.counts.shape)

    @cached_property
    def image(self):
        """Return the share of the flux in each pixel, (ny, nx)."""
        return self.star.image(*self.grid, self.x, self.y)

    @cached_property
    def mean(self):
        """Return the expected electrons, (ny, nx)."""
        return np.maximum(self.flux * self.image + self.background, 0.0)

    @cached_property
    def variance(self):
        """Return the expected variance, (ny, nx), positive."""
        least = 1.0 / max(np.count_nonzero(self.used), 1)
        return np.maximum(self.mean, least) + self.read_variance

    @cached_property
    def empty(self):
        """Return the `EmptyPixels` of all used ones, None if there are too few."""
        return empty_pixels(self, self.used)

    @cached_property
    def seen(self):
        """Return which pixels the fit of the star saw, as far as that is known, (ny, nx)."""
        if self.is_stamp:
            return self.used
        if self.shape is None:
            return self.box(JUDGED)
        middle = (self.x, self.y) if self.start is None else np.subtract(self.start, self.first)
        box = Boxes.around(*(np.array([place]) for place in middle), self.shape,
                           self.counts.shape)
        columns, lines = (place.reshape(self.shape) for place in box.places())
        x, y = self.grid
        seen = self.used & (x >= columns.min()) & (x <= columns.max()) & (
            y >= lines.min()) & (y <= lines.max())
        # A start that is not in these data is of others.
        return seen if seen.any() or self.start is None else replace(self, start=None).seen

    def box(self, size):
        """Return which used pixels are in a box of so many FWHM around the star, (ny, nx)."""
        x, y = self.grid
        half = max(0.5 * size * self.star.fwhm, 1.5)
        return self.used & (np.abs(x - self.x) <= half) & (np.abs(y - self.y) <= half)


def read_fit(data, fit, psf, background, mask, read_variance, index, oversampling, shape):
    """Return the `Fitted` that the arguments of `diagnose` describe.

    Raises
    ------
    TypeError
        If the fit is of a kind that is not known.
    ValueError
        If it lacks something, is not finite, or the data do not match.
    """
    if isinstance(fit, StampFits):
        if not (psf is None and background is None and mask is None and shape is None):
            raise ValueError('StampFits know their PSF, background, mask and pixels, but one of '
                             'them is given as well: leave it out.')
        return _from_stamps(data, fit, index)
    given_noise, read_variance, told = read_variance, read_variance or 0.0, None
    if isinstance(fit, (Row, Mapping, Table)):
        row = _row_of(fit, index) if isinstance(fit, Table) else fit
        told = Told.by(row)
        shape = told.shape if shape is None else shape
        data, background, read_variance = told.electrons(data, background, given_noise)
    counts, used, known = read_counts(data, mask, background, read_variance)
    fitted, companions = None, np.zeros(counts.shape)
    if isinstance(fit, Model):
        star = Star(fit, place=_place_of(fit))
        values = {name: float(np.ravel(getattr(fit, own).value)[0]) for name, own in (
            ('x', star.unit.x), ('y', star.unit.y), ('flux', star.unit.scale))}
        values['flux_err'] = _error_of(fit, star.unit.scale)
    elif told is not None:
        values, fitted = _from_row(row, told.gain)
        if psf is None:
            raise ValueError('A row of results needs the PSF it was fitted with, but there is '
                             'none: pass it as psf=.')
        star = Star(psf, oversampling, place=(values['x'], values['y']))
        companions = _light_of_companions(row, star, psf, oversampling, counts.shape, told.gain)
    else:
        raise TypeError('A fit must be a fitted model, StampFits, or a row of a table with x_fit, '
                        f'y_fit and flux_fit, but it is {type(fit).__name__}: pass one.')
    level = fitted if known is None else known
    if level is None:
        rest = counts - companions - values['flux'] * star.integral * star.image(
            *_grid(counts.shape), values['x'], values['y'])
        level = estimate_sky(np.where(used, rest, 0.0), ~used, star.fwhm, read_variance).level
    numbers = np.array([values[name] for name in ('x', 'y', 'flux')], dtype=float)
    require_finite(numbers, 'Position and flux of a fit', 'pass one that was fitted')
    x, y, flux = numbers.tolist()
    return Fitted(counts, used, star, x, y, flux * star.integral, level + companions,
                  known is not None, companions, float(read_variance), shape=shape,
                  start=None if told is None else told.start,
                  flux_err=values['flux_err'] * star.integral)


def _grid(shape):
    """Return x and y of the pixels, (ny, nx) each."""
    return np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))


def _error_of(model, name):
    """Return the standard error of a fitted model's parameter, NaN where it has none."""
    covariance = getattr(model, 'cov_matrix', None)
    if covariance is None or name not in covariance.param_names:
        return np.nan
    return float(np.sqrt(max(covariance[name, name], 0.0)))


def _place_of(model):
    """Return where on the detector a fitted model is, None if it does not say."""
    names = position_names(model)
    if None in names:
        return None
    place = tuple(float(np.ravel(getattr(model, name).value)[0]) for name in names)
    return place if np.isfinite(place).all() else None


def _row_of(table, index):
    """Return a row of a table; raise if there is none."""
    index = int(require_number(index, 'index', 'pass the number of the row'))
    if index >= len(table):
        raise ValueError(f'index must be below the number of rows, {len(table)}, but it is '
                         f'{index}: pass another.')
    return table[index]


def _names_of(row):
    """Return the names of the columns of a row."""
    return row.colnames if isinstance(row, Row) else list(row)


def _plain(row, name):
    """Return a value of a row without its unit, NaN where it is masked or missing."""
    if name not in _names_of(row):
        return np.nan
    value = getattr(row[name], 'value', row[name])
    if np.ma.is_masked(value):
        return np.nan
    return float(as_float_array(value, f'{name} of a fit'))


def _from_row(row, gain):
    """Return position and flux of a row of results, and its background, None if not fitted."""
    names = _names_of(row)
    missing = [name for name in ('x_fit', 'y_fit', 'flux_fit') if name not in names]
    if missing:
        raise ValueError(f'A row of results needs x_fit, y_fit and flux_fit, but it has '
                         f'{", ".join(names)}: rename the columns.')
    values = {name: _plain(row, f'{name}_fit') for name in ('x', 'y', 'flux')}
    values['flux_err'] = gain * _plain(row, 'flux_err')
    values['flux'] *= gain
    level = _plain(row, 'background_fit') + np.nan_to_num(_plain(row, 'local_bkg'))
    return values, gain * level if np.isfinite(level) else None


def _light_of_companions(row, star, psf, oversampling, shape, gain):
    """Return electrons (ny, nx) of the other stars of a row's table in the group of the row."""
    light = np.zeros(shape)
    if not isinstance(row, Row) or 'group_id' not in row.colnames:
        return light
    for index in np.flatnonzero(row.table['group_id'] == row['group_id']):
        values, _ = _from_row(row.table[index], gain)
        place = values['x'], values['y']
        if index == row.index or not np.isfinite([*place, values['flux']]).all():
            continue
        own = Star(psf, oversampling, place=place) if star.unit.is_grid else star
        light += values['flux'] * own.integral * own.image(*_grid(shape), *place)
    return light


def _from_stamps(data, fits, index):
    """Return one of many fits; its pixels and background are those that were fitted."""
    index = int(require_number(index, 'index', 'pass the number of the stamp'))
    if index >= len(fits):
        raise ValueError(f'index must be below the number of stamps, {len(fits)}, but it is '
                         f'{index}: pass another.')
    if not np.isfinite(fits.params[index]).all():
        raise ValueError(f'A fit with finite parameters is needed, but that of stamp {index} has '
                         'none: it had too few pixels.')
    problem = fits._problem
    if np.shape(data)[-2:] != problem.shape:
        raise ValueError(f'data must be the stamp of {problem.shape} pixels that was fitted, but '
                         f'its shape is {np.shape(data)}: pass it.')
    model = problem.model.copy()
    for name, value in zip(fits.param_names, fits.params[index]):
        if name in model.param_names:
            setattr(model, name, value)
    place = None
    if problem.origin is not None:
        place = problem.origin[index] + np.array(problem.shape[::-1]) // 2
    star = Star(model, place=place)
    counts, weights = problem.pixels(np.array([index]))
    shift = np.broadcast_to(problem.read_variance, (len(fits), counts.shape[1]))[index]
    used = np.ones(counts.shape[1], bool) if weights is None else weights[0] > 0
    x, y, scale = (float(getattr(model, name).value)
                   for name in (star.unit.x, star.unit.y, star.unit.scale))
    error = float(fits.errors[index, fits.param_names.index(star.unit.scale)])
    whole = fits.model_images(index)
    flux = scale * star.integral
    background = whole - flux * star.image(*_grid(problem.shape), x, y)
    return Fitted(np.where(used, counts[0] - shift, 0.0).reshape(problem.shape),
                  used.reshape(problem.shape), star, x, y, flux, np.maximum(background, 0.0),
                  'background' not in fits.param_names, np.zeros(problem.shape),
                  float(np.median(shift)), is_stamp=True, flux_err=star.integral * error)
