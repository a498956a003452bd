# Licensed under a 3-clause BSD style license - see LICENSE
"""Light curves as files: FITS in the archives' layout, ECSV and CSV."""

from datetime import date
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.time import Time

from .._files import DAMAGE, damaged, header_value, open_fits, write_whole
from ..tpf.read import IDENTITY_KEYS, META_KEYWORDS, REFERENCE_DATES

__all__ = ['LIGHT_CURVE_SUFFIXES', 'read_light_curve', 'write_light_curve']

LIGHT_CURVE_SUFFIXES = ('.fits', '.fits.gz', '.ecsv', '.csv')
CREATOR = 'kpsf LightCurve'
# In FITS the units are spelled as in the archives, which readers of their files expect.
UNITS = {'e-/s': u.electron / u.s, 'pixel': u.pix, 'd': u.d}
SPELLING = {unit: name for name, unit in UNITS.items()}
# Name in the metadata, keyword, type and comment of what META_KEYWORDS does not have.
OWN_KEYWORDS = [
    ('target', 'OBJECT', str, ''), ('mission', 'MISSION', str, ''),
    ('filename', 'TPFFILE', str, 'target pixel file'),
    ('quality_mask', 'QUALMASK', int, 'cadences with these QUALITY bits are not here'),
    ('column', 'COLUMN', int, 'detector column of the first pixel'),
    ('row', 'ROW', int, 'detector row of the first pixel'),
    ('exposure', 'EXPCAD', float, '[s] live time per cadence'),
    ('effective_exposure', 'EXPEFF', float, '[s] electrons in the fit per e-/s'),
    ('psf', 'PSFMODEL', str, 'point spread function'),
    ('prf_detector', 'PRFDET', str, 'detector of the PRF'),
    ('prf_column', 'PRFCOL', float, '[pixel] detector column of the PRF'),
    ('prf_row', 'PRFROW', float, '[pixel] detector row of the PRF'),
    ('prf_interpolate', 'PRFINTER', str, 'between the calibrated places'),
    ('prf_files', 'PRFFILES', str, 'calibration files of the PRF'),
    ('prf_forced', 'PRFFORCE', bool, 'it may be of another detector'),
    ('prf_normalize', 'PRFNORM', str, 'phase, mean or none'),
    ('prf_clip_negative', 'PRFCLIP', bool, 'samples below 0 were set to 0'),
    ('shape', 'PSFSHAPE', str, 'shared, free or fixed'),
    ('background', 'PSFBKG', str, 'known, fit or given'),
    ('background_offset', 'BKGOFF', float, '[e-/s] constant besides FLUX_BKG'),
    ('background_offset_err', 'BKGOFFE', float, '[e-/s] its error'),
    ('background_offset_at_limit', 'BKGOFFL', bool, 'it is at its limit'),
    ('position', 'PSFPOS', str, 'free, shared or known'),
    ('covariance', 'PSFCOV', str, 'where the errors come from'),
    ('kpsf_version', 'PROCVER', str, 'version of kpsf'),
]


def write_light_curve(light_curve, path, overwrite):
    """Write a `LightCurve` in the format that the name asks for."""
    suffix = _suffix(path)
    with write_whole(path, overwrite) as temporary:
        if suffix == '.ecsv':
            QTable(light_curve, copy=False).write(temporary, format='ascii.ecsv')
        elif suffix == '.csv':
            table = _numbers(light_curve, light_curve['time'].tdb.jd, 'time')
            table.write(temporary, format='ascii.csv')
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


def _numbers(light_curve, time, time_name):
    """Return a plain table without metadata and units, with the times as numbers (n,)."""
    table = Table({time_name: time})
    for name in light_curve.colnames:
        if name != 'time':
            table[name] = getattr(light_curve[name], 'value', light_curve[name])
    return table


def _hdulist(light_curve):
    """Return a light curve in the archives' layout."""
    mission = light_curve.meta.get('mission', 'Kepler')
    day = REFERENCE_DATES[mission]
    time = light_curve['time'].tdb
    table = _numbers(light_curve, (time.jd1 - day) + time.jd2, 'TIME')
    names = {'quality': 'SAP_QUALITY'} if mission != 'TESS' else {}
    table.rename_columns(table.colnames, [names.get(name, name.upper())
                                          for name in table.colnames])
    primary = fits.PrimaryHDU(header=_primary_header(light_curve.meta, mission))
    hdu = fits.table_to_hdu(table, name='LIGHTCURVE')
    hdu.columns.change_unit('TIME', 'd')
    for column, name in zip(hdu.columns[1:], light_curve.colnames[1:]):
        unit = getattr(light_curve[name], 'unit', None)
        if unit is not None:
            hdu.columns.change_unit(column.name, SPELLING.get(unit) or unit.to_string())
    hdu.header.update({
        'EXTVER': 1, 'OBJECT': light_curve.meta.get('target', ''),
        'TELESCOP': primary.header['TELESCOP'], 'TIMEREF': 'SOLARSYSTEM', 'TIMESYS': 'TDB',
        'BJDREFI': int(day), 'BJDREFF': 0.0, 'TIMEUNIT': 'd'})
    return fits.HDUList([primary, hdu])


def _primary_header(meta, mission):
    """Return the primary header, which holds the metadata."""
    header = fits.Header({
        'ORIGIN': 'kpsf', 'CREATOR': CREATOR, 'DATE': date.today().isoformat(),
        'TELESCOP': 'TESS' if mission == 'TESS' else 'Kepler',
        'INSTRUME': 'TESS Photometer' if mission == 'TESS' else 'Kepler Photometer'})
    for name, keyword, _, comment in _meta_keywords(mission):
        value = meta.get(name)
        if isinstance(value, str):
            # FITS headers hold ASCII alone.
            value = value.encode('ascii', 'backslashreplace').decode()
        if value is not None:
            header[keyword] = (value, comment) if len(str(value)) < 25 else value
    values, errors = (meta.get(f'psf_parameter{suffix}', {}) for suffix in ('s', '_errors'))
    for number, name in enumerate(values, start=1):
        header[f'PARNAM{number}'] = (name, 'parameter of the PSF')
        header[f'PARVAL{number}'] = values[name]
        if name in errors:
            header[f'PARERR{number}'] = errors[name]
    return header


def _meta_keywords(mission):
    """Return name in ``meta``, keyword, type and comment of all metadata."""
    id_key, magnitude_key = IDENTITY_KEYS[mission]
    return [*OWN_KEYWORDS, ('target_id', id_key, int, ''), ('magnitude', magnitude_key, float, ''),
            *((*entry, '') for entry in META_KEYWORDS if entry[0] != 'object')]


def _read_fits(path):
    """Return time and table of a FITS file."""
    with open_fits(path, 'A light curve of kpsf') as hdulist:
        header = hdulist[0].header
        mission = header_value(header, 'MISSION', str)
        if (header_value(header, 'CREATOR', str) != CREATOR or 'LIGHTCURVE' not in hdulist
                or mission not in REFERENCE_DATES):
            raise ValueError(f'A light curve of kpsf is needed, but {path} is another FITS file: '
                             'use astropy.timeseries.TimeSeries.read or lightkurve.read.')
        try:
            columns = {column.name.lower().removeprefix('sap_'): _values(hdulist, column)
                       for column in hdulist['LIGHTCURVE'].columns}
        except DAMAGE as error:
            raise damaged(path, error) from error
    days = columns.pop('time').value
    time = Time(np.full(days.size, REFERENCE_DATES[mission]), days, format='jd', scale='tdb')
    return time, QTable(columns, meta=_meta(header, mission))


def _values(hdulist, column):
    """Return a column in native byte order and with its unit."""
    values = hdulist['LIGHTCURVE'].data[column.name]
    values = values.astype(values.dtype.newbyteorder('='))
    if column.unit is None:
        return values
    return values * UNITS.get(column.unit, u.Unit(column.unit, parse_strict='silent'))


def _meta(header, mission):
    """Return the metadata that a primary header holds."""
    meta = {}
    for name, keyword, kind, _ in _meta_keywords(mission):
        value = header_value(header, keyword, kind)
        if value is not None:
            meta[name] = value
    numbers = range(1, 1 + sum(key.startswith('PARNAM') for key in header))
    names = {header[f'PARNAM{number}']: number for number in numbers}
    if names:
        for name, key in (('psf_parameters', 'PARVAL'), ('psf_parameter_errors', 'PARERR')):
            meta[name] = {parameter: header[f'{key}{number}']
                          for parameter, number in names.items() if f'{key}{number}' in header}
    return meta


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
