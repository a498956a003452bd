# Licensed under a 3-clause BSD style license - see LICENSE
"""Motion over a series: noise goes, motion of every kind stays."""

import numpy as np
import pytest

from kpsf.scenes.motion import find_breaks, smooth

N = 400
NOISE = 0.01
TIME = np.arange(N)


def noise(seed=1, size=N):
    return np.random.default_rng(seed).normal(0.0, NOISE, size)


def rms(values):
    return np.sqrt(np.mean(values**2))


def sawtooth(period=12):
    """Return a roll of K2 (n,) that thrusters undo, and where."""
    breaks = TIME % period == 0
    breaks[0] = False
    return 2.0 * (TIME % period) / period - 1.0, breaks


# The longest period asks for four free parameters per cycle or so of the 400 that data have.
@pytest.mark.parametrize(('period', 'amplitude', 'share'), [
    (400, 1.0, 0.2), (400, 10.0, 0.25), (100, 1.0, 0.3), (100, 10.0, 0.35), (50, 10.0, 0.45),
    (24, 10.0, 0.6)])
def test_a_sine_is_recovered_better_than_data_have_it(period, amplitude, share):
    truth = amplitude * NOISE * np.sin(2.0 * np.pi * TIME / period)
    ratios = [rms(smooth(truth + noise(seed), NOISE**2) - truth) / rms(noise(seed))
              for seed in range(12)]
    assert np.mean(ratios) < share
    assert max(ratios) < 1.5 * share


def test_nothing_but_noise_becomes_nearly_nothing():
    assert np.mean([rms(smooth(noise(seed), NOISE**2)) for seed in range(12)]) < 0.2 * NOISE


@pytest.mark.parametrize('variance', [0.0, 1e-20, 1e-12])
def test_a_series_without_noise_stays_as_it_is(variance):
    rng = np.random.default_rng(2)
    for truth in (np.sin(TIME / 8.0) + 3.0, sawtooth()[0], rng.normal(size=N)):
        np.testing.assert_allclose(smooth(truth, variance), truth, rtol=0,
                                   atol=np.sqrt(variance) + 1e-12)


@pytest.mark.parametrize('offset', [0.0, -700.0])
def test_where_the_series_lies_does_not_matter(offset):
    series = 0.05 * np.sin(TIME / 20.0) + noise()
    np.testing.assert_allclose(smooth(series + offset, NOISE**2) - offset,
                               smooth(series, NOISE**2), atol=1e-5 * NOISE)


def test_jumps_are_not_smoothed_over():
    truth, breaks = sawtooth()
    ratios = {name: np.mean([rms(smooth(truth + noise(seed), NOISE**2, chosen) - truth)
                             for seed in range(6)]) / NOISE
              for name, chosen in (('told', breaks), ('not told', None))}
    # A line per segment of twelve: the noise of two of twelve numbers, 0.41.
    assert ratios['told'] < 0.5
    assert ratios['not told'] > 0.8
    # No jump is worse than the rest.
    rest = np.array([smooth(truth + noise(seed), NOISE**2, breaks) - truth for seed in range(40)])
    assert np.sqrt((rest**2).mean(axis=0)).max() < NOISE


def test_segments_know_nothing_of_each_other():
    truth, breaks = sawtooth(40)
    series = truth + noise()
    elsewhere = series.copy()
    elsewhere[200:240] += 0.3
    first, second = (smooth(values, NOISE**2, breaks) for values in (series, elsewhere))
    outside = (TIME < 200) | (TIME >= 240)
    np.testing.assert_allclose(second[outside], first[outside], atol=0.1 * NOISE)
    np.testing.assert_allclose(second[~outside], first[~outside] + 0.3, atol=0.1 * NOISE)


def test_single_excursions_are_kept():
    truth = 0.05 * np.sin(TIME / 30.0)
    truth[100] += 30 * NOISE
    truth[250] -= 12 * NOISE
    found = smooth(truth + noise(), NOISE**2)
    rest = found - truth
    assert np.abs(rest[[100, 250]]).max() < 4 * NOISE
    # Their neighbours are smooth as ever.
    assert rms(np.delete(rest, [100, 250])) < 0.4 * NOISE


def test_jitter_is_motion():
    rng = np.random.default_rng(3)
    jitter = rng.normal(0.0, 5 * NOISE, N)
    found = smooth(jitter + noise(), NOISE**2)
    assert rms(found - jitter) < 1.1 * NOISE
    # With a noise as large, nothing of it is worth having.
    assert rms(smooth(noise(4), NOISE**2)) < 0.3 * NOISE


def test_places_of_infinite_or_unknown_variance_tell_nothing():
    truth = 0.1 * np.sin(TIME / 40.0)
    variance = np.full(N, NOISE**2)
    variance[60:70], variance[70:75] = np.inf, np.nan
    series = truth + noise()
    spoilt = series.copy()
    spoilt[60:75] = np.where(np.arange(15) % 2, np.nan, 1e6)
    spoilt[200] = np.nan
    found = smooth(spoilt, variance)
    assert np.isfinite(found).all()
    assert rms(found - truth) < 0.4 * NOISE
    # Between its ends, the curve goes on.
    assert np.abs((found - truth)[60:75]).max() < 2 * NOISE
    assert abs((found - truth)[200]) < NOISE


@pytest.mark.parametrize('ratio', [3.0, 30.0, np.inf])
def test_uncertain_places_count_less(ratio):
    truth = 0.1 * np.sin(TIME / 40.0)
    sigma = np.where(TIME % 2, ratio, 1.0)
    data = [truth + noise(seed) * np.minimum(sigma, 100.0) for seed in range(6)]
    rest = [smooth(values, (sigma * NOISE)**2) - truth for values in data]
    # With half of the cadences, a curve of these turns is still 0.23 of their noise.
    assert rms(np.array(rest)) < 0.3 * NOISE


def test_a_segment_of_which_nothing_is_known_is_filled():
    breaks = np.isin(TIME, [100, 140])
    variance = np.full(N, NOISE**2)
    variance[100:140] = np.inf
    for offset in (0.0, 50.0):
        found = smooth(noise() + offset, variance, breaks)
        np.testing.assert_allclose(found, offset, atol=5 * NOISE)


def test_every_cadence_may_be_a_segment_of_its_own():
    breaks = np.ones(N, dtype=bool)
    breaks[0] = False
    np.testing.assert_allclose(smooth(noise(), NOISE**2, breaks), noise(), atol=1e-6 * NOISE)


@pytest.mark.parametrize(('series', 'expected'), [
    ([], []), ([2.0], [2.0]), ([1.0, np.nan, 4.0], [1.0, 2.5, 4.0]),
    ([np.nan] * 8, [0.0] * 8), ([3.0, 3.0, 4.0, 2.0], [3.0, 3.0, 4.0, 2.0])])
def test_few_values_stay_as_they_are(series, expected):
    np.testing.assert_array_equal(smooth(np.array(series), 1.0), expected)


@pytest.mark.parametrize('n', [5, 6, 17])
def test_a_line_is_a_line_however_short(n):
    line = 0.3 * np.arange(n) - 1.0
    np.testing.assert_allclose(smooth(line, 1e-2), line, atol=1e-6)


def test_series_begin_anew_after_gaps():
    cadenceno = np.array([5, 6, 7, 17, 18, 29, 30])
    assert np.flatnonzero(find_breaks(cadenceno)).tolist() == [5]
    assert not find_breaks(np.array([8])).any()
    assert find_breaks(np.array([], dtype=int)).shape == (0,)


def test_series_begin_anew_before_and_after_what_is_flagged():
    flagged = np.isin(np.arange(30), [0, 12, 20, 21])
    breaks = find_breaks(np.arange(30), flagged=flagged)
    assert np.flatnonzero(breaks).tolist() == [1, 12, 13, 20, 21, 22]


@pytest.mark.parametrize('amplitude', [0.1, 1.0])
def test_jumps_in_either_direction_are_found_and_noise_is_not(amplitude):
    truth, expected = sawtooth()
    still = noise(3) * 0.3
    for series in (np.column_stack([still, amplitude * truth + noise() * 0.3]),
                   amplitude * truth + noise() * 0.3):
        np.testing.assert_array_equal(find_breaks(TIME, series), expected)
    false = [find_breaks(TIME, noise(seed)).sum() for seed in range(20)]
    assert sum(false) == 0


def test_a_steady_drift_has_no_breaks():
    assert not find_breaks(TIME, 0.1 * TIME + noise()).any()
    assert not find_breaks(TIME, np.zeros((N, 2))).any()
