# Licensed under a 3-clause BSD style license - see LICENSE

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

from kpsf._kernels import solver
from kpsf._kernels.gaussian import GaussianLikelihood
from kpsf._kernels.solver import Constraints, cholesky, invert, solve

SHAPE = (8, 9)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]].reshape(2, -1).astype(float)
TRUTH = np.array([900.0, 4.3, 3.4, 0.7, -0.15, 0.45, 6.0])
# Numbers of matrices: LAPACK takes the few, loops over their elements the many.
FEW_AND_MANY = [1, solver._FEW, solver._FEW + 1, 50]


def psf(params):
    flux, x, y, a, b, c = params[:6]
    dx, dy = X - x, Y - y
    return flux * np.sqrt(a * c - b * b) / np.pi * np.exp(
        -(a * dx * dx + 2 * b * dx * dy + c * dy * dy))


def unconstrained(n_params):
    nothing = np.zeros((n_params, 1))
    return Constraints(np.arange(n_params), nothing - np.inf, nothing + np.inf, nothing,
                       nothing.copy())


def make_stamps(n, seed=1, truth=TRUTH):
    counts = np.random.default_rng(seed).poisson(psf(truth) + truth[6], (n, X.size))
    return GaussianLikelihood(counts.astype(float), SHAPE)


def starts(n, truth=TRUTH):
    return np.repeat(truth[:, None], n, axis=1)


def constrain(bounds=None, priors=None, free=range(7)):
    """Return constraints by the index of a parameter."""
    limits = unconstrained(7)
    lower, upper, mean, precision = (array.copy() for array in (
        limits.lower, limits.upper, limits.prior_mean, limits.prior_precision))
    for j, (low, high) in (bounds or {}).items():
        lower[j], upper[j] = low, high
    for j, (centre, stddev) in (priors or {}).items():
        mean[j], precision[j] = centre, stddev ** -2.0
    return Constraints(np.array(free), lower, upper, mean, precision)


def scipy_minimum(likelihood, row, start, limits):
    """Return the parameters of the posterior mode within bounds by L-BFGS-B."""
    fisher = likelihood.evaluate(start[:, None], np.array([row]), 'fisher')[2][:, :, 0]
    unit = 1 / np.sqrt(np.diag(fisher))

    def objective(scaled):
        params = scaled * unit
        value, gradient, _ = likelihood.evaluate(params[:, None], np.array([row]), 'fisher')
        offset = params - limits.prior_mean[:, 0]
        precision = limits.prior_precision[:, 0]
        return (value[0] + 0.5 * (precision * offset ** 2).sum(),
                (gradient[:, 0] + precision * offset) * unit)

    bounds = list(zip(limits.lower[:, 0] / unit, limits.upper[:, 0] / unit, strict=True))
    # From the lower bound of the background itself the likelihood may be infinite.
    found = minimize(objective, start / unit, jac=True, method='L-BFGS-B', bounds=bounds,
                     options={'maxiter': 5000, 'maxfun': 5000, 'ftol': 1e-15, 'gtol': 1e-8})
    return found.x * unit, unit


class Formula:
    """An objective from three functions of the parameters (p, m)."""

    def __init__(self, value, gradient, information, valid=None):
        self._terms = value, gradient, information
        self._valid = valid
        self.n_calls = 0

    def is_valid(self, params):
        finite = np.isfinite(params).all(axis=0)
        return finite if self._valid is None else finite & self._valid(params)

    def evaluate(self, params, rows, curvature='newton'):
        self.n_calls += 1
        return tuple(np.array(term(params), dtype=float) for term in self._terms)


def random_matrices(p, m, seed=0):
    """Return symmetric positive definite matrices, (p, p, m), conditions up to 1e6."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(m, p, p)))[0]
    values = 10 ** rng.uniform(-6, 0, (m, p))
    return np.moveaxis(np.einsum('mij,mj,mkj->mik', turn, values, turn), 0, -1)


@pytest.mark.parametrize('p', [1, 2, 7, 12])
def test_cholesky_factors_random_matrices_as_numpy_does(p):
    matrix = random_matrices(p, 50, seed=p)
    scale = 1 / np.sqrt(np.einsum('iim->im', matrix))
    matrix = matrix * scale * scale[:, None]
    factor, positive = cholesky(matrix)
    assert positive.all()
    expected = np.linalg.cholesky(np.moveaxis(matrix, -1, 0))
    assert_allclose(np.moveaxis(factor, -1, 0), expected, atol=1e-9)


@pytest.mark.parametrize('m', FEW_AND_MANY)
@pytest.mark.parametrize('p', [1, 2, 7, 12])
def test_invert_inverts_matrices_of_any_scale(p, m):
    scale = 10.0 ** np.random.default_rng(p).uniform(-9, 9, p)
    matrix = random_matrices(p, m, seed=p) * (scale * scale[:, None])[:, :, None]
    inverse, positive = invert(matrix)
    assert positive.all()
    expected = np.linalg.inv(np.moveaxis(matrix / (scale * scale[:, None])[:, :, None], -1, 0))
    assert_allclose(np.moveaxis(inverse, -1, 0) * scale * scale[:, None], expected,
                    rtol=1e-7, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize('times', [1, 3])
def test_singular_indefinite_and_missing_matrices_are_flagged_and_their_neighbours_not(times):
    good = np.array([[2.0, 0.5], [0.5, 1.0]])
    bad = [np.zeros((2, 2)), np.ones((2, 2)), np.diag([1.0, -1.0]), np.diag([1.0, 0.0]),
           np.array([[1.0, 2.0], [2.0, 1.0]]), np.full((2, 2), np.nan)]
    matrix = np.stack([good, *bad * times, good], axis=-1)
    with np.errstate(all='ignore'):
        inverse, positive = invert(matrix)
    assert_array_equal(positive, [True, *[False] * len(bad) * times, True])
    assert np.isnan(inverse[:, :, 1:-1]).all()
    for place in (0, -1):
        assert_allclose(inverse[:, :, place], np.linalg.inv(good), rtol=1e-14)


@pytest.mark.parametrize('m', FEW_AND_MANY)
def test_the_newton_step_solves_the_damped_scaled_equations(m):
    matrix = random_matrices(5, m, seed=3) * 1e4
    gradient = np.random.default_rng(4).normal(size=(5, m))
    for damping in (0.0, 0.3):
        step, edm, good = solver.newton_step(gradient, matrix, np.full(m, damping))
        assert good.all()
        for k in range(m):
            damped = matrix[:, :, k] + damping * np.diag(np.diag(matrix[:, :, k]))
            expected = np.linalg.solve(damped, gradient[:, k])
            assert_allclose(step[:, k], -expected, rtol=1e-7)
            assert_allclose(edm[k], 0.5 * gradient[:, k] @ expected, rtol=1e-7)


@pytest.mark.parametrize('m', FEW_AND_MANY)
def test_a_newton_step_of_a_matrix_that_is_not_positive_is_no_good(m):
    matrix = random_matrices(3, m, seed=3)
    matrix[:, :, 0] = np.diag([1.0, -1.0, 1.0])
    with np.errstate(all='ignore'):
        good = solver.newton_step(np.ones((3, m)), matrix, np.zeros(m))[2]
    assert_array_equal(good, np.arange(m) > 0)


def test_a_quadratic_takes_one_step():
    matrix = random_matrices(4, 1, seed=5)[:, :, 0]
    target = np.random.default_rng(6).normal(size=(4, 30))
    quadratic = Formula(
        lambda p: 0.5 * np.einsum('im,ij,jm->m', p - target, matrix, p - target),
        lambda p: matrix @ (p - target),
        lambda p: np.repeat(matrix[:, :, None], p.shape[1], axis=2))
    found = solve(quadratic, np.zeros((4, 30)), unconstrained(4))
    assert found.converged.all()
    assert_allclose(found.params, target, atol=1e-8)
    assert (found.n_iter <= 3).all()
    assert_allclose(found.own_inverse[:, :, 0], np.linalg.inv(matrix), rtol=1e-7)


def test_fits_end_where_the_gradient_vanishes():
    likelihood = make_stamps(200)
    found = solve(likelihood, starts(200), unconstrained(7))
    assert found.converged.all()
    assert (found.edm < 1e-6).all()
    value, gradient, fisher = likelihood.evaluate(found.params, np.arange(200), 'fisher')
    errors = 1 / np.sqrt(np.einsum('iim->im', fisher))
    assert np.abs(gradient * errors).max() < 1e-3
    assert_allclose(found.half_deviance, value, rtol=1e-12)
    assert_allclose(found.information, fisher, rtol=1e-9, atol=1e-9)


def test_the_reported_distance_is_that_to_the_minimum():
    likelihood = make_stamps(300)
    # Far enough that the distance is seen, and too few evaluations to get all the way.
    start = starts(300) * np.random.default_rng(2).uniform(0.99, 1.01, (7, 300))
    short = solve(likelihood, start, unconstrained(7), max_iter=3, curvature='observed')
    _, gradient, newton = likelihood.evaluate(short.params, np.arange(300))
    half = np.linalg.solve(np.moveaxis(newton, -1, 0), gradient.T[:, :, None])[:, :, 0]
    assert_allclose(short.edm, 0.5 * (half * gradient.T).sum(axis=1), rtol=1e-6, atol=1e-14)
    end = solve(likelihood, short.params, unconstrained(7))
    dropped = short.half_deviance - end.half_deviance
    seen = (short.edm > 1e-7) & (short.edm < 3e-2)
    assert seen.sum() > 100
    assert_allclose(dropped[seen], short.edm[seen], rtol=0.2, atol=1e-8)
    assert_allclose(np.median(dropped[seen] / short.edm[seen]), 1, atol=0.01)
    assert_array_equal(short.converged, short.edm < 1e-6)


@pytest.mark.parametrize('bounds', [
    {6: (0.0, np.inf)}, {6: (6.5, np.inf), 1: (4.0, 4.28)}, {0: (0.0, 880.0), 4: (-0.1, 0.1)},
    {j: (0.97 * min(v, v * 1.06), 1.03 * max(v, v / 1.06)) for j, v in enumerate(TRUTH)}])
def test_bounded_fits_end_where_scipy_does_and_meet_the_optimality_conditions(bounds):
    n = 8
    likelihood, limits = make_stamps(n, seed=9), constrain(bounds)
    start = np.clip(starts(n), limits.lower, limits.upper)
    found = solve(likelihood, start, limits)
    assert found.converged.all()
    assert (found.params >= limits.lower).all()
    assert (found.params <= limits.upper).all()
    _, gradient, fisher = likelihood.evaluate(found.params, np.arange(n), 'fisher')
    at_lower, at_upper = found.params <= limits.lower, found.params >= limits.upper
    inside = ~(at_lower | at_upper)
    assert np.abs(gradient / np.sqrt(np.einsum('iim->im', fisher)))[inside].max() < 2e-3
    assert (gradient[at_lower] >= 0).all()
    assert (gradient[at_upper] <= 0).all()
    for row in range(n):
        expected, unit = scipy_minimum(likelihood, row, start[:, row], limits)
        assert_allclose(found.params[:, row] / unit, expected / unit, atol=5e-3)


def test_some_bounds_are_met_in_that_comparison():
    limits = constrain({6: (6.5, np.inf), 1: (4.0, 4.28)})
    found = solve(make_stamps(8, seed=9), np.clip(starts(8), limits.lower, limits.upper), limits)
    at_bound = (found.params <= limits.lower) | (found.params >= limits.upper)
    assert at_bound[[1, 6]].any(axis=1).all()
    assert not found.own_inverse[6][:, at_bound[6]].any()
    assert not found.own_gradient[at_bound].any()


def test_a_bound_that_is_met_on_the_way_is_left_again():
    bowl = Formula(lambda p: (p[0] - 1) ** 2 + 10 * (p[1] - p[0] ** 2) ** 2,
                   lambda p: [2 * (p[0] - 1) - 40 * p[0] * (p[1] - p[0] ** 2),
                              20 * (p[1] - p[0] ** 2)],
                   lambda p: [[2 + 80 * p[0] ** 2, -40 * p[0]],
                              [-40 * p[0], 20 + 0 * p[0]]])
    limits = Constraints(np.arange(2), np.array([[-2.0], [0.0]]), np.array([[3.0], [3.0]]),
                         np.zeros((2, 1)), np.zeros((2, 1)))
    found = solve(bowl, np.array([[-1.5], [0.0]]), limits)
    assert found.converged.all()
    assert_allclose(found.params[:, 0], 1.0, atol=1e-3)


@pytest.mark.parametrize('priors', [
    {6: (5.0, 0.1)}, {1: (4.5, 0.01), 2: (3.2, 0.02)}, {j: (v * 1.02, 0.02 * abs(v))
                                                        for j, v in enumerate(TRUTH)}])
def test_priors_lead_to_the_posterior_mode(priors):
    n = 6
    likelihood, limits = make_stamps(n, seed=10), constrain(priors=priors)
    found = solve(likelihood, starts(n), limits)
    assert found.converged.all()
    free = solve(likelihood, starts(n), unconstrained(7))
    for row in range(n):
        expected, unit = scipy_minimum(likelihood, row, TRUTH, limits)
        assert_allclose(found.params[:, row] / unit, expected / unit, atol=5e-3)
        assert np.abs((free.params[:, row] - expected) / unit).max() > 0.1


def test_the_prior_is_in_the_inverse_but_not_in_the_deviance():
    likelihood, limits = make_stamps(4), constrain(priors={6: (5.0, 0.1)})
    found = solve(likelihood, starts(4), limits)
    value, _, fisher = likelihood.evaluate(found.params, np.arange(4), 'fisher')
    assert_allclose(found.half_deviance, value, rtol=1e-12)
    fisher[6, 6] += 100.0                       # 1 / stddev^2
    assert_allclose(np.moveaxis(found.own_inverse, -1, 0),
                    np.linalg.inv(np.moveaxis(fisher, -1, 0)), rtol=1e-6)


def test_a_prior_decides_a_parameter_that_nothing_depends_on():
    # Position and shape of no star.
    likelihood = GaussianLikelihood(0.0 * make_stamps(4).counts, SHAPE)
    limits = constrain({6: (0, np.inf)}, {0: (0.0, 1e-7), 1: (4.0, 0.1), 2: (3.0, 0.1),
                                          3: (0.7, 0.01), 4: (0.0, 0.01), 5: (0.5, 0.01)})
    found = solve(likelihood, starts(4) * [[1e-3], [1], [1], [1], [1], [1], [1]], limits)
    assert found.converged.all()
    assert_allclose(found.params[1:3].T, [[4.0, 3.0]] * 4, atol=0.01)
    assert not found.params[6].any()


def test_parameters_that_are_not_free_stay():
    likelihood, free = make_stamps(20), [0, 2, 6]
    start = starts(20) * 1.01
    found = solve(likelihood, start, constrain(free=free))
    assert found.converged.all()
    held = [1, 3, 4, 5]
    assert_array_equal(found.params[held], start[held])
    assert found.own_inverse.shape == (3, 3, 20)
    assert found.information.shape == (7, 7, 20)
    _, gradient, fisher = likelihood.evaluate(found.params, np.arange(20), 'fisher')
    assert np.abs(gradient[free] / np.sqrt(np.einsum('iim->im', fisher)[free])).max() < 2e-3


def test_a_start_where_the_curvature_vanishes_is_left():
    quartic = Formula(lambda p: p[0] ** 4 - 4 * p[0] + (p[1] - 2) ** 2,
                      lambda p: [4 * p[0] ** 3 - 4, 2 * (p[1] - 2)],
                      lambda p: [[12 * p[0] ** 2, 0 * p[0]], [0 * p[0], 2 + 0 * p[0]]])
    found = solve(quartic, np.array([[0.0, 0.0, 0.5], [0.0, 5.0, 0.0]]), unconstrained(2))
    assert found.converged.all()
    assert_allclose(found.params, [[1.0] * 3, [2.0] * 3], atol=1e-3)


def test_a_parameter_that_nothing_depends_on_does_not_stop_the_others():
    half_blind = Formula(lambda p: (p[1] - 2) ** 4 + (p[1] - 2) ** 2,
                         lambda p: [0 * p[0], 4 * (p[1] - 2) ** 3 + 2 * (p[1] - 2)],
                         lambda p: [[0 * p[0], 0 * p[0]],
                                    [0 * p[0], 12 * (p[1] - 2) ** 2 + 2]])
    found = solve(half_blind, np.array([[0.3], [0.0]]), unconstrained(2))
    assert found.converged.all()
    assert_allclose(found.params[1], 2.0, atol=1e-3)
    assert np.isnan(found.own_inverse).all()


def test_steps_to_invalid_parameters_are_refused():
    # Newton's first step from 3 would lead to -1.2.
    logarithm = Formula(lambda p: p[0] - np.log(p[0]), lambda p: 1 - 1 / p,
                        lambda p: (1 / p ** 2)[None], valid=lambda p: p[0] > 0)
    found = solve(logarithm, np.array([[3.0, 0.1, 20.0]]), unconstrained(1))
    assert found.converged.all()
    assert_allclose(found.params, 1.0, atol=2e-3)


def test_poor_starts_find_the_same_minimum():
    n = 300
    likelihood = make_stamps(n, seed=12)
    near = solve(likelihood, starts(n), unconstrained(7))
    rng = np.random.default_rng(13)
    start = starts(n)
    start[0] *= rng.uniform(0.2, 3, n)
    start[1:3] += rng.uniform(-1.5, 1.5, (2, n))
    start[3:6] *= rng.uniform(0.4, 2.0, n)
    start[6] *= rng.uniform(0.1, 5, n)
    limits = constrain({6: (0.0, np.inf)})
    far = solve(likelihood, start, limits)
    assert far.converged.all()
    assert_allclose(far.half_deviance, near.half_deviance, atol=2e-6)
    errors = np.sqrt(np.einsum('iim->im', near.own_inverse))
    assert np.abs((far.params - near.params) / errors).max() < 5e-3


@pytest.mark.parametrize('max_iter', [1, 2, 3, 4, 6, 30])
def test_no_fit_takes_more_evaluations_than_allowed(max_iter):
    likelihood = make_stamps(100)
    start = starts(100)
    start[1] += 1.0
    found = solve(likelihood, start, constrain({6: (0.0, np.inf)}), max_iter=max_iter)
    # The first evaluation and the one that the covariance needs are always made.
    assert (found.n_iter <= max(max_iter, 2)).all()
    assert_array_equal(found.converged, found.edm < 1e-6)
    assert found.converged.all() == (max_iter == 30)


def test_one_evaluation_does_not_converge_and_says_so():
    start = starts(50) * 1.05
    found = solve(make_stamps(50), start, unconstrained(7), max_iter=1)
    assert not found.converged.any()
    assert (found.edm > 1e-6).all()
    assert (found.n_iter <= 2).all()


def test_a_fit_does_not_depend_on_its_neighbours_or_their_order():
    n = 600
    likelihood = make_stamps(n, seed=14)
    start = starts(n) * np.random.default_rng(15).uniform(0.8, 1.2, (7, n))
    limits = constrain({6: (0.0, np.inf), 4: (-0.2, 0.0)})
    start = np.clip(start, limits.lower, limits.upper)
    together = solve(likelihood, start, limits)
    order = np.random.default_rng(16).permutation(n)
    shuffled = solve(GaussianLikelihood(likelihood.counts[order], SHAPE), start[:, order], limits)
    scale = np.maximum(np.sqrt(np.einsum('iim->im', together.own_inverse)), 1e-9)
    assert_array_equal(shuffled.n_iter, together.n_iter[order])
    assert np.abs((shuffled.params - together.params[:, order]) / scale[:, order]).max() < 1e-6
    for row in (0, 77, n - 1):
        alone = solve(GaussianLikelihood(likelihood.counts[[row]], SHAPE), start[:, [row]],
                      limits)
        assert np.abs((alone.params - together.params[:, [row]]) / scale[:, [row]]).max() < 1e-6


def test_limits_of_each_stamp_follow_the_stamps_that_still_run():
    n = 60
    likelihood = make_stamps(n, seed=17)
    rng = np.random.default_rng(18)
    limits = constrain()
    lower = np.repeat(limits.lower, n, axis=1)
    lower[6] = rng.uniform(4, 8, n)
    precision = np.zeros((7, n))
    precision[1] = rng.choice([0.0, 1e6], n)
    mean = np.repeat(TRUTH[:, None], n, axis=1) + 0.1
    limits = replace(limits, lower=lower, prior_mean=mean, prior_precision=precision)
    start = starts(n) * rng.uniform(0.9, 1.1, (7, n))
    start = np.maximum(start, lower)
    together = solve(likelihood, start, limits)
    assert together.converged.all()
    assert 10 < (together.params[6] == lower[6]).sum() < 50
    assert np.abs(together.params[1] - mean[1])[precision[1] > 0].max() < 3e-3
    for row in range(0, n, 7):
        alone = solve(GaussianLikelihood(likelihood.counts[[row]], SHAPE), start[:, [row]],
                      replace(limits, **{name: getattr(limits, name)[:, [row]] for name in (
                          'lower', 'prior_mean', 'prior_precision')}))
        assert_allclose(alone.params[:, 0], together.params[:, row], rtol=1e-6)


def test_no_fits_at_all_are_no_trouble():
    found = solve(GaussianLikelihood(np.empty((0, X.size)), SHAPE), np.empty((7, 0)),
                  unconstrained(7))
    assert found.params.shape == (7, 0)
    assert found.converged.shape == (0,)


def test_the_start_is_not_changed():
    start = starts(10)
    solve(make_stamps(10), start, unconstrained(7))
    assert_array_equal(start, starts(10))
