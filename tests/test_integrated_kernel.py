# Licensed under a 3-clause BSD style license - see LICENSE

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import CircularGaussianPRF, CircularGaussianSigmaPRF, GaussianPRF
from scipy.special import erf, log_ndtr

from kpsf._kernels import star as star_kernel
from kpsf._kernels.integrated import IntegratedLikelihood, line_integrals
from kpsf._kernels.poisson import deviance

SHAPE = (8, 9)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]].reshape(2, -1).astype(float)
N = 5
ROWS = np.arange(N)
FWHM = 2 * np.sqrt(2 * np.log(2))
CASES = ['plain', 'negative flux', 'masked', 'scalar offset', 'offset per pixel',
         'offset per stamp', 'counts below zero', 'empty', 'everything']
CURVATURES = ['newton', 'observed', 'fisher', 'score']


class Kind:
    """A model of photutils, as the kernel takes it, and a truth to simulate it with."""

    def __init__(self, model, truth, n_widths, width_per_stddev):
        self.model, self.truth = model, np.array(truth)
        self.n_widths, self.width_per_stddev = n_widths, width_per_stddev
        self.n_params = len(truth)
        # A turned Gaussian has no kernel: its angle of 0 does nothing.
        self.used = [0, 1, 2, *range(3, 3 + n_widths), self.n_params - 1]

    def likelihood(self, counts, free_widths=True, **known):
        return IntegratedLikelihood(counts, SHAPE, self.n_widths, self.width_per_stddev,
                                    free_widths, self.n_params, **known)

    def psf(self, params):
        """Return the star on all pixels by its definition, for one set of parameters."""
        widths = params[3:3 + self.n_widths] / self.width_per_stddev
        along_x, along_y = (
            0.5 * (erf((place + 0.5) / np.sqrt(2) / width)
                   - erf((place - 0.5) / np.sqrt(2) / width))
            for place, width in ((X - params[1], widths[0]), (Y - params[2], widths[-1])))
        return params[0] * along_x * along_y

    def derivatives(self, params):
        """Return d mean / d params, (p, n_pixels), exact to the last digits by complex steps."""
        step = 1e-20
        return np.array([*(self.psf(params + 1j * step * unit).imag / step
                           for unit in np.eye(self.n_params)[:-1]), np.ones(X.size)])


KINDS = {
    'fwhm': Kind(CircularGaussianPRF(), [900.0, 4.3, 3.4, 2.1, 6.0], 1, FWHM),
    'sigma': Kind(CircularGaussianSigmaPRF(), [900.0, 4.3, 3.4, 0.8, 6.0], 1, 1.0),
    'two fwhm': Kind(GaussianPRF(), [900.0, 4.3, 3.4, 1.7, 2.6, 0.0, 6.0], 2, FWHM),
}


class Case:
    """Counts and everything else that a likelihood needs, and its value by another formula."""

    def __init__(self, kind, name, free_widths=True, seed=8):
        rng = np.random.default_rng(seed)
        every = name == 'everything'
        self.kind, p = kind, kind.n_params
        spread = np.array([100, 0.4, 0.4, *[0.3] * (p - 4), 1.0])
        self.params = (kind.truth + rng.uniform(-1, 1, (N, p)) * spread).T
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
        counts = rng.poisson(kind.psf(kind.truth) + kind.truth[-1] + self.offset).astype(float)
        if name == 'counts below zero' or every:
            counts[:, ::7] = -rng.uniform(0, 5, counts[:, ::7].shape)
        if name == 'empty':
            counts[:, ::3] = 0.0
            counts[1] = 0.0
        if name == 'masked' or every:
            self.weights = (rng.uniform(size=counts.shape) > 0.3).astype(float)
            counts *= self.weights
        self.counts = counts
        self.likelihood = kind.likelihood(
            counts, free_widths, offset=given,
            weights=None if self.weights.all() else self.weights)

    def mean(self, params, row):
        return self.kind.psf(params) + params[-1] + self.offset[row]

    def value(self, params, row):
        mean, k = self.mean(params, row), self.counts[row]
        log = np.log(np.abs(np.where(k == 0, 1.0, k)) / mean)
        return (self.weights[row] * (mean - k + k * log)).sum()

    def gradient(self, params, row):
        slope = self.weights[row] * (1 - self.counts[row] / self.mean(params, row))
        return self.kind.derivatives(params) @ slope

    def second_derivatives(self, params, row):
        steps = 1e-5 * np.maximum(np.abs(params), 1.0)
        return np.array([(self.gradient(params + step * unit, row)
                          - self.gradient(params - step * unit, row)) / (2 * step)
                         for step, unit in zip(steps, np.eye(len(params)), strict=True)])


def scaled(matrix, reference):
    """Return a matrix in units in which the diagonal of a reference is 1."""
    scale = 1 / np.sqrt(np.diag(reference))
    return matrix * scale * scale[:, None]


def edges_of(size, place):
    return (np.arange(size + 1) - 0.5 - place)[np.newaxis]


@pytest.fixture(params=list(KINDS))
def kind(request):
    return KINDS[request.param]


def test_images_are_those_of_photutils(kind):
    rng = np.random.default_rng(2)
    n = 40
    params = kind.truth[:, None] * rng.uniform(0.8, 1.2, (kind.n_params, n))
    params[1:3] = rng.uniform(-2, 10, (2, n))
    psf, mean = kind.likelihood(np.ones((n, X.size))).mean(params, np.arange(n))
    expected = np.array([kind.model.evaluate(X, Y, *column[:-1]) for column in params.T])
    # photutils subtracts error functions near 1, which leaves errors of their last digit.
    assert_allclose(psf, expected, rtol=1e-12, atol=1e-13 * params[0].max())
    assert_allclose(mean, psf + params[-1][:, None], rtol=1e-15)


@pytest.mark.parametrize('free_widths', [True, False])
@pytest.mark.parametrize('name', CASES)
def test_value_gradient_and_newton_matrix_are_those_of_the_definition(kind, name, free_widths):
    case = Case(kind, name, free_widths)
    value, gradient, newton = case.likelihood.evaluate(case.params, ROWS)
    fisher = case.likelihood.evaluate(case.params, ROWS, 'fisher')[2]
    used = np.array(kind.used if free_widths else [0, 1, 2, kind.n_params - 1])
    unused = np.setdiff1d(np.arange(kind.n_params), used)
    assert not gradient[unused].any()
    assert not newton[unused].any()
    assert not newton[:, unused].any()
    among = np.ix_(used, used)
    for row, params in enumerate(case.params.T):
        assert_allclose(value[row], case.value(params, row), rtol=1e-11)
        own = fisher[:, :, row][among]
        errors = 1 / np.sqrt(np.diag(own))
        assert_allclose(gradient[used, row] * errors, case.gradient(params, row)[used] * errors,
                        rtol=1e-9, atol=1e-9)
        assert_allclose(scaled(newton[:, :, row][among], own),
                        scaled(case.second_derivatives(params, row)[among], own), atol=2e-7)


@pytest.mark.parametrize('name', CASES)
def test_expected_information_and_variance_of_the_score_are_outer_products(kind, name):
    case = Case(kind, name)
    fisher, score = (case.likelihood.evaluate(case.params, ROWS, curvature)[2]
                     for curvature in ('fisher', 'score'))
    used = np.array(kind.used)
    for row, params in enumerate(case.params.T):
        derivatives, mean = kind.derivatives(params)[used], case.mean(params, row)
        expected = (derivatives * case.weights[row] / mean) @ derivatives.T
        assert_allclose(scaled(fisher[:, :, row][np.ix_(used, used)], expected),
                        scaled(expected, expected), atol=1e-11)
        own = (derivatives * case.weights[row] * case.counts[row] / mean ** 2) @ derivatives.T
        assert_allclose(scaled(score[:, :, row][np.ix_(used, used)], expected),
                        scaled(own, expected), atol=1e-11)


def test_the_newton_matrix_of_simulated_counts_averages_to_the_expected_information(kind):
    rng = np.random.default_rng(11)
    n = 8000
    counts = rng.poisson(kind.psf(kind.truth) + kind.truth[-1], (n, X.size)).astype(float)
    likelihood = kind.likelihood(counts)
    params = np.repeat(kind.truth[:, None], n, axis=1)
    newton = likelihood.evaluate(params, np.arange(n), 'newton')[2]
    fisher = likelihood.evaluate(params[:, :1], np.arange(1), 'fisher')[2]
    error = newton.std(axis=2) / np.sqrt(n)
    assert (np.abs(newton.mean(axis=2) - fisher[:, :, 0]) < 4 * error + 1e-12).all()
    assert (error[np.ix_(kind.used, kind.used)] > 0).all()


@pytest.mark.parametrize('curvature', CURVATURES)
def test_more_rows_than_one_block_holds_are_the_same_rows(kind, curvature):
    rng = np.random.default_rng(5)
    n = 2 * star_kernel._BLOCK + 17
    counts = rng.poisson(kind.psf(kind.truth) + kind.truth[-1], (n, X.size)).astype(float)
    offset = rng.uniform(0, 3, (n, X.size))
    weights = (rng.uniform(size=counts.shape) > 0.1).astype(float)
    likelihood = kind.likelihood(counts * weights, offset=offset, weights=weights)
    params = kind.truth[:, None] * rng.uniform(0.95, 1.05, (kind.n_params, n))
    rows = rng.permutation(n)
    together = likelihood.evaluate(params, rows, curvature)
    for place in (0, star_kernel._BLOCK - 1, star_kernel._BLOCK, n - 1):
        alone = likelihood.evaluate(params[:, [place]], rows[[place]], curvature)
        for whole, part in zip(together, alone, strict=True):
            # Batched products of matrices may add in another order.
            assert_allclose(whole[..., [place]], part, rtol=1e-9, atol=1e-9)
    psf, mean = likelihood.mean(params, rows)
    assert_allclose(psf[n - 1], kind.psf(params[:, n - 1]), rtol=1e-12, atol=1e-13)
    assert_allclose(mean[n - 1], psf[n - 1] + params[-1, n - 1] + offset[rows[n - 1]],
                    rtol=1e-15)


@pytest.mark.parametrize('flux', [0.0, 1e-12, -1e-12])
@pytest.mark.parametrize('curvature', CURVATURES)
def test_nothing_depends_on_the_place_and_the_width_of_no_star(kind, flux, curvature):
    case = Case(kind, 'plain')
    params = case.params.copy()
    params[0] = flux
    _, gradient, information = case.likelihood.evaluate(params, ROWS, curvature)
    assert not gradient[1:-1].any()
    assert not information[1:-1].any()
    assert not information[:, 1:-1].any()
    unit = params.copy()
    unit[0] = 1.0
    for row in ROWS:
        shape = kind.psf(unit[:, row])
        slope = 1 - case.counts[row] / params[-1, row]
        assert_allclose(gradient[[0, -1], row], [(shape * slope).sum(), slope.sum()], rtol=1e-9)


def test_only_positive_widths_near_the_stamp_are_valid(kind):
    columns = np.repeat(kind.truth[:, None], 10, axis=1)
    columns[3, 1:3] = 0.0, -1.0
    columns[2 + kind.n_widths, 3] = -1e-3
    columns[3, 4] = np.nan
    columns[-1, 5] = np.inf
    columns[1, 6] = 100.0
    columns[2, 7] = -100.0
    columns[1:3, 8] = -3.0, SHAPE[0] + 2.0      # outside of it is no harm
    columns[0, 9] = -3.0                        # nor is a negative flux
    valid = kind.likelihood(np.zeros((10, X.size))).is_valid(columns)
    assert_array_equal(valid, [True, *[False] * 7, True, True])


def test_a_held_width_that_is_none_is_not_valid_either(kind):
    columns = np.repeat(kind.truth[:, None], 2, axis=1)
    columns[2 + kind.n_widths, 1] = 0.0
    likelihood = kind.likelihood(np.zeros((2, X.size)), free_widths=False)
    assert_array_equal(likelihood.is_valid(columns), [True, False])


def test_any_angle_is_valid_as_it_does_nothing():
    two = KINDS['two fwhm']
    columns = np.repeat(two.truth[:, None], 3, axis=1)
    columns[5] = -90.0, 0.0, 370.0
    likelihood = two.likelihood(np.ones((3, X.size)))
    assert likelihood.is_valid(columns).all()
    psf = likelihood.mean(columns, np.arange(3))[0]
    assert_array_equal(psf, psf[[0, 0, 0]])


@pytest.mark.parametrize('free_widths', [True, False])
def test_counts_below_at_and_above_zero_in_one_stamp_have_a_finite_likelihood(kind, free_widths):
    counts = np.full(X.size, 6.0)
    counts[:3] = -1.0, 0.0, 1.0
    likelihood = kind.likelihood(counts[None], free_widths)
    value, gradient, information = likelihood.evaluate(kind.truth[:, None], np.zeros(1, int))
    _, mean = likelihood.mean(kind.truth[:, None], np.zeros(1, int))
    assert_allclose(value, 0.5 * deviance(counts, mean).sum(), rtol=1e-12)
    assert np.isfinite(gradient).all()
    assert np.isfinite(information).all()


def test_evaluating_changes_neither_parameters_nor_counts(kind):
    case = Case(kind, 'everything')
    params, counts = case.params.copy(), case.counts.copy()
    for curvature in CURVATURES:
        case.likelihood.evaluate(case.params, ROWS, curvature)
    assert_array_equal(case.params, params)
    assert_array_equal(case.counts, counts)


@pytest.mark.parametrize('stddev', [0.02, 0.3, 1.0, 3.0])
@pytest.mark.parametrize('place', [0.0, 0.5, -2.37, 41.2])
def test_pixels_of_a_long_line_hold_the_whole_star(stddev, place):
    share = line_integrals(edges_of(101, place + 30), np.array([[stddev]]), False)[0]
    assert_allclose(share.sum(), 1, rtol=1e-14)
    assert (share >= 0).all()


@pytest.mark.parametrize('stddev', [0.3, 0.9, 2.0])
def test_the_far_wings_keep_their_digits_on_both_sides(stddev):
    # Up to 36 standard deviations: 1e-285 of the star.
    n = int(36 * stddev)
    low = (np.arange(n) + 0.5) / stddev
    width = np.array([[stddev]])
    # The logarithm of the smaller tail has all digits wherever it is.
    inner, outer = log_ndtr(-low), log_ndtr(-(low + 1 / stddev))
    expected = np.exp(inner + np.log1p(-np.exp(outer - inner)))
    right = line_integrals(edges_of(n, -1.0), width, False)[0, 0]
    left = line_integrals(edges_of(n, n), width, False)[0, 0]
    assert expected.min() < 1e-200
    assert_allclose(right, expected, rtol=2e-12)
    assert_allclose(left[::-1], expected, rtol=2e-12)


@pytest.mark.parametrize('stddev', [0.3, 0.9, 2.0])
def test_derivatives_are_differences_of_the_integrals_in_the_wings_too(stddev):
    n, step, width = int(50 * stddev), 1e-5 * stddev, np.array([[stddev]])
    lines = line_integrals(edges_of(n, 0.4 * n), width, True)

    def difference(order, by_place, by_width):
        up, down = (line_integrals(edges_of(n, 0.4 * n + s * by_place), width + s * by_width,
                                   True)[order] for s in (step, -step))
        return (up - down) / (2 * step)

    for derivative, of, moves in ((1, 0, (1, 0)), (2, 1, (1, 0)), (3, 0, (0, 1)),
                                  (4, 3, (1, 0)), (5, 3, (0, 1))):
        # Relative to the pixel's own value and the width: the wings count as the core does.
        size = lines[0] / stddev ** (2 if derivative in (2, 4, 5) else 1)
        assert size.min() < 1e-100
        assert_allclose(lines[derivative] / size, difference(of, *moves) / size, rtol=1e-4,
                        atol=1e-6)


def test_without_widths_the_integrals_are_the_same():
    width = np.array([[0.9], [1.7]])
    edges = np.concatenate([edges_of(12, 4.2), edges_of(12, 7.7)])
    with_widths = line_integrals(edges, width, True)
    assert with_widths.shape == (6, 2, 12)
    assert_array_equal(line_integrals(edges, width, False), with_widths[:3])
