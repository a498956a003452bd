# Licensed under a 3-clause BSD style license - see LICENSE
"""`kpsf photometry`: the stars of a FITS image."""

import hashlib
import warnings
from functools import partial
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning

from .._files import stem_of
from ..photometry import PoissonPSFPhotometry
from ..photometry.results import FLAGS
from ..photometry.sources import LARGE_GROUP
from .checks import (
    as_path,
    not_negative_number,
    odd,
    positive,
    positive_number,
    refuse,
    require_absent,
    require_folder,
)
from .electrons import (
    EXPOSURE_KEYWORDS,
    GAIN_KEYWORDS,
    READ_NOISE_KEYWORDS,
    find_electrons,
    unit_of,
)
from .image import as_extension, as_place, read_image_file
from .outputs import FIGURE_SUFFIXES, require_suffix, save_figure
from .psf import OVERSAMPLING_KEYWORDS, as_psf, fwhm_of, make_psf
from .stars import SEPARATIONS, find_stars, group_stars, read_stars
from .tables import TABLE_SUFFIXES, versions, write_table
from .terminal import run_jobs

__all__ = ['add']

# In units of the FWHM.
BOX = 5.0
# Standard deviations of a star that is found.
THRESHOLD = 5.0
# Goodness of fit beyond which a star is told of, and the middle one of all that is too good.
GOOD, TOO_GOOD = 5.0, -3.0


def add(commands):
    """Add `kpsf photometry`."""
    parser = commands.add_parser(
        'photometry', help='measure the stars of a FITS image',
        description='Fit a PSF to the stars of a FITS image by Poisson maximum likelihood, and '
        'write a table with their positions, fluxes and errors. x is the column, y the row, '
        'and the centre of the first pixel is (0, 0).',
        epilog='An image of photon counts: kpsf photometry counts.fits.gz --psf gaussian:2.7 '
        '--threshold 4 --gain 1 --centroid-prior 1 --plot counts.png')
    parser.set_defaults(run=_run, prog=parser.prog)
    parser.add_argument('image', type=as_path, metavar='IMAGE',
                        help='FITS image; pixels that are not finite are left out')
    parser.add_argument('--extension', type=as_extension, metavar='NAME|NUMBER',
                        help='extension with the image (default: the first image with two axes)')
    _add_psf(parser)
    _add_stars(parser)
    _add_noise(parser)
    parser.add_argument('-o', '--output', type=as_path, metavar='FILE',
                        help=f'table of results, {", ".join(TABLE_SUFFIXES)} (default: '
                        'IMAGE-photometry.ecsv in the current folder)')
    parser.add_argument('--plot', type=as_path, metavar='PNG',
                        help='figure of the image with the stars, and of what is left')
    parser.add_argument('--overwrite', action='store_true', help='replace existing files')
    parser.add_argument('--threads', type=positive, metavar='N',
                        help='threads for the fits (default: 1)')
    parser.add_argument('--debug', action='store_true', help='show where errors come from')


def _add_psf(parser):
    """Add the options of the PSF."""
    group = parser.add_argument_group('point-spread function')
    group.add_argument('--psf', required=True, type=as_psf, metavar='gaussian:FWHM|FILE[EXT]',
                       help='a round Gaussian integrated over the pixels, with its full width at '
                       'half maximum in pixels, or a FITS file with one image of the PSF, the '
                       'star in its middle, or a grid of them (WebbPSF, or STDPSF of STScI)')
    group.add_argument('--free-width', action='store_true',
                       help='fit the FWHM of the Gaussian for each star')
    group.add_argument('--oversampling', type=positive, metavar='N',
                       help='pixels of the PSF image per pixel (default: '
                       f'{", ".join(OVERSAMPLING_KEYWORDS)} in its header)')
    group.add_argument('--normalize', action='store_true',
                       help='scale a PSF image to the sum 1 per pixel of the image')
    group.add_argument('--psf-detector', type=positive, metavar='N',
                       help='detector in an STDPSF file with several')


def _add_stars(parser):
    """Add the options that say which stars are fitted and how."""
    group = parser.add_argument_group('stars')
    where = group.add_mutually_exclusive_group()
    where.add_argument('--init', type=as_path, metavar='TABLE',
                       help='table of stars (ECSV, FITS, CSV, ...) with the columns x and y, or '
                       'the names of photutils, or ra and dec in degrees (ICRS); id, group_id, '
                       'flux_init and local_bkg are used if they are there')
    where.add_argument('--threshold', type=positive_number, metavar='N',
                       help='without --init, find the stars that are N standard deviations above '
                       'the local background, where the light under the PSF counts (default: '
                       f'{THRESHOLD:g})')
    group.add_argument('--near', nargs=2, type=float, metavar=('X', 'Y'),
                       help='without --init, only the star that is found nearest to this place, '
                       'in the first row, and those that are fitted jointly with it')
    group.add_argument('--box', type=odd, metavar='N',
                       help='height and width in pixels of what is fitted around each star '
                       f'(default: {BOX:g} FWHM)')
    group.add_argument('--group-separation', type=not_negative_number, metavar='PIXELS',
                       help='stars closer than this are fitted jointly, 0 for none (default: '
                       f'group_id of the table, or else {SEPARATIONS[0]:g} FWHM, but down to '
                       f'{SEPARATIONS[-1]:g} where groups would have more than {LARGE_GROUP} '
                       'stars)')
    group.add_argument('--centroid-prior', type=positive_number, metavar='PIXELS',
                       help='standard deviation of a Gaussian prior on the positions, around '
                       'those of the table or of the finder')
    group.add_argument('--mask', type=as_place, metavar='FILE[EXT]',
                       help='FITS image of pixels to leave out, those that are not 0')
    group.add_argument('--saturation', type=positive_number, metavar='LEVEL',
                       help='leave out pixels at or above this value')


def _add_noise(parser):
    """Add the options of electrons and background."""
    group = parser.add_argument_group('noise and background')
    group.add_argument('--gain', type=positive_number, metavar='G',
                       help='electrons per unit of the data (default: 1 if BUNIT says electrons '
                       f'or photons, or else {", ".join(GAIN_KEYWORDS)} in the header)')
    group.add_argument('--read-noise', type=not_negative_number, metavar='E',
                       help='standard deviation in electrons (default: '
                       f'{", ".join(READ_NOISE_KEYWORDS)} in the header, or else 0)')
    group.add_argument('--exposure', type=positive_number, metavar='SECONDS',
                       help='of an image in units per second (default: '
                       f'{", ".join(EXPOSURE_KEYWORDS)} in the header)')
    group.add_argument('--background-subtracted', type=_level_or_place, metavar='LEVEL|FILE[EXT]',
                       help='what was subtracted from the image, in its unit, a number or a FITS '
                       'image (default: nothing was, and one constant is fitted around each star)')


def _level_or_place(text):
    """Return a number of at least 0, or path and extension of a file."""
    try:
        float(text)
    except ValueError:
        return as_place(text)
    return not_negative_number(text)


def _run(options):
    """Measure the stars of an image; return the exit status."""
    _require_psf_options(options)
    if options.near is not None and options.init is not None:
        refuse(options, '--near is for stars that are found: leave out --near or --init')
    output = options.output or Path(f'{stem_of(options.image)}-photometry.ecsv')
    _require_outputs(options, output)
    job = partial(_measure, options, output)
    return 1 if run_jobs(options, [(options.image, options.image, job)]) else 0


def _require_psf_options(options):
    """Exit unless the options of the PSF are for the one that is asked for."""
    is_gaussian = isinstance(options.psf, float)
    wrong = [name for name in ('oversampling', 'normalize', 'psf_detector')
             if is_gaussian and getattr(options, name)]
    wrong += ['free_width'] if options.free_width and not is_gaussian else []
    if wrong:
        kind = 'a FITS file' if is_gaussian else 'gaussian:FWHM'
        refuse(options, f'--{wrong[0].replace("_", "-")} is for --psf with {kind}: leave it out')


def _require_outputs(options, output):
    """Exit unless the files can be written, and none of them is read."""
    require_suffix(options, '-o', output, TABLE_SUFFIXES)
    if options.plot is not None:
        require_suffix(options, '--plot', options.plot, FIGURE_SUFFIXES)
    inputs = {path.resolve() for path in _inputs(options)}
    for path in filter(None, (output, options.plot)):
        require_folder(options, path.parent)
        if path.resolve() in inputs:
            refuse(options, f'{path} would be read and written: choose another output')


def _inputs(options):
    """Return all files that are read."""
    places = (options.psf, options.mask, options.background_subtracted)
    named = [place[0] for place in places if isinstance(place, tuple)]
    return [options.image, *filter(None, [options.init]), *named]


def _measure(options, output):
    """Measure the stars and write the files; return a line about them."""
    for target in filter(None, (output, options.plot)):
        require_absent(target, options)
    image = read_image_file(options.image, options.extension)
    electrons = find_electrons(image.header, options.gain, options.read_noise, options.exposure)
    mask, subtracted = _read_mask(options, image), _read_subtracted(options, image)
    psf = make_psf(options)
    fwhm = fwhm_of(psf)
    stars = _find_or_read(options, image, mask, subtracted, psf, electrons)
    groups = _group(options, stars, fwhm)
    if options.near is not None:
        stars = stars[stars['group_id'] == stars['group_id'][0]]
    photometry = _prepare(options, psf, fwhm, electrons, subtracted)
    print(f'{options.image}: {_stars(len(stars))} to fit; {electrons.origin}; '
          f'{_describe(photometry)}; groups: {groups}', flush=True)
    results = _fit(photometry, image, mask, stars)
    unit = unit_of(image.header)
    table = _with_units(results, unit, image.wcs)
    table.meta = _meta(options, photometry, electrons, fwhm) | {'groups': groups}
    if options.plot is not None:
        from ..plotting import plot_photometry
        save_figure(lambda: plot_photometry(photometry, image.data, mask=mask, unit=unit),
                    options.plot, options)
    write_table(table, output, options.overwrite)
    answer = '' if options.near is None else f'{_answer(table[0])}; '
    return f'{options.image}: {answer}{_summary(results)} -> {output}'


def _find_or_read(options, image, mask, subtracted, psf, electrons):
    """Return the table of stars."""
    if options.init is not None:
        return read_stars(options.init, image.wcs, unit_of(image.header))
    options.threshold = options.threshold or THRESHOLD
    try:
        return find_stars(image.data, mask, subtracted, psf, options.threshold, electrons,
                          options.near)
    except ValueError as error:
        raise ValueError(str(error).replace('near must', '--near must')) from error


def _read_mask(options, image):
    """Return the pixels to leave out, (ny, nx)."""
    mask = ~np.isfinite(image.data)
    if options.mask is not None:
        marks = _read_like(image, options.mask, 'A mask')
        mask |= (marks != 0) | np.isnan(marks)
    if options.saturation is not None:
        with np.errstate(invalid='ignore'):
            mask |= image.data >= options.saturation
    if mask.all():
        raise ValueError(f'An image with pixels that count is needed, but all {mask.size} of '
                         f'{options.image} are masked or not finite: check --mask, --saturation '
                         'and --extension.')
    return mask


def _read_subtracted(options, image):
    """Return the background that is no longer in the image, None if nothing was subtracted."""
    if isinstance(options.background_subtracted, tuple):
        return _read_like(image, options.background_subtracted, 'A background')
    return options.background_subtracted


def _read_like(image, place, wanted):
    """Return an image that must have the shape of another."""
    path, extension = place
    found = read_image_file(path, extension, wanted=wanted).data
    if found.shape != image.data.shape:
        sizes = [' x '.join(map(str, data.shape[::-1])) for data in (image.data, found)]
        raise ValueError(f'{wanted} must have the size of the image, {sizes[0]}, but {path} has '
                         f'{sizes[1]} pixels: pass another.')
    return found


def _group(options, stars, fwhm):
    """Give each star the number of its group; return what groups are in words."""
    if options.group_separation is None and 'group_id' in stars.colnames:
        return 'group_id of the table'
    stars['group_id'], separation = group_stars(stars, fwhm, options.group_separation)
    return f'closer than {separation:.3g} pixels' if separation else 'none'


def _prepare(options, psf, fwhm, electrons, subtracted):
    """Return the photometry that the options describe."""
    box = options.box or max(2 * int(np.ceil((BOX * fwhm - 1.0) / 2.0)) + 1, 3)
    # A star that leaves its box, or the place where it was found, is no longer the one meant.
    reach = box / 2 if options.init is not None else min(box / 2, max(fwhm, 1.0))
    return PoissonPSFPhotometry(
        psf, box, background='fit' if subtracted is None else subtracted, xy_bounds=reach,
        centroid_prior=options.centroid_prior, gain=electrons.gain,
        read_noise=electrons.read_noise, n_threads=options.threads)


def _fit(photometry, image, mask, stars):
    """Return the results of a photometry; errors and warnings name the options of the command."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always', AstropyUserWarning)
            return photometry(image.data, mask=mask, init_params=stars)
    except ValueError as error:
        raise ValueError(_as_options(error)) from error
    finally:
        for warning in caught:
            warnings.warn(_as_options(warning.message), warning.category)


def _as_options(message):
    """Return a message that names the options of the command in place of arguments."""
    return str(message).replace('as background=', 'as --background-subtracted').replace(
        'that background= is', 'that --background-subtracted is').replace(
        'as read_noise=', 'as --read-noise')


def _describe(photometry):
    """Return PSF, box and background in words."""
    background = photometry.background
    known = ('fitted' if isinstance(background, str) else
             f'{background:g} subtracted' if np.ndim(background) == 0 else 'image subtracted')
    return (f'{type(photometry.psf_model).__name__} in boxes of {photometry.fit_shape[1]} x '
            f'{photometry.fit_shape[0]} pixels, background {known}')


def _with_units(results, unit, wcs):
    """Return the table with the unit of the image, and coordinates where there are any."""
    table = QTable(results, copy=True)
    for name in table.colnames:
        if name.startswith(('flux_', 'background_')) or name == 'local_bkg':
            table[name] = table[name] if unit is None else table[name] << unit
    if wcs is not None:
        sky = wcs.pixel_to_world(np.asarray(table['x_fit']), np.asarray(table['y_fit'])).icrs
        place = table.colnames.index('flux_fit')
        table.add_columns([sky.ra.deg * u.deg, sky.dec.deg * u.deg], [place, place],
                          ['ra', 'dec'])
    return table


def _meta(options, photometry, electrons, fwhm):
    """Return what the results were made with and from."""
    psf = options.psf
    named = {
        'psf': f'gaussian:{psf:g}' if isinstance(psf, float) else _place_in_words(psf),
        'mask': _place_in_words(options.mask),
        'init': str(options.init) if options.init is not None else None,
        'near': '{:g} {:g}'.format(*options.near) if options.near is not None else None}
    subtracted = options.background_subtracted
    named['background'] = ('fit' if subtracted is None else _place_in_words(subtracted)
                           if isinstance(subtracted, tuple) else float(subtracted))
    given = {name: getattr(options, name) for name in (
        'extension', 'threshold', 'saturation', 'centroid_prior', 'free_width', 'normalize')}
    return versions() | {
        'image': options.image.name, 'image_sha256': _checksum(options.image),
        'psf_model': type(photometry.psf_model).__name__, 'fwhm': fwhm,
        'gain': electrons.gain, 'read_noise': electrons.read_noise,
        'electrons': electrons.origin, 'fit_shape': photometry.fit_shape[0],
    } | {name: value for name, value in (named | given).items() if value not in (None, False)}


def _place_in_words(place):
    """Return path and extension as they are given."""
    if place is None:
        return None
    path, extension = place
    return str(path) if extension is None else f'{path}[{extension}]'


def _checksum(path):
    """Return the SHA-256 of a file."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _answer(row):
    """Return place and flux of a star in words."""
    flux, error = (getattr(row[name], 'value', row[name]) for name in ('flux_fit', 'flux_err'))
    unit = getattr(row['flux_fit'], 'unit', '')
    return (f'flux {flux:.6g} +- {float(f"{error:.3g}"):g} {unit}'.rstrip()
            + f' at ({row["x_fit"]:.2f}, {row["y_fit"]:.2f})')


def _summary(results):
    """Return in words how the fits went."""
    with np.errstate(divide='ignore', invalid='ignore'):
        ratio = np.asarray(results['flux_fit']) / np.asarray(results['flux_err'])
    ratio, gof = (values[np.isfinite(values)] for values in (ratio, np.asarray(results['gof_z'])))
    counts = f'{_stars(len(results))}, {_flagged(np.asarray(results["flags"]))}'
    if not ratio.size or not gof.size:
        return f'{counts}, none fitted'
    low, middle, high = np.percentile(gof, [16, 50, 84])
    median, spread = ('median ', f' ({low:+.1f} to {high:+.1f})') if len(results) > 1 else ('', '')
    return (f'{counts}, {median}S/N {np.median(ratio):.1f}, goodness of fit {middle:+.1f}{spread} '
            f'sigma{_verdict(gof, middle)}')


def _stars(n):
    """Return a number of stars in words."""
    return f'{n} star' if n == 1 else f'{n} stars'


def _flagged(flags):
    """Return in words how many stars have flags, and which."""
    n_by_name = {name: np.count_nonzero(flags & bit) for name, bit in FLAGS.items()}
    named = ', '.join(f'{name} {n}' for name, n in n_by_name.items() if n)
    return f'{np.count_nonzero(flags)} flagged' + (f' ({named})' if named else '')


def _verdict(gof, middle):
    """Return what goodnesses of fit (n,) and the middle one mean, empty where all is well."""
    n_bad = np.count_nonzero(gof > GOOD)
    words = (f'; {_stars(n_bad)} above {GOOD:g}: the PSF or the noise is not right there, see '
             'kpsf advise') if n_bad else ''
    if middle < TOO_GOOD or np.any(gof < -GOOD):
        words += '; the pixels scatter less than photons do: is the gain right?'
    return words
