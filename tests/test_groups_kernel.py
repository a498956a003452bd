# Licensed under a 3-clause BSD style license - see LICENSE
"""The likelihood of groups: its mean is the sum of the models, its derivatives are differences."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import (
    CircularGaussianPRF,
    CircularGaussianPSF,
    GaussianPSF,
    ImagePSF,
    MoffatPSF,
)

from kpsf import EllipticalGaussianPSF
from kpsf._kernels.groups import GroupLikelihood
from kpsf.stamps.kernels import profile_of

N_STARS, N_GROUPS = 3, 4
REACH = (5, 5)
SAMPLE_Y, SAMPLE_X = np.mgrid[:61, :61]
IMAGE = ImagePSF(CircularGaussianPRF().evaluate(SAMPLE_X, SAMPLE_Y, 16.0, 30.0, 30.0, 8.0),
                 oversampling=4)
# A model, its shape, and which parameters are fitted: all, positions fixed, only positions, ...
CASES = {
    'circular': (CircularGaussianPSF(), [2.0], [0, 1, 2]),
    'circular, shape free': (CircularGaussianPSF(), [2.0], [0, 1, 2, 3]),
    'turned, all free': (GaussianPSF(), [2.0, 2.5, 30.0], [0, 1, 2, 3, 4, 5]),
    'turned, some free': (GaussianPSF(), [2.0, 2.5, 30.0], [0, 2, 4]),
    'elliptical': (EllipticalGaussianPSF(), [0.7, 0.1, 0.5], [0, 1, 2, 3, 4, 5]),
    'prf': (CircularGaussianPRF(), [2.0], [0, 1, 2]),
    'prf, positions fixed': (CircularGaussianPRF(), [2.0], [0]),
    'prf, only positions': (CircularGaussianPRF(), [2.0], [1, 2]),
    'prf, only shape': (CircularGaussianPRF(), [2.0], [3]),
    'image': (IMAGE, [], [0, 1, 2]),
    'image, positions fixed': (IMAGE, [], [0]),
    'moffat': (MoffatPSF(), [2.0, 2.5], [0, 1, 2]),
    'moffat, shape free': (MoffatPSF(), [2.0, 2.5], [0, 1, 2, 4]),
}


class Case:
    """Groups of stars under a model, some of their pixels masked, and parameters beside."""

    def __init__(self, model, shape, moving, with_weights=True):
        rng = np.random.default_rng(1)
        y, x = np.mgrid[10:21, 15:27].reshape(2, -1)
        self.x, self.y = (np.tile(places, (N_GROUPS, 1)) for places in (x, y))
        self.model, self.moving, size = model, moving, (N_STARS, N_GROUPS)
        shape = [value * rng.uniform(0.95, 1.05, size) for value in shape]
        self.start = np.array([rng.uniform(500, 1500, size), rng.uniform(17, 24, size),
                               rng.uniform(12, 18, size), *shape])
        self.offset = rng.uniform(0, 2, self.x.shape)
        self.weights = (rng.uniform(size=self.x.shape) > 0.1).astype(float)
        if not with_weights:
            self.weights[:] = 1.0
        self.counts = self.weights * rng.poisson(1.1 * (self.sum_of(self.start) + 3.0))
        profile, order = profile_of(model, range(len(model.param_names)))
        assert order == list(range(len(order)))
        self.likelihood = GroupLikelihood(
            self.counts, self.x, self.y, profile, self.start, moving, REACH, offset=self.offset,
            weights=self.weights if with_weights else None)
        self.rows, q = np.arange(N_GROUPS), len(moving)
        self.params, self.moved = np.full((N_STARS * q + 1, N_GROUPS), 3.0), self.start.copy()
        for star in range(N_STARS):
            for place, j in enumerate(moving):
                own = rng.uniform(-0.1, 0.1, N_GROUPS)
                if j not in (1, 2):
                    own = self.start[j, star] * (1 + 0.3 * own)
                self.params[star * q + place] = own
                self.moved[j, star] = own + (self.start[j, star] if j in (1, 2) else 0.0)

    def sum_of(self, stars):
        """Return the sum of stars by the model itself, (n_groups, n_pixels)."""
        return np.array([sum(self.model.evaluate(
            self.x[group].astype(float), self.y[group].astype(float), *stars[:, star, group])
            for star in range(N_STARS)) for group in range(N_GROUPS)])


@pytest.fixture(name='case', params=list(CASES))
def fixture_case(request):
    return Case(*CASES[request.param])


def test_the_mean_is_the_sum_of_the_models_and_all_that_is_known(case):
    psf, mean = case.likelihood.mean(case.params, case.rows)
    expected = case.sum_of(case.moved)
    assert_allclose(psf, expected, rtol=1e-9, atol=1e-9)
    assert_allclose(mean, expected + 3.0 + case.offset, rtol=1e-9)
    some = np.array([2, 0])
    assert_array_equal(case.likelihood.mean(case.params[:, some], some)[0], psf[some])


def test_the_value_is_half_the_deviance_of_the_pixels_that_count(case):
    value, _, _ = case.likelihood.evaluate(case.params, case.rows)
    mean = case.sum_of(case.moved) + 3.0 + case.offset
    with np.errstate(divide='ignore', invalid='ignore'):
        log = np.where(case.counts > 0, case.counts * np.log(case.counts / mean), 0.0)
    assert_allclose(value, ((mean - case.counts + log) * case.weights).sum(axis=1), rtol=1e-9)
    assert np.count_nonzero(case.weights == 0) > 20


def test_gradient_and_observed_information_are_differences(case):
    likelihood, params, rows = case.likelihood, case.params, case.rows
    _, _, fisher = likelihood.evaluate(params, rows, 'fisher')
    _, gradient, observed = likelihood.evaluate(params, rows, 'observed')
    errors = 1 / np.sqrt(np.einsum('iim->im', fisher))
    # Slopes that are forward differences themselves have errors that these steps magnify.
    tolerance = 1e-3 if isinstance(case.model, MoffatPSF) else 1e-4
    for j, error in enumerate(errors):
        step = np.zeros_like(params)
        step[j] = 1e-4 * error
        up, down = (likelihood.evaluate(place, rows, 'fisher')
                    for place in (params + step, params - step))
        # In units of the errors: a slope of 1 is one standard deviation from the maximum.
        assert_allclose((up[0] - down[0]) / 2e-4, gradient[j] * error, atol=2e-5)
        assert_allclose((up[1] - down[1]) / 2e-4 * errors, observed[j] * error * errors,
                        atol=tolerance)


def test_the_fisher_information_is_the_weighted_product_of_derivatives(case):
    _, _, fisher = case.likelihood.evaluate(case.params, case.rows, 'fisher')
    slopes = []
    for j in range(len(case.params)):
        step = np.zeros_like(case.params)
        step[j] = 1e-5 * np.maximum(np.abs(case.params[j]), 1.0)
        up, down = (case.likelihood.mean(case.params + sign * step, case.rows)[1]
                    for sign in (1, -1))
        slopes.append((up - down) / (2 * step[j][:, np.newaxis]))
    mean = case.likelihood.mean(case.params, case.rows)[1]
    expected = np.einsum('imp,jmp,mp->ijm', slopes, slopes, case.weights / mean)
    scale = np.sqrt(np.einsum('iim->im', expected))
    assert_allclose(fisher / scale / scale[:, np.newaxis], expected / scale / scale[:, np.newaxis],
                    atol=1e-5)


def test_masked_pixels_say_nothing():
    case = Case(*CASES['prf'])
    changed = Case(*CASES['prf'])
    # As they come: 0 where masked. But the place of a masked pixel is of no consequence, either.
    masked = changed.weights == 0
    changed.x[masked], changed.y[masked] = 15, 10
    for curvature in ('newton', 'fisher', 'observed'):
        for one, other in zip(case.likelihood.evaluate(case.params, case.rows, curvature),
                              changed.likelihood.evaluate(case.params, case.rows, curvature)):
            assert_allclose(one, other, rtol=1e-7)
    assert case.weights[masked].size > 20


def test_without_masked_pixels_weights_make_no_difference():
    case = Case(*CASES['circular'], with_weights=False)
    profile, _ = profile_of(case.model, case.moving)
    other = GroupLikelihood(case.counts, case.x, case.y, profile, case.start, case.moving, REACH,
                            offset=case.offset, weights=np.ones_like(case.counts))
    for one, two in zip(case.likelihood.evaluate(case.params, case.rows, 'observed'),
                        other.evaluate(case.params, case.rows, 'observed')):
        assert_array_equal(one, two)


def test_a_star_may_go_as_far_as_its_reach_and_numbers_must_be_finite():
    case = Case(*CASES['prf'])
    assert case.likelihood.is_valid(case.params).all()
    for row, (j, reach) in enumerate([(1, 5.0), (2, 5.0), (4, -5.0)]):
        case.params[j, row] = reach
    assert case.likelihood.is_valid(case.params).all()
    for row, (j, reach) in enumerate([(1, 5.01), (2, 5.01), (4, -5.01)]):
        case.params[j, row] = reach
    assert_array_equal(case.likelihood.is_valid(case.params), [False, False, False, True])
    case.params[0, 3] = np.nan
    assert not case.likelihood.is_valid(case.params).any()


def test_a_reach_is_along_x_and_y():
    case = Case(*CASES['prf'])
    profile, _ = profile_of(case.model, case.moving)
    likelihood = GroupLikelihood(case.counts, case.x, case.y, profile, case.start, case.moving,
                                 (1, 7), offset=case.offset)
    case.params[2] = 6.0
    assert likelihood.is_valid(case.params).all()
    case.params[1] = 2.0
    assert not likelihood.is_valid(case.params).any()


def test_fixed_positions_have_no_reach():
    case = Case(*CASES['prf, positions fixed'])
    case.params[:] = 1e5
    assert case.likelihood.is_valid(case.params).all()


@pytest.mark.parametrize('name', ['circular, shape free', 'prf', 'image', 'moffat'])
def test_a_star_of_no_flux_has_finite_derivatives(name):
    case = Case(*CASES[name])
    q = len(case.moving)
    case.params[:q] = 0.0
    if 3 in case.moving:
        case.params[3] = 2.0
    value, gradient, fisher = case.likelihood.evaluate(case.params, case.rows, 'fisher')
    observed = case.likelihood.evaluate(case.params, case.rows, 'observed')[2]
    for numbers in (value, gradient, fisher, observed):
        assert np.isfinite(numbers).all()
    # The place of a star without light is not known; its flux is.
    assert_array_equal(fisher[1, 1], 0.0)
    assert (fisher[0, 0] > 0).all()
    step = np.zeros_like(case.params)
    step[0] = 1e-2
    up, down = (case.likelihood.evaluate(case.params + sign * step, case.rows)[0]
                for sign in (1, -1))
    assert_allclose(gradient[0], (up - down) / 2e-2, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize('name', ['image', 'prf', 'circular', 'moffat'])
def test_a_star_beyond_its_pixels_adds_nothing_and_breaks_nothing(name):
    model, shape, moving = CASES[name]
    case = Case(model, shape, moving)
    far = case.start.copy()
    far[1, 0] = 500.0
    profile, _ = profile_of(model, moving)
    likelihood = GroupLikelihood(case.counts, case.x, case.y, profile, far, moving, REACH,
                                 offset=case.offset, weights=case.weights)
    moved = case.moved.copy()
    moved[1, 0] = 500.0
    assert_allclose(likelihood.mean(case.params, case.rows)[0], case.sum_of(moved), rtol=1e-9,
                    atol=1e-9)
    for numbers in likelihood.evaluate(case.params, case.rows, 'observed'):
        assert np.isfinite(numbers).all()


def test_starting_images_are_the_stars_where_they_start_and_dark_where_masked():
    case = Case(*CASES['prf'])
    images, light = case.likelihood.starting_images()
    assert images.shape == (N_GROUPS, N_STARS, case.x.shape[1])
    assert_allclose(np.einsum('sm,msp->mp', case.start[0], images),
                    case.sum_of(case.start) * case.weights, rtol=1e-9, atol=1e-9)
    assert_allclose(light, (case.counts - case.offset) * case.weights)


def test_evaluation_does_not_change_what_was_given():
    case = Case(*CASES['turned, all free'])
    before = [values.copy() for values in (case.params, case.start, case.counts, case.offset)]
    for curvature in ('newton', 'fisher', 'observed'):
        case.likelihood.evaluate(case.params, case.rows, curvature)
    case.likelihood.starting_images()
    for values, old in zip((case.params, case.start, case.counts, case.offset), before):
        assert_array_equal(values, old)
