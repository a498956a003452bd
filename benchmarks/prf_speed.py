# Licensed under a 3-clause BSD style license - see LICENSE
"""Fits per second of a tabulated PRF, and the time to evaluate one, against other tools.

All tools get the same table of an analytic, pixel-integrated PRF at 1/50 of a pixel and the same
stamps, one process on one core, competitors taking turns within every repeat; CPU time, medians
over the repeats, and every answer judged by the distance to the minimum of the Poisson likelihood
under the analytic PRF (`prf_stamps.estimated_prf_distance`). Evaluations are compared on one
Kepler calibration file.
"""

import argparse
import functools
import os
import sys
import warnings
from pathlib import Path

import clock
import numpy as np
from clock import Peer
from prf_peers import PRF_PEERS, SplinePRF
from prf_stamps import estimated_prf_distance, simulate_prf_stamps
from reference import starting_values

__all__ = ['main']

DATA_SETS = ('tabby', 'mid', 'low')
KPSF, KPSF_TALL = 'kpsf.fit_stamps', 'kpsf.fit_stamps, 10 by 11 pixels'
KPSF_KNOWN = 'kpsf.fit_stamps, known background'
SINGLE = 'kpsf TabulatedPRF.evaluate + fit_deriv'
BATCH = 'kpsf kernel with likelihood and Hessian, per stamp of 3000'
CALIBRATION_FILE = 'kepler_prf/kplr07.4_2011265_prf.fits'
CHANNEL, CORNER, STAR = 20, (500, 500), (505.12, 504.91)


def kpsf_fit(counts, start, stamps, *, known=False):
    """kpsf's engine with its own starting values, convergence check and covariance."""
    from kpsf import TabulatedPRF, fit_stamps

    # The table as it is: the analytic PRF has light outside of it.
    model = TabulatedPRF(stamps.table, 1.0 / stamps.oversampling, normalize=None)
    fits = fit_stamps(counts, model, background=stamps.background if known else 'fit',
                      n_threads=1)
    names = ('flux', 'x_0', 'y_0') + (() if known else ('background',))
    order = [fits.param_names.index(name) for name in names]
    return fits.params[:, order], fits.converged


FITTERS = (
    Peer(KPSF, kpsf_fit, 20000, square=True),
    Peer(KPSF_TALL, kpsf_fit, 20000),
    Peer(KPSF_KNOWN, functools.partial(kpsf_fit, known=True), 20000, square=True),
) + PRF_PEERS


def compare_fits(data_set, options):
    """Time, judge and print fits of flux, x, y and background on one data set."""
    def stamps_of(name, n_stamps, shape):
        stamps = simulate_prf_stamps(name, n_stamps, shape=shape)
        return stamps.counts, starting_values(stamps.counts)[:, [0, 1, 2, 6]], stamps

    tiny = stamps_of('mid', 2, clock.SQUARE)
    competitors = clock.installed(
        (entry for entry in FITTERS if options.only.lower() in entry.label.lower()),
        lambda entry: entry.fit(*tiny))
    if not competitors:
        return
    size = max(int(options.n_factor * max(entry.n_stamps for entry in competitors)), 500)
    pools = {shape: stamps_of(data_set, size, shape)
             for shape in {entry.shape for entry in competitors}}
    background = pools[competitors[0].shape][2].background
    results = clock.time_competitors(
        competitors, pools, lambda params, counts: estimated_prf_distance(
            params, counts, background), options.repeats, options.n_factor)
    clock.print_table(f'{data_set}: table at 1/50 pixel; flux, x, y, background', competitors,
                      results, lambda entry: [KPSF])


def read_table(path):
    """Table (ny, nx) of the centre of the channel and its samples per pixel."""
    from astropy.io import fits

    with fits.open(path) as hdus:
        data, header = hdus[5].data.astype(float), hdus[5].header
    oversampling = round(1.0 / header['CDELT1P'])
    return data * (oversampling**2 / data.sum()), oversampling


def lightkurve_prf(path, shape, name):
    """lightkurve's model ``name`` of a calibration file; it would download a file by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from lightkurve.prf import prfmodel

    class LocalPRF(getattr(prfmodel, name)):
        def _read_prf_calibration_file(self, address, extension):
            return super()._read_prf_calibration_file(path, extension)

    return LocalPRF(CHANNEL, shape, *CORNER)


def lightkurve_images(path, shape, name):
    """P and its gradient of lightkurve: what a fit with derivatives calls."""
    prf = lightkurve_prf(path, shape, name)

    def images():
        value = prf.evaluate(*STAR, 1e4)
        return value, prf.gradient(*STAR, 1e4)

    return images


def scipy_images(path, shape, way):
    """P and its gradient by scipy's spline, in one of the ways of `prf_peers.SplinePRF`."""
    images = SplinePRF(*read_table(path)).on_stamp(way, shape, np.array(CORNER) + 0.5)
    return lambda: images(*STAR)


def kpsf_images(path, shape):
    """P and all derivatives of one stamp by the model's public methods."""
    from kpsf import TabulatedPRF

    table, oversampling = read_table(path)
    model = TabulatedPRF(table, 1.0 / oversampling)
    y, x = np.mgrid[:shape[0], :shape[1]].astype(float)
    params = (1e4, STAR[0] - CORNER[0] - 0.5, STAR[1] - CORNER[1] - 0.5, 1.0, 1.0, 0.0)
    return lambda: (model.evaluate(x, y, *params), model.fit_deriv(x, y, *params))


def kpsf_batch(path, shape, n_stamps=3000):
    """Likelihood, gradient and Hessian of many stamps: more than P and its gradient.

    The kernel has no use for a P that is not summed over pixels: the time is an upper limit of
    that of the interpolation. The stars lie within 0.2 pixels of each other.
    """
    from kpsf import TabulatedPRF
    from kpsf._kernels.tabulated import PhaseRuns, TabulatedLikelihood

    table, oversampling = read_table(path)
    counts = np.full((n_stamps, shape[0] * shape[1]), 100.0)
    table = TabulatedPRF(table, 1.0 / oversampling).table
    likelihood = TabulatedLikelihood(counts, PhaseRuns([table], shape))
    params = np.repeat([[1e4], [STAR[0] - CORNER[0] - 0.5], [STAR[1] - CORNER[1] - 0.5], [20.0]],
                       n_stamps, axis=1)
    params[1:3] += np.random.default_rng(1).uniform(-0.2, 0.2, (2, n_stamps))
    rows = np.arange(n_stamps)
    return lambda: likelihood.evaluate(params, rows)


# label, function that prepares, evaluations per turn, stamps per evaluation, required ratio
EVALUATORS = (
    (BATCH, kpsf_batch, 3, 3000, None),
    (SINGLE, kpsf_images, 200, 1, None),
    ('lightkurve KeplerPRF.evaluate + gradient',
     functools.partial(lightkurve_images, name='KeplerPRF'), 50, 1, 50),
    ('lightkurve SimpleKeplerPRF.evaluate + gradient',
     functools.partial(lightkurve_images, name='SimpleKeplerPRF'), 50, 1, None),
    ('scipy RectBivariateSpline.ev with dx, dy',
     functools.partial(scipy_images, way='ev'), 50, 1, None),
    ('scipy RectBivariateSpline, splines of the derivatives, points',
     functools.partial(scipy_images, way='points'), 200, 1, None),
    ('scipy RectBivariateSpline, splines of the derivatives, grid',
     functools.partial(scipy_images, way='grid'), 500, 1, None),
)


def compare_evaluations(path, shape, options):
    """Time and print the PRF of one stamp with both gradients."""
    chosen = [entry for entry in EVALUATORS if options.only.lower() in entry[0].lower()]
    prepared = {}

    def prepare(entry):
        prepared[entry.label] = entry.fit(path, shape)
        prepared[entry.label]()

    installed = clock.installed([Peer(entry[0], entry[1], entry[3]) for entry in chosen], prepare)
    present = {entry.label for entry in installed}
    chosen = [entry for entry in chosen if entry[0] in present]
    if not chosen:
        return

    def turn_of(function, n_calls):
        def call_all():
            for _ in range(n_calls):
                function()

        return lambda repeat: call_all

    timed = clock.time_turns({label: turn_of(prepared[label], n_calls)
                              for label, _, n_calls, _, _ in chosen}, options.repeats)
    times = {label: timed[label][0] / (n_calls * n_stamps) * 1e6
             for label, _, n_calls, n_stamps, _ in chosen}
    print(f'\n### {shape[0]} by {shape[1]} pixels: the PRF of one stamp with both gradients\n')
    print('| evaluation | microseconds | kernel / single call is faster by | required |\n'
          '|---|---:|---:|---:|')
    for label, _, _, _, required_ratio in chosen:
        ratios = [np.median(times[label] / times[other]) for other in (BATCH, SINGLE)
                  if other in times and not label.startswith('kpsf')]
        print(f'| {label} | {np.median(times[label]):,.2f} '
              f'| {" / ".join(f"{ratio:,.1f}" for ratio in ratios)} '
              f'| {clock.requirement(required_ratio, ratios[:1])} |')


def calibration_file():
    """The Kepler calibration file in the folder KPSF_DATA, or None with a word on it."""
    folder = os.environ.get('KPSF_DATA')
    path = Path(folder or '.') / CALIBRATION_FILE
    if folder and path.exists():
        return str(path)
    print(f'evaluation: left out (the environment variable KPSF_DATA names no folder that holds '
          f'{CALIBRATION_FILE})', file=sys.stderr)
    return None


def parse_arguments(argv):
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', nargs='+', choices=DATA_SETS, default=DATA_SETS,
                        help='data sets to run (default: all three)')
    parser.add_argument('--parts', nargs='+', choices=('fits', 'evaluation'),
                        default=('fits', 'evaluation'), help='what to measure')
    parser.add_argument('--repeats', type=int, default=5, help='rounds of turns (default: 5)')
    parser.add_argument('--only', default='', metavar='TEXT',
                        help='only competitors whose label contains this text')
    parser.add_argument('--quick', action='store_true',
                        help='two rounds on a quarter of the stamps: a look, not a measurement')
    options = parser.parse_args(argv)
    options.n_factor = 1.0
    if options.quick:
        options.repeats, options.n_factor = 2, 0.25
    return options


def main(argv=None):
    """Run the comparison and print its tables.

    Parameters
    ----------
    argv : list of str, optional
        Command-line arguments; those of the process by default.

    Returns
    -------
    int
        Exit status, 0.
    """
    options = parse_arguments(argv)
    clock.describe_machine('numpy', 'scipy', 'astropy', 'photutils', 'lightkurve', 'kpsf')
    if 'fits' in options.parts:
        for data_set in options.data:
            compare_fits(data_set, options)
    path = calibration_file() if 'evaluation' in options.parts else None
    if path:
        for shape in ((11, 11), (10, 11), (5, 5)):
            compare_evaluations(path, shape, options)
    return 0


if __name__ == '__main__':
    sys.exit(main())
