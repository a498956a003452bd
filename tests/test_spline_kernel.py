# Licensed under a 3-clause BSD style license - see LICENSE

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from scipy.interpolate import RectBivariateSpline

from kpsf._kernels import spline
from kpsf._kernels.spline import SplineTable, normalize_phases, phase_sums


def make_table(steps=(5, 5), pixels=(7, 7), origin=None):
    """Return a table of a lopsided star whose samples are no smooth function at the edges."""
    size = [p * s for p, s in zip(pixels, steps, strict=True)]
    origin = origin or tuple((n - 1) / 2 - 0.5 for n in size)
    x, y = np.meshgrid(*((np.arange(n) - o) / s
                         for n, o, s in zip(size, origin, steps, strict=True)))
    data = 0.3 * np.exp(-0.5 * ((x - 0.1) / 0.8) ** 2 - 0.5 * (y / 0.9) ** 2)
    data += 0.004 + 0.002 * np.sin(3 * x + y)
    return SplineTable(data, steps, origin)


TABLE = make_table()


def fade(distance):
    """Return the step from 0 to 1 at the edge, for distances inside in pixels."""
    s = np.clip((distance + 0.125) / 0.25, 0, 1)
    return s ** 2 * (3 - 2 * s)


def by_scipy(table, dx, dy):
    """Return the table's value at offsets in pixels by SciPy's interpolation."""
    u = dx * table.steps[0] + table.origin[0]
    v = dy * table.steps[1] + table.origin[1]
    values = ndimage.map_coordinates(table.data, [v, u], order=3, mode='reflect')
    for places, steps, size in ((u, table.steps[0], table.data.shape[1]),
                                (v, table.steps[1], table.data.shape[0])):
        values = values * fade((places + 0.5) / steps) * fade((size - 0.5 - places) / steps)
    return values


@pytest.mark.parametrize('steps', [(5, 5), (4, 3), (1, 1)])
def test_points_of_any_phase_have_the_value_and_the_gradient_of_the_spline(steps):
    table = make_table(steps, (7, 6))
    rng = np.random.default_rng(4)
    dx, dy = rng.uniform(-4.5, 4.5, (2, 3, 2000))
    value, slope_x, slope_y = table.evaluate(dx, dy, 3)
    assert value.shape == (3, 2000)
    assert_allclose(value, by_scipy(table, dx, dy), atol=1e-15)
    assert_array_equal(value == 0, by_scipy(table, dx, dy) == 0)
    assert 0.2 < (value == 0).mean() < 0.8
    step = 1e-6
    inside = np.logical_and.reduce([by_scipy(table, dx + a, dy + b) != 0
                                    for a in (-step, step) for b in (-step, step)])
    for slope, (a, b) in ((slope_x, (step, 0)), (slope_y, (0, step))):
        numeric = (by_scipy(table, dx + a, dy + b) - by_scipy(table, dx - a, dy - b)) / (2 * step)
        assert_allclose(slope[inside], numeric[inside], atol=2e-8)
        assert not slope[value == 0].any()
    assert_array_equal(table.evaluate(dx, dy)[0], value)


def test_the_spline_goes_through_the_samples_where_it_does_not_fade():
    v, u = np.indices(TABLE.data.shape)
    dx, dy = (u - TABLE.origin[0]) / TABLE.steps[0], (v - TABLE.origin[1]) / TABLE.steps[1]
    inner = np.s_[1:-1, 1:-1]
    assert_allclose(TABLE.evaluate(dx, dy)[0][inner], TABLE.data[inner], rtol=1e-12)


def test_where_a_pixel_leaves_there_is_no_step_and_its_opposite_takes_over():
    drift = np.linspace(-0.3, 0.3, 601)
    edge = 7 / 2 + 0.5 / 5                  # of a support of 7 pixels, its origin off the middle
    right, left = (TABLE.evaluate(place + drift, np.zeros(601), 3) for place in (edge, edge - 7))
    for values in (right, left):
        step = np.abs(np.diff(values[0])).max()
        assert step < 0.002 * np.ptp(values[0]) + 1e-4
        assert_allclose(np.gradient(values[0], drift)[1:-1], values[1, 1:-1], atol=3e-4)
    assert right[0, 0] > 0.001 and right[0, -1] == 0
    assert left[0, 0] == 0 and left[0, -1] > 0.001
    # Weights of opposite pixels sum to 1: an image of ones keeps its sum over all pixels.
    ones = SplineTable(np.ones((35, 35)), (5, 5), (17, 17))
    pixels = np.arange(-6, 7)
    for phase in np.linspace(-0.5, 0.5, 21):
        assert_allclose(ones.evaluate(pixels + phase, np.zeros(13))[0].sum(), 7, rtol=1e-12)


def test_more_points_than_one_block_holds_are_the_same_points(monkeypatch):
    dx, dy = np.random.default_rng(6).uniform(-3, 3, (2, 1000))
    together = TABLE.evaluate(dx, dy, 3)
    monkeypatch.setattr(spline, '_BLOCK_POINTS', 64)
    assert_array_equal(TABLE.evaluate(dx, dy, 3), together)


def test_a_place_that_is_not_a_number_has_no_value():
    value = TABLE.evaluate(np.array([np.nan, 0.0, 99.0]), np.array([0.0, 0.0, 0.0]), 3)
    assert_array_equal(np.isnan(value), [[True, False, False]] * 3)
    assert value[0, 1] > 0.2
    assert value[0, 2] == 0


def test_copies_share_the_table_and_pickles_rebuild_it():
    assert copy.deepcopy(TABLE) is TABLE
    twin = pickle.loads(pickle.dumps(TABLE))
    assert_array_equal(twin.data, TABLE.data)
    dx = np.linspace(-3, 3, 50)
    assert_array_equal(twin.evaluate(dx, dx), TABLE.evaluate(dx, dx))
    with pytest.raises(ValueError, match='read-only'):
        twin.data[0, 0] = 1.0


@pytest.mark.parametrize(('shape', 'steps'), [((35, 35), (5, 5)), ((12, 20), (4, 3)),
                                              ((13, 22), (4, 3)), ((6, 7), (1, 1))])
def test_normalized_phases_sum_to_one(shape, steps):
    data = np.random.default_rng(2).uniform(0.5, 1.5, shape)
    sums = phase_sums(data, steps)
    assert sums.shape == steps[::-1]
    assert_allclose(sums[0, 0], data[::steps[1], ::steps[0]].sum(), rtol=1e-14)
    assert_allclose(sums[-1, -1], data[steps[1] - 1::steps[1], steps[0] - 1::steps[0]].sum(),
                    rtol=1e-14)
    assert_allclose(phase_sums(normalize_phases(data, steps), steps), 1, rtol=1e-14)


def test_the_pixels_of_any_phase_sum_to_one_between_the_samples_too():
    offset = (np.arange(550) - 274) / 50
    profile = np.exp(-0.5 * (offset / 0.8) ** 2)
    table = SplineTable(normalize_phases(np.outer(profile, profile), (50, 50)), (50, 50),
                        (274, 274))
    y, x = np.mgrid[-8:9, -8:9]
    for phase_x, phase_y in np.random.default_rng(1).uniform(-0.5, 0.5, (50, 2)):
        assert_allclose(table.evaluate(x - phase_x, y - phase_y)[0].sum(), 1, rtol=1e-9)


def make_points(steps=(4, 4), size=(33, 29)):
    """Return a table of points, random ones: nothing is smooth, and the edges least of all."""
    data = np.random.default_rng(16).uniform(0.2, 1.0, size[::-1])
    return SplineTable(data, steps, (14.0, 15.5), is_cell=False)


def fade_of_points(table, places, axis):
    """Return the weight of samples, and its derivative by the offset in pixels, at a fade."""
    steps, last = table.steps[axis], table.data.shape[1 - axis] - 1
    inside = np.minimum(places, last - places) / steps
    s = np.clip((inside + 0.125) / 0.25, 0, 1)
    return s ** 2 * (3 - 2 * s), np.where(places < last / 2, 1, -1) * 6 * s * (1 - s) / 0.25


@pytest.mark.parametrize(('steps', 'size'), [((4, 4), (33, 29)), ((5, 3), (31, 40)),
                                             ((1, 1), (30, 32)), ((11, 9), (60, 60))])
def test_a_table_of_points_is_the_spline_of_fitpack_up_to_its_edges(steps, size):
    table = make_points(steps, size)
    (ny, nx), rng = table.data.shape, np.random.default_rng(6)
    u, v = rng.uniform(0, nx - 1, 3000), rng.uniform(0, ny - 1, 3000)
    # A third of the points is next to an edge, some are on it.
    u[:500], u[500:1000] = rng.uniform(0, 0.3, 500), nx - 1 - rng.uniform(0, 0.3, 500)
    v[400:600], u[0], v[1], u[2], v[3] = rng.uniform(0, 0.3, 200), 0, 0, nx - 1, ny - 1
    fitpack = RectBivariateSpline(np.arange(nx), np.arange(ny), table.data.T, kx=3, ky=3, s=0)
    value, by_u, by_v = (fitpack(u, v, **order, grid=False)
                         for order in ({}, {'dx': 1}, {'dy': 1}))
    (in_x, slope_x), (in_y, slope_y) = fade_of_points(table, u, 0), fade_of_points(table, v, 1)
    found = table.evaluate((u - table.origin[0]) / steps[0], (v - table.origin[1]) / steps[1], 3)
    assert_allclose(found[0], value * in_x * in_y, rtol=0, atol=1e-10)
    assert_allclose(found[1], steps[0] * by_u * in_x * in_y + value * slope_x * in_y,
                    rtol=0, atol=1e-10 * steps[0])
    assert_allclose(found[2], steps[1] * by_v * in_x * in_y + value * in_x * slope_y,
                    rtol=0, atol=1e-10 * steps[1])


def test_a_table_of_points_may_have_four_samples_along_an_axis():
    table = SplineTable(np.random.default_rng(1).uniform(size=(4, 5)), (1, 1), (2, 1.5),
                        is_cell=False)
    fitpack = RectBivariateSpline(np.arange(5), np.arange(4), table.data.T, s=0)
    u, v = np.random.default_rng(2).uniform(0.2, 2.8, (2, 100))
    assert_allclose(table.evaluate(u - 2, v - 1.5)[0], fitpack(u, v, grid=False), atol=1e-12)


@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize('end', [-1, 1])
def test_a_table_of_points_ends_at_its_first_and_last_sample(axis, end):
    table = make_points()
    edge = (0 if end < 0 else table.data.shape[1 - axis] - 1) - table.origin[axis]
    drift = np.linspace(-0.2, 0.2, 8001)              # in pixels, outwards
    offsets = np.zeros((2, drift.size))
    offsets[axis] = edge / table.steps[axis] + end * drift
    values = table.evaluate(*offsets, 3)
    assert (values[0, drift < 0.125 - 1e-9] != 0).all()
    assert not values[:, drift > 0.125 + 1e-9].any()
    cell = SplineTable(table.data, table.steps, table.origin)
    # Half a sample further out is where cells end.
    assert cell.evaluate(*offsets)[0, -1] != 0
    # Half of it is there at the sample itself, and no step anywhere.
    other = table.origin[1 - axis]
    row = table.data[:, 0 if end < 0 else -1] if axis == 0 else table.data[0 if end < 0 else -1]
    fitpack = RectBivariateSpline(np.arange(row.size), np.arange(4), np.tile(row, (4, 1)).T, s=0)
    assert_allclose(values[0, 4000], 0.5 * fitpack(other, 1.0)[0, 0], rtol=1e-10)
    numeric = end * np.gradient(values[0], drift)[1:-1]
    assert_allclose(values[1 + axis, 1:-1], numeric, atol=2e-3 * np.abs(numeric).max())


def test_copies_of_points_share_the_table_and_pickles_rebuild_it():
    table = make_points()
    assert copy.deepcopy(table) is table
    twin = pickle.loads(pickle.dumps(table))
    assert twin.is_cell is False
    assert_array_equal(twin.coefficients, table.coefficients)
    offset = np.linspace(-4, 4, 100)
    assert_array_equal(twin.evaluate(offset, offset, 3), table.evaluate(offset, offset, 3))
