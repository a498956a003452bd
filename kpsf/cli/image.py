# Licensed under a 3-clause BSD style license - see LICENSE
"""Images in FITS files, as the commands read them."""

import argparse
import re
import warnings
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS, FITSFixedWarning

from .._files import DAMAGE, damaged, open_fits
from .checks import as_path

__all__ = ['ImageFile', 'as_extension', 'as_place', 'holds_cadences', 'read_image_file']


@dataclass(frozen=True)
class ImageFile:
    """An image of a FITS file.

    Attributes
    ----------
    data : ndarray, shape (ny, nx), or (n, ny, nx) where that was allowed
    header : `~astropy.io.fits.Header`
        Of the image, and what it lacks of the primary header.
    wcs : `~astropy.wcs.WCS` or None
        Celestial coordinates, where the image has them.
    """

    data: np.ndarray
    header: fits.Header
    wcs: WCS | None


def as_extension(text):
    """Return the number or name of an extension."""
    return int(text) if re.fullmatch(r'\d+', text) else text


def as_place(text):
    """Return path and extension, None if there is none, of ``FILE[EXT]``."""
    path, extension = re.fullmatch(r'(.*?)(?:\[([^][]+)\])?', text, re.DOTALL).groups()
    if not path:
        raise argparse.ArgumentTypeError(f'a file is needed, but it is {text!r}')
    return as_path(path), None if extension is None else as_extension(extension)


def read_image_file(path, extension=None, *, wanted='A FITS image', n_axes=(2,)):
    """Read an image, by default the first of a file.

    Parameters
    ----------
    path : Path
    extension : int or str, optional
    wanted : str, optional
        What an error says was required.
    n_axes : tuple of int, optional
        How many axes it may have.

    Returns
    -------
    ImageFile

    Raises
    ------
    OSError, ValueError
        If there is no such file or image, or it is damaged.
    """
    with open_fits(path, wanted) as hdulist:
        hdu = _choose(hdulist, path, extension, wanted, n_axes)
        header = hdu.header.copy()
        header.extend(hdulist[0].header, unique=True, strip=True)
        wcs = _celestial_wcs(hdu.header, hdulist, path) if 'CTYPE1' in hdu.header else None
        try:
            return ImageFile(np.array(hdu.data, dtype=float), header, wcs)
        except DAMAGE as error:
            raise damaged(path, error) from error


def _choose(hdulist, path, extension, wanted, n_axes):
    """Return the extension that is asked for, or the first image."""
    needed = f'{wanted} with {" or ".join(map(str, n_axes))} axes is needed, but'
    if extension is None:
        if any(holds_cadences(hdu) for hdu in hdulist):
            # Its one image is the aperture, which says nothing of the star.
            raise ValueError(f'{needed} {path} is a target pixel file: use kpsf lightcurve, or '
                             'choose an extension.')
        for hdu in hdulist:
            if _is_image(hdu, n_axes):
                return hdu
        raise ValueError(f'{needed} {path} has only {_contents(hdulist)}: pass another file.')
    try:
        hdu = hdulist[extension]
    except LookupError:
        raise ValueError(f'{needed} {path} has no extension {extension}, only '
                         f'{_contents(hdulist)}: choose one of these.') from None
    if not _is_image(hdu, n_axes):
        raise ValueError(f'{needed} extension {extension} of {path} is {_describe(hdu)}: choose '
                         f'among {_contents(hdulist)}.')
    return hdu


def _is_image(hdu, n_axes):
    """Say whether an extension is an image with so many axes."""
    return hdu.is_image and len(hdu.shape) in n_axes


def holds_cadences(hdu):
    """Say whether an extension is the table of a target pixel file."""
    return not hdu.is_image and {'FLUX', 'QUALITY'} <= set(hdu.columns.names)


def _contents(hdulist):
    """Return the extensions in words."""
    return ', '.join(f'{number} {hdu.name} ({_describe(hdu)})'
                     for number, hdu in enumerate(hdulist))


def _describe(hdu):
    """Return in words what an extension is."""
    if not hdu.is_image:
        return 'a table'
    return f'{" x ".join(map(str, hdu.shape[::-1]))} pixels' if hdu.shape else 'no data'


def _celestial_wcs(header, hdulist, path):
    """Return the celestial coordinates of an image, or None; warn if they cannot be read."""
    with warnings.catch_warnings():
        # What astropy mends in old headers is nothing to worry about.
        warnings.simplefilter('ignore', FITSFixedWarning)
        try:
            wcs = WCS(header, hdulist).celestial
            return wcs if wcs.has_celestial else None
        except (ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:
            problem = error
    warnings.warn(f'The celestial coordinates of {path} cannot be read ({problem}): there are '
                  'positions in pixels only.', AstropyUserWarning)
    return None
