# Licensed under a 3-clause BSD style license - see LICENSE
"""The stars of one call: from photutils' table of starting values, or from a finder."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from astropy.table import QTable, Table
from astropy.units import Quantity
from astropy.utils.exceptions import AstropyUserWarning

from .._validation import as_float_array
from ..guidance import locate_source
from ..models import position_names, total_flux_name

__all__ = ['LARGE_GROUP', 'POSITION_COLUMNS', 'ModelNames', 'Sources', 'ask_finder',
           'locate_stars', 'read_sources', 'with_aperture_fluxes']

# Names of columns that photutils takes for positions and fluxes, the first found first.
POSITION_COLUMNS = (
    '{0}_init', '{0}init', '{0}', '{0}_0', '{0}0', '{0}centroid', '{0}_centroid', '{0}_peak',
    '{0}cen', '{0}_cen', '{0}pos', '{0}_pos', '{0}_fit', '{0}fit')
_FLUX = ('flux_init', 'fluxinit', 'flux', 'flux_0', 'flux0', 'flux_fit', 'fluxfit', 'source_sum',
         'segment_flux', 'kron_flux')
_OTHER = ('{0}_init', '{0}', '{0}_fit')
# Stars in a group from which on photutils warns, too.
LARGE_GROUP = 25


@dataclass(frozen=True)
class ModelNames:
    """Parameters of a PSF model, and what tables call them.

    Attributes
    ----------
    params : tuple of str
        All parameters, in the order of the model.
    x, y, flux : str
        Those of position and flux.
    free : tuple of str
        Those that are fitted.
    """

    params: tuple
    x: str
    y: str
    flux: str
    free: tuple

    @classmethod
    def of(cls, model):
        """Return the names of a model; raise unless it has a position and a flux."""
        (x, y), flux = position_names(model), total_flux_name(model)
        if None in (x, y, flux):
            raise ValueError('A PSF model needs parameters x_0, y_0 and flux, or attributes '
                             'x_name, y_name and flux_name that say which they are, but the '
                             f'parameters are {", ".join(model.param_names)}: name them so, or '
                             'see photutils.psf.make_psf_model.')
        free = tuple(name for name in model.param_names if not model.fixed[name])
        return cls(tuple(model.param_names), x, y, flux, free)

    @property
    def columns(self):
        """Return what tables call position, flux and what else is fitted, by parameter."""
        others = {name: name for name in self.free if name not in (self.x, self.y, self.flux)}
        return {self.x: 'x', self.y: 'y', self.flux: 'flux'} | others


@dataclass(frozen=True)
class Sources:
    """The stars that are to be fitted.

    Attributes
    ----------
    table : `~astropy.table.QTable`
        Columns ``id``, ``group_id``, ``local_bkg``, ``x_init``, ``y_init``,
        ``flux_init`` and those of other fitted parameters, as photutils has
        them; ``flux_init`` is NaN where it was not given.
    params : ndarray, shape (n, k)
        Starting values of all parameters, in the order of the model.
    local_bkg : ndarray, shape (n,)
        Background that the data still contain, 0 where it is not finite.
    group_size : ndarray of int, shape (n,)
        Number of stars in each star's group.
    given : frozenset of str
        Parameters that a column was found for.
    """

    table: QTable
    params: np.ndarray
    local_bkg: np.ndarray
    group_size: np.ndarray
    given: frozenset

    def __len__(self):
        """Return the number of stars."""
        return len(self.table)


def read_sources(init_params, model, names, image, find, grouper):
    """Return the `Sources` of a call and what was found; None if there are none.

    ``find`` returns a table of the stars of the image, where there are no ``init_params``.

    Raises
    ------
    TypeError
        If ``init_params`` is no table, or ``group_id`` no integers.
    ValueError
        If positions are missing, or units differ.
    """
    found = None
    if init_params is None:
        found = find(image)
        if found is None:
            return None, None
        # Of what a finder says, photutils takes the positions alone.
        init_params = QTable({axis: _require_column(found, axis) for axis in 'xy'})
    if not isinstance(init_params, Table):
        raise TypeError('init_params must be an astropy Table, but it is '
                        f'{type(init_params).__name__}: pass QTable(...) of it.')
    params, given = _starting_values(init_params, model, names, image)
    local_bkg = np.zeros(len(init_params))
    if 'local_bkg' in init_params.colnames:
        local_bkg = _plain(init_params['local_bkg'], 'local_bkg', image)
    table = QTable()
    table['id'] = (init_params['id'] if 'id' in init_params.colnames
                   else np.arange(1, len(init_params) + 1))
    x, y = (params[:, names.params.index(name)] for name in (names.x, names.y))
    table['group_id'] = _group_ids(init_params, table['id'], x, y, grouper)
    table['local_bkg'] = image.with_unit(local_bkg)
    for name, column in names.columns.items():
        values = params[:, names.params.index(name)].copy()
        table[f'{column}_init'] = image.with_unit(values) if column == 'flux' else values
    sources = Sources(table, params, np.where(np.isfinite(local_bkg), local_bkg, 0.0),
                      _group_sizes(table['group_id']), given)
    return sources, found


def _starting_values(table, model, names, image):
    """Return all parameters (n, k), and which of them a column was found for.

    The rest are the model's; fluxes that are not known are NaN.
    """
    own = [float(np.ravel(getattr(model, name).value)[0]) for name in names.params]
    params, given = np.tile(own, (len(table), 1)), set()
    for name, column in names.columns.items():
        j = names.params.index(name)
        values = (_require_column if column in ('x', 'y') else _column)(table, column)
        if values is not None:
            params[:, j] = _plain(values, column, image)
            given.add(name)
        elif name == names.flux and name in names.free:
            params[:, j] = np.nan
    return params, frozenset(given)


def with_aperture_fluxes(sources, names, image, boxes, radius, contains_background):
    """Return the sources with fluxes from circular apertures.

    A background in the data is taken to be the median of the star's box.
    """
    from photutils.aperture import CircularAperture
    params, table = sources.params.copy(), sources.table.copy()
    x, y, flux = (names.params.index(name) for name in (names.x, names.y, names.flux))
    rows = np.flatnonzero(boxes.overlaps)
    if len(rows):
        data = np.where(image.mask, 0.0, image.data)
        apertures = CircularAperture(params[rows][:, [x, y]], r=radius)
        total = apertures.do_photometry(data, mask=image.mask)[0]
        level = sources.local_bkg[rows]
        if contains_background:
            own = boxes.take(rows).cut(image.data, np.nan).reshape(len(rows), -1)
            own = np.where(np.isfinite(own).any(axis=1, keepdims=True), own, 0.0)
            level = np.nanmedian(own, axis=1)
        area = apertures.do_photometry((~image.mask).astype(float))[0]
        params[rows, flux] = total - level * area
    table['flux_init'] = image.with_unit(params[:, flux])
    return replace(sources, params=params, table=table, given=sources.given | {names.flux})


def locate_stars(image, settings):
    """Return a table of all significant stars of an image, None if there are none.

    Parameters
    ----------
    image : Image
    settings : Settings
        What the photometry is set to.
    """
    counts = settings.electrons(np.where(image.mask, 0.0, image.data), image.subtracted)
    known = None if settings.fits_background else settings.gain * image.subtracted
    found = locate_source(counts, settings.model, mask=image.mask, background=known, n=None,
                          read_variance=settings.read_noise**2)
    return found if len(found) else None


def ask_finder(finder, image):
    """Return the table of the finder, None if it found nothing."""
    # The finders of photutils expect an image without holes.
    data = np.where(image.mask, 0.0, image.data)
    mask = image.mask if image.mask.any() else None
    found = finder(image.with_unit(data), mask=mask)
    return None if found is None or not len(found) else found


def _column(table, column):
    """Return the first of the columns that can stand for a parameter, None if there is none."""
    names = {'x': POSITION_COLUMNS, 'y': POSITION_COLUMNS, 'flux': _FLUX}.get(column, _OTHER)
    return next((table[name] for name in (name.format(column) for name in names)
                 if name in table.colnames), None)


def _require_column(table, axis):
    """Return the positions along an axis; raise if there are none."""
    values = _column(table, axis)
    if values is None:
        raise ValueError(f'The table of stars must have a column of {axis} positions, '
                         f'{axis}_init or {axis} for example, but it has '
                         f'{", ".join(table.colnames)}: rename one.')
    return values


def _plain(values, column, image):
    """Return a column as plain numbers, NaN where masked, fluxes in the unit of the data."""
    if column in ('flux', 'local_bkg'):
        values = image.without_unit(values, f'{column} of the stars')
    elif isinstance(values, Quantity):
        values = values.value
    if hasattr(values, 'filled') and values.dtype.kind in 'iuf':
        values = values.astype(float).filled(np.nan)
    if np.iscomplexobj(values) or np.ndim(values) != 1:
        raise ValueError(f'{column} of the stars must be one real number for each, but it is '
                         f'{values.dtype} of shape {np.shape(values)}: convert the column.')
    return as_float_array(values, f'{column} of the stars').copy()


def _group_ids(table, ids, x, y, grouper):
    """Return the group of each star, positive integers."""
    if 'group_id' in table.colnames:
        groups = np.asarray(table['group_id'])
    elif grouper is not None and len(x):
        groups = np.asarray(grouper(x, y))
    else:
        # photutils has the stars' numbers there.
        groups = np.asarray(ids)
        is_number = groups.dtype.kind in 'iu' and np.all(groups > 0)
        return groups if is_number and len(np.unique(groups)) == len(groups) else (
            np.arange(1, len(groups) + 1))
    if groups.shape != (len(x),):
        raise ValueError(f'group_id must be one integer for each of {len(x)} stars, but its shape '
                         f'is {groups.shape}: let the grouper return as many.')
    if groups.dtype.kind not in 'iu':
        raise TypeError(f'group_id must be integers, but they are {groups.dtype}: convert them.')
    if groups.size and groups.min() <= 0:
        raise ValueError(f'group_id must be > 0, but the lowest is {groups.min()}: count from 1.')
    return groups


def _group_sizes(groups):
    """Return the number of stars in each star's group, and warn of large ones."""
    _, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if sizes.max(initial=0) > LARGE_GROUP:
        warnings.warn(f'Some groups have more than {LARGE_GROUP} stars (the largest has '
                      f'{sizes.max()}): their joint fits take time and memory with the cube of '
                      'that number. A smaller separation in the grouper makes smaller groups.',
                      AstropyUserWarning)
    return sizes[place]
