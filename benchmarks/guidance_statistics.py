# Licensed under a 3-clause BSD style license - see LICENSE
"""Whether the guidance is right: sources found, false alarms, fit boxes, positions, the asteroid.

What `kpsf.guidance` predicts is compared with simulated stars that other code fits and judges: the
fluxes of a signal-to-noise ratio come from a Cramer-Rao bound that is computed here, fluxes are
measured by photometry of images.
"""

import argparse
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor

import clock
import numpy as np
from astropy.modeling.fitting import TRFLSQFitter
from astropy.table import QTable
from photometry_fields import place_stars
from photutils.psf import CircularGaussianPRF, ImagePSF
from scipy.optimize import brentq
from scipy.special import ndtr
from verdicts import print_verdicts, use_all_cores

from kpsf import PoissonPSFPhotometry, advise_centroid, diagnose, locate_source, suggest_fit_shape

__all__ = ['main']

FWHM, SIDE = 2.5, 15
STDDEV = FWHM / np.sqrt(8.0 * np.log(2.0))
BACKGROUNDS, SIGNALS = (0.5, 5.0, 100.0), (5.0, 10.0, 50.0)
# Shares of stamps in which the star must be found, by signal-to-noise ratio; points that hot
# pixels may cost; factor by which false alarms may differ.
REQUIRED, HOT_POINTS, CALIBRATION = {5.0: 0.97, 10.0: 0.999, 50.0: 1.0}, 1.0, 1.5
HOT_SHARE, ALARMS = 0.01, (0.1, 0.05, 0.02, 0.01)
# Amplitudes of hot pixels in standard deviations of the background: strong ones, and an
# exponential distribution that has weak ones, too.
HOT = {'none': None, 'strong': (10.0, 500.0), 'exponential': 50.0}
ASTEROID = {'side': 600, 'sky': 2706.0, 'peak': 22594.0, 'stddev': 6.4, 'place': 300.0}


def pixel_shares(x_0, y_0, side, stddev=STDDEV):
    """Share of a Gaussian in each pixel (..., side, side) for stars at x_0, y_0 (...)."""
    edges = np.arange(side + 1) - 0.5
    along_x, along_y = (np.diff(ndtr((edges - np.asarray(place)[..., None]) / stddev), axis=-1)
                        for place in (x_0, y_0))
    return along_y[..., :, None] * along_x[..., None, :]


def flux_of(signal, background):
    """Flux whose Cramer-Rao error, with place and background free, is 1 / signal of it."""
    middle, step = (SIDE - 1) / 2 + 0.25, 1e-4
    image = pixel_shares(middle, middle, SIDE)
    by_x = (pixel_shares(middle + step, middle, SIDE) - pixel_shares(middle - step, middle, SIDE))
    slopes = np.array([by_x, by_x.T]) / (2 * step)

    def excess(log_flux):
        flux = np.exp(log_flux)
        derivatives = np.array([image, *(flux * slopes), np.ones_like(image)]).reshape(4, -1)
        information = derivatives / (flux * image + background).ravel() @ derivatives.T
        return flux / np.sqrt(np.linalg.inv(information)[0, 0]) - signal

    return np.exp(brentq(excess, -2.0, 20.0))


def search(job):
    """Simulate stamps and look for their star; distances and false-alarm probabilities (n,)."""
    background, signal, hot, n_stamps, seed = job
    rng = np.random.default_rng(seed)
    flux = flux_of(signal, background) if signal else 0.0
    x, y = rng.uniform(3.0, SIDE - 4.0, (2, n_stamps))
    counts = rng.poisson(flux * pixel_shares(x, y, SIDE) + background).astype(float)
    is_hot, sigma = rng.random(counts.shape) < HOT_SHARE, max(np.sqrt(background), 1.0)
    if isinstance(HOT[hot], tuple):
        counts[is_hot] += np.floor(sigma * rng.uniform(*HOT[hot], is_hot.sum()))
    elif HOT[hot]:
        counts[is_hot] += np.floor(sigma * rng.exponential(HOT[hot], is_hot.sum()))
    psf = CircularGaussianPRF(fwhm=FWHM)
    distance, alarm = np.full((2, n_stamps), np.inf)
    for k, stamp in enumerate(counts):
        found = locate_source(stamp, psf)
        if len(found):
            distance[k] = np.hypot(found['x'][0] - x[k], found['y'][0] - y[k])
            alarm[k] = found['false_alarm_probability'][0]
    return distance, alarm


def run_search(options):
    """Detection rates and false alarms."""
    print(f'\n## Sources in {options.stamps} stamps of {SIDE} x {SIDE} pixels, FWHM {FWHM:g}')
    print('Found within 1 pixel (%), without hot pixels / 1 % strong ones / 1 % of all strengths')
    kinds, verdicts = tuple(HOT), []
    jobs = [(background, signal, hot, options.stamps, 17 + 100 * n)
            for n, (background, signal) in enumerate(
                (background, signal) for background in BACKGROUNDS for signal in SIGNALS)
            for hot in kinds]
    with ProcessPoolExecutor(options.processes) as pool:
        results = dict(zip([job[:3] for job in jobs], pool.map(search, jobs)))
    for background in BACKGROUNDS:
        for signal in SIGNALS:
            rates = {hot: np.mean(results[background, signal, hot][0] < 1.0) for hot in kinds}
            print(f'  background {background:5g}, S/N {signal:3g}: '
                  + ' / '.join(f'{100 * rates[hot]:.2f}' for hot in kinds))
            verdicts.append((f'S/N {signal:g} on {background:g} found',
                             rates['none'] >= REQUIRED[signal]))
            verdicts += [(f'{hot} hot pixels cost at most 1 point at S/N {signal:g} on '
                          f'{background:g}',
                          100 * (rates['none'] - rates[hot]) <= HOT_POINTS)
                         for hot in kinds[1:]]
    print('Empty stamps with a source of at most this false-alarm probability')
    empty = [(background, 0.0, 'none', 2 * options.stamps, 5) for background in BACKGROUNDS]
    with ProcessPoolExecutor(options.processes) as pool:
        for background, (_, alarm) in zip(BACKGROUNDS, pool.map(search, empty)):
            shares = {level: np.mean(alarm < level) for level in ALARMS}
            print(f'  background {background:5g}: '
                  + ', '.join(f'{level:g}: {share:.4f}' for level, share in shares.items()))
            for level, share in shares.items():
                allowance = 2.0 * np.sqrt(level / alarm.size)
                verdicts.append((f'false alarms of {level:g} on {background:g}',
                                 level / CALIBRATION - allowance <= share
                                 <= CALIBRATION * level + allowance))
    return verdicts


def measure_field(psf, flux, background, box, rng, n_stars, *, known_to=0.1, options=None):
    """Fluxes of simulated stars, measured by photometry of an image, (n,)."""
    n_columns, side = int(np.sqrt(n_stars)), box + 2
    field = place_stars(np.zeros((n_columns**2, 1, 2)), flux, background, side, n_columns, rng,
                        start_offset=known_to)
    counts = np.full((n_columns * side, n_columns * side), float(background))
    y, x = np.mgrid[:side, :side]
    left, bottom = field.corners()
    params = {name: np.ravel(getattr(psf, name).value)[:1] for name in psf.param_names}
    for k in range(field.n_cells):
        params |= {'flux': np.array([flux]), 'x_0': field.x[k] - left[k],
                   'y_0': field.y[k] - bottom[k]}
        rows, columns = int(bottom[k, 0]), int(left[k, 0])
        counts[rows:rows + side, columns:columns + side] += psf.evaluate(
            x, y, *(params[name] for name in psf.param_names))
    counts = rng.poisson(np.maximum(counts, 0.0)).astype(float)
    options = options or {}
    known = options.pop('background_known', False)
    photometry = PoissonPSFPhotometry(psf, box, background=background if known else 'fit',
                                      **options)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        table = photometry(counts - background if known else counts, init_params=QTable(
            {'x': field.start_x.ravel(), 'y': field.start_y.ravel()}))
    measured = np.asarray(table['flux_fit'])
    return measured[np.isfinite(measured)]


def image_of_moffat():
    """An oversampled image of a Moffat profile integrated over pixels, as a model."""
    fine, half = 5, 40
    offset = np.arange(-half * fine, half * fine + 1) / fine
    x, y = np.meshgrid(offset, offset)
    profile = (1.0 + (x**2 + y**2) / 1.6**2)**-3.0
    kernel = np.ones(fine) / fine
    for axis in (0, 1):
        profile = np.apply_along_axis(np.convolve, axis, profile, kernel, 'same')
    middle = slice(half * fine - 12 * fine, half * fine + 12 * fine + 1)
    profile = profile[middle, middle]
    return ImagePSF(profile / profile.sum() * fine**2, oversampling=fine)


def run_boxes(options):
    """Predicted over measured flux errors."""
    print('\n## Fit boxes: side (in FWHM) recommended, predicted over measured error of the flux')
    rng, verdicts = np.random.default_rng(3), []
    psfs = {'Gaussian, FWHM 2': CircularGaussianPRF(fwhm=2.0), 'Moffat image': image_of_moffat(),
            'Gaussian, FWHM 5': CircularGaussianPRF(fwhm=5.0)}
    for label, psf in psfs.items():
        for background, flux in ((1.0, 1000.0), (10.0, 1000.0), (100.0, 3000.0)):
            for known in (True, False):
                advice = suggest_fit_shape(psf, flux, background, background_known=known)
                side = advice.fit_shape[0]
                predicted = advice.table['flux_err'][advice.table['side'] == side][0]
                fluxes = measure_field(psf, flux, background, side, rng, options.stars,
                                       options={'background_known': known})
                ratio = predicted / fluxes.std()
                print(f'  {label}, background {background:3g} '
                      f'{"known " if known else "fitted"}: {side:2d} '
                      f'({side / advice.fwhm:.1f} FWHM), {ratio:.3f}')
                verdicts.append((f'box of {label} on {background:g}', 0.97 <= ratio <= 1.03))
    return verdicts


def run_positions(options):
    """Predicted and measured bias and scatter with free, prior and fixed positions."""
    print('\n## Positions known to 0.2 pixels: flux bias / scatter (%), predicted and measured')
    rng, verdicts = np.random.default_rng(6), []
    for flux, background in ((20.0, 10.0), (40.0, 10.0), (100.0, 10.0), (1000.0, 10.0)):
        advice = advise_centroid(CircularGaussianPRF(fwhm=2.0), flux, background, known_to=0.2,
                                 fit_shape=11, n_simulated=20000)
        for row in advice.table:
            mode = row['position']
            psf = CircularGaussianPRF(fwhm=2.0)
            psf.x_0.fixed = psf.y_0.fixed = mode == 'fixed'
            fluxes = measure_field(
                psf, flux, background, 11, rng, options.stars, known_to=0.2,
                options={'centroid_prior': 0.2 if mode == 'prior' else None})
            bias, scatter = fluxes.mean() - flux, fluxes.std()
            error = np.hypot(scatter / np.sqrt(len(fluxes)), row['flux_bias_err'])
            percent = 100.0 / flux
            print(f'  S/N {advice.signal_to_noise:4.1f} {mode:5}: '
                  f'{percent * row["flux_bias"]:+.2f} '
                  f'/ {percent * row["flux_err"]:.2f}, {percent * bias:+.2f} / '
                  f'{percent * scatter:.2f} (bias ± {percent * error:.2f})')
            close = abs(row['flux_bias'] - bias) <= max(0.1 * abs(bias), 3.0 * error)
            verdicts.append((f'{mode} position at S/N {advice.signal_to_noise:.1f}',
                             close and abs(row['flux_err'] / scatter - 1.0) <= 0.1))
    return verdicts


def asteroid(kind, seed):
    """Counts of the image that a newcomer asked about, (600, 600), and the true flux."""
    rng, side, place = np.random.default_rng(seed), ASTEROID['side'], ASTEROID['place']
    offset = np.arange(side) - place
    profile = np.exp(-0.5 * (offset / ASTEROID['stddev'])**2)
    mean = ASTEROID['peak'] * np.outer(profile, profile) + ASTEROID['sky']
    if kind == 'gradient':
        mean += 0.8 * offset + 0.5 * offset[:, None]
    counts = rng.poisson(mean).astype(float)
    if kind == 'hot pixels':
        hot = rng.random(counts.shape) < 1e-3
        counts[hot] += np.floor(rng.uniform(1000.0, 60000.0, hot.sum()))
    return counts, ASTEROID['peak'] * 2.0 * np.pi * ASTEROID['stddev']**2


def run_asteroid(options):
    """The asteroid with a PSF of three normalisations, and the fit that was lost."""
    print('\n## The asteroid: offset (pixels) and pull of the flux, the largest of '
          f'{options.seeds} seeds')
    verdicts = []
    y, x = np.mgrid[-60:61, -60:61]
    image = np.exp(-0.5 * (x**2 + y**2) / ASTEROID['stddev']**2)
    psfs = [image, image / image.sum(), 16.0 * image / image.sum()]
    for kind in ('flat', 'hot pixels', 'gradient'):
        offsets, pulls, spreads, flags = [], [], [], []
        for seed in range(options.seeds):
            counts, flux = asteroid(kind, seed)
            found = [locate_source(counts, psf)[0] for psf in psfs]
            offsets.append(np.hypot(found[0]['x'] - 300.0, found[0]['y'] - 300.0))
            pulls.append((found[0]['flux'] - flux) / found[0]['flux_err'])
            spreads.append(np.ptp([row['flux'] for row in found]) / flux)
            rows, columns = np.indices(counts.shape)
            lost = ImagePSF(psfs[1], flux=1e6, x_0=0.0, y_0=0.0)
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                lost = TRFLSQFitter()(lost, columns, rows, counts - np.median(counts))
            flags.append(diagnose(counts, lost, start=(0.0, 0.0)).flags)
        wrong = sum('WRONG_MINIMUM' in str(flag.name) for flag in flags)
        print(f'  {kind}: {max(offsets):.3f}, {max(np.abs(pulls)):.2f}; PSFs of sum 1, 16 and '
              f'peak 1 differ by {max(spreads):.1e}; wrong minimum named in {wrong} of '
              f'{options.seeds}')
        verdicts += [(f'asteroid, {kind}', max(offsets) < 0.1 and max(np.abs(pulls)) < 3.0
                      and max(spreads) < 1e-6),
                     (f'wrong minimum, {kind}', wrong == options.seeds)]
    return verdicts


PARTS = {'search': run_search, 'boxes': run_boxes, 'positions': run_positions,
         'asteroid': run_asteroid}


def main(argv=None):
    """Measure, print the tables and say which requirements are met.

    Parameters
    ----------
    argv : list of str, optional
        Command-line arguments; those of the process by default.

    Returns
    -------
    int
        Exit status, 0.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--parts', nargs='+', choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument('--stamps', type=int, default=2000, help='of each kind (default: 2000)')
    parser.add_argument('--stars', type=int, default=20000, help='of each field (default: 20000)')
    parser.add_argument('--seeds', type=int, default=10, help='of the asteroid (default: 10)')
    parser.add_argument('--processes', type=int, default=2, help='for the search (default: 2)')
    options = parser.parse_args(argv)
    # Nothing is timed here: all cores may help.
    use_all_cores()
    clock.describe_machine('numpy', 'scipy', 'astropy', 'photutils', 'kpsf')
    verdicts = [verdict for part in options.parts for verdict in PARTS[part](options)]
    print_verdicts(verdicts)
    return 0


if __name__ == '__main__':
    sys.exit(main())
