# Licensed under a 3-clause BSD style license - see LICENSE

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kpsf._kernels import moments
from kpsf._kernels.moments import starting_values
from kpsf.models import stddev_to_precision

SHAPE = (11, 11)
N = 400


def make_stars(width, ratio=1.15, theta=0.4, flux=1e5, shape=SHAPE, seed=2):
    """Return Gaussians sampled at random sub-pixel positions, and their parameters (6, n)."""
    rng = np.random.default_rng(seed)
    x = (shape[1] - 1) / 2 + rng.uniform(-0.5, 0.5, N)
    y = (shape[0] - 1) / 2 + rng.uniform(-0.5, 0.5, N)
    a, b, c = stddev_to_precision(width * ratio ** 0.5, width / ratio ** 0.5, theta)
    rows, columns = np.mgrid[:shape[0], :shape[1]].reshape(2, -1)
    dx, dy = columns - x[:, None], rows - y[:, None]
    stars = flux * np.sqrt(a * c - b * b) / np.pi * np.exp(
        -(a * dx * dx + 2 * b * dx * dy + c * dy * dy))
    return stars, np.array([np.full(N, flux), x, y, *(np.full(N, v) for v in (a, b, c))])


def mean_width(values):
    """Return the geometric mean of the standard deviations."""
    return (4 * (values[3] * values[5] - values[4] ** 2)) ** -0.25


@pytest.mark.parametrize(('width', 'tolerance'), [
    (0.5, 0.05), (0.63, 0.01), (0.8, 1e-3), (1.0, 1e-3), (1.5, 1e-3), (2.0, 1e-3)])
def test_starting_values_of_a_noise_free_star_are_right(width, tolerance):
    stars, truth = make_stars(width)
    values = starting_values(stars, SHAPE, measure_background=False)
    assert_allclose(values[0], truth[0], rtol=tolerance)
    assert_allclose(values[1:3], truth[1:3], atol=tolerance)
    assert_allclose(mean_width(values), width, rtol=tolerance)
    assert_allclose(values[3:6], truth[3:6], atol=2.5 * tolerance * truth[5, 0])
    assert not values[6].any()


def test_the_sampling_of_a_narrow_star_is_taken_out(monkeypatch):
    stars, _ = make_stars(0.63, ratio=1.0)
    corrected = mean_width(starting_values(stars, SHAPE, measure_background=False))
    monkeypatch.setattr(moments, '_unaliased', lambda *sums: sums)
    plain = mean_width(starting_values(stars, SHAPE, measure_background=False))
    assert np.abs(corrected / 0.63 - 1).max() < 0.01
    assert np.abs(plain / 0.63 - 1).max() > 0.03


def test_the_background_is_the_median_of_the_border():
    stars, truth = make_stars(1.1)
    values = starting_values(stars + 250.0, SHAPE)
    assert_allclose(values[6], 250.0, atol=0.1)
    assert_allclose(values[0], truth[0], rtol=0.01)
    assert_allclose(mean_width(values), 1.1, rtol=0.01)


def test_a_known_background_is_no_part_of_the_star():
    rng = np.random.default_rng(5)
    stars, truth = make_stars(1.1)
    for known in (np.array(70.0), rng.uniform(0, 300, 121), rng.uniform(0, 300, (N, 121))):
        values = starting_values(stars + known + 40.0, SHAPE, known=known)
        assert_allclose(values[6], 40.0, atol=0.1)
        assert_allclose(values[:3], truth[:3], rtol=0.01)
        alone = starting_values(stars + known, SHAPE, known=known, measure_background=False)
        assert_allclose(alone[:3], truth[:3], rtol=0.01)
        assert not alone[6].any()


def test_a_masked_pixel_of_the_wing_hardly_matters():
    stars, truth = make_stars(1.1)
    weights = np.ones_like(stars)
    weights[:, [0, 5, 20, 27, 93]] = 0.0        # two of the border, three of the wing
    broken = np.where(weights > 0, stars + 30.0, 0.0)
    values = starting_values(broken, SHAPE, weights)
    assert_allclose(values[6], 30.0, atol=0.5)
    assert_allclose(values[0], truth[0], rtol=0.02)
    assert_allclose(values[1:3], truth[1:3], atol=0.02)


def test_noise_moves_the_starting_values_by_a_few_of_its_standard_errors():
    rng = np.random.default_rng(7)
    stars, truth = make_stars(1.1)
    values = starting_values(rng.poisson(stars + 20.0).astype(float), SHAPE)
    assert_allclose(values[0], truth[0], rtol=0.05)
    assert_allclose(values[1:3], truth[1:3], atol=0.03)
    assert_allclose(mean_width(values), 1.1, rtol=0.05)


def test_a_star_next_to_the_border_of_a_wide_stamp_is_found():
    stars, truth = make_stars(0.9, shape=(6, 17))
    shifted = stars.reshape(N, 6, 17)[:, :, 6:].reshape(N, -1)
    values = starting_values(shifted, (6, 11), measure_background=False)
    assert_allclose(values[1], truth[1] - 6, atol=0.1)
    assert_allclose(values[2], truth[2], atol=0.1)
    assert_allclose(values[0], truth[0], rtol=0.1)


@pytest.mark.parametrize('shape', [(1, 1), (1, 7), (2, 2), (2, 5), (3, 3), (11, 11)])
@pytest.mark.parametrize('level', [0.0, 1.0, 5e8])
def test_blank_stamps_have_finite_starting_values(shape, level):
    counts = np.full((3, shape[0] * shape[1]), level)
    for measure_background in (True, False):
        values = starting_values(counts, shape, measure_background=measure_background)
        assert np.isfinite(values).all()
        assert (values[0] > 0).all()
        assert (values[3] * values[5] > values[4] ** 2).all()
        assert ((values[1] >= 0) & (values[1] <= shape[1] - 1)).all()
        assert ((values[2] >= 0) & (values[2] <= shape[0] - 1)).all()


def test_noise_single_pixels_and_holes_have_finite_starting_values():
    rng = np.random.default_rng(8)
    noise = rng.poisson(20.0, (2000, 121)).astype(float)
    point, hole = np.zeros((1, 121)), np.full((1, 121), 50.0)
    point[0, 60], hole[0, 60] = 1e6, 0.0
    below = rng.normal(0, 3, (500, 121))
    for counts in (noise, point, hole, below):
        values = starting_values(counts, SHAPE)
        assert np.isfinite(values).all()
        assert (values[0] < 10 * (np.abs(counts).sum(axis=1) + 1)).all()
        assert (values[[3, 5]] > 0).all()
        assert (values[3] * values[5] > values[4] ** 2).all()


def test_a_stamp_with_all_of_its_border_masked_has_finite_starting_values():
    stars, truth = make_stars(1.1)
    weights = np.zeros((N, *SHAPE))
    weights[:, 1:-1, 1:-1] = 1.0
    weights = weights.reshape(N, -1)
    values = starting_values(stars * weights, SHAPE, weights)
    assert_allclose(values[:3], truth[:3], rtol=0.05)


def test_more_stamps_than_one_block_holds_are_the_same_stamps():
    rng = np.random.default_rng(9)
    n = 2 * moments._BLOCK + 3
    counts = rng.poisson(20.0, (n, 121)).astype(float)
    known = rng.uniform(0, 5, (n, 121))
    weights = (rng.uniform(size=counts.shape) > 0.1).astype(float)
    together = starting_values(counts * weights, SHAPE, weights, known)
    # The lowest known background is that of a block, so blocks are what is compared.
    for start in (0, moments._BLOCK, 2 * moments._BLOCK):
        part = slice(start, start + moments._BLOCK)
        alone = starting_values((counts * weights)[part], SHAPE, weights[part], known[part])
        assert_allclose(together[:, part], alone, rtol=1e-9)


def test_the_counts_are_not_changed():
    stars, _ = make_stars(1.1)
    copy = stars.copy()
    starting_values(stars, SHAPE, np.ones_like(stars), 3.0)
    assert_array_equal(stars, copy)
