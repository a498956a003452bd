# Licensed under a 3-clause BSD style license - see LICENSE

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from kpsf._kernels import star as star_kernel
from kpsf._kernels.poisson import deviance
from kpsf._kernels.spline import SplineTable
from kpsf._kernels.tabulated import PhaseRuns, TabulatedLikelihood

SHAPE = (8, 9)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]].reshape(2, -1).astype(float)
TRUTH = np.array([900.0, 4.3, 3.4, 6.0])
N = 6
CASES = ['plain', 'negative flux', 'masked', 'scalar offset', 'offset per pixel',
         'offset per stamp', 'counts below zero', 'empty', 'off the edge', 'everything']
CURVATURES = ['newton', 'observed', 'fisher', 'score']


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
RUNS = PhaseRuns([TABLE], SHAPE)


def fade(distance):
    """Return the step from 0 to 1 at the edge, for distances inside in pixels."""
    s = np.clip((distance + 0.125) / 0.25, 0, 1)
    return s ** 2 * (3 - 2 * s)


def spline(table, dx, dy):
    """Return the table's value at offsets in pixels by SciPy's interpolation."""
    u = dx * table.steps[0] + table.origin[0]
    v = dy * table.steps[1] + table.origin[1]
    values = ndimage.map_coordinates(table.data, [v, u], order=3, mode='reflect')
    for places, steps, size in ((u, table.steps[0], table.data.shape[1]),
                                (v, table.steps[1], table.data.shape[0])):
        values = values * fade((places + 0.5) / steps) * fade((size - 0.5 - places) / steps)
    return values


def psf(params, table=TABLE):
    """Return the star on all pixels for one set of parameters."""
    return params[0] * spline(table, X - params[1], Y - params[2])


class Case:
    """Counts and everything else that a likelihood needs, and its value by another formula."""

    def __init__(self, name, seed=8):
        rng = np.random.default_rng(seed)
        every = name == 'everything'
        self.params = (TRUTH + rng.uniform(-1, 1, (N, 4)) * [100, 0.4, 0.4, 1.0]).T
        if name == 'off the edge' or every:
            self.params[1:3] += [[0, -5, 5, 0, 0, -4], [0, 0, 0, -5, 5.5, -5]]
        self.offset = np.zeros((N, X.size))
        self.weights = np.ones((N, X.size))
        given = 0.0
        if name == 'negative flux':
            self.params[0, ::2] = -40.0
            self.params[3] = 30.0
        if name == 'scalar offset':
            given = 3.5
        if name == 'offset per pixel':
            given = rng.uniform(0, 9, X.size)
        if name == 'offset per stamp' or every:
            given = rng.uniform(0, 9, (N, X.size))
        self.offset += given
        counts = rng.poisson([psf(column) + column[3] + row for column, row in zip(
            np.maximum(self.params, 0).T, self.offset, strict=True)]).astype(float)
        if name == 'counts below zero' or every:
            counts[:, ::7] = -rng.uniform(0, 5, counts[:, ::7].shape)
        if name == 'empty':
            counts[:, ::3] = 0.0
            counts[1] = 0.0
        if name == 'masked' or every:
            self.weights = (rng.uniform(size=counts.shape) > 0.3).astype(float)
            counts *= self.weights
        self.counts = counts
        self.likelihood = TabulatedLikelihood(
            counts, RUNS, 4, given, None if self.weights.all() else self.weights)

    def mean(self, params, row):
        return psf(params) + params[3] + self.offset[row]

    def derivatives(self, params):
        """Return d mean / d params, (4, n_pixels), by central differences of the place."""
        step = 1e-5
        return np.array([psf([1.0, *params[1:]]),
                         *((psf(params + step * unit) - psf(params - step * unit)) / (2 * step)
                           for unit in np.eye(4)[1:3]), np.ones(X.size)])

    def value(self, params, row):
        mean, k = self.mean(params, row), self.counts[row]
        log = np.log(np.abs(np.where(k == 0, 1.0, k)) / mean)
        return (self.weights[row] * (mean - k + k * log)).sum()

    def gradient(self, params, row):
        slope = self.weights[row] * (1 - self.counts[row] / self.mean(params, row))
        return self.derivatives(params) @ slope

    def second_derivatives(self, params, row):
        """Return the derivatives of the likelihood's own gradient."""
        steps = np.array([1e-2, 1e-5, 1e-5, 1e-3])
        rows = np.array([row, row])
        return np.array([
            np.diff(self.likelihood.evaluate(params[:, None] + np.outer(step * unit, [-1, 1]),
                                             rows)[1], axis=1)[:, 0] / (2 * step)
            for step, unit in zip(steps, np.eye(4), strict=True)])


def scaled(matrix, reference):
    """Return a matrix in units in which the diagonal of a reference is 1."""
    scale = 1 / np.sqrt(np.diag(reference))
    return matrix * scale * scale[:, None]


@pytest.mark.parametrize('name', CASES)
def test_value_gradient_and_newton_matrix_are_those_of_the_definition(name):
    case = Case(name)
    value, gradient, newton = case.likelihood.evaluate(case.params, np.arange(N))
    fisher = case.likelihood.evaluate(case.params, np.arange(N), 'fisher')[2]
    for row, params in enumerate(case.params.T):
        assert_allclose(value[row], case.value(params, row), rtol=1e-11)
        errors = 1 / np.sqrt(np.diag(fisher[:, :, row]))
        assert_allclose(gradient[:, row] * errors, case.gradient(params, row) * errors,
                        rtol=1e-7, atol=1e-7)
        assert_allclose(scaled(newton[:, :, row], fisher[:, :, row]),
                        scaled(case.second_derivatives(params, row), fisher[:, :, row]),
                        atol=1e-5)


@pytest.mark.parametrize('name', CASES)
def test_expected_information_and_variance_of_the_score_are_outer_products(name):
    case = Case(name)
    fisher, score = (case.likelihood.evaluate(case.params, np.arange(N), curvature)[2]
                     for curvature in ('fisher', 'score'))
    for row, params in enumerate(case.params.T):
        derivatives, mean = case.derivatives(params), case.mean(params, row)
        expected = (derivatives * case.weights[row] / mean) @ derivatives.T
        assert_allclose(scaled(fisher[:, :, row], expected), scaled(expected, expected),
                        atol=1e-7)
        own = (derivatives * case.weights[row] * case.counts[row] / mean ** 2) @ derivatives.T
        assert_allclose(scaled(score[:, :, row], expected), scaled(own, expected), atol=1e-7)


def test_the_newton_matrix_of_simulated_counts_averages_to_the_expected_information():
    rng = np.random.default_rng(11)
    n = 20_000
    counts = rng.poisson(psf(TRUTH) + TRUTH[3], (n, X.size)).astype(float)
    likelihood = TabulatedLikelihood(counts, RUNS)
    params = np.repeat(TRUTH[:, None], n, axis=1)
    newton = likelihood.evaluate(params, np.arange(n), 'newton')[2]
    fisher = likelihood.evaluate(params[:, :1], np.arange(1), 'fisher')[2]
    error = newton.std(axis=2) / np.sqrt(n)
    # Ten different elements, none further away than 4 standard errors.
    assert (np.abs(newton.mean(axis=2) - fisher[:, :, 0]) < 4 * error + 1e-12).all()
    assert (error > 0).all()


@pytest.mark.parametrize('curvature', CURVATURES)
def test_parameters_between_the_place_and_the_background_do_nothing(curvature):
    case = Case('everything')
    four = case.likelihood.evaluate(case.params, np.arange(N), curvature)
    more = TabulatedLikelihood(case.counts, RUNS, 7, case.likelihood.offset, case.weights)
    params = np.insert(case.params, [3, 3, 3], 0.37, axis=0)
    value, gradient, information = more.evaluate(params, np.arange(N), curvature)
    used = np.array([0, 1, 2, 6])
    assert_array_equal(value, four[0])
    assert_array_equal(gradient[used], four[1])
    assert_array_equal(information[np.ix_(used, used)], four[2])
    assert not gradient[3:6].any()
    assert not information[3:6].any()
    assert not information[:, 3:6].any()


@pytest.mark.parametrize('curvature', CURVATURES)
def test_more_rows_than_one_block_holds_are_the_same_rows(curvature):
    rng = np.random.default_rng(5)
    n = 2 * star_kernel._BLOCK + 17
    counts = rng.poisson(psf(TRUTH) + TRUTH[3], (n, X.size)).astype(float)
    offset = rng.uniform(0, 3, (n, X.size))
    weights = (rng.uniform(size=counts.shape) > 0.1).astype(float)
    likelihood = TabulatedLikelihood(counts * weights, RUNS, 4, offset, weights)
    params = TRUTH[:, None] * rng.uniform(0.95, 1.05, (4, n))
    rows = rng.permutation(n)
    together = likelihood.evaluate(params, rows, curvature)
    for place in (0, star_kernel._BLOCK - 1, star_kernel._BLOCK, n - 1):
        alone = likelihood.evaluate(params[:, [place]], rows[[place]], curvature)
        for whole, part in zip(together, alone, strict=True):
            assert_allclose(whole[..., [place]], part, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('curvature', CURVATURES)
@pytest.mark.parametrize('reach', [0.02, 0.3, 4.0])
def test_stars_that_share_taps_have_the_sums_of_stars_alone(reach, curvature):
    rng = np.random.default_rng(15)
    n = 2 * star_kernel._BLOCK + 31
    params = np.array([np.full(n, 900.0), 4.3 + rng.uniform(-reach, reach, n),
                       3.4 + rng.uniform(-reach, reach, n), np.full(n, 6.0)])
    counts = rng.poisson([psf(column) + column[3] for column in params.T]).astype(float)
    likelihood = TabulatedLikelihood(counts, RUNS)
    together = likelihood.evaluate(params, np.arange(n), curvature)
    # Otherwise nothing was shared, or nothing was not.
    assert (likelihood._order_by_cell(params) is None) == (reach > 1)
    for row in rng.integers(0, n, 40):
        alone = likelihood.evaluate(params[:, [row]], np.array([row]), curvature)
        for whole, part in zip(together, alone, strict=True):
            assert_allclose(whole[..., [row]], part, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('flux', [0.0, 1e-12, -1e-12])
@pytest.mark.parametrize('curvature', CURVATURES)
def test_nothing_depends_on_the_place_of_no_star(flux, curvature):
    case = Case('plain')
    params = case.params.copy()
    params[0] = flux
    _, gradient, information = case.likelihood.evaluate(params, np.arange(N), curvature)
    assert not gradient[1:3].any()
    assert not information[1:3].any()
    for row in range(N):
        shape = spline(TABLE, X - params[1, row], Y - params[2, row])
        slope = 1 - case.counts[row] / params[3, row]
        assert_allclose(gradient[[0, 3], row], [(shape * slope).sum(), slope.sum()], rtol=1e-9)


def test_a_mean_below_zero_has_a_finite_value_whose_slope_leads_back():
    case = Case('plain')
    params = case.params.copy()
    params[0] = -1000.0
    value, gradient, _ = case.likelihood.evaluate(params, np.arange(N))
    assert np.isfinite(value).all()
    assert (gradient[0] < 0).all()


def test_an_empty_stamp_has_the_sum_of_its_mean():
    likelihood = TabulatedLikelihood(np.zeros((1, X.size)), RUNS)
    value, gradient, newton = likelihood.evaluate(TRUTH[:, None], np.zeros(1, int))
    assert_allclose(value, (psf(TRUTH) + TRUTH[3]).sum(), rtol=1e-13)
    assert_allclose(gradient[[0, 3], 0], [psf(TRUTH).sum() / TRUTH[0], X.size], rtol=1e-12)
    # Without counts the likelihood is linear in flux and background.
    assert_allclose(newton[np.ix_([0, 3], [0, 3])], 0, atol=1e-12)


def test_a_likelihood_of_many_electrons_keeps_the_digits_of_a_small_step():
    params = TRUTH * [5e5, 1, 1, 1e4]
    likelihood = TabulatedLikelihood((psf(params) + params[3])[None], RUNS)
    fisher = likelihood.evaluate(params[:, None], np.zeros(1, int), 'fisher')[2][:, :, 0]
    step = 1e-2 / np.sqrt(fisher[0, 0]) * np.eye(4)[0]
    value = likelihood.evaluate((params + step)[:, None], np.zeros(1, int))[0]
    # Half of (0.01 sigma)^2; -ln L itself is of the order of 1e10.
    assert_allclose(value, 0.5e-4, rtol=0.02)


@pytest.mark.parametrize('shape', [(8, 9), (1, 1), (3, 30), (30, 3)])
@pytest.mark.parametrize(('steps', 'pixels'), [
    ((5, 5), (7, 7)), ((4, 3), (6, 5)), ((1, 1), (9, 8)), ((2, 7), (11, 3))])
def test_the_mean_is_the_interpolated_image_wherever_the_star_is(shape, steps, pixels):
    table = make_table(steps, pixels)
    y, x = np.mgrid[:shape[0], :shape[1]].reshape(2, -1)
    rng = np.random.default_rng(3)
    n = 300
    params = np.array([np.full(n, 50.0), rng.uniform(-6, shape[1] + 5, n),
                       rng.uniform(-6, shape[0] + 5, n), rng.uniform(0, 9, n)])
    likelihood = TabulatedLikelihood(np.ones((n, x.size)), PhaseRuns([table], shape))
    star, mean = likelihood.mean(params, np.arange(n))
    for row, (flux, x_0, y_0, background) in enumerate(params.T):
        expected = flux * spline(table, x - x_0, y - y_0)
        assert_allclose(star[row], expected, atol=1e-13)
        assert_array_equal(star[row] == 0, expected == 0)
        assert_allclose(mean[row], star[row] + background, rtol=1e-15)


def test_evaluating_changes_neither_parameters_nor_counts():
    case = Case('everything')
    params, counts = case.params.copy(), case.counts.copy()
    for curvature in CURVATURES:
        case.likelihood.evaluate(case.params, np.arange(N), curvature)
    assert_array_equal(case.params, params)
    assert_array_equal(case.counts, counts)


def test_counts_below_at_and_above_zero_in_one_stamp_have_a_finite_likelihood():
    counts = np.full(X.size, 6.0)
    counts[:3] = -1.0, 0.0, 1.0
    likelihood = TabulatedLikelihood(counts[None], RUNS)
    value, gradient, information = likelihood.evaluate(TRUTH[:, None], np.zeros(1, int))
    _, mean = likelihood.mean(TRUTH[:, None], np.zeros(1, int))
    assert_allclose(value, 0.5 * deviance(counts, mean).sum(), rtol=1e-12)
    assert np.isfinite(gradient).all()
    assert np.isfinite(information).all()


def test_only_stars_whose_support_touches_the_stamp_are_valid():
    columns = np.repeat(TRUTH[:, None], 8, axis=1)
    columns[1, 1:3] = -3.4, SHAPE[1] + 2.4          # outside, but its wings are not
    columns[1, 3:5] = -3.9, SHAPE[1] + 2.9
    columns[2, 5] = -100.0
    columns[2, 6] = np.nan
    columns[0, 7] = np.inf
    valid = TabulatedLikelihood(np.zeros((8, X.size)), RUNS).is_valid(columns)
    assert_array_equal(valid, [True] * 3 + [False] * 5)


def test_copies_share_the_runs_and_pickles_rebuild_them():
    case = Case('everything')
    assert copy.deepcopy(RUNS) is RUNS
    twin = pickle.loads(pickle.dumps(RUNS))
    again = TabulatedLikelihood(case.counts, twin, 4, case.likelihood.offset, case.weights)
    for ours, theirs in zip(case.likelihood.evaluate(case.params, np.arange(N)),
                            again.evaluate(case.params, np.arange(N)), strict=True):
        assert_array_equal(ours, theirs)
    assert len(pickle.dumps(RUNS)) < 3 * TABLE.data.nbytes


def several_tables():
    """Return tables that differ in their samples alone."""
    rng = np.random.default_rng(17)
    return [SplineTable(TABLE.data * rng.uniform(0.5, 1.5, TABLE.data.shape), TABLE.steps,
                        TABLE.origin) for _ in range(3)]


def test_runs_of_several_tables_have_the_taps_of_each_alone():
    tables, rng = several_tables(), np.random.default_rng(18)
    runs, n = PhaseRuns(tables, SHAPE), 50
    # Stamps of which all, some or none of the pixels have a coefficient.
    column, row = rng.integers(-45, 45, (2, n))
    which = rng.integers(0, 3, (n, 2))
    taps = runs.gather(column, row, which).reshape(n, 2, 16, SHAPE[0], runs.width)
    places = TABLE.coefficients.shape
    for k in range(3):
        alone = PhaseRuns([tables[k]], SHAPE).gather(column, row).reshape(n, 16, SHAPE[0], -1)
        stamp, place = np.nonzero(which == k)
        inside = is_inside(column, row, places)[stamp]
        assert 0.1 < inside.mean() < 0.9
        columns = slice(SHAPE[1])
        assert_array_equal(taps[stamp, place][..., columns][inside],
                           alone[stamp][..., columns][inside])


def is_inside(column, row, shape):
    """Say which taps have a coefficient, (n, 16, ny, nx), by where the first ones are."""
    tap = np.arange(4)
    v, u = (first[:, None, None] + tap[:, None] + step * np.arange(size)
            for first, step, size in zip((row, column), TABLE.steps, SHAPE, strict=True))
    in_y, in_x = (v >= 0) & (v < shape[0]), (u >= 0) & (u < shape[1])
    both = in_y[:, :, None, :, None] & in_x[:, None, :, None, :]
    return both.reshape(len(row), 16, *SHAPE)


def test_taps_of_several_tables_are_finite_wherever_the_stamp_is():
    runs = PhaseRuns(several_tables(), SHAPE)
    column, row = (places.ravel() for places in np.meshgrid([-300, -41, 0, 60, 300],
                                                            [-300, -41, 0, 60, 300]))
    taps = runs.gather(column, row, np.tile([2, 0], (25, 1)))
    assert taps.shape == (25, 32, SHAPE[0] * runs.width)
    assert np.isfinite(taps).all()


def test_runs_of_one_table_among_several_make_the_same_likelihood_as_alone():
    case = Case('everything')
    first = PhaseRuns([TABLE, *several_tables()], SHAPE)
    again = TabulatedLikelihood(case.counts, first, 4, case.likelihood.offset, case.weights)
    for ours, theirs in zip(again.evaluate(case.params, np.arange(N)),
                            case.likelihood.evaluate(case.params, np.arange(N)), strict=True):
        assert_array_equal(ours, theirs)


def test_pickles_of_several_tables_rebuild_all_of_them():
    runs = PhaseRuns(several_tables(), SHAPE)
    assert copy.deepcopy(runs) is runs
    twin = pickle.loads(pickle.dumps(runs))
    where = np.array([3]), np.array([5]), np.array([[2, 1, 0]])
    assert_array_equal(twin.gather(*where), runs.gather(*where))
    assert len(pickle.dumps(runs)) < 3 * 3 * TABLE.data.nbytes
