# Licensed under a 3-clause BSD style license - see LICENSE
"""Calibration files in the layouts of Kepler and TESS, of a PRF that is the same everywhere."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from .._files import write_whole
from ..models.image_files import wcs_keywords
from .calibration import DATE_FROM_SECTOR_1, DATE_FROM_SECTOR_4, VERSION_FROM_SECTOR_4

__all__ = ['KEPLER_CENTRE', 'KEPLER_CORNERS', 'write_kepler_prf', 'write_tess_prf']

# Lower left, upper left, upper right, lower right, as the extensions of the archive's files.
KEPLER_CORNERS = [(12.0, 20.0), (12.0, 1043.0), (1111.0, 1043.0), (1111.0, 20.0)]
KEPLER_CENTRE = (561.5, 531.5)


def write_kepler_prf(path, prf, detector, *, cards=None, overwrite=False):
    """Write the same image at all five positions of a Kepler channel.

    Parameters
    ----------
    path : str or path-like
        File to write.
    prf : TabulatedPRF
        The PRF.
    detector : dict
        ``channel``, ``module`` and ``output``.
    cards : dict, optional
        More keywords of the primary header.
    overwrite : bool, optional
        Whether to replace an existing file.

    Returns
    -------
    pathlib.Path
        The file.
    """
    _require_known(detector, 'channel', 'module', 'output')
    primary = fits.PrimaryHDU()
    primary.header.update({'TELESCOP': 'Kepler', 'INSTRUME': 'Kepler Photometer',
                           'CHANNEL': detector['channel'], 'MODULE': detector['module'],
                           'OUTPUT': detector['output'], 'ORIGIN': 'kpsf', **(cards or {})})
    hdulist = fits.HDUList([primary])
    for number, position in enumerate([*KEPLER_CORNERS, KEPLER_CENTRE], start=1):
        hdu = fits.ImageHDU(np.array(prf.data))
        hdu.header['EXTVER'] = number
        hdu.header.update(wcs_keywords(prf.origin, position, prf.spacing))
        hdulist.append(hdu)
    return _write(hdulist, path, overwrite)


def write_tess_prf(path, prf, detector, position, *, cards=None, overwrite=False):
    """Write the file of one position of a TESS CCD.

    Parameters
    ----------
    path : str or path-like
        File to write.
    prf : TabulatedPRF
        The PRF.
    detector : dict
        ``camera``, ``ccd`` and ``first_sector``, 1, 4 or None.
    position : (float, float)
        Column and row.
    cards : dict, optional
        More keywords of the primary header.
    overwrite : bool, optional
        Whether to replace an existing file.

    Returns
    -------
    pathlib.Path
        The file.
    """
    _require_known(detector, 'camera', 'ccd')
    image = np.array(prf.data)
    hdulist = fits.HDUList([fits.PrimaryHDU(image), fits.ImageHDU(np.zeros_like(image))])
    first_sector = detector['first_sector']
    for hdu, kind in zip(hdulist, ('PRF', 'Uncertainties')):
        hdu.header.update({'ORIGIN': 'kpsf', 'DATATYPE': kind, 'TELESCOP': 'TESS',
                           'CAM': float(detector['camera']), 'CCD': float(detector['ccd'])})
        if first_sector is not None:
            hdu.header['DATE'] = DATE_FROM_SECTOR_1 if first_sector == 1 else DATE_FROM_SECTOR_4
        if first_sector == 4 and kind == 'PRF':
            hdu.header['VERSION'] = VERSION_FROM_SECTOR_4
        hdu.header.update(wcs_keywords(prf.origin, position, prf.spacing))
    hdulist[0].header.update(cards or {})
    return _write(hdulist, path, overwrite)


def _require_known(detector, *names):
    """Raise unless a detector is known."""
    missing = [name for name in names if detector.get(name) is None]
    if missing:
        msg = (f'A calibration file needs {", ".join(names)}, but {", ".join(missing)} is not '
               'known: write the model itself, model.write(path), which needs no detector.')
        raise ValueError(msg)


def _write(hdulist, path, overwrite):
    """Write the HDUs and return the file."""
    path = Path(path).expanduser()
    with write_whole(path, overwrite) as temporary:
        hdulist.writeto(temporary, checksum=True)
    return path
