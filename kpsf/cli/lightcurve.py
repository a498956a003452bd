# Licensed under a 3-clause BSD style license - see LICENSE
"""`kpsf lightcurve`: light curves of target pixel files."""

import argparse
from functools import partial
from pathlib import Path

from .._configuration import conf
from ..batch.manifest import MANIFEST_SUFFIXES, journal_of
from ..batch.plan import output_of, plan_batch, require_distinct
from ..batch.rows import summarize
from ..batch.run import run_batch
from ..lightcurve import extract_light_curve, point_to_point_scatter
from ..lightcurve.files import LIGHT_CURVE_SUFFIXES
from ..prf.download import asking_once
from ..tpf import read_tpf
from ..tpf.read import QUALITY_MASKS
from .checks import (
    as_path,
    positive,
    refuse,
    require_absent,
    require_folder,
    require_outdir,
)
from .outputs import FIGURE_SUFFIXES, require_suffix, save_figure
from .terminal import Report, run_jobs, tell_error

__all__ = ['add', 'add_extraction_options', 'ppm', 'require_prf_path', 'require_shape']


def add(commands):
    """Add `kpsf lightcurve`."""
    parser = commands.add_parser(
        'lightcurve', help='make light curves of target pixel files',
        description='Make a light curve of each target pixel file of Kepler, K2 or TESS.')
    parser.set_defaults(run=_run, prog=parser.prog)
    parser.add_argument('files', nargs='+', type=Path, metavar='FILE', help='target pixel file')
    add_extraction_options(parser)
    _add_output_options(parser)


def add_extraction_options(parser):
    """Add the options that say how a light curve is made, which other commands have too."""
    parser.add_argument('--psf', default='gaussian', choices=['gaussian', 'prf'],
                        help="gaussian, whose shape is fitted, or prf, the instrument's own, from "
                        'files of its archive that are downloaded unless they are in a local '
                        'folder or the cache (default: gaussian)')
    parser.add_argument('--prf-path', action='append', default=[], type=as_path, metavar='DIR',
                        help='local folder with PRF files, such as fetch-prf --outdir fills, to '
                        'search before those of kpsf.conf.prf_path; may be given more than once')
    parser.add_argument('--shape', default='shared', choices=['shared', 'free'],
                        help='one shape of the PSF for all cadences, or one for each, which prf '
                        'does not have (default: shared)')
    parser.add_argument('--background', choices=['known', 'fit'],
                        help="the file's background and one constant, or one constant per "
                        'cadence (default: known where the file has one and the shape is shared)')
    parser.add_argument('--quality', default='default', type=_quality, metavar='MASK',
                        help=f'cadences to drop: {", ".join(QUALITY_MASKS["Kepler"])}, or an '
                        'integer of quality bits (default: default)')


def _add_output_options(parser):
    """Add the options that say what is written, and how the command runs."""
    output = parser.add_mutually_exclusive_group()
    output.add_argument('-o', '--output', type=as_path, metavar='OUT',
                        help=f'light curve to write, for one FILE; the ending '
                        f'({", ".join(LIGHT_CURVE_SUFFIXES)}) chooses the format')
    output.add_argument('--outdir', type=as_path, default=Path(), metavar='DIR',
                        help='folder for FILE-lightcurve.fits, created if it is not there '
                        '(default: the current one)')
    parser.add_argument('--plot', type=as_path, metavar='PNG',
                        help='figure of the light curve, for one FILE')
    parser.add_argument('--overwrite', action='store_true', help='replace existing files')
    parser.add_argument('--threads', type=positive, metavar='N',
                        help='threads for each file (default: 1)')
    _add_many(parser)
    parser.add_argument('--debug', action='store_true', help='show where errors come from')


def _add_many(parser):
    """Add the options of many files, any of which makes a batch with a manifest."""
    many = parser.add_argument_group('many files', 'With any of these, the files are worked on '
                                     'as a batch, and a table about them is written.')
    where = many.add_mutually_exclusive_group()
    where.add_argument('--workers', type=positive, metavar='N',
                       help='processes of this machine (default: 1)')
    where.add_argument('--scheduler', metavar='ADDRESS',
                       help='Dask cluster to work on instead, such as tcp://host:8786')
    many.add_argument('--resume', action='store_true',
                      help='go on where an earlier run ended or was killed: keep light curves '
                      'that are there, made from the same files with the same options')
    many.add_argument('--manifest', type=as_path, metavar='TABLE',
                      help=f'table to write, ending in {" or ".join(MANIFEST_SUFFIXES)} (default: '
                      'manifest.ecsv in --outdir)')


def _quality(text):
    """Return a quality setting, a name or an integer."""
    if text in QUALITY_MASKS['Kepler']:
        return text
    try:
        bits = int(text, 0)
    except ValueError:
        bits = -1
    if bits < 0:
        raise argparse.ArgumentTypeError(f'{", ".join(QUALITY_MASKS["Kepler"])} or an integer '
                                         f'>= 0 is needed, but it is {text!r}')
    return bits


def _run(options):
    """Make the light curves, one after the other or as a batch; return the exit status."""
    require_shape(options)
    outputs = _plan_outputs(options)
    require_prf_path(options)
    if options.workers or options.scheduler or options.resume or options.manifest:
        make = partial(_run_many, options)
    else:
        make = partial(_run_each, options, outputs)
    prf_path = [*options.prf_path, *(conf.prf_path or [])]
    with conf.set_temp('prf_path', prf_path), asking_once():
        return 1 if make() else 0


def _run_each(options, outputs):
    """Make one light curve after the other; return how many were not made."""
    jobs = [(path, path, partial(_make_light_curve, path, output, options))
            for path, output in zip(options.files, outputs)]
    return run_jobs(options, jobs)


def _run_many(options):
    """Make the light curves of a batch; return how many were not made."""
    for argument, value in (('-o', options.output), ('--plot', options.plot)):
        if value is not None:
            refuse(options, f'{argument} is not for a batch: use --outdir, or leave --workers, '
                   '--scheduler, --resume and --manifest out')
    try:
        plan = plan_batch(options.files, options.outdir, n_workers=options.workers or 1,
                          scheduler=options.scheduler, resume=options.resume,
                          overwrite=options.overwrite, manifest=options.manifest,
                          quality=options.quality, options=_fit_options(options))
    except (ImportError, ValueError) as error:
        refuse(options, str(error))
    _require_manifest(options, plan.manifest)
    names = dict(zip(map(str, plan.paths), options.files))
    with Report(options, len(names)) as told:
        run_batch(plan, partial(_tell_row, options, told, names))
    return told.n_left


def _require_manifest(options, manifest):
    """Exit unless the manifest of a batch can be written."""
    for path in (manifest, journal_of(manifest)):
        if path.exists() and not (options.resume or options.overwrite):
            refuse(options, f'an earlier run left {path}: pass --resume to go on with it, '
                   '--overwrite to replace it, or another --manifest')
    # The folder of the light curves may be yet to be created.
    if options.manifest and options.manifest.parent.resolve() != options.outdir.resolve():
        require_folder(options, options.manifest.parent)


def _tell_row(options, told, names, row, is_new):
    """Print what a row of a batch tells."""
    path = names[row['path']]
    if row['warnings']:
        told.warn(path, row['warnings'])
    with told.step(failed=row['status'] == 'failed'):
        if row['status'] == 'failed':
            tell_error(row['error'], options, path)
        else:
            line = _describe(row, output_of(path, options.outdir))
            print(line if is_new else f'{line} (there already)', flush=True)


def _fit_options(options):
    """Return the options of `extract_light_curve`."""
    return {'psf': options.psf, 'shape': options.shape, 'background': options.background,
            'n_threads': options.threads}


def require_shape(options):
    """Exit unless the PSF can have the shape that is asked for."""
    if options.psf == 'prf' and options.shape == 'free':
        refuse(options, '--shape free is for a shape that is fitted, but that of --psf prf is '
               'known: leave --shape out, or use --psf gaussian')


def require_prf_path(options):
    """Exit unless the folders of --prf-path exist and are of use."""
    if options.prf_path and options.psf != 'prf':
        refuse(options, f'--prf-path is for --psf prf, but the PSF is {options.psf}: add '
               '--psf prf, or leave --prf-path out')
    for folder in options.prf_path:
        if not folder.is_dir():
            found = f'{folder} is a file' if folder.exists() else f'there is no folder {folder}'
            refuse(options, f'{found}: --prf-path needs a folder with PRF files')


def _plan_outputs(options):
    """Return the file to write for each input; exit if that cannot work."""
    if options.output is None:
        require_outdir(options)
        outputs = [output_of(path, options.outdir) for path in options.files]
    else:
        if len(options.files) > 1:
            refuse(options, f'-o names one light curve, but there are {len(options.files)} '
                   'files: use --outdir')
        require_suffix(options, '-o', options.output, LIGHT_CURVE_SUFFIXES)
        require_folder(options, options.output.parent)
        outputs = [options.output]
    if options.plot is not None:
        if len(options.files) > 1:
            refuse(options, f'--plot names one figure, but there are {len(options.files)} '
                   'files: run them one by one')
        require_suffix(options, '--plot', options.plot, FIGURE_SUFFIXES)
        require_folder(options, options.plot.parent)
    try:
        require_distinct(options.files, outputs)
    except ValueError as error:
        refuse(options, str(error))
    return outputs


def _make_light_curve(path, output, options):
    """Make, write and draw the light curve of one file; return a line about it."""
    for target in filter(None, (output, options.plot)):
        require_absent(target, options)
    pixels = read_tpf(path, quality=options.quality)
    light_curve = extract_light_curve(pixels, **_fit_options(options))
    # Here, so that a run of which all files fail leaves no empty folder.
    output.parent.mkdir(exist_ok=True)
    light_curve.write(output, overwrite=options.overwrite)
    if options.plot is not None:
        from ..plotting import plot_light_curve
        save_figure(plot_light_curve(light_curve).figure, options.plot, options)
    return _describe(summarize(pixels, light_curve), output)


def _describe(row, output):
    """Say how a light curve scatters, and how the sum over the pipeline's aperture does."""
    aperture = row['aperture_scatter_ppm']
    beside = f' (aperture {_in_words(aperture)})' if aperture >= 0 else ''
    return (f"{row['target']}: {row['n_cadences']} cadences, {row['n_flagged']} flagged, "
            f"scatter {_in_words(row['scatter_ppm'])}{beside} -> {output}")


def ppm(flux):
    """Return the point-to-point scatter in words."""
    return _in_words(1e6 * point_to_point_scatter(flux))


def _in_words(scatter):
    """Return a scatter in ppm in words."""
    return f'{scatter:.0f} ppm' if scatter >= 0 else 'unknown'
