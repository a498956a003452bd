# Licensed under a 3-clause BSD style license - see LICENSE
"""The instruments' own PRF: calibration files of Kepler and TESS, and models made from them."""

from .calibration import PRFCalibration, read_kepler_prf, read_tess_prf
from .detector import require_same_detector
from .download import ArchiveError
from .fetch import FetchedFile, fetch_prf
from .files import PRFFile, kepler_prf_file, prf_files_of, tess_prf_files
from .instrument import KeplerPRF, TessPRF, instrument_prf
from .model import DetectorPRF

__all__ = ['ArchiveError', 'DetectorPRF', 'FetchedFile', 'KeplerPRF', 'PRFCalibration', 'PRFFile',
           'TessPRF', 'fetch_prf', 'instrument_prf', 'kepler_prf_file', 'prf_files_of',
           'read_kepler_prf', 'read_tess_prf', 'require_same_detector', 'tess_prf_files']
