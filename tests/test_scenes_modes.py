# Licensed under a 3-clause BSD style license - see LICENSE
"""Modes of change: as many as there are, none in noise, and no star's own variation."""

import numpy as np
import pytest

from kpsf.scenes.modes import MAX_MODES, learn_changes

N_CADENCES, N_PIXELS = 400, 60
TIME = np.arange(N_CADENCES)
NO_BREAKS = np.zeros(N_CADENCES, dtype=bool)


def noise(seed, n=N_CADENCES, p=N_PIXELS):
    return np.random.default_rng(seed).normal(size=(n, p))


def known_modes(n_modes, amplitude, seed=11):
    """Return orthonormal images (j, p), slow series (n, j) of a few standard deviations."""
    images = np.linalg.qr(noise(seed, N_PIXELS, n_modes))[0].T
    periods = 150.0 / (1.0 + np.arange(n_modes))
    strength = amplitude * 0.9**np.arange(n_modes)
    return images, strength * np.sqrt(2.0) * np.sin(2.0 * np.pi * TIME[:, np.newaxis] / periods)


@pytest.mark.parametrize('seed', range(8))
def test_noise_alone_has_no_modes(seed):
    modes, series = learn_changes(noise(seed), NO_BREAKS)
    assert modes.shape == (0, N_PIXELS)
    assert series.shape == (N_CADENCES, 0)
    assert (series @ modes == 0.0).all()


@pytest.mark.parametrize('n_modes', [1, 2, 4])
def test_known_modes_are_counted_and_found(n_modes):
    for seed in range(3):
        images, series = known_modes(n_modes, 8.0, seed)
        modes, found = learn_changes(noise(seed) + series @ images, NO_BREAKS)
        assert len(modes) == n_modes
        # The same space: what of the true images the modes do not have.
        missing = images - (images @ modes.T) @ modes
        assert np.sqrt((missing**2).sum(axis=1)).max() < 0.12
        np.testing.assert_allclose(modes @ modes.T, np.eye(n_modes), atol=1e-10)


def test_changes_are_known_better_than_the_noise():
    images, series = known_modes(2, 8.0)
    rests = []
    for seed in range(4):
        modes, found = learn_changes(noise(seed) + series @ images, NO_BREAKS)
        rests.append(found @ modes - series @ images)
    # Two coefficients of unit noise per cadence would leave 2; smoothing takes most of that.
    assert (np.array(rests)**2).sum(axis=2).mean() < 1.0


def test_a_mode_that_is_too_weak_to_predict_anything_is_left_out():
    images, series = known_modes(1, 0.5)
    assert len(learn_changes(noise(1) + series @ images, NO_BREAKS)[0]) == 0


@pytest.mark.parametrize('n_modes', [0, 1, 3])
def test_a_number_that_is_asked_for_is_taken(n_modes):
    images, series = known_modes(2, 8.0)
    modes, found = learn_changes(noise(1) + series @ images, NO_BREAKS, n_modes)
    assert modes.shape == (n_modes, N_PIXELS)
    assert found.shape == (N_CADENCES, n_modes)


def test_there_are_no_more_modes_than_a_few_and_than_one_in_six_pixels():
    images, series = known_modes(MAX_MODES + 4, 30.0)
    changes = series @ images
    assert len(learn_changes(noise(1) + changes, NO_BREAKS)[0]) == N_PIXELS // 6
    twice = np.concatenate([changes, changes], axis=1)
    modes, _ = learn_changes(noise(1, p=2 * N_PIXELS) + twice, NO_BREAKS)
    assert len(modes) == MAX_MODES


@pytest.mark.parametrize(('n', 'p'), [(15, 60), (400, 1), (1, 60), (5, 1)])
def test_few_cadences_or_pixels_have_no_modes(n, p):
    modes, series = learn_changes(20.0 * noise(1, n, p), np.zeros(n, dtype=bool))
    assert modes.shape == (0, p)
    assert series.shape == (n, 0)


def test_more_modes_than_pixels_are_not_given():
    modes, series = learn_changes(noise(1, 30, 4), np.zeros(30, dtype=bool), 6)
    assert modes.shape == (3, 4)
    assert np.isfinite(series).all()


def test_pixels_of_which_nothing_is_known_do_not_count():
    images, series = known_modes(1, 8.0)
    residual = noise(2) + series @ images
    hidden = np.random.default_rng(3).uniform(size=residual.shape) < 0.1
    residual[hidden] = np.nan
    modes, _ = learn_changes(residual, NO_BREAKS)
    assert len(modes) == 1
    assert abs(modes[0] @ images[0]) > 0.98


def test_a_pixel_that_is_not_known_is_not_one_without_a_change():
    images, series = known_modes(1, 8.0)
    residual = series @ images + noise(2) / 10
    row, brightest = 100, np.argmax(np.abs(images[0]))
    _, whole = learn_changes(residual, NO_BREAKS, 1)
    residual[row, brightest] = np.nan
    _, found = learn_changes(residual, NO_BREAKS, 1)
    assert abs(whole[row, 0]) > 1.0
    np.testing.assert_allclose(np.abs(found[row]), np.abs(whole[row]), atol=0.3)


def test_nothing_at_all_has_no_modes():
    modes, series = learn_changes(np.zeros((N_CADENCES, N_PIXELS)), NO_BREAKS)
    assert np.isfinite(series).all()
    assert (series @ modes == 0.0).all()


def test_series_jump_where_they_are_told_to():
    images, _ = known_modes(1, 8.0)
    saw = 20.0 * (TIME % 12 / 6.0 - 1.0)
    breaks = (TIME % 12 == 0) & (TIME > 0)
    residual = noise(3) + saw[:, np.newaxis] * images
    rest = {}
    for name, chosen in (('told', breaks), ('not told', NO_BREAKS)):
        modes, series = learn_changes(residual, chosen, 1)
        off = series @ modes - saw[:, np.newaxis] * images
        rest[name] = np.sqrt((off**2).sum(axis=1).mean())
    assert rest['told'] < 0.7
    assert rest['told'] < 0.8 * rest['not told']


def test_cadences_that_are_predicted_were_not_learned_from():
    # With fewer cadences than pixels, modes of the same cadences would predict their own noise.
    counts = [len(learn_changes(noise(seed, 40, 200), np.zeros(40, dtype=bool))[0])
              for seed in range(8)]
    assert counts == [0] * 8
