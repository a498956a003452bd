# Licensed under a 3-clause BSD style license - see LICENSE

import numpy as np
import pytest
from astropy.modeling import Fittable2DModel, Parameter
from astropy.modeling.models import Const2D, Gaussian2D, Moffat2D
from numpy.testing import assert_allclose, assert_array_equal

from kpsf import EllipticalGaussianPSF
from kpsf._kernels.broadcast import BroadcastLikelihood
from kpsf._kernels.gaussian import GaussianLikelihood
from kpsf.models import position_names, scale_name
from kpsf.stamps.model_functions import StampModel

SHAPE = (8, 9)
N_PIXELS = 72
TRUTH = np.array([900.0, 4.3, 3.4, 0.7, -0.15, 0.45, 6.0])
N = 6
ROWS = np.arange(N)


class LoopingGaussian(Fittable2DModel):
    """A model that takes single numbers only."""

    amplitude = Parameter(default=100.0)
    x_0 = Parameter(default=4.0)
    y_0 = Parameter(default=3.5)
    width = Parameter(default=1.1)

    @staticmethod
    def evaluate(x, y, amplitude, x_0, y_0, width):
        if np.size(x_0) > 1:
            raise ValueError('one star at a time')
        return np.ravel(amplitude) * np.exp(
            -0.5 * ((x - np.ravel(x_0)) ** 2 + (y - np.ravel(y_0)) ** 2)
            / float(np.ravel(width)[0]) ** 2)


class SilentlyWrongWhenBroadcast(LoopingGaussian):
    """A model that takes columns, but uses the first one's width for all."""

    @staticmethod
    def evaluate(x, y, amplitude, x_0, y_0, width):
        return amplitude * np.exp(-0.5 * ((x - x_0) ** 2 + (y - y_0) ** 2)
                                  / float(np.ravel(width)[0]) ** 2)


class WrongDerivative(EllipticalGaussianPSF):
    """A model whose ``fit_deriv`` has the sign of one column wrong."""

    @staticmethod
    def fit_deriv(x, y, flux, x_0, y_0, a, b, c):
        columns = EllipticalGaussianPSF.fit_deriv(x, y, flux, x_0, y_0, a, b, c)
        columns[1] = -columns[1]
        return columns


class RaisingDerivative(EllipticalGaussianPSF):
    """A model whose ``fit_deriv`` raises."""

    @staticmethod
    def fit_deriv(x, y, *params):
        raise RuntimeError('not today')


class ShortDerivative(EllipticalGaussianPSF):
    """A model whose ``fit_deriv`` lacks the last column."""

    @staticmethod
    def fit_deriv(x, y, flux, x_0, y_0, a, b, c):
        return EllipticalGaussianPSF.fit_deriv(x, y, flux, x_0, y_0, a, b, c)[:-1]


class SquaredAmplitude(LoopingGaussian):
    """A model that its amplitude does not scale."""

    @staticmethod
    def evaluate(x, y, amplitude, x_0, y_0, width):
        return LoopingGaussian.evaluate(x, y, amplitude ** 2, x_0, y_0, width)


class OnPedestal(LoopingGaussian):
    """A model with light that is no part of its star."""

    @staticmethod
    def evaluate(x, y, amplitude, x_0, y_0, width):
        return 0.1 + LoopingGaussian.evaluate(x, y, amplitude, x_0, y_0, width)


def starting_model():
    return EllipticalGaussianPSF(*TRUTH[:6])


def make_pair(seed=3, offset=0.0, masked=False, analytic=True, **kwargs):
    """Return both kernels' likelihood of the same stamps, and parameters near the truth."""
    rng = np.random.default_rng(seed)
    params = TRUTH[:, None] * rng.uniform(0.9, 1.1, (7, N))
    star = StampModel(starting_model(), SHAPE)
    counts = rng.poisson(star(TRUTH[:6, None]) + 6.0 + offset, (N, N_PIXELS)).astype(float)
    weights = (rng.uniform(size=counts.shape) > 0.2).astype(float) if masked else None
    if masked:
        counts *= weights
    generic = BroadcastLikelihood(counts, star, 7, offset=offset, weights=weights,
                                  derivative=star.derivative if analytic else None, **kwargs)
    return generic, GaussianLikelihood(counts, SHAPE, offset, weights), params


def scaled(matrix, fisher):
    """Return batches of matrices in units in which the Fisher matrix has a diagonal of 1."""
    scale = 1 / np.sqrt(np.einsum('iim->im', fisher))
    return matrix * scale[:, None] * scale


def offsets():
    rng = np.random.default_rng(4)
    return [0.0, 2.5, rng.uniform(0, 5, N_PIXELS), rng.uniform(0, 5, (N, N_PIXELS))]


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('offset', offsets(), ids=['none', 'scalar', 'per pixel', 'per stamp'])
@pytest.mark.parametrize('curvature', ['newton', 'fisher', 'score', 'observed'])
def test_both_kernels_see_the_same_likelihood(offset, masked, curvature):
    generic, gaussian, params = make_pair(offset=offset, masked=masked)
    rows = ROWS[::-1]
    value, gradient, information = generic.evaluate(params, rows, curvature)
    expected = gaussian.evaluate(params, rows, curvature)
    fisher = gaussian.evaluate(params, rows, 'fisher')[2]
    errors = 1 / np.sqrt(np.einsum('iim->im', fisher))
    assert_allclose(value, expected[0], rtol=1e-11)
    assert_allclose(gradient * errors, expected[1] * errors, rtol=1e-9, atol=1e-9)
    if curvature == 'newton':
        # Without second derivatives of the function, exact for the background only.
        assert_allclose(scaled(information, fisher)[6, 6], scaled(expected[2], fisher)[6, 6],
                        rtol=1e-9)
        assert_allclose(information[:6, :6], fisher[:6, :6], rtol=1e-8, atol=1e-8)
    else:
        tolerance = 1e-5 if curvature == 'observed' else 1e-9
        assert_allclose(scaled(information, fisher), scaled(expected[2], fisher), atol=tolerance)


def test_numerical_derivatives_lead_to_the_analytic_results():
    generic, _, params = make_pair()
    numerical, _, _ = make_pair(analytic=False)
    fisher = generic.evaluate(params, ROWS, 'fisher')[2]
    errors = 1 / np.sqrt(np.einsum('iim->im', fisher))
    # The first time with steps in units of the values, then in units of the errors.
    for _ in range(2):
        for curvature in ('fisher', 'newton', 'score'):
            _, gradient, information = generic.evaluate(params, ROWS, curvature)
            _, by_steps, also = numerical.evaluate(params, ROWS, curvature)
            assert_allclose(by_steps * errors, gradient * errors, atol=3e-3)
            assert_allclose(scaled(also, fisher), scaled(information, fisher), atol=1e-3)


@pytest.mark.parametrize('far', [0.0, 1e4, 2.45e6])
def test_numerical_derivatives_do_not_depend_on_where_zero_is(far):
    # A flare of an hour, timed to ten seconds, on an axis that starts long ago.
    rng = np.random.default_rng(6)
    x = 0.02 * np.arange(40)

    def flare(params, rows=None):
        since = x - (params[1] - far)[:, None]
        return params[0][:, None] * np.exp(-0.5 * (since / 0.06) ** 2)

    params = np.array([[9.9e4], [far + 0.4002], [2.5]])
    counts = rng.poisson(flare(np.array([[1e5], [far + 0.4]])) + 3).astype(float)
    likelihood = BroadcastLikelihood(counts, flare, 3)
    shape = flare(params)[0]
    slope = 1 - counts[0] / (shape + 2.5)
    expected = (shape * (x - 0.4002) / 0.06 ** 2 * slope).sum()
    likelihood.evaluate(params, [0])              # the first steps are in units of the values
    for _ in range(4):
        assert_allclose(likelihood.evaluate(params, [0])[1][1, 0], expected, rtol=0.01)


def test_parameters_that_do_not_move_have_no_derivatives():
    generic, _, params = make_pair(analytic=False, moving=[0, 2])
    whole, _, _ = make_pair(analytic=False)
    _, gradient, information = generic.evaluate(params, ROWS, 'fisher')
    _, expected, matrix = whole.evaluate(params, ROWS, 'fisher')
    assert not gradient[[1, 3, 4, 5]].any()
    assert not information[[1, 3, 4, 5]].any()
    moving = [0, 2, 6]
    assert_array_equal(gradient[moving], expected[moving])
    assert_array_equal(information[np.ix_(moving, moving)], matrix[np.ix_(moving, moving)])


@pytest.mark.parametrize('curvature', ['newton', 'fisher', 'score', 'observed'])
def test_a_parameter_that_all_is_proportional_to_needs_no_differences(curvature):
    exact, _, params = make_pair()
    by_steps, _, _ = make_pair(analytic=False)
    linear, _, _ = make_pair(analytic=False, linear=[0])
    fisher = exact.evaluate(params, ROWS, 'fisher')[2]
    size = np.sqrt(np.einsum('iim->im', fisher))
    value, gradient, information = linear.evaluate(params, ROWS, curvature)
    expected = exact.evaluate(params, ROWS, curvature)
    assert_array_equal(value, expected[0])
    assert_allclose(gradient[0] / size[0], expected[1][0] / size[0], rtol=1e-12, atol=1e-12)
    assert_array_equal(gradient[1:], by_steps.evaluate(params, ROWS, curvature)[1][1:])
    tolerance = 1e-3 if curvature == 'observed' else 1e-12
    assert_allclose(scaled(information, fisher)[0, 0], scaled(expected[2], fisher)[0, 0],
                    atol=tolerance)


def test_the_function_is_not_called_for_the_derivative_by_a_proportional_parameter():
    calls = []
    star = StampModel(starting_model(), SHAPE)

    def counted(params, rows):
        calls.append(params)
        return star(params, rows)

    params = np.repeat(TRUTH[:, None], N, axis=1)
    for linear, n_calls in (([], 7), ([0], 6)):
        calls.clear()
        BroadcastLikelihood(np.ones((N, N_PIXELS)), counted, 7, linear=linear).evaluate(
            params, ROWS, 'fisher')
        assert len(calls) == n_calls


def test_where_one_flux_is_zero_its_derivative_is_a_difference():
    exact, _, params = make_pair()
    linear, _, _ = make_pair(analytic=False, linear=[0])
    params[0, 2] = 0.0
    size = np.sqrt(exact.evaluate(params, ROWS, 'fisher')[2][0, 0])
    found, expected = (kernel.evaluate(params, ROWS, 'fisher')[1][0] for kernel in (linear, exact))
    assert_allclose(found / size, expected / size, atol=1e-3)


def test_more_rows_than_one_block_holds_are_the_same_rows():
    rng = np.random.default_rng(9)
    n = 200
    star = StampModel(starting_model(), SHAPE)
    counts = rng.poisson(star(TRUTH[:6, None]) + 6.0, (n, N_PIXELS)).astype(float)
    likelihood = BroadcastLikelihood(counts, star, 7, derivative=star.derivative)
    assert 1 < likelihood._block_rows < n // 2
    params = TRUTH[:, None] * rng.uniform(0.95, 1.05, (7, n))
    rows = rng.permutation(n)
    together = likelihood.evaluate(params, rows, 'newton')
    for place in (0, likelihood._block_rows, n - 1):
        alone = likelihood.evaluate(params[:, [place]], rows[[place]], 'newton')
        for whole, part in zip(together, alone, strict=True):
            assert_allclose(whole[..., [place]], part, rtol=1e-10, atol=1e-10)


def test_a_mean_below_zero_has_a_finite_value_and_the_gradient_of_it():
    generic, _, params = make_pair(seed=7)
    params[0] = -3000.0                       # 300 electrons below zero at the peak
    value, gradient, _ = generic.evaluate(params, ROWS, 'fisher')
    assert np.isfinite(value).all()
    for j in range(7):
        step = np.zeros((7, 1))
        step[j] = 1e-6 * max(1.0, abs(TRUTH[j]))
        up, down = (generic.evaluate(params + s, ROWS, 'fisher')[0] for s in (step, -step))
        assert_allclose((up - down) / (2 * step[j]), gradient[j], rtol=1e-5)


def test_value_and_slope_are_continuous_where_the_mean_crosses_zero():
    counts = np.array([[0.0, 2.0, 5.0, 1.0]])
    likelihood = BroadcastLikelihood(counts, lambda p, rows: p[0][:, None] * np.ones(4), 2)
    floor = likelihood._floor[0, 0]
    assert 0 < floor < 1e-8 * counts.mean()
    at_floor, gap = likelihood.evaluate(np.array([[floor], [0.0]]), [0]), 1e-6
    below, above = (likelihood.evaluate(np.array([[floor * (1 + s)], [0.0]]), [0])
                    for s in (-gap, gap))
    for term in (0, 1):
        assert_allclose(below[term], at_floor[term], rtol=1e-5)
        assert_allclose(above[term], at_floor[term], rtol=1e-5)


def test_the_mean_is_returned_with_and_without_background():
    generic, gaussian, params = make_pair(offset=offsets()[3])
    rows = np.array([4, 1, 1])
    ours, expected = (kernel.mean(params[:, rows], rows) for kernel in (generic, gaussian))
    assert_allclose(ours, expected, rtol=1e-12)


def test_only_finite_parameters_are_valid():
    generic, _, params = make_pair()
    params[3, 1], params[6, 4] = np.nan, np.inf
    assert_array_equal(generic.is_valid(params), [True, False, True, True, False, True])


@pytest.mark.parametrize('model', [starting_model(), Gaussian2D(90, 4, 3, 1.2, 0.8, 0.4),
                                   Moffat2D(90, 4, 3, 2.0, 3.1)])
def test_models_that_broadcast_give_all_stamps_at_once(model):
    function = StampModel(model, SHAPE)
    assert function._function._broadcasts
    params = np.array(model.parameters)[:, None] * np.linspace(0.9, 1.1, 4)
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    for column, values in zip(params.T, function(params), strict=True):
        assert_allclose(values.reshape(SHAPE), type(model)(*column)(x, y), rtol=1e-13)


@pytest.mark.parametrize('model', [LoopingGaussian(), SilentlyWrongWhenBroadcast()])
def test_models_that_do_not_broadcast_are_called_one_stamp_at_a_time(model):
    function = StampModel(model, SHAPE)
    assert not function._function._broadcasts
    params = np.array([[90.0, 50.0, 20.0], [4.0, 3.0, 5.0], [3.5, 3.0, 4.0], [1.1, 0.8, 2.0]])
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    for column, values in zip(params.T, function(params), strict=True):
        amplitude, x_0, y_0, width = column
        expected = amplitude * np.exp(-0.5 * ((x - x_0) ** 2 + (y - y_0) ** 2) / width ** 2)
        assert_allclose(values.reshape(SHAPE), expected, rtol=1e-13)


def test_a_right_fit_deriv_is_used():
    function = StampModel(starting_model(), SHAPE)
    params = TRUTH[:6, None] * np.linspace(0.95, 1.05, 3)
    columns = function.derivative(params)
    assert columns.shape == (6, 3, N_PIXELS)
    for j in range(6):
        step = np.zeros((6, 1))
        step[j] = 1e-6 * max(1.0, abs(TRUTH[j]))
        difference = (function(params + step) - function(params - step)) / (2 * step[j])
        assert_allclose(columns[j], difference, atol=1e-6 * np.abs(difference).max())


@pytest.mark.parametrize('model', [WrongDerivative, RaisingDerivative, ShortDerivative])
def test_a_fit_deriv_that_is_not_right_is_not_used(model):
    assert StampModel(model(*TRUTH[:6]), SHAPE).derivative is None


def test_a_model_without_fit_deriv_has_no_derivative():
    assert StampModel(LoopingGaussian(), SHAPE).derivative is None


def test_flux_and_position_are_found_by_name():
    assert scale_name(starting_model()) == 'flux'
    assert position_names(starting_model()) == ('x_0', 'y_0')
    assert scale_name(Gaussian2D()) == 'amplitude'
    assert position_names(Gaussian2D()) == ('x_mean', 'y_mean')


@pytest.mark.parametrize(('model', 'linear'), [
    (starting_model(), [0]), (Gaussian2D(90, 4, 3, 1.2, 0.8, 0.4), [0]), (LoopingGaussian(), [0]),
    (SquaredAmplitude(), []), (OnPedestal(), []), (Const2D(3.0), [0])])
def test_it_is_measured_whether_a_model_is_proportional_to_its_flux(model, linear):
    assert StampModel(model, SHAPE).linear == linear


class WidensAlongX(Fittable2DModel):
    """A star whose width depends on where on the detector it is."""

    flux, x_0, y_0 = (Parameter(default=value) for value in (100.0, 4.0, 3.5))

    @staticmethod
    def evaluate(x, y, flux, x_0, y_0):
        width = 1.0 + 0.002 * x_0
        return flux / (2 * np.pi * width ** 2) * np.exp(
            -0.5 * ((x - x_0) ** 2 + (y - y_0) ** 2) / width ** 2)


class WidensOneByOne(WidensAlongX):
    """The same for single numbers only."""

    @staticmethod
    def evaluate(x, y, flux, x_0, y_0):
        if np.size(x_0) > 1:
            raise ValueError('one star at a time')
        return WidensAlongX.evaluate(x, y, flux, x_0, y_0)


@pytest.mark.parametrize('model', [WidensAlongX(), WidensOneByOne()])
def test_a_model_at_an_origin_is_evaluated_where_the_stamps_are(model):
    origin = np.array([[0, 0], [100, 20], [500, -7], [1000, 3]])
    function = StampModel(model, SHAPE)
    moved, rows = function.at(origin), np.array([3, 1, 1])
    params = np.array([[90.0, 50.0, 70.0], [4.0, 3.0, 2.0], [3.5, 3.0, 5.0]])
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    before = params.copy()
    for row, (flux, x_0, y_0), values in zip(rows, params.T, moved(params, rows), strict=True):
        first = origin[row]
        expected = model.evaluate(x + first[0], y + first[1], flux, x_0 + first[0],
                                  y_0 + first[1])
        assert_allclose(values.reshape(SHAPE), expected, rtol=1e-12)
    assert_array_equal(params, before)
    # The one that it was made from stays where it was.
    assert_allclose(function(params)[0].reshape(SHAPE), model.evaluate(x, y, *params[:, 0]))
    assert function.at(None) is function


class WidensWithDerivative(WidensAlongX):
    """The same with analytic derivatives."""

    @staticmethod
    def fit_deriv(x, y, flux, x_0, y_0):
        width = 1.0 + 0.002 * x_0
        value = WidensAlongX.evaluate(x, y, flux, x_0, y_0)
        dx, dy = x - x_0, y - y_0
        by_width = value * ((dx ** 2 + dy ** 2) / width ** 3 - 2 / width)
        return [value / flux, value * dx / width ** 2 + 0.002 * by_width, value * dy / width ** 2]


def test_derivatives_at_an_origin_are_those_of_the_model_there():
    function = StampModel(WidensWithDerivative(), SHAPE)
    moved, rows = function.at(np.array([[0.0, 0.0], [900.0, -20.0]])), np.array([1, 0, 1])
    params = np.array([[90.0, 50.0, 70.0], [4.0, 3.0, 2.0], [3.5, 3.0, 5.0]])
    columns = moved.derivative(params, rows)
    for j, step in enumerate((1e-3, 1e-4, 1e-4)):
        shift = step * np.eye(3)[:, [j]]
        numeric = (moved(params + shift, rows) - moved(params - shift, rows)) / (2 * step)
        assert_allclose(columns[j], numeric, atol=1e-6 * np.abs(numeric).max())
    assert not np.allclose(columns[:, 0], function.derivative(params)[:, 0], rtol=0.1)
    assert_allclose(columns[:, 1], function.derivative(params)[:, 1], rtol=1e-12)


def test_a_model_may_name_its_flux_and_position_itself():
    class Named(Fittable2DModel):
        total, amplitude, u, v = (Parameter(default=1.0) for _ in range(4))
        flux_name, x_name, y_name = 'total', 'u', 'v'

        @staticmethod
        def evaluate(x, y, total, amplitude, u, v):
            return total + amplitude * (x - u) * (y - v)

    assert scale_name(Named()) == 'total'
    assert position_names(Named()) == ('u', 'v')


def test_a_model_without_flux_and_position_has_no_names_for_them():
    class Slope(Fittable2DModel):
        per_pixel = Parameter(default=1.0)

        @staticmethod
        def evaluate(x, y, per_pixel):
            return per_pixel * x + 0 * y

    assert scale_name(Slope()) is None
    assert position_names(Slope()) == (None, None)


def test_stamps_that_read_noise_makes_negative_on_average_keep_a_positive_floor():
    rng = np.random.default_rng(8)
    counts = rng.normal(-0.05, 0.1, (1, 60))
    assert counts.mean() < 0

    def flat(params, rows):
        return np.repeat(params[0][:, None], 60, axis=1)

    likelihood = BroadcastLikelihood(counts, flat, 2)
    value, gradient, information = likelihood.evaluate(np.array([[-1.0], [0.0]]),
                                                       np.zeros(1, int))
    assert np.isfinite(value).all()
    # Below zero the way back is up.
    assert gradient[0, 0] < 0
    assert information[0, 0, 0] > 0


class TwoStars:
    """The sum of two stars, whose parameters follow each other."""

    def __init__(self):
        self._star = StampModel(starting_model(), SHAPE)

    def __call__(self, params, rows):
        return self._star(params[:6]) + self._star(params[6:])

    def derivative(self, params, rows):
        return np.concatenate([self._star.derivative(params[:6]),
                               self._star.derivative(params[6:])])


def blended_pairs():
    """Return counts of two stars, and parameters near the truth."""
    rng = np.random.default_rng(11)
    other = TRUTH[:6] * [0.7, 1.4, 0.9, 1.0, 1.0, 1.0]
    truth = np.concatenate([TRUTH[:6], other, TRUTH[6:]])[:, np.newaxis]
    mean = TwoStars()(truth[:-1], None) + truth[-1]
    counts = rng.poisson(mean, (N, N_PIXELS)).astype(float)
    return counts, truth * rng.uniform(0.95, 1.05, (13, N))


@pytest.mark.parametrize('n_terms', [1, 2])
def test_second_derivatives_of_a_sum_are_those_of_its_terms(n_terms):
    counts, params = blended_pairs()
    stars = TwoStars()
    likelihood = BroadcastLikelihood(counts, stars, 13, derivative=stars.derivative,
                                     n_terms=n_terms)
    fisher = likelihood.evaluate(params, ROWS, 'fisher')[2]
    information = likelihood.evaluate(params, ROWS, 'observed')[2]
    expected = np.empty_like(information)
    for j in range(13):
        step = 1e-3 / np.sqrt(fisher[j, j])
        shift = np.eye(13)[:, [j]] * step
        up, down = (likelihood.evaluate(params + s, ROWS, 'fisher')[1] for s in (shift, -shift))
        expected[:, j] = (up - down) / (2 * step)
    assert_allclose(scaled(information, fisher), scaled(expected, fisher), atol=1e-5)


def test_steps_of_second_derivatives_have_a_limit():
    # A star without light: nothing depends on its place, and its error has no limit.
    counts, params = blended_pairs()
    params[6] = 1e-7
    stars = TwoStars()
    limited, unlimited = (
        BroadcastLikelihood(counts, stars, 13, derivative=stars.derivative, n_terms=2, **limits)
        for limits in ({'largest_step': 0.01}, {}))
    for kernel in (limited, unlimited):
        kernel.evaluate(params, ROWS, 'fisher')       # the errors, from which the steps follow
    found, lost = (kernel.evaluate(params, ROWS, 'observed')[2][6, 7]
                   for kernel in (limited, unlimited))
    slope = 1 - counts / limited.mean(params, ROWS)[1]
    expected = np.vecdot(stars.derivative(params[:-1], ROWS)[7], slope) / params[6]
    products = limited.evaluate(params, ROWS, 'score')[2][6, 7]
    assert_allclose(found - products, expected, rtol=1e-3)
    assert not np.allclose(lost - products, expected, rtol=0.1)
