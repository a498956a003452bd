# Licensed under a 3-clause BSD style license - see LICENSE
"""`kpsf advise`: guidance for an image or a target pixel file of one's own."""

import shlex
from functools import partial

import numpy as np

from .._configuration import conf
from .._files import open_fits
from .._validation import below_read_noise
from ..guidance import advise
from ..prf import instrument_prf
from ..prf.download import asking_once
from ..tpf import read_tpf
from .checks import (
    as_path,
    not_negative_number,
    positive,
    positive_number,
    refuse,
    require_absent,
    require_folder,
)
from .electrons import find_electrons
from .image import as_extension, as_place, holds_cadences, read_image_file
from .outputs import FIGURE_SUFFIXES, require_suffix, save_figure
from .psf import OVERSAMPLING_KEYWORDS, as_psf, make_psf
from .terminal import run_jobs

__all__ = ['add']


def add(commands):
    """Add `kpsf advise`."""
    parser = commands.add_parser(
        'advise', help='say how to fit a star in an image or target pixel file',
        description='Say for a star in a FITS image or a target pixel file of Kepler, K2 or TESS '
        'what the flux of the PSF means, where the star is, what to do with its position, how '
        'large a box to fit, and whether the fit can be trusted. x is the column, y the row, and '
        'the centre of the first pixel is (0, 0).',
        epilog='Of a target pixel file, the cadence that is most like the median of all is looked '
        'at.')
    parser.set_defaults(run=_run, prog=parser.prog, normalize=False, free_width=False,
                        psf_detector=None)
    parser.add_argument('file', type=as_path, metavar='IMAGE|TPF',
                        help='FITS image, or target pixel file')
    parser.add_argument('--extension', type=as_extension, metavar='NAME|NUMBER',
                        help='extension with the image (default: the first image with two axes)')
    group = parser.add_argument_group('point-spread function')
    group.add_argument('--psf', type=_psf, metavar='gaussian:FWHM|prf|FILE[EXT]',
                       help='a round Gaussian integrated over the pixels, with its full width at '
                       'half maximum in pixels; of a target pixel file, the PRF of the '
                       'instrument; or a FITS image of the PSF (default: a fitted Gaussian)')
    group.add_argument('--oversampling', type=positive, metavar='N',
                       help='pixels of the PSF image per pixel (default: '
                       f'{", ".join(OVERSAMPLING_KEYWORDS)} in its header)')
    group.add_argument('--prf-path', action='append', default=[], type=as_path, metavar='DIR',
                       help='local folder with PRF files, for --psf prf')
    group = parser.add_argument_group('star')
    group.add_argument('--near', nargs=2, type=float, metavar=('X', 'Y'),
                       help='the star nearest to this place (default: the target of a target '
                       'pixel file, the most significant of an image)')
    group.add_argument('--within', type=positive_number, metavar='PIXELS',
                       help='how far from there it may be; if nothing is, the flux at the place '
                       'itself is given (default: 2 FWHM, at least 3 pixels)')
    group.add_argument('--known-to', type=positive_number, default=0.1, metavar='PIXELS',
                       help='standard deviation to which its position is known beforehand '
                       '(default: 0.1)')
    group.add_argument('--mask', type=as_place, metavar='FILE[EXT]',
                       help='FITS image of pixels to leave out, those that are not 0')
    group = parser.add_argument_group('noise and background of an image')
    group.add_argument('--gain', type=positive_number, metavar='G',
                       help='electrons per unit of the data (default: from the header)')
    group.add_argument('--read-noise', type=not_negative_number, metavar='E',
                       help='standard deviation in electrons (default: from the header, or 0)')
    group.add_argument('--exposure', type=positive_number, metavar='SECONDS',
                       help='of an image in units per second (default: from the header)')
    group.add_argument('--background-subtracted', type=not_negative_number, metavar='LEVEL',
                       help='what was subtracted from the image, in its unit')
    parser.add_argument('--plot', type=as_path, metavar='PNG', help='figure of all on one page')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing figure')
    parser.add_argument('--debug', action='store_true', help='show where errors come from')


def _psf(text):
    """Return ``'prf'``, the FWHM of a Gaussian, or path and extension of a file."""
    return text if text == 'prf' else as_psf(text)


def _run(options):
    """Print the advice; return the exit status."""
    if options.oversampling is not None and not isinstance(options.psf, tuple):
        refuse(options, '--oversampling is for --psf with a FITS file: leave it out')
    if options.prf_path and options.psf != 'prf':
        refuse(options, '--prf-path is for --psf prf: add it, or leave --prf-path out')
    if options.plot is not None:
        require_suffix(options, '--plot', options.plot, FIGURE_SUFFIXES)
        require_folder(options, options.plot.parent)
        if options.plot.resolve() == options.file.resolve():
            refuse(options, f'{options.plot} would be read and written: choose another figure')
    prf_path = [*options.prf_path, *(conf.prf_path or [])]
    with conf.set_temp('prf_path', prf_path), asking_once():
        jobs = [(options.file, options.file, partial(_advise, options))]
        return 1 if run_jobs(options, jobs) else 0


def _advise(options):
    """Return the text, and write the figure."""
    if options.plot is not None:
        require_absent(options.plot, options)
    arguments, psf, heading = (_of_pixels if _is_tpf(options) else _of_image)(options)
    if options.near is not None:
        arguments['near'] = tuple(options.near)
    if options.within is not None:
        arguments['within'] = options.within
    try:
        advice = advise(psf=psf, known_to=options.known_to, **arguments)
    except ValueError as error:
        text = str(error).replace('as background=', 'as --background-subtracted').replace(
            'pass read_variance=', '--read-noise').replace('near must', '--near must')
        raise ValueError(text) from error
    text = f'{options.file}: {heading}\n{advice}'
    if advice.fit_shape is not None:
        text += f'\nNext: {_next(options, advice)}'
    if options.plot is not None:
        from ..plotting import plot_advice
        save_figure(lambda: plot_advice(advice), options.plot, options)
        text += f'\n-> {options.plot}'
    return text


def _next(options, advice):
    """Return the command that measures the star, and the others of the image."""
    if _is_tpf(options):
        return shlex.join(['kpsf', 'lightcurve', str(options.file)])
    command = ['kpsf', 'photometry', str(options.file), '--psf']
    if options.psf is None:
        command.append(f'gaussian:{advice.psf.fwhm.value:.4g}')
    elif isinstance(options.psf, float):
        command.append(f'gaussian:{options.psf:g}')
    else:
        command.append(_of_file(options.psf))
    if not advice.normalization.is_total_flux:
        command.append('--normalize')
    command += ['--box', str(advice.fit_shape[0])]
    for name in ('extension', 'oversampling', 'mask', 'gain', 'read_noise', 'exposure',
                 'background_subtracted'):
        value = getattr(options, name)
        if value is not None:
            command += [f'--{name.replace("_", "-")}',
                        _of_file(value) if name == 'mask' else
                        f'{value:g}' if isinstance(value, float) else str(value)]
    if advice.diagnosis is None and advice.near is not None:
        command += ['--init', 'TABLE', '--centroid-prior', f'{options.known_to:g}']
        x, y = advice.near
        return (f'{shlex.join(command)}\n      where TABLE is a .csv file of two lines, x,y and '
                f'{x:g},{y:g}')
    return shlex.join(command)


def _of_file(place):
    """Return path and extension in words."""
    path, extension = place
    return str(path) if extension is None else f'{path}[{extension}]'


def _is_tpf(options):
    """Say whether the file is a target pixel file."""
    if options.extension is not None:
        return False
    with open_fits(options.file, 'A FITS image or target pixel file') as hdulist:
        return any(holds_cadences(hdu) for hdu in hdulist)


def _of_pixels(options):
    """Return the arguments of `advise`, the PSF, and a heading for a target pixel file."""
    for name in ('gain', 'read_noise', 'exposure', 'background_subtracted'):
        if getattr(options, name) is not None:
            raise ValueError(f'--{name.replace("_", "-")} is for an image, but {options.file} is '
                             'a target pixel file, which knows its noise: leave it out.')
    tpf = read_tpf(options.file)
    image, number = _typical_cadence(tpf)
    psf = instrument_prf(tpf) if options.psf == 'prf' else _model(options)
    arguments = {'data': image, 'read_variance': tpf.read_variance,
                 'mask': _read_mask(options, tpf.shape),
                 'near': _target(tpf)}
    seconds = tpf.noise.effective_exposure
    return arguments, psf, (f'{tpf.target} ({tpf.mission}), cadence {number} of {tpf.shape[1]} x '
                            f'{tpf.shape[0]} pixels; 1 e-/s is {seconds:.4g} e-')


def _typical_cadence(tpf):
    """Return electrons (ny, nx) of the cadence most like the median, NaN where unusable.

    A median has not the noise of electrons.
    """
    electrons = np.where(tpf.good_pixels & ~below_read_noise(tpf.electrons, tpf.read_variance),
                         tpf.electrons, np.nan)
    ever = np.isfinite(electrons).any(axis=0)
    if not ever.any():
        raise ValueError(f'A target pixel file with usable pixels is needed, but {tpf.target} has '
                         'none: pass another.')
    values = electrons[:, ever]
    away = np.nansum((values - np.nanmedian(values, axis=0))**2, axis=1)
    # A cadence that lacks pixels is not like the others.
    away[np.isfinite(values).sum(axis=1) < np.isfinite(values).sum(axis=1).max()] = np.inf
    row = int(np.argmin(away))
    return electrons[row], int(tpf.cadenceno[row])


def _target(tpf):
    """Return where the target is on average, in the stamp."""
    places = (float(np.median(place)) for place in tpf.expected_positions())
    return tuple(min(max(place, 0.0), size - 1.0) for place, size in zip(places, tpf.shape[::-1]))


def _of_image(options):
    """Return the arguments of `advise`, the PSF, and a heading for an image."""
    if options.psf == 'prf':
        raise ValueError(f'--psf prf is for a target pixel file, but {options.file} is an image: '
                         'pass gaussian:FWHM or a file.')
    image = read_image_file(options.file, options.extension)
    electrons = find_electrons(image.header, options.gain, options.read_noise, options.exposure)
    subtracted = options.background_subtracted
    counts = electrons.gain * (image.data + (subtracted or 0.0))
    arguments = {'data': counts, 'read_variance': electrons.read_noise**2,
                 'mask': _read_mask(options, counts.shape),
                 'background': None if subtracted is None else electrons.gain * subtracted}
    ny, nx = counts.shape
    return arguments, _model(options), f'{nx} x {ny} pixels; {electrons.origin}'


def _model(options):
    """Return the PSF that the options describe, None if they do not."""
    return None if options.psf is None else make_psf(options)


def _read_mask(options, shape):
    """Return the pixels to leave out, None if none are named."""
    if options.mask is None:
        return None
    path, extension = options.mask
    marks = read_image_file(path, extension, wanted='A mask').data
    if marks.shape != shape:
        raise ValueError(f'A mask must have the size of the image, {shape[1]} x {shape[0]}, but '
                         f'{path} has {marks.shape[1]} x {marks.shape[0]} pixels: pass another.')
    return (marks != 0) | np.isnan(marks)
