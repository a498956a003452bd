# Licensed under a 3-clause BSD style license - see LICENSE
"""The stars that a command fits: from a table, or found in the image."""

import warnings

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io.registry import IORegistryError
from astropy.stats import SigmaClip
from astropy.table import Table
from astropy.units import UnitConversionError
from astropy.utils.exceptions import AstropyUserWarning
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from scipy.stats import norm, poisson

__all__ = ['LARGE_GROUP', 'SEPARATIONS', 'find_stars', 'group_stars', 'read_stars']

# What photutils calls positions, the first that is there first.
POSITIONS = ('{0}_init', '{0}init', '{0}', '{0}_0', '{0}0', '{0}centroid', '{0}_centroid',
             '{0}_peak', '{0}cen', '{0}_cen', '{0}pos', '{0}_pos', '{0}_fit', '{0}fit')
OTHERS = ('id', 'group_id', 'local_bkg', 'flux_init')
# In units of the FWHM, from that at which a neighbour has no light in a star's box to that at
# which two stars are hardly told apart.
SEPARATIONS = (4.0, 3.0, 2.0, 1.5)
# Stars in a group that is still fast.
LARGE_GROUP = 25
# In units of the FWHM: the boxes in which background and noise are measured.
BOX_SIZE = 10.0
# Less would clip single photons.
CLIP_SIGMA = 5.0
# photutils' upper limit of 1 loses stars whose brightest pixel owes itself to the noise. A single
# bright pixel is at 2 to 4, unless the PSF is hardly wider than that.
SHARPNESS = (0.2, 1.5)


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


def find_stars(data, mask, subtracted, fwhm, threshold, electrons):
    """Find stars above the local background.

    The image is divided by its noise first: by robust statistics or from the
    expected electrons, whichever is larger, and more where these are so few
    that their noise is skewed. Below one electron under the PSF the noise is
    that of one, so that single photons are no stars.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
    mask : ndarray of bool, shape (ny, nx)
    subtracted : float or ndarray, shape (ny, nx)
        Background that is no longer in the data.
    fwhm : float
        Of the PSF, in pixels.
    threshold : float
        In standard deviations of the noise.
    electrons : Electrons

    Returns
    -------
    `~astropy.table.Table`
        Columns ``x`` and ``y``.

    Raises
    ------
    ValueError
        If there are none.
    """
    from photutils.detection import DAOStarFinder
    from photutils.utils.exceptions import NoDetectionsWarning
    finder = DAOStarFinder(threshold=threshold, fwhm=fwhm, sharpness_range=SHARPNESS)
    image = _significance(data, mask, subtracted, fwhm, threshold, electrons)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NoDetectionsWarning)
        found = finder(image, mask=mask)
    if found is None or not len(found):
        raise ValueError(f'No star is {threshold:g} standard deviations above the background: '
                         'lower --threshold, or check the FWHM of --psf.')
    ending = '_centroid' if 'x_centroid' in found.colnames else 'centroid'
    return Table({axis: np.asarray(found[f'{axis}{ending}']) for axis in 'xy'})


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
    for names in ([name.format(axis) for axis in 'xy'] for name in POSITIONS):
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
        raise ValueError(f'{column.name} must be {wanted}, but in {path} it is {column.dtype} in '
                         f'{column.unit}: convert it.') from None


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


def _significance(data, mask, subtracted, fwhm, threshold, electrons):
    """Return the image above its background in units of its noise, 0 where masked.

    Poisson noise has a longer tail than a Gaussian: where there are few
    electrons, the unit is larger, so that noise alone reaches the threshold
    as rarely as a Gaussian would.
    """
    background, rms = _local_background(data, mask, fwhm)
    # 4 pi sigma**2 pixels share the light of a Gaussian.
    area = np.pi * fwhm**2 / np.log(4.0)
    expected = np.maximum(electrons.gain * (background + subtracted), 0.0)
    below = np.maximum(area * (expected + electrons.read_noise**2), 1.0)
    excess = poisson.isf(norm.sf(threshold), below) + 1.0 - below
    stretch = np.maximum(excess / (threshold * np.sqrt(below)), 1.0)
    noise = np.maximum(rms, np.sqrt(below / area) / electrons.gain) * stretch
    return np.where(mask, 0.0, (data - background) / noise)


def _local_background(data, mask, fwhm):
    """Return background and standard deviation around each pixel, without its stars.

    The mean of what is not clipped serves where most pixels have no count,
    and the median would be 0.
    """
    from photutils.background import Background2D, MeanBackground, StdBackgroundRMS
    box = [min(size, max(round(BOX_SIZE * fwhm), 8)) for size in data.shape]
    clip = SigmaClip(sigma=CLIP_SIGMA, cenfunc='mean', maxiters=10)
    background = Background2D(
        np.where(mask, 0.0, data), box, mask=mask if mask.any() else None, filter_size=3,
        exclude_percentile=90.0, sigma_clip=clip, bkg_estimator=MeanBackground(sigma_clip=clip),
        bkg_rms_estimator=StdBackgroundRMS(sigma_clip=clip))
    return background.background, background.background_rms
