# Licensed under a 3-clause BSD style license - see LICENSE

import numpy as np
import pytest
from astropy.nddata import NDData
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import GriddedPSFModel

from kpsf._kernels import star as star_kernel
from kpsf._kernels.gridded import GriddedLikelihood, NodeGrid
from kpsf._kernels.spline import SplineTable
from kpsf._kernels.tabulated import PhaseRuns, TabulatedLikelihood

SHAPE = (7, 8)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]].reshape(2, -1).astype(float)
N = 6
ROWS = np.arange(N)
# So close together that the mix changes within a stamp, unevenly spaced.
X_NODES, Y_NODES = np.array([3.0, 10.0, 23.0]), np.array([-4.0, 9.0, 15.0, 30.0])
OVERSAMPLING = (3, 4)
CURVATURES = ['newton', 'observed', 'fisher', 'score']
CASES = ['plain', 'negative flux', 'masked', 'offset per stamp', 'counts below zero',
         'outside of the grid', 'off the edge', 'everything']


def make_model(pixels=(20, 18)):
    """Return a model of photutils whose images differ much, 12 of them."""
    step_y, step_x = OVERSAMPLING
    v, u = np.mgrid[:pixels[0] * step_y + 1, :pixels[1] * step_x + 1]
    y, x = (v - v.max() / 2) / step_y, (u - u.max() / 2) / step_x
    rng = np.random.default_rng(14)
    places, images = [], []
    for x_node in X_NODES:
        for y_node in Y_NODES:
            wide, high = rng.uniform(0.7, 1.6, 2)
            at_x, at_y = rng.uniform(-0.4, 0.4, 2)
            places.append((x_node, y_node))
            images.append(np.exp(-0.5 * ((x - at_x) / wide) ** 2 - 0.5 * ((y - at_y) / high) ** 2)
                          / (2 * np.pi * wide * high))
    return GriddedPSFModel(NDData(np.array(images), meta={'grid_xypos': places,
                                                          'oversampling': OVERSAMPLING}))


def tables_of(model):
    return [SplineTable(image, OVERSAMPLING[::-1], model.origin, is_cell=False)
            for image in model.data]


MODEL = make_model()
GRID = NodeGrid(X_NODES, Y_NODES)
RUNS = PhaseRuns(tables_of(MODEL), SHAPE)
# The same star in images that end within the stamps.
SMALL = make_model((5, 7))
SMALL_RUNS = PhaseRuns(tables_of(SMALL), SHAPE)


def photutils_psf(model, origin, params):
    """Return the star by photutils, for one stamp, everything on the detector."""
    return model.evaluate(X + origin[0], Y + origin[1], params[0], params[1] + origin[0],
                          params[2] + origin[1])


class Case:
    """Counts and everything else that a likelihood needs, and photutils' images of them."""

    def __init__(self, name, seed=8):
        rng = np.random.default_rng(seed)
        every = name == 'everything'
        self.params = np.array([rng.uniform(700, 900, N), 3.6 + rng.uniform(-0.4, 0.4, N),
                                2.8 + rng.uniform(-0.4, 0.4, N), rng.uniform(5, 7, N)])
        self.origin = np.column_stack([rng.integers(1, 18, N), rng.integers(-5, 25, N)])
        self.weights, self.offset = np.ones((N, X.size)), np.zeros((N, X.size))
        runs = RUNS
        if name == 'outside of the grid' or every:
            self.origin[:3] = (-30, 5), (60, 5), (2, 300)
        if name == 'off the edge' or every:
            runs = SMALL_RUNS
            self.params[1:3] += [[0, -3.1, 3, 0, 0, -2.7], [0, 0, 0, -3, 2.5, -3.3]]
        if name == 'negative flux':
            self.params[0, ::2] = -20.0
            self.params[3] = 30.0
        if name == 'offset per stamp' or every:
            self.offset = rng.uniform(0, 9, (N, X.size))
        self.model = SMALL if runs is SMALL_RUNS else MODEL
        star = np.array([photutils_psf(self.model, *of_star)
                         for of_star in zip(self.origin, self.params.T, strict=True)])
        counts = rng.poisson(np.maximum(star, 0) + 6 + self.offset).astype(float)
        if name == 'counts below zero' or every:
            counts[:, ::7] = -rng.uniform(0, 5, counts[:, ::7].shape)
        if name == 'masked' or every:
            self.weights = (rng.uniform(size=counts.shape) > 0.3).astype(float)
            counts *= self.weights
        self.counts = counts
        self.likelihood = GriddedLikelihood(
            counts, runs, GRID, self.origin, 4, self.offset,
            None if self.weights.all() else self.weights)

    def by_photutils(self, params, row):
        return photutils_psf(self.model, self.origin[row], params)

    def derivatives(self, params, row):
        """Return d mean / d params, (4, n_pixels), by central differences of photutils' model."""
        step = 1e-5
        return np.array([self.by_photutils([1.0, *params[1:]], row),
                         *((self.by_photutils(params + step * unit, row)
                            - self.by_photutils(params - step * unit, row)) / (2 * step)
                           for unit in np.eye(4)[1:3]), np.ones(X.size)])


class HeldGrid(NodeGrid):
    """A grid that takes each mix for one that does not change."""

    def mix(self, x, y):
        nodes, shares = super().mix(x, y)
        shares[1:] = 0.0
        return nodes, shares


def scaled(matrix, reference):
    """Return a matrix in units in which the diagonal of a reference is 1."""
    scale = 1 / np.sqrt(np.diag(reference))
    return matrix * scale * scale[:, None]


def mixed(grid, values, x, y):
    """Return the mix of numbers at the nodes, and its derivatives by x, y, and x and y."""
    nodes, shares = grid.mix(np.atleast_1d(np.asarray(x, float)),
                             np.atleast_1d(np.asarray(y, float)))
    return (shares * values[nodes]).sum(axis=2)


def test_at_a_node_its_table_is_alone():
    x, y = (places.ravel() for places in np.meshgrid(X_NODES, Y_NODES))
    nodes, shares = GRID.mix(x, y)
    share_of = np.zeros((12, 12))
    np.add.at(share_of, (np.arange(12)[:, None], nodes), shares[0])
    assert_array_equal(share_of, np.eye(12))


def test_between_nodes_the_mix_is_bilinear_with_shares_that_sum_to_one():
    rng = np.random.default_rng(2)
    x, y = rng.uniform(3, 23, 500), rng.uniform(-4, 30, 500)
    nodes, shares = GRID.mix(x, y)
    assert_allclose(shares[0].sum(axis=1), 1, rtol=1e-14)
    assert_allclose(shares[1:].sum(axis=2), 0, atol=1e-15)
    assert (shares[0] >= 0).all()
    # What is bilinear itself between nodes is what the mix must give back.
    at_x, at_y = np.tile(X_NODES, 4), np.repeat(Y_NODES, 3)
    values = 2.0 + 0.3 * at_x - 0.7 * at_y + 0.05 * at_x * at_y
    value, by_x, by_y, by_both = mixed(GRID, values, x, y)
    assert_allclose(value, 2.0 + 0.3 * x - 0.7 * y + 0.05 * x * y, rtol=1e-12, atol=1e-12)
    assert_allclose(by_x, 0.3 + 0.05 * y, rtol=1e-11)
    assert_allclose(by_y, -0.7 + 0.05 * x, rtol=1e-11, atol=1e-12)
    assert_allclose(by_both, 0.05, rtol=1e-10)


@pytest.mark.parametrize(('outside', 'nearest'), [
    ((-50, 5), (3, 5)), ((90, 5), (23, 5)), ((8, -70), (8, -4)), ((8, 70), (8, 30)),
    ((-9, -9), (3, -4)), ((99, 99), (23, 30))])
def test_outside_of_the_grid_the_mix_is_that_of_the_nearest_place_and_does_not_change(
        outside, nearest):
    values = np.random.default_rng(3).uniform(size=12)
    value, by_x, by_y, by_both = mixed(GRID, values, *outside)
    inside = mixed(GRID, values, *nearest)
    assert_allclose(value, inside[0], rtol=1e-14)
    is_moved_x, is_moved_y = (a != b for a, b in zip(outside, nearest, strict=True))
    # Along the edge it goes on changing.
    assert (by_x != 0) == (not is_moved_x)
    assert (by_y != 0) == (not is_moved_y)
    assert by_both == 0


@pytest.mark.parametrize('is_row', [True, False])
def test_a_grid_may_have_one_row_or_one_column(is_row):
    grid = NodeGrid(X_NODES, [7.0]) if is_row else NodeGrid([7.0], X_NODES)
    along, across = np.array([-3.0, 3.0, 6.5, 16.5, 23.0, 40.0]), np.linspace(-20, 60, 6)
    x, y = (along, across) if is_row else (across, along)
    values = np.array([1.0, 5.0, 2.0])
    value, by_x, by_y, by_both = mixed(grid, values, x, y)
    by_along, by_across = (by_x, by_y) if is_row else (by_y, by_x)
    assert_allclose(value, np.interp(along, X_NODES, values), rtol=1e-14)
    assert_allclose(by_along[[0, 2, 3, 5]], [0, 4 / 7, -3 / 13, 0], rtol=1e-13)
    assert not by_across.any()
    assert not by_both.any()


def test_a_grid_may_have_one_node():
    nodes, shares = NodeGrid([7.0], [3.0]).mix(np.array([1.0, 9.0]), np.array([3.0, -2.0]))
    assert not nodes.any()
    assert_array_equal(shares.sum(axis=2), [[1, 1], [0, 0], [0, 0], [0, 0]])


def test_the_mix_is_that_of_photutils_everywhere():
    rng = np.random.default_rng(4)
    row, column = (size // 2 for size in MODEL.data.shape[1:])
    assert MODEL.origin[:2].tolist() == [column, row]
    peaks = MODEL.data[:, row, column]
    for x, y in rng.uniform(-10, 40, (100, 2)):
        expected = MODEL.evaluate(np.array([x]), np.array([y]), 1.0, x, y)
        assert_allclose(mixed(GRID, peaks, x, y)[0], expected, rtol=1e-10)


def test_images_are_those_of_photutils_at_many_places():
    rng = np.random.default_rng(5)
    n = 300
    params = np.array([rng.uniform(10, 1000, n), rng.uniform(0, 7, n), rng.uniform(0, 6, n),
                       rng.uniform(0, 9, n)])
    origin = np.column_stack([rng.integers(-15, 40, n), rng.integers(-20, 45, n)])
    likelihood = GriddedLikelihood(np.ones((n, X.size)), RUNS, GRID, origin)
    rows = rng.permutation(n)
    psf, mean = likelihood.mean(params, rows)
    expected = [photutils_psf(MODEL, *of_star)
                for of_star in zip(origin[rows], params.T, strict=True)]
    assert_allclose(psf, expected, rtol=1e-9, atol=1e-13)
    assert_allclose(mean, psf + params[3][:, None], rtol=1e-15)
    assert likelihood.is_valid(params).all()


@pytest.mark.parametrize('name', [name for name in CASES if name not in ('off the edge',
                                                                         'everything')])
def test_the_likelihood_is_that_of_photutils_images_also_where_the_mix_changes(name):
    case = Case(name)
    value, gradient, fisher = case.likelihood.evaluate(case.params, ROWS, 'fisher')
    score = case.likelihood.evaluate(case.params, ROWS, 'score')[2]
    for row, params in enumerate(case.params.T):
        mean = case.by_photutils(params, row) + params[3] + case.offset[row]
        k, used = case.counts[row], case.weights[row]
        log = np.log(np.abs(np.where(k == 0, 1.0, k)) / mean)
        assert_allclose(value[row], (used * (mean - k + k * log)).sum(), rtol=1e-9)
        derivatives = case.derivatives(params, row)
        expected = (derivatives * used / mean) @ derivatives.T
        errors = 1 / np.sqrt(np.diag(expected))
        assert_allclose(gradient[:, row] * errors, derivatives @ (used * (1 - k / mean)) * errors,
                        rtol=1e-7, atol=1e-7)
        assert_allclose(scaled(fisher[:, :, row], expected), scaled(expected, expected),
                        atol=1e-7)
        own = (derivatives * used * k / mean ** 2) @ derivatives.T
        assert_allclose(scaled(score[:, :, row], expected), scaled(own, expected), atol=1e-7)


@pytest.mark.parametrize('name', CASES)
def test_gradient_and_observed_information_are_differences_of_what_they_derive(name):
    case = Case(name)
    observed = case.likelihood.evaluate(case.params, ROWS, 'observed')[2]
    _, gradient, fisher = case.likelihood.evaluate(case.params, ROWS, 'fisher')
    errors = 1 / np.sqrt(np.einsum('iim->im', fisher))
    for j in range(4):
        step = 1e-4 * errors[j]
        shift = np.eye(4)[:, [j]] * step
        up, down = (case.likelihood.evaluate(case.params + s, ROWS) for s in (shift, -shift))
        assert_allclose((up[0] - down[0]) / 2e-4, gradient[j] * errors[j], rtol=1e-6, atol=2e-6)
        assert_allclose((up[1] - down[1]) / 2e-4 * errors, observed[j] * errors[j] * errors,
                        atol=2e-5)


@pytest.mark.parametrize('name', CASES)
def test_newton_and_observed_are_two_names_of_one_matrix(name):
    case = Case(name)
    assert_array_equal(*(case.likelihood.evaluate(case.params, ROWS, curvature)[2]
                         for curvature in ('newton', 'observed')))


def test_the_change_of_the_mix_matters():
    # Else the tests above could not tell whether it is in the derivatives.
    case = Case('plain')
    held = GriddedLikelihood(case.counts, RUNS, HeldGrid(X_NODES, Y_NODES), case.origin)
    changing, constant = (kernel.evaluate(case.params, ROWS, 'observed')
                          for kernel in (case.likelihood, held))
    errors = 1 / np.sqrt(np.einsum('iim->im', changing[2]))
    assert_allclose(constant[0], changing[0], rtol=1e-13)
    assert np.abs((constant[1] - changing[1]) * errors)[1:3].max() > 0.1
    assert np.abs((constant[2] - changing[2]) * errors[1])[1, 1:3].max() > 0.01


@pytest.mark.parametrize('curvature', CURVATURES)
def test_equal_images_are_one_table(curvature):
    case = Case('masked')
    table = RUNS.tables[5]
    kernels = (GriddedLikelihood(case.counts, PhaseRuns([table] * 12, SHAPE), GRID, case.origin,
                                 4, case.offset, case.weights),
               TabulatedLikelihood(case.counts, PhaseRuns([table], SHAPE), 4, case.offset,
                                   case.weights))
    for ours, theirs in zip(*(kernel.evaluate(case.params, ROWS, curvature)
                              for kernel in kernels), strict=True):
        assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('curvature', CURVATURES)
def test_more_rows_than_one_block_holds_are_the_same_rows(curvature):
    rng = np.random.default_rng(5)
    n = 2 * star_kernel._BLOCK + 17
    origin = np.column_stack([rng.integers(-15, 40, n), rng.integers(-20, 45, n)])
    # Many in one cell between samples, each on another place of the detector.
    params = np.array([900.0, 3.6, 2.8, 6.0])[:, None] * rng.uniform(0.999, 1.001, (4, n))
    weights = (rng.uniform(size=(n, X.size)) > 0.1).astype(float)
    counts = rng.poisson(9.0, (n, X.size)) * weights
    offset = rng.uniform(0, 3, (n, X.size))
    likelihood = GriddedLikelihood(counts, RUNS, GRID, origin, 4, offset, weights)
    rows = rng.permutation(n)
    together = likelihood.evaluate(params, rows, curvature)
    for place in (0, star_kernel._BLOCK - 1, star_kernel._BLOCK, n - 1):
        alone = likelihood.evaluate(params[:, [place]], rows[[place]], curvature)
        for whole, part in zip(together, alone, strict=True):
            assert_allclose(whole[..., [place]], part, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('curvature', CURVATURES)
def test_nothing_depends_on_the_place_of_no_star(curvature):
    case = Case('plain')
    params = case.params.copy()
    params[0] = 1e-12
    _, gradient, information = case.likelihood.evaluate(params, ROWS, curvature)
    assert not gradient[1:3].any()
    assert not information[1:3].any()
    for row in ROWS:
        slope = 1 - case.counts[row] / params[3, row]
        shape = case.by_photutils([1.0, *params[1:, row]], row)
        assert_allclose(gradient[0, row], (shape * slope).sum(), rtol=1e-8)


def test_only_stars_whose_support_touches_the_stamp_are_valid():
    params = np.repeat([[900.0], [3.6], [2.8], [6.0]], 7, axis=1)
    # The small images reach 3.5 and 2.5 pixels from the star, and an eighth to fade.
    params[1, 1:4] = -3.6, -3.7, 7 + 3.7
    params[2, 4:6] = -2.6, -2.7
    params[2, 6] = np.nan
    likelihood = GriddedLikelihood(np.zeros((7, X.size)), SMALL_RUNS, GRID, np.zeros((7, 2)))
    assert_array_equal(likelihood.is_valid(params),
                       [True, True, False, False, True, False, False])


def test_evaluating_changes_neither_parameters_nor_counts():
    case = Case('everything')
    params, counts, origin = case.params.copy(), case.counts.copy(), case.origin.copy()
    for curvature in CURVATURES:
        case.likelihood.evaluate(case.params, ROWS, curvature)
    assert_array_equal(case.params, params)
    assert_array_equal(case.counts, counts)
    assert_array_equal(case.origin, origin)
