# Licensed under a 3-clause BSD style license - see LICENSE
"""The command `kpsf`: light curves of target pixel files, and a demonstration."""

import argparse
import os
import sys
import traceback
import warnings
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.console import ProgressBar
from astropy.utils.exceptions import AstropyUserWarning

from . import __version__
from ._files import write_whole
from .lightcurve import extract_light_curve, point_to_point_scatter
from .lightcurve.files import LIGHT_CURVE_SUFFIXES
from .simulate import TABBY_DIPS, simulate_tpf, tabby_like_dips
from .tpf import QUALITY_MASKS, read_tpf

__all__ = ['main']

FIGURE_SUFFIXES = ('.png', '.pdf', '.svg')
FITS_SUFFIXES = ('.fits.gz', '.fit.gz', '.fits', '.fit')
DEMO_CADENCES = 1000
DEMO_DRIFT = 0.05


def main(argv=None):
    """Run the command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit status: 0; 1 if something failed; 2 if the call was wrong; 130
        after Ctrl-C.
    """
    options = None
    try:
        options = _parser().parse_args(argv)
        return options.run(options)
    except SystemExit as error:
        return error.code or 0
    except KeyboardInterrupt:
        print('kpsf: interrupted', file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone; Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        _report(error, options)
        return 1


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message):
        """Exit with status 2."""
        self.exit(2, f'{self.prog}: {message} (see {self.prog} --help)\n')


def _parser():
    """Return the parser of all commands."""
    parser = _Parser(prog='kpsf', description='PSF photometry with the Poisson likelihood.')
    parser.add_argument('--version', action='version', version=f'kpsf {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    _add_lightcurve(commands)
    _add_demo(commands)
    return parser


def _add_lightcurve(commands):
    """Add `kpsf lightcurve`."""
    parser = commands.add_parser(
        'lightcurve', help='make light curves of target pixel files',
        description='Make a light curve of each target pixel file of Kepler, K2 or TESS.')
    parser.set_defaults(run=_run_lightcurve, prog=parser.prog)
    parser.add_argument('files', nargs='+', type=Path, metavar='FILE', help='target pixel file')
    parser.add_argument('--psf', default='gaussian', choices=['gaussian'],
                        help='point spread function (default: gaussian)')
    parser.add_argument('--shape', default='shared', choices=['shared', 'free'],
                        help='one shape of the PSF for all cadences, or one for each '
                        '(default: shared)')
    parser.add_argument('--background', choices=['known', 'fit'],
                        help="the file's background and one constant, or one constant per "
                        'cadence (default: known where the file has one and the shape is shared)')
    parser.add_argument('--quality', default='default', type=_quality, metavar='MASK',
                        help=f'cadences to drop: {", ".join(QUALITY_MASKS["Kepler"])}, or an '
                        'integer of quality bits (default: default)')
    output = parser.add_mutually_exclusive_group()
    output.add_argument('-o', '--output', type=Path, metavar='OUT',
                        help=f'light curve to write, for one FILE; the ending '
                        f'({", ".join(LIGHT_CURVE_SUFFIXES)}) chooses the format')
    output.add_argument('--outdir', type=Path, default=Path(), metavar='DIR',
                        help='folder for FILE-lightcurve.fits, created if it is not there '
                        '(default: the current one)')
    parser.add_argument('--plot', type=Path, metavar='PNG',
                        help='figure of the light curve, for one FILE')
    parser.add_argument('--overwrite', action='store_true', help='replace existing files')
    parser.add_argument('--threads', type=_positive, metavar='N',
                        help='threads for each file (default: 1)')
    parser.add_argument('--debug', action='store_true', help='show where errors come from')


def _add_demo(commands):
    """Add `kpsf demo`."""
    parser = commands.add_parser(
        'demo', help='simulate a star with dips and recover them',
        description="Simulate a target pixel file of a star with dips like those of Tabby's "
        'star, make its light curve, and compare with what was put in.')
    parser.set_defaults(run=_run_demo, prog=parser.prog)
    parser.add_argument('--outdir', type=Path, default=Path(), metavar='DIR',
                        help='folder for the three files (default: the current one)')
    parser.add_argument('--seed', type=int, default=1, help='of the random numbers (default: 1)')
    parser.add_argument('--overwrite', action='store_true', help='replace existing files')
    parser.add_argument('--threads', type=_positive, metavar='N',
                        help='threads for each file (default: 1)')
    parser.add_argument('--debug', action='store_true', help='show where errors come from')


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


def _positive(text):
    """Return an integer of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f'an integer >= 1 is needed, but it is {text!r}')
    return number


def _run_lightcurve(options):
    """Make one light curve after the other; return the exit status."""
    outputs = _plan_outputs(options)
    if options.output is None:
        options.outdir.mkdir(exist_ok=True)
    n_failed = 0
    # A bar of one step would tell nothing.
    steps = sys.stderr if len(outputs) > 1 else StringIO()
    with _Bar(len(outputs), steps) as bar:
        for path, output in zip(options.files, outputs):
            try:
                with _warnings_named(path, bar):
                    line = _make_light_curve(path, output, options)
            except Exception as error:
                n_failed += 1
                bar.make_room()
                _report(error, options, path)
            else:
                bar.make_room()
                print(line, flush=True)
            bar.update()
    if n_failed and len(outputs) > 1:
        print(f'{options.prog}: {n_failed} of {len(outputs)} files failed', file=sys.stderr)
    return 1 if n_failed else 0


class _Bar(ProgressBar):
    """A progress bar on standard error that lets lines of text pass."""

    def __init__(self, n_steps, stream):
        super().__init__(n_steps, file=stream)
        self._stream = stream

    def make_room(self):
        """Clear the line of the bar; the next update draws it again."""
        if self._stream.isatty():
            self._stream.write('\r\x1b[2K')
            self._stream.flush()


def _plan_outputs(options):
    """Return the file to write for each input; exit if that cannot work."""
    if options.output is None:
        _require_outdir(options)
        outputs = [options.outdir / f'{_stem(path)}-lightcurve.fits' for path in options.files]
    else:
        if len(options.files) > 1:
            _refuse(options, f'-o names one light curve, but there are {len(options.files)} '
                    'files: use --outdir')
        _require_suffix(options, '-o', options.output, LIGHT_CURVE_SUFFIXES)
        _require_folder(options, options.output.parent)
        outputs = [options.output]
    if options.plot is not None:
        if len(options.files) > 1:
            _refuse(options, f'--plot names one figure, but there are {len(options.files)} '
                    'files: run them one by one')
        _require_suffix(options, '--plot', options.plot, FIGURE_SUFFIXES)
        _require_folder(options, options.plot.parent)
    _require_distinct(options, outputs)
    return outputs


def _require_outdir(options):
    """Exit unless the folder of --outdir, or else the one to create it in, can be used."""
    folder = options.outdir
    _require_folder(options, folder if folder.exists() else folder.parent)


def _require_distinct(options, outputs):
    """Exit if two files would be written to one, or a file would replace its source."""
    sources = {}
    for path, output in zip(options.files, outputs):
        place = output.resolve()
        if place in sources:
            _refuse(options, f'{sources[place]} and {path} would both be written to {output}: '
                    'run them with different --outdir')
        sources[place] = path
    for path in options.files:
        if path.resolve() in sources:
            _refuse(options, f'{path} would be read and written: choose another output')


def _require_suffix(options, argument, path, suffixes):
    """Exit unless a name has one of the endings."""
    if not path.name.lower().endswith(suffixes):
        _refuse(options, f'{argument} must end in one of {", ".join(suffixes)}, but it is '
                f'{path.name!r}: choose one of these')


def _require_folder(options, folder):
    """Exit unless a folder exists and can be written to."""
    if not folder.is_dir():
        _refuse(options, f'there is no folder {folder}: create it, or choose another')
    if not os.access(folder, os.W_OK):
        _refuse(options, f'the folder {folder} is read-only: choose another')


def _refuse(options, message):
    """Exit with status 2, before any work is done."""
    print(f'{options.prog}: {message}', file=sys.stderr)
    raise SystemExit(2)


def _stem(path):
    """Return the name of a FITS file without its ending."""
    for suffix in FITS_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[:-len(suffix)]
    return path.name


def _make_light_curve(path, output, options):
    """Make, write and draw the light curve of one file; return a line about it."""
    for target in filter(None, (output, options.plot)):
        _require_absent(target, options)
    pixels = read_tpf(path, quality=options.quality)
    light_curve = extract_light_curve(pixels, options.psf, shape=options.shape,
                                      background=options.background, n_threads=options.threads)
    light_curve.write(output, overwrite=options.overwrite)
    if options.plot is not None:
        from .plotting import plot_light_curve
        _save_figure(plot_light_curve(light_curve).figure, options.plot, options)
    n_flagged = np.count_nonzero(light_curve['flags'])
    return (f'{pixels.target}: {len(light_curve)} cadences, {n_flagged} flagged, '
            f'{_describe_scatter(pixels, light_curve)} -> {output}')


def _require_absent(path, options):
    """Raise if a file is there that may not be replaced."""
    if path.exists() and not options.overwrite:
        raise FileExistsError(f'{path} exists already: choose another name or pass --overwrite.')


def _save_figure(figure, path, options):
    """Write a figure, whole or not at all."""
    with write_whole(path, options.overwrite) as temporary:
        figure.savefig(temporary, dpi=150)


def _describe_scatter(pixels, light_curve):
    """Say how the light curve scatters, and how the sum over the pipeline's aperture does."""
    flux = light_curve['flux'].value
    if not pixels.pipeline_aperture.any():
        return f"scatter {_ppm(flux[light_curve['flags'] == 0])}"
    aperture = pixels.aperture_flux()
    both = np.isfinite(flux) & np.isfinite(aperture) & (light_curve['flags'] == 0)
    return f'scatter {_ppm(flux[both])} (aperture {_ppm(aperture[both])})'


def _ppm(flux):
    """Return the point-to-point scatter in words."""
    scatter = 1e6 * point_to_point_scatter(flux)
    return f'{scatter:.0f} ppm' if scatter >= 0 else 'unknown'


@contextmanager
def _warnings_named(path, bar):
    """Turn warnings into lines that name the file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always', AstropyUserWarning)
        try:
            yield
        finally:
            if caught:
                bar.make_room()
            for warning in caught:
                print(f'kpsf: warning: {_with_name(path, warning.message)}', file=sys.stderr)


def _report(error, options, path=None):
    """Say in one line what went wrong; with --debug, also where."""
    if getattr(options, 'debug', False):
        traceback.print_exception(error)
    text = str(error)
    if not isinstance(error, (OSError, ValueError)) or not text:
        text = f'{type(error).__name__}: {text} (run with --debug to see where)'
    print(f'{getattr(options, "prog", "kpsf")}: error: {_with_name(path, text)}', file=sys.stderr)


def _with_name(path, message):
    """Return a message in one line that names the file."""
    text = ' '.join(str(message).split())
    return text if path is None or str(path) in text else f'{path}: {text}'


def _run_demo(options):
    """Simulate a star with dips, recover them, and compare; return the exit status."""
    _require_outdir(options)
    options.outdir.mkdir(exist_ok=True)
    tpf, output, figure = (options.outdir / f'kpsf-demo-{name}' for name in
                           ('targ.fits', 'lightcurve.fits', 'lightcurve.png'))
    for path in (tpf, output, figure):
        _require_absent(path, options)
    simulate_tpf(tpf, light_curve=tabby_like_dips(np.arange(DEMO_CADENCES)), drift=DEMO_DRIFT,
                 seed=options.seed, overwrite=options.overwrite)
    truth = np.ravel(fits.getdata(tpf, 'TRUTH')['FLUX'])
    pixels = read_tpf(tpf)
    light_curve = extract_light_curve(pixels, n_threads=options.threads)
    light_curve.write(output, overwrite=options.overwrite)

    from .plotting import plot_recovery
    _save_figure(plot_recovery(light_curve, truth)[0].figure, figure, options)
    flux, error = light_curve['flux'].value, light_curve['flux_err'].value
    print(f'Pixels, simulated: {pixels.n_cadences} cadences of a star with {len(TABBY_DIPS)} dips '
          f'-> {tpf}\n'
          f'Light curve: {np.count_nonzero(light_curve["flags"])} cadences flagged, scatter about '
          f'the truth {_ppm(flux / truth)}, errors {1e6 * np.median(error / flux):.0f} ppm '
          f'-> {output}\n'
          f'Figure -> {figure}\n\n'
          'Depth of the dips in seven cadences:\n'
          '     day   put in (%)      recovered (%)   difference (sigma)')
    for line in _compare_dips(light_curve, truth):
        print(line)
    return 0


def _compare_dips(light_curve, truth):
    """Yield a line per dip: its depth in seven cadences, as put in and as recovered."""
    flux, error = light_curve['flux'].value, light_curve['flux_err'].value
    outside = truth > 0.99999 * truth.max()
    level, level_error = flux[outside].mean(), np.hypot.reduce(error[outside]) / outside.sum()
    days = light_curve['time'].jd - light_curve['time'].jd[0]
    for _, centre, _, _ in TABBY_DIPS:
        middle = round(centre * (len(flux) - 1))
        dip = slice(middle - 3, middle + 4)
        put_in = 1.0 - truth[dip].mean() / truth[outside].mean()
        ratio = flux[dip].mean() / level
        uncertainty = ratio * np.hypot(np.hypot.reduce(error[dip]) / 7 / flux[dip].mean(),
                                       level_error / level)
        difference = (1.0 - ratio - put_in) / uncertainty
        yield (f'{days[middle]:8.2f} {100 * put_in:12.4f} {100 * (1.0 - ratio):9.4f} +- '
               f'{100 * uncertainty:.4f} {difference:+20.1f}')


if __name__ == '__main__':
    sys.exit(main())
