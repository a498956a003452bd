# Licensed under a 3-clause BSD style license - see LICENSE
"""Light curves as files: FITS in the archives' layout, ECSV and CSV."""

from datetime import date
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.time import Time

from .._files import DAMAGE, damaged, header_value, open_fits, write_whole
from ..tpf import IDENTITY_KEYS, META_KEYWORDS, REFERENCE_DATES

__all__ = ['LIGHT_CURVE_SUFFIXES', 'read_light_curve', 'write_light_curve']

LIGHT_CURVE_SUFFIXES = ('.fits', '.fits.gz', '.ecsv', '.csv')
CREATOR = 'kpsf LightCurve'
# What META_KEYWORDS of a target pixel file does not have.
OWN_KEYWORDS = [
    ('target', 'OBJECT', str), ('mission', 'MISSION', str),
    ('filename', 'TPFFILE', str), ('quality_mask', 'QUALMASK', int),
    ('column', 'COLUMN', int), ('row', 'ROW', int),
    ('exposure', 'EXPCAD', float), ('effective_exposure', 'EXPEFF', float),
    ('psf', 'PSFMODEL', str), ('shape', 'PSFSHAPE', str), ('background', 'PSFBKG', str),
    ('position', 'PSFPOS', str), ('covariance', 'PSFCOV', str), ('kpsf_version', 'PROCVER', str),
]
COMMENTS = {
    'TPFFILE': 'target pixel file', 'QUALMASK': 'cadences with these QUALITY bits are left out',
    'COLUMN': 'detector column of the first pixel of the stamp',
    'ROW': 'detector row of the first pixel of the stamp',
    'EXPCAD': '[s] live time per cadence', 'EXPEFF': '[s] electrons of the fit per e-/s',
    'PSFMODEL': 'model of the point spread function',
    'PSFSHAPE': 'its shape: shared by all cadences, free, or fixed',
    'PSFBKG': 'background: known, fit per cadence, or given',
    'PSFPOS': 'position: free per cadence, shared, or known',
    'PSFCOV': 'covariance that the errors come from', 'PROCVER': 'version of kpsf',
}


def write_light_curve(light_curve, path, overwrite):
    """Write a `LightCurve` in the format that the name asks for."""
    suffix = _suffix(path)
    with write_whole(path, overwrite) as temporary:
        if suffix == '.ecsv':
            QTable(light_curve, copy=False).write(temporary, format='ascii.ecsv')
        elif suffix == '.csv':
            _numbers(light_curve, light_curve['time'].tdb.jd, 'time').write(temporary,
                                                                            format='ascii.csv')
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
    """Return a plain table without metadata, with the times as numbers (n,)."""
    names = [name for name in light_curve.colnames if name != 'time']
    table = Table(light_curve[names], meta={})
    table.add_column(time, name=time_name, index=0)
    return table


def _hdulist(light_curve):
    """Return a light curve in the archives' layout."""
    meta = light_curve.meta
    mission = meta.get('mission', 'Kepler')
    day = REFERENCE_DATES[mission]
    time = light_curve['time'].tdb
    table = _numbers(light_curve, (time.jd1 - day) + time.jd2, 'TIME')
    table['TIME'].unit = 'd'
    for name in table.colnames[1:]:
        table.rename_column(name, name.upper())
    if mission != 'TESS':
        table.rename_column('QUALITY', 'SAP_QUALITY')
    primary = fits.PrimaryHDU(header=_primary_header(meta, mission))
    lightcurve = fits.table_to_hdu(table)
    lightcurve.header.update({
        'EXTNAME': 'LIGHTCURVE', 'EXTVER': 1, 'OBJECT': meta.get('target', ''),
        'TELESCOP': primary.header['TELESCOP'], 'TIMEREF': 'SOLARSYSTEM', 'TIMESYS': 'TDB',
        'BJDREFI': int(day), 'BJDREFF': 0.0, 'TIMEUNIT': 'd'})
    return fits.HDUList([primary, lightcurve])


def _primary_header(meta, mission):
    """Return the primary header, which holds the metadata."""
    header = fits.Header({
        'ORIGIN': 'kpsf', 'CREATOR': CREATOR, 'DATE': date.today().isoformat(),
        'TELESCOP': 'TESS' if mission == 'TESS' else 'Kepler',
        'INSTRUME': 'TESS Photometer' if mission == 'TESS' else 'Kepler Photometer'})
    for name, keyword, _ in _meta_keywords(mission):
        if meta.get(name) is not None:
            header[keyword] = (meta[name], COMMENTS.get(keyword, ''))
    values, errors = (meta.get(f'psf_parameter{suffix}', {}) for suffix in ('s', '_errors'))
    for number, name in enumerate(values, start=1):
        header[f'PARNAM{number}'] = (name, 'parameter of the PSF')
        header[f'PARVAL{number}'] = values[name]
        # NaN cannot stand in a header.
        if np.isfinite(errors.get(name, np.nan)):
            header[f'PARERR{number}'] = errors[name]
    return header


def _meta_keywords(mission):
    """Return name in ``meta``, keyword and type of all metadata."""
    id_key, magnitude_key = IDENTITY_KEYS[mission]
    return [*OWN_KEYWORDS, ('target_id', id_key, int), ('magnitude', magnitude_key, float),
            *(entry for entry in META_KEYWORDS if entry[0] != 'object')]


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
            table = QTable.read(hdulist['LIGHTCURVE'], mask_invalid=False)
        except DAMAGE as error:
            raise damaged(path, error) from error
    day = table.meta['BJDREFI']
    time = Time(np.full(len(table), float(day)), table['TIME'].to_value('d'), format='jd',
                scale='tdb')
    table.remove_column('TIME')
    for name in table.colnames:
        table.rename_column(name, name.lower().removeprefix('sap_'))
    table.meta = _meta(header, mission)
    return time, table


def _meta(header, mission):
    """Return the metadata that a primary header holds."""
    meta = {}
    for name, keyword, kind in _meta_keywords(mission):
        value = header_value(header, keyword, kind)
        if value is not None:
            meta[name] = value
    numbers = range(1, 1 + sum(key.startswith('PARNAM') for key in header))
    names = {header[f'PARNAM{number}']: number for number in numbers}
    if names:
        for name, key in (('psf_parameters', 'PARVAL'), ('psf_parameter_errors', 'PARERR')):
            meta[name] = {parameter: header.get(f'{key}{number}', np.nan)
                          for parameter, number in names.items()}
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
