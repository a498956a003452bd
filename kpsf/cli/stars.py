# Licensed under a 3-clause BSD style license - see LICENSE
"""The stars that a command fits: from a table, or found in the image."""

import re
import warnings

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io.registry import IORegistryError
from astropy.stats import SigmaClip
from astropy.table import Table
from astropy.units import UnitConversionError
from astropy.utils.exceptions import AstropyUserWarning

__all__ = ['find_stars', 'read_stars']

X_COLUMN = re.compile('x(_?(init|0|centroid|peak|cen|pos|fit))?')
# In units of the FWHM: the boxes in which background and noise are measured.
BOX_SIZE = 10.0
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
        Positions, and what else the photometry knows of ``id``, ``group_id``,
        ``local_bkg`` and ``flux_init``.

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
    positions = [name for name in table.colnames if X_COLUMN.fullmatch(name)]
    if positions:
        # Fluxes that are called otherwise may be of another catalogue.
        stars = table[[name for name in table.colnames if name[0] in 'xy' or name in (
            'id', 'group_id', 'local_bkg', 'flux_init')]]
    elif {'ra', 'dec'} <= set(table.colnames):
        stars = _on_image(table, path, wcs)
    else:
        raise ValueError('A table of stars needs the columns x and y, or ra and dec, but '
                         f'{path} has {", ".join(table.colnames)}: rename them.')
    for name in {'flux_init', 'local_bkg'} & set(stars.colnames):
        stars[name] = _in_unit(stars[name], unit, path)
    return stars


def find_stars(data, mask, subtracted, fwhm, threshold, electrons):
    """Find stars above the local background.

    The image is divided by its noise first: that of a pixel, by robust
    statistics or from the expected electrons, whichever is larger. Below one
    electron under the PSF the noise is taken to be that of one, so that
    single photons are no stars.

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
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NoDetectionsWarning)
        found = finder(_signal_to_noise(data, mask, subtracted, fwhm, electrons), mask=mask)
    if found is None or not len(found):
        raise ValueError(f'No star is {threshold:g} standard deviations above the background: '
                         'lower --threshold, or check the FWHM of --psf.')
    ending = '_centroid' if 'x_centroid' in found.colnames else 'centroid'
    return Table({axis: np.asarray(found[f'{axis}{ending}']) for axis in 'xy'})


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


def _on_image(table, path, wcs):
    """Return stars with positions in pixels from their coordinates."""
    if wcs is None:
        raise ValueError(f'{path} has ra and dec, but the image has no celestial coordinates: '
                         'pass x and y in pixels.')
    angles = [_degrees(table[name], path) for name in ('ra', 'dec')]
    x, y = wcs.world_to_pixel(SkyCoord(*angles, unit='deg', frame='icrs'))
    stars = Table({'x': x, 'y': y})
    for name in ('id', 'group_id', 'local_bkg', 'flux_init'):
        if name in table.colnames:
            stars[name] = table[name]
    return stars


def _degrees(column, path):
    """Return coordinates in degrees, NaN where masked."""
    try:
        factor = 1.0 if column.unit is None else column.unit.to('deg')
        return factor * np.ma.filled(np.ma.masked_array(column, dtype=float), np.nan)
    except (TypeError, ValueError):
        raise ValueError(f'ra and dec must be degrees, but {column.name} of {path} is '
                         f'{column.dtype} in {column.unit}: convert it.') from None


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


def _signal_to_noise(data, mask, subtracted, fwhm, electrons):
    """Return the image above its background in standard deviations of the noise, 0 where masked.

    The mean of what is not clipped serves where most pixels have no count,
    and the median would be 0.
    """
    from photutils.background import Background2D, MeanBackground, StdBackgroundRMS
    box = [min(size, max(round(BOX_SIZE * fwhm), 8)) for size in data.shape]
    clip = SigmaClip(sigma=3.0, cenfunc='mean', maxiters=10)
    background = Background2D(
        np.where(mask, 0.0, data), box, mask=mask if mask.any() else None, filter_size=3,
        exclude_percentile=90.0, sigma_clip=clip, bkg_estimator=MeanBackground(sigma_clip=clip),
        bkg_rms_estimator=StdBackgroundRMS(sigma_clip=clip))
    gain = electrons.gain
    level = background.background + subtracted
    expected = np.maximum(gain * level, 0.0) + electrons.read_noise**2
    # 4 pi sigma**2 pixels share the light of a Gaussian.
    least = np.log(4.0) / (np.pi * fwhm**2)
    noise = np.maximum(background.background_rms, np.sqrt(np.maximum(expected, least)) / gain)
    return np.where(mask, 0.0, (data - background.background) / noise)
