# Licensed under a 3-clause BSD style license - see LICENSE
"""Cosmic rays are found and nothing else is; scatter that errors do not explain is measured."""

import numpy as np
import pytest

from kpsf.scenes.noise import excess_noise, find_cosmic_rays, pixel_excess, scatter

N_CADENCES, N_PIXELS = 500, 60
ONES = np.ones((N_CADENCES, N_PIXELS))
ALL = ONES > 0


def noise(seed=1, sigma=1.0):
    return np.random.default_rng(seed).normal(0.0, sigma, (N_CADENCES, N_PIXELS))


def hits(seed, share=5e-4):
    """Return where cosmic rays are (n, p), away from each other in time."""
    rng = np.random.default_rng(seed)
    where = np.zeros(ALL.shape, dtype=bool)
    rows = rng.choice(np.arange(2, N_CADENCES - 2, 3), int(share * where.size), replace=False)
    where[rows, rng.integers(N_PIXELS, size=rows.size)] = True
    return where


@pytest.mark.parametrize(('height', 'rate'), [(8.0, 0.6), (10.0, 0.95), (30.0, 1.0)])
def test_cosmic_rays_are_found_where_they_are_and_nowhere_else(height, rate):
    n_hits = n_found = 0
    for seed in range(6):
        where = hits(seed)
        found = find_cosmic_rays(noise(seed) + height * where, ONES, ALL)
        assert not (found & ~where).any()
        n_hits, n_found = n_hits + where.sum(), n_found + (found & where).sum()
    assert n_hits == 90
    assert n_found >= rate * n_hits


def test_noise_alone_has_none():
    # 1.2 million values, of which six standard deviations leave none.
    assert sum(find_cosmic_rays(noise(seed), ONES, ALL).sum() for seed in range(40)) == 0


def test_heights_count_in_units_of_the_noise():
    where = hits(1)
    sigma = np.geomspace(1.0, 50.0, N_PIXELS) * ONES
    found = find_cosmic_rays((noise() + 12.0 * where) * sigma, sigma, ALL)
    np.testing.assert_array_equal(found, where)
    assert not find_cosmic_rays((noise() + 12.0 * where) * sigma, 3.0 * sigma, ALL).any()


def test_pixels_that_scatter_by_more_than_their_noise_are_judged_by_their_scatter():
    assert not find_cosmic_rays(noise(sigma=8.0), ONES, ALL).any()
    where = hits(1)
    found = find_cosmic_rays(noise(sigma=8.0) + 120.0 * where, ONES, ALL)
    np.testing.assert_array_equal(found, where)


def test_what_a_model_lacks_all_the_time_is_no_cosmic_ray():
    slow = 30.0 * np.sin(np.arange(N_CADENCES) / 30.0)[:, np.newaxis] + np.arange(N_PIXELS)
    where = hits(1)
    found = find_cosmic_rays(noise() + slow + 15.0 * where, ONES, ALL)
    np.testing.assert_array_equal(found, where)


def test_images_that_move_are_not_taken_for_cosmic_rays():
    values = noise()
    # An image that jumps aside: some pixels too high, others too low; or all too high.
    values[100, 10:13] += 40.0
    values[100, 20:23] -= 40.0
    values[200, :8] += 40.0
    assert not find_cosmic_rays(values, ONES, ALL).any()
    # A track of a few pixels is a cosmic ray's.
    values[300, 30:34] += 40.0
    found = find_cosmic_rays(values, ONES, ALL)
    assert np.argwhere(found).tolist() == [[300, j] for j in range(30, 34)]


def test_a_roll_that_is_reset_is_not_taken_for_cosmic_rays():
    # As K2's: a slow roll over a star's slopes, and a jump back, now and then of another size.
    roll = np.arange(N_CADENCES) / 40
    roll = np.concatenate([part - part.mean() for part in np.split(roll, [90, 200, 247, 380])])
    places = np.linspace(-4.0, 4.0, 9)
    star = np.zeros_like(ONES)
    star[:, :9] = 3e3 * np.exp(-0.5 * (places - roll[:, np.newaxis])**2)
    assert not find_cosmic_rays(star, ONES, ALL).any()
    assert not find_cosmic_rays(star + noise(), ONES, ALL).any()
    star[306, [4, 50]] += 1000.0
    found = find_cosmic_rays(star + noise(), ONES, ALL)
    assert np.argwhere(found).tolist() == [[306, 4], [306, 50]]


def test_what_a_cosmic_ray_pulls_down_does_not_hide_it():
    values = noise()
    # A fit of its star is half way between.
    values[100, 10], values[100, 11:13] = 60.0, -25.0
    found = find_cosmic_rays(values, ONES, ALL)
    assert np.argwhere(found).tolist() == [[100, 10]]


def test_what_recurs_is_the_model():
    # An image that thrusters take back every twelve cadences, farthest off in the one before.
    values = noise()
    values[11::12, 5] += 40.0
    assert not find_cosmic_rays(values, ONES, ALL).any()
    values[300, 6] += 40.0
    assert np.argwhere(find_cosmic_rays(values, ONES, ALL)).tolist() == [[300, 6]]


def test_what_lasts_for_two_cadences_is_none():
    values = noise()
    values[100, 5], values[101, 5] = 40.0, 30.0
    values[200, 5], values[201, 5] = 30.0, 40.0
    values[300, 5], values[301, 5] = 40.0, 8.0
    found = find_cosmic_rays(values, ONES, ALL)
    assert np.argwhere(found).tolist() == [[300, 5]]


@pytest.mark.parametrize(('row', 'expected'), [
    (1, [[1, 5]]), (N_CADENCES - 2, [[N_CADENCES - 2, 5]]), (0, []), (N_CADENCES - 1, [])])
def test_next_to_the_ends_they_are_found_but_at_the_ends_a_trend_would_be_one(row, expected):
    values = noise()
    values[row, 5] += 40.0
    assert np.argwhere(find_cosmic_rays(values, ONES, ALL)).tolist() == expected
    trend = 30.0 * np.arange(N_CADENCES)[:, np.newaxis]
    assert not find_cosmic_rays(noise() + trend, ONES, ALL).any()


def test_negative_spikes_are_none():
    values = noise()
    values[100, 5] -= 40.0
    assert not find_cosmic_rays(values, ONES, ALL).any()


def test_pixels_that_are_not_used_are_not_looked_at():
    values, used = noise(), ALL.copy()
    values[100, 5], used[100, 5] = np.nan, False
    values[200, 5], used[200, 5] = 1e9, False
    assert not find_cosmic_rays(values, ONES, used).any()


@pytest.mark.parametrize(('n', 'expected'), [(1, []), (9, []), (10, [[3, 5]]), (14, [[3, 5]])])
def test_a_handful_of_cadences_tells_no_cosmic_ray(n, expected):
    values = noise()[:n]
    values[min(3, n - 1), 5] += 100.0
    assert np.argwhere(find_cosmic_rays(values, ONES[:n], ALL[:n])).tolist() == expected


@pytest.mark.parametrize('excess', [1.0, 4.0, 25.0])
def test_the_excess_of_pixels_is_measured(excess):
    variance = np.geomspace(1.0, 100.0, N_PIXELS) * ONES
    values = noise(2) * np.sqrt(excess * variance)
    found = pixel_excess(values, variance, ALL)
    assert found.shape == (N_PIXELS,)
    # A median deviation of 500 is known to four per cent, its square to eight.
    assert np.median(found) == pytest.approx(excess, rel=0.08)
    assert (found >= 1.0).all()
    assert found.max() < 1.4 * excess


def test_what_is_constant_is_no_excess_and_neither_are_a_few_spikes():
    values = noise() + 50.0 * np.arange(N_PIXELS)
    values[::50] += 1e3
    assert pixel_excess(values, ONES, ALL).max() < 1.5


def test_the_excess_of_few_cadences_is_unknown():
    np.testing.assert_array_equal(pixel_excess(9.0 * noise()[:19], ONES[:19], ALL[:19]),
                                  np.ones(N_PIXELS))
    assert pixel_excess(9.0 * noise()[:20], ONES[:20], ALL[:20]).min() > 2.0


def test_the_excess_counts_used_pixels_alone():
    values, used = noise(), ALL.copy()
    used[::3], values[::3] = False, 1e6
    assert pixel_excess(values, ONES, used).max() < 1.5


def test_the_scatter_is_that_from_one_value_to_the_next():
    rng = np.random.default_rng(4)
    values = rng.normal(0.0, 3.0, 4000)
    trend = 20.0 * np.sin(np.arange(4000) / 300.0) + 1e6
    assert scatter(values + trend) == pytest.approx(3.0, rel=0.06)
    values[::100] += 500.0
    values[7] = np.nan
    assert scatter(values + trend) == pytest.approx(3.0, rel=0.08)
    assert np.isnan(scatter(np.array([1.0, np.nan, 2.0])))
    assert scatter(np.full(9, 2.0)) == 0.0


def test_scatter_beyond_the_errors_is_told_relative_to_the_flux():
    rng = np.random.default_rng(5)
    n, flux, error = 4000, 2e5, 12.0
    photons = flux + rng.normal(0.0, error, n)
    assert excess_noise(photons, np.full(n, error)) < 0.3 * error / flux
    assert excess_noise(photons, np.full(n, 2 * error)) == 0.0
    jitter = photons * (1.0 + rng.normal(0.0, 1e-4, n))
    assert excess_noise(jitter, np.full(n, error)) == pytest.approx(1e-4, rel=0.05)


@pytest.mark.parametrize('flux', [np.full(9, np.nan), -np.arange(9.0), np.array([1.0, 5.0])])
def test_without_a_flux_there_is_no_excess(flux):
    assert excess_noise(flux, np.full(flux.size, 0.1)) == 0.0
