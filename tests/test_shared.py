# Licensed under a 3-clause BSD style license - see LICENSE

import numpy as np
import pytest
from astropy.modeling.models import Moffat2D
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import least_squares

from kpsf import EllipticalGaussianPSF, FitFlag, fit_stamps

SHAPE = (8, 9)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]]
ABC = (0.7, -0.15, 0.45)
NAMES = ('flux', 'x_0', 'y_0', 'a', 'b', 'c', 'background')
N = 10


class Generic(EllipticalGaussianPSF):
    """The same model without a kernel of its own."""


def psf(flux, x, y, a, b, c):
    """Return Gaussians by their definition, parameters (n,), result (n, ny, nx)."""
    flux, x, y, a, b, c = (np.asarray(v)[..., None, None] for v in (flux, x, y, a, b, c))
    dx, dy = X - x, Y - y
    return flux * np.sqrt(a * c - b * b) / np.pi * np.exp(
        -(a * dx * dx + 2 * b * dx * dy + c * dy * dy))


def make_series(n=N, flux=2000.0, background=8.0, seed=3, drift=0.4):
    rng = np.random.default_rng(seed)
    x, y = 4.2 + rng.uniform(-drift, drift, n), 3.4 + rng.uniform(-drift, drift, n)
    fluxes = flux * rng.uniform(0.7, 1.3, n)
    return rng.poisson(psf(fluxes, x, y, *ABC) + background).astype(float)


class Joint:
    """The whole series as one problem of many parameters: each stamp's own, then the shared."""

    def __init__(self, counts, shared, known=0.0, priors=None, bounds=None):
        self.counts, self.known = counts, known
        self.n = len(counts)
        self.shared = [NAMES.index(name) for name in shared]
        self.own = [j for j in range(7) if j not in self.shared]
        self.priors, self.bounds = priors or {}, bounds or {}
        self.size = self.n * len(self.own) + len(self.shared)

    def names(self):
        return [NAMES[j] for j in self.own] * self.n + [NAMES[j] for j in self.shared]

    def columns(self, vector):
        """Return the parameters of every stamp, (7, n)."""
        params = np.empty((7, self.n), dtype=vector.dtype)
        split = self.n * len(self.own)
        params[self.own] = vector[:split].reshape(self.n, -1).T
        params[self.shared] = vector[split:, None]
        return params

    def vector(self, params):
        """Do the opposite, from (n, 7)."""
        return np.concatenate([params[:, self.own].ravel(), params[0, self.shared]])

    def index(self, row):
        """Return where the parameters of one stamp are, in the order of NAMES."""
        place = np.empty(7, dtype=int)
        place[self.own] = row * len(self.own) + np.arange(len(self.own))
        place[self.shared] = self.n * len(self.own) + np.arange(len(self.shared))
        return place

    def mean(self, vector):
        params = self.columns(vector)
        return psf(*params[:6]) + params[6][:, None, None] + self.known

    def residuals(self, vector):
        """Return signed roots of the deviances and the priors' residuals."""
        mean, k = np.maximum(self.mean(vector), 1e-300), self.counts
        deviance = 2 * (mean - k + k * np.log(np.where(k == 0, 1.0, k) / mean))
        root = np.sign(mean - k) * np.sqrt(np.maximum(deviance, 0))
        pulls = [(vector[j] - self.priors[name][0]) / self.priors[name][1]
                 for j, name in enumerate(self.names()) if name in self.priors]
        return np.concatenate([root.ravel(), pulls])

    def solve(self, start):
        low, high = np.array([self.bounds.get(name, (-np.inf, np.inf))
                              for name in self.names()]).T
        return least_squares(self.residuals, np.clip(start, low + 1e-6, high - 1e-6),
                             bounds=(low, high), x_scale='jac', xtol=1e-14, ftol=1e-14,
                             gtol=1e-14).x

    def jacobian(self, vector):
        """Return d mean / d parameters, (size, n_counts), by complex steps."""
        return np.array([self.mean(vector + 1e-20j * unit).imag.ravel() / 1e-20
                         for unit in np.eye(self.size)])

    def prior_precision(self):
        return np.diag([self.priors[name][1] ** -2.0 if name in self.priors else 0.0
                        for name in self.names()])

    def fisher(self, vector):
        jacobian = self.jacobian(vector)
        return (jacobian / self.mean(vector).ravel()) @ jacobian.T + self.prior_precision()

    def score(self, vector):
        jacobian = self.jacobian(vector)
        return (jacobian * (self.counts / self.mean(vector) ** 2).ravel()) @ jacobian.T

    def observed(self, vector):
        def gradient(at):
            return self.jacobian(at) @ (1 - self.counts / self.mean(at)).ravel()
        steps = 1e-3 / np.sqrt(np.diag(self.fisher(vector)))
        matrix = np.array([(gradient(vector + step * unit) - gradient(vector - step * unit))
                           / (2 * step) for step, unit in zip(steps, np.eye(self.size),
                                                              strict=True)])
        return 0.5 * (matrix + matrix.T) + self.prior_precision()

    def covariance(self, vector, kind, held=()):
        """Return the covariance of all parameters; zero for those ``held`` at a bound."""
        moving = np.setdiff1d(np.arange(self.size), held)
        block = np.ix_(moving, moving)
        curvature = self.fisher(vector) if kind == 'fisher' else self.observed(vector)
        inverse = np.linalg.inv(curvature[block])
        if kind == 'sandwich':
            inverse = inverse @ self.score(vector)[block] @ inverse
        covariance = np.zeros((self.size, self.size))
        covariance[block] = inverse
        return covariance


def assert_same(fits, joint, vector, tolerance=3e-3):
    """Compare parameters in units of their errors."""
    errors = 1 / np.sqrt(np.diag(joint.fisher(vector)))
    assert_allclose(joint.vector(fits.params) / errors, vector / errors, rtol=0, atol=tolerance)


def correlation(matrix, reference):
    """Return a covariance in units of the errors of a reference."""
    error = np.sqrt(np.diag(reference))
    scale = 1 / np.where(error > 0, error, 1.0)
    return matrix * scale * scale[:, None]


@pytest.mark.parametrize('shared', [('a', 'b', 'c'), ('background',), ('x_0', 'y_0'),
                                    ('flux', 'c', 'background')])
@pytest.mark.parametrize('model', [EllipticalGaussianPSF, Generic])
def test_a_joint_fit_is_the_minimum_of_all_parameters_together(shared, model):
    counts = make_series(drift=0.02 if 'x_0' in shared else 0.4)
    fits = fit_stamps(counts, model(2000, 4, 3.5, *ABC), shared=shared, n_threads=1)
    assert fits.converged.all()
    assert not fits.flags.any()
    joint = Joint(counts, shared)
    start = joint.vector(np.repeat([[2000, 4.2, 3.4, *ABC, 8]], N, axis=0))
    vector = joint.solve(start)
    assert_same(fits, joint, vector)
    for name in shared:
        column = fits.params[:, NAMES.index(name)]
        assert (column == column[0]).all()


@pytest.mark.parametrize('kind', ['fisher', 'observed', 'sandwich'])
def test_the_covariance_is_that_of_the_whole_problem(kind):
    counts = make_series()
    shared = ('a', 'b', 'c')
    fits = fit_stamps(counts, EllipticalGaussianPSF(), shared=shared, covariance=kind,
                      n_threads=1)
    joint = Joint(counts, shared)
    whole = joint.covariance(joint.vector(fits.params), kind)
    for row in range(N):
        place = joint.index(row)
        expected = whole[np.ix_(place, place)]
        assert_allclose(correlation(fits.covariance[row], expected),
                        correlation(expected, expected), atol=2e-4)


def test_the_covariances_of_that_comparison_differ():
    errors = [fit_stamps(make_series(), EllipticalGaussianPSF(), shared=('a', 'b', 'c'),
                         covariance=kind, n_threads=1).errors
              for kind in ('fisher', 'observed', 'sandwich')]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(errors[i] / errors[j] - 1).max() > 0.01


@pytest.mark.parametrize('kind', ['fisher', 'observed', 'sandwich'])
def test_one_stamp_with_shared_parameters_is_one_free_fit(kind):
    counts = make_series(1)
    shared, free = (fit_stamps(counts, EllipticalGaussianPSF(), shared=names, covariance=kind)
                    for names in (('a', 'b', 'c'), ()))
    assert_allclose(shared.params / free.errors, free.params / free.errors, atol=3e-3)
    assert_allclose(shared.errors, free.errors, rtol=2e-3)


def test_a_shared_background_beside_a_known_map_may_be_negative():
    rng = np.random.default_rng(5)
    known = rng.uniform(90, 150, SHAPE)
    star = psf(np.full(N, 3000.0), 4 + rng.uniform(-0.4, 0.4, N), np.full(N, 3.5), *ABC)
    counts = rng.poisson(star + known - 25.0).astype(float)
    shared = ('a', 'b', 'c', 'background')
    fits = fit_stamps(counts, EllipticalGaussianPSF(), shared=shared, known_background=known)
    assert fits.converged.all()
    assert not fits.flags.any()
    assert abs(fits.params[0, 6] + 25) < 4 * fits.errors[0, 6]
    assert fits.errors[0, 6] < 0.6
    joint = Joint(counts, shared, known)
    vector = joint.solve(joint.vector(fits.params) * 1.02)
    assert_same(fits, joint, vector)
    whole = joint.covariance(joint.vector(fits.params), 'fisher')
    place = joint.index(2)
    assert_allclose(fits.errors[2], np.sqrt(np.diag(whole))[place], rtol=1e-4)


def test_a_known_map_of_each_stamp_goes_with_a_shared_offset():
    rng = np.random.default_rng(6)
    known = rng.uniform(20, 40, (N, *SHAPE))
    counts = rng.poisson(psf(np.full(N, 3000.0), np.full(N, 4.1), np.full(N, 3.5), *ABC)
                         + known + 5.0).astype(float)
    fits = fit_stamps(counts, EllipticalGaussianPSF(), shared='background',
                      known_background=known)
    assert fits.converged.all()
    joint = Joint(counts, ('background',), known)
    assert_same(fits, joint, joint.solve(joint.vector(fits.params) * 0.98))


@pytest.mark.parametrize('priors', [{'a': (0.75, 0.01)}, {'background': (7.0, 0.1)},
                                    {'c': (0.4, 0.02), 'x_0': (4.2, 0.05)}])
def test_priors_on_shared_and_own_parameters_lead_to_the_joint_posterior(priors):
    counts, shared = make_series(), ('a', 'b', 'c')
    fits = fit_stamps(counts, EllipticalGaussianPSF(), shared=shared, priors=priors)
    assert fits.converged.all()
    joint = Joint(counts, shared, priors=priors)
    vector = joint.solve(joint.vector(fits.params) * 1.03)
    assert_same(fits, joint, vector)
    # Without the priors the answer would be another.
    assert np.abs((vector - Joint(counts, shared).solve(vector))
                  * np.sqrt(np.diag(joint.fisher(vector)))).max() > 0.3
    whole = joint.covariance(joint.vector(fits.params), 'fisher')
    for row in (0, N - 1):
        assert_allclose(fits.errors[row], np.sqrt(np.diag(whole))[joint.index(row)], rtol=1e-4)


def test_a_prior_on_a_shared_parameter_counts_once_not_once_per_stamp():
    counts = make_series()
    flat = fit_stamps(counts, EllipticalGaussianPSF(), shared=('a', 'b', 'c'))
    stddev = flat.errors[0, 3]
    both = fit_stamps(counts, EllipticalGaussianPSF(), shared=('a', 'b', 'c'),
                      priors={'a': (flat.params[0, 3] + 2 * stddev, stddev)})
    # As strong as the whole series: half way, and an error smaller by the root of two.
    assert_allclose(both.params[0, 3] - flat.params[0, 3], stddev, rtol=0.1)
    assert_allclose(both.errors[0, 3], stddev / np.sqrt(2), rtol=0.05)


@pytest.mark.parametrize('model', [EllipticalGaussianPSF, Generic])
def test_a_shared_parameter_at_its_bound_has_no_error_and_the_rest_is_right(model):
    counts, shared, bounds = make_series(), ('a', 'b', 'c'), {'a': (0.8, 2.0)}
    fits = fit_stamps(counts, model(2000, 4, 3.5, 0.9, 0, 0.5), shared=shared, bounds=bounds)
    assert fits.converged.all()
    assert_array_equal(fits.flags, FitFlag.AT_BOUND)
    assert (fits.params[:, 3] == 0.8).all()
    assert not fits.errors[:, 3].any()
    assert not fits.covariance[:, 3].any()
    joint = Joint(counts, shared, bounds=bounds)
    vector = joint.solve(joint.vector(fits.params))
    assert_same(fits, joint, vector, 1e-2)
    at = joint.vector(fits.params)
    whole = joint.covariance(at, 'fisher', held=[joint.index(0)[3]])
    assert_allclose(fits.errors[4], np.sqrt(np.diag(whole))[joint.index(4)], rtol=1e-3)


def test_own_parameters_at_their_bounds_do_not_inform_the_shared_ones():
    counts = make_series(background=0.05)
    shared, bounds = ('a', 'b', 'c'), {'background': (0.0, np.inf)}
    fits = fit_stamps(counts, EllipticalGaussianPSF(), shared=shared)
    assert fits.converged.all()
    at_bound = fits.params[:, 6] == 0
    assert 0 < at_bound.sum() < N
    assert_array_equal(fits.errors[:, 6] == 0, at_bound)
    joint = Joint(counts, shared, bounds=bounds)
    vector = joint.solve(joint.vector(fits.params) + 1e-3)
    errors = fits.errors[0, 3:6]
    assert_allclose(fits.params[0, 3:6] / errors, vector[-3:] / errors, rtol=0, atol=0.01)
    whole = joint.covariance(joint.vector(fits.params), 'fisher',
                             held=[joint.index(row)[6] for row in np.flatnonzero(at_bound)])
    assert_allclose(errors, np.sqrt(np.diag(whole))[-3:], rtol=1e-3)


def test_stamps_without_data_are_flagged_and_change_nothing():
    counts = make_series()
    alone = fit_stamps(counts, EllipticalGaussianPSF(), shared=('a', 'b', 'c'))
    holes = np.insert(counts, [0, 3, 3, N], np.nan, axis=0)
    fits = fit_stamps(holes, EllipticalGaussianPSF(), shared=('a', 'b', 'c'))
    empty = np.isnan(holes).all(axis=(1, 2))
    assert_array_equal(fits.flags[empty], FitFlag.TOO_FEW_PIXELS)
    assert not fits.flags[~empty].any()
    assert np.isnan(fits.params[empty]).all()
    assert np.isnan(fits.errors[empty]).all()
    assert_allclose(fits.params[~empty], alone.params, rtol=1e-7)
    assert_allclose(fits.errors[~empty], alone.errors, rtol=1e-6)


def test_stamps_without_data_do_not_limit_a_negative_shared_background():
    known = np.full((N, *SHAPE), 100.0)
    counts = make_series(background=75.0)
    counts[3], known[3] = np.nan, 0.0
    fits = fit_stamps(counts, EllipticalGaussianPSF(), shared='background',
                      known_background=known)
    assert_array_equal(fits.flags, np.where(np.arange(N) == 3, FitFlag.TOO_FEW_PIXELS, 0))
    assert abs(fits.params[0, 6] + 25) < 4 * fits.errors[0, 6]


def test_masked_pixels_have_no_say_in_the_shared_parameters():
    counts = make_series()
    mask = np.random.default_rng(4).uniform(size=counts.shape) < 0.1
    spoilt = np.where(mask, 1e5, counts)
    fits = fit_stamps(spoilt, EllipticalGaussianPSF(), shared=('a', 'b', 'c'), mask=mask)
    also = fit_stamps(np.where(mask, np.nan, counts), EllipticalGaussianPSF(),
                      shared=('a', 'b', 'c'))
    assert fits.converged.all()
    assert_allclose(fits.params, also.params, rtol=1e-12)
    assert np.abs((fits.params[0, 3:6] - ABC) / fits.errors[0, 3:6]).max() < 4


def test_order_chunks_and_threads_do_not_matter(monkeypatch):
    counts = make_series(60)
    kwargs = {'model': EllipticalGaussianPSF(), 'shared': ('a', 'b', 'c')}
    together = fit_stamps(counts, n_threads=1, **kwargs)
    order = np.random.default_rng(1).permutation(60)
    shuffled = fit_stamps(counts[order], n_threads=1, **kwargs)
    threads = fit_stamps(counts, n_threads=3, **kwargs)
    monkeypatch.setattr('kpsf.stamps.kernels._CHUNK', 7)
    chunks = fit_stamps(counts, n_threads=1, **kwargs)
    for fits, rows in ((shuffled, order), (threads, slice(None)), (chunks, slice(None))):
        moved = (fits.params - together.params[rows]) / together.errors[rows]
        assert np.abs(moved).max() < 3e-3
        assert_allclose(fits.errors, together.errors[rows], rtol=1e-4)


def test_poor_starting_values_end_at_the_same_joint_minimum():
    counts = make_series()
    good = fit_stamps(counts, EllipticalGaussianPSF(), shared=('a', 'b', 'c'))
    poor = fit_stamps(counts, EllipticalGaussianPSF(), shared=('a', 'b', 'c'),
                      init={'a': 0.3, 'b': 0.1, 'c': 1.0, 'flux': 500.0, 'background': 30.0})
    assert poor.converged.all()
    assert np.abs((poor.params - good.params) / good.errors).max() < 3e-3


def test_too_few_steps_leave_every_stamp_flagged():
    fits = fit_stamps(make_series(), EllipticalGaussianPSF(), shared=('a', 'b', 'c'),
                      init={'a': 0.3, 'b': 0.1, 'c': 1.0}, max_iter=1)
    assert not fits.converged.any()
    assert (fits.flags & FitFlag.NOT_CONVERGED).all()


@pytest.mark.parametrize('max_iter', [
    2, 3, 4, 6, 8, 12, 50])
def test_what_is_called_converged_is_at_the_joint_minimum(max_iter):
    counts = make_series()
    minimum = fit_stamps(counts, EllipticalGaussianPSF(), shared=('a', 'b', 'c'))
    fits = fit_stamps(counts, EllipticalGaussianPSF(), shared=('a', 'b', 'c'),
                      init={'a': 0.3, 'b': 0.1, 'c': 1.0}, max_iter=max_iter)
    away = np.abs((fits.params - minimum.params) / minimum.errors).max(axis=1)
    assert (away[fits.converged] < 0.01).all()
    assert_array_equal(fits.flags & FitFlag.NOT_CONVERGED > 0, ~fits.converged)
    assert fits.converged.all() == (max_iter == 50)


def test_sharing_costs_less_than_free_shapes_and_more_than_known_ones():
    counts = make_series(40, flux=500.0)
    free, shared, known = (
        fit_stamps(counts, EllipticalGaussianPSF(1, 4, 3, *ABC), **kwargs).errors[:, 0].mean()
        for kwargs in ({}, {'shared': ('a', 'b', 'c')}, {'fixed': ('a', 'b', 'c')}))
    assert known < shared < 1.02 * known
    assert free > 1.08 * shared


def wrong_series(n, seed):
    """Return stamps of a star that is no Gaussian, at one pointing."""
    star = 0.75 * psf(3000.0, 4.2, 3.4, *ABC) + 0.25 * psf(3000.0, 4.9, 2.8, 0.15, 0.05, 0.2)
    return np.random.default_rng(seed).poisson(star + 5.0, (n, *SHAPE)).astype(float)


def test_the_sandwich_is_the_scatter_under_a_wrong_psf():
    n = 4000
    counts = wrong_series(n, 21)
    fits = fit_stamps(counts, EllipticalGaussianPSF(), covariance='sandwich', n_threads=1)
    assert fits.converged.all()
    # The error of a standard deviation of n values is 1 / sqrt(2 n), here 1.1 %.
    ratio = fits.params.std(axis=0) / np.sqrt((fits.errors ** 2).mean(axis=0))
    assert_allclose(ratio, 1, atol=0.05)
    fisher = fit_stamps(counts, EllipticalGaussianPSF(), n_threads=1).errors
    assert np.abs(fits.params.std(axis=0) / fisher.mean(axis=0) - 1).max() > 0.1


def test_the_sandwich_holds_for_own_and_shared_parameters_under_a_wrong_psf():
    n_series, n = 250, 8
    counts = wrong_series(n_series * n, 22).reshape(n_series, n, *SHAPE)
    fits = [fit_stamps(part, EllipticalGaussianPSF(), shared=('a', 'b', 'c'),
                       covariance='sandwich', n_threads=1) for part in counts]
    params, errors = (np.array([getattr(fit, name) for fit in fits])
                      for name in ('params', 'errors'))
    expected = np.sqrt((errors ** 2).mean(axis=(0, 1)))
    own, shared = [0, 1, 2, 6], [3, 4, 5]
    # 2000 values (of 8 together), and 250.
    assert_allclose(params.std(axis=(0, 1))[own] / expected[own], 1, atol=0.06)
    assert_allclose(params[:, 0].std(axis=0)[shared] / expected[shared], 1, atol=0.13)


@pytest.mark.parametrize('seed', [65, 81, 113, 149])
def test_a_degenerate_series_is_not_called_converged_away_from_its_minimum(seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:8, :9]
    truth = Moffat2D(rng.uniform(5, 200), 4, 3.5, rng.uniform(0.5, 3), rng.uniform(1, 8))
    counts = rng.poisson(truth(x, y) + rng.uniform(0.1, 5), (6, 8, 9)).astype(float)
    fits = fit_stamps(counts, Moffat2D(10, 4, 3.5, 1, 1), shared=('gamma', 'alpha'), n_threads=1)
    start = {name: fits.params[:, j] if name not in ('gamma', 'alpha') else fits.params[0, j]
             for j, name in enumerate(fits.param_names)}
    again = fit_stamps(counts, Moffat2D(10, 4, 3.5, 1, 1), shared=('gamma', 'alpha'), init=start,
                       n_threads=1)
    if fits.converged.all():
        assert fits.deviance.sum() - again.deviance.sum() < 1e-4
    else:
        assert (fits.flags[~fits.converged] & FitFlag.NOT_CONVERGED > 0).all()


@pytest.mark.parametrize('kind', ['fisher', 'observed', 'sandwich'])
@pytest.mark.parametrize('shared', [(), ('x_0',)])
def test_a_tight_prior_is_the_error_by_any_covariance(kind, shared):
    counts = make_series(20)
    prior = {'x_0': (3.9, 1e-3)}
    fits = fit_stamps(counts, EllipticalGaussianPSF(), priors=prior, shared=shared,
                      covariance=kind)
    assert_allclose(fits.errors[:, 1], 1e-3, rtol=0.02)
