# Licensed under a 3-clause BSD style license - see LICENSE
"""Priors on parameters and positions, and what the fitter makes of them."""

import pickle

import numpy as np
import pytest
from astropy.modeling import models
from astropy.table import QTable
from numpy.testing import assert_allclose
from photutils.psf import CircularGaussianPRF, CircularGaussianPSF, PSFPhotometry

from kpsf import CentroidPrior, EllipticalGaussianPSF, PoissonLikelihoodFitter, fit_stamps
from kpsf.priors import GaussianPrior

Y, X = np.mgrid[:11, :11]


def make_star(flux=300.0, x=5.2, y=4.9):
    return CircularGaussianPRF(flux=flux, x_0=x, y_0=y, fwhm=2.0)


def draw(mean, seed=1):
    return np.random.default_rng(seed).poisson(mean).astype(float)


def fit(priors, data, start, background=1.0):
    """Return the fitted parameters and their errors."""
    fitter = PoissonLikelihoodFitter(priors=priors, background=background)
    fitted = fitter(start, X, Y, data - (0.0 if background == 'fit' else background))
    assert fitter.fit_info.success
    return fitted, np.sqrt(np.diag(fitter.fit_info.param_cov))


def pair_of_stars():
    """Return the image of two stars 3 pixels apart, and starting values that join them."""
    image = draw(make_star(400.0, 3.6, 5.0)(X, Y) + make_star(300.0, 6.6, 5.1)(X, Y) + 1.0)
    init = QTable({'x': [3.5, 6.7], 'y': [5.1, 5.0], 'flux': [350.0, 350.0], 'group_id': [1, 1]})
    return image, init


def fit_group(priors, psf=None):
    image, init = pair_of_stars()
    fitter = PoissonLikelihoodFitter(priors=priors, background=1.0)
    photometry = PSFPhotometry(psf or CircularGaussianPRF(fwhm=2.0), (9, 9), fitter=fitter)
    return photometry(image - 1.0, init_params=init)


@pytest.mark.parametrize('width', [1e-4, (1e-4, 1e-4)])
def test_a_narrow_prior_holds_the_position_at_its_start(width):
    data = draw(make_star()(X, Y) + 1.0)
    fitted, errors = fit(CentroidPrior(width), data, make_star(250.0, 5.0, 5.1))
    assert_allclose(fitted.parameters[1:3], [5.0, 5.1], atol=1e-5)
    assert_allclose(errors[1:], 1e-4, rtol=1e-3)


def test_a_centre_that_is_given_replaces_the_start():
    data = draw(make_star()(X, Y) + 1.0)
    fitted, _ = fit(CentroidPrior(1e-4, x=5.3), data, make_star(250.0, 5.0, 5.1))
    assert_allclose(fitted.parameters[1:3], [5.3, 5.1], atol=1e-5)
    fitted, _ = fit(CentroidPrior(1e-4, 5.3, 4.8), data, make_star(250.0, 5.0, 5.1))
    assert_allclose(fitted.parameters[1:3], [5.3, 4.8], atol=1e-5)


def test_a_prior_of_positions_equals_priors_by_name():
    data = draw(make_star()(X, Y) + 1.0)
    start = make_star(250.0, 5.0, 5.1)
    fitted, errors = fit(CentroidPrior((0.05, 0.2)), data, start)
    named, same = fit({'x_0': (5.0, 0.05), 'y_0': GaussianPrior(5.1, 0.2)}, data, start)
    assert np.array_equal(fitted.parameters, named.parameters)
    assert np.array_equal(errors, same)


def test_names_of_positions_are_found_as_photutils_finds_them():
    psf = models.Gaussian2D(30.0, 5.2, 4.9, 1.2, 1.2)
    data = draw(psf(X, Y) + 1.0)
    psf.x_mean, psf.y_mean = 5.0, 5.1
    psf.fixed.update(theta=True)
    fitted, _ = fit(CentroidPrior(1e-4), data, psf)
    assert_allclose(fitted.parameters[1:3], [5.0, 5.1], atol=1e-5)


def test_lists_join_priors():
    data = draw(make_star()(X, Y) + 1.0)
    start = make_star(250.0, 5.0, 5.1)
    fitted, _ = fit([CentroidPrior(1e-4), {'flux': (270.0, 1e-3), 'background': (0.8, 1e-5)}],
                    data, start, background='fit')
    assert_allclose(fitted.parameters[:3], [270.0, 5.0, 5.1], atol=1e-3)


@pytest.mark.parametrize('combine', [list, tuple])
def test_two_priors_on_one_parameter_are_refused(combine):
    priors = combine([CentroidPrior(0.1), {'x_0': (5.0, 0.1)}])
    with pytest.raises(ValueError, match='can have one prior, but x_0 has two: leave one out'):
        fit(priors, draw(make_star()(X, Y) + 1.0), make_star())


def test_errors_are_those_of_the_posterior():
    mean = make_star()(X, Y) + 1.0
    plain = fit(None, mean, make_star())[1]
    errors = fit(CentroidPrior(0.03), mean, make_star())[1]
    # At the expected counts the position is independent of the flux but for sampling.
    assert_allclose(errors[1:], (plain[1:]**-2 + 0.03**-2)**-0.5, rtol=1e-3)
    assert_allclose(errors[0], plain[0], rtol=0.02)


def test_the_prior_of_a_parameter_of_the_model_is_read():
    data = draw(make_star()(X, Y) + 1.0)
    start = make_star(250.0, 5.0, 5.1)
    start.x_0.prior = GaussianPrior(5.0, 0.02)
    with_own, errors = fit(None, data, start)
    plain = make_star(250.0, 5.0, 5.1)
    expected, same = fit({'x_0': (5.0, 0.02)}, data, plain)
    assert np.array_equal(with_own.parameters, expected.parameters)
    assert np.array_equal(errors, same)
    assert not np.array_equal(fit(None, data, plain)[0].parameters, expected.parameters)


def test_a_prior_given_to_the_fitter_replaces_the_one_of_the_model():
    data = draw(make_star()(X, Y) + 1.0)
    start = make_star(250.0, 5.0, 5.1)
    start.x_0.prior = GaussianPrior(4.0, 1e-3)
    assert_allclose(fit({'x_0': (5.0, 1e-4)}, data, start)[0].x_0, 5.0, atol=1e-5)


def test_priors_of_other_packages_are_left_alone():
    data = draw(make_star()(X, Y) + 1.0)
    start = make_star(250.0, 5.0, 5.1)
    start.x_0.prior = lambda value: value
    expected = fit(None, data, make_star(250.0, 5.0, 5.1))[0]
    assert np.array_equal(fit(None, data, start)[0].parameters, expected.parameters)


def test_each_star_of_a_group_stays_at_its_own_start():
    table = fit_group(CentroidPrior(1e-4))
    assert_allclose(table['x_fit'], [3.5, 6.7], atol=1e-4)
    assert_allclose(table['y_fit'], [5.1, 5.0], atol=1e-4)
    assert_allclose(table['x_err'], 1e-4, rtol=1e-3)


def test_a_group_may_have_one_given_centre_per_star():
    table = fit_group(CentroidPrior(1e-4, x=[3.6, 6.6], y=[5.0, 5.1]))
    assert_allclose(table['x_fit'], [3.6, 6.6], atol=1e-4)
    with pytest.raises(ValueError, match='must have one position per star, but it has 1 for 2'):
        fit_group(CentroidPrior(0.1, x=5.0))


def test_a_name_of_the_psf_stands_for_every_star_of_a_group():
    class Free(CircularGaussianPSF):
        """A class of its own, so that no other test's model stands in for it."""

    psf = Free(fwhm=2.4)
    psf.fwhm.fixed = False
    together = fit_group({'fwhm': (2.2, 1e-5)}, psf)
    assert_allclose(together['fwhm_fit'], 2.2, atol=1e-4)
    apart = fit_group({'fwhm': (2.2, 1e-5), 'fwhm_1': (2.1, 1e-5)}, psf)
    assert_allclose(apart['fwhm_fit'], [2.2, 2.1], atol=1e-4)


def test_the_prior_of_a_parameter_is_read_in_groups_too():
    class Own(CircularGaussianPSF):
        """A class of its own, so that no other test's model stands in for it."""

    psf = Own(fwhm=2.4)
    psf.fwhm.fixed = False
    psf.fwhm.prior = GaussianPrior(2.2, 1e-5)
    assert_allclose(fit_group(None, psf)['fwhm_fit'], 2.2, atol=1e-4)


def test_stamps_take_the_priors_of_many_stars():
    psf = EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 1.0, 1.0)
    x, y = np.array([5.1, 4.8]), np.array([5.0, 5.2])
    counts = np.array([draw(psf.evaluate(X, Y, 300.0, *place, 0.5, 0.0, 0.5) + 1.0)
                       for place in zip(x, y, strict=True)])
    priors = CentroidPrior(1e-4).as_priors(psf, x, y)
    fits = fit_stamps(counts, psf, fixed=('a', 'b', 'c'), init={'a': 0.5, 'b': 0.0, 'c': 0.5},
                      priors={**priors, 'flux': GaussianPrior(280.0, 1e-3)})
    assert_allclose(fits.params[:, 1], x, atol=1e-4)
    assert_allclose(fits.params[:, 2], y, atol=1e-4)
    assert_allclose(fits.params[:, 0], 280.0, atol=0.01)


@pytest.fixture(scope='module')
def faint_fluxes():
    """Return mean and standard error of 600 faint fluxes, without and with a prior."""
    rng = np.random.default_rng(20)
    psf = CircularGaussianPSF(flux=20.0, x_0=5.0, y_0=5.0, fwhm=2.0)
    images = rng.poisson(psf(X, Y) + 10.0, (600, *X.shape)) - 10.0
    starts = 5.0 + rng.normal(0.0, 0.1, (600, 2))
    found = {}
    for name, priors in (('free', None), ('prior', CentroidPrior(0.1))):
        fitter = PoissonLikelihoodFitter(background=10.0, priors=priors)
        fluxes = []
        for image, (x, y) in zip(images, starts, strict=True):
            psf.x_0, psf.y_0 = x, y
            psf.x_0.bounds, psf.y_0.bounds = (x - 2, x + 2), (y - 2, y + 2)
            fluxes.append(fitter(psf, X, Y, image).flux.value)
        found[name] = np.mean(fluxes), np.std(fluxes) / np.sqrt(len(fluxes))
    return found


def test_a_prior_takes_the_bias_from_the_flux_of_faint_stars(faint_fluxes):
    free, error = faint_fluxes['free']
    assert free > 20.0 * 1.2 + 3 * error
    prior, error = faint_fluxes['prior']
    assert abs(prior - 20.0) < 20.0 * 0.06


@pytest.mark.parametrize(('arguments', 'error', 'match'), [
    ((0.0,), ValueError, 'finite stddev > 0'),
    ((np.nan,), ValueError, 'finite stddev > 0'),
    ((0.1, np.inf), ValueError, 'x of a CentroidPrior must be finite'),
    ((0.1, 3.0, [[1.0]]), ValueError, 'a number or one per star, but it has the shape'),
    (([0.1, 0.2, 0.3],), ValueError, r'a number or a pair, but it has the shape \(3,\)'),
    (('wide',), TypeError, 'must be an array of numbers'),
])
def test_wrong_priors_of_positions_are_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        CentroidPrior(*arguments)


@pytest.mark.parametrize(('arguments', 'error', 'match'), [
    ((1.0, -1.0), ValueError, 'a finite stddev > 0, but it is'),
    ((np.nan, 1.0), ValueError, 'must have a finite mean'),
    (([1.0, 2.0], 1.0), ValueError, 'must be one number, but it has the shape'),
])
def test_wrong_priors_of_parameters_are_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        GaussianPrior(*arguments)


def test_a_model_without_position_is_refused():
    with pytest.raises(ValueError, match='needs a model with a position, x_0 and y_0 or what'):
        fit(CentroidPrior(0.1), np.full(X.shape, 3.0), make_star() + make_star())


@pytest.mark.parametrize('priors', ['x_0', 0.1, GaussianPrior(0.0, 1.0), [0.1]])
def test_other_priors_are_refused(priors):
    with pytest.raises(TypeError, match='priors must be a dict .* a CentroidPrior or a list'):
        PoissonLikelihoodFitter(priors=priors)


def test_priors_show_what_they_are_and_can_be_copied():
    prior = CentroidPrior(0.1, y=[3.0, 4.0])
    assert repr(prior) == 'CentroidPrior(stddev=(0.1, 0.1), y=[3.0, 4.0])'
    assert repr(pickle.loads(pickle.dumps(prior))) == repr(prior)
    fitter = PoissonLikelihoodFitter(priors=[CentroidPrior(0.1), {'flux': (5, 1)}])
    assert ('priors=[CentroidPrior(stddev=(0.1, 0.1)), '
            "{'flux': GaussianPrior(mean=5.0, stddev=1.0)}]") in repr(fitter)
