# Licensed under a 3-clause BSD style license - see LICENSE
"""Light curves as files: FITS in the archives' layout, ECSV and CSV."""

from pathlib import Path

from astropy.io import fits
from astropy.table import QTable, Table

from .._files import DAMAGE, damaged, header_value, open_fits, write_whole
from ..tpf.missions import MISSIONS
from .columns import EXTENSION, light_curve_hdu, read_light_curve_hdu
from .keywords import primary_header, read_keywords, write_keywords

__all__ = ['LIGHT_CURVE_SUFFIXES', 'SCENE_CREATOR', 'known_mission', 'read_light_curve',
           'write_light_curve']

LIGHT_CURVE_SUFFIXES = ('.fits', '.fits.gz', '.ecsv', '.csv')
CREATOR = 'kpsf LightCurve'
SCENE_CREATOR = 'kpsf SceneLightCurves'


def write_light_curve(light_curve, path, overwrite):
    """Write a `LightCurve` in the format that the name asks for."""
    suffix = _suffix(path)
    with write_whole(path, overwrite) as temporary:
        if suffix == '.ecsv':
            QTable(light_curve, copy=False).write(temporary, format='ascii.ecsv')
        elif suffix == '.csv':
            _numbers(light_curve).write(temporary, format='ascii.csv')
        else:
            _hdulist(light_curve).writeto(temporary, checksum=True)


def read_light_curve(path):
    """Return time and table, with metadata, of a file that `write_light_curve` wrote."""
    suffix = _suffix(path)
    if suffix == '.csv':
        raise ValueError(f'A light curve with units and metadata is needed, but {path} is CSV, '
                         'which has none: read it with astropy.table.Table.read, or write ECSV.')
    return _read_ecsv(path) if suffix == '.ecsv' else _read_fits(path)


def _suffix(path):
    """Return the ending of a name if it is one of a light curve."""
    for suffix in LIGHT_CURVE_SUFFIXES:
        if Path(path).name.lower().endswith(suffix):
            return suffix
    raise ValueError('The name of a light curve must end in one of '
                     f'{", ".join(LIGHT_CURVE_SUFFIXES)}, but it is {Path(path).name!r}: choose '
                     'one of these, or use astropy.table.QTable for other formats.')


def _numbers(light_curve):
    """Return a plain table without metadata and units, the times as BJD."""
    table = Table({'time': light_curve['time'].tdb.jd})
    for name in light_curve.colnames:
        if name != 'time':
            table[name] = getattr(light_curve[name], 'value', light_curve[name])
    return table


def _hdulist(light_curve):
    """Return a light curve in the archives' layout."""
    mission = known_mission(light_curve)
    primary = fits.PrimaryHDU(header=primary_header(mission, CREATOR, 1))
    write_keywords(primary.header, light_curve.meta, mission)
    return fits.HDUList([primary, light_curve_hdu(light_curve, mission)])


def known_mission(light_curve):
    """Return the mission of a light curve, Kepler if it has none; raise if it is unknown."""
    mission = light_curve.meta.get('mission', 'Kepler')
    if mission not in MISSIONS:
        raise ValueError("The archives' FITS layout needs one of the missions "
                         f'{", ".join(MISSIONS)}, but that of the light curve is '
                         f"{mission!r}: change meta['mission'], or write ECSV.")
    return mission


def _read_fits(path):
    """Return time and table of a FITS file."""
    def require_own(header):
        mission, creator = (header_value(header, key, str) for key in ('MISSION', 'CREATOR'))
        if creator == SCENE_CREATOR:
            raise ValueError(f'A file of one light curve is needed, but {path} has those of '
                             'several stars: use kpsf.lightcurve.SceneLightCurves.read.')
        if creator != CREATOR or mission not in MISSIONS:
            raise ValueError(f'A light curve of kpsf is needed, but {path} is another FITS file: '
                             'use astropy.timeseries.TimeSeries.read or lightkurve.read.')

    with open_fits(path, 'A light curve of kpsf', require_own) as hdulist:
        header = hdulist[0].header
        mission = header_value(header, 'MISSION', str)
        try:
            time, table = read_light_curve_hdu(hdulist[EXTENSION], mission)
        except (KeyError, *DAMAGE) as error:
            raise damaged(path, error) from error
    table.meta.update(read_keywords(header, mission))
    return time, table


def _read_ecsv(path):
    """Return time and table of an ECSV file."""
    try:
        table = QTable.read(path, format='ascii.ecsv')
        time = table['time']
    except FileNotFoundError:
        raise FileNotFoundError(f'A light curve of kpsf is needed, but there is no file {path}: '
                                'check the name and the folder.') from None
    except (KeyError, *DAMAGE) as error:
        raise ValueError(f'A light curve of kpsf is needed, but {path} is no such ECSV file '
                         f'({error}): pass another file, or write it again.') from error
    table.remove_column('time')
    return time, table
