# Licensed under a 3-clause BSD style license - see LICENSE
"""The noise model: units, the robust fit, and what happens when no fit is possible."""

import numpy as np
import pytest
from astropy.utils.exceptions import AstropyUserWarning

from kpsf import NoiseModel

EXPOSURE = 1625.35


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def rates_with_errors(rng, slope=1.25, read_variance=2.0, scatter=0.02, size=(200, 30)):
    """Return rates over two decades and uncertainties that follow the model up to a scatter."""
    rate = 10 ** rng.uniform(2.2, 4.5, size)
    variance = slope * rate / EXPOSURE + read_variance
    return rate, np.sqrt(variance * (1 + scatter * rng.standard_normal(size)))


def test_units_follow_from_exposure_slope_and_read_variance():
    noise = NoiseModel(1000.0, 1.25, 2.0)
    assert noise.effective_exposure == pytest.approx(800.0)
    assert noise.read_variance == pytest.approx(2.0 * 800.0**2)
    assert noise.to_electrons(3.0) == pytest.approx(2400.0)


def test_rates_survive_the_way_to_electrons_and_back(rng):
    rate = rng.uniform(-5, 1e5, (3, 4)).astype(np.float32)
    noise = NoiseModel(1000.0, 1.25)
    electrons = noise.to_electrons(rate)
    assert electrons.dtype == np.float64
    assert noise.to_rate(electrons) == pytest.approx(rate, rel=1e-12)


def test_the_variance_of_effective_electrons_is_their_mean_plus_the_read_variance(rng):
    # Rates as a pipeline makes them: counted electrons, read noise, then a flat field.
    flat, mean, read_noise, n = 1.3, 5000.0, 60.0, 400_000
    counted = rng.poisson(mean, n) + rng.normal(0, read_noise, n)
    rate = flat * counted / EXPOSURE
    noise = NoiseModel(EXPOSURE, flat, (flat * read_noise / EXPOSURE) ** 2)
    electrons = noise.to_electrons(rate)
    expected = electrons.mean() + noise.read_variance
    assert electrons.var() == pytest.approx(expected, rel=5 * np.sqrt(2 / n))


@pytest.mark.parametrize(('name', 'value'), [
    ('exposure', 0.0), ('exposure', -1.0), ('exposure', np.nan), ('exposure', np.inf),
    ('variance_slope', 0.0), ('variance_slope', np.nan),
    ('read_variance_rate', -1e-3), ('read_variance_rate', np.nan),
])
def test_values_without_meaning_are_refused(name, value):
    values = {'exposure': 1.0, 'variance_slope': 1.0, 'read_variance_rate': 0.0, name: value}
    with pytest.raises(ValueError, match=f'finite number .* as {name}, but found'):
        NoiseModel(**values)


def test_the_model_is_immutable():
    with pytest.raises(AttributeError):
        NoiseModel(1.0).exposure = 2.0


def test_the_fit_recovers_slope_and_read_variance(rng):
    noise = NoiseModel.fit(*rates_with_errors(rng), EXPOSURE)
    assert noise.exposure == EXPOSURE
    assert noise.variance_slope == pytest.approx(1.25, rel=0.005)
    assert noise.read_variance_rate == pytest.approx(2.0, rel=0.005)


def test_the_fit_is_exact_on_exact_uncertainties(rng):
    noise = NoiseModel.fit(*rates_with_errors(rng, scatter=0.0), EXPOSURE)
    assert noise.variance_slope == pytest.approx(1.25, rel=1e-9)
    assert noise.read_variance_rate == pytest.approx(2.0, rel=1e-9)


def test_the_fit_ignores_pixels_without_uncertainty_and_outliers(rng):
    rate, rate_err = rates_with_errors(rng)
    rate[0], rate_err[1], rate_err[2], rate_err[3] = np.nan, np.nan, 0.0, -1.0
    rate_err[4] *= 30
    rate[5], rate_err[6] = np.inf, np.inf
    noise = NoiseModel.fit(rate, rate_err, EXPOSURE)
    assert noise.variance_slope == pytest.approx(1.25, rel=0.005)
    assert noise.read_variance_rate == pytest.approx(2.0, rel=0.005)


def test_few_bright_pixels_do_not_decide_the_read_variance(rng):
    rate, rate_err = rates_with_errors(rng)
    rate[:3] *= 30
    rate_err[:3] = np.sqrt(1.6 * rate[:3] / EXPOSURE)
    noise = NoiseModel.fit(rate, rate_err, EXPOSURE)
    assert noise.read_variance_rate == pytest.approx(2.0, rel=0.01)


def test_a_long_series_gives_what_a_short_one_gives(rng):
    noise = NoiseModel.fit(*rates_with_errors(rng, size=(20_000, 30)), EXPOSURE)
    assert noise.variance_slope == pytest.approx(1.25, rel=0.002)


@pytest.mark.parametrize('rate_err', [np.nan, 0.0, np.inf])
def test_without_uncertainties_the_noise_is_poisson_and_a_warning_says_so(rng, rate_err):
    rate, _ = rates_with_errors(rng)
    with pytest.warns(AstropyUserWarning, match='found 0 usable pixels.*nominal read noise'):
        noise = NoiseModel.fit(rate, np.full_like(rate, rate_err), EXPOSURE,
                               fallback_read_variance_rate=0.7)
    assert noise == NoiseModel(EXPOSURE, 1.0, 0.7)


def test_equal_rates_allow_no_fit():
    with pytest.warns(AstropyUserWarning, match='1 distinct rates'):
        noise = NoiseModel.fit(np.full(9, 100.0), np.full(9, 2.0), EXPOSURE)
    assert noise == NoiseModel(EXPOSURE)


def test_uncertainties_that_fall_with_the_rate_keep_their_level(rng):
    rate, _ = rates_with_errors(rng)
    rate_err = np.sqrt(30.0 - rate / 2000.0)
    with pytest.warns(AstropyUserWarning, match='found a slope of -'):
        noise = NoiseModel.fit(rate, rate_err, EXPOSURE)
    assert noise.variance_slope == 1.0
    assert noise.read_variance_rate == pytest.approx(30.0, rel=0.2)


def test_a_negative_read_variance_becomes_zero_with_a_warning(rng):
    rate, rate_err = rates_with_errors(rng, read_variance=-0.1)
    with pytest.warns(AstropyUserWarning, match='found a read variance of -0.1'):
        noise = NoiseModel.fit(rate, rate_err, EXPOSURE)
    assert noise.read_variance_rate == 0.0
    assert 0.7 < noise.variance_slope < 1.25


def test_pure_poisson_uncertainties_need_no_warning(rng):
    rate, rate_err = rates_with_errors(rng, slope=1.0, read_variance=0.0, scatter=0.0)
    noise = NoiseModel.fit(rate, rate_err, EXPOSURE)
    assert noise.variance_slope == pytest.approx(1.0, rel=1e-6)
    assert noise.read_variance_rate == pytest.approx(0.0, abs=1e-6)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r'one shape, but found \(3,\) and \(4,\)'):
        NoiseModel.fit(np.ones(3), np.ones(4), EXPOSURE)


def test_the_exposure_of_a_fit_is_checked(rng):
    with pytest.raises(ValueError, match='as exposure, but found 0'):
        NoiseModel.fit(*rates_with_errors(rng), 0.0)
