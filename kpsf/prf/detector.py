# Licensed under a 3-clause BSD style license - see LICENSE
"""Which detector: whether a PRF, pixels and a place belong together."""

import numbers
import warnings

import astropy.units as u
import numpy as np
from astropy.utils.exceptions import AstropyUserWarning

from .calibration import PRFCalibration, detector_name
from .channels import first_sector_of

__all__ = ['detector_of', 'find_place', 'require_calibration', 'require_mission',
           'require_on_detector', 'require_same_detector', 'warn_if_far']

MISSIONS_OF = {'Kepler': ('Kepler', 'K2'), 'TESS': ('TESS',)}
# First and last column, first and last row that are read out.
DETECTORS = {'Kepler': (0, 1131, 0, 1069), 'TESS': (1, 2136, 1, 2078)}
# Complete calibrations reach closer than this, in pixels, to every edge of the detector.
WIDEST_MARGIN = 50.0


def require_same_detector(prf, tpf):
    """Raise if a PRF belongs to another detector than some pixels.

    What the PRF's files or the pixels do not tell counts as the same, and
    nothing is checked for a PRF that was made with ``force=True``.

    Parameters
    ----------
    prf : KeplerPRF or TessPRF
        Model.
    tpf : TargetPixels
        Pixels.

    Raises
    ------
    ValueError
        If mission, channel, camera, CCD or range of sectors differ.
    """
    if prf.is_forced:
        return
    require_mission(prf.calibration.mission, tpf)
    pixels = detector_of(tpf)
    known = prf.detector
    if any(None not in (known[name], value) and known[name] != value
           for name, value in pixels.items()):
        msg = (f'The PRF must belong to the detector of the pixels, but it is of '
               f'{detector_name(known)}, and {tpf.target} is on {detector_name(pixels)}: pass '
               'the files of that detector, or make the PRF with from_tpf(..., force=True) to '
               'use it all the same.')
        raise ValueError(msg)


def detector_of(tpf):
    """Return what pixels tell about their detector, as a calibration does: a dict."""
    if tpf.mission != 'TESS':
        return {name: tpf.meta.get(name) for name in ('channel', 'module', 'output')}
    sector = tpf.meta.get('sector')
    return {'camera': tpf.meta.get('camera'), 'ccd': tpf.meta.get('ccd'),
            'first_sector': None if sector is None else first_sector_of(sector)}


def require_mission(mission, tpf):
    """Raise unless pixels are of the mission of a PRF."""
    if tpf.mission not in MISSIONS_OF[mission]:
        msg = (f'The PRF of {mission} needs pixels of {" or ".join(MISSIONS_OF[mission])}, but '
               f'{tpf.target} was observed by {tpf.mission}: use '
               f'{"TessPRF" if tpf.mission == "TESS" else "KeplerPRF"}.')
        raise ValueError(msg)


def require_calibration(calibration, mission):
    """Raise unless a calibration is one of a mission."""
    if not isinstance(calibration, PRFCalibration):
        msg = (f'The PRF of {mission} needs a PRFCalibration, but found '
               f'{type(calibration).__name__}: use from_file, from_tpf or from_archive.')
        raise TypeError(msg)
    if calibration.mission != mission:
        msg = (f'The PRF of {mission} needs its own calibration, but found one of '
               f'{calibration.mission}: use {"TessPRF" if mission == "Kepler" else "KeplerPRF"}.')
        raise ValueError(msg)


def require_on_detector(mission, column, row):
    """Return column and row as floats; raise if they are not on the detector.

    Parameters
    ----------
    mission : {'Kepler', 'TESS'}
        Mission.
    column, row : float or `~astropy.units.Quantity`
        Place on the detector, quantities in pixels.

    Returns
    -------
    column, row : float
        The same as plain numbers.

    Raises
    ------
    TypeError
        If one is no number, or in another unit.
    ValueError
        If they are not on the detector.
    """
    column, row = _in_pixels(column, 'column'), _in_pixels(row, 'row')
    left, right, bottom, top = DETECTORS[mission]
    if not (left - 0.5 <= column <= right + 0.5 and bottom - 0.5 <= row <= top + 0.5):
        msg = (f'The position must be on the detector of {mission}, columns {left} to {right} and '
               f'rows {bottom} to {top}, but found column {column:g}, row {row:g}: pass the '
               'position on the detector, not in the stamp.')
        raise ValueError(msg)
    return column, row


def _in_pixels(value, name):
    """Return a plain number for one or for a quantity in pixels; refuse all else."""
    if isinstance(value, u.Quantity) and value.unit == u.pix:
        value = value.value
    is_array = isinstance(value, np.ndarray) and not isinstance(value, u.Quantity)
    if is_array and value.ndim == 0 and value is not np.ma.masked:
        value = value.item()
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        msg = (f'{name} must be one number, in pixels on the detector, but it is {value!r}: pass '
               'for example 300, or 300 * u.pix.')
        raise TypeError(msg)
    return float(value)


def find_place(mission, column, row, hint=''):
    """Return a place on the detector as `require_on_detector`, None if none is given.

    ``hint`` says in the error what else the caller may have meant.
    """
    if column is None and row is None:
        return None
    if column is None or row is None:
        msg = (f'column and row must be given together, but they are {column!r} and {row!r}: pass '
               f'both or neither{hint}.')
        raise ValueError(msg)
    return require_on_detector(mission, column, row)


def warn_if_far(calibration, column, row):
    """Warn if a position is so far out that files of the places around it must be missing."""
    nearest = calibration.clamp(column, row)
    if max(abs(nearest[0] - column), abs(nearest[1] - row)) > WIDEST_MARGIN:
        msg = (f'The PRF at column {column:g}, row {row:g} needs the files around that place, but '
               f'those that were read reach only to column {nearest[0]:g}, row {nearest[1]:g}: '
               'the PRF of that place is used; pass more files to do better.')
        warnings.warn(msg, AstropyUserWarning)
