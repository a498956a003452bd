# Licensed under a 3-clause BSD style license - see LICENSE
"""What a fit leaves of the moments of the C-statistic."""

import numpy as np
import pytest
from astropy.modeling.models import Moffat2D
from astropy.nddata import NDData
from numpy.testing import assert_allclose
from photutils.psf import (
    CircularGaussianPRF,
    CircularGaussianPSF,
    GaussianPRF,
    GaussianPSF,
    GriddedPSFModel,
    ImagePSF,
)
from scipy import stats

from kpsf import EllipticalGaussianPSF, fit_stamps
from kpsf._kernels.goodness import FEW_COUNTS, cstat_z, fit_terms, fit_z, moments_and_slopes

Y, X = np.mgrid[:11, :12]
SAMPLE_Y, SAMPLE_X = np.mgrid[:61, :61]
IMAGE = CircularGaussianPRF().evaluate(SAMPLE_X, SAMPLE_Y, 16.0, 30.0, 30.0, 8.0)
GRID = GriddedPSFModel(NDData(np.array([1.0, 0.9, 0.8, 0.9])[:, None, None] * IMAGE, meta={
    'grid_xypos': [(0.0, 0.0), (11.0, 0.0), (0.0, 11.0), (11.0, 11.0)], 'oversampling': 4}))
MODELS = {
    'gaussian': EllipticalGaussianPSF(),
    'widths': GaussianPSF(),
    'one width': CircularGaussianPSF(),
    'integrated': CircularGaussianPRF(),
    'integrated, two widths': GaussianPRF(),
    'image': ImagePSF(IMAGE, oversampling=4),
    'grid': GRID,
    'any': Moffat2D(50.0, 5.5, 5.0, 2.0, 2.5, fixed={'alpha': True}),
}


@pytest.fixture(params=MODELS)
def fits(request):
    """Fits of 60 stars of 300 electrons by one kernel."""
    rng = np.random.default_rng(5)
    x, y = (middle + rng.uniform(-0.5, 0.5, (60, 1, 1)) for middle in (5.5, 5.0))
    mean = CircularGaussianPRF().evaluate(X, Y, 300.0, x, y, 2.2) + 0.5
    model = MODELS[request.param].copy()
    if request.param == 'integrated':
        model.fwhm.fixed = False
    origin = np.zeros(2) if request.param == 'grid' else None
    # A mask, and a background that is known to some part.
    mask = rng.uniform(size=mean.shape) < 0.1
    found = fit_stamps(rng.poisson(mean), model, known_background=0.1, mask=mask, origin=origin)
    assert found.converged.mean() > 0.9
    return found


def test_the_jacobian_of_a_kernel_is_the_derivative_of_its_mean(fits):
    rows = np.flatnonzero(fits.converged)
    likelihood = fits._problem.likelihood(rows)
    own, params = np.arange(len(rows)), fits._all_params(rows)
    jacobian = likelihood.jacobian(params, own)
    assert jacobian.shape == (len(rows), len(params), X.size)
    for j in fits._problem.moving:
        step = np.zeros_like(params)
        step[j] = 1e-3 * fits.errors[rows, j]
        up, down = (likelihood.mean(params + sign * step, own)[1] for sign in (1, -1))
        slope = (up - down) / (2 * step[j][:, np.newaxis])
        assert_allclose(jacobian[:, j], slope, atol=1e-4 * np.abs(slope).max())


def test_the_goodness_of_a_fit_is_that_of_its_mean_and_jacobian(fits):
    rows = np.flatnonzero(fits.converged & (fits.flags == 0))
    likelihood, free = fits._problem.likelihood(rows), fits._problem.moving
    own, params = np.arange(len(rows)), fits._all_params(rows)
    used = likelihood.weights > 0
    mean = np.where(used, likelihood.mean(params, own)[1], 1.0)
    jacobian = likelihood.jacobian(params, own)[:, free] * used[:, np.newaxis]
    expected = cstat_z(likelihood.counts, mean, len(free), used=used, axis=1,
                       terms=fit_terms(mean, jacobian))
    moves = fits.errors[np.ix_(rows, free)] > 0
    assert_allclose(fits.gof_z[rows][moves.all(axis=1)], expected[moves.all(axis=1)], rtol=1e-6)


@pytest.mark.parametrize('mean', [1e-6, 9e-5, 1.1e-4, 0.01, 0.3, 1.0, 6.0, 99.0, 101.0])
def test_the_slopes_agree_with_exact_sums(mean):
    counts = np.arange(int(mean + 14 * np.sqrt(mean) + 50))
    probability = stats.poisson.pmf(counts, mean)
    value = 2 * (mean - counts + counts * np.log(np.maximum(counts, 1) / mean))
    covariance = np.sum(probability * value * (counts - mean))
    _, _, slope, bend = moments_and_slopes(np.array(mean))
    assert_allclose(slope, covariance, rtol=3e-5)
    step = 1e-4 * mean
    up, down = (moments_and_slopes(np.array(mean + sign * step))[2] / (mean + sign * step)
                for sign in (1, -1))
    assert_allclose(bend, mean**2 * (up - down) / (2 * step), rtol=1e-3)


def test_the_variance_that_a_fitted_constant_leaves_is_that_of_given_sums():
    # Given their sum, counts are multinomial: no approximation is in these.
    n, total = 400, 60
    rng = np.random.default_rng(3)
    counts = rng.multinomial(total, np.full(n, 1 / n), 50_000)
    mean = np.full((1, n), total / n)
    z = cstat_z(counts, mean, 1, axis=1, terms=fit_terms(mean, np.ones((1, 1, n))))
    assert abs(z.mean()) < 0.02
    assert abs(z.std() - 1) < 0.02


def test_parameters_of_which_only_a_sum_is_known_take_as_much_as_one():
    mean = np.full((1, 50), 0.2)
    one, both = np.ones((1, 1, 50)), np.ones((1, 2, 50))
    assert_allclose(fit_terms(mean, both), fit_terms(mean, one), rtol=1e-6)
    both[:, 1] = 0.0
    assert_allclose(fit_terms(mean, both), fit_terms(mean, one), rtol=1e-12)


def test_a_parameter_that_its_prior_determines_takes_nothing():
    mean, jacobian = np.full((1, 50), 0.2), np.ones((1, 1, 50))
    assert_allclose(fit_terms(mean, jacobian, np.array([[1e12]])), 0.0, atol=1e-6)


@pytest.mark.parametrize('mean', [FEW_COUNTS, 3.0, 5.0, 12.0, 100.0, 1e4])
@pytest.mark.parametrize(('p', 'n'), [(1, 9), (4, 25), (7, 121)])
def test_where_more_than_a_few_counts_are_expected_a_fit_hardly_moves_z(p, n, mean):
    jacobian = np.random.default_rng(1).normal(size=(1, p, n))
    mean = np.full((1, n), mean)
    variance = moments_and_slopes(mean)[1].sum()
    (shift,), (loss,) = fit_terms(mean, jacobian)
    assert abs(shift) < 0.02 * p / np.sqrt(n) * np.sqrt(variance)
    assert 0 <= 1 - np.sqrt(1 - loss / variance) < 0.005


class Counted:
    """The likelihood of a constant that says how often its derivatives are asked for."""

    weights = None

    def __init__(self, shape):
        self.shape, self.n_asked = shape, 0

    def mean(self, params):
        return np.repeat(params.T, self.shape[1], axis=1)

    def jacobian(self, params, rows):
        self.n_asked += len(rows)
        return np.ones((len(rows), 1, self.shape[1]))


def test_derivatives_are_asked_for_where_few_counts_are_expected():
    likelihood = Counted((5, 30))
    params = np.array([[0.2, 1.0, 1.9, 2.1, 4e5]])
    z = fit_z(likelihood, params, likelihood.mean(params), np.full(5, 30.0), np.array([0]),
              np.ones((1, 5)), np.zeros((1, 1)))
    assert likelihood.n_asked == 3
    assert np.isfinite(z).all()


def test_parameters_at_a_bound_are_no_free_ones():
    likelihood, n = Counted((2, 30)), 30
    params = np.full((1, 2), 0.2)
    z = fit_z(likelihood, params, likelihood.mean(params), np.full(2, 20.0), np.array([0]),
              np.array([[0.0, 0.01]]), np.zeros((1, 1)))
    mean = np.full((1, n), 0.2)
    assert_allclose(z[0], cstat_z(None, mean, 0, statistic=20.0, axis=1)[0], rtol=1e-12)
    terms = fit_terms(mean, np.ones((1, 1, n)))
    assert_allclose(z[1], cstat_z(None, mean, 1, statistic=20.0, axis=1, terms=terms)[0],
                    rtol=1e-12)
