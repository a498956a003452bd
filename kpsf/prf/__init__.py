# Licensed under a 3-clause BSD style license - see LICENSE
"""The instruments' own PRF: calibration files of Kepler and TESS, and models made from them."""

from .calibration import PRFCalibration, read_kepler_prf, read_tess_prf
from .detector import require_same_detector
from .instrument import KeplerPRF, TessPRF, instrument_prf

__all__ = ['KeplerPRF', 'PRFCalibration', 'TessPRF', 'instrument_prf', 'read_kepler_prf',
           'read_tess_prf', 'require_same_detector']
