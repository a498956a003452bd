# Licensed under a 3-clause BSD style license - see LICENSE
"""The linear part of the starting values; others are tested where they are used."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kpsf.stamps.start import _solve_linear

N, N_PIXELS = 200, 60


def stamps(factor, level=5.0, seed=3):
    """Return a PSF, data and weights of simulated stamps, the data 0 where they are not used."""
    rng = np.random.default_rng(seed)
    place = np.arange(N_PIXELS) - 30 + rng.uniform(-3, 3, (N, 1))
    psf = np.exp(-0.5 * (place / 4) ** 2)
    used = (rng.uniform(size=psf.shape) > 0.2).astype(float)
    data = rng.poisson(factor * psf + level) * used
    return psf * used, data, used


def by_numpy(psf, data, used, with_level):
    """Return factor, its error for pixels of variance 1, and level of each stamp, (3, n)."""
    found = []
    for star, values, use in zip(psf, data, used > 0, strict=True):
        design = np.column_stack([star, np.ones(N_PIXELS)])[use, :1 + with_level]
        solution = np.linalg.lstsq(design, values[use])[0]
        error = np.sqrt(np.linalg.inv(design.T @ design)[0, 0])
        found.append([solution[0], error, solution[1] if with_level else 0.0])
    return np.array(found).T


def solve(psf, data, used, with_factor=True, with_level=True):
    return _solve_linear(psf, data, used.sum(axis=1), data, with_factor, with_level)


@pytest.mark.parametrize('with_level', [True, False])
def test_factor_and_level_are_those_of_least_squares(with_level):
    psf, data, used = stamps(300.0)
    expected = by_numpy(psf, data, used, with_level)
    factor, level = solve(psf, data, used, with_level=with_level)
    assert_allclose(factor, expected[0], rtol=1e-10)
    assert_allclose(level, expected[2], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize('with_level', [True, False])
def test_a_star_that_the_data_do_not_show_has_the_flux_of_one_standard_error(with_level):
    psf, data, used = stamps(0.0)
    if not with_level:
        data = data - 5.0 * used
    counts = data if with_level else data + 5.0 * used
    expected, error, _ = by_numpy(psf, data, used, with_level)
    error *= np.sqrt(counts.sum(axis=1) / used.sum(axis=1))
    factor, level = _solve_linear(psf, data, used.sum(axis=1), counts, True, with_level)
    assert 0.1 < (expected < error).mean() < 0.95
    assert_allclose(factor, np.maximum(expected, error), rtol=1e-10)
    if with_level:
        # The light that the star is given is not the level's as well.
        total = factor * psf.sum(axis=1) + level * used.sum(axis=1)
        assert_allclose(total, data.sum(axis=1), rtol=1e-10)


def test_beside_a_given_star_the_level_is_the_mean_of_what_is_left():
    psf, data, used = stamps(300.0)
    factor, level = solve(300 * psf, data, used, with_factor=False)
    assert_array_equal(factor, 1.0)
    assert_allclose(level, (data - 300 * psf).sum(axis=1) / used.sum(axis=1), rtol=1e-12)


@pytest.mark.parametrize('value', [0.0, np.nan])
def test_a_star_that_is_not_on_the_pixels_has_the_factor_one(value):
    psf, data, used = stamps(300.0)
    psf[::2] = value * used[::2]
    factor, level = solve(psf, data, used)
    assert_array_equal(factor[::2], 1.0)
    assert np.isfinite(level).all()
    assert_allclose(factor[1::2], by_numpy(psf[1::2], data[1::2], used[1::2], True)[0],
                    rtol=1e-10)
