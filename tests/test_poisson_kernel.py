# Licensed under a 3-clause BSD style license - see LICENSE

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kpsf._kernels.poisson import continued_terms, deviance, is_impossible

FLOOR = 0.25
COUNTS = [0.0, 1e-3, 0.2, 1.0, 30.0, 1e6, -0.5, -4.0]


def half_deviance(counts, mean):
    """Return what the continuation makes of single pixels, with a floor of 0.25."""
    return continued_terms(np.array([[counts]]), np.array([[mean]]), np.array([[FLOOR]]))


@pytest.mark.parametrize('counts', [-0.3, -2.0, -40.0])
@pytest.mark.parametrize('mean', [0.01, 0.3, 2.0, 40.0, 1e3])
def test_counts_below_zero_keep_the_slope_of_poisson_counts(counts, mean):
    step = 1e-5 * mean
    slope = (deviance(counts, mean + step) - deviance(counts, mean - step)) / (2 * step)
    assert_allclose(0.5 * slope, 1 - counts / mean, rtol=1e-6)


def test_the_slope_is_unbiased_where_read_noise_leaves_counts_below_zero():
    rng = np.random.default_rng(31)
    mean, read_variance, n = 0.3, 1.0, 400_000
    shifted = rng.poisson(mean, n) + rng.normal(0, 1.0, n) + read_variance
    assert (shifted < 0).mean() > 0.05

    def average_slope(counts):
        step = 1e-4
        up, down = (deviance(counts, mean + read_variance + s) for s in (step, -step))
        return (0.25 * (up - down) / step).mean()

    error = np.sqrt((mean + read_variance) / n) / (mean + read_variance)
    assert abs(average_slope(shifted)) < 4 * error
    assert abs(average_slope(np.maximum(shifted, 0))) > 10 * error


def test_counts_and_means_broadcast():
    counts, mean = np.arange(4.0), np.array([[0.5], [3.0]])
    together = deviance(counts, mean)
    assert together.shape == (2, 4)
    assert_array_equal(together, [[deviance(k, m) for k in counts] for m in mean[:, 0]])


@pytest.mark.parametrize('counts', COUNTS)
def test_terms_above_the_floor_are_those_of_the_poisson_likelihood(counts):
    mean = np.array([[FLOOR, 0.3, 1.0, 30.0, 1e5]])
    value, slope, expected, observed = continued_terms(np.full_like(mean, counts), mean,
                                                       np.array([[FLOOR]]))
    assert_allclose(value, 0.5 * deviance(counts, mean), rtol=1e-14)
    assert_allclose(slope, 1 - counts / mean, rtol=1e-13, atol=1e-13)
    assert_allclose(expected, 1 / mean, rtol=1e-15)
    assert_allclose(observed, counts / mean ** 2, rtol=1e-13, atol=1e-13 / mean.min())


@pytest.mark.parametrize('counts', COUNTS)
def test_the_parabola_below_the_floor_is_continuous_in_value_and_slope(counts):
    at_value, at_slope, *_ = half_deviance(counts, FLOOR)
    for gap in (1e-3, 1e-6, 1e-9):
        value, slope, *_ = half_deviance(counts, FLOOR * (1 - gap))
        # Its bend, and that of the likelihood, are (floor + counts) / floor^2.
        bend = (FLOOR + abs(counts)) / FLOOR ** 2
        assert abs(slope - at_slope) <= 1.01 * bend * FLOOR * gap + 1e-14 * abs(at_slope)
        assert_allclose(value, at_value - at_slope * FLOOR * gap, rtol=1e-14,
                        atol=bend * (FLOOR * gap) ** 2)


@pytest.mark.parametrize('counts', COUNTS)
@pytest.mark.parametrize('mean', [0.2, 0.0, -1.0, -300.0])
def test_the_slope_below_the_floor_is_the_derivative_of_the_value(counts, mean):
    _, slope, expected, observed = half_deviance(counts, mean)
    step = 1e-3                               # a parabola: differences are exact
    up, down = (half_deviance(counts, mean + s)[0] for s in (step, -step))
    scale = (FLOOR + abs(counts)) / FLOOR ** 2 * (abs(mean) + 1) ** 2
    assert_allclose((up - down) / (2 * step), slope, rtol=1e-8, atol=1e-11 * scale)
    up, down = (half_deviance(counts, mean + s)[1] for s in (step, -step))
    assert_allclose((up - down) / (2 * step), observed, rtol=1e-8)
    assert_array_equal(expected, observed)


@pytest.mark.parametrize('counts', [k for k in COUNTS if k >= 0])
def test_means_below_zero_are_led_back(counts):
    mean = np.array([[-1e-12, -0.1, -5.0, -1e4]])
    value, slope, expected, _ = continued_terms(np.full_like(mean, counts), mean,
                                                np.array([[FLOOR]]))
    assert (slope < 0).all()
    assert (np.diff(value[0]) > 0).all()
    assert (expected >= 1 / FLOOR).all()


@pytest.mark.parametrize('counts', COUNTS)
def test_the_parabola_is_no_flatter_than_the_likelihood_at_the_floor(counts):
    # A step from below would go too far otherwise.
    at_slope, below = half_deviance(counts, FLOOR)[1], half_deviance(counts, 0.5 * FLOOR)[1]
    assert (at_slope - below) / (0.5 * FLOOR) > max(counts, 0) / FLOOR ** 2


def test_a_mean_that_is_not_a_number_stays_one():
    value, slope, *_ = half_deviance(3.0, np.nan)
    assert np.isnan(value).all()
    assert np.isnan(slope).all()


def test_a_mean_below_zero_is_impossible_but_for_a_ripple():
    counts = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    mean = np.array([-1e-5, -1e-7, 0.0, -1e-7, 0.0, 1e-9])
    assert is_impossible(counts, mean).tolist() == [True, False, False, True, True, False]
