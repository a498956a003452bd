# Licensed under a 3-clause BSD style license - see LICENSE
"""The FITS table of a light curve: names, units and display formats of the archives."""

import re
from itertools import count, takewhile

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.time import Time

from ..tpf.missions import MISSIONS
from .keywords import in_ascii

__all__ = ['EXTENSION', 'light_curve_hdu', 'read_light_curve_hdu']

EXTENSION = 'LIGHTCURVE'
# In FITS the units are spelled as in the archives, which readers of their files expect.
UNITS = {'e-/s': u.electron / u.s, 'pixel': u.pix, 'd': u.d}
SPELLING = {unit: name for name, unit in UNITS.items()}
# Name in a `LightCurve`: name in FITS, display format and comment, in the order of the archives.
# The names are those of PyKE's kepprfphot and of the archives where these have one.
COLUMNS = {
    'time': ('TIME', 'D14.7', 'mid-time at the barycentre'),
    'cadenceno': ('CADENCENO', 'I10', 'cadence number'),
    'flux': ('PSF_FLUX', 'E14.7', 'total flux of the PSF'),
    'flux_err': ('PSF_FLUX_ERR', 'E14.7', 'its standard deviation'),
    'background': ('PSF_BKG', 'E14.7', 'background, mean of one pixel'),
    'background_err': ('PSF_BKG_ERR', 'E14.7', 'standard deviation of the fitted part'),
    'column': ('PSF_CENTR1', 'F10.5', 'detector column'),
    'x_err': ('PSF_CENTR1_ERR', 'E14.7', 'standard deviation of the column'),
    'row': ('PSF_CENTR2', 'F10.5', 'detector row'),
    'y_err': ('PSF_CENTR2_ERR', 'E14.7', 'standard deviation of the row'),
    'cstat': ('CHI2', 'E14.7', 'C-statistic of Cash, the Poisson deviance'),
    'quality': ('SAP_QUALITY', 'B16.16', 'quality bits of the target pixel file'),
    'x': ('STAMP_X', 'F10.5', 'column from the first pixel of the stamp'),
    'y': ('STAMP_Y', 'F10.5', 'row from the first pixel of the stamp'),
    'gof_z': ('GOF_Z', 'E14.7', 'CHI2 from its expectation in std. deviations'),
    'flux_fraction': ('FLUX_FRACTION', 'F10.5', 'share of the PSF on the pixels of the fit'),
    'n_pixels': ('N_PIXELS', 'I10', 'number of pixels in the fit'),
    'converged': ('CONVERGED', None, 'whether the fit converged'),
    'flags': ('PSF_FLAGS', 'I10', 'bits of kpsf.FitFlag, 0 if all was well'),
}
# lightkurve and astropy take the flux from here: without a column FLUX, lightkurve.read(path)
# looks for PDCSAP_FLUX, which this is not.
COPIES = {'FLUX': 'flux', 'FLUX_ERR': 'flux_err'}
RESERVED = {name for name, _, _ in COLUMNS.values()} | {*COPIES, 'QUALITY'}


def light_curve_hdu(light_curve, mission):
    """Return a light curve as a binary table in the archives' layout.

    Keywords ``LCCOLn`` tell which column of the table is the n-th of the
    light curve, and its name there.
    """
    day = MISSIONS[mission].reference_date
    time = light_curve['time'].tdb
    names = _fits_names(light_curve.colnames, mission)
    order = [*COLUMNS, *names]
    sources = {names[name]: name for name in sorted(names, key=order.index)}
    sources |= {name: source for name, source in COPIES.items() if source in names}
    table = Table()
    for name, source in sources.items():
        values = light_curve[source]
        table[name] = ((time.jd1 - day) + time.jd2 if source == 'time'
                       else getattr(values, 'value', values))
    hdu = fits.table_to_hdu(table, name=EXTENSION)
    _describe_columns(hdu, sources, light_curve, mission)
    hdu.header.update({
        'EXTVER': 1, 'INHERIT': True, 'OBJECT': in_ascii(light_curve.meta.get('target', '')),
        'TELESCOP': 'TESS' if mission == 'TESS' else 'Kepler', 'TIMEREF': 'SOLARSYSTEM',
        'TIMESYS': 'TDB', 'BJDREFI': int(day), 'BJDREFF': 0.0, 'TIMEUNIT': 'd'})
    for number, name in enumerate(light_curve.colnames, start=1):
        hdu.header[f'LCCOL{number}'] = f'{names[name]}={in_ascii(name)}'
    return hdu


def read_light_curve_hdu(hdu, mission):
    """Return time and table, without metadata, of what `light_curve_hdu` made.

    Tables of old versions have the columns of `LightCurve` in capitals.
    """
    columns = {own: _values(hdu, name) for own, name in _own_names(hdu).items()}
    days = columns.pop('time')
    time = Time(np.full(days.size, MISSIONS[mission].reference_date), getattr(days, 'value', days),
                format='jd', scale='tdb')
    return time, QTable(columns)


def _fits_names(colnames, mission):
    """Return the names in FITS, which are unique, by those in a light curve."""
    names, taken = {}, set(RESERVED)
    for own in colnames:
        if own in COLUMNS:
            names[own] = COLUMNS[own][0]
            if own == 'quality' and mission == 'TESS':
                names[own] = 'QUALITY'
            continue
        name = re.sub('[^A-Z0-9_]', '_', own.upper())
        while name in taken:
            name += '_2'
        names[own] = name
        taken.add(name)
    return names


def _describe_columns(hdu, sources, light_curve, mission):
    """Set units, display formats and comments of a table."""
    for number, (name, source) in enumerate(sources.items(), start=1):
        unit = getattr(light_curve[source], 'unit', None)
        _, display, comment = COLUMNS.get(source, (name, None, ''))
        if source == 'time':
            hdu.columns.change_unit(name, MISSIONS[mission].time_unit)
        elif unit is not None:
            hdu.columns.change_unit(name, SPELLING.get(unit) or unit.to_string())
        if display:
            hdu.columns.change_attrib(name, 'disp', display)
        if name in COPIES:
            comment = f'copy of PSF_{name}'
        hdu.header.comments[f'TTYPE{number}'] = comment


def _own_names(hdu):
    """Return the names in FITS by those in a light curve, in the order that it had."""
    header, names = hdu.header, hdu.columns.names
    numbers = takewhile(lambda number: f'LCCOL{number}' in header, count(1))
    pairs = [header[f'LCCOL{number}'].partition('=')[::2] for number in numbers]
    own_names = {own: name for name, own in pairs if name in names}
    # What others added to the table is read too, as is a table of an old version; copies have
    # their names already.
    known = set(own_names.values())
    for name in names:
        if name not in known:
            own_names.setdefault('quality' if name == 'SAP_QUALITY' else name.lower(), name)
    return own_names


def _values(hdu, name):
    """Return a column in native byte order and with its unit."""
    values, unit = hdu.data[name], hdu.columns[name].unit
    values = values.astype(values.dtype.newbyteorder('='))
    if unit is None or name == 'TIME':
        return values
    return values * UNITS.get(unit, u.Unit(unit, parse_strict='silent'))
