# Licensed under a 3-clause BSD style license - see LICENSE

from array import array
from collections import deque
from decimal import Decimal, getcontext

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.modeling import Parameter
from astropy.nddata import NDDataArray
from astropy.table import Column, MaskedColumn, QTable
from astropy.utils.masked import Masked
from numpy.testing import assert_allclose
from scipy import special, stats

from kpsf._kernels.poisson import deviance
from kpsf.statistics import cash, cstat, cstat_moments, goodness_of_fit

STATISTICS = [cash, cstat, lambda counts, model: goodness_of_fit(counts, model, 0).z]


def sum_moments(mean):
    """Return mean and variance of the deviance by summing over all counts that can occur."""
    reach = 14 * np.sqrt(mean) + 50
    counts = np.arange(max(0, int(mean - reach)), int(mean + reach))
    probability = stats.poisson.pmf(counts, mean)
    log_ratio = np.log(np.maximum(counts, 1) / mean)
    value = 2 * (mean - counts + counts * log_ratio)
    expected = np.sum(probability * value)
    return expected, np.sum(probability * (value - expected) ** 2)


def exact_deviance(counts, mean):
    """Return the deviance of one pixel in 60 decimal digits."""
    getcontext().prec = 60
    k, mu = Decimal(counts), Decimal(mean)
    return float(2 * (mu - k + k * (k / mu).ln())) if k else float(2 * mu)


@pytest.mark.parametrize('counts', [0.0, 1e-3, 1.0, 7.0, 1e4, 4.8e8])
@pytest.mark.parametrize('offset', [-1 + 1e-12, -0.9, -1e-2, -1e-6, 1e-9, 1e-4, 0.5, 1e3])
def test_the_deviance_keeps_its_digits(counts, offset):
    mean = counts * (1 + offset) if counts else abs(offset)
    # The best that rounded counts and mean allow is their last digit times the slope.
    rounding = 4e-16 * abs(mean - counts)
    assert_allclose(deviance(counts, mean), exact_deviance(counts, mean), rtol=1e-9,
                    atol=rounding)


def test_the_deviance_of_no_counts_is_twice_the_mean():
    assert deviance(np.zeros(3), np.array([0.0, 1e-300, 2.5])).tolist() == [0.0, 2e-300, 5.0]


@pytest.mark.parametrize(('counts', 'mean'), [(3.0, 0.0), (3.0, -1.0), (0.0, -1.0)])
def test_the_deviance_of_an_impossible_mean_is_infinite(counts, mean):
    assert deviance(counts, mean) == np.inf


@pytest.mark.parametrize(('counts', 'mean'), [(np.nan, 1.0), (1.0, np.nan), (0.0, np.nan)])
def test_the_deviance_of_nan_is_nan(counts, mean):
    assert np.isnan(deviance(counts, mean))


def test_cash_is_twice_the_negative_log_likelihood_without_the_factorial():
    counts, model = np.array([0, 1, 4, 30]), np.array([0.2, 1.5, 4.0, 25.0])
    log_likelihood = stats.poisson.logpmf(counts, model) + special.gammaln(counts + 1)
    assert_allclose(cash(counts, model), -2 * log_likelihood.sum(), rtol=1e-13)


def test_cash_and_cstat_differ_by_a_constant():
    rng = np.random.default_rng(3)
    counts = rng.poisson(20.0, 100)
    models = rng.uniform(1, 40, (50, 100))
    difference = cash(counts, models, axis=1) - cstat(counts, models, axis=1)
    assert_allclose(difference, difference[0], rtol=1e-12)


def test_cstat_is_zero_for_a_perfect_model_and_positive_for_any_other():
    counts = np.array([0.0, 0.5, 3.0, 1e9])
    assert cstat(counts, counts) == 0.0
    nudged = counts * (1 + 1e-12) + 1e-9
    assert np.all(cstat(counts, nudged, axis=()) > 0)


def test_cstat_resolves_steps_that_cash_does_not():
    counts = np.full(110, 4.8e8 / 110)
    near, nearer = counts * (1 + 3e-9), counts * (1 + 1e-9)
    assert cash(counts, near) == pytest.approx(cash(counts, nearer), rel=1e-16)
    assert_allclose(cstat(counts, near) / cstat(counts, nearer), 9.0, rtol=1e-5)


def test_cstat_tends_to_chi_squared():
    rng = np.random.default_rng(5)
    model = np.full(1000, 1e8)
    counts = rng.poisson(model)
    assert_allclose(cstat(counts, model), np.sum((counts - model) ** 2 / model), rtol=1e-3)


@pytest.mark.parametrize('statistic', [cash, cstat])
def test_a_model_of_zero_under_a_count_is_infinitely_bad(statistic):
    assert statistic([0, 2], [0.0, 0.0]) == np.inf
    assert statistic([0, 2], [0.0, 2.0]) < np.inf


@pytest.mark.parametrize('statistic', [cash, cstat])
def test_axis_gives_one_value_per_stamp(statistic):
    rng = np.random.default_rng(7)
    counts = rng.poisson(5.0, (4, 3, 6))
    model = rng.uniform(2, 8, (3, 6))
    per_stamp = statistic(counts, model, axis=(1, 2))
    assert per_stamp.shape == (4,)
    assert_allclose(per_stamp, [statistic(stamp, model) for stamp in counts])
    assert_allclose(per_stamp.sum(), statistic(counts, model))


@pytest.mark.parametrize('mean', np.geomspace(1e-3, 1e5, 81))
def test_the_moments_agree_with_exact_sums(mean):
    assert_allclose(cstat_moments(mean), sum_moments(mean), rtol=1e-6)


@pytest.mark.parametrize('mean', [1e-12, 1e-6, 9.99e-5, 1.001e-4, 99.99, 100.01])
def test_the_moments_agree_with_exact_sums_at_the_ends_of_the_table(mean):
    assert_allclose(cstat_moments(mean), sum_moments(mean), rtol=1e-6)


def test_the_moments_tend_to_those_of_chi_squared():
    assert_allclose(cstat_moments(1e12), (1.0, 2.0), rtol=1e-11)


def test_no_expected_counts_leave_nothing_to_vary():
    mean, variance = cstat_moments(np.zeros((2, 3)))
    assert mean.shape == variance.shape == (2, 3)
    assert not mean.any() and not variance.any()


@pytest.mark.parametrize('mean', [0.05, 0.7, 6.0, 500.0])
def test_the_moments_are_those_of_simulated_counts(mean):
    counts = np.random.default_rng(11).poisson(mean, 200_000)
    values = cstat(counts, np.float64(mean), axis=())
    expected, variance = cstat_moments(mean)
    error = np.sqrt(variance / values.size)
    assert abs(values.mean() - expected) < 4 * error
    variance_error = np.std((values - expected) ** 2) / np.sqrt(values.size)
    assert abs(values.var() - variance) < 4 * variance_error


@pytest.mark.parametrize('level', [0.1, 2.0, 1e4])
def test_goodness_of_fit_is_a_standard_normal_for_the_right_model(level):
    rng = np.random.default_rng(13)
    model = level * rng.uniform(0.5, 1.5, (11, 11))
    fit = goodness_of_fit(rng.poisson(model, (4000, 11, 11)), model, 0, axis=(1, 2))
    assert abs(fit.z.mean()) < 4 / np.sqrt(4000)
    assert abs(fit.z.std() - 1) < 0.05
    # The sum of 121 pixels is a little skewed, which a normal probability does not follow.
    assert abs(np.mean(fit.p < 0.32) - 0.32) < 0.04


def test_goodness_of_fit_counts_the_parameters_that_were_fitted():
    rng = np.random.default_rng(17)
    counts = rng.poisson(50.0, (4000, 30))
    fitted = np.repeat(counts.mean(axis=1, keepdims=True), 30, axis=1)
    z = goodness_of_fit(counts, fitted, 1, axis=1).z
    assert abs(z.mean()) < 4 / np.sqrt(4000)
    ignored = goodness_of_fit(counts, fitted, 0, axis=1).z
    assert_allclose(z - ignored, 1 / np.sqrt(np.sum(cstat_moments(fitted)[1], axis=1)))


@pytest.mark.parametrize('level', [0.05, 0.1, 0.3, 1.0, 10.0])
def test_goodness_of_fit_of_a_fitted_background_is_a_standard_normal(level):
    counts = np.random.default_rng(23).poisson(level, (2000, 30, 30))
    fitted = np.broadcast_to(counts.mean(axis=(1, 2), keepdims=True), counts.shape)
    z = goodness_of_fit(counts, fitted, 1, axis=(1, 2), jacobian=np.ones((1, 30, 30))).z
    assert abs(z.mean()) < 4 / np.sqrt(2000)
    assert abs(z.std() - 1) < 4 / np.sqrt(4000)


@pytest.mark.parametrize('level', [0.1, 0.3])
def test_goodness_of_fit_without_a_jacobian_is_too_close_to_zero_at_few_counts(level):
    counts = np.random.default_rng(23).poisson(level, (2000, 900))
    fitted = np.broadcast_to(counts.mean(axis=1, keepdims=True), counts.shape)
    assert goodness_of_fit(counts, fitted, 1, axis=1).z.std() < 0.7


def test_goodness_of_fit_of_a_line_that_was_fitted_is_a_standard_normal():
    # Fisher scoring of a mean that is linear in its parameters.
    jacobian = np.array([np.ones(400), np.linspace(0, 1, 400)])
    truth = np.array([0.2, 0.4]) @ jacobian
    counts = np.random.default_rng(29).poisson(truth, (2000, 400))
    fitted = np.broadcast_to(truth, counts.shape)
    for _ in range(25):
        information = np.einsum('in,jn,mn->mij', jacobian, jacobian, 1 / fitted)
        score = (counts / fitted - 1) @ jacobian.T
        step = np.linalg.solve(information, score[:, :, np.newaxis])[:, :, 0] @ jacobian
        fitted = fitted + step
    assert abs(step).max() < 1e-8
    z = goodness_of_fit(counts, fitted, 2, axis=1, jacobian=jacobian[:, np.newaxis]).z
    assert abs(z.mean()) < 4 / np.sqrt(2000)
    assert abs(z.std() - 1) < 4 / np.sqrt(4000)


def test_a_jacobian_changes_nothing_for_many_counts():
    counts = np.random.default_rng(31).poisson(300.0, (5, 200))
    fitted = np.broadcast_to(counts.mean(axis=1, keepdims=True), counts.shape)
    z = goodness_of_fit(counts, fitted, 1, axis=1)
    assert_allclose(goodness_of_fit(counts, fitted, 1, axis=1, jacobian=np.ones((1, 200))), z,
                    atol=1e-5)


def test_a_jacobian_has_the_axes_of_the_model_after_its_own():
    rng = np.random.default_rng(37)
    model = rng.uniform(0.1, 0.4, (6, 4, 9))
    counts, jacobian = rng.poisson(model), rng.normal(size=(2, 6, 4, 9))
    whole = [goodness_of_fit(counts[:, k], model[:, k], 2, jacobian=jacobian[:, :, k]).z
             for k in range(4)]
    assert_allclose(goodness_of_fit(counts, model, 2, axis=(0, 2), jacobian=jacobian).z, whole)
    assert_allclose(goodness_of_fit(counts, model, 2, axis=(-1, 0), jacobian=jacobian).z, whole)
    # One for all stamps.
    same = goodness_of_fit(counts, model, 2, axis=(0, 2), jacobian=jacobian[:, 0, 0]).z
    expected = [goodness_of_fit(counts[:, k], model[:, k], 2, jacobian=np.broadcast_to(
        jacobian[:, :1, 0], (2, 6, 9))).z for k in range(4)]
    assert_allclose(same, expected)


@pytest.mark.parametrize('jacobian', [
    1.0, np.ones(4), np.ones((1, 3)), np.ones((2, 5, 4)), np.ones((2, 1, 4))])
def test_a_jacobian_of_another_shape_is_refused(jacobian):
    with pytest.raises(ValueError, match=r'jacobian must have one row for each parameter'):
        goodness_of_fit(np.ones(4), np.ones(4), 1, jacobian=jacobian)


def test_a_jacobian_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match='jacobian must be finite'):
        goodness_of_fit(np.ones(4), np.ones(4), 1, jacobian=[[1.0, np.nan, 1.0, 1.0]])


def test_goodness_of_fit_takes_a_number_of_parameters_for_each_fit():
    counts = np.full((3, 8), 4.0)
    z = goodness_of_fit(counts, counts, [0, 1, 2], axis=1).z
    assert_allclose(z, [goodness_of_fit(row, row, n).z for n, row in enumerate(counts)])


def test_goodness_of_fit_rejects_a_wrong_model():
    counts = np.random.default_rng(19).poisson(100.0, 121)
    fit = goodness_of_fit(counts, np.full(121, 120.0), 1)
    assert fit.z > 5
    assert fit.p < 1e-6


@pytest.mark.parametrize('n_free', [-1, 4, 5, np.nan])
def test_goodness_of_fit_says_when_there_are_too_many_parameters(n_free):
    with pytest.raises(ValueError, match='less than the number of pixels, 4, but it is'):
        goodness_of_fit(np.ones(4), np.ones(4), n_free)


@pytest.mark.parametrize('statistic', STATISTICS)
def test_negative_counts_say_what_to_do(statistic):
    with pytest.raises(ValueError, match=r'Poisson counts must be >= 0, but 2 of 4 values are '
                                         r'negative \(minimum -11\): add the background'):
        statistic([-11, 0, -1, 5], np.ones(4))


@pytest.mark.parametrize('statistic', STATISTICS)
@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_counts_that_are_not_finite_say_what_to_do(statistic, bad):
    with pytest.raises(ValueError, match='Poisson counts must be finite, but 1 of 2 .* good pix'):
        statistic([1, bad], np.ones(2))


@pytest.mark.parametrize('statistic', [*STATISTICS, lambda _, model: cstat_moments(model)])
@pytest.mark.parametrize(('bad', 'message'), [
    (np.nan, 'Expected counts must be finite'),
    (-0.5, r'Expected counts must be >= 0, but 1 of 2 .*minimum -0.5'),
])
def test_an_impossible_model_says_what_to_do(statistic, bad, message):
    with pytest.raises(ValueError, match=message):
        statistic(np.ones(2), [1.0, bad])


@pytest.mark.parametrize('statistic', STATISTICS)
def test_shapes_that_do_not_broadcast_are_named(statistic):
    with pytest.raises(ValueError, match=r'broadcast, but they are \(3, 4\) and \(4, 3\)'):
        statistic(np.ones((3, 4)), np.ones((4, 3)))


@pytest.mark.parametrize('statistic', STATISTICS)
def test_masked_counts_are_refused_because_the_mask_would_be_lost(statistic):
    counts = np.ma.masked_less(np.arange(4.0), 1)
    with pytest.raises(TypeError, match='1 of 4 pixels are masked'):
        statistic(counts, np.ones(4))
    assert np.isfinite(statistic(np.ma.array(np.arange(4.0)), np.ones(4)))


def test_counts_that_are_no_numbers_are_refused():
    with pytest.raises(TypeError, match='must be an array of numbers, but it is list'):
        cash(['many', 'few'], np.ones(2))


def test_the_published_likelihood_of_the_first_cadence_of_tabbys_star(kpsf_data):
    path = kpsf_data / 'kepler' / 'kplr008462852-q08-first100.fits'
    with fits.open(path) as hdus:
        flux = hdus[1].data['FLUX'][0].astype(float)
        background = hdus[1].data['FLUX_BKG'][0].astype(float)
    y, x = np.indices(flux.shape)
    dx, dy = x - 5.5, y - 4.0
    shape = np.exp(-(1.2 * dx**2 - 0.3 * dx * dy + 0.6 * dy**2))
    model = flux.sum() * shape / shape.sum() + background.mean()
    assert_allclose(cash(flux + background, model) / 2, -2316716.44, atol=0.05, rtol=0)


class Endless:
    """An object of which each item is another one, as lightkurve's pixel files are."""

    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return Endless()


@pytest.mark.parametrize('values', [Endless(), [Endless()], [[Endless()]]])
def test_objects_whose_items_are_no_numbers_are_refused_at_once(values):
    with pytest.raises(TypeError, match='must be an array of numbers.*convert it first'):
        cstat(values, values)


VALUES = [1.0, 4.0, 7.0]


@pytest.mark.parametrize('values', [
    VALUES, tuple(VALUES), range(1, 8, 3), [np.float64(1.0), 4, 7], array('d', VALUES),
    memoryview(array('d', VALUES)), deque(VALUES), np.ma.array(VALUES), Column(VALUES),
    MaskedColumn(VALUES), Masked(VALUES), QTable({'a': VALUES * u.electron})['a'],
    Parameter('a', default=VALUES), NDDataArray(VALUES), [Column([value]) for value in VALUES]])
def test_what_has_numbers_is_an_array(values):
    assert np.shape(cstat(values, 2.0)) == ()
    assert_allclose(cstat(values, 2.0), cstat(np.array(VALUES), 2.0))


@pytest.mark.parametrize(('package', 'name'), [('pandas', 'Series'), ('dask.array', 'from_array')])
def test_arrays_of_other_packages_are_arrays(package, name):
    values = getattr(pytest.importorskip(package), name)(np.array(VALUES))
    assert_allclose(cstat(values, 2.0), cstat(np.array(VALUES), 2.0))
