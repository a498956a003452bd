# Licensed under a 3-clause BSD style license - see LICENSE
"""Weights between the detector positions of PRF calibrations."""

import itertools

import numpy as np
import pytest

from kpsf.prf.weights import (
    barycentric_weights,
    bilinear_weights,
    clamp_position,
    inverse_distance_weights,
    missing_positions,
    nearest_weights,
)

KEPLER_COLUMNS = np.array([12.0, 12.0, 1111.0, 1111.0, 561.5])
KEPLER_ROWS = np.array([20.0, 1043.0, 1043.0, 20.0, 531.5])
TESS_COLUMNS, TESS_ROWS = (grid.ravel() for grid in np.meshgrid(
    [45.0, 557.0, 1069.0, 1580.0, 2092.0], [1.0, 513.0, 1025.0, 1536.0, 2048.0]))
GRIDS = {barycentric_weights: (KEPLER_COLUMNS, KEPLER_ROWS),
         bilinear_weights: (TESS_COLUMNS, TESS_ROWS),
         inverse_distance_weights: (TESS_COLUMNS, TESS_ROWS),
         nearest_weights: (TESS_COLUMNS, TESS_ROWS)}


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def points_in(columns, rows, rng, n=300):
    return zip(*(rng.uniform(values.min(), values.max(), n) for values in (columns, rows)))


@pytest.mark.parametrize('function', GRIDS)
def test_weights_are_a_partition_of_one(function, rng):
    columns, rows = GRIDS[function]
    for point in points_in(columns, rows, rng):
        weights = function(columns, rows, *point)
        assert weights.shape == columns.shape
        assert weights.sum() == pytest.approx(1.0, abs=1e-14)
        assert weights.min() >= 0


@pytest.mark.parametrize('function', GRIDS)
def test_every_position_gets_its_own_image_exactly(function):
    columns, rows = GRIDS[function]
    weights = [function(columns, rows, *position) for position in zip(columns, rows)]
    assert np.array_equal(weights, np.eye(columns.size))


@pytest.mark.parametrize('function', [barycentric_weights, bilinear_weights])
def test_a_linear_field_is_reproduced(function, rng):
    columns, rows = GRIDS[function]
    for column, row in points_in(columns, rows, rng):
        c = rng.normal(size=3)
        field = c[0] + c[1] * columns + c[2] * rows
        expected = c[0] + c[1] * column + c[2] * row
        assert function(columns, rows, column, row) @ field == pytest.approx(expected, abs=1e-9)


def test_inverse_distance_and_nearest_do_not_reproduce_a_linear_field():
    # Which is what they are there to show.
    for function in (inverse_distance_weights, nearest_weights):
        column = function(KEPLER_COLUMNS, KEPLER_ROWS, 293.0, 230.0) @ KEPLER_COLUMNS
        assert abs(column - 293.0) > 50


def test_a_bilinear_field_is_reproduced_in_every_cell(rng):
    for column, row in points_in(TESS_COLUMNS, TESS_ROWS, rng):
        weights = bilinear_weights(TESS_COLUMNS, TESS_ROWS, column, row)
        assert np.count_nonzero(weights) == 4
        in_cell = weights > 0
        field = TESS_COLUMNS * TESS_ROWS
        assert weights @ field == pytest.approx(column * row, rel=1e-12)
        assert np.ptp(TESS_COLUMNS[in_cell]) <= 512 and np.ptp(TESS_ROWS[in_cell]) <= 512


@pytest.mark.parametrize('order', list(itertools.permutations(range(5)))[::17])
def test_the_order_of_the_positions_does_not_matter(order):
    order = list(order)
    weights = barycentric_weights(KEPLER_COLUMNS, KEPLER_ROWS, 200.0, 900.0)
    again = barycentric_weights(KEPLER_COLUMNS[order], KEPLER_ROWS[order], 200.0, 900.0)
    assert again == pytest.approx(weights[order], abs=1e-15)


def test_between_the_centre_and_the_middle_of_a_side_three_images_count():
    # Half way down from the centre: half the centre, a quarter each of both lower corners.
    weights = barycentric_weights(KEPLER_COLUMNS, KEPLER_ROWS, 561.5, 275.75)
    assert weights == pytest.approx([0.25, 0, 0, 0.25, 0.5], abs=1e-15)


@pytest.mark.parametrize('corner', range(4))
def test_barycentric_weights_are_continuous_across_the_edges_of_triangles(corner):
    centre = np.array([561.5, 531.5])
    end = np.array([KEPLER_COLUMNS[corner], KEPLER_ROWS[corner]])
    across = np.array([-(end - centre)[1], (end - centre)[0]]) / np.hypot(*(end - centre))
    for part in np.linspace(0, 1, 21):
        on_edge = centre + part * (end - centre)
        sides = [barycentric_weights(KEPLER_COLUMNS, KEPLER_ROWS, *(on_edge + step * across))
                 for step in (-1e-6, 1e-6)]
        assert sides[0] == pytest.approx(sides[1], abs=1e-8)


@pytest.mark.parametrize('function', [barycentric_weights, bilinear_weights])
@pytest.mark.parametrize('point', [(-5.0, 400.0), (600.0, -3.0), (3000.0, 700.0), (700.0, 3000.0),
                                   (-9.0, -9.0), (3000.0, 3000.0)])
def test_outside_of_the_box_its_nearest_place_counts(function, point):
    columns, rows = GRIDS[function]
    inside = clamp_position(columns, rows, *point)
    assert inside != point
    assert inside == (np.clip(point[0], columns.min(), columns.max()),
                      np.clip(point[1], rows.min(), rows.max()))
    assert np.array_equal(function(columns, rows, *point), function(columns, rows, *inside))


def test_a_centre_beside_the_middle_still_gives_a_partition_that_is_linear(rng):
    columns, rows = KEPLER_COLUMNS.copy(), KEPLER_ROWS.copy()
    columns[4], rows[4] = 549.5, 511.5
    for column, row in points_in(columns, rows, rng):
        weights = barycentric_weights(columns, rows, column, row)
        assert (weights @ columns, weights @ rows) == pytest.approx((column, row), abs=1e-9)


def test_a_centre_on_a_side_leaves_three_triangles(rng):
    columns, rows = KEPLER_COLUMNS.copy(), KEPLER_ROWS.copy()
    rows[4] = 20.0
    for column, row in points_in(columns, rows, rng):
        weights = barycentric_weights(columns, rows, column, row)
        assert (weights @ columns, weights @ rows) == pytest.approx((column, row), abs=1e-9)


def test_corners_may_be_a_little_off_a_rectangle(rng):
    columns = KEPLER_COLUMNS + [0.0, 1.0, 0.0, -1.0, 0.0]
    rows = KEPLER_ROWS + [0.5, 0.0, -0.5, 0.0, 0.0]
    assert np.array_equal(barycentric_weights(columns, rows, columns[1], rows[1]),
                          [0, 1, 0, 0, 0])
    for column, row in points_in(columns, rows, rng):
        weights = barycentric_weights(columns, rows, column, row)
        assert weights.min() >= 0
        assert (weights @ columns, weights @ rows) == pytest.approx((column, row), abs=1.1)


@pytest.mark.parametrize(('columns', 'rows'), [
    (KEPLER_COLUMNS[:4], KEPLER_ROWS[:4]),
    ([12, 12, 1111, 1111, 12], [20, 1043, 1043, 20, 20]),
    ([12, 12, 1111, 1111, 5000], [20, 1043, 1043, 20, 500]),
    ([12, 12, 1111, 561, 500], [20, 1043, 1043, 20, 500]),
])
def test_barycentric_weights_need_four_corners_and_a_centre(columns, rows):
    with pytest.raises(ValueError, match='four corners of a rectangle and one inside, but found'):
        barycentric_weights(np.array(columns, float), np.array(rows, float), 500.0, 500.0)


def test_bilinear_weights_on_the_lines_of_the_grid_use_two_images():
    weights = bilinear_weights(TESS_COLUMNS, TESS_ROWS, 301.0, 513.0)
    assert np.array_equal(np.flatnonzero(weights), [5, 6])
    assert weights[5:7] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(('columns', 'rows', 'expected'), [
    ([45.0], [1.0], [1.0]),
    ([45.0, 557.0], [1.0, 1.0], [0.25, 0.75]),
    ([45.0, 45.0], [1.0, 513.0], [0.5, 0.5]),
    ([557.0, 45.0, 557.0, 45.0], [513.0, 513.0, 1.0, 1.0], [0.375, 0.125, 0.375, 0.125]),
])
def test_any_full_rectangle_of_positions_will_do(columns, rows, expected):
    weights = bilinear_weights(columns, rows, 429.0, 257.0)
    assert weights == pytest.approx(expected, abs=1e-15)


def test_bilinear_weights_need_every_node():
    with pytest.raises(ValueError, match='2 nodes are missing: pass all positions'):
        bilinear_weights(TESS_COLUMNS[:-2], TESS_ROWS[:-2], 500.0, 500.0)
    assert missing_positions(TESS_COLUMNS[:-2], TESS_ROWS[:-2]) == [(1580, 2048), (2092, 2048)]
    assert missing_positions(TESS_COLUMNS, TESS_ROWS) == []


def test_bilinear_weights_need_every_node_once():
    with pytest.raises(ValueError, match='some are there more than once'):
        bilinear_weights([1.0, 1.0], [2.0, 2.0], 1.0, 2.0)


def test_inverse_distances_are_what_they_say():
    weights = inverse_distance_weights([0.0, 3.0, 0.0], [0.0, 0.0, 4.0], 0.0, 1.0)
    inverse = 1 / np.array([1.0, np.sqrt(10.0), 3.0])
    assert weights == pytest.approx(inverse / inverse.sum())


def test_a_hairbreadth_from_a_position_inverse_distances_stay_finite():
    weights = inverse_distance_weights(np.array([0.0, 3.0]), np.zeros(2), 5e-324, 0.0)
    assert weights == pytest.approx([1.0, 0.0])


def test_the_first_of_equally_near_positions_is_nearest():
    assert np.array_equal(nearest_weights([0.0, 2.0, 2.0], [0.0, 0.0, 5.0], 1.0, 0.0), [1, 0, 0])
