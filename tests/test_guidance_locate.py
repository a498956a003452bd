# Licensed under a 3-clause BSD style license - see LICENSE
"""Stars are found where they are, and noise is as rarely a star as it says."""

from functools import cache

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import NDData
from astropy.table import QTable
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import CircularGaussianPRF, GaussianPSF, GriddedPSFModel, ImagePSF
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import binom

from kpsf import (
    PoissonPSFPhotometry,
    TabulatedPRF,
    extract_light_curve,
    locate_source,
    read_tpf,
    simulate_tpf,
)
from kpsf.guidance.detection import (
    false_alarm_probability,
    find_peaks,
    score_significance,
    significance_map,
)
from kpsf.guidance.information import Star, box_information
from kpsf.guidance.sky import Sky, estimate_sky

FWHM, SIDE = 2.5, 15
PSF = CircularGaussianPRF(fwhm=FWHM)
COLUMNS = ['id', 'x', 'y', 'flux', 'background', 'x_err', 'y_err', 'flux_err', 'background_err',
           'significance', 'at_edge', 'false_alarm_probability', 'rival_significance',
           'has_rival']
# The image of an asteroid that somebody asked about in public.
SKY, PEAK, STDDEV, PLACE = 2706.0, 22594.0, 6.4, 300
ASTEROID_FLUX = 2.0 * np.pi * STDDEV**2 * PEAK


def stars(*rows, shape=(41, 41), background=20.0, fwhm=FWHM):
    """Return the expected electrons of stars (flux, x, y)."""
    y, x = np.mgrid[:shape[0], :shape[1]]
    return sum((PSF.evaluate(x, y, *row, fwhm) for row in rows), np.full(shape, background, float))


def draw(mean, seed=1):
    return np.random.default_rng(seed).poisson(mean).astype(float)


def samples(fwhm=FWHM, oversampling=4, size=61):
    """Return an oversampled image that sums to the square of the oversampling."""
    y, x = np.mgrid[:size, :size]
    middle = (size - 1) / 2
    image = GaussianPSF().evaluate(x, y, 1.0, middle, middle, oversampling * fwhm,
                                   oversampling * fwhm, 0.0)
    return oversampling**2 * image / image.sum()


def require_found(row, flux, x, y):
    """Check position and flux within four of their errors."""
    for name, value in (('x', x), ('y', y), ('flux', flux)):
        assert abs(row[name] - value) < 4.0 * row[f'{name}_err']
    assert row['x_err'] < 0.5
    assert row['flux_err'] < 0.35 * flux


def of_sum(image, total):
    return image if total is None else total * image / image.sum()


@cache
def asteroid(kind, total=None, seed=1):
    """Return what is found with the PSF image of a certain sum, of peak 1 for None."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-PLACE:PLACE, -PLACE:PLACE]
    mean = PEAK * np.exp(-0.5 * (x**2 + y**2) / STDDEV**2) + SKY
    if kind == 'gradient':
        mean += 0.8 * x + 0.5 * y
    counts = rng.poisson(mean).astype(float)
    if kind == 'hot pixels':
        hot = rng.random(counts.shape) < 1e-3
        counts[hot] += np.floor(rng.uniform(1e3, 6e4, hot.sum()))
    return locate_source(counts, of_sum(np.exp(
        -0.5 * (x**2 + y**2) / STDDEV**2)[240:361, 240:361], total))


@pytest.mark.parametrize('kind', ['flat', 'hot pixels', 'gradient'])
def test_the_asteroid_is_found_with_its_flux_by_defaults(kind):
    found, = asteroid(kind)
    assert np.hypot(found['x'] - PLACE, found['y'] - PLACE) < 0.1
    assert abs(found['flux'] - ASTEROID_FLUX) < 3.0 * found['flux_err']
    assert found['flux_err'] < 1e-3 * ASTEROID_FLUX
    assert found['significance'] > 1000.0
    assert not found['has_rival']
    assert abs(found['background'] - SKY) < 5.0 * found['background_err']


def test_hot_pixels_are_counted():
    # The highest of the noise may be among them.
    assert asteroid('flat').meta['spikes'] < 10
    # 360 of them on average; faint ones on the asteroid may stay.
    assert 300 < asteroid('hot pixels').meta['spikes'] < 420


@pytest.mark.parametrize('kind', ['flat', 'hot pixels'])
@pytest.mark.parametrize('total', [1.0, 16.0])
def test_the_normalization_of_the_psf_does_not_matter(kind, total):
    one, other = asteroid(kind), asteroid(kind, total)
    for name in COLUMNS:
        assert_allclose(np.asarray(other[name], float), np.asarray(one[name], float), rtol=1e-6)


@cache
def flux_of(signal, background):
    """Return the flux whose Cramer-Rao error is 1 / signal of it, with the background free."""
    star = Star(PSF)
    return brentq(lambda flux: flux / box_information(
        star, flux, background, 0.0, SIDE).flux_errors()[-1] - signal, 1.0, 1e6)


@cache
def search(signal, background, hot=False, n=150):
    """Return how many of n stamps have their star within a pixel of the first source."""
    rng, n_found = np.random.default_rng(3), 0
    for _ in range(n):
        place = rng.uniform(3.0, SIDE - 4.0, 2)
        counts = rng.poisson(stars((flux_of(signal, background), *place), shape=(SIDE, SIDE),
                                   background=background)).astype(float)
        if hot:
            is_hot = rng.random(counts.shape) < 0.01
            counts[is_hot] += np.floor(max(background, 1.0)**0.5
                                       * rng.uniform(10.0, 500.0, is_hot.sum()))
        found = locate_source(counts, PSF)[0]
        n_found += np.hypot(found['x'] - place[0], found['y'] - place[1]) < 1.0
    return n_found


@pytest.mark.parametrize(('signal', 'background', 'rate'), [
    (5.0, 0.5, 0.97), (5.0, 100.0, 0.97), (10.0, 5.0, 0.999), (50.0, 5.0, 1.0)])
def test_stars_are_found(signal, background, rate):
    # Less would happen once in a thousand times.
    assert search(signal, background) >= binom.ppf(1e-3, 150, rate)


def test_hot_pixels_hardly_cost_stars():
    # A hot pixel next to the middle of a star may hide it, in one stamp of a hundred or two.
    assert search(10.0, 5.0, hot=True) >= search(10.0, 5.0) - 4


@pytest.mark.parametrize('background', [0.5, 50.0])
def test_a_false_alarm_is_as_probable_as_it_says(background):
    rng, n = np.random.default_rng(5), 300
    probability = np.ones(n)
    for k in range(n):
        found = locate_source(rng.poisson(background, (SIDE, SIDE)), PSF)
        probability[k] = found['false_alarm_probability'][0] if len(found) else 1.0
    low, high = binom.ppf([5e-4, 0.9995], n, 0.1)
    assert low / 1.3 <= np.sum(probability < 0.1) <= 1.3 * high


def test_a_false_alarm_is_more_probable_in_a_larger_image():
    star, levels = Star(PSF), np.array([0.5, 2.0, 4.0, 6.0])
    small, large = (false_alarm_probability(levels, star, shape, background_known=True)
                    for shape in ((15, 15), (300, 200)))
    assert small[0] == large[0] == 1.0
    assert np.all(np.diff(small) < 0)
    assert np.all(small[1:] <= large[1:])
    # Where it is rare, it goes with the area.
    assert 100 < large[3] / small[3] < 60000 / 225
    # Never less than at a place that is known.
    assert np.all(small[1:] > ndtr(-levels[1:]))


@pytest.mark.parametrize('known', [True, False], ids=['known', 'fitted'])
@pytest.mark.parametrize('level', [0.2, 3.0])
def test_the_significance_has_the_tail_of_poisson_counts(level, known):
    # The weights of the significance, and their sums over many empty stamps.
    rng = np.random.default_rng(2)
    image = Star(PSF).image(*np.meshgrid(*[np.arange(9.0)] * 2), 4.3, 3.8).ravel()
    used = np.arange(81) != 30
    counts = rng.poisson(level, (300000, 81)).astype(float)
    weight = np.where(used, image - (0.0 if known else image[used].mean()), 0.0)
    scores = (counts - level) @ weight
    goals = np.quantile(scores, [0.9, 0.99, 0.999], method='closest_observation')
    rows = [np.argmin(abs(scores - goal)) for goal in goals]
    found = score_significance(counts[rows], np.broadcast_to(image, (3, 81)),
                               np.full((3, 81), level), 1.0, background_known=known,
                               used=np.broadcast_to(used, (3, 81)))
    tail = np.array([np.mean(scores >= scores[row]) for row in rows])
    assert_allclose(ndtr(-found), tail, rtol=0.25)
    # A Gaussian tail would be wrong.
    gaussian = ndtr(-scores[rows[-1]] / np.sqrt(level * np.sum(weight**2)))
    assert gaussian < 0.7 * tail[-1]


def test_more_variance_is_less_significance():
    image = Star(PSF).image(*np.meshgrid(*[np.arange(9.0)] * 2), 4.0, 4.0).reshape(1, 81)
    level = np.full((1, 81), 30.0)
    arguments = level + 2000.0 * image, image, level
    options = {'background_known': True, 'used': np.ones((1, 81), dtype=bool)}
    first = score_significance(*arguments, 1.0, **options)
    assert_allclose(score_significance(*arguments, 4.0, **options), 0.5 * first)
    # Above 30 standard deviations the tail does not matter: it is the linear estimate.
    assert_allclose(first, 2000.0 * np.sqrt((image**2).sum() / 30.0))


def test_the_map_is_flux_over_error_and_is_highest_at_the_star():
    mean = stars((600.0, 23.0, 11.0))
    mask = np.zeros(mean.shape, dtype=bool)
    sky = Sky(np.full(mean.shape, 20.0), np.full(mean.shape, 20.0), 1.0)
    for known in (True, False):
        found = significance_map(mean, mask, sky, Star(PSF), background_known=known)
        (x, *_), (y, *_) = find_peaks(found, 5.0)
        assert (x, y) == (23, 11)
        image = Star(PSF).image(*np.meshgrid(*[np.arange(41.0)] * 2), 23.0, 11.0)
        # The filter is the PSF averaged over a pixel, a little wider than the star.
        assert_allclose(found[11, 23], 600.0 * np.sqrt((image**2).sum() / 20.0), rtol=0.06)


def test_a_star_is_where_and_as_bright_as_it_is():
    found = locate_source(draw(stars((1000.0, 23.4, 11.8))), PSF)
    assert found.colnames == COLUMNS
    assert found['id'].tolist() == [1]
    require_found(found[0], 1000.0, 23.4, 11.8)
    assert abs(found['background'][0] - 20.0) < 4.0 * found['background_err'][0]
    assert found['false_alarm_probability'][0] < 1e-10
    assert found.meta['fwhm'] == pytest.approx(np.hypot(FWHM, 2.3548 / 12**0.5), rel=0.01)
    assert found.meta['excess_variance'] == 1.0


def test_pulls_of_fluxes_and_positions_are_those_of_a_standard_normal():
    pulls = []
    for seed in range(40):
        place = 20.0 + np.random.default_rng(1000 + seed).uniform(-0.5, 0.5, 2)
        row = locate_source(draw(stars((3000.0, *place)), seed), PSF)[0]
        pulls.append([(row[name] - value) / row[f'{name}_err'] for name, value in zip(
            ('x', 'y', 'flux'), (*place, 3000.0))])
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 3.5 / np.sqrt(40))
    assert np.all(np.abs(np.std(pulls, axis=0) - 1.0) < 3.5 / np.sqrt(80))


@pytest.mark.parametrize('level', [20.0, np.full((41, 41), 20.0)], ids=['number', 'image'])
def test_a_known_background_is_not_fitted_and_helps(level):
    counts = draw(stars((300.0, 23.4, 11.8)))
    fitted, known = locate_source(counts, PSF)[0], locate_source(counts, PSF, background=level)[0]
    require_found(known, 300.0, 23.4, 11.8)
    assert (known['background'], known['background_err']) == (20.0, 0.0)
    assert known['flux_err'] < fitted['flux_err']
    assert known['significance'] > fitted['significance']


def test_read_noise_makes_sources_less_significant():
    rng = np.random.default_rng(4)
    counts = draw(stars((1000.0, 23.4, 11.8))) + rng.normal(0.0, 10.0, (41, 41))
    row = locate_source(counts, PSF, read_variance=100.0)[0]
    require_found(row, 1000.0, 23.4, 11.8)
    without = locate_source(draw(stars((1000.0, 23.4, 11.8))), PSF)[0]
    assert_allclose(row['significance'], without['significance'] * np.sqrt(20 / 120), rtol=0.35)
    assert row['flux_err'] > 1.5 * without['flux_err']


@pytest.mark.parametrize(('near', 'order'), [
    ((35.0, 5.0), [1, 0, 2]), ((5.0, 36.0), [2, 0, 1]), (None, [0, 1, 2])])
def test_the_nearest_source_is_first_if_a_place_is_named(near, order):
    rows = [(9000.0, 18.0, 20.0), (3000.0, 33.2, 7.1), (1000.0, 6.3, 34.0)]
    found = locate_source(draw(stars(*rows)), PSF, near=near, within=None, n=None)
    assert len(found) == 3
    for row, k in zip(found, order):
        require_found(row, *rows[k])
    one = locate_source(draw(stars(*rows)), PSF, near=near)
    assert len(one) == 1
    require_found(one[0], *rows[order[0]])


def test_noise_next_to_a_place_is_no_source():
    counts = draw(stars((9000.0, 33.0, 33.0)))
    require_found(locate_source(counts, PSF, near=(8.0, 8.0), within=None)[0], 9000.0, 33.0, 33.0)
    # Without a star there is nothing, but without a threshold the best there is.
    empty = draw(stars())
    assert len(locate_source(empty, PSF, near=(8.0, 8.0))) == 0
    assert len(locate_source(empty, PSF, n=None)) == 0
    best, = locate_source(empty, PSF)
    assert 1.0 < best['significance'] < 5.0
    assert best['false_alarm_probability'] > 1e-3
    assert len(locate_source(empty, PSF, near=(8.0, 8.0), threshold=1.5, within=None)) == 1


def test_another_star_is_not_returned_for_a_place():
    counts = draw(stars((9000.0, 33.0, 33.0)))
    found = locate_source(counts, PSF, near=(8.0, 8.0))
    assert len(found) == 0
    assert found.meta['within'] == 2.0 * found.meta['fwhm'] > 5.0
    assert_allclose(found.meta['nearest'], [33.0, 33.0, 25.0 * 2**0.5], atol=0.1)
    assert locate_source(draw(stars()), PSF, near=(8.0, 8.0)).meta['nearest'] is None
    assert 'within' not in locate_source(counts, PSF).meta


@pytest.mark.parametrize(('within', 'n_found'), [
    ('auto', 1), (5.0, 1), (4.0, 0), (None, 2), (1e3, 2)])
def test_how_far_a_source_may_be_is_an_option(within, n_found):
    counts = draw(stars((9000.0, 33.0, 33.0), (4000.0, 8.0, 8.0)))
    found = locate_source(counts, PSF, near=(36.0, 36.6), within=within, n=None)
    assert len(found) == n_found
    assert found.meta['within'] == (2.0 * found.meta['fwhm'] if within == 'auto' else within)
    assert found.meta['nearest'][2] == pytest.approx(np.hypot(3.0, 3.6), abs=0.1)


def test_a_narrow_psf_may_be_three_pixels_away():
    y, x = np.mgrid[:41, :41]
    counts = draw(PSF.evaluate(x, y, 9000.0, 20.0, 20.0, 1.2) + 5.0)
    narrow = CircularGaussianPRF(fwhm=1.2)
    assert len(locate_source(counts, narrow, near=(22.8, 20.0))) == 1
    assert len(locate_source(counts, narrow, near=(23.2, 20.0))) == 0


def test_rivals_of_a_place_are_those_around_it():
    rows = [(9000.0, 33.0, 33.0), (3000.0, 8.0, 8.0), (2500.0, 11.5, 8.0)]
    for kept, has_rival in ((rows[:2], False), (rows, True)):
        found, = locate_source(draw(stars(*kept)), PSF, near=(8.0, 8.0))
        assert found['has_rival'] == has_rival
        anywhere, = locate_source(draw(stars(*kept)), PSF, near=(8.0, 8.0), within=None)
        assert anywhere['has_rival']


def test_the_number_of_sources_and_their_threshold_are_kept():
    rows = [(9000.0, 18.0, 20.0), (3000.0, 33.2, 7.1), (400.0, 6.3, 34.0)]
    counts = draw(stars(*rows))
    for n in (1, 2, 3):
        found = locate_source(counts, PSF, n=n)
        assert found['id'].tolist() == list(range(1, n + 1))
        assert np.all(np.diff(found['significance']) <= 0)
    weakest = found['significance'][2]
    assert len(locate_source(counts, PSF, n=None, threshold=weakest + 1.0)) == 2
    assert len(locate_source(counts, PSF, n=None, threshold=weakest - 1.0)) == 3


def test_a_rival_is_named():
    alone = locate_source(draw(stars((3000.0, 12.0, 14.0))), PSF)[0]
    assert not alone['has_rival']
    assert alone['rival_significance'] < 5.0
    rivals = locate_source(draw(stars((3000.0, 12.0, 14.0), (2500.0, 30.0, 28.0))), PSF, n=2)
    assert rivals['has_rival'].all()
    assert_allclose(rivals['rival_significance'], rivals['significance'][::-1])
    weak = locate_source(draw(stars((9000.0, 12.0, 14.0), (400.0, 30.0, 28.0))), PSF, n=2)
    # The bright one is a rival of the faint one, not the other way round.
    assert weak['has_rival'].tolist() == [False, True]


@pytest.mark.parametrize('seed', range(3))
def test_a_faint_star_beside_a_bright_one_is_found(seed):
    # Around a bright star the background seems higher, and the faint one drowns at first.
    bright, faint = (50000.0, 19.7, 20.2), (1500.0, 24.9, 22.0)
    found = locate_source(draw(stars(bright, faint), seed), PSF, n=None)
    assert len(found) == 2
    assert np.hypot(found['x'][0] - 19.7, found['y'][0] - 20.2) < 0.05
    assert np.hypot(found['x'][1] - 24.9, found['y'][1] - 22.0) < 0.5
    assert 0.5 < found['flux'][1] / 1500.0 < 1.5
    # Without it, the bright star is alone.
    assert len(locate_source(draw(stars(bright), seed), PSF, n=None)) == 1


@pytest.mark.parametrize(('x', 'y'), [(-0.3, 18.0), (40.4, 7.2), (-0.2, 40.3), (17.0, -0.4)])
def test_a_star_at_the_edge_is_found(x, y):
    row = locate_source(draw(stars((4000.0, x, y))), PSF)[0]
    assert np.hypot(row['x'] - x, row['y'] - y) < 0.5
    assert 0.6 < row['flux'] / 4000.0 < 1.6


@pytest.mark.parametrize(('x', 'y'), [(-1.3, 18.0), (41.2, 41.2)])
def test_a_star_beyond_the_edge_is_taken_to_be_at_it(x, y):
    row = locate_source(draw(stars((50000.0, x, y))), PSF)[0]
    assert -0.5 <= row['x'] <= 40.5
    assert -0.5 <= row['y'] <= 40.5
    assert np.hypot(row['x'] - x, row['y'] - y) < 1.8


@pytest.mark.parametrize('shape', [(10, 12), (11, 12), (40, 30), (3, 40), (7, 7)])
def test_images_of_any_size_are_searched(shape):
    x, y = 0.6 * shape[1], 0.4 * (shape[0] - 1)
    row = locate_source(draw(stars((20000.0, x, y), shape=shape)), PSF)[0]
    assert np.hypot(row['x'] - x, row['y'] - y) < 0.1


@pytest.mark.parametrize('side', [60, 61])
def test_the_middle_of_an_image_is_the_place_of_the_star_whatever_its_size(side):
    # Of an even number of pixels, the middle is between two.
    offset = np.arange(side) - (side - 1) / 2
    image = np.exp(-0.5 * (offset**2 + offset[:, np.newaxis]**2) / 3.0**2)
    y, x = np.mgrid[:50, :60]
    counts = draw(30.0 + 500.0 * np.exp(-0.5 * ((x - 31.3)**2 + (y - 22.8)**2) / 3.0**2))
    # The PSF is larger than the image.
    row = locate_source(counts, image)[0]
    require_found(row, 500.0 * 2.0 * np.pi * 9.0, 31.3, 22.8)


def test_a_psf_image_may_be_larger_than_the_image():
    counts = draw(stars((20000.0, 5.3, 4.1), shape=(9, 11)))
    image = samples(oversampling=1, size=41)
    row = locate_source(counts, image)[0]
    # The image has the PSF at pixel centres, the star has it integrated over them.
    assert np.hypot(row['x'] - 5.3, row['y'] - 4.1) < 0.1
    assert row['flux'] == pytest.approx(20000.0, rel=0.05)


def as_model(kind):
    if kind == 'image':
        return samples()
    if kind == 'ImagePSF':
        return ImagePSF(samples(), oversampling=4)
    if kind == 'half':
        return ImagePSF(0.5 * samples(), oversampling=4)
    if kind == 'TabulatedPRF':
        return TabulatedPRF(samples(), 0.25)
    meta = {'grid_xypos': [(0, 0), (0, 40), (40, 0), (40, 40)], 'oversampling': 4}
    return GriddedPSFModel(NDData(np.array([samples(2.3 + 0.2 * k) for k in range(4)]),
                                  meta=meta))


@pytest.mark.parametrize('kind', ['image', 'ImagePSF', 'half', 'TabulatedPRF', 'GriddedPSFModel'])
def test_psfs_of_all_kinds_find_stars(kind):
    psf = as_model(kind)
    y, x = np.mgrid[:41, :41]
    source = as_model('ImagePSF') if kind in ('image', 'half') else psf.copy()
    source.flux, source.x_0, source.y_0 = 8000.0, 27.3, 14.6
    row = locate_source(draw(source(x, y) + 20.0), psf,
                        oversampling=4 if kind == 'image' else None)[0]
    require_found(row, 8000.0, 27.3, 14.6)


def test_a_psf_that_changes_over_the_detector_is_that_of_the_place():
    meta = {'grid_xypos': [(0, 0), (0, 60), (60, 0), (60, 60)], 'oversampling': 4}
    psf = GriddedPSFModel(NDData(np.array([samples(fwhm) for fwhm in (2.0, 2.0, 4.0, 4.0)]),
                                 meta=meta))
    y, x = np.mgrid[:61, :61]
    mean = np.full((61, 61), 20.0)
    for place in (8.2, 52.7):
        source = psf.copy()
        source.flux, source.x_0, source.y_0 = 20000.0, place, 30.0
        mean += source(x, y)
    found = locate_source(draw(mean), psf, n=2)
    for row in found[np.argsort(found['x'])]:
        assert row['flux'] == pytest.approx(20000.0, rel=0.03)


@pytest.mark.parametrize('level', [0.0, 5.0, 1e4])
@pytest.mark.parametrize('shape', [(12, 14), (120, 100)])
def test_constant_data_have_no_sources(level, shape):
    found = locate_source(np.full(shape, level), PSF)
    assert len(found) == 0
    assert found.colnames == COLUMNS
    assert found['has_rival'].dtype == bool


def test_single_photons_are_no_stars():
    data = np.zeros((60, 60))
    data[20, 20] = data[40, 31] = 1.0
    assert len(locate_source(data, PSF, n=None)) == 0


@pytest.mark.parametrize('fill', ['mask', 'masked array', 'nan', 'inf'])
def test_pixels_that_do_not_count_are_left_out(fill):
    counts, bad = draw(stars((3000.0, 23.4, 11.8))), np.zeros((41, 41), dtype=bool)
    bad[10:12, 24], bad[28:36, 3:12], bad[:, 30] = True, True, True
    expected = locate_source(counts, PSF, mask=bad)
    require_found(expected[0], 3000.0, 23.4, 11.8)
    spoiled = np.where(bad, {'nan': np.nan, 'inf': np.inf}.get(fill, -5e4), counts)
    if fill == 'masked array':
        found = locate_source(np.ma.array(spoiled, mask=bad), PSF)
    else:
        found = locate_source(spoiled, PSF, mask=bad if fill == 'mask' else None)
    for name in COLUMNS:
        assert_array_equal(found[name], expected[name])


def test_hot_pixels_are_left_out_and_a_star_is_not():
    counts = draw(stars((3000.0, 23.4, 11.8)))
    counts[30, 5], counts[2, 37] = 5000.0, 300.0
    found = locate_source(counts, PSF)
    require_found(found[0], 3000.0, 23.4, 11.8)
    assert found.meta['spikes'] == 2
    # It is as if they were masked.
    mask = np.zeros(counts.shape, dtype=bool)
    mask[30, 5] = mask[2, 37] = True
    masked = locate_source(counts, PSF, mask=mask)
    for name in ('x', 'y', 'flux', 'significance'):
        assert_allclose(found[name], masked[name], rtol=1e-6)
    assert masked.meta['spikes'] == 0


def test_a_cosmic_ray_on_the_star_is_left_out():
    counts = draw(stars((3000.0, 23.4, 11.8)))
    counts[12, 25] += 4000.0
    found = locate_source(counts, PSF)
    require_found(found[0], 3000.0, 23.4, 11.8)
    assert found.meta['spikes'] == 1


def test_a_varying_background_is_followed_in_a_large_image():
    y, x = np.mgrid[:120, :140]
    mean = stars((3000.0, 93.4, 51.8), shape=(120, 140), background=50.0) + 2.0 * x + y
    found = locate_source(draw(mean), PSF, n=None)
    assert len(found) == 1
    require_found(found[0], 3000.0, 93.4, 51.8)
    sky = estimate_sky(draw(mean), np.zeros(mean.shape, dtype=bool), FWHM, 0.0)
    assert_allclose(sky.level, 50.0 + 2.0 * x + y, rtol=0.1)


def test_noise_beyond_that_of_photons_is_measured():
    rng = np.random.default_rng(8)
    counts = np.maximum(rng.normal(500.0, 3.0 * np.sqrt(500.0), (120, 120)), 0.0)
    found = locate_source(counts, PSF)
    assert found.meta['excess_variance'] == pytest.approx(9.0, rel=0.1)
    assert len(locate_source(counts, PSF, n=None)) == 0
    assert locate_source(draw(np.full((120, 120), 500.0)), PSF).meta['excess_variance'] == 1.0


@pytest.mark.parametrize('kind', [int, np.uint16, np.float32, bool])
def test_numbers_of_any_type_are_read(kind):
    counts = draw(stars((3000.0, 23.4, 11.8)))
    if kind is bool:
        counts = (counts > 60).astype(float)
    expected, found = locate_source(counts, PSF), locate_source(counts.astype(kind), PSF)
    for name in COLUMNS:
        assert_array_equal(found[name], expected[name])
    assert np.hypot(found['x'][0] - 23.4, found['y'][0] - 11.8) < 0.6


def test_what_is_passed_is_left_alone():
    counts, level = draw(stars((3000.0, 23.4, 11.8))), np.full((41, 41), 20.0)
    counts[3, 4], level[7, 7] = np.nan, np.nan
    mask, psf, model = np.isnan(level), samples(), PSF.copy()
    before = [array.copy() for array in (counts, level, mask, psf)]
    locate_source(counts, psf, background=level, mask=mask, oversampling=4)
    locate_source(counts, model, background=level, mask=mask)
    for array, old in zip((counts, level, mask, psf), before):
        assert_array_equal(array, old)
    assert_array_equal(model.parameters, PSF.parameters)
    assert model.fixed == PSF.fixed


COUNTS = draw(stars((3000.0, 23.4, 11.8)))


@pytest.mark.parametrize(('data', 'options', 'error', 'message'), [
    (COUNTS - 25.0, {}, ValueError, r'Electrons must be >= 0 up to read noise, but \d+ of 1681'),
    (COUNTS[0], {}, ValueError, r'one image of at least 3 x 3 pixels, but its shape is \(41,\)'),
    (COUNTS[np.newaxis], {}, ValueError, 'pass images one by one'),
    (COUNTS[:2], {}, ValueError, 'at least 3 x 3'),
    (COUNTS * 1j, {}, TypeError, 'real numbers, but it is complex128'),
    (COUNTS.astype(str), {}, TypeError, 'real numbers, but it is <U'),
    (COUNTS * u.adu, {}, TypeError, 'the unit is adu: multiply with the gain'),
    (np.full((9, 9), np.nan), {}, ValueError, 'all 81 are masked or not finite'),
    (COUNTS, {'mask': COUNTS >= 0}, ValueError, 'all 1681 are masked or not finite'),
    (COUNTS, {'mask': COUNTS[:5] > 0}, ValueError, r'mask must have the shape of the data'),
    (COUNTS, {'background': COUNTS[:5]}, ValueError, 'background must be a number or have the'),
    (COUNTS, {'background': -1.0}, ValueError, 'background'),
    (COUNTS, {'background': np.nan}, ValueError, 'background'),
    (COUNTS, {'near': 5.0}, ValueError, r'near must be two finite numbers \(x, y\), but it is 5'),
    (COUNTS, {'near': (1.0, 2.0, 3.0)}, ValueError, 'near must be two finite numbers'),
    (COUNTS, {'near': (1.0, np.nan)}, ValueError, 'near must be two finite numbers'),
    (COUNTS, {'within': 0.0}, ValueError, 'within must be'),
    (COUNTS, {'within': 'far'}, TypeError, "within must be a number, but it is 'far'.*'auto'"),
    (COUNTS, {'n': 0}, ValueError, 'n must be'),
    (COUNTS, {'n': 1.5}, (TypeError, ValueError), 'n must be'),
    (COUNTS, {'threshold': np.nan}, ValueError, 'threshold must be'),
    (COUNTS, {'threshold': -1.0}, ValueError, 'threshold must be'),
    (COUNTS, {'read_variance': -1.0}, ValueError, 'read_variance must be'),
    (COUNTS, {'oversampling': 4}, ValueError, 'oversampling'),
])
def test_what_cannot_be_searched_is_named(data, options, error, message):
    with pytest.raises(error, match=message):
        locate_source(data, PSF, **options)


@pytest.mark.parametrize(('psf', 'error'), [
    ('gaussian', TypeError), (np.zeros((9, 9)), ValueError), (np.ones(9), ValueError),
    (np.full((9, 9), np.nan), ValueError), (np.ones((9, 9)) * 1j, TypeError)])
def test_what_is_no_psf_is_refused(psf, error):
    with pytest.raises(error):
        locate_source(COUNTS, psf)


TRUTH = [(9000.0, 18.0, 20.0), (3000.0, 33.2, 7.1), (2500.0, 6.3, 34.0)]


@pytest.mark.parametrize(('subtracted', 'gain', 'unit'), [
    (0.0, 1.0, None), (0.0, 2.5, None), (20.0, 1.0, None), (20.0, 2.5, u.adu),
    (0.0, 1.0, u.electron)])
def test_photometry_finds_its_stars(subtracted, gain, unit):
    counts = draw(stars(*TRUTH))
    data = (counts - subtracted) / gain
    photometry = PoissonPSFPhotometry(PSF, 11, gain=gain,
                                      background=subtracted / gain if subtracted else 'fit')
    if unit is not None:
        data = data * unit
        if subtracted:
            photometry = PoissonPSFPhotometry(PSF, 11, gain=gain,
                                              background=subtracted / gain * unit)
    table = photometry(data)
    assert len(table) == len(photometry.finder_results) == 3
    assert getattr(table['flux_fit'], 'unit', None) == unit
    order = np.argsort(-table['flux_fit'])
    for row, (flux, x, y) in zip(table[order], TRUTH):
        value, error = (float(getattr(row[name], 'value', row[name]))
                        for name in ('flux_fit', 'flux_err'))
        assert abs(value - flux / gain) < 4.0 * error
        assert error < 0.1 * flux / gain
        assert np.hypot(row['x_fit'] - x, row['y_fit'] - y) < 0.2


def test_photometry_of_nothing_finds_nothing():
    photometry = PoissonPSFPhotometry(PSF, 11)
    assert photometry(draw(stars())) is None
    assert photometry.results is None


def test_photometry_with_a_start_does_not_search():
    photometry = PoissonPSFPhotometry(PSF, 11)
    table = photometry(draw(stars(*TRUTH)), init_params=QTable({'x': [33.0], 'y': [7.0]}))
    assert len(table) == 1
    assert photometry.finder_results is None


def test_a_light_curve_starts_at_the_target_beside_a_brighter_star(tmp_path):
    rows = [(1.0e4, 3.2, 7.4), (1.0e5, 7.8, 2.9)]
    tpf = read_tpf(simulate_tpf(tmp_path / 'two.fits', n_cadences=12, shape=(11, 11), stars=rows,
                                seed=3, drift=0.0))
    found = extract_light_curve(tpf)
    assert_allclose(found['x'].value, 3.2, atol=0.5)
    assert_allclose(found['y'].value, 7.4, atol=0.5)
