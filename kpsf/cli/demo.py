# Licensed under a 3-clause BSD style license - see LICENSE
"""`kpsf demo`: a star with dips, simulated and recovered."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from ..lightcurve import extract_light_curve
from ..simulate import simulate_tpf, tabby_like_dips
from ..simulate.pixels import TABBY_DIPS
from ..tpf import read_tpf
from .checks import as_path, positive, require_absent, require_outdir
from .lightcurve import ppm
from .outputs import save_figure

__all__ = ['add']

CADENCES = 1000
DRIFT = 0.05


def add(commands):
    """Add `kpsf demo`."""
    parser = commands.add_parser(
        'demo', help='simulate a star with dips and recover them',
        description="Simulate a target pixel file of a star with dips like those of Tabby's "
        'star, make its light curve, and compare with what was put in.')
    parser.set_defaults(run=_run, prog=parser.prog)
    parser.add_argument('--outdir', type=as_path, default=Path(), metavar='DIR',
                        help='folder for the three files (default: the current one)')
    parser.add_argument('--seed', type=int, default=1, help='of the random numbers (default: 1)')
    parser.add_argument('--overwrite', action='store_true', help='replace existing files')
    parser.add_argument('--threads', type=positive, metavar='N',
                        help='threads for each file (default: 1)')
    parser.add_argument('--debug', action='store_true', help='show where errors come from')


def _run(options):
    """Simulate a star with dips, recover them, and compare; return the exit status."""
    require_outdir(options)
    options.outdir.mkdir(exist_ok=True)
    tpf, output, figure = (options.outdir / f'kpsf-demo-{name}' for name in
                           ('targ.fits', 'lightcurve.fits', 'lightcurve.png'))
    for path in (tpf, output, figure):
        require_absent(path, options)
    simulate_tpf(tpf, light_curve=tabby_like_dips(np.arange(CADENCES)), drift=DRIFT,
                 seed=options.seed, overwrite=options.overwrite)
    truth = np.ravel(fits.getdata(tpf, 'TRUTH')['FLUX'])
    pixels = read_tpf(tpf)
    light_curve = extract_light_curve(pixels, n_threads=options.threads)
    light_curve.write(output, overwrite=options.overwrite)

    from ..plotting import plot_recovery
    save_figure(lambda: plot_recovery(light_curve, truth), figure, options)
    flux, error = light_curve['flux'].value, light_curve['flux_err'].value
    print(f'Pixels, simulated: {pixels.n_cadences} cadences of a star with {len(TABBY_DIPS)} dips '
          f'-> {tpf}\n'
          f'Light curve: {np.count_nonzero(light_curve["flags"])} cadences flagged, scatter about '
          f'the truth {ppm(flux / truth)}, errors {1e6 * np.median(error / flux):.0f} ppm '
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
