# Licensed under a 3-clause BSD style license - see LICENSE
"""Stars per second of kpsf's photometry and photutils', and whether the answers are the maximum.

Ten thousand isolated stars in an image of 2048 by 2048 pixels, groups of crowded stars, and
kpsf's fitter inside photutils. One process on one core; competitors take turns within every
round; CPU time, medians over the rounds. photutils fits other stars of the same image in every
round: so many that what a call costs by itself does not count, in an image cut to size.
"""

import argparse
import sys
import warnings
from dataclasses import dataclass, replace

import clock
import numpy as np
from photometry_fields import BOX, distance_to_maximum, grow_groups, place_stars
from prf_stamps import mixture_table

__all__ = ['main']

IMAGE, SIDE, N_COLUMNS, N_ROWS = 2048, 20, 100, 100
JITTER = 0.5
GROUP_SIDE, GROUP_SIZES = 32, (2, 5, 10, 25)
BACKGROUND = 5.0
SAMPLES, IMAGE_PIXELS = 4, 25
DRAWN = 19
REQUIRED_DISTANCE = 1e-3
FAST, OTHER, GROUPS, SINGLE_FITTER, GROUP_FITTER = 100, 30, 20, 1, 5
KNOWN, FITTED = 'kpsf, background known', 'kpsf, background fitted'
PHOTUTILS, PREBUILT = 'photutils', 'photutils, spline built beforehand'
INSIDE = "kpsf's fitter in photutils"


@dataclass(frozen=True)
class Case:
    """A model to fit: its label, functions that make the true one and the one to fit.

    ``has_spline`` marks models for which photutils has a faster way that its users must ask for.
    """

    label: str
    true_model: object
    fitted_model: object
    required_ratio: float
    has_spline: bool = False


def from_photutils(name, **values):
    """A function that makes a model of photutils."""
    def make():
        from photutils import psf

        return getattr(psf, name)(**values)

    return make


def free(make, *names, **values):
    """A function that makes a model whose named parameters are free and start elsewhere."""
    def make_free():
        model = make()
        for name in names:
            getattr(model, name).fixed = False
        for name, value in values.items():
            setattr(model, name, value)
        return model

    return make_free


def image_psf():
    """An image of four Gaussians integrated over the pixels, sum of the samples squared."""
    from photutils.psf import ImagePSF

    return ImagePSF(mixture_table(SAMPLES, IMAGE_PIXELS), oversampling=SAMPLES)


def tabulated_prf():
    """The same image as a model of kpsf."""
    from kpsf import TabulatedPRF

    return TabulatedPRF(mixture_table(SAMPLES, IMAGE_PIXELS), 1.0 / SAMPLES, normalize=None)


def gridded_psf():
    """Nine images of Gaussians that are widest in one corner of the image."""
    from astropy.nddata import NDData
    from photutils.psf import CircularGaussianPRF, GriddedPSFModel

    places = [(x, y) for y in (0, IMAGE // 2, IMAGE) for x in (0, IMAGE // 2, IMAGE)]
    n_samples = SAMPLES * IMAGE_PIXELS + 1
    samples = (np.arange(n_samples) - n_samples // 2) / SAMPLES
    x, y = np.meshgrid(samples, samples)
    images = np.array([CircularGaussianPRF(fwhm=2.0 + 0.2 * sum(place) / IMAGE)(x, y)
                       for place in places])
    return GriddedPSFModel(NDData(images, meta={'grid_xypos': places, 'oversampling': SAMPLES}))


def elliptical_gaussian(name, x_stddev=1.0, y_stddev=0.85, theta=0.5):
    """A function that makes one of kpsf's elliptical Gaussians, shape free as it is."""
    def make():
        import kpsf

        return getattr(kpsf, name).from_stddev(1.0, 0.0, 0.0, x_stddev, y_stddev, theta)

    return make


ROTATED = {'x_fwhm': 2.4, 'y_fwhm': 2.0, 'theta': 30.0}
GAUSSIAN = from_photutils('GaussianPSF', **ROTATED)
CIRCULAR_PRF = from_photutils('CircularGaussianPRF', fwhm=2.2)
CIRCULAR_PSF = from_photutils('CircularGaussianPSF', fwhm=2.2)
FREE = ('x_fwhm', 'y_fwhm', 'theta')


def same(label, make, required_ratio, has_spline=False):
    """A case whose true model and model to fit are alike."""
    return Case(label, make, make, required_ratio, has_spline)


ISOLATED = (
    same('CircularGaussianPSF', CIRCULAR_PSF, FAST),
    same('CircularGaussianPRF', CIRCULAR_PRF, FAST),
    same('ImagePSF', image_psf, FAST, has_spline=True),
    same('GaussianPSF, rotated', GAUSSIAN, OTHER),
    Case('GaussianPSF, rotated, shape free', GAUSSIAN,
         free(GAUSSIAN, *FREE, x_fwhm=2.6, y_fwhm=2.1, theta=20.0), OTHER),
    same('GaussianPRF, rotated', from_photutils('GaussianPRF', **ROTATED), OTHER),
    same('MoffatPSF', from_photutils('MoffatPSF', alpha=1.8, beta=3.0), OTHER),
    same('AiryDiskPSF', from_photutils('AiryDiskPSF', radius=2.6), OTHER),
    same('GriddedPSFModel, 3 by 3 images', gridded_psf, OTHER),
    same('kpsf TabulatedPRF', tabulated_prf, OTHER),
    Case('kpsf EllipticalGaussianPSF, shape free', elliptical_gaussian('EllipticalGaussianPSF'),
         elliptical_gaussian('EllipticalGaussianPSF', 1.1, 0.9, 0.4), OTHER),
    Case('kpsf EllipticalGaussianPRF, shape free', elliptical_gaussian('EllipticalGaussianPRF'),
         elliptical_gaussian('EllipticalGaussianPRF', 1.1, 0.9, 0.4), OTHER),
)
CROWDED = (same('CircularGaussianPRF', CIRCULAR_PRF, GROUPS),
           same('CircularGaussianPSF', CIRCULAR_PSF, GROUPS),
           same('ImagePSF', image_psf, GROUPS))


def draw(field, model, shape, rng):
    """The field with counts: stars by the model's own ``evaluate``, background, Poisson noise."""
    mean = np.full(shape, field.background)
    others = {name: np.array([getattr(model, name).value]) for name in model.param_names}
    for flux, x_0, y_0 in zip(field.flux.ravel(), field.x.ravel(), field.y.ravel(), strict=True):
        x, y = (np.arange(DRAWN) + round(place) - DRAWN // 2 for place in (x_0, y_0))
        x, y = np.meshgrid(x[(x >= 0) & (x < shape[1])], y[(y >= 0) & (y < shape[0])])
        values = others | {'flux': np.array([flux]), 'x_0': np.array([x_0]),
                           'y_0': np.array([y_0])}
        mean[y[0, 0]:y[-1, 0] + 1, x[0, 0]:x[0, -1] + 1] += np.reshape(model.evaluate(
            x.ravel().astype(float), y.ravel().astype(float), *values.values()), x.shape)
    return replace(field, counts=rng.poisson(mean).astype(float))


def isolated_field(model, seed=2048):
    """Ten thousand stars at least 18 pixels apart, fluxes log-uniform from 100 to 10 000."""
    rng = np.random.default_rng(seed)
    n_cells = N_COLUMNS * N_ROWS
    field = place_stars(rng.uniform(-JITTER, JITTER, (n_cells, 1, 2)),
                        10.0**rng.uniform(2.0, 4.0, (n_cells, 1)), BACKGROUND, SIDE, N_COLUMNS,
                        rng)
    return draw(field, model, (IMAGE, IMAGE), rng)


def crowded_field(model, size, n_stars, seed=2049):
    """Groups of stars 2 to 3 pixels from their nearest neighbours, some 20 stars in each row.

    Fluxes are log-uniform from 1000 to 10 000: a fainter star next to the brightest has no place
    of its own in the likelihood, whoever looks for it.
    """
    rng = np.random.default_rng([seed, size])
    n_columns = max(20 // size, 1)
    n_cells = max(n_stars // size // n_columns, 1) * n_columns
    field = place_stars(grow_groups(n_cells, size, rng),
                        10.0**rng.uniform(3.0, 4.0, (n_cells, size)), BACKGROUND, GROUP_SIDE,
                        n_columns, rng)
    return draw(field, model, (n_cells // n_columns * GROUP_SIDE, n_columns * GROUP_SIDE), rng)


def kpsf_turn(field, model, *, fits_background):
    """A call of kpsf on all stars of a field, as a function without arguments."""
    from kpsf import PoissonPSFPhotometry

    photometry = PoissonPSFPhotometry(model, (BOX, BOX), n_threads=1,
                                      background='fit' if fits_background else field.background)
    data = field.counts - (0.0 if fits_background else field.background)
    return _call(photometry, data, field)


def photutils_turn(field, model, *, inside=False, prebuilt=False):
    """A call of PSFPhotometry on all stars of a field; the true background is a gift.

    ``inside`` gives it kpsf's fitter instead of TRFLSQFitter; ``prebuilt`` has the spline of an
    image made before, which the copies that photutils fits then share.
    """
    from astropy.modeling.fitting import TRFLSQFitter
    from photutils.psf import PSFPhotometry

    from kpsf import PoissonLikelihoodFitter

    if prebuilt:
        _ = model.interpolator
    fitter = PoissonLikelihoodFitter(background=field.background) if inside else TRFLSQFitter()
    photometry = PSFPhotometry(model, (BOX, BOX), fitter=fitter)
    return _call(photometry, field.counts - field.background, field)


def _call(photometry, data, field):
    """The function that is timed; errors and starting values are there before."""
    error, init_params = np.sqrt(np.maximum(field.counts, 1.0)), field.init_params()

    def call():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            table = photometry(data, error=error, init_params=init_params)
        return table, {str(warning.message).splitlines()[0] for warning in caught}

    return call


def row_of(repeat, n_rows, field):
    """First row of cells of a turn: every round brings slow tools other stars."""
    n_all = field.n_cells // field.n_columns
    return repeat * n_rows % max(n_all - n_rows + 1, 1)


def turns_of(case, field, peer_rows, kpsf_rows=None):
    """Label to the function turn(repeat) that `clock.time_turns` wants, and stars per turn."""
    def theirs(**how):
        return lambda repeat: photutils_turn(
            field.rows(row_of(repeat, peer_rows, field), peer_rows), case.fitted_model(), **how)

    ours = field if kpsf_rows is None else field.rows(0, kpsf_rows)
    n_peer = peer_rows * field.n_columns * field.flux.shape[1]
    turns = {
        KNOWN: (lambda repeat: kpsf_turn(ours, case.fitted_model(), fits_background=False),
                ours.flux.size),
        FITTED: (lambda repeat: kpsf_turn(ours, case.fitted_model(), fits_background=True),
                 ours.flux.size),
        PHOTUTILS: (theirs(), n_peer)}
    if case.has_spline:
        turns[PREBUILT] = theirs(prebuilt=True), n_peer
    return turns, ours


def measure(turns, options):
    """Warm up, take turns: label to seconds per star (n_repeats,) and the last table."""
    for turn, _ in turns.values():
        turn(0)()
    timed = clock.time_turns({label: turn for label, (turn, _) in turns.items()},
                             options.repeats)
    seconds = {label: timed[label][0] / turns[label][1] for label in turns}
    tables = {label: timed[label][1][-1][0] for label in turns}
    for label in turns:
        for message in set().union(*(said for _, said in timed[label][1])):
            print(f'{label}: {message}', file=sys.stderr)
    return seconds, tables


def judge(field, table, model, options, *, fits_background):
    """Text on the distance to the maximum of the fits that are not flagged, and on the flags."""
    n_stars = field.flux.shape[1]
    n_cells = min(max(options.judged // n_stars, 2), field.n_cells)
    cells = np.linspace(0, field.n_cells - 1, n_cells).astype(int)
    flagged = np.reshape(np.asarray(table['flags']) != 0, (-1, n_stars)).any(axis=1)
    distance = distance_to_maximum(field, table, model, cells[~flagged[cells]],
                                   fits_background=fits_background)
    largest = distance.max(initial=0.0)
    text = f'{largest:.1e} ({"met" if largest < REQUIRED_DISTANCE else "missed"})'
    if largest >= REQUIRED_DISTANCE:
        text += f', {np.mean(distance < REQUIRED_DISTANCE):.1%} below'
    if flagged.any():
        text += f', {np.count_nonzero(flagged)} of {flagged.size} flagged'
    return text


def requirement(required_ratio, ratios):
    """The required ratio and which ratios reach it, as text."""
    verdicts = ('met' if ratio >= required_ratio else 'missed' for ratio in ratios)
    return f'{required_ratio:g} ({" / ".join(verdicts)})'


HEAD = ('| {} | kpsf stars/s, background known / fitted | photutils stars/s '
        '| kpsf is faster by | required | largest distance to the maximum (sigma), known '
        '| fitted |\n|---|---:|---:|---:|---:|---:|---:|')


def print_rows(case, label, seconds, distances):
    """Print the rows of one model: one for each way to call photutils."""
    ours = [seconds[name] for name in (KNOWN, FITTED)]
    for theirs in (PHOTUTILS, PREBUILT):
        if theirs not in seconds:
            continue
        ratios = [np.median(seconds[theirs] / own) for own in ours]
        way = ', spline built beforehand' if theirs == PREBUILT else ''
        print(f'| {label}{way} '
              f'| {" / ".join(f"{1.0 / np.median(own):,.0f}" for own in ours)} '
              f'| {1.0 / np.median(seconds[theirs]):,.0f} '
              f'| {" / ".join(f"{ratio:,.1f}" for ratio in ratios)} '
              f'| {requirement(case.required_ratio, ratios)} '
              f'| {" | ".join(distances)} |', flush=True)


def compare(case, label, field, peer_rows, options, kpsf_rows=None):
    """Time, judge and print one model on one field."""
    turns, ours = turns_of(case, field, peer_rows, kpsf_rows)
    seconds, tables = measure(turns, options)
    distances = [judge(ours, tables[name], case.fitted_model(), options,
                       fits_background=name == FITTED) for name in (KNOWN, FITTED)]
    print_rows(case, label, seconds, distances)


def chosen(cases, options):
    """The cases whose label contains the text that was asked for."""
    return [case for case in cases if options.only.lower() in case.label.lower()]


def compare_isolated(options):
    """Isolated stars, model by model."""
    print('\n### 10 000 isolated stars in 2048 by 2048 pixels\n')
    print(HEAD.format('model'))
    for case in chosen(ISOLATED, options):
        field = isolated_field(case.true_model())
        rows = 20 if options.quick else None
        compare(case, case.label, field, options.peer_rows, options, rows)


def compare_groups(options):
    """Groups of crowded stars, model by model and size by size."""
    print('\n### Groups of crowded stars, 2 to 3 pixels apart\n')
    print(HEAD.format('model, stars in a group'))
    for case in chosen(CROWDED, options):
        for size in GROUP_SIZES:
            field = crowded_field(case.true_model(), size, 400 if options.quick else 2000)
            compare(case, f'{case.label}, {size}', field, 2 if size <= 5 else 1, options)


def compare_fitters(options):
    """kpsf's fitter in the place of TRFLSQFitter inside photutils."""
    print("\n### kpsf's fitter inside PSFPhotometry\n")
    print('| model | kpsf stars/s | TRFLSQFitter stars/s | kpsf is faster by | required '
          '| largest distance to the maximum (sigma) |\n|---|---:|---:|---:|---:|---:|')
    for case in chosen(CROWDED + (same('GaussianPSF, rotated', GAUSSIAN, GROUPS),), options):
        for size, required_ratio in ((1, SINGLE_FITTER), (10, GROUP_FITTER)):
            if size == 1:
                field, n_rows = isolated_field(case.true_model()), options.peer_rows
            else:
                field, n_rows = crowded_field(case.true_model(), size, 200), 2
            compare_fitter(case, f'{case.label}, {size}', field.rows(0, 2 * n_rows), n_rows,
                           required_ratio, options)


def compare_fitter(case, label, field, n_rows, required_ratio, options):
    """Time, judge and print kpsf's fitter against TRFLSQFitter, the same stars for both."""
    def turn_of(inside):
        def turn(repeat):
            part = field.rows(row_of(repeat, n_rows, field), n_rows)
            return photutils_turn(part, case.fitted_model(), inside=inside)

        return turn

    n_stars = n_rows * field.n_columns * field.flux.shape[1]
    seconds, tables = measure({INSIDE: (turn_of(True), n_stars),
                               PHOTUTILS: (turn_of(False), n_stars)}, options)
    last = field.rows(row_of(options.repeats - 1, n_rows, field), n_rows)
    distance = judge(last, tables[INSIDE], case.fitted_model(), options, fits_background=False)
    ratio = np.median(seconds[PHOTUTILS] / seconds[INSIDE])
    print(f'| {label} | {1.0 / np.median(seconds[INSIDE]):,.0f} '
          f'| {1.0 / np.median(seconds[PHOTUTILS]):,.0f} | {ratio:,.1f} '
          f'| {requirement(required_ratio, [ratio])} | {distance} |', flush=True)


PARTS = {'isolated': compare_isolated, 'groups': compare_groups, 'fitter': compare_fitters}


def parse_arguments(argv):
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--parts', nargs='+', choices=tuple(PARTS), default=tuple(PARTS),
                        help='what to measure')
    parser.add_argument('--repeats', type=int, default=5, help='rounds of turns (default: 5)')
    parser.add_argument('--peer-rows', type=int, default=2,
                        help='hundreds of isolated stars that photutils fits in a turn '
                             '(default: 2)')
    parser.add_argument('--judged', type=int, default=200,
                        help='stars that are judged (default: 200)')
    parser.add_argument('--only', default='', metavar='TEXT',
                        help='only models whose label contains this text')
    parser.add_argument('--quick', action='store_true',
                        help='two rounds on a fifth of the stars: a look, not a measurement')
    options = parser.parse_args(argv)
    if options.quick:
        options.repeats, options.judged = 2, 50
    return options


def main(argv=None):
    """Run the comparisons and print their tables.

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
    clock.describe_machine('numpy', 'scipy', 'astropy', 'photutils', 'kpsf')
    for part in options.parts:
        PARTS[part](options)
    return 0


if __name__ == '__main__':
    sys.exit(main())
