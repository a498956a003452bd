# Licensed under a 3-clause BSD style license - see LICENSE

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kpsf._kernels import gaussian
from kpsf._kernels.gaussian import GaussianLikelihood
from kpsf._kernels.poisson import deviance

SHAPE = (8, 9)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]].reshape(2, -1).astype(float)
TRUTH = np.array([900.0, 4.3, 3.4, 0.7, -0.15, 0.45, 6.0])
N = 5
CASES = ['plain', 'negative flux', 'masked', 'scalar offset', 'offset per pixel',
         'offset per stamp', 'counts below zero', 'empty', 'everything']


def psf(params):
    """Return the Gaussian on all pixels by its definition, for one set of parameters."""
    flux, x, y, a, b, c, _ = params
    dx, dy = X - x, Y - y
    return flux * np.sqrt(a * c - b * b) / np.pi * np.exp(
        -(a * dx * dx + 2 * b * dx * dy + c * dy * dy))


def mean_derivatives(params):
    """Return d mean / d params, (7, n_pixels), exact to the last digits by complex steps."""
    step = 1e-20
    return np.array([(psf(params + 1j * step * unit) + params[6] + 1j * step * unit[6]).imag
                     / step for unit in np.eye(7)])


class Case:
    """Counts and everything else that a likelihood needs, and its value by another formula."""

    def __init__(self, name, seed=8):
        rng = np.random.default_rng(seed)
        every = name == 'everything'
        spread = np.array([100, 0.4, 0.4, 0.1, 0.1, 0.1, 1.0])
        self.params = (TRUTH + rng.uniform(-1, 1, (N, 7)) * spread).T
        self.offset = np.zeros((N, X.size))
        self.weights = np.ones((N, X.size))
        given = 0.0
        if name == 'negative flux':
            self.params[0, ::2] = -40.0
            self.params[6] = 30.0
        if name == 'scalar offset':
            given = 3.5
        if name == 'offset per pixel':
            given = rng.uniform(0, 9, X.size)
        if name == 'offset per stamp' or every:
            given = rng.uniform(0, 9, (N, X.size))
        self.offset += given
        counts = rng.poisson([psf(TRUTH) + TRUTH[6] + row for row in self.offset]).astype(float)
        if name == 'counts below zero' or every:
            counts[:, ::7] = -rng.uniform(0, 5, counts[:, ::7].shape)
        if name == 'empty':
            counts[:, ::3] = 0.0
            counts[1] = 0.0
        if name == 'masked' or every:
            self.weights = (rng.uniform(size=counts.shape) > 0.3).astype(float)
            counts *= self.weights
        self.counts = counts
        self.likelihood = GaussianLikelihood(
            counts, SHAPE, given, None if self.weights.all() else self.weights)

    def mean(self, params, row):
        return psf(params) + params[6] + self.offset[row]

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
                         for step, unit in zip(steps, np.eye(7), strict=True)])


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
                        rtol=1e-9, atol=1e-9)
        assert_allclose(scaled(newton[:, :, row], fisher[:, :, row]),
                        scaled(case.second_derivatives(params, row), fisher[:, :, row]),
                        atol=2e-7)


@pytest.mark.parametrize('name', CASES)
def test_expected_information_and_variance_of_the_score_are_outer_products(name):
    case = Case(name)
    fisher, score = (case.likelihood.evaluate(case.params, np.arange(N), curvature)[2]
                     for curvature in ('fisher', 'score'))
    for row, params in enumerate(case.params.T):
        derivatives, mean = mean_derivatives(params), case.mean(params, row)
        expected = (derivatives * case.weights[row] / mean) @ derivatives.T
        assert_allclose(scaled(fisher[:, :, row], expected), scaled(expected, expected),
                        atol=1e-11)
        own = (derivatives * case.weights[row] * case.counts[row] / mean ** 2) @ derivatives.T
        assert_allclose(scaled(score[:, :, row], expected), scaled(own, expected), atol=1e-11)


def test_the_newton_matrix_of_simulated_counts_averages_to_the_expected_information():
    rng = np.random.default_rng(11)
    n = 20_000
    counts = rng.poisson(psf(TRUTH) + TRUTH[6], (n, X.size)).astype(float)
    likelihood = GaussianLikelihood(counts, SHAPE)
    params = np.repeat(TRUTH[:, None], n, axis=1)
    newton = likelihood.evaluate(params, np.arange(n), 'newton')[2]
    fisher = likelihood.evaluate(params[:, :1], np.arange(1), 'fisher')[2]
    error = newton.std(axis=2) / np.sqrt(n)
    away = np.abs(newton.mean(axis=2) - fisher[:, :, 0])
    # 28 different elements, none further away than 4 standard errors.
    assert (away < 4 * error + 1e-12).all()
    assert (error > 0).all()


def test_the_score_matrix_is_the_variance_of_the_gradient_under_a_wrong_psf():
    rng = np.random.default_rng(12)
    n = 20_000
    wrong = psf(TRUTH) * (1 + 0.4 * np.sin(2 * X)) + TRUTH[6]
    counts = rng.poisson(wrong, (n, X.size)).astype(float)
    params = np.repeat(TRUTH[:, None], n, axis=1)
    _, gradient, score = GaussianLikelihood(counts, SHAPE).evaluate(params, np.arange(n), 'score')
    score = score.mean(axis=2)
    # The variance of a variance estimate of n draws is 2 / n, that of a correlation less.
    assert_allclose(scaled(np.cov(gradient), score), scaled(score, score),
                    atol=4 * np.sqrt(2 / n))


def test_newton_and_observed_are_two_names_of_one_matrix():
    case = Case('everything')
    assert_array_equal(*(case.likelihood.evaluate(case.params, np.arange(N), name)[2]
                         for name in ('newton', 'observed')))


def test_counts_equal_to_the_mean_have_no_deviance_no_slope_and_the_expected_curvature():
    likelihood = GaussianLikelihood((psf(TRUTH) + TRUTH[6])[None], SHAPE)
    value, gradient, newton = likelihood.evaluate(TRUTH[:, None], np.zeros(1, int))
    fisher = likelihood.evaluate(TRUTH[:, None], np.zeros(1, int), 'fisher')[2]
    errors = 1 / np.sqrt(np.einsum('iim->im', fisher))
    assert abs(value[0]) < 1e-9
    assert_allclose(gradient * errors, 0, atol=1e-10)
    assert_allclose(scaled(newton[:, :, 0], fisher[:, :, 0]),
                    scaled(fisher[:, :, 0], fisher[:, :, 0]), atol=1e-10)


def test_a_likelihood_of_many_electrons_keeps_the_digits_of_a_small_step():
    params = TRUTH * [5e5, 1, 1, 1, 1, 1, 1e4]
    likelihood = GaussianLikelihood((psf(params) + params[6])[None], SHAPE)
    fisher = likelihood.evaluate(params[:, None], np.zeros(1, int), 'fisher')[2][:, :, 0]
    step = 1e-2 / np.sqrt(fisher[0, 0]) * np.eye(7)[0]
    value = likelihood.evaluate((params + step)[:, None], np.zeros(1, int))[0]
    # Half of (0.01 sigma)^2; -ln L itself is of the order of 1e10.
    assert_allclose(value, 0.5e-4, rtol=0.02)


def test_an_empty_stamp_has_the_sum_of_its_mean_and_finite_derivatives():
    likelihood = GaussianLikelihood(np.zeros((1, X.size)), SHAPE)
    value, gradient, newton = likelihood.evaluate(TRUTH[:, None], np.zeros(1, int))
    mean = psf(TRUTH) + TRUTH[6]
    assert_allclose(value, mean.sum(), rtol=1e-13)
    assert_allclose(gradient[[0, 6], 0], [psf(TRUTH).sum() / TRUTH[0], X.size], rtol=1e-12)
    # Without counts the likelihood is linear in flux and background.
    assert_allclose(newton[np.ix_([0, 6], [0, 6])], 0, atol=1e-12)


def test_underflowing_wings_without_a_background_stay_finite():
    params = np.array([1e5, 4.0, 4.0, 60.0, 0.0, 60.0, 0.0])
    counts = np.where(psf(params) > 0.5, np.round(psf(params)), 0.0)
    likelihood = GaussianLikelihood(counts[None], SHAPE)
    assert (psf(params) == 0).any()
    for curvature in ('newton', 'fisher', 'score'):
        value, gradient, information = likelihood.evaluate(params[:, None], np.zeros(1, int),
                                                           curvature)
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()
        assert np.isfinite(information[:6, :6]).all()


@pytest.mark.parametrize('flux', [0.0, 1e-25, 1e-12, -1e-12])
def test_gradient_and_expected_information_are_right_at_a_flux_of_zero(flux):
    case = Case('plain')
    params = case.params.copy()
    params[0] = flux
    _, gradient, fisher = case.likelihood.evaluate(params, np.arange(N), 'fisher')
    unit = params.copy()
    unit[0] = 1.0
    for row in range(N):
        shape, mean = psf(unit[:, row]), params[6, row]
        assert_allclose(gradient[0, row], (shape * (1 - case.counts[row] / mean)).sum(),
                        rtol=1e-9)
        assert_allclose(fisher[0, [0, 6], row], [(shape ** 2 / mean).sum(), (shape / mean).sum()],
                        rtol=1e-9)
        assert_allclose(gradient[1:6, row], 0, atol=1e-6)


@pytest.mark.parametrize('flux', [0.0, 1e-8, -1e-8])
def test_the_newton_matrix_is_right_at_a_flux_of_zero(flux):
    case = Case('plain')
    params = case.params.copy()
    params[0] = flux
    newton = case.likelihood.evaluate(params, np.arange(N))[2]
    for row in range(N):
        unit = params[:, row].copy()
        unit[0] = 1.0
        expected = (psf(unit) ** 2 * case.counts[row]).sum() / params[6, row] ** 2
        assert_allclose(newton[0, 0, row], expected, rtol=1e-5)


def test_a_mean_below_zero_has_no_likelihood():
    case = Case('plain')
    params = case.params.copy()
    params[0, 2] = -1000.0
    value = case.likelihood.evaluate(params, np.arange(N))[0]
    assert value[2] == np.inf
    assert np.isfinite(np.delete(value, 2)).all()


def test_only_finite_ellipses_near_the_stamp_are_valid():
    columns = np.repeat(TRUTH[:, None], 11, axis=1)
    columns[3, 1] = -0.7                        # a
    columns[5, 2] = -0.45                       # c
    columns[3:6, 3] = -0.7, 0.1, -0.45
    columns[4, 4] = np.sqrt(columns[3, 4] * columns[5, 4]) * 1.0001
    columns[1, 5] = np.nan
    columns[6, 6] = np.inf
    columns[1, 7] = 100.0
    columns[2, 8] = -100.0
    columns[1:3, 9] = -3.0, SHAPE[0] + 2.0      # outside of it is no harm
    columns[0, 10] = -3.0                       # nor is a negative flux
    valid = GaussianLikelihood(np.zeros((11, X.size)), SHAPE).is_valid(columns)
    assert_array_equal(valid, [True, *[False] * 8, True, True])


@pytest.mark.parametrize('curvature', ['newton', 'fisher', 'score'])
def test_more_rows_than_one_block_holds_are_the_same_rows(curvature):
    rng = np.random.default_rng(5)
    n = 2 * gaussian._BLOCK + 17
    counts = rng.poisson(psf(TRUTH) + TRUTH[6], (n, X.size)).astype(float)
    offset = rng.uniform(0, 3, (n, X.size))
    weights = (rng.uniform(size=counts.shape) > 0.1).astype(float)
    likelihood = GaussianLikelihood(counts * weights, SHAPE, offset, weights)
    params = TRUTH[:, None] * rng.uniform(0.95, 1.05, (7, n))
    rows = rng.permutation(n)
    together = likelihood.evaluate(params, rows, curvature)
    for place in (0, gaussian._BLOCK - 1, gaussian._BLOCK, n - 1):
        alone = likelihood.evaluate(params[:, [place]], rows[[place]], curvature)
        for whole, part in zip(together, alone, strict=True):
            # Batched products of matrices may add in another order.
            assert_allclose(whole[..., [place]], part, rtol=1e-9, atol=1e-9)


def test_mean_returns_the_psf_and_the_whole_mean():
    case = Case('offset per stamp')
    rows = np.array([3, 0, 3])
    star, mean = case.likelihood.mean(case.params[:, rows], rows)
    for place, row in enumerate(rows):
        assert_allclose(star[place], psf(case.params[:, row]), rtol=1e-12, atol=1e-300)
        assert_allclose(mean[place], case.mean(case.params[:, row], row), rtol=1e-12)


def test_evaluating_changes_neither_parameters_nor_counts():
    case = Case('everything')
    params, counts = case.params.copy(), case.counts.copy()
    for curvature in ('newton', 'fisher', 'score'):
        case.likelihood.evaluate(case.params, np.arange(N), curvature)
    assert_array_equal(case.params, params)
    assert_array_equal(case.counts, counts)


def test_counts_below_at_and_above_zero_in_one_stamp_have_a_finite_likelihood():
    params = np.array([[30.0, 4.0, 3.5, 0.5, 0.0, 0.5, 5.0]]).T
    counts = np.full(SHAPE, 6.0)
    counts[0, :3] = -1.0, 0.0, 1.0
    likelihood = GaussianLikelihood(counts.reshape(1, -1), SHAPE)
    value, gradient, information = likelihood.evaluate(params, np.zeros(1, int))
    _, mean = likelihood.mean(params, np.zeros(1, int))
    assert_allclose(value, 0.5 * deviance(likelihood.counts, mean).sum(), rtol=1e-12)
    assert np.isfinite(gradient).all()
    assert np.isfinite(information).all()
