# Licensed under a 3-clause BSD style license - see LICENSE

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import CircularGaussianPSF, GaussianPSF

from kpsf._kernels import gaussian
from kpsf._kernels.widths import WidthsLikelihood, shape_of_widths

SHAPE = (8, 9)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]].reshape(2, -1).astype(float)
N = 5
ROWS = np.arange(N)
CASES = ['plain', 'negative flux', 'masked', 'scalar offset', 'offset per pixel',
         'offset per stamp', 'counts below zero', 'empty', 'everything']
CURVATURES = ['newton', 'observed', 'fisher', 'score']
ROUND = np.array([900.0, 4.3, 3.4, 2.1, 6.0])
TURNED = np.array([900.0, 4.3, 3.4, 1.7, 2.9, 25.0, 6.0])
TRUTHS = {'round': ROUND, 'turned': TURNED,
          'steep': TURNED + [0, 0, 0, 0, 0, 70, 0], 'backwards': TURNED - [0, 0, 0, 0, 0, 250, 0],
          'upright': TURNED * [1, 1, 1, 1, 1, 0, 1]}


def psf(params):
    """Return the Gaussian on all pixels by its definition, for one set of parameters."""
    flux, x, y, *widths, _ = params
    along, across = np.array([widths[0], widths[1] if len(widths) == 3 else widths[0]]) / np.sqrt(
        8 * np.log(2))
    angle = widths[2] * np.pi / 180 if len(widths) == 3 else 0.0
    u = (X - x) * np.cos(angle) + (Y - y) * np.sin(angle)
    v = (Y - y) * np.cos(angle) - (X - x) * np.sin(angle)
    return flux / (2 * np.pi * along * across) * np.exp(
        -0.5 * ((u / along) ** 2 + (v / across) ** 2))


def mean_derivatives(params):
    """Return d mean / d params, (p, n_pixels), exact to the last digits by complex steps."""
    step = 1e-20
    return np.array([*(psf(params + 1j * step * unit).imag / step
                       for unit in np.eye(len(params))[:-1]), np.ones(X.size)])


def make(truth, counts, **known):
    return WidthsLikelihood(counts, SHAPE, len(truth) - 4, **known)


class Case:
    """Counts and everything else that a likelihood needs, and its value by another formula."""

    def __init__(self, truth, name, seed=8):
        rng = np.random.default_rng(seed)
        every, p = name == 'everything', len(truth)
        spread = np.array([100, 0.4, 0.4, 0.2, 0.2, 9.0])
        self.params = (truth + rng.uniform(-1, 1, (N, p)) * [*spread[:p - 1], 1.0]).T
        self.offset = np.zeros((N, X.size))
        self.weights = np.ones((N, X.size))
        given = 0.0
        if name == 'negative flux':
            self.params[0, ::2] = -40.0
            self.params[-1] = 30.0
        if name == 'scalar offset':
            given = 3.5
        if name == 'offset per pixel':
            given = rng.uniform(0, 9, X.size)
        if name == 'offset per stamp' or every:
            given = rng.uniform(0, 9, (N, X.size))
        self.offset += given
        counts = rng.poisson(psf(truth) + truth[-1] + self.offset).astype(float)
        if name == 'counts below zero' or every:
            counts[:, ::7] = -rng.uniform(0, 5, counts[:, ::7].shape)
        if name == 'empty':
            counts[:, ::3] = 0.0
            counts[1] = 0.0
        if name == 'masked' or every:
            self.weights = (rng.uniform(size=counts.shape) > 0.3).astype(float)
            counts *= self.weights
        self.counts = counts
        self.likelihood = make(truth, counts, offset=given,
                               weights=None if self.weights.all() else self.weights)

    def mean(self, params, row):
        return psf(params) + params[-1] + self.offset[row]

    def value(self, params, row):
        mean, k = self.mean(params, row), self.counts[row]
        log = np.log(np.abs(np.where(k == 0, 1.0, k)) / mean)
        return (self.weights[row] * (mean - k + k * log)).sum()

    def gradient(self, params, row):
        slope = self.weights[row] * (1 - self.counts[row] / self.mean(params, row))
        return mean_derivatives(params) @ slope

    def second_derivatives(self, params, row):
        steps = 1e-5 * np.maximum(np.abs(params), 1.0)
        return np.array([(self.gradient(params + step * unit, row)
                          - self.gradient(params - step * unit, row)) / (2 * step)
                         for step, unit in zip(steps, np.eye(len(params)), strict=True)])


def scaled(matrix, reference):
    """Return a matrix in units in which the diagonal of a reference is 1."""
    scale = 1 / np.sqrt(np.diag(reference))
    return matrix * scale * scale[:, None]


@pytest.fixture(params=list(TRUTHS))
def truth(request):
    return TRUTHS[request.param]


@pytest.mark.parametrize(('model', 'p'), [(CircularGaussianPSF(), 5), (GaussianPSF(), 7)])
def test_images_are_those_of_photutils_at_any_angle(model, p):
    rng = np.random.default_rng(2)
    n = 60
    params = np.array([rng.uniform(10, 1e4, n), *rng.uniform(-2, 10, (2, n)),
                       *rng.uniform(1.2, 4.0, (2, n)), rng.uniform(-400, 400, n)])[:p - 1]
    params = np.concatenate([params, rng.uniform(0, 9, (1, n))])
    likelihood = WidthsLikelihood(np.ones((n, X.size)), SHAPE, p - 4)
    star, mean = likelihood.mean(params, np.arange(n))
    expected = [model.evaluate(X, Y, *column[:-1]) for column in params.T]
    assert_allclose(star, expected, rtol=1e-11)
    assert_allclose(mean, star + params[-1][:, None], rtol=1e-15)


@pytest.mark.parametrize('name', CASES)
def test_value_gradient_and_newton_matrix_are_those_of_the_definition(truth, name):
    case = Case(truth, name)
    value, gradient, newton = case.likelihood.evaluate(case.params, ROWS)
    fisher = case.likelihood.evaluate(case.params, ROWS, 'fisher')[2]
    for row, params in enumerate(case.params.T):
        assert_allclose(value[row], case.value(params, row), rtol=1e-11)
        errors = 1 / np.sqrt(np.diag(fisher[:, :, row]))
        assert_allclose(gradient[:, row] * errors, case.gradient(params, row) * errors,
                        rtol=1e-9, atol=1e-9)
        assert_allclose(scaled(newton[:, :, row], fisher[:, :, row]),
                        scaled(case.second_derivatives(params, row), fisher[:, :, row]),
                        atol=2e-7)


@pytest.mark.parametrize('name', CASES)
def test_expected_information_and_variance_of_the_score_are_outer_products(truth, name):
    case = Case(truth, name)
    fisher, score = (case.likelihood.evaluate(case.params, ROWS, curvature)[2]
                     for curvature in ('fisher', 'score'))
    for row, params in enumerate(case.params.T):
        derivatives, mean = mean_derivatives(params), case.mean(params, row)
        expected = (derivatives * case.weights[row] / mean) @ derivatives.T
        assert_allclose(scaled(fisher[:, :, row], expected), scaled(expected, expected),
                        atol=1e-11)
        own = (derivatives * case.weights[row] * case.counts[row] / mean ** 2) @ derivatives.T
        assert_allclose(scaled(score[:, :, row], expected), scaled(own, expected), atol=1e-11)


@pytest.mark.parametrize('name', CASES)
def test_newton_and_observed_are_two_names_of_one_matrix(truth, name):
    case = Case(truth, name)
    assert_array_equal(*(case.likelihood.evaluate(case.params, ROWS, curvature)[2]
                         for curvature in ('newton', 'observed')))


@pytest.mark.parametrize('widths', [[2.1], [1.7, 2.9, 25.0], [3.3, 1.4, -160.0], [2.0, 2.0, 33.0]])
def test_a_b_c_and_their_derivatives_are_those_of_the_turned_ellipse(widths):
    widths = np.array(widths)
    shape, first, second = shape_of_widths(widths[:, None])
    steps = 1e-5 * widths
    assert shape.shape == (3, 1)
    assert first.shape == (3, len(widths), 1)
    assert second.shape == (3, len(widths), len(widths), 1)
    angle = np.deg2rad(widths[2]) if len(widths) == 3 else 0.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stddev = np.array([widths[0], widths[min(1, len(widths) - 1)]]) / np.sqrt(8 * np.log(2))
    half_precision = turn @ np.diag(0.5 / stddev ** 2) @ turn.T
    assert_allclose(shape[:, 0], half_precision[[0, 0, 1], [0, 1, 1]], rtol=1e-13, atol=1e-16)
    for s, step in enumerate(steps):
        shift = step * np.eye(len(widths))[:, [s]]
        up, down = (shape_of_widths(widths[:, None] + d) for d in (shift, -shift))
        assert_allclose(first[:, s], (up[0] - down[0]) / (2 * step), rtol=1e-7, atol=1e-10)
        assert_allclose(second[:, :, s], (up[1] - down[1]) / (2 * step), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize('curvature', CURVATURES)
def test_the_angle_of_a_round_gaussian_has_no_information_but_the_rest_is_right(curvature):
    case = Case(ROUND, 'everything')
    circle = case.params
    known = {'offset': case.offset, 'weights': case.weights}
    params = np.array([*circle[:4], circle[3], np.linspace(-70, 200, N), circle[4]])
    value, gradient, information = make(TURNED, case.counts, **known).evaluate(params, ROWS,
                                                                               curvature)
    # Of all others, in units of what they know: rounding alone is left.
    size = np.sqrt(np.einsum('iim->im', case.likelihood.evaluate(circle, ROWS, 'fisher')[2]))
    assert (np.abs(gradient[5]) < 1e-12 * size[3]).all()
    assert (np.abs(information[5, 5]) < 1e-12 * size[3] ** 2).all()
    assert (np.abs(information[5, :3]) < 1e-12 * size[3] * size[:3]).all()
    expected = case.likelihood.evaluate(circle, ROWS, curvature)
    assert_allclose(value, expected[0], rtol=1e-13)
    # Both widths together are the one.
    together = np.zeros((5, 7))
    together[[0, 1, 2, 3, 3, 4], [0, 1, 2, 3, 4, 6]] = 1.0
    assert_allclose(together @ gradient / size, expected[1] / size, rtol=1e-11, atol=1e-11)
    joined = np.einsum('ik,klm,jl->ijm', together, information, together)
    assert_allclose(joined / (size[:, None] * size), expected[2] / (size[:, None] * size),
                    atol=1e-11)


def test_the_angle_and_unequal_widths_turn_into_each_other():
    # The first axis at 100 degrees is the second one at 10.
    case = Case(TURNED, 'masked')
    other = case.params[[0, 1, 2, 4, 3, 5, 6]]
    other[5] += 90
    swap = np.array([0, 1, 2, 4, 3, 5, 6])
    for curvature in CURVATURES:
        value, gradient, information = case.likelihood.evaluate(case.params, ROWS, curvature)
        turned = case.likelihood.evaluate(other, ROWS, curvature)
        assert_allclose(turned[0], value, rtol=1e-12)
        scale = np.sqrt(np.einsum('iim->im', case.likelihood.evaluate(case.params, ROWS,
                                                                      'fisher')[2]))
        assert_allclose(turned[1][swap] / scale, gradient / scale, atol=1e-10)
        assert_allclose(turned[2][np.ix_(swap, swap)] / (scale[:, None] * scale),
                        information / (scale[:, None] * scale), atol=1e-10)


@pytest.mark.parametrize('curvature', CURVATURES)
def test_more_rows_than_one_block_holds_are_the_same_rows(truth, curvature):
    rng = np.random.default_rng(5)
    n = 2 * gaussian._BLOCK + 17
    counts = rng.poisson(psf(truth) + truth[-1], (n, X.size)).astype(float)
    offset = rng.uniform(0, 3, (n, X.size))
    weights = (rng.uniform(size=counts.shape) > 0.1).astype(float)
    likelihood = make(truth, counts * weights, offset=offset, weights=weights)
    params = truth[:, None] * rng.uniform(0.95, 1.05, (len(truth), n))
    rows = rng.permutation(n)
    together = likelihood.evaluate(params, rows, curvature)
    for place in (0, gaussian._BLOCK - 1, gaussian._BLOCK, n - 1):
        alone = likelihood.evaluate(params[:, [place]], rows[[place]], curvature)
        for whole, part in zip(together, alone, strict=True):
            # Batched products of matrices may add in another order.
            assert_allclose(whole[..., [place]], part, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('flux', [0.0, 1e-12, -1e-12])
def test_gradient_and_expected_information_are_right_at_a_flux_of_zero(truth, flux):
    case = Case(truth, 'plain')
    params = case.params.copy()
    params[0] = flux
    _, gradient, fisher = case.likelihood.evaluate(params, ROWS, 'fisher')
    unit = params.copy()
    unit[0] = 1.0
    for row in ROWS:
        shape, mean = psf(unit[:, row]), params[-1, row]
        assert_allclose(gradient[0, row], (shape * (1 - case.counts[row] / mean)).sum(),
                        rtol=1e-9)
        assert_allclose(fisher[0, [0, -1], row], [(shape ** 2 / mean).sum(),
                                                  (shape / mean).sum()], rtol=1e-9)
        assert_allclose(gradient[1:-1, row], 0, atol=1e-6)


@pytest.mark.parametrize('truth', [ROUND, TURNED])
def test_only_positive_widths_near_the_stamp_are_valid(truth):
    columns = np.repeat(truth[:, None], 11, axis=1)
    last_width = 3 if len(truth) == 5 else 4
    columns[3, 1] = 0.0
    # Its square, and so a, b and c, are as before.
    columns[3, 2] = -truth[3]
    columns[last_width, 3] = -truth[last_width]
    columns[last_width, 4] = 0.0
    columns[3, 5] = np.nan
    columns[-1, 6] = np.inf
    columns[1, 7] = 100.0
    columns[2, 8] = -100.0
    columns[1:3, 9] = -3.0, SHAPE[0] + 2.0      # outside of it is no harm
    columns[0, 10] = -3.0                       # nor is a negative flux
    valid = make(truth, np.zeros((11, X.size))).is_valid(columns)
    assert_array_equal(valid, [True, *[False] * 8, True, True])


def test_the_angle_may_be_any_number():
    columns = np.repeat(TURNED[:, None], 5, axis=1)
    columns[5] = -300.0, -90.0, 0.0, 1e3, np.nan
    valid = make(TURNED, np.zeros((5, X.size))).is_valid(columns)
    assert_array_equal(valid, [True, True, True, True, False])


def test_evaluating_changes_neither_parameters_nor_counts(truth):
    case = Case(truth, 'everything')
    params, counts = case.params.copy(), case.counts.copy()
    for curvature in CURVATURES:
        case.likelihood.evaluate(case.params, ROWS, curvature)
    assert_array_equal(case.params, params)
    assert_array_equal(case.counts, counts)
