# Licensed under a 3-clause BSD style license - see LICENSE
"""Fits per second of kpsf and of its competitors on the same stamps, and kpsf's memory.

One process on one core; competitors take turns within every repeat, so that whatever else the
machine does hits all of them; CPU time, medians over the repeats, and every answer judged by the
distance to the minimum of the Poisson likelihood (`reference.estimated_distance`). A rate means
nothing without that column.
"""

import argparse
import sys
import tracemalloc
import warnings

import clock
import numpy as np
from clock import Peer
from peers import PEERS
from reference import estimated_distance, starting_values
from simulated_stamps import DATA_SETS, simulate_stamps

__all__ = ['main']

KPSF, KPSF_SQUARE = 'kpsf.fit_stamps', 'kpsf.fit_stamps, square stamps'


def kpsf_gaussian(counts, start, exposure):
    """kpsf's batch engine with its own initial guess: parameters (n, 7), verdict (n,)."""
    from kpsf import EllipticalGaussianPSF, fit_stamps

    fits = fit_stamps(counts, EllipticalGaussianPSF(), n_threads=1)
    order = [fits.param_names.index(name)
             for name in ('flux', 'x_0', 'y_0', 'a', 'b', 'c', 'background')]
    return fits.params[:, order], fits.converged


def gaussian2d_class(with_derivatives):
    """astropy's Gaussian2D, for which kpsf has no kernel, with or without its fit_deriv."""
    from astropy.modeling.models import Gaussian2D

    if with_derivatives:
        return Gaussian2D
    return type('Gaussian2DWithoutDerivatives', (Gaussian2D,), {'fit_deriv': None})


def gaussian2d_values(start):
    """Amplitude, x, y, sigmas and angle (n, 6) of flux, x, y, a, b, c (n, 7)."""
    flux, x_0, y_0, a, b, c, _ = start.T
    covariance = 0.5 * np.linalg.inv(np.stack([[a, b], [b, c]]).transpose(2, 0, 1))
    variance, axes = np.linalg.eigh(covariance)
    theta = np.arctan2(axes[:, 1, 1], axes[:, 0, 1])
    amplitude = flux * np.sqrt(a * c - b * b) / np.pi
    return np.column_stack([amplitude, x_0, y_0, np.sqrt(variance[:, 1]),
                            np.sqrt(variance[:, 0]), theta])


def canonical_values(values, background):
    """Flux, x, y, a, b, c, background (n, 7) of Gaussian2D's parameters (n, 6)."""
    amplitude, x_0, y_0, x_stddev, y_stddev, theta = values.T
    along, across = 0.5 / x_stddev**2, 0.5 / y_stddev**2
    cosine, sine = np.cos(theta), np.sin(theta)
    flux = 2.0 * np.pi * amplitude * np.abs(x_stddev * y_stddev)
    return np.column_stack([
        flux, x_0, y_0, cosine**2 * along + sine**2 * across, cosine * sine * (along - across),
        sine**2 * along + cosine**2 * across, background])


def kpsf_generic(counts, start, exposure, *, with_derivatives):
    """kpsf's generic kernel on Gaussian2D, from the same start as TRFLSQFitter."""
    from kpsf import fit_stamps

    model = gaussian2d_class(with_derivatives)()
    values = gaussian2d_values(start)
    init = dict(zip(model.param_names, values.T), background=start[:, 6])
    fits = fit_stamps(counts, model, init=init, n_threads=1)
    order = [fits.param_names.index(name) for name in model.param_names + ('background',)]
    params = fits.params[:, order]
    return canonical_values(params[:, :6], params[:, 6]), fits.converged


def astropy_gaussian2d(counts, start, exposure):
    """A loop over TRFLSQFitter on Gaussian2D + Const2D."""
    from astropy.modeling.fitting import TRFLSQFitter
    from astropy.modeling.models import Const2D, Gaussian2D

    y, x = np.mgrid[:counts.shape[1], :counts.shape[2]].astype(float)
    fitter = TRFLSQFitter()
    params, success = np.empty((len(counts), 7)), np.empty(len(counts), bool)
    weights = 1.0 / np.sqrt(np.maximum(counts, 1.0))
    values = gaussian2d_values(start)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for index, stamp in enumerate(counts):
            model = Gaussian2D(*values[index]) + Const2D(start[index, 6])
            fitted = fitter(model, x, y, stamp, weights=weights[index], maxiter=200)
            params[index], success[index] = fitted.parameters, fitter.fit_info['status'] > 0
    return canonical_values(params[:, :6], params[:, 6]), success


GAUSSIAN = (Peer(KPSF, kpsf_gaussian, 20000),
            Peer(KPSF_SQUARE, kpsf_gaussian, 20000, square=True)) + PEERS

GENERIC = (
    Peer('kpsf.fit_stamps, Gaussian2D with fit_deriv',
         lambda *stamps: kpsf_generic(*stamps, with_derivatives=True), 4000),
    Peer('kpsf.fit_stamps, Gaussian2D, numerical derivatives',
         lambda *stamps: kpsf_generic(*stamps, with_derivatives=False), 4000),
    Peer('astropy TRFLSQFitter, Gaussian2D + Const2D', astropy_gaussian2d, 30, 25),
)


def stamps_of(data_set, n_stamps, shape):
    """Counts, starting values and exposure of simulated stamps."""
    stamps = simulate_stamps(data_set, n_stamps, shape=shape)
    return stamps.counts, starting_values(stamps.counts), stamps.exposure


def compare(title, competitors, data_set, options, yardsticks):
    """Time those competitors that were asked for and are installed, and print the table."""
    tiny = stamps_of('mid', 2, clock.SQUARE)
    competitors = clock.installed(
        (entry for entry in competitors if options.only.lower() in entry.label.lower()),
        lambda entry: entry.fit(*tiny))
    size = max((entry.n_stamps for entry in competitors), default=0)
    size = max(int(options.n_factor * size), 200)
    pools = {shape: stamps_of(data_set, size, shape)
             for shape in {entry.shape for entry in competitors}}
    results = clock.time_competitors(competitors, pools, estimated_distance, options.repeats,
                                     options.n_factor)
    clock.print_table(title, competitors, results, yardsticks)


def compare_gaussian(data_set, options):
    """Time and print the seven-parameter Gaussian on one data set."""
    compare(f'{data_set}: elliptical Gaussian + background, 7 parameters', GAUSSIAN, data_set,
            options, lambda entry: [KPSF_SQUARE if entry.square else KPSF])


def compare_generic(data_set, options):
    """Time and print the generic kernel on one data set."""
    compare(f'{data_set}: astropy Gaussian2D + background, generic kernel', GENERIC, data_set,
            options, lambda entry: [other.label for other in GENERIC[:2]])


def measure_memory(n_stamps):
    """Print the peak of traced allocations above the input while kpsf fits n_stamps stamps."""
    counts = simulate_stamps('tabby', n_stamps).counts
    kpsf_gaussian(counts[:2], None, None)
    tracemalloc.start()
    kpsf_gaussian(counts, None, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f'\n### Memory\n\n{n_stamps:,} stamps ({counts.nbytes / 1e6:.1f} MB of input): peak '
          f'{peak / 1e6:.1f} MB above the input, results included (required: < 50 MB for 100,000)')


def parse_arguments(argv):
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', nargs='+', choices=tuple(DATA_SETS), default=tuple(DATA_SETS),
                        help='data sets to run (default: all four)')
    parser.add_argument('--parts', nargs='+', choices=('gaussian', 'generic', 'memory'),
                        default=('gaussian', 'generic', 'memory'), help='what to measure')
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
    clock.describe_machine('numpy', 'scipy', 'astropy', 'iminuit', 'picassosr', 'numba', 'kpsf')
    for data_set in options.data:
        if 'gaussian' in options.parts:
            compare_gaussian(data_set, options)
        if 'generic' in options.parts:
            compare_generic(data_set, options)
    if 'memory' in options.parts:
        measure_memory(10000 if options.quick else 100000)
    return 0


if __name__ == '__main__':
    sys.exit(main())
