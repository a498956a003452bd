# Licensed under a 3-clause BSD style license - see LICENSE
"""PSFs that the command names: a Gaussian, or a FITS file with one image or a grid of them."""

import argparse
import re
import warnings

import numpy as np
from astropy.nddata import NDData
from astropy.utils.exceptions import AstropyUserWarning

from .._files import header_value
from ..models.unit import UnitPSF
from .checks import positive_number
from .image import as_place, read_image_file

__all__ = ['OVERSAMPLING_KEYWORDS', 'as_psf', 'fwhm_of', 'make_psf']

OVERSAMPLING_KEYWORDS = ('OVERSAMP', 'OVERSAMPLING', 'DET_SAMP')
WANTED = 'A PSF image'
# Pixels by which the light of a PSF may be off the middle of its image without a warning.
CENTRE_TOLERANCE = 0.1


def as_psf(text):
    """Return the FWHM of ``gaussian:FWHM``, or path and extension of a file."""
    if text.startswith('gaussian:'):
        return positive_number(text.removeprefix('gaussian:'))
    if text == 'gaussian':
        raise argparse.ArgumentTypeError('gaussian:FWHM is needed, with the width in pixels')
    return as_place(text)


def make_psf(options):
    """Return the model that the options describe.

    Parameters
    ----------
    options : argparse.Namespace
        ``psf``, ``oversampling``, ``psf_detector``, ``normalize`` and ``free_width``.

    Returns
    -------
    `~astropy.modeling.Model`

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, or is no PSF.
    """
    if isinstance(options.psf, float):
        from photutils.psf import CircularGaussianPRF
        psf = CircularGaussianPRF(fwhm=options.psf)
        psf.fwhm.fixed = not options.free_width
        return psf
    path, extension = options.psf
    image = read_image_file(path, extension, wanted=WANTED, n_axes=(2, 3))
    n_bad = np.count_nonzero(~np.isfinite(image.data))
    if n_bad or min(image.data.shape[-2:]) < 4:
        found = (f'{n_bad} of {image.data.size} are not' if n_bad else
                 f'it has {" x ".join(map(str, image.data.shape[::-1]))} pixels')
        raise ValueError(f'{WANTED} of at least 4 x 4 finite pixels is needed, but in {path} '
                         f'{found}: pass another.')
    make = _image_psf if image.data.ndim == 2 else _gridded_psf
    return make(path, image, options)


def fwhm_of(psf):
    """Return the full width at half maximum of a PSF in pixels."""
    return float(psf.fwhm.value) if 'fwhm' in psf.param_names else UnitPSF(psf).fwhm


def _image_psf(path, image, options):
    """Return the PSF of one image."""
    from photutils.psf import ImagePSF
    oversampling = options.oversampling or _find_oversampling(path, image.header)
    data = _scaled(path, image.data[np.newaxis], oversampling, options)[0]
    psf = ImagePSF(data, oversampling=oversampling)
    _warn_of_centre(path, psf)
    return psf


def _gridded_psf(path, image, options):
    """Return the PSF of images at places on a detector."""
    from photutils.psf import GriddedPSFModel
    if options.oversampling:
        raise ValueError(f'--oversampling is for a single PSF image, but {path} has a grid of '
                         'them, whose header tells: leave it out.')
    images = image.data
    if 'NXPSFS' in image.header:
        (images, places), oversampling = _read_stdpsf(path, options.psf_detector), 4
    elif 'DET_YX0' in image.header:
        places = _webbpsf_places(path, image)
        oversampling = _find_oversampling(path, image.header)
    else:
        raise ValueError(f'A grid of PSFs needs their places in the header, in the keywords '
                         f'NXPSFS, NYPSFS, IPSFX01, ... or DET_YX0, ..., but {path} has none of '
                         'these: pass a single image, as FILE[EXT].')
    data = _scaled(path, images, oversampling, options)
    return GriddedPSFModel(NDData(data, meta={'grid_xypos': places,
                                              'oversampling': oversampling}))


def _read_stdpsf(path, detector):
    """Return images (n, ny, nx) and their x and y from a file in STScI's standard format."""
    from photutils.psf import GriddedPSFModel
    try:
        psf = GriddedPSFModel.read(path, format='stdpsf', detector_id=detector)
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f'A grid of PSFs in the standard format of STScI is needed, but {path} '
                         f'cannot be read ({error}): pass the detector of a file with several as '
                         '--psf-detector, or another file.') from error
    return np.asarray(psf.data, dtype=float), [tuple(place) for place in psf.grid_xypos]


def _webbpsf_places(path, image):
    """Return x and y of the PSFs of a grid of WebbPSF, whose header has y first."""
    places = []
    for number in range(len(image.data)):
        text = header_value(image.header, f'DET_YX{number}', str) or ''
        values = re.fullmatch(r'\(\s*([^,\s]+)\s*,\s*([^,\s]+)\s*\)', text)
        try:
            y, x = map(float, values.groups())
        except (AttributeError, ValueError):
            raise ValueError(f'The header must tell the place of each of the {len(image.data)} '
                             f'PSFs as (y, x), but DET_YX{number} of {path} is {text!r}: correct '
                             'it.') from None
        places.append((x, y))
    return places


def _find_oversampling(path, header):
    """Return the oversampling of a PSF from its header."""
    found = {key: header_value(header, key, int) for key in OVERSAMPLING_KEYWORDS}
    found = {key: value for key, value in found.items() if value and value > 0}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    said = (' and '.join(f'{key} = {value}' for key, value in found.items()) or
            f'none of {", ".join(OVERSAMPLING_KEYWORDS)}')
    raise ValueError(f'The oversampling of a PSF image is needed, but the header of {path} has '
                     f'{said}: pass it as --oversampling, 1 if its pixels are those of the image.')


def _scaled(path, images, oversampling, options):
    """Return images (n, ny, nx), of flux 1 if that is asked for."""
    shares = images.sum(axis=(1, 2)) / oversampling**2
    if not np.all(shares > 0):
        raise ValueError(f'{WANTED} must have a positive sum, but in {path} it is '
                         f'{shares.min() * oversampling**2:.6g}: pass another.')
    # Without being asked, what a flux means is told, and not changed.
    return images / shares[:, np.newaxis, np.newaxis] if options.normalize else images


def _warn_of_centre(path, psf):
    """Warn if the light of a PSF image is not in its middle."""
    offset = UnitPSF(psf).centroid
    if max(map(abs, offset)) > CENTRE_TOLERANCE:
        warnings.warn(f'The middle of a PSF image is where the star is, but the core of {path} '
                      f'is ({offset[0]:+.2f}, {offset[1]:+.2f}) pixels away: x_fit and y_fit '
                      'will be off by as much.', AstropyUserWarning)
