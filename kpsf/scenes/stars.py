# Licensed under a 3-clause BSD style license - see LICENSE
"""The stars of a scene: from a table, from the mean image, or from Gaia."""

import warnings
from collections.abc import Mapping

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from astropy.utils.exceptions import AstropyUserWarning

from .._validation import require_finite
from ..guidance import locate_source
from ..models import EllipticalGaussianPSF
from ..tpf.pixels import median_image
from .pixels import as_target_pixels

__all__ = ['FAR_FROM_TARGET', 'find_stars', 'place_stars', 'query_gaia', 'typical_psf']

PLACES = (('x', 'y'), ('column', 'row'), ('ra', 'dec'))
UNITS = {**dict.fromkeys(('x', 'y', 'column', 'row'), u.pix), 'ra': u.deg, 'dec': u.deg,
         'flux': u.electron / u.s}
# Zero points (e-/s at magnitude 0 of G) that give starting values of fluxes; the data decide.
GAIA_FLUX = {'Kepler': 2.141e5 * 10**4.8, 'K2': 2.141e5 * 10**4.8, 'TESS': 1.5e4 * 10**4.0}
PIXEL_SCALE = {'Kepler': 3.98, 'K2': 3.98, 'TESS': 20.3}
# Headers know the position better than this; a star further off is another.
FAR_FROM_TARGET = 1.5
# Standard deviation in pixels of a Gaussian like the PSF, before it is fitted.
TYPICAL_STDDEV = {'Kepler': 0.65, 'K2': 0.65, 'TESS': 0.8}


def typical_psf(mission):
    """Return a round Gaussian as wide as the PSF of a mission is, at a flux of 1.

    Parameters
    ----------
    mission : {'Kepler', 'K2', 'TESS'}
    """
    stddev = TYPICAL_STDDEV[mission]
    return EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, stddev, stddev, 0.0)


def place_stars(stars, tpf):
    """Return names, x, y (stamp pixels of ``tpf``) and fluxes (NaN if unknown) of a table.

    Parameters
    ----------
    stars : `~astropy.table.Table`, mapping or `~astropy.coordinates.SkyCoord`
        See `Scene`.
    tpf : TargetPixels
        The first stamp.

    Raises
    ------
    TypeError
        If the stars are no table.
    ValueError
        If the table has no positions, the pixels no WCS that the sky needs,
        or a value is not finite.
    """
    table = _as_table(stars)
    if not len(table):
        raise ValueError('A scene needs at least one star, but the table is empty: add the '
                         'target.')
    x, y = _places(table, tpf)
    names = [str(name) for name in table['name']] if 'name' in table.colnames else [
        f'star {i}' for i in range(1, len(x) + 1)]
    if len(set(names)) < len(names):
        raise ValueError(f'The names of the stars of a scene must differ, but they are '
                         f'{", ".join(names)}: rename some.')
    _require_apart(names, x, y)
    flux = _numbers(table, 'flux') if 'flux' in table.colnames else np.full(len(x), np.nan)
    return names, x, y, flux


def _require_apart(names, x, y):
    """Raise if two stars are one."""
    close = np.hypot(np.subtract.outer(x, x), np.subtract.outer(y, y)) < 1e-3
    pairs = np.argwhere(np.triu(close, 1))
    if len(pairs):
        i, j = pairs[0]
        raise ValueError(f'The stars of a scene must be apart, but {names[i]} and {names[j]} are '
                         f'both at ({x[i]:.2f}, {y[i]:.2f}): leave one out.')


def _as_table(stars):
    """Return stars as a table."""
    if isinstance(stars, SkyCoord):
        stars = {'ra': np.atleast_1d(stars.icrs.ra.deg), 'dec': np.atleast_1d(stars.icrs.dec.deg)}
    if isinstance(stars, Table):
        return stars
    try:
        table = Table({name: np.atleast_1d(stars[name]) for name in stars}
                      if isinstance(stars, Mapping) else stars)
    except (TypeError, ValueError) as error:
        raise TypeError('The stars of a scene must be a table, but they are '
                        f'{type(stars).__name__}: pass a Table with the columns x and y, column '
                        'and row, or ra and dec.') from error
    return table


def _numbers(table, name):
    """Return a column as plain numbers (n,) in pixels, degrees or e-/s."""
    values, unit = table[name], table[name].unit
    try:
        numbers = np.ma.filled(np.ma.asarray(getattr(values, 'value', values)).astype(float),
                               np.nan)
    except (TypeError, ValueError) as error:
        raise TypeError(f'The column {name} of stars must be numbers, but it is {values.dtype}: '
                        'convert it, strings like 19:22:40 with SkyCoord.') from error
    if unit in (None, u.dimensionless_unscaled) or isinstance(unit, u.UnrecognizedUnit):
        return numbers
    try:
        return (numbers * unit).to_value(UNITS[name])
    except u.UnitConversionError as error:
        raise ValueError(f'The column {name} of stars must be in {UNITS[name]}, but it is in '
                         f'{unit}: convert it, or leave its unit out.') from error


def _places(table, tpf):
    """Return x and y in stamp pixels."""
    found = next((pair for pair in PLACES if set(pair) <= set(table.colnames)), None)
    if found is None:
        raise ValueError('The table of stars must have the columns x and y (stamp pixels), column '
                         'and row (detector) or ra and dec (degrees), but it has '
                         f'{", ".join(table.colnames)}: rename or add them.')
    first, second = (_numbers(table, name) for name in found)
    for name, values in zip(found, (first, second)):
        require_finite(values, f'The column {name} of stars', 'leave these stars out')
    if found == ('x', 'y'):
        return first, second
    if found == ('column', 'row'):
        return first - tpf.column, second - tpf.row
    if tpf.wcs is None:
        raise ValueError(f'Stars by ra and dec need a WCS, but the file of {tpf.target} has none: '
                         'pass their x and y, or column and row.')
    places = _from_sky(tpf, first, second)
    require_finite(np.stack(places), 'Places of stars in the stamp',
                   'leave out stars that are elsewhere in the sky')
    return places


def _from_sky(tpf, ra, dec):
    """Return x and y in stamp pixels, at the median of the motion, of places in degrees."""
    places = tpf.wcs.all_world2pix(ra, dec, 0)
    return tuple(place + offset for place, offset in zip(places, tpf.median_motion))


def _target_first(tpf, x, y, order):
    """Return an order in which the star at the target is first, and whether there is one."""
    target = [np.median(place) for place in tpf.expected_positions()]
    distance = np.hypot(x - target[0], y - target[1])
    near = [i for i in order if distance[i] <= FAR_FROM_TARGET]
    if not near:
        return list(order), False
    return [near[0], *(i for i in order if i != near[0])], True


def find_stars(tpf, psf=None, *, threshold=10.0, n=None):
    """Find the stars in the mean image of target pixels.

    Sources are looked for, added to what is expected, and looked for again
    in the rest, by `~kpsf.locate_source`.

    Parameters
    ----------
    tpf : TargetPixels, str, path-like or what else `read_tpf` reads
        The pixels.
    psf : `~astropy.modeling.Model`, optional
        The PSF; by default a Gaussian of the width that the mission has.
    threshold : float, optional
        Least significance in standard deviations of one typical cadence.
    n : int, optional
        Largest number of stars; by default all.

    Returns
    -------
    `~astropy.table.QTable`
        ``name``, ``x``, ``y`` (stamp pixels), ``flux`` (e-/s),
        ``significance``; by brightness, the brightest within 1.5 pixels of
        the target first, if there is one.

    Raises
    ------
    TypeError
        If ``tpf`` is nothing that `read_tpf` reads.
    ValueError
        If no star is found, or a file is no target pixel file.
    OSError
        If a file cannot be opened.

    Examples
    --------
    >>> from kpsf import simulate_tpf
    >>> from kpsf.scenes import find_stars
    >>> path = simulate_tpf('two.fits', stars=[(2e5, 5.0, 5.0), (2e4, 2.0, 7.0)], seed=1)
    >>> stars = find_stars(path)
    >>> print([f'({star["x"]:.1f}, {star["y"]:.1f})' for star in stars])
    ['(5.0, 5.0)', '(2.0, 7.0)']
    """
    tpf, = as_target_pixels(tpf)
    psf = typical_psf(tpf.mission) if psf is None else psf
    image, background = _typical_image(tpf)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', AstropyUserWarning)
        found = locate_source(image, psf, n=n, threshold=threshold, background=background,
                              read_variance=tpf.read_variance)
    if not len(found):
        raise ValueError(f'A scene needs stars, but none above {threshold:g} sigma is in the mean '
                         f'image of {tpf.target}: lower the threshold, or pass a table.')
    order = np.argsort(-np.asarray(found['flux']), kind='stable')
    order, has_target = _target_first(tpf, found['x'], found['y'], order)
    found, names = found[order], [f'star {i}' for i in range(1, len(found) + 1)]
    if has_target:
        names[0] = 'target'
    # With room for the names that a user knows better.
    return QTable({'name': np.array(names, dtype='U32'),
                   'x': np.asarray(found['x']), 'y': np.asarray(found['y']),
                   'flux': tpf.noise.to_rate(np.asarray(found['flux'])),
                   'significance': np.asarray(found['significance'])})


def _typical_image(tpf):
    """Return the median image in electrons, NaN where nothing is, and the known background."""
    image = median_image(tpf.electrons, tpf.good_pixels)
    if not tpf.has_background:
        return image, None
    return image, np.nan_to_num(median_image(tpf.background_electrons, tpf.good_pixels))


def query_gaia(tpf, *, magnitude_limit=20.0, radius=None):
    """Ask Gaia for the stars around a target; needs ``astroquery`` and a network.

    Parameters
    ----------
    tpf : TargetPixels, str, path-like or what else `read_tpf` reads
        The pixels, which tell place and time.
    magnitude_limit : float, optional
        Faintest G magnitude.
    radius : `~astropy.units.Quantity`, optional
        Of the search; by default the stamp and two pixels around it.

    Returns
    -------
    `~astropy.table.QTable`
        ``name``, ``ra``, ``dec`` (degrees, at the time of the observation),
        ``flux`` (e-/s, from G), ``magnitude``; in the order of `find_stars`.
        A table for `Scene`.

    Raises
    ------
    ImportError
        If astroquery is not installed.
    ConnectionError
        If Gaia cannot be reached: pass a table of your own instead.
    TypeError
        If ``tpf`` is nothing that `read_tpf` reads.
    ValueError
        If the file has no WCS, or there is no star.
    OSError
        If a file cannot be opened.
    """
    tpf, = as_target_pixels(tpf)
    if tpf.wcs is None:
        raise ValueError(f'A query of Gaia needs a WCS, but the file of {tpf.target} has none: '
                         'pass a table of stars.')
    try:
        from astroquery.gaia import GaiaClass
    except ImportError as error:
        raise ImportError('query_gaia needs astroquery, which is not installed: pip install '
                          'astroquery, or pass a table of stars with ra and dec.') from error
    ny, nx = tpf.shape
    if radius is None:
        radius = (0.5 * np.hypot(nx, ny) + 2.0) * PIXEL_SCALE[tpf.mission] * u.arcsec
    centre = tpf.wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2)
    try:
        gaia = GaiaClass(show_server_messages=False)
        # The default is the 50 nearest, bright or faint.
        gaia.ROW_LIMIT = -1
        found = gaia.cone_search_async(centre, radius=radius).get_results()
    except Exception as error:
        raise ConnectionError(
            f"query_gaia needs Gaia's archive, but it cannot be reached ({error}): pass a table "
            'of stars with ra and dec, or x and y, or use find_stars.') from error
    return _from_gaia(found, tpf, magnitude_limit)


def _from_gaia(found, tpf, magnitude_limit):
    """Return a table of stars of a table of Gaia's archive."""
    magnitude = np.ma.filled(np.ma.asarray(found['phot_g_mean_mag'], dtype=float), np.inf)
    found, magnitude = found[magnitude <= magnitude_limit], magnitude[magnitude <= magnitude_limit]
    if not len(found):
        raise ValueError(f'A scene needs stars, but Gaia has none brighter than '
                         f'{magnitude_limit:g} here: raise magnitude_limit.')
    years = tpf.time.jyear.mean() - np.asarray(found['ref_epoch'], dtype=float)
    motion = [np.ma.filled(np.ma.asarray(found[name], dtype=float), 0.0) * years / 3.6e6
              for name in ('pmra', 'pmdec')]
    dec = np.asarray(found['dec'], dtype=float) + motion[1]
    ra = np.asarray(found['ra'], dtype=float) + motion[0] / np.cos(np.radians(dec))
    order = np.argsort(magnitude, kind='stable')
    order, _ = _target_first(tpf, *_from_sky(tpf, ra, dec), order)
    key = 'source_id' if 'source_id' in found.colnames else 'SOURCE_ID'
    return QTable({'name': [f'Gaia {found[key][i]}' for i in order], 'ra': ra[order],
                   'dec': dec[order],
                   'flux': GAIA_FLUX[tpf.mission] * 10**(-0.4 * magnitude[order]),
                   'magnitude': magnitude[order]})
