# Licensed under a 3-clause BSD style license - see LICENSE
"""The stars that a command fits: from a table, or found in the image."""

import warnings
from functools import partial

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io.registry import IORegistryError
from astropy.table import Table
from astropy.units import UnitConversionError
from astropy.utils.exceptions import AstropyUserWarning
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from ..guidance import locate_source
from ..photometry.sources import LARGE_GROUP, POSITION_COLUMNS

__all__ = ['SEPARATIONS', 'find_stars', 'group_stars', 'read_stars']

OTHERS = ('id', 'group_id', 'local_bkg', 'flux_init')
# In units of the FWHM, from that at which a neighbour has no light in a star's box to that at
# which two stars are hardly told apart.
SEPARATIONS = (4.0, 3.0, 2.0, 1.5)


def read_stars(path, wcs, unit):
    """Read a table of stars.

    Parameters
    ----------
    path : Path
        Anything that astropy reads.
    wcs : `~astropy.wcs.WCS` or None
        Of the image, for a table without positions in pixels.
    unit : `~astropy.units.UnitBase` or None
        Of the image, for starting fluxes.

    Returns
    -------
    `~astropy.table.Table`
        Columns ``x`` and ``y``, and ``id``, ``group_id``, ``local_bkg`` and
        ``flux_init`` if they are there.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or has no stars or positions.
    """
    table = _read_table(path)
    if not len(table):
        raise ValueError(f'A table of at least one star is needed, but {path} has no rows: pass '
                         'another, or find stars with --threshold.')
    names = [name.lower() for name in table.colnames]
    if len(set(names)) == len(names):
        table.rename_columns(table.colnames, names)
    stars = _positions(table, path, wcs)
    for name in OTHERS:
        if name in table.colnames:
            stars[name] = table[name]
    for name in {'flux_init', 'local_bkg'} & set(stars.colnames):
        stars[name] = _in_unit(stars[name], unit, path)
    return stars


def find_stars(data, mask, subtracted, psf, threshold, electrons, near=None):
    """Find stars above the local background, see `~kpsf.guidance.locate_source`.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
    mask : ndarray of bool, shape (ny, nx)
    subtracted : float, ndarray of shape (ny, nx), or None
        Background that is no longer in the data; None if it is.
    psf : `~astropy.modeling.Model`
    threshold : float
        In standard deviations of the noise.
    electrons : Electrons
    near : (float, float), optional
        The star that is found nearest to this place comes first.

    Returns
    -------
    `~astropy.table.Table`
        Columns ``x`` and ``y``.

    Raises
    ------
    ValueError
        If there are none, or none near the place.
    """
    known = None if subtracted is None else electrons.gain * np.where(mask, 0.0, subtracted)
    counts = electrons.gain * np.where(mask, 0.0, data) + (0.0 if known is None else known)
    find = partial(locate_source, counts, psf, background=known, mask=mask, threshold=threshold,
                   read_variance=electrons.read_noise**2)
    if near is not None:
        first = find(near=near, n=1)
        _require_near(first, near, threshold)
        return _with_others(first, find(n=None))
    found = find(n=None)
    if not len(found):
        raise ValueError(f'No star is {threshold:g} standard deviations above the background: '
                         'lower --threshold, or check the FWHM of --psf.')
    return Table(found['x', 'y'])


def _require_near(found, near, threshold):
    """Raise unless a star was found near a place."""
    if len(found):
        return
    within, (x, y) = found.meta.get('within'), near
    reach = '' if within is None else f' within {within:.3g} pixels'
    nearest = found.meta.get('nearest')
    rest = '' if nearest is None else (
        f' (the nearest is {nearest[2]:.1f} pixels away, at {nearest[0]:.1f} {nearest[1]:.1f})')
    raise ValueError(f'No star{reach} of --near {x:g} {y:g} is {threshold:g} standard deviations '
                     f'above the background{rest}: correct the place, lower --threshold, or have '
                     'the place itself measured by --init with --centroid-prior.')


def _with_others(first, found):
    """Return x and y of a star, and then of all others that were found."""
    away = np.hypot(found['x'] - first['x'], found['y'] - first['y'])
    # Found once more, it is at about the same place.
    other = away > 0.5 * first.meta['fwhm']
    return Table({axis: np.append(first[axis], found[axis][other]) for axis in 'xy'})


def group_stars(stars, fwhm, separation=None):
    """Find the groups of stars that are to be fitted jointly.

    Without a separation it is so large that stars in each other's boxes are
    together, but smaller where large groups would come of it.

    Parameters
    ----------
    stars : `~astropy.table.Table`
        Columns ``x`` and ``y``.
    fwhm : float
        Of the PSF, in pixels.
    separation : float, optional
        In pixels; 0 for no groups.

    Returns
    -------
    groups : ndarray of int, shape (n,)
        Numbers from 1.
    separation : float
        The one that was taken.
    """
    tried = [fwhm * factor for factor in SEPARATIONS] if separation is None else [separation]
    for distance in tried:
        groups = _connect(np.column_stack([stars['x'], stars['y']]), distance)
        if np.bincount(groups).max() <= LARGE_GROUP:
            break
    return groups, distance


def _connect(places, separation):
    """Return the groups (n,) of places (n, 2), each nearer to another than the separation.

    What photutils' SourceGrouper does needs memory with the square of n.
    """
    known = np.flatnonzero(np.isfinite(places).all(axis=1))
    links = np.zeros((0, 2), dtype=int)
    if separation > 0 and len(known):
        links = KDTree(places[known]).query_pairs(separation, output_type='ndarray')
    matrix = coo_array((np.ones(len(links)), known[links].T), shape=(len(places), len(places)))
    return connected_components(matrix, directed=False)[1] + 1


def _read_table(path):
    """Return a table of any format."""
    if not path.is_file():
        found = f'{path} is a folder' if path.is_dir() else f'there is no file {path}'
        raise FileNotFoundError(f'A table of stars is needed, but {found}: check the name.')
    with warnings.catch_warnings():
        # Of units that nobody asks for, and of the first of several tables.
        warnings.simplefilter('ignore', AstropyUserWarning)
        try:
            try:
                return Table(Table.read(path))
            except IORegistryError:
                return Table(Table.read(path, format='ascii'))
        # The readers raise whatever a file makes them trip over.
        except Exception as error:
            said = (str(error).splitlines() or [''])[0]
            raise ValueError(f'A table of stars is needed, but {path} cannot be read ({said}): '
                             'pass ECSV, FITS or CSV.') from error


def _positions(table, path, wcs):
    """Return a table of x and y in pixels, NaN where masked."""
    for names in ([name.format(axis) for axis in 'xy'] for name in POSITION_COLUMNS):
        if set(names) <= set(table.colnames):
            return Table({axis: _floats(table[name], path, 'pixels')
                          for axis, name in zip('xy', names)})
    if not {'ra', 'dec'} <= set(table.colnames):
        raise ValueError('A table of stars needs the columns x and y, or ra and dec, but '
                         f'{path} has {", ".join(table.colnames)}: rename them.')
    if wcs is None:
        raise ValueError(f'{path} has ra and dec, but the image has no celestial coordinates: '
                         'pass x and y in pixels.')
    angles = [_floats(table[name], path, 'degrees') for name in ('ra', 'dec')]
    return Table(dict(zip('xy', wcs.world_to_pixel(SkyCoord(*angles, unit='deg', frame='icrs')))))


def _floats(column, path, wanted):
    """Return a column in pixels or degrees as plain numbers, NaN where masked."""
    try:
        factor = 1.0 if column.unit is None or wanted == 'pixels' else column.unit.to('deg')
        return factor * np.ma.filled(np.ma.masked_array(column, dtype=float), np.nan)
    except (TypeError, ValueError):
        found = f'in {column.unit}: convert it' if column.dtype.kind in 'biuf' else (
            f'not all numbers, as {_first_word(column)!r}: correct the table')
        raise ValueError(f'Column {column.name} must be in {wanted}, but in {path} it is '
                         f'{found}.') from None


def _first_word(column):
    """Return the first entry of a column that is no number."""
    for value in np.ma.compressed(np.ma.asarray(column)):
        try:
            float(value)
        except (TypeError, ValueError):
            return str(value)
    return column.dtype.name


def _in_unit(column, unit, path):
    """Return a column of fluxes as plain numbers in the unit of the image."""
    if column.unit is None or column.unit == unit:
        factor = 1.0
    else:
        try:
            factor = column.unit.to(unit)
        except (AttributeError, TypeError, UnitConversionError):
            raise ValueError(f'{column.name} must be in the unit of the image, {unit}, but in '
                             f'{path} it is in {column.unit}: convert it.') from None
    column = column * factor
    column.unit = None
    return column
