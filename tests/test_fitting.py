# Licensed under a 3-clause BSD style license - see LICENSE
"""
Tests of kpsf.fitting: the contract of an astropy fitter, and the statistics of this one.
"""

import copy
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.modeling import models
from astropy.modeling.fitting import FittingWithOutlierRemoval, NonFiniteValueError, TRFLSQFitter
from astropy.stats import sigma_clip
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning
from numpy.testing import assert_allclose
from photutils.psf import CircularGaussianPSF
from scipy.optimize import minimize

from kpsf.fitting import PoissonLikelihoodFitter
from kpsf.models import EllipticalGaussianPSF
from kpsf.stamps import fit_stamps
from kpsf.statistics import cstat

X = np.linspace(0.5, 20.5, 61)
ROWS, COLUMNS = (axis.astype(float) for axis in np.mgrid[:11, :11])

KEYS = {'x', 'param_cov', 'fvec', 'status', 'ierr', 'success', 'message', 'nfev', 'cstat',
        'gof_z', 'edm', 'background', 'background_err'}


def make_line():
    """A line above a level, with a start that is not at the truth."""
    truth = models.Gaussian1D(40.0, 10.0, 1.5) + models.Const1D(3.0)
    start = models.Gaussian1D(25.0, 9.0, 2.2) + models.Const1D(5.0)
    return truth, start


def make_star(flux=1000.0):
    """A star of fixed shape and a start that is not at the truth."""
    star = EllipticalGaussianPSF.from_stddev(flux, 5.2, 4.9, 1.3, 1.0, 0.3)
    for name in 'abc':
        getattr(star, name).fixed = True
    start = star.copy()
    start.parameters = [0.8 * flux, 5.0, 5.0, *star.parameters[3:]]
    return star, start


def fit_many(fitter, start, inputs, images):
    """Fit many data sets; return estimates, errors and goodness, one row for each."""
    rows = []
    for image in images:
        fitter(start, *inputs, image)
        info = fitter.fit_info
        assert info.success
        rows.append([*info.x, *np.sqrt(np.diag(info.param_cov)), info.gof_z])
    n_free = len(info.x)
    rows = np.array(rows)
    return rows[:, :n_free], rows[:, n_free:2 * n_free], rows[:, -1]


def assert_standard_normal(pulls):
    """
    Check mean and standard deviation of pulls, (n, ...), at four standard errors.
    """
    n = len(pulls)
    assert np.all(np.abs(pulls.mean(axis=0)) < 4.0 / np.sqrt(n))
    assert np.all(np.abs(pulls.std(axis=0) - 1.0) < 4.0 / np.sqrt(2.0 * n))


def make_contract():
    """Models with parameters of each kind, and starts away from the truth."""
    psf = EllipticalGaussianPSF.from_stddev
    return {
        'Gaussian1D': (models.Gaussian1D(30.0, 10.0, 1.5), models.Gaussian1D(20.0, 9.0, 2.5)),
        'Gaussian1D + Const1D': make_line(),
        'two lines on a slope': (
            models.Linear1D(0.2, 5.0) + models.Gaussian1D(40.0, 6.0, 1.0)
            + models.Gaussian1D(30.0, 13.0, 1.2),
            models.Linear1D(0.1, 7.0) + models.Gaussian1D(30.0, 6.5, 1.5)
            + models.Gaussian1D(25.0, 12.6, 1.5)),
        'Voigt1D': (models.Voigt1D(10.0, 60.0, 1.5, 1.2), models.Voigt1D(9.5, 40.0, 2.0, 1.0)),
        'Lorentz1D': (models.Lorentz1D(30.0, 10.0, 2.0), models.Lorentz1D(20.0, 11.0, 3.0)),
        'Moffat1D': (models.Moffat1D(60.0, 10.0, 2.0, 2.5), models.Moffat1D(40.0, 9.0, 2.5, 2.0)),
        'Exponential1D': (models.Exponential1D(30.0, -6.0), models.Exponential1D(20.0, -9.0)),
        'PowerLaw1D': (models.PowerLaw1D(30.0, 5.0, 1.3, fixed={'x_0': True}),
                       models.PowerLaw1D(20.0, 5.0, 0.8, fixed={'x_0': True})),
        'EllipticalGaussianPSF': (psf(500.0, 5.2, 4.9, 1.3, 1.0, 0.3),
                                  psf(300.0, 4.6, 5.6, 1.8, 1.8)),
        'Gaussian2D': (models.Gaussian2D(40.0, 5.2, 4.9, 1.6, 1.0, 0.3),
                       models.Gaussian2D(30.0, 5.8, 4.5, 2.2, 1.3, 0.6)),
        'Sersic2D': (models.Sersic2D(60.0, 2.5, 1.5, 5.2, 4.9, 0.3, 0.5),
                     models.Sersic2D(40.0, 3.0, 1.2, 5.0, 5.0, 0.2, 0.8)),
        'AiryDisk2D': (models.AiryDisk2D(90.0, 5.2, 4.9, 4.0),
                       models.AiryDisk2D(60.0, 5.5, 4.6, 4.6)),
        'Moffat2D + Const2D': (models.Moffat2D(60.0, 5.2, 4.9, 2.0, 2.5) + models.Const2D(1.0),
                               models.Moffat2D(40.0, 5.6, 4.6, 2.4, 2.2) + models.Const2D(2.0)),
    }


CONTRACT = make_contract()


def coordinates(model):
    """Coordinates for data of a model."""
    return (X,) if model.n_inputs == 1 else (COLUMNS, ROWS)


@pytest.fixture(name='case', params=CONTRACT)
def fixture_case(request):
    """Truth, start, coordinates and Poisson data of one model."""
    truth, start = (model.copy() for model in CONTRACT[request.param])
    inputs = coordinates(truth)
    data = np.random.default_rng(41).poisson(truth(*inputs))
    return truth, start, inputs, data


class TestFitterContract:
    """
    What astropy and photutils may expect of every fit, for models of all kinds.
    """

    def test_a_fit_from_afar_ends_where_one_from_the_truth_does(self, case):
        truth, start, inputs, data = case
        fitter = PoissonLikelihoodFitter()
        near = fitter(truth, *inputs, data)
        near_info = fitter.fit_info
        far = fitter(start, *inputs, data)
        assert near_info.success
        assert fitter.fit_info.success
        errors = np.sqrt(np.diag(near_info.param_cov))
        free = ~np.array([near.fixed[name] for name in near.param_names])
        assert np.all(np.abs(far.parameters - near.parameters)[free] < 0.01 * errors)
        assert_allclose(fitter.fit_info.cstat, near_info.cstat, atol=1e-4)

    def test_no_small_change_of_a_parameter_is_more_likely(self, case):
        _, start, inputs, data = case
        fitter = PoissonLikelihoodFitter()
        fitted = fitter(start, *inputs, data)
        errors = np.sqrt(np.diag(fitter.fit_info.param_cov))
        free = [i for i, name in enumerate(fitted.param_names) if not fitted.fixed[name]]
        for i, error in zip(free, errors, strict=True):
            for step in (-0.05, 0.05):
                parameters = fitted.parameters.copy()
                parameters[i] += step * error
                changed = cstat(data, fitted.evaluate(*inputs, *parameters))
                assert changed > fitter.fit_info.cstat

    def test_the_estimate_is_within_a_few_errors_of_the_truth(self, case):
        truth, start, inputs, data = case
        fitter = PoissonLikelihoodFitter()
        fitter(start, *inputs, data)
        free = [i for i, name in enumerate(truth.param_names) if not truth.fixed[name]]
        offset = fitter.fit_info.x - truth.parameters[free]
        # All together: chi-square with as many degrees of freedom as parameters.
        distance = offset @ np.linalg.solve(fitter.fit_info.param_cov, offset)
        assert distance < 4.0 * len(free) + 10.0

    def test_numerical_derivatives_give_the_same_fit(self, case):
        _, start, inputs, data = case
        fitter = PoissonLikelihoodFitter()
        analytic = fitter(start, *inputs, data)
        analytic_cov = fitter.fit_info.param_cov
        numeric = fitter(start, *inputs, data, estimate_jacobian=True)
        errors = np.sqrt(np.diag(analytic_cov))
        free = ~np.array([analytic.fixed[name] for name in analytic.param_names])
        assert np.all(np.abs(numeric.parameters - analytic.parameters)[free] < 5e-3 * errors)
        assert_allclose(np.diag(fitter.fit_info.param_cov), np.diag(analytic_cov), rtol=0.02)

    def test_fit_info_has_what_the_callers_read(self, case):
        _, start, inputs, data = case
        fitter = PoissonLikelihoodFitter()
        fitted = fitter(start, *inputs, data)
        info = fitter.fit_info
        assert KEYS <= set(info)
        assert isinstance(info, dict)
        assert info.status == info.ierr == 1
        assert_allclose(info.fvec, np.ravel(fitted(*inputs) - data), atol=1e-8)
        assert_allclose(info.cstat, cstat(data, fitted(*inputs)))
        assert info.param_cov.shape == (len(info.x), len(info.x))
        assert info.edm < 1e-6
        assert info.nfev > 1

    def test_the_given_model_changes_only_in_place(self, case):
        _, start, inputs, data = case
        before = start.parameters.copy()
        fitter = PoissonLikelihoodFitter()
        fitted = fitter(start, *inputs, data)
        assert np.array_equal(start.parameters, before)
        assert fitted.sync_constraints
        same = fitter(start, *inputs, data, inplace=True)
        assert same is start
        assert np.array_equal(same.parameters, fitted.parameters)


class TestStatistics:
    """
    Bias, scatter and errors over many simulations.
    """

    def test_pulls_of_a_star_on_a_fitted_background_are_standard_normal(self):
        truth, start = make_star()
        rng = np.random.default_rng(5)
        images = rng.poisson(truth(COLUMNS, ROWS) + 2.0, (400, *ROWS.shape))
        fitter = PoissonLikelihoodFitter(background='fit')
        values, errors, gof_z = fit_many(fitter, start, (COLUMNS, ROWS), images)
        assert_standard_normal((values - truth.parameters[:3]) / errors)
        assert_standard_normal(gof_z)

    def test_the_goodness_of_fit_of_empty_pixels_is_standard_normal(self):
        y, x = np.mgrid[:41, :41]
        cluster = models.Moffat2D(amplitude=3.0, x_0=20.0, y_0=20.0, gamma=3.0, alpha=1.5)
        images = np.random.default_rng(7).poisson(cluster(x, y) + 0.1, (200, 41, 41))
        assert np.mean(images == 0) > 0.8
        cluster.alpha.fixed = True
        fitter = PoissonLikelihoodFitter(background='fit')
        _, _, gof_z = fit_many(fitter, cluster, (x, y), images)
        assert_standard_normal(gof_z)

    def test_pulls_of_a_line_are_standard_normal(self):
        truth, start = make_line()
        spectra = np.random.default_rng(6).poisson(truth(X), (400, X.size))
        values, errors, gof_z = fit_many(PoissonLikelihoodFitter(), start, (X,), spectra)
        assert_standard_normal((values - truth.parameters) / errors)
        assert_standard_normal(gof_z)

    def test_faint_fluxes_have_no_bias_where_weighted_least_squares_do(self):
        truth, start = make_star(60.0)
        start.x_0.fixed = start.y_0.fixed = True
        start.parameters = truth.parameters
        start.flux = 40.0
        images = np.random.default_rng(7).poisson(truth(COLUMNS, ROWS) + 0.5, (400, *ROWS.shape))
        poisson = PoissonLikelihoodFitter(background=0.5)
        values, _, _ = fit_many(poisson, start, (COLUMNS, ROWS), images - 0.5)
        least_squares = TRFLSQFitter()
        others = [least_squares(start, COLUMNS, ROWS, image - 0.5,
                                weights=1.0 / np.sqrt(np.maximum(image, 1.0))).flux.value
                  for image in images[:100]]
        error_of_mean = values.std() / np.sqrt(len(values))
        assert abs(values.mean() - 60.0) < 4.0 * error_of_mean
        assert error_of_mean < 0.6
        assert np.mean(others) < 54.0

    def test_read_noise_enters_the_errors(self):
        truth, start = make_star()
        rng = np.random.default_rng(8)
        images = (rng.poisson(truth(COLUMNS, ROWS) + 4.0, (400, *ROWS.shape))
                  + rng.normal(0.0, 5.0, (400, *ROWS.shape)))
        fitter = PoissonLikelihoodFitter(background='fit', read_noise=5.0)
        values, errors, _ = fit_many(fitter, start, (COLUMNS, ROWS), images)
        assert_standard_normal((values - truth.parameters[:3]) / errors)

    def test_the_fitted_background_is_right_and_so_is_its_error(self):
        truth, start = make_star()
        images = np.random.default_rng(9).poisson(truth(COLUMNS, ROWS) + 3.0, (300, *ROWS.shape))
        fitter = PoissonLikelihoodFitter(background='fit')
        pulls = []
        for image in images:
            fitter(start, COLUMNS, ROWS, image)
            pulls.append((fitter.fit_info.background - 3.0) / fitter.fit_info.background_err)
        assert_standard_normal(np.array(pulls))

    def test_a_background_that_nobody_mentioned_is_asked_for(self):
        truth, start = make_star()
        image = np.random.default_rng(9).poisson(truth(COLUMNS, ROWS) + 3.0)
        fitter = PoissonLikelihoodFitter()
        fitter(start, COLUMNS, ROWS, image)
        assert fitter.fit_info.gof_z > 5
        assert 'background=0 says that the data contain none' in fitter.fit_info.message
        for background, data in (('fit', image), (3.0, image - 3.0)):
            fitter = PoissonLikelihoodFitter(background=background)
            fitter(start, COLUMNS, ROWS, data)
            assert fitter.fit_info.message.endswith('is below 1e-6.')
        fitter = PoissonLikelihoodFitter()
        fitter(start + models.Const2D(2.0), COLUMNS, ROWS, image)
        assert fitter.fit_info.message.endswith('is below 1e-6.')

    def test_no_background_is_found_where_there_is_none(self):
        truth, start = make_star(200.0)
        images = np.random.default_rng(10).poisson(truth(COLUMNS, ROWS), (60, *ROWS.shape))
        fitter = PoissonLikelihoodFitter(background='fit')
        backgrounds = []
        for image in images:
            fitter(start, COLUMNS, ROWS, image)
            assert fitter.fit_info.success
            backgrounds.append(fitter.fit_info.background)
        assert min(backgrounds) == 0.0
        assert max(backgrounds) < 0.2

    def test_the_fit_is_the_one_of_a_general_minimiser(self):
        truth, start = make_line()
        data = np.random.default_rng(11).poisson(truth(X))
        fitter = PoissonLikelihoodFitter()
        fitted = fitter(start, X, data)

        def statistic(scaled):
            mean = truth.evaluate(X, *(scaled * truth.parameters))
            return cstat(data, np.maximum(mean, 1e-10))

        other = minimize(statistic, np.ones(4), method='Nelder-Mead',
                         options={'xatol': 1e-7, 'fatol': 1e-9, 'maxfev': 4000})
        assert_allclose(fitted.parameters, other.x * truth.parameters, rtol=1e-4)


class TestConstraints:
    """
    Fixed, tied and bounded parameters, and priors.
    """

    def test_fixed_parameters_do_not_move(self):
        truth, start = make_star()
        data = np.random.default_rng(12).poisson(truth(COLUMNS, ROWS))
        start.x_0.fixed = True
        fitter = PoissonLikelihoodFitter()
        fitted = fitter(start, COLUMNS, ROWS, data)
        assert np.array_equal(fitted.parameters[[1, 3, 4, 5]], start.parameters[[1, 3, 4, 5]])
        assert fitter.fit_info.param_cov.shape == (2, 2)
        assert fitted.fixed == start.fixed

    def test_a_model_without_free_parameters_is_only_compared(self):
        truth, _ = make_star()
        for name in truth.param_names:
            getattr(truth, name).fixed = True
        data = np.random.default_rng(13).poisson(truth(COLUMNS, ROWS))
        fitter = PoissonLikelihoodFitter(calc_uncertainties=True)
        fitted = fitter(truth, COLUMNS, ROWS, data)
        assert np.array_equal(fitted.parameters, truth.parameters)
        assert fitter.fit_info.success
        assert fitter.fit_info.param_cov.shape == (0, 0)
        assert_allclose(fitter.fit_info.cstat, cstat(data, truth(COLUMNS, ROWS)))

    def test_a_background_is_fitted_to_a_fixed_model(self):
        truth, _ = make_star()
        for name in truth.param_names:
            getattr(truth, name).fixed = True
        data = np.random.default_rng(13).poisson(truth(COLUMNS, ROWS) + 5.0)
        fitter = PoissonLikelihoodFitter(background='fit')
        fitter(truth, COLUMNS, ROWS, data)
        assert abs(fitter.fit_info.background - 5.0) < 4.0 * fitter.fit_info.background_err

    @pytest.mark.parametrize('estimate_jacobian', [False, True])
    def test_tied_parameters_follow(self, estimate_jacobian):
        lines = models.Gaussian1D(40.0, 6.0, 1.2) + models.Gaussian1D(30.0, 12.0, 2.4)
        data = np.random.default_rng(14).poisson(lines(X) + 2.0)
        start = models.Gaussian1D(30.0, 6.5, 1.5) + models.Gaussian1D(30.0, 11.0, 2.0)
        start.stddev_1.tied = lambda model: 2.0 * model.stddev_0
        start.mean_1.tied = lambda model: model.mean_0 + 6.0
        fitter = PoissonLikelihoodFitter(background='fit')
        fitted = fitter(start, X, data, estimate_jacobian=estimate_jacobian)
        assert_allclose(fitted.stddev_1, 2.0 * fitted.stddev_0.value, rtol=1e-12)
        assert_allclose(fitted.mean_1, fitted.mean_0.value + 6.0, rtol=1e-12)

        @models.custom_model
        def pair(x, amplitude_0=30.0, mean=6.5, stddev=1.5, amplitude_1=30.0):
            """The same lines with four parameters of their own."""
            return (amplitude_0 * np.exp(-0.5 * ((x - mean) / stddev)**2)
                    + amplitude_1 * np.exp(-0.125 * ((x - mean - 6.0) / stddev)**2))

        cov = fitter.fit_info.param_cov
        free = fitter(pair(), X, data)
        assert_allclose(fitted.parameters[:4], free.parameters, rtol=1e-5)
        assert_allclose(cov, fitter.fit_info.param_cov, rtol=1e-3, atol=1e-7)

    def test_a_bound_stops_the_parameter_and_not_the_others(self):
        truth, start = make_line()
        data = np.random.default_rng(15).poisson(truth(X))
        start.stddev_0.max = 1.2
        fitter = PoissonLikelihoodFitter()
        fitted = fitter(start, X, data)
        assert fitted.stddev_0 == 1.2
        start.stddev_0.fixed = True
        start.stddev_0 = 1.2
        expected = fitter(start, X, data)
        assert_allclose(fitted.parameters, expected.parameters, rtol=1e-4)

    def test_bounds_that_do_not_matter_do_not_change_the_fit(self):
        truth, start = make_line()
        data = np.random.default_rng(16).poisson(truth(X))
        free = PoissonLikelihoodFitter()(start, X, data)
        start.amplitude_0.bounds = (0.0, 1e4)
        start.mean_0.bounds = (5.0, 15.0)
        bounded = PoissonLikelihoodFitter()(start, X, data)
        assert_allclose(bounded.parameters, free.parameters, rtol=1e-6)

    def test_a_start_outside_its_bounds_is_moved_inside(self):
        truth, start = make_line()
        data = np.random.default_rng(17).poisson(truth(X))
        expected = PoissonLikelihoodFitter()(start, X, data)
        start.mean_0.bounds = (8.0, 12.0)
        start.mean_0 = 5.0
        start.amplitude_1.min = 1.0
        start.amplitude_1 = -3.0
        fitted = PoissonLikelihoodFitter()(start, X, data)
        assert_allclose(fitted.parameters, expected.parameters, rtol=1e-4)

    def test_a_narrow_prior_decides(self):
        truth, start = make_star(100.0)
        data = np.random.default_rng(18).poisson(truth(COLUMNS, ROWS))
        fitter = PoissonLikelihoodFitter(priors={'x_0': (4.7, 1e-4)})
        fitted = fitter(start, COLUMNS, ROWS, data)
        assert_allclose(fitted.x_0, 4.7, atol=1e-3)
        assert_allclose(np.sqrt(fitter.fit_info.param_cov[1, 1]), 1e-4, rtol=1e-3)

    @pytest.mark.parametrize('covariance', ['fisher', 'observed', 'sandwich'])
    def test_a_prior_counts_as_one_more_measurement(self, covariance):
        level = models.Const1D(50.0)
        data = np.full(100, 49.0) + np.tile([-7.0, 7.0], 50)
        prior = (52.0, 0.7)
        fitter = PoissonLikelihoodFitter(priors={'amplitude': prior}, covariance=covariance)
        # Without astropy's advice to take linear least squares.
        fitted = fitter(level, np.arange(100.0), data)
        precision = np.array([100.0 / 49.0, prior[1]**-2])
        expected = (precision @ [49.0, prior[0]]) / precision.sum()
        assert_allclose(fitted.amplitude, expected, rtol=0.002)
        assert_allclose(fitter.fit_info.param_cov[0, 0], 1.0 / precision.sum(), rtol=0.1)

    def test_a_wide_prior_changes_nothing(self):
        truth, start = make_star()
        data = np.random.default_rng(19).poisson(truth(COLUMNS, ROWS) + 1.0)
        plain = PoissonLikelihoodFitter(background='fit')(start, COLUMNS, ROWS, data)
        wide = PoissonLikelihoodFitter(
            background='fit', priors={'x_0': (0.0, 1e5), 'flux': (0.0, 1e9),
                                      'background': (5.0, 1e6), 'a': (9.0, 1e-9)})
        assert_allclose(wide(start, COLUMNS, ROWS, data).parameters, plain.parameters, rtol=1e-5)

    def test_a_prior_on_the_background_is_in_the_unit_of_the_data(self):
        truth, start = make_star()
        data = np.random.default_rng(20).poisson(truth(COLUMNS, ROWS) + 3.0) / 20.0
        fitter = PoissonLikelihoodFitter(background='fit', gain=20.0,
                                         priors={'background': (0.4, 1e-5)})
        fitter(start, COLUMNS, ROWS, data)
        assert_allclose(fitter.fit_info.background, 0.4, rtol=1e-3)
        assert_allclose(fitter.fit_info.background_err, 1e-5, rtol=1e-3)


class TestBackground:
    """
    Every way to say what was subtracted, gain and read noise.
    """

    @pytest.mark.parametrize('give', [
        lambda level: level,
        lambda level: np.full(ROWS.shape, level),
        lambda level: np.full((30, 40), level),
        lambda level: lambda x, y: np.full(x.shape, level),
        lambda level: lambda x, y: level,
    ], ids=['number', 'array', 'map', 'function', 'constant function'])
    def test_all_ways_to_give_a_level_agree(self, give):
        truth, start = make_star()
        data = np.random.default_rng(21).poisson(truth(COLUMNS, ROWS) + 6.0)
        expected = PoissonLikelihoodFitter(background=6.0)
        one = expected(start, COLUMNS, ROWS, data - 6.0)
        fitter = PoissonLikelihoodFitter(background=give(6.0))
        other = fitter(start, COLUMNS, ROWS, data - 6.0)
        assert np.array_equal(other.parameters, one.parameters)
        assert np.array_equal(fitter.fit_info.param_cov, expected.fit_info.param_cov)

    def test_a_known_background_equals_a_fixed_part_of_the_model(self):
        truth, start = make_star()
        data = np.random.default_rng(22).poisson(truth(COLUMNS, ROWS) + 6.0)
        known = PoissonLikelihoodFitter(background=6.0)(start, COLUMNS, ROWS, data - 6.0)
        compound = start + models.Const2D(6.0, fixed={'amplitude': True})
        together = PoissonLikelihoodFitter()(compound, COLUMNS, ROWS, data)
        assert_allclose(known.parameters, together.parameters[:-1], rtol=1e-6)

    def test_a_fitted_background_equals_a_free_part_of_the_model(self):
        truth, start = make_star()
        data = np.random.default_rng(23).poisson(truth(COLUMNS, ROWS) + 6.0)
        fitter = PoissonLikelihoodFitter(background='fit')
        one = fitter(start, COLUMNS, ROWS, data)
        info = fitter.fit_info
        both = fitter.__class__()
        together = both(start + models.Const2D(3.0), COLUMNS, ROWS, data)
        assert_allclose(one.parameters, together.parameters[:-1], rtol=1e-5)
        assert_allclose(info.background, together.amplitude_1, rtol=1e-4)
        scale = np.sqrt(np.diag(info.param_cov))
        scale = np.outer(scale, scale)
        assert_allclose(info.param_cov / scale, both.fit_info.param_cov[:-1, :-1] / scale,
                        rtol=0, atol=1e-5)
        assert_allclose(info.background_err**2, both.fit_info.param_cov[-1, -1], rtol=1e-3)
        assert_allclose(info.fvec, both.fit_info.fvec, atol=1e-3)

    def test_a_map_is_looked_up_at_the_coordinates(self):
        truth, start = make_star()
        level = np.random.default_rng(24).uniform(1.0, 20.0, (60, 50))
        x, y = (COLUMNS + 30).astype(int), (ROWS + 20).astype(int)
        for model in (truth, start):
            model.x_0 += 30.0
            model.y_0 += 20.0
        here = level[20:31, 30:41]
        data = np.random.default_rng(24).poisson(truth(x, y) + here) - here
        by_map = PoissonLikelihoodFitter(background=level)(start, x.ravel(), y.ravel(),
                                                           data.ravel())
        by_array = PoissonLikelihoodFitter(background=here)(start, x, y, data)
        assert np.array_equal(by_map.parameters, by_array.parameters)

    def test_a_function_of_one_coordinate_serves_one_dimension(self):
        truth, start = make_line()
        slope = 2.0 + 0.3 * X
        data = np.random.default_rng(25).poisson(truth(X) + slope) - slope
        by_function = PoissonLikelihoodFitter(background=lambda x: 2.0 + 0.3 * x)(start, X, data)
        by_array = PoissonLikelihoodFitter(background=slope)(start, X, data)
        assert np.array_equal(by_function.parameters, by_array.parameters)

    def test_subtracting_and_restoring_leaves_empty_pixels_empty(self):
        truth, start = make_star(60.0)
        counts = np.random.default_rng(26).poisson(truth(COLUMNS, ROWS))
        level = 0.1 + 0.001 * COLUMNS
        fitter = PoissonLikelihoodFitter(background=level)
        fitter(start, COLUMNS, ROWS, counts - level)
        assert np.isfinite(fitter.fit_info.cstat)

    @pytest.mark.parametrize('background', [0.0, 3.0, 'fit'])
    def test_rates_with_a_gain_are_fitted_like_counts(self, background):
        truth, start = make_star()
        counts = np.random.default_rng(27).poisson(truth(COLUMNS, ROWS) + 3.0).astype(float)
        if background == 3.0:
            counts -= 3.0
        in_counts = PoissonLikelihoodFitter(background=background, read_noise=2.0)
        fitted = in_counts(start, COLUMNS, ROWS, counts)
        level = background if background == 'fit' else background / 50.0
        in_rates = PoissonLikelihoodFitter(background=level, read_noise=2.0, gain=50.0)
        start.flux /= 50.0
        rates = in_rates(start, COLUMNS, ROWS, counts / 50.0)
        scale = np.array([1.0 / 50.0, 1.0, 1.0])
        assert_allclose(rates.parameters[:3], scale * fitted.parameters[:3], rtol=1e-6)
        assert_allclose(in_rates.fit_info.param_cov,
                        in_counts.fit_info.param_cov * np.outer(scale, scale), rtol=1e-5,
                        atol=1e-12)
        assert_allclose(in_rates.fit_info.cstat, in_counts.fit_info.cstat, rtol=1e-6)
        assert_allclose(50.0 * in_rates.fit_info.background, in_counts.fit_info.background,
                        rtol=1e-4)
        assert_allclose(50.0 * in_rates.fit_info.fvec, in_counts.fit_info.fvec, atol=1e-3)

    def test_read_noise_makes_negative_pixels_possible(self):
        truth, start = make_star()
        rng = np.random.default_rng(28)
        data = rng.poisson(truth(COLUMNS, ROWS)) + rng.normal(0.0, 4.0, ROWS.shape)
        assert (data < 0).any()
        fitter = PoissonLikelihoodFitter(read_noise=4.0)
        fitted = fitter(start, COLUMNS, ROWS, data)
        error = np.sqrt(fitter.fit_info.param_cov[0, 0])
        assert abs(fitted.flux - truth.flux.value) < 4.0 * error


class TestCovariance:
    """
    The three covariances.
    """

    @staticmethod
    def fit_slope(covariance):
        """Fit a line to counts; return its design, counts, mean and the covariance."""
        design = np.array([X, np.ones_like(X)])
        counts = np.random.default_rng(29).poisson(4.0 + 0.5 * X)
        fitter = PoissonLikelihoodFitter(covariance=covariance)
        fitted = fitter(models.Linear1D(0.4, 5.0), X, counts)
        return design, counts, fitted(X), fitter.fit_info.param_cov

    def test_fisher_is_the_inverse_expected_information(self):
        design, _, mean, cov = self.fit_slope('fisher')
        # The covariance is that of the last evaluation, within 1.5e-3 errors of the end.
        assert_allclose(cov, np.linalg.inv(design / mean @ design.T), rtol=1e-4)

    def test_observed_is_the_inverse_of_the_second_derivatives(self):
        design, counts, mean, cov = self.fit_slope('observed')
        assert_allclose(cov, np.linalg.inv(design * counts / mean**2 @ design.T), rtol=1e-5)

    def test_sandwich_has_the_variance_of_the_counts_inside(self):
        truth, start = make_line()
        data = np.random.default_rng(29).poisson(truth(X))
        covs = {}
        for kind in ('observed', 'sandwich'):
            fitter = PoissonLikelihoodFitter(covariance=kind)
            fitted = fitter(start, X, data)
            covs[kind] = fitter.fit_info.param_cov
        slopes = np.array(fitted.fit_deriv(X, *fitted.parameters)) / fitted(X)
        inside = slopes * data @ slopes.T
        assert_allclose(covs['sandwich'], covs['observed'] @ inside @ covs['observed'], rtol=1e-6)

    def test_all_three_agree_for_a_right_model_and_many_counts(self):
        truth, start = make_star(1e7)
        x, y = np.meshgrid(np.linspace(0, 10, 41), np.linspace(0, 10, 41))
        data = np.random.default_rng(30).poisson(truth(x, y))
        errors = []
        for covariance in ('fisher', 'observed', 'sandwich'):
            fitter = PoissonLikelihoodFitter(covariance=covariance)
            fitter(start, x, y, data)
            errors.append(np.sqrt(np.diag(fitter.fit_info.param_cov)))
        assert_allclose(errors[1], errors[0], rtol=0.02)
        assert_allclose(errors[2], errors[0], rtol=0.15)

    def test_sandwich_is_the_scatter_of_a_wrong_model(self):
        truth, start = make_star(3e4)
        start.a, start.b, start.c = 0.9, 0.0, 0.9
        images = np.random.default_rng(31).poisson(truth(COLUMNS, ROWS) + 1.0, (400, *ROWS.shape))
        right, wrong = (PoissonLikelihoodFitter(background='fit', covariance=kind)
                        for kind in ('sandwich', 'fisher'))
        values, errors, gof_z = fit_many(right, start, (COLUMNS, ROWS), images)
        assert gof_z.min() > 100.0
        assert_standard_normal((values - values.mean(axis=0)) / errors)
        _, errors, _ = fit_many(wrong, start, (COLUMNS, ROWS), images[:20])
        assert not np.allclose(values.std(axis=0) / errors.mean(axis=0), 1.0, atol=0.3)

    def test_uncertainties_are_put_on_the_model(self):
        truth, start = make_star()
        data = np.random.default_rng(32).poisson(truth(COLUMNS, ROWS))
        fitter = PoissonLikelihoodFitter(calc_uncertainties=True)
        fitted = fitter(start, COLUMNS, ROWS, data)
        assert_allclose(fitted.stds['flux'], np.sqrt(fitter.fit_info.param_cov[0, 0]))
        assert fitted.cov_matrix['flux', 'x_0'] == fitter.fit_info.param_cov[0, 1]
        assert fitted.stds.param_names == ['flux', 'x_0', 'y_0']
        assert PoissonLikelihoodFitter()(start, COLUMNS, ROWS, data).stds is None

    def test_degenerate_parameters_have_no_covariance(self):
        truth, _ = make_line()
        data = np.random.default_rng(33).poisson(truth(X))
        fitter = PoissonLikelihoodFitter(calc_uncertainties=True)
        fitted = fitter(truth + models.Const1D(1.0), X, data)
        assert fitter.fit_info.success
        assert fitter.fit_info.param_cov is None
        assert 'degenerate' in fitter.fit_info.message
        assert fitted.stds['amplitude_0'] is None

    def test_uncertainties_of_an_earlier_fit_do_not_stay(self):
        truth, _ = make_line()
        model = truth + models.Const1D(1.0, fixed={'amplitude': True})
        data = np.random.default_rng(33).poisson(model(X))
        fitter = PoissonLikelihoodFitter(calc_uncertainties=True)
        fitter(model, X, data, inplace=True)
        assert model.amplitude_0.std > 0.0
        model.amplitude_2.fixed = False
        fitter(model, X, data, inplace=True)
        assert model.stds['amplitude_0'] is None
        assert model.amplitude_0.std is None


class TestPixels:
    """
    Weights, masks and values that are not finite.
    """

    @pytest.mark.parametrize('weight', [0.0, -1.0, np.nan])
    @pytest.mark.parametrize('value', [1e6, -5.0, np.nan, np.inf])
    def test_pixels_without_weight_do_not_count(self, weight, value):
        truth, start = make_star()
        data = np.random.default_rng(34).poisson(truth(COLUMNS, ROWS)).astype(float)
        keep = np.ones(ROWS.shape, dtype=bool)
        keep[3:5, 4:7] = False
        weights = np.where(keep, 2.0, weight)
        broken = np.where(keep, data, value)
        fitter = PoissonLikelihoodFitter()
        fitted = fitter(start, COLUMNS, ROWS, broken, weights=weights)
        fvec = fitter.fit_info.fvec
        expected = fitter(start, COLUMNS[keep], ROWS[keep], data[keep])
        assert np.array_equal(fitted.parameters, expected.parameters)
        assert fvec.shape == (data.size,)
        assert np.all(fvec[~keep.ravel()] == 0.0)
        assert_allclose(fvec[keep.ravel()], 2.0 * fitter.fit_info.fvec)

    def test_weights_of_root_counts_do_not_drop_empty_pixels_silently(self):
        counts = np.random.default_rng(36).poisson(1.2, X.size)
        with np.errstate(divide='ignore'):
            weights = 1.0 / np.sqrt(counts)
        n_empty = np.count_nonzero(counts == 0)
        fitter, start = PoissonLikelihoodFitter(), make_line()[1]
        with pytest.raises(NonFiniteValueError, match=f'{n_empty} of 61 pixels have an infinite '
                           'weight, as of an error of 0: the likelihood needs no weights'):
            fitter(start, X, counts, weights=weights)
        with pytest.warns(AstropyUserWarning, match='Non-Finite input data has been removed'):
            filtered = fitter(start, X, counts, weights=weights, filter_non_finite=True)
        assert np.array_equal(filtered.parameters,
                              fitter(start, X[counts > 0], counts[counts > 0]).parameters)

    @pytest.mark.parametrize('masked', ['value', 'mask'])
    def test_an_infinite_weight_of_a_masked_pixel_does_not_matter(self, masked):
        truth, start = make_line()
        data = np.random.default_rng(37).poisson(truth(X)).astype(float)
        bad = (X > 3.0) & (X < 5.0)
        weights = np.where(bad, np.inf, 1.0)
        broken = np.where(bad, np.nan, data) if masked == 'value' else np.ma.array(data, mask=bad)
        fitted = PoissonLikelihoodFitter()(start, X, broken, weights=weights)
        expected = PoissonLikelihoodFitter()(start, X[~bad], data[~bad])
        assert np.array_equal(fitted.parameters, expected.parameters)

    def test_the_size_of_weights_only_scales_the_residuals(self):
        truth, start = make_star()
        data = np.random.default_rng(35).poisson(truth(COLUMNS, ROWS))
        fitter = PoissonLikelihoodFitter()
        plain = fitter(start, COLUMNS, ROWS, data)
        fvec, cov = fitter.fit_info.fvec, fitter.fit_info.param_cov
        weights = np.random.default_rng(35).uniform(0.1, 5.0, ROWS.shape)
        weighted = fitter(start, COLUMNS, ROWS, data, weights=weights)
        assert np.array_equal(weighted.parameters, plain.parameters)
        assert np.array_equal(fitter.fit_info.param_cov, cov)
        assert_allclose(fitter.fit_info.fvec, weights.ravel() * fvec)

    def test_masked_arrays_are_understood(self):
        truth, start = make_star()
        data = np.random.default_rng(36).poisson(truth(COLUMNS, ROWS)).astype(float)
        mask = COLUMNS == 7
        masked = np.ma.array(np.where(mask, np.nan, data), mask=mask)
        fitted = PoissonLikelihoodFitter()(start, COLUMNS, ROWS, masked)
        expected = PoissonLikelihoodFitter()(start, COLUMNS[~mask], ROWS[~mask], data[~mask])
        assert np.array_equal(fitted.parameters, expected.parameters)

    @pytest.mark.parametrize('where', ['data', 'coordinate'])
    def test_values_that_are_not_finite_are_filtered_on_request(self, where):
        truth, start = make_line()
        x, data = X.copy(), np.random.default_rng(37).poisson(truth(X)).astype(float)
        (data if where == 'data' else x)[[5, 30]] = np.nan
        good = np.isfinite(x + data)
        fitter = PoissonLikelihoodFitter()
        with pytest.raises(NonFiniteValueError, match='2 of 61 pixels are not; give these pixels'):
            fitter(start, x, data)
        with pytest.warns(AstropyUserWarning, match='Non-Finite input data has been removed'):
            fitted = fitter(start, x, data, filter_non_finite=True)
        assert fitter.fit_info.fvec.shape == (61,)
        assert np.array_equal(fitted.parameters, fitter(start, x[good], data[good]).parameters)

    def test_filtering_reports_weights_that_are_not_finite(self):
        truth, start = make_line()
        data = np.random.default_rng(37).poisson(truth(X)).astype(float)
        weights = np.where(X < 4.0, np.nan, 1.0)
        with pytest.warns(AstropyUserWarning, match='Non-Finite input data has been removed'):
            fitted = PoissonLikelihoodFitter()(start, X, data, weights=weights,
                                               filter_non_finite=True)
        expected = PoissonLikelihoodFitter()(start, X, data, weights=weights)
        assert np.array_equal(fitted.parameters, expected.parameters)

    def test_shapes_of_the_data_do_not_matter(self):
        truth, start = make_star()
        data = np.random.default_rng(38).poisson(truth(COLUMNS, ROWS))
        fitter = PoissonLikelihoodFitter()
        image = fitter(start, COLUMNS, ROWS, data)
        flat = fitter(start, COLUMNS.ravel().astype(int), ROWS.ravel().astype(int), data.ravel())
        assert_allclose(flat.parameters, image.parameters, rtol=1e-12)


class TestUnits:
    """
    Quantities in, quantities out.
    """

    def test_a_line_with_units(self):
        truth, start = (model.left for model in make_line())
        data = np.random.default_rng(39).poisson(truth(X))
        fitter = PoissonLikelihoodFitter()
        plain = fitter(start, X, data)
        with_units = models.Gaussian1D(25.0 * u.electron, 0.9 * u.nm, 0.22 * u.nm)
        fitted = fitter(with_units, X * u.AA, data * u.electron)
        assert fitted.amplitude.unit == u.electron
        assert_allclose(fitted.mean.quantity.to_value(u.AA), plain.mean.value, rtol=1e-6)
        assert_allclose(fitted.stddev.quantity.to_value(u.AA), plain.stddev.value, rtol=1e-5)

    def test_a_star_with_units_and_a_fitted_background(self):
        truth, start = make_star()
        data = np.random.default_rng(40).poisson(truth(COLUMNS, ROWS) + 2.0)
        fitter = PoissonLikelihoodFitter(background='fit')
        plain = fitter(start, COLUMNS, ROWS, data)
        background = fitter.fit_info.background
        with_units = start.copy()
        for name, unit in {'flux': u.ct, 'x_0': u.pix, 'y_0': u.pix, 'a': u.pix**-2,
                           'b': u.pix**-2, 'c': u.pix**-2}.items():
            setattr(with_units, name, getattr(start, name).value * unit)
        fitted = fitter(with_units, COLUMNS * u.pix, ROWS * u.pix, data * u.ct)
        assert fitted.flux.unit == u.ct
        assert_allclose(fitted.parameters, plain.parameters)
        assert_allclose(fitter.fit_info.background, background)


class TestCallers:
    """
    photutils and the fitters of astropy that call other fitters.
    """

    def test_photutils_measures_stars_with_it(self):
        photutils_psf = pytest.importorskip('photutils.psf')
        truth, _ = make_star(5000.0)
        y, x = np.mgrid[:31, :41]
        truth.x_0, truth.y_0 = 22.3, 14.8
        image = np.random.default_rng(42).poisson(truth(x, y) + 7.0) - 7.0
        init = QTable({'x': [22.0], 'y': [15.0], 'flux': [4000.0]})
        fitter = PoissonLikelihoodFitter(background=np.full(image.shape, 7.0))
        photometry = photutils_psf.PSFPhotometry(truth, (11, 11), fitter=fitter)
        table = photometry(image, init_params=init, error=np.sqrt(np.maximum(image + 7.0, 1.0)))
        assert table['flags'][0] == 0
        assert abs(table['flux_fit'][0] - 5000.0) < 4.0 * table['flux_err'][0]
        assert 60.0 < table['flux_err'][0] < 90.0
        assert 'PoissonLikelihoodFitter(background=<array of shape (31, 41)>' in str(table.meta)

    def test_the_call_names_what_photutils_looks_for(self):
        parameters = inspect.signature(PoissonLikelihoodFitter.__call__).parameters
        assert list(parameters)[1:5] == ['model', 'x', 'y', 'z']
        assert {'weights', 'maxiter', 'inplace'} <= set(parameters)

    def test_a_psf_that_divides_by_its_flux_may_start_at_zero(self):
        photutils_psf = pytest.importorskip('photutils.psf')
        truth = photutils_psf.GaussianPSF(flux=800.0, x_0=5.2, y_0=4.9, x_fwhm=3.0, y_fwhm=2.5)
        data = np.random.default_rng(43).poisson(truth(COLUMNS, ROWS) + 1.0)
        start = truth.copy()
        start.flux = 0.0
        fitter = PoissonLikelihoodFitter(background='fit')
        fitted = fitter(start, COLUMNS, ROWS, data)
        assert fitter.fit_info.success
        assert abs(fitted.flux - 800.0) < 4.0 * np.sqrt(fitter.fit_info.param_cov[0, 0])

    def test_outlier_removal_runs_it(self):
        truth, start = make_line()
        data = np.random.default_rng(44).poisson(truth(X)).astype(float)
        data[50] += 60.0
        fitter = FittingWithOutlierRemoval(PoissonLikelihoodFitter(), sigma_clip, sigma=4.0)
        fitted, mask = fitter(start, X, data)
        assert list(np.flatnonzero(mask)) == [50]
        assert abs(fitted.amplitude_0 - 40.0) < 10.0

    def test_astropy_finds_it_through_the_entry_point(self):
        # As astropy does it for an installed kpsf, at the end of importing its fitters.
        code = (
            'from importlib.metadata import EntryPoint\n'
            'from astropy.modeling import fitting\n'
            'fitting.populate_entry_points([EntryPoint("PoissonLikelihoodFitter", '
            '"kpsf.fitting:PoissonLikelihoodFitter", "astropy.modeling")])\n'
            'from astropy.modeling.fitting import PoissonLikelihoodFitter\n'
            'print(PoissonLikelihoodFitter())\n')
        result = subprocess.run([sys.executable, '-W', 'error', '-c', code], check=False,
                                capture_output=True, text=True, cwd=Path(__file__).parents[1])
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith('PoissonLikelihoodFitter(background=0.0')


class TestFitterObject:
    """
    The object itself: options, copies, fit_info.
    """

    def test_repr_shows_the_options(self):
        assert repr(PoissonLikelihoodFitter()) == (
            "PoissonLikelihoodFitter(background=0.0, gain=1.0, read_noise=0.0, priors={}, "
            "covariance='fisher', calc_uncertainties=False)")
        fitter = PoissonLikelihoodFitter(background='fit', priors={'x_0': (5, 0.1)},
                                         covariance='sandwich')
        assert "background='fit'" in repr(fitter)
        assert "priors={'x_0': GaussianPrior(mean=5.0, stddev=0.1)}" in repr(fitter)

    @pytest.mark.parametrize('duplicate', [
        copy.deepcopy, lambda fitter: pickle.loads(pickle.dumps(fitter))])
    def test_copies_fit_alike(self, duplicate):
        truth, start = make_star()
        data = np.random.default_rng(45).poisson(truth(COLUMNS, ROWS) + 4.0) - 4.0
        fitter = PoissonLikelihoodFitter(background=np.full((20, 20), 4.0), read_noise=1.0)
        fitted = fitter(start, COLUMNS, ROWS, data)
        twin = duplicate(fitter)
        assert twin.fit_info.cstat == fitter.fit_info.cstat
        assert np.array_equal(twin(start, COLUMNS, ROWS, data).parameters, fitted.parameters)

    def test_every_call_makes_its_own_fit_info(self):
        truth, start = make_star()
        rng = np.random.default_rng(46)
        fitter = PoissonLikelihoodFitter()
        infos = []
        for _ in range(2):
            fitter(start, COLUMNS, ROWS, rng.poisson(truth(COLUMNS, ROWS)))
            infos.append(fitter.fit_info)
        assert infos[0] is not infos[1]
        assert infos[0].cstat != infos[1].cstat

    def test_later_changes_of_a_background_array_do_not_matter(self):
        level = np.full((20, 20), 4.0)
        fitter = PoissonLikelihoodFitter(background=level)
        level[:] = 0.0
        assert np.all(fitter.background == 4.0)

    def test_too_few_evaluations_are_reported(self):
        truth, start = make_line()
        data = np.random.default_rng(47).poisson(truth(X))
        fitter = PoissonLikelihoodFitter()
        with pytest.warns(AstropyUserWarning, match='may be unsuccessful; check: not converged'):
            fitter(start, X, data, maxiter=1)
        assert not fitter.fit_info.success
        assert fitter.fit_info.status == fitter.fit_info.ierr == 5
        assert 'raise maxiter' in fitter.fit_info.message

    @pytest.mark.parametrize('option', [{'acc': 1e-3}, {'epsilon': 1e-2}])
    def test_tolerances_of_other_fitters_are_accepted(self, option):
        truth, start = make_line()
        data = np.random.default_rng(48).poisson(truth(X))
        plain = PoissonLikelihoodFitter()(start, X, data)
        assert np.array_equal(PoissonLikelihoodFitter()(start, X, data, **option).parameters,
                              plain.parameters)

    def test_a_failure_leaves_the_model_as_it_was(self):
        _, start = make_line()
        start.stddev_0.tied = lambda model: 0.1 * model.mean_0
        before = start.parameters.copy()
        with pytest.raises(ValueError, match='Poisson counts must be >= 0'):
            PoissonLikelihoodFitter()(start, X, np.full(X.size, -1.0), inplace=True)
        assert np.array_equal(start.parameters, before)
        assert start.sync_constraints

    def test_counts_without_photons_give_no_flux(self):
        _, start = make_star()
        start.x_0.fixed = start.y_0.fixed = True
        start.flux.min = 0.0
        fitter = PoissonLikelihoodFitter()
        fitted = fitter(start, COLUMNS, ROWS, np.zeros(ROWS.shape))
        assert fitter.fit_info.success
        assert 0.0 <= fitted.flux < 1e-12


class TestBadInput:
    """
    Each message says what was required, what was found and what to do.
    """

    def test_negative_counts_say_what_to_do(self):
        _, start = make_star()
        data = np.full(ROWS.shape, 5.0)
        data[:2, :17] = -11.0
        with pytest.raises(ValueError, match=r'Poisson counts must be >= 0, but 22 of 121 pixels '
                                             r'are negative \(minimum -11\): pass the background '
                                             'that was subtracted as background='):
            PoissonLikelihoodFitter()(start, COLUMNS, ROWS, data)
        with pytest.raises(ValueError, match='22 of 121 .* check that background= is what was'):
            PoissonLikelihoodFitter(background=3.0)(start, COLUMNS, ROWS, data)
        with pytest.raises(ValueError, match='>= 0 but for read noise of 1, but 22 of 121'):
            PoissonLikelihoodFitter(read_noise=1.0)(start, COLUMNS, ROWS, data)

    @pytest.mark.parametrize(('options', 'error', 'match'), [
        ({'background': 'free'}, ValueError, "or 'error', but it is 'free': pass 'fit'"),
        ({'background': -1.0}, ValueError, 'background must be >= 0, but 1 of 1'),
        ({'background': None}, ValueError, 'background must be finite, .* pass a number'),
        ({'background': [[1.0], 'a']}, TypeError, 'background must be an array of numbers'),
        ({'background': 3.0 * u.electron}, TypeError, 'it has the unit electron: pass its value'),
        ({'gain': 0.0}, ValueError, 'gain must be a finite number > 0, but it is 0.0'),
        ({'gain': np.nan}, ValueError, 'gain must be a finite number > 0, but it is nan'),
        ({'read_noise': -1.0}, ValueError, 'read_noise must be a finite number >= 0'),
        ({'covariance': 'hessian'}, ValueError, "covariance must be one of 'fisher'"),
        ({'priors': {'x_0': 3.0}}, TypeError, r'prior \(mean, stddev\) of x_0 must be a pair'),
        ({'priors': {'x_0': (3.0, 0.0)}}, ValueError, 'a finite stddev > 0, but it is'),
        ({'priors': {'x_0': (np.nan, 1.0)}}, ValueError, 'prior of x_0 must have a finite mean'),
    ])
    def test_wrong_options_are_refused(self, options, error, match):
        with pytest.raises(error, match=match):
            PoissonLikelihoodFitter(**options)

    @pytest.mark.parametrize(('background', 'match'), [
        (np.ones((5, 5)), 'coordinates are not integers within it .x from 0 to 10, y from 0'),
        (np.ones(7), r'must have the shape of the data, \(11, 11\), but it has \(7,\)'),
        (np.full((11, 11), np.nan), 'The background must be finite, but 121 of 121'),
        (lambda x, y: np.ones(3), 'one value per pixel, but it returned 3 for 121'),
        (lambda x, y: x - 5.0, 'The background must be >= 0, but 55 of 121'),
    ])
    def test_a_background_that_does_not_fit_the_data_is_refused(self, background, match):
        _, start = make_star()
        with pytest.raises(ValueError, match=match):
            PoissonLikelihoodFitter(background=background)(start, COLUMNS, ROWS,
                                                           np.ones(ROWS.shape))

    def test_a_map_needs_integer_coordinates(self):
        _, start = make_star()
        with pytest.raises(ValueError, match='looked up at pixel indices, but the coordinates'):
            PoissonLikelihoodFitter(background=np.ones((30, 30)))(
                start, COLUMNS + 0.5, ROWS, np.ones(ROWS.shape))

    @pytest.mark.parametrize(('priors', 'match'), [
        ({'z_0': (0.0, 1.0)}, 'priors must name parameters among flux, .* names z_0'),
        ({'background': (0.0, 1.0)}, 'priors must name parameters among'),
        ({'y_0': (0.0, 1.0)}, 'prior must be on a parameter of its own, but y_0 is tied'),
    ])
    def test_priors_on_other_parameters_are_refused(self, priors, match):
        _, start = make_star()
        start.y_0.tied = lambda model: model.x_0
        with pytest.raises(ValueError, match=match):
            PoissonLikelihoodFitter(priors=priors)(start, COLUMNS, ROWS, np.ones(ROWS.shape))

    @pytest.mark.parametrize('bounds', [(6.0, 5.0), (5.0, 5.0)])
    def test_bounds_without_room_are_refused(self, bounds):
        _, start = make_star()
        start.x_0.bounds = bounds
        with pytest.raises(ValueError, match='lower bound of x_0 must be below the upper one'):
            PoissonLikelihoodFitter()(start, COLUMNS, ROWS, np.ones(ROWS.shape))

    def test_fewer_pixels_than_parameters_are_refused(self):
        _, start = make_line()
        with pytest.raises(ValueError, match='4 parameters needs as many pixels or priors, but '
                                             'there are 3 pixels and 0 priors'):
            PoissonLikelihoodFitter()(start, X[:3], np.ones(3))

    def test_data_of_other_shapes_are_refused(self):
        _, start = make_star()
        with pytest.raises(ValueError, match='x, y and z should have the same shape'):
            PoissonLikelihoodFitter()(start, COLUMNS, ROWS, np.ones((3, 3)))
        with pytest.raises(ValueError, match=r'weights must have the shape of the data, \(11, 11'):
            PoissonLikelihoodFitter()(start, COLUMNS, ROWS, np.ones(ROWS.shape),
                                      weights=np.ones((3, 3)))

    def test_no_pixel_at_all_is_refused(self):
        _, start = make_star()
        with pytest.raises(ValueError, match='at least one of the 121 pixels must count'):
            PoissonLikelihoodFitter()(start, COLUMNS, ROWS, np.ones(ROWS.shape),
                                      weights=np.zeros(ROWS.shape))

    def test_the_number_of_inputs_must_be_right(self):
        _, star = make_star()
        _, line = make_line()
        with pytest.raises(TypeError, match=r'2 input\(s\) needs x, y and z, but the data are x'):
            PoissonLikelihoodFitter()(star, X, np.ones(X.size))
        with pytest.raises(TypeError, match=r'1 input\(s\) needs x and y, but the data are x, y'):
            PoissonLikelihoodFitter()(line, COLUMNS, ROWS, np.ones(ROWS.shape))

    def test_model_sets_are_refused(self):
        lines = models.Gaussian1D([1.0, 2.0], [3.0, 4.0], [1.0, 1.0], n_models=2)
        with pytest.raises(ValueError, match='can only fit one data set at a time'):
            PoissonLikelihoodFitter()(lines, X, np.ones((2, X.size)))

    def test_linear_model_sets_are_refused(self):
        slopes = models.Linear1D([1.0, 2.0], [3.0, 4.0], n_models=2)
        with pytest.raises(ValueError, match='this is a set of 2 models: fit them one by one'):
            PoissonLikelihoodFitter()(slopes, X, np.ones((2, X.size)))

    def test_a_start_without_finite_model_is_refused(self):
        _, start = make_line()
        start.stddev_0 = np.nan
        with pytest.raises(NonFiniteValueError, match='must give a finite model, but they are .*'
                                                      'stddev_0=nan.*: start elsewhere'):
            PoissonLikelihoodFitter()(start, X, np.ones(X.size))

    @pytest.mark.parametrize('maxiter', [0, -5, 2.5])
    def test_the_number_of_evaluations_must_be_positive(self, maxiter):
        _, start = make_line()
        with pytest.raises(ValueError, match='maxiter must be a whole number of at least 1'):
            PoissonLikelihoodFitter()(start, X, np.ones(X.size), maxiter=maxiter)

    def test_other_constraints_are_refused_as_astropy_does(self):
        line = models.Gaussian1D(25.0, 9.0, 2.2, eqcons=[lambda model: 0.0])
        with pytest.raises(ValueError, match='cannot handle equality constraints'):
            PoissonLikelihoodFitter()(line, X, np.ones(X.size))


def test_a_model_without_light_where_there_are_counts_is_no_success():
    x = np.arange(60.0)
    counts = np.random.default_rng(3).poisson(models.Gaussian1D(5, 30, 4)(x) + 0.5).astype(float)
    fitter = PoissonLikelihoodFitter()
    with pytest.warns(AstropyUserWarning, match='may be unsuccessful.*positive where there are'):
        fitter(models.Gaussian1D(5, 300, 4), x, counts)
    assert not fitter.fit_info.success


def test_a_class_is_no_model():
    with pytest.raises(TypeError, match='instance of an astropy model.*the class Gaussian1D'):
        PoissonLikelihoodFitter()(models.Gaussian1D, np.arange(5.0), np.ones(5))


def test_a_parameter_at_its_bound_has_no_error_and_is_not_counted():
    y, x = np.mgrid[:9, :9]
    star = EllipticalGaussianPSF(1000, 4.2, 4, 0.5, 0, 0.5)
    counts = np.random.default_rng(3).poisson(star(x, y) + 2.0).astype(float)
    star.x_0.bounds = (0, 4)
    fitter = PoissonLikelihoodFitter(background='fit')
    fitted = fitter(star, x, y, counts)
    fits = fit_stamps(counts[None], star)
    assert fitted.x_0 == 4
    assert fitter.fit_info.param_cov[1, 1] == 0
    assert_allclose(fitter.fit_info.gof_z, fits.gof_z[0], atol=1e-3)
    assert_allclose(np.sqrt(np.diag(fitter.fit_info.param_cov)), fits.errors[0, :6], rtol=1e-3)


@pytest.mark.parametrize('start', [0.0, 25.0])
def test_a_parameter_that_is_called_flux_need_not_be_a_factor(start):
    @models.custom_model
    def curved(x, y, flux=start):
        """A level that grows with the square of its parameter."""
        return 1.0 + flux**2 + 0.0 * x * y

    data = np.random.default_rng(5).poisson(901.0, ROWS.shape).astype(float)
    fitter = PoissonLikelihoodFitter()
    model = curved()
    model.flux.min = 0.0 if start else 1.0
    fitted = fitter(model, COLUMNS, ROWS, data)
    assert fitter.fit_info.success
    assert_allclose(fitted.flux, np.sqrt(data.mean() - 1.0), rtol=1e-5)
    assert_allclose(fitter.fit_info.param_cov[0, 0], data.mean() / data.size / 3600.0, rtol=0.01)


class WrongSlope(EllipticalGaussianPSF):
    """A star whose ``fit_deriv`` has the wrong sign in its last column."""

    @staticmethod
    def fit_deriv(*arguments):
        columns = EllipticalGaussianPSF.fit_deriv(*arguments)
        return [*columns[:-1], -columns[-1]]


def round_star(**values):
    """photutils' round Gaussian with a free width; in 3.0 its derivative is that along x alone."""
    star = CircularGaussianPSF(**values)
    star.fwhm.fixed = False
    return star


@pytest.mark.parametrize('model', [round_star(flux=900.0, x_0=5.0, y_0=5.0, fwhm=2.6),
                                   WrongSlope(900.0, 5.0, 5.0, 0.3, 0.0, 0.3)])
def test_derivatives_that_are_wrong_are_not_used(model):
    counts = np.random.default_rng(6).poisson(make_star()[0](COLUMNS, ROWS) + 5.0)
    fitter = PoissonLikelihoodFitter(background='fit')
    fitted = fitter(model, COLUMNS, ROWS, counts)
    assert fitter.fit_info.success
    expected = fit_stamps(counts[np.newaxis], model).params[0]
    errors = np.sqrt(np.diag(fitter.fit_info.param_cov))
    assert np.all(np.abs(fitted.parameters - expected[:-1]) < 5e-3 * errors)
