# Licensed under a 3-clause BSD style license - see LICENSE
"""Rows of a manifest: what is known of one input and its light curve."""

import astropy.units as u
import numpy as np
from astropy.table import Table

from .. import __version__
from ..lightcurve import SceneLightCurves, point_to_point_scatter
from ..lightcurve.doubts import is_constant

__all__ = ['COLUMNS', 'FINISHED', 'as_row', 'as_table', 'describe_error', 'new_row', 'summarize']

# Of numbers: unknown is NaN or 0.
COLUMNS = {
    'path': str, 'output': str, 'status': str, 'error': str, 'warnings': str, 'target': str,
    'n_cadences': int, 'n_flagged': int, 'scatter_ppm': float, 'aperture_scatter_ppm': float,
    'median_flux': float, 'error_ppm': float, 'magnitude': float, 'error_over_scatter': float,
    'seconds': float, 'sha256': str, 'size': int, 'mtime_ns': int, 'kpsf_version': str,
    'options': str}
UNKNOWN = {str: '', int: 0, float: np.nan}
UNITS = {'median_flux': u.electron / u.s, 'seconds': u.s, 'size': u.byte, 'mtime_ns': u.ns}
# Cadences that tell a scatter: that of ten of white noise is uncertain by 43 per cent already.
LEAST_CADENCES = 10
# States in which there is a light curve.
FINISHED = ('done', 'flagged')


def new_row(path, output, digest):
    """Return the row of an input of which nothing else is known: it failed so far."""
    return {**{name: UNKNOWN[kind] for name, kind in COLUMNS.items()},
            'path': path, 'output': output, 'status': 'failed', 'kpsf_version': __version__,
            'options': digest}


def as_row(values):
    """Return values by name as a row of plain Python types; raise if they are none."""
    return {name: kind(values[name]) for name, kind in COLUMNS.items()}


def as_table(rows, meta=None):
    """Return rows as a table, also if there are none."""
    table = Table({name: np.array([row[name] for row in rows], dtype=kind)
                   for name, kind in COLUMNS.items()}, meta=meta)
    for name, unit in UNITS.items():
        table[name].unit = unit
    return table


def summarize(pixels, light_curve):
    """Return what a row tells of a light curve, of a scene that of its first star, by name."""
    if isinstance(light_curve, SceneLightCurves):
        light_curve = light_curve[0]
    flagged = np.asarray(light_curve['flags']) != 0
    flux, error = light_curve['flux'].value, light_curve['flux_err'].value
    usable = np.isfinite(flux) & ~flagged
    aperture = np.full(flux.size, np.nan)
    if pixels.pipeline_aperture.any():
        # Both scatters are those of the same cadences.
        aperture = pixels.aperture_flux()
        usable &= np.isfinite(aperture)
    scatter = _scatter_of(flux[usable])
    median = np.median(flux[usable]) if usable.any() else np.nan
    typical_error = np.median(error[usable]) if usable.any() else np.nan
    magnitude = pixels.meta.get('magnitude')
    return {
        'target': pixels.target, 'n_cadences': len(light_curve),
        'n_flagged': int(flagged.sum()), 'status': 'flagged' if flagged.any() else 'done',
        'scatter_ppm': 1e6 * scatter,
        'aperture_scatter_ppm': 1e6 * _scatter_of(aperture[usable]),
        'median_flux': float(median),
        'error_ppm': 1e6 * float(typical_error / median) if median > 0 else np.nan,
        'magnitude': np.nan if magnitude is None else magnitude,
        'error_over_scatter': float(typical_error / (scatter * median)) if scatter > 0 else np.nan}


def _scatter_of(flux):
    """Return the point-to-point scatter, NaN if the fluxes are few or no measurement."""
    if flux.size < LEAST_CADENCES or is_constant(flux):
        return np.nan
    return point_to_point_scatter(flux)


def describe_error(error):
    """Return an error in one line, with its type unless that is what one expects of files."""
    text = ' '.join(str(error).split())
    if isinstance(error, (OSError, ValueError)) and text:
        return text
    return f'{type(error).__name__}: {text}'
