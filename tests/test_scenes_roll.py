# Licensed under a 3-clause BSD style license - see LICENSE
"""What a star owes to its place is divided out, and what it does itself is kept."""

import numpy as np
import pytest

from kpsf.scenes.noise import scatter
from kpsf.scenes.roll import LARGE_MOTION, remove_roll

N = 1200
DAYS = np.arange(N) / 48.0
PHASE = 2.0 * (DAYS / 0.25 % 1.0) - 1.0
# Arcs whose middle wanders, as those of K2 do.
SHIFT = np.column_stack([0.5 * PHASE + 0.1 * np.sin(DAYS / 5.0),
                         0.25 * PHASE + 0.05 * np.cos(DAYS / 7.0)])
ANSWER = 1.0 + 0.01 * SHIFT[:, 0] - 0.02 * SHIFT[:, 0]**2 + 0.03 * SHIFT[:, 0] * SHIFT[:, 1]


def noise(seed=0):
    return np.random.default_rng(seed).normal(0.0, 2e-4, N)


@pytest.mark.parametrize('seed', range(4))
def test_what_the_place_does_is_divided_out(seed):
    flux, order = remove_roll(5000.0 * ANSWER * (1.0 + noise(seed)), SHIFT, DAYS)
    assert 2 <= order <= 3
    assert scatter(flux) / np.median(flux) < 2.2e-4
    # What the place does slowly may be the star: it stays.
    assert np.std(flux / np.median(flux)) < 4e-4 < 2e-3 < np.std(ANSWER)


@pytest.mark.parametrize('period', [1.0, 3.0, 10.0])
def test_what_the_star_does_within_a_day_or_more_is_kept(period):
    wave, quiet = np.sin(2.0 * np.pi * DAYS / period), 5000.0 * ANSWER * (1.0 + noise())
    with_wave, without = (remove_roll(quiet * (1.0 + amplitude * wave), SHIFT, DAYS)[0]
                          for amplitude in (0.02, 0.0))
    assert np.sum((with_wave / without - 1.0) * wave) / np.sum(wave**2) == pytest.approx(
        0.02, rel=0.02)


def test_a_short_eclipse_is_kept():
    star = np.ones(N)
    star[600:606] = 0.5
    flux, _ = remove_roll(5000.0 * ANSWER * star * (1.0 + noise()), SHIFT, DAYS)
    assert np.mean(flux[600:606]) / np.median(flux) == pytest.approx(0.5, rel=0.01)


def test_stars_that_move_less_are_let_alone():
    small = SHIFT * (0.8 * LARGE_MOTION / np.ptp(SHIFT))
    flux = 5000.0 * ANSWER
    same, order = remove_roll(flux, small, DAYS)
    assert order == 0
    np.testing.assert_array_equal(same, flux)


def test_without_an_effect_there_is_no_polynomial():
    for seed in range(5):
        flux = 5000.0 * (1.0 + noise(seed))
        same, order = remove_roll(flux, SHIFT, DAYS)
        assert order == 0
        np.testing.assert_allclose(same, flux, rtol=1e-12)


def test_what_is_not_known_stays_so():
    flux = 5000.0 * ANSWER
    flux[100:110] = np.nan
    found, order = remove_roll(flux, SHIFT, DAYS)
    assert order > 0
    np.testing.assert_array_equal(np.isnan(found), np.isnan(flux))
