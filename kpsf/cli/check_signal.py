# Licensed under a 3-clause BSD style license - see LICENSE
"""`kpsf check-signal`: whether a light curve keeps what the star does."""

import numpy as np

from .._configuration import conf
from .._files import write_whole
from ..prf.download import asking_once
from ..signals import Signal, signal_transfer
from ..signals.times import length_in_words
from ..signals.transfer import LARGEST_LOSS, N_SIGMA, TOLERANCE
from ..tpf import read_tpf
from .checks import as_path, positive, refuse, require_absent, require_folder
from .extraction import (
    add_extraction_options,
    fit_options,
    require_one_scene,
    require_prf_path,
    require_shape,
)
from .outputs import FIGURE_SUFFIXES, require_suffix, save_figure
from .terminal import run_jobs

__all__ = ['add']

# Standard deviations from which on a depth is seen in the light curve at all.
DETECTABLE = 3.0
MEANING = ('Recovered: the depth found over the depth put in, in the same noise, with the error\n'
           'of that share. Sigma: what the noise of this light curve does to such a depth; one\n'
           f'under {DETECTABLE:g} sigma may be kept, but is not seen in it.')
HEADING = '  kind       depth (%)     length     recovered (%)     sigma (%)   verdict'


def add(commands):
    """Add `kpsf check-signal`."""
    parser = commands.add_parser(
        'check-signal', help='put dips and sinusoids into the pixels and see what is recovered',
        description='Scale the light of the star in a target pixel file of Kepler, K2 or TESS by '
        'dips and sinusoids of 1 hour to 10 days and 0.01 to 10 per cent, one at a time, make the '
        'light curve of each, and say how much of the signal is in it.',
        epilog='recovered: the depth found over the depth put in, in the same noise, with the '
        'error of that share. sigma: what the noise of this light curve does to such a depth. A '
        f'signal is kept if it is recovered within {100 * TOLERANCE:g} % or {N_SIGMA:g} sigma, '
        'else CHANGED, or FLAGGED if the light curve flags its cadences. Exit status: 0 if every '
        'signal is kept, 1 if not.')
    parser.set_defaults(run=_run, prog=parser.prog)
    parser.add_argument('file', type=as_path, metavar='FILE', help='target pixel file')
    add_extraction_options(parser)
    parser.add_argument('--star', metavar='NAME', help='which of the --stars to check, by its '
                        'name, as kpsf lightcurve --stars prints it (default: the first)')
    parser.add_argument('-o', '--output', type=as_path, metavar='TABLE.ecsv',
                        help='table to write')
    parser.add_argument('--plot', type=as_path, metavar='PNG',
                        help='figure of the recovered fractions')
    parser.add_argument('--overwrite', action='store_true', help='replace existing files')
    parser.add_argument('--threads', type=positive, metavar='N',
                        help='threads of each fit (default: 1)')
    parser.add_argument('--debug', action='store_true', help='show where errors come from')


def _run(options):
    """Check one file; return the exit status."""
    require_shape(options)
    require_one_scene(options)
    if options.star is not None and options.stars is None:
        refuse(options, '--star chooses one of several, but --stars does not say which there are: '
               'add it, or leave --star out')
    _require_outputs(options)
    require_prf_path(options)
    prf_path = [*options.prf_path, *(conf.prf_path or [])]
    verdicts = []

    def check():
        text, passed = _check(options)
        verdicts.append(passed)
        return text

    with conf.set_temp('prf_path', prf_path), asking_once():
        n_failed = run_jobs(options, [(options.file, options.file, check)])
    return 0 if n_failed == 0 and all(verdicts) else 1


def _require_outputs(options):
    """Exit unless the table and the figure can be written."""
    written = [(name, path, suffixes) for name, path, suffixes in
               [('-o', options.output, ('.ecsv',)), ('--plot', options.plot, FIGURE_SUFFIXES)]
               if path is not None]
    for name, path, suffixes in written:
        require_suffix(options, name, path, suffixes)
        require_folder(options, path.parent)
        if path.resolve() == options.file.resolve():
            refuse(options, f'{path} would be read and written: choose another output')


def _check(options):
    """Return the text, and whether all signals passed; write what is asked for."""
    for path in filter(None, (options.output, options.plot)):
        require_absent(path, options)
    pixels = read_tpf(options.file, quality=options.quality)
    try:
        table = signal_transfer(pixels, star=options.star, progress_bar=True,
                                **fit_options(options, pixels))
    except KeyError as error:
        # There is no such star, and the text says which there are.
        raise ValueError(error.args[0].replace('A star', '--star')) from error
    except ValueError as error:
        raise ValueError(str(error).replace(
            'pass signals=.', 'take a file with more of them, or pass signals= to '
            'kpsf.signal_transfer in Python.')) from error
    lines = [_heading(pixels, table), HEADING, *map(_line, table), MEANING]
    lines += [f'Left out: {sentence}.' for sentence in table.meta['left_out']]
    lines.append(_verdict(table))
    if options.output is not None:
        with write_whole(options.output, options.overwrite) as temporary:
            table.write(temporary, format='ascii.ecsv')
        lines.append(f'-> {options.output}')
    if options.plot is not None:
        from ..plotting import plot_signal_transfer
        save_figure(lambda: plot_signal_transfer(table), options.plot, options)
        lines.append(f'-> {options.plot}')
    return '\n'.join(lines), bool(np.all(table['passed']))


def _heading(pixels, table):
    """Say what was looked at."""
    star = f', {table.meta["star"]}' if 'star' in table.meta else ''
    return (f'{pixels.target}{star}: {table.meta["n_good"]} of {pixels.n_cadences} cadences '
            f'without flags, {len(table)} signals put into the pixels one by one')


def _line(row):
    """Return one line of the table."""
    verdict = 'kept' if row['passed'] else (
        'CHANGED' if row['lost'] <= LARGEST_LOSS else 'FLAGGED')
    if row['passed'] and row['depth'] < DETECTABLE * row['sigma']:
        verdict += f', under {DETECTABLE:g} sigma'
    length = length_in_words(row['length'].to_value('d'))
    recovered = f'{100 * row["transfer"]:.2f} +- {100 * row["transfer_err"]:.2f}'
    return (f'  {row["kind"]:8} {100 * row["depth"]:11g} {length:>10} {recovered:>17} '
            f'{100 * row["sigma"]:13.4f}   {verdict}')


def _verdict(table):
    """Return the last line: whether the light curve keeps the signals, and else which not."""
    bad = table[~table['passed']]
    tolerance = f'{100 * TOLERANCE:g} % or {N_SIGMA:g} sigma'
    if not len(bad):
        return f'The light curve keeps all {len(table)} signals within {tolerance}.'
    worst = bad[np.argmax(np.nan_to_num(np.abs(bad['transfer'] - 1.0), nan=np.inf))]
    signal = Signal(str(worst['kind']), worst['depth'], worst['length'])
    found = f'{100 * worst["transfer"]:.1f} % of a {signal}'
    if not worst['lost'] <= LARGEST_LOSS:
        found = f'a {signal} flags {100 * worst["lost"]:.0f} % of its own cadences'
    return (f'The light curve changes {len(bad)} of {len(table)} signals by more than '
            f'{tolerance}; the worst: {found}.')
