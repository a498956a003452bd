# Licensed under a 3-clause BSD style license - see LICENSE
"""Simulated PRF calibration files of Kepler and TESS, whose PRF is known."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.modeling import Model

from .._files import write_whole
from .._validation import require_finite, require_positive_integer
from ..models import EllipticalGaussianPRF, position_names, total_flux_name
from ..prf.calibration import DATE_FROM_SECTOR_1, DATE_FROM_SECTOR_4, VERSION_FROM_SECTOR_4
from ..prf.channels import FIRST_SECTORS, channel_to_module_output
from ..prf.files import tess_prf_files
from ..prf.writing import KEPLER_CENTRE, KEPLER_CORNERS

__all__ = ['simulate_kepler_prf', 'simulate_tess_prf']

KEPLER_CENTRE_AS_PUBLISHED = (549.5, 511.5)
TESS_CENTRE = (1068.5, 1024.5)
TESS_SAMPLES, TESS_PIXELS = 9, 13
# Width of the optics in the middle of the detector, in pixels.
STDDEV = {'Kepler': 0.60, 'TESS': 0.75}


def simulate_kepler_prf(path, psf=None, *, channel=20, n_pixels=11, oversampling=50,
                        centre_as_published=True, overwrite=False):
    """Write a simulated PRF calibration file in Kepler's layout.

    Parameters
    ----------
    path : str or path-like
        File to write.
    psf : `~astropy.modeling.Model` or callable, optional
        What a star of flux 1 at (0, 0) leaves in a pixel, by the position
        of the pixel's centre: a two-dimensional model that is integrated
        over the pixel already, such as `EllipticalGaussianPRF`. A flux and a
        position that it knows by name are set to 1 and 0. Or a function of
        the detector's column and row that returns such a model. Default:
        Gaussians that grow and stretch a little from the middle of the
        detector to its corners.
    channel : int, optional
        Channel, 1 to 84.
    n_pixels : int, optional
        Pixels along a side of the images; in the archive 11, and 15 for
        channels with a wide PRF.
    oversampling : int, optional
        Samples per pixel.
    centre_as_published : bool, optional
        Whether the header puts the fifth image where the archive's files
        do, 12 columns and 20 rows beside the middle, where it is in truth.
    overwrite : bool, optional
        Whether to replace an existing file.

    Returns
    -------
    pathlib.Path
        The file that was written.

    Raises
    ------
    TypeError
        If ``psf`` is no model of x and y and returns none.
    ValueError
        If an argument is out of range or the model not finite.
    FileExistsError
        If the file exists and ``overwrite`` is False.
    OSError
        If the file cannot be written.

    See Also
    --------
    simulate_tess_prf : The same for TESS.

    Examples
    --------
    >>> from astropy.io import fits
    >>> from kpsf.simulate import simulate_kepler_prf
    >>> path = simulate_kepler_prf('kplr07.4_2011265_prf.fits', channel=20)
    >>> header = fits.getheader(path, 5)
    >>> print(header['CRPIX1P'], header['CRVAL1P'], header['CDELT1P'])
    275.0 549.5 0.02
    """
    module, output = channel_to_module_output(channel)
    oversampling = require_positive_integer(oversampling, 'oversampling')
    n_samples = require_positive_integer(n_pixels, 'n_pixels') * oversampling
    # As published for an even number, where no sample is in the middle.
    reference = (n_samples + 1) // 2
    function = _model_by_position(psf, KEPLER_CENTRE, STDDEV['Kepler'])
    primary = fits.PrimaryHDU()
    primary.header.update({'TELESCOP': 'Kepler', 'INSTRUME': 'Kepler Photometer',
                           'CHANNEL': channel, 'MODULE': module, 'OUTPUT': output,
                           'ORIGIN': 'kpsf', 'SIMDATA': True,
                           # Day 265, which is in the names of the archive; lkprf asks for it.
                           'DATE': '2011-09-22'})
    hdulist = fits.HDUList([primary])
    published = KEPLER_CENTRE_AS_PUBLISHED if centre_as_published else KEPLER_CENTRE
    for number, position in enumerate([*KEPLER_CORNERS, KEPLER_CENTRE], start=1):
        image = _sample(function(*position), n_samples, reference, oversampling)
        hdu = fits.ImageHDU(image.astype(np.float32))
        hdu.header['EXTVER'] = number
        stated = published if position == KEPLER_CENTRE else position
        hdu.header.update(_wcs_keywords(reference, stated, 1 / oversampling, 2))
        hdulist.append(hdu)
    path = Path(path).expanduser()
    with write_whole(path, overwrite) as temporary:
        hdulist.writeto(temporary, checksum=True)
    return path


def simulate_tess_prf(folder, psf=None, *, camera=4, ccd=1, sector=1, overwrite=False):
    """Write the simulated PRF calibration files of one CCD in the layout of TESS.

    Parameters
    ----------
    folder : str or path-like
        Folder to write to; made if there is none.
    psf : `~astropy.modeling.Model` or callable, optional
        As of `simulate_kepler_prf`.
    camera, ccd : int, optional
        Camera and CCD, 1 to 4 each.
    sector : int, optional
        A sector that the files are for: there is one set for sectors 1 to 3
        and one for all later ones.
    overwrite : bool, optional
        Whether to replace existing files.

    Returns
    -------
    list of pathlib.Path
        The 25 files that were written, with the names they have in the
        archive.

    Raises
    ------
    TypeError
        If ``psf`` is no model of x and y and returns none.
    ValueError
        If an argument is out of range or the model not finite.
    FileExistsError
        If a file exists and ``overwrite`` is False. None is written then.
    OSError
        If a file cannot be written.

    See Also
    --------
    simulate_kepler_prf : The same for Kepler.

    Examples
    --------
    >>> from kpsf.simulate import simulate_tess_prf
    >>> paths = simulate_tess_prf('prf', camera=4, ccd=1, sector=1)
    >>> print(len(paths), paths[0].name)
    25 tess2018243163601-prf-4-1-row0001-col0045.fits
    """
    described = tess_prf_files(camera, ccd, sector)
    function = _model_by_position(psf, TESS_CENTRE, STDDEV['TESS'])
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for file in described:
        position = tuple(map(float, file.position))
        files[folder / file.name] = _tess_file(function(*position), file.detector, position)
    # All files or none.
    with ExitStack() as stack:
        temporary = [stack.enter_context(write_whole(path, overwrite)) for path in files]
        for path, hdulist in zip(temporary, files.values()):
            hdulist.writeto(path)
    return list(files)


def _tess_file(model, detector, position):
    """Return the HDUs of one file: the PRF, and uncertainties of zero."""
    n_samples = TESS_PIXELS * TESS_SAMPLES
    reference = (n_samples + 1) // 2
    image = _sample(model, n_samples, reference, TESS_SAMPLES)
    hdulist = fits.HDUList([fits.PrimaryHDU(image), fits.ImageHDU(np.zeros_like(image))])
    is_first_set = detector['first_sector'] == FIRST_SECTORS[0]
    column, row = position
    for hdu, kind in zip(hdulist, ('PRF', 'Uncertainties')):
        hdu.header.update({'ORIGIN': 'kpsf', 'SIMDATA': True,
                           'DATE': DATE_FROM_SECTOR_1 if is_first_set else DATE_FROM_SECTOR_4,
                           'DATATYPE': kind, 'TELESCOP': 'TESS'})
        if not is_first_set and kind == 'PRF':
            hdu.header['VERSION'] = VERSION_FROM_SECTOR_4
        hdu.header.update({'CAM': float(detector['camera']), 'CCD': float(detector['ccd']),
                           'CCD_RREF': row, 'CCD_CREF': column, 'NSAMP': float(TESS_SAMPLES),
                           'PRF_RES': 2.35})
        hdu.header.update(_wcs_keywords(reference, position, 0.111111111111111, 2.0))
    return hdulist


def _wcs_keywords(reference, position, spacing, n_axes):
    """Return the keywords that place an image on the detector."""
    keywords = {'WCSNAMEP': 'PHYSICAL', 'WCSAXESP': n_axes}
    for axis, name in ((1, 'RAWX'), (2, 'RAWY')):
        keywords.update({
            f'CTYPE{axis}P': name, f'CUNIT{axis}P': 'PIXEL', f'CRPIX{axis}P': float(reference),
            f'CRVAL{axis}P': position[axis - 1], f'CDELT{axis}P': spacing})
    return keywords


def _model_by_position(psf, centre, stddev):
    """Return a function of column and row that gives the model there."""
    if psf is None:
        return lambda column, row: _typical_model(column, row, centre, stddev)
    if isinstance(psf, Model):
        return lambda column, row: psf
    if callable(psf):
        return psf
    msg = ('psf must be an astropy model or a function of column and row that returns one, but '
           f'found {type(psf).__name__}: pass for example an EllipticalGaussianPRF.')
    raise TypeError(msg)


def _typical_model(column, row, centre, stddev):
    """Return a Gaussian that is wider the farther out it is, most so in that direction.

    It is wider at high columns, too, lest opposite corners be the same.
    """
    offset = np.array([column - centre[0], row - centre[1]])
    part = np.hypot(*offset) / np.hypot(*centre)
    stddev *= 1 + 0.03 * offset[0] / centre[0]
    return EllipticalGaussianPRF.from_stddev(
        1.0, 0.0, 0.0, stddev * (1 + 0.2 * part), stddev * (1 + 0.05 * part),
        float(np.arctan2(offset[1], offset[0])))


def _sample(model, n_samples, reference, oversampling):
    """Return the image (n_samples, n_samples) of a model, the star at the reference sample."""
    if getattr(model, 'n_inputs', 0) != 2:
        msg = ('psf must be or return an astropy model of x and y, but found '
               f'{type(model).__name__}: pass for example an EllipticalGaussianPRF.')
        raise TypeError(msg)
    offsets = (np.arange(n_samples) + 1 - reference) / oversampling
    y, x = np.meshgrid(offsets, offsets, indexing='ij')
    known = dict(zip((total_flux_name(model), *position_names(model)), (1.0, 0.0, 0.0)))
    model = model.copy()
    for name, value in known.items():
        if name is not None:
            setattr(model, name, value)
    image = np.asarray(model(x, y), dtype=float)
    require_finite(image, 'The PRF', 'pass a model that is finite everywhere')
    return image
