# Licensed under a 3-clause BSD style license - see LICENSE
"""`kpsf lightcurve`: light curves of target pixel files."""

from functools import partial
from pathlib import Path

import numpy as np

from .._configuration import conf
from ..batch.manifest import MANIFEST_SUFFIXES, journal_of
from ..batch.plan import output_of, plan_batch, require_distinct
from ..batch.rows import summarize
from ..batch.run import run_batch
from ..lightcurve import SceneLightCurves, extract_light_curve, point_to_point_scatter
from ..lightcurve.files import LIGHT_CURVE_SUFFIXES
from ..prf.download import asking_once
from ..tpf import read_tpf
from .checks import (
    as_path,
    positive,
    refuse,
    require_absent,
    require_folder,
    require_outdir,
)
from .extraction import (
    add_extraction_options,
    fit_options,
    require_one_scene,
    require_prf_path,
    require_shape,
)
from .outputs import FIGURE_SUFFIXES, require_suffix, save_figure
from .terminal import Report, run_jobs, tell_error

__all__ = ['add', 'ppm']

LOOK_FIRST = ('Look at these first: knots in the wings of a bright star are found, too. Pass\n'
              'those that are stars as --stars TABLE, with columns x and y.')


def add(commands):
    """Add `kpsf lightcurve`."""
    parser = commands.add_parser(
        'lightcurve', help='make light curves of target pixel files',
        description='Make a light curve of each target pixel file of Kepler, K2 or TESS.')
    parser.set_defaults(run=_run, prog=parser.prog)
    parser.add_argument('files', nargs='+', type=Path, metavar='FILE', help='target pixel file')
    add_extraction_options(parser)
    _add_output_options(parser)


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


def _run(options):
    """Make the light curves, one after the other or as a batch; return the exit status."""
    require_shape(options)
    require_one_scene(options)
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
    for argument, value in (('-o', options.output), ('--plot', options.plot),
                            ('--stars', options.stars)):
        if value is not None:
            refuse(options, f'{argument} is not for a batch: use --outdir, or leave --workers, '
                   '--scheduler, --resume and --manifest out')
    try:
        plan = plan_batch(options.files, options.outdir, n_workers=options.workers or 1,
                          scheduler=options.scheduler, resume=options.resume,
                          overwrite=options.overwrite, manifest=options.manifest,
                          quality=options.quality, options=fit_options(options))
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
    light_curve = extract_light_curve(pixels, **fit_options(options, pixels))
    # Here, so that a run of which all files fail leaves no empty folder.
    output.parent.mkdir(exist_ok=True)
    light_curve.write(output, overwrite=options.overwrite)
    if options.plot is not None:
        save_figure(partial(_draw, light_curve), options.plot, options)
    if not isinstance(light_curve, SceneLightCurves):
        return _describe(summarize(pixels, light_curve), output, _cadences(pixels))
    lines = [f'  {name} {_place_and_flux(curve)}: '
             f'{_flags_and_scatter(summarize(pixels, curve), ("errors",))}'
             for name, curve in zip(light_curve.names, light_curve)]
    if options.stars == 'find' and len(light_curve) > 1:
        lines.append(LOOK_FIRST)
    n_stars = f'{len(light_curve)} star{"s" if len(light_curve) > 1 else ""}'
    return '\n'.join([f'{pixels.target}: {n_stars}, {_cadences(pixels)} -> {output}', *lines])


def _place_and_flux(curve):
    """Say where a star is and how bright, on average over the cadences that have a flux."""
    flux = curve['flux'].value
    fitted = np.isfinite(flux)
    if not fitted.any():
        return 'without a flux'
    x, y = (np.nanmedian(curve[name].value[fitted]) for name in 'xy')
    return f'at ({x:.1f}, {y:.1f}) with {np.median(flux[fitted]):.0f} e-/s'


def _cadences(pixels):
    """Say how many cadences there are, and of how many if some were dropped."""
    n_file = pixels.meta['n_cadences_file']
    dropped = f' of {n_file}' if n_file > pixels.n_cadences else ''
    return f'{pixels.n_cadences}{dropped} cadences'


def _draw(light_curve):
    """Return the axes of one light curve, or of those of a scene."""
    from ..plotting import plot_blends, plot_light_curve
    if isinstance(light_curve, SceneLightCurves):
        return plot_blends(light_curve)
    return plot_light_curve(light_curve)


def _describe(row, output, cadences=None):
    """Say how a light curve scatters, by how much it should, and how the aperture does."""
    cadences = cadences or f"{row['n_cadences']} cadences"
    return f"{row['target']}: {cadences}, {_flags_and_scatter(row)} -> {output}"


def _flags_and_scatter(row, beside=('aperture', 'errors')):
    """Say how many cadences have flags, and how the others scatter, beside what."""
    keys = {'aperture': 'aperture_scatter_ppm', 'errors': 'error_ppm'}
    beside = [f'{name} {_in_words(row[keys[name]])}' for name in beside if row[keys[name]] >= 0]
    return (f"{row['n_flagged']} flagged, scatter {_in_words(row['scatter_ppm'])}"
            f"{' (' + ', '.join(beside) + ')' if beside else ''}")


def ppm(flux):
    """Return the point-to-point scatter in words."""
    return _in_words(1e6 * point_to_point_scatter(flux))


def _in_words(scatter):
    """Return a scatter in ppm in words."""
    return f'{scatter:.0f} ppm' if scatter >= 0 else 'unknown'
