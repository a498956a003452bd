# Licensed under a 3-clause BSD style license - see LICENSE
"""Stamps under any model: both kernels, models of astropy and of the user, poor starts."""

import numpy as np
import pytest
from astropy.modeling import custom_model
from astropy.modeling.models import Const2D, Gaussian2D, Moffat2D
from numpy.testing import assert_allclose, assert_array_equal

from kpsf import EllipticalGaussianPSF, fit_stamps
from kpsf.flags import FitFlag

SHAPE = (8, 9)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]]
ABC = (0.7, -0.15, 0.45)
N = 12


class Generic(EllipticalGaussianPSF):
    """The same model without a kernel of its own."""


class GenericWithoutDerivative(EllipticalGaussianPSF):
    """The same model with differences for derivatives."""

    fit_deriv = None


def psf(flux, x, y, a, b, c):
    """Return Gaussians by their definition, parameters (n,), result (n, ny, nx)."""
    flux, x, y, a, b, c = (np.asarray(v, float)[..., None, None] for v in (flux, x, y, a, b, c))
    dx, dy = X - x, Y - y
    return flux * np.sqrt(a * c - b * b) / np.pi * np.exp(
        -(a * dx * dx + 2 * b * dx * dy + c * dy * dy))


def make_stamps(n=N, flux=2000.0, background=8.0, seed=3):
    rng = np.random.default_rng(seed)
    x, y = 4.2 + rng.uniform(-0.5, 0.5, n), 3.4 + rng.uniform(-0.5, 0.5, n)
    return rng.poisson(psf(np.full(n, flux), x, y, *ABC) + background).astype(float)


def fit(counts, model=None, **kwargs):
    return fit_stamps(counts, model or EllipticalGaussianPSF(1000, 4, 3.5, *ABC), n_threads=1,
                      **kwargs)


def assert_same_fits(fits, others, tolerance=3e-3):
    """Compare parameters in units of their errors, and the errors."""
    errors = np.where(others.errors > 0, others.errors, 1e-6)
    assert_allclose(fits.params / errors, others.params / errors, rtol=0, atol=tolerance)
    assert_allclose(fits.errors, others.errors, rtol=3 * tolerance)
    # A prior or a shared parameter leaves the deviance a slope.
    assert_allclose(fits.deviance, others.deviance, atol=2e-3)
    assert_array_equal(fits.flags, others.flags)


@pytest.mark.parametrize('model', [Generic, GenericWithoutDerivative])
@pytest.mark.parametrize('kwargs', [
    {}, {'fixed': ('a', 'b')}, {'shared': ('a', 'b', 'c')}, {'covariance': 'observed'},
    {'covariance': 'sandwich'}, {'priors': {'x_0': (4.0, 0.1)}}, {'read_variance': 9.0},
    {'known_background': np.linspace(0, 5, 72).reshape(SHAPE)}])
def test_both_kernels_find_the_same(model, kwargs):
    counts = make_stamps()
    generic = fit(counts, model(1000, 4, 3.5, *ABC), **kwargs)
    assert generic.converged.all()
    assert_same_fits(generic, fit(counts, **kwargs))


@pytest.mark.parametrize('model', [Generic, GenericWithoutDerivative])
def test_both_kernels_agree_at_backgrounds_near_zero(model):
    counts = make_stamps(400, background=0.01)
    gaussian, generic = fit(counts), fit(counts, model(1000, 4, 3.5, *ABC))
    done = generic.converged & (generic.flags == 0)
    assert done.sum() > 100
    assert (generic.deviance - gaussian.deviance)[done].max() < 2e-3


@pytest.mark.parametrize('kwargs', [{}, {'max_iter': 200, 'covariance': 'observed'}])
def test_a_start_in_which_a_parameter_does_not_matter_is_left(kwargs):
    # The angle of a round Gaussian changes nothing, and its first slope is zero.
    counts = make_stamps(50, flux=2e4)
    fits = fit(counts, Gaussian2D(1000, 4, 3.5, 1, 1), **kwargs)
    assert fits.converged.all()
    assert_allclose(fits.deviance, fit(counts).deviance, atol=1e-5)


def test_a_moffat_is_fitted():
    rng = np.random.default_rng(8)
    truth = np.array([300.0, 4.3, 3.6, 2.2, 2.8])
    counts = rng.poisson(Moffat2D(*truth)(X, Y) + 5.0, (1000, *SHAPE)).astype(float)
    fits = fit(counts, Moffat2D(100, 4, 4, 2, 3), fixed='alpha', init={'alpha': 2.8})
    assert fits.param_names == ('amplitude', 'x_0', 'y_0', 'gamma', 'alpha', 'background')
    assert fits.converged.all()
    pulls = (fits.params[:, :4] - truth[:4]) / fits.errors[:, :4]
    assert np.abs(pulls.mean(axis=0)).max() < 0.15
    assert_allclose(pulls.std(axis=0), 1, atol=0.08)


def test_a_compound_of_two_stars_is_fitted():
    first, second = (2000.0, 2.6, 3.2), (900.0, 5.4, 4.4)
    light = sum(psf(*np.array([[*star, *ABC]]).T)[0] for star in (first, second))
    counts = np.random.default_rng(9).poisson(light + 6, (300, *SHAPE)).astype(float)
    model = (EllipticalGaussianPSF(1500, 3, 3, *ABC) + EllipticalGaussianPSF(1500, 5, 4, *ABC))
    fits = fit(counts, model, fixed=[f'{name}_{i}' for name in 'abc' for i in (0, 1)])
    assert fits.converged.all()
    columns = [fits.param_names.index(f'{name}_{i}') for i in (0, 1)
               for name in ('flux', 'x_0', 'y_0')]
    pulls = (fits.params[:, columns] - [*first, *second]) / fits.errors[:, columns]
    assert np.abs(pulls.mean(axis=0)).max() < 0.25
    assert_allclose(pulls.std(axis=0), 1, atol=0.15)
    assert np.isnan(fits.flux_fraction).all()


def test_a_model_of_the_user_that_takes_one_star_at_a_time_is_fitted():
    @custom_model
    def round_star(x, y, flux=1000.0, x_0=4.0, y_0=3.5, width=1.0):
        if np.size(width) > 1:
            raise ValueError('one at a time')
        width = float(np.ravel(width)[0])
        return flux / (2 * np.pi * width ** 2) * np.exp(
            -0.5 * ((x - x_0) ** 2 + (y - y_0) ** 2) / width ** 2)

    counts = np.random.default_rng(9).poisson(round_star(3000, 4.2, 3.3, 1.1)(X, Y) + 5,
                                              (5, *SHAPE)).astype(float)
    fits = fit(counts, round_star())
    assert fits.converged.all()
    assert np.abs((fits.params - [3000, 4.2, 3.3, 1.1, 5]) / fits.errors).max() < 4


def test_a_model_without_a_star_is_fitted():
    counts = np.random.default_rng(10).poisson(7.0, (50, *SHAPE)).astype(float)
    fits = fit(counts, Const2D(3.0), background=2.0)
    assert fits.converged.all()
    assert_allclose(fits.params[:, 0], counts.mean(axis=(1, 2)) - 2, rtol=1e-3)
    assert_allclose(fits.errors[:, 0], np.sqrt(counts.mean(axis=(1, 2)) / 72), rtol=1e-3)


def test_empty_stamps_end_at_a_finite_deviance():
    fits = fit(np.zeros((3, *SHAPE)))
    assert np.isfinite(fits.deviance).all()


def test_forced_photometry_of_empty_stamps_finds_no_flux():
    fits = fit(np.zeros((3, *SHAPE)), fixed=('x_0', 'y_0', 'a', 'b', 'c'))
    assert_allclose(fits.params[:, 0], 0, atol=1e-3)


def test_forced_photometry_of_noise_always_converges():
    counts = np.random.default_rng(5).poisson(20.0, (2000, 10, 11)).astype(float)
    model = EllipticalGaussianPSF(0, 5, 4.5, 1.2, -0.15, 0.6)
    fits = fit(counts, model, fixed=('x_0', 'y_0', 'a', 'b', 'c'))
    assert fits.converged.all()
    pulls = fits.params[:, 0] / fits.errors[:, 0]
    assert abs(pulls.mean()) < 0.1
    assert_allclose(pulls.std(), 1, atol=0.06)


@pytest.mark.parametrize(('model', 'flux'), [
    (EllipticalGaussianPSF, 30.0), (Generic, 30.0), (EllipticalGaussianPSF, 0.0), (Generic, 0.0)])
def test_a_poor_starting_flux_is_no_trap(model, flux):
    counts = make_stamps()
    fits = fit(counts, model(1000, 4, 3.5, *ABC), fixed=('a', 'b', 'c'), init={'flux': flux})
    assert_same_fits(fits, fit(counts, fixed=('a', 'b', 'c')))


@pytest.mark.parametrize('model', [EllipticalGaussianPSF, Generic])
def test_a_star_that_has_left_the_stamp_is_flagged(model):
    fits = fit(make_stamps(), model(1000, 4, 3.5, *ABC), fixed=('a', 'b', 'c'),
               init={'flux': 1e-3})
    gone = fits.flux_fraction < 1e-6
    assert gone.any()
    assert (fits.flags[gone] & FitFlag.CENTROID_OUTSIDE > 0).all()


def test_a_stamp_is_fitted_alike_beside_any_other():
    rng = np.random.default_rng(3)
    counts = rng.poisson(20.0, (200, *SHAPE)).astype(float)
    used = np.ones(SHAPE, bool)
    used[0] = False
    known = np.where(used, 20.0, 0.0)
    fits = fit(counts, EllipticalGaussianPSF(1, 4, 3.5, *ABC), mask=~used,
               fixed=('x_0', 'y_0', 'a', 'b', 'c'), known_background=known)
    assert fits.converged.all()
    assert (fits.params[:, 0] < 0).any()
    alone = [fit(counts[row:row + 1], EllipticalGaussianPSF(1, 4, 3.5, *ABC), mask=~used,
                 fixed=('x_0', 'y_0', 'a', 'b', 'c'), known_background=known)
             for row in range(0, 200, 20)]
    assert_allclose(fits.params[::20], np.concatenate([one.params for one in alone]),
                    rtol=1e-6, atol=1e-6)


def test_a_peak_amplitude_is_no_total_flux():
    fits = fit(make_stamps(), Gaussian2D(50, 4, 3.5, 1.0, 1.1, 0.1))
    assert np.isnan(fits.flux_fraction).all()


def test_earlier_fits_are_starting_values():
    counts = make_stamps()
    first = fit(counts, EllipticalGaussianPSF())
    again = fit(counts, EllipticalGaussianPSF(), init=first.table)
    assert again.n_iter.max() <= 3
    assert_same_fits(again, first)


def test_fixed_parameters_keep_their_value_also_outside_the_bounds():
    model = EllipticalGaussianPSF(1000, 4.2, 3.5, *ABC)
    model.x_0.bounds = (0, 4)
    fits = fit(make_stamps(), model, fixed=('x_0',))
    assert (fits.params[:, 1] == 4.2).all()
