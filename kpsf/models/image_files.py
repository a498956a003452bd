# Licensed under a 3-clause BSD style license - see LICENSE
"""FITS files of an oversampled image, with its samples and origin in the physical WCS."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from .._files import DAMAGE, damaged, header_value, open_fits, write_whole

__all__ = ['read_image', 'wcs_keywords', 'write_image']

KEYWORDS = ('CRPIX1P', 'CRPIX2P', 'CDELT1P', 'CDELT2P')


def read_image(path, extension=None):
    """Read an image and where the star is in it.

    Parameters
    ----------
    path : str or path-like
        The file.
    extension : int or str, optional
        The HDU; by default the first that has an image.

    Returns
    -------
    data : ndarray, shape (ny, nx)
    spacing, origin : tuple of float
        As of `TabulatedPRF`.
    """
    with open_fits(path, 'A file with the image of a PRF') as hdulist:
        hdu = _find(hdulist, extension, path)
        values = {key: header_value(hdu.header, key, float) for key in KEYWORDS}
        try:
            data = np.array(hdu.data, dtype=float)
        except DAMAGE as error:
            raise damaged(path, error) from error
    missing = [key for key, value in values.items() if value is None]
    if missing:
        msg = (f'The image of a PRF needs the keywords {", ".join(KEYWORDS)}, but {path} lacks '
               f'{", ".join(missing)}: read the image yourself and pass it to TabulatedPRF with '
               'its spacing and origin.')
        raise ValueError(msg)
    return (data, (values['CDELT1P'], values['CDELT2P']),
            (values['CRPIX1P'] - 1.0, values['CRPIX2P'] - 1.0))


def _find(hdulist, extension, path):
    """Return the HDU with the image."""
    if extension is not None:
        try:
            found = [hdulist[extension]]
        except (IndexError, KeyError):
            found = []
    else:
        found = hdulist
    images = [hdu for hdu in found if hdu.is_image and len(hdu.shape) == 2]
    if not images:
        where = '' if extension is None else f' in extension {extension!r}'
        msg = (f'A file with the image of a PRF is needed, but {path} has no image with two '
               f'axes{where}: pass another file or extension.')
        raise ValueError(msg)
    return images[0]


def write_image(path, data, spacing, origin, cards=None, overwrite=False):
    """Write an image as the primary one of a file and return the path."""
    hdu = fits.PrimaryHDU(np.array(data))
    hdu.header.update(wcs_keywords(origin, (0.0, 0.0), spacing))
    hdu.header.update(cards or {})
    path = Path(path).expanduser()
    with write_whole(path, overwrite) as temporary:
        hdu.writeto(temporary, checksum=True)
    return path


def wcs_keywords(origin, position, spacing):
    """Return the keywords that place an image on the detector.

    Parameters
    ----------
    origin : (float, float)
        x and y of the star among the samples, the first at 0.
    position : (float, float)
        Where that is on the detector.
    spacing : (float, float)
        Size of a sample along x and y in pixels.
    """
    keywords = {'WCSNAMEP': 'PHYSICAL', 'WCSAXESP': 2}
    for axis, name in ((1, 'RAWX'), (2, 'RAWY')):
        keywords.update({
            f'CTYPE{axis}P': name, f'CUNIT{axis}P': 'PIXEL',
            f'CRPIX{axis}P': float(origin[axis - 1]) + 1.0,
            f'CRVAL{axis}P': float(position[axis - 1]), f'CDELT{axis}P': spacing[axis - 1]})
    return keywords
