# Licensed under a 3-clause BSD style license - see LICENSE
"""Priors on parameters and positions, and what the fitter makes of them."""

import dataclasses
import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits as astropy_fits
from astropy.modeling import models
from astropy.table import QTable
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import CircularGaussianPRF, CircularGaussianPSF, PSFPhotometry

from kpsf import (
    CentroidPrior,
    EllipticalGaussianPSF,
    PoissonLikelihoodFitter,
    extract_light_curve,
    fit_stamps,
    read_tpf,
    simulate_tpf,
)
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


def make_wcs(scales=(4.0, 4.0), angle=0.0, dec=10.0, mirrored=True):
    """Return a WCS with pixels of these sizes in arcseconds along x and y, turned by degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ['RA---TAN', 'DEC--TAN']
    wcs.wcs.crval, wcs.wcs.crpix = [120.0, dec], [51.0, 41.0]
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    # Sky = turn of (pixel times scale): the axes of the pixels stay at right angles.
    sky_of_pixel = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag(scales) / 3600.0
    wcs.wcs.cd = np.diag([-1.0 if mirrored else 1.0, 1.0]) @ sky_of_pixel
    return wcs


def star_at(x, y, wcs):
    return wcs.pixel_to_world(np.asarray(x, dtype=float), np.asarray(y, dtype=float))


@pytest.mark.parametrize('dec', [0.0, 10.0, -75.0])
@pytest.mark.parametrize(('scales', 'angle', 'expected'), [
    ((4.0, 4.0), 0.0, (0.1, 0.2)), ((4.0, 2.0), 0.0, (0.1, 0.4)), ((4.0, 4.0), 90.0, (0.2, 0.1)),
    ((4.0, 2.0), 90.0, (0.2, 0.2)), ((21.0, 21.0), 180.0, (0.4 / 21, 0.8 / 21)),
    ((4.0, 4.0), 30.0, (np.sqrt(0.75 * 0.01 + 0.25 * 0.04), np.sqrt(0.25 * 0.01 + 0.75 * 0.04))),
    ((4.0, 2.0), 30.0, (np.sqrt(0.75 * 0.01 + 0.25 * 0.04),
                        2.0 * np.sqrt(0.25 * 0.01 + 0.75 * 0.04)))])
def test_errors_on_the_sky_become_those_along_the_pixels(scales, angle, expected, dec):
    wcs = make_wcs(scales, angle, dec)
    errors = 0.4 * u.arcsec, 800.0 * u.mas
    prior = CentroidPrior.from_sky(star_at(50.0, 40.0, wcs), errors, wcs)
    assert_allclose(prior.stddev, expected, rtol=1e-4)
    assert_allclose([prior.x, prior.y], [50.0, 40.0], atol=1e-6)


@pytest.mark.parametrize('mirrored', [True, False])
def test_one_error_is_the_same_along_all_directions(mirrored):
    wcs = make_wcs((4.0, 2.0), 37.0, mirrored=mirrored)
    prior = CentroidPrior.from_sky(star_at(51.5, 43.0, wcs), 0.4 * u.arcsec, wcs)
    assert_allclose(prior.stddev, [0.1, 0.2], rtol=1e-4)
    assert all(isinstance(stddev, float) for stddev in prior.stddev)
    assert prior.x.shape == ()


def test_errors_on_the_sky_are_the_scatter_of_positions():
    wcs = make_wcs((4.0, 2.5), 25.0, dec=60.0)
    star = star_at(47.0, 44.0, wcs)
    along_ra, along_dec = np.random.default_rng(6).normal(0.0, [[0.3], [1.1]], (2, 20000))
    scattered = star.spherical_offsets_by(along_ra * u.arcsec, along_dec * u.arcsec)
    prior = CentroidPrior.from_sky(star, (0.3 * u.arcsec, 1.1 * u.arcsec), wcs)
    assert_allclose(prior.stddev, np.std(wcs.world_to_pixel(scattered), axis=1), rtol=0.02)


def test_many_stars_have_their_own_errors():
    wcs, x, y = make_wcs((4.0, 2.0)), [50.0, 20.0, 90.0], [40.0, 61.0, 3.0]
    stars = star_at(x, y, wcs)
    errors = [0.4, 0.8, 0.04] * u.arcsec
    prior = CentroidPrior.from_sky(stars, errors, wcs)
    # So far from the middle, a tangential projection is larger by less than 1e-5.
    assert_allclose(prior.stddev, [[0.1, 0.2, 0.01], [0.2, 0.4, 0.02]], rtol=1e-4)
    assert_allclose([prior.x, prior.y], [x, y], atol=1e-6)
    both = CentroidPrior.from_sky(stars, (errors, 0.2 * u.arcsec), wcs)
    assert_allclose(both.stddev, [[0.1, 0.2, 0.01], [0.1, 0.1, 0.1]], rtol=1e-4)
    one = CentroidPrior.from_sky(stars, 0.4 * u.arcsec, wcs)
    assert_allclose(one.stddev, [[0.1] * 3, [0.2] * 3], rtol=1e-4)


def test_stars_in_other_frames_are_the_same():
    wcs = make_wcs((4.0, 2.0), 20.0)
    star = star_at(30.0, 20.0, wcs)
    prior, same = (CentroidPrior.from_sky(each, 0.4 * u.arcsec, wcs)
                   for each in (star, star.galactic))
    assert_allclose([*same.stddev, same.x, same.y], [*prior.stddev, prior.x, prior.y], rtol=1e-6)


def test_the_celestial_part_of_a_larger_wcs_is_used():
    cube = WCS(naxis=3)
    cube.wcs.ctype = ['RA---TAN', 'DEC--TAN', 'WAVE']
    cube.wcs.crval, cube.wcs.crpix = [120.0, 10.0, 5e-7], [51.0, 41.0, 1.0]
    cube.wcs.cdelt = [-4 / 3600, 2 / 3600, 1e-9]
    prior = CentroidPrior.from_sky(SkyCoord(120.0, 10.0, unit='deg'), 0.4 * u.arcsec, cube)
    assert_allclose([*prior.stddev, prior.x, prior.y], [0.1, 0.2, 50.0, 40.0], rtol=1e-5)


@pytest.mark.parametrize(('error', 'kind', 'match'), [
    (0.4, TypeError, 'must be an angle or a pair of angles, but it is 0.4: pass for example'),
    (0.4 * u.pix, TypeError, 'must be an angle or a pair of angles'),
    ((0.4 * u.arcsec, 0.4), TypeError, 'must be an angle or a pair of angles'),
    ((0.4 * u.arcsec,), TypeError, 'must be an angle or a pair of angles'),
    ((0.4 * u.arcsec,) * 3, TypeError, 'must be an angle or a pair of angles'),
    (None, TypeError, 'must be an angle or a pair of angles'),
    (0.0 * u.arcsec, ValueError, 'finite stddev > 0'),
    (-0.4 * u.arcsec, ValueError, 'finite stddev > 0'),
    (np.nan * u.arcsec, ValueError, 'finite stddev > 0'),
    ((0.4 * u.arcsec, 0.0 * u.arcsec), ValueError, 'finite stddev > 0')])
def test_wrong_errors_on_the_sky_are_refused(error, kind, match):
    wcs = make_wcs()
    with pytest.raises(kind, match=match):
        CentroidPrior.from_sky(star_at(50.0, 40.0, wcs), error, wcs)


def test_errors_of_another_number_of_stars_are_refused():
    wcs = make_wcs()
    with pytest.raises(ValueError):
        CentroidPrior.from_sky(star_at([50.0, 51.0], [40.0, 41.0], wcs), [1, 2, 3] * u.arcsec, wcs)


def test_stars_and_images_that_do_not_fit_the_wcs_are_refused():
    wcs = make_wcs()
    line = WCS(naxis=2)
    line.wcs.ctype = ['WAVE', 'LINEAR']
    star = SkyCoord([120.0, 300.0], [10.0, -10.0], unit='deg')
    with pytest.raises(ValueError, match='but this one has the axes WAVE'):
        CentroidPrior.from_sky(star, 0.1 * u.arcsec, line)
    with pytest.raises(ValueError, match='but 1 of 2 are not: leave them out'):
        CentroidPrior.from_sky(star, 0.1 * u.arcsec, wcs)


TPF_PSF = EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 0.8, 0.7, 0.2)
N_CADENCES = 60


@pytest.fixture(scope='module')
def series(tmp_path_factory):
    """Return the pixels of a faint star that drifts, and the truth."""
    path = tmp_path_factory.mktemp('priors') / 'star.fits'
    simulate_tpf(path, TPF_PSF, n_cadences=N_CADENCES, shape=(9, 10), drift=0.2, seed=4,
                 stars=[(15.0, 4.3, 3.9)], background=1.0)
    return read_tpf(path), astropy_fits.getdata(path, 'TRUTH')


def extract(pixels, position):
    return extract_light_curve(pixels, TPF_PSF, shape='fixed', position=position,
                               background='known')


def test_the_prior_of_a_file_has_the_motion_of_each_cadence(series):
    pixels, truth = series
    prior = CentroidPrior.from_tpf(pixels, (0.05, 0.1))
    assert prior.stddev == (0.05, 0.1)
    assert_allclose(prior.x, np.ravel(truth['X']), atol=0.02)
    assert_allclose(prior.y, np.ravel(truth['Y']), atol=0.02)
    assert np.ptp(prior.x) > 0.1
    assert CentroidPrior.from_tpf(pixels).stddev == (0.1, 0.1)


def test_a_file_that_does_not_know_its_target_is_refused(series):
    pixels, _ = series
    other = dataclasses.replace(pixels, meta={**pixels.meta, 'target_position_from':
                                              'centre of the stamp'})
    with pytest.raises(ValueError, match='A header with the position of the target is needed'):
        CentroidPrior.from_tpf(other)


def test_the_prior_of_a_light_curve_is_its_median_position(series):
    light_curve = extract(series[0], 'free')
    good = light_curve['flags'] == 0
    prior = CentroidPrior.from_light_curve(light_curve)
    for centre, stddev, name in zip((prior.x, prior.y), prior.stddev, 'xy', strict=True):
        places = light_curve[name].value[good]
        assert_allclose(centre, np.median(places), rtol=1e-12)
        assert_allclose(stddev, 1.4826 * np.median(np.abs(places - np.median(places))),
                        rtol=1e-10)
    assert CentroidPrior.from_light_curve(light_curve, (0.3, 0.2)).stddev == (0.3, 0.2)
    # Cadences with a flag do not count.
    marked = light_curve.copy()
    marked['flags'][:20] = 1
    marked['x'][:20] = 1e3 * u.pix
    expected = np.median(light_curve['x'].value[20:][light_curve['flags'][20:] == 0])
    assert_allclose(CentroidPrior.from_light_curve(marked).x, expected, rtol=1e-12)


def test_positions_that_were_held_have_a_small_scatter(series):
    held = extract(series[0], (4.3, 3.9))
    prior = CentroidPrior.from_light_curve(held)
    assert_allclose([prior.x, prior.y], [4.3, 3.9], rtol=1e-12)
    assert prior.stddev == (1e-3, 1e-3)


def test_a_light_curve_without_good_cadences_is_refused(series):
    light_curve = extract(series[0], 'free')
    light_curve['flags'][2:] = 1
    with pytest.raises(ValueError, match='at least 3 cadences without flags are needed'):
        CentroidPrior.from_light_curve(light_curve)


def test_a_narrow_prior_holds_each_cadence_of_a_light_curve(series):
    prior = CentroidPrior.from_tpf(series[0], 1e-4)
    light_curve = extract(series[0], prior)
    assert_allclose(light_curve['x'].value, prior.x, atol=1e-3)
    assert_allclose(light_curve['y'].value, prior.y, atol=1e-3)
    assert_allclose(light_curve['x_err'].value, 1e-4, rtol=1e-2)
    known = extract(series[0], (prior.x, prior.y))
    assert_allclose(light_curve['flux'].value, known['flux'].value, rtol=1e-3)


def test_a_wide_prior_changes_nothing(series):
    free, wide = (extract(series[0], position) for position in ('free', CentroidPrior(1e4, 0, 0)))
    assert_allclose(wide['x'].value, free['x'].value, atol=2e-3)
    assert_allclose(wide['flux'].value, free['flux'].value, rtol=1e-3)


def test_positions_are_pulled_by_what_the_pixels_and_the_prior_weigh(series):
    pixels, _ = series
    free = extract(pixels, 'free')
    centre = np.median(free['x'].value) + 0.1, np.median(free['y'].value) - 0.1
    width = np.median(free['x_err'].value)
    light_curve = extract(pixels, CentroidPrior(width, *centre))
    for name, middle in zip('xy', centre, strict=True):
        place, error = free[name].value, free[f'{name}_err'].value
        weight = error**-2 / (error**-2 + width**-2)
        expected = weight * place + (1.0 - weight) * middle
        # The likelihood is nearly a Gaussian over these distances.
        assert_allclose(light_curve[name].value, expected, atol=0.5 * width)
        moved = light_curve[name].value - place
        slope = np.sum(moved * (middle - place)) / np.sum((middle - place)**2)
        assert_allclose(slope, 1.0 - weight.mean(), atol=0.1)
        # Posterior errors: what both tell.
        assert_allclose(np.median(light_curve[f'{name}_err'].value),
                        np.median((error**-2 + width**-2)**-0.5), rtol=0.1)


def test_a_prior_without_a_centre_is_at_the_star_of_the_median_image(series):
    pixels, truth = series
    light_curve = extract(pixels, CentroidPrior(1e-4))
    for name in 'xy':
        assert np.ptp(light_curve[name].value) < 1e-3
        assert_allclose(light_curve[name].value.mean(), np.median(truth[name.upper()]), atol=0.1)


def test_a_prior_of_each_cadence_has_its_own_width(series):
    prior = CentroidPrior.from_tpf(series[0])
    widths = np.where(np.arange(N_CADENCES) < 30, 1e-4, 1e4)
    light_curve = extract(series[0], CentroidPrior((widths, widths), prior.x + 0.1, prior.y))
    free = extract(series[0], 'free')
    assert_allclose(light_curve['x'].value[:30], prior.x[:30] + 0.1, atol=1e-3)
    assert_allclose(light_curve['x'].value[30:], free['x'].value[30:], atol=2e-3)


def test_a_prior_of_another_number_of_cadences_is_refused(series):
    with pytest.raises(ValueError, match='must have one position per star, but it has 3 for 60'):
        extract(series[0], CentroidPrior(0.1, x=[1.0, 2.0, 3.0], y=4.0))
    with pytest.raises(ValueError, match='a number or one per star, but there are 3 for 60'):
        extract(series[0], CentroidPrior(([0.1] * 3, [0.1] * 3), 4.0, 4.0))


def test_stars_of_a_group_may_have_their_own_widths():
    table = fit_group(CentroidPrior(([1e-4, 2e-4], [1e-4, 2e-4])))
    assert_allclose(table['x_err'], [1e-4, 2e-4], rtol=1e-3)
    assert_allclose(table['x_fit'], [3.5, 6.7], atol=1e-4)
    with pytest.raises(ValueError, match='a number or one per star, but there are 3 for 2'):
        fit_group(CentroidPrior(([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])))


def test_widths_of_stars_are_copied_and_shown():
    widths = np.array([[0.1, 0.2], [0.3, 0.4]])
    prior = CentroidPrior(widths, x=[1.0, 2.0], y=[3.0, 4.0])
    widths[:] = 9.0
    assert_array_equal(prior.stddev, [[0.1, 0.2], [0.3, 0.4]])
    assert repr(prior) == ('CentroidPrior(stddev=([0.1, 0.2], [0.3, 0.4]), x=[1.0, 2.0], '
                           'y=[3.0, 4.0])')
    mean, stddev = prior.as_priors(make_star(), [0.0, 0.0], [0.0, 0.0])['y_0']
    assert_array_equal(mean, [3.0, 4.0])
    assert_array_equal(stddev, [0.3, 0.4])


@pytest.mark.parametrize('stddev', [[[0.1, 0.2], [0.3, 0.0]], [[0.1, np.nan], [0.3, 0.1]]])
def test_each_width_must_be_proper(stddev):
    with pytest.raises(ValueError, match='finite stddev > 0'):
        CentroidPrior(stddev)


@pytest.mark.parametrize('stddev', [[[0.1, 0.2, 0.3]], np.ones((2, 2, 2)), np.ones((3, 2))])
def test_widths_of_another_shape_are_refused(stddev):
    with pytest.raises(ValueError, match='must be a number or a pair, but it has the shape'):
        CentroidPrior(stddev)


def test_one_width_per_star_may_stand_beside_one_for_all():
    prior = CentroidPrior((0.1, [0.2, 0.3]))
    mean, stddev = prior.as_priors(make_star(), [1.0, 2.0], [3.0, 4.0])['x_0']
    assert_array_equal(mean, [1.0, 2.0])
    assert_allclose(stddev, 0.1, rtol=1e-12)
    assert_array_equal(prior.as_priors(make_star(), [1.0, 2.0], [3.0, 4.0])['y_0'][1], [0.2, 0.3])
