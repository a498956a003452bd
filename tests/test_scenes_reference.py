# Licensed under a 3-clause BSD style license - see LICENSE
"""The mean image: positions, fluxes and shape of what was put in."""

from types import SimpleNamespace

import numpy as np
import pytest

from kpsf import EllipticalGaussianPSF, Scene, TabulatedPRF, fit_stamps, simulate_tpf
from kpsf.guidance.information import Star
from kpsf.scenes.fields import background_images
from kpsf.scenes.pixels import as_target_pixels, gather_pixels
from kpsf.scenes.prepare import fit_mean_image, sharpen
from kpsf.scenes.reference import Reference, fit_reference

Y, X = (axis.ravel().astype(float) for axis in np.mgrid[:11, :12])
PIXELS = SimpleNamespace(x=X, y=Y)
SHAPE = ('a', 'b', 'c')
PSF = EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 0.8, 0.65, 0.4)
WIDER = EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 0.95, 0.95, 0.0)
PLACES = (np.array([4.3, 6.1, 8.4]), np.array([5.2, 5.6, 2.1]))
FLUX = np.array([2e5, 4e4, 1e4])
CONSTANT = np.ones((1, X.size))


def reference(psf=PSF, places=PLACES, flux=FLUX):
    """Return stars that nothing was fitted to."""
    k = len(flux)
    return Reference(Star(psf), *map(np.array, places), np.array(flux), np.zeros((k, X.size)),
                     np.zeros(X.size))


def image(level=0.0):
    """Return the image (p,) of the stars and a constant."""
    return FLUX @ reference().star_images(PIXELS) + level


def shape_of(found):
    return np.array([found.star.shape[name] for name in SHAPE])


@pytest.mark.parametrize('level', [0.0, 300.0])
def test_a_blend_without_noise_is_recovered(level):
    data = image(level)
    start = reference(WIDER, [PLACES[0] + [0.3, 0.2, 0.25], PLACES[1] - [0.2, 0.3, 0.25]],
                      [np.nan] * 3)
    found = fit_reference(PIXELS, data, 0.01 + data / 1e5, start, CONSTANT, 1.0, SHAPE)
    np.testing.assert_allclose(found.x, PLACES[0], atol=1e-4)
    np.testing.assert_allclose(found.y, PLACES[1], atol=1e-4)
    np.testing.assert_allclose(found.flux, FLUX, rtol=1e-3)
    np.testing.assert_allclose(shape_of(found), [getattr(PSF, name).value for name in SHAPE],
                               atol=1e-4)
    np.testing.assert_allclose(found.background, level, atol=0.2)
    assert found.share < 1e-4
    np.testing.assert_allclose(found.light + found.background, data, atol=0.2 + 1e-4 * data.max())


def test_estimates_scatter_as_the_information_says():
    data, variance = image(100.0), 20.0 + image(100.0) / 50.0
    truth = np.concatenate([FLUX, *PLACES])
    found, rng = [], np.random.default_rng(1)
    for _ in range(60):
        noisy = data + rng.normal(0.0, np.sqrt(variance))
        fit = fit_reference(PIXELS, noisy, variance, reference(), CONSTANT, 1.0)
        found.append(np.concatenate([fit.flux, fit.x, fit.y]))
    star, k = reference(), 3
    slopes = [FLUX[:, np.newaxis] * slope for slope in star.slopes(PIXELS)]
    design = np.concatenate([star.star_images(PIXELS), *slopes, CONSTANT])
    error = np.sqrt(np.diag(np.linalg.inv(design / variance @ design.T)))[:3 * k]
    pulls = (np.array(found) - truth) / error
    assert np.abs(pulls.mean(axis=0)).max() < 4.0 / np.sqrt(60)
    assert np.abs(pulls.std(axis=0) - 1.0).max() < 4.0 / np.sqrt(120)


def test_the_shape_is_that_of_fit_stamps():
    # A star with wings, which no Gaussian fits: both must agree what the best one is.
    star = (1.8e5 * Star(PSF).image(X, Y, 5.2, 5.1)
            + 2e4 * Star(EllipticalGaussianPSF.from_stddev(1.0, 0, 0, 1.9, 1.8, 0)).image(
                X, Y, 5.2, 5.1)) + 300.0
    found = fit_reference(PIXELS, star - 300.0, star, reference(WIDER, ([5.0], [5.0]), [np.nan]),
                          CONSTANT, 1.0, SHAPE)
    stamps = fit_stamps(star.reshape(1, 11, 12), EllipticalGaussianPSF(), background='fit')
    values = dict(zip(stamps.param_names, stamps.params[0]))
    np.testing.assert_allclose(shape_of(found), [values[name] for name in SHAPE], rtol=0.03,
                               atol=0.02)
    np.testing.assert_allclose(found.flux, values['flux'], rtol=0.01)
    np.testing.assert_allclose([found.x[0], found.y[0]], [values['x_0'], values['y_0']], atol=0.01)


def test_places_relative_to_each_other_are_held_as_well_as_they_are_known():
    data = image()
    off = np.array([0.1, -0.2, 0.1])
    start = reference(PSF, [PLACES[0] + off, PLACES[1]], FLUX)
    moved = {}
    for error in (1e-4, 1e-2, 1.0):
        found = fit_reference(PIXELS, data, 1.0 + data / 10.0, start, CONSTANT, error)
        moved[error] = found.x - start.x
        if error == 1e-4:
            # Held relative to each other, but free to move together.
            assert np.ptp(moved[error]) < 1e-3
    np.testing.assert_allclose(moved[1.0], -off, atol=1e-3)
    assert np.ptp(moved[1e-4]) < np.ptp(moved[1e-2]) < np.ptp(moved[1.0])


def test_stars_may_move_together_however_well_their_places_are_known():
    data = image()
    start = reference(PSF, [PLACES[0] + 0.4, PLACES[1] - 0.3], FLUX)
    found = fit_reference(PIXELS, data, 1.0 + data / 1e3, start, CONSTANT, 1e-4)
    np.testing.assert_allclose(found.x, PLACES[0], atol=1e-3)
    np.testing.assert_allclose(found.y, PLACES[1], atol=1e-3)


@pytest.mark.parametrize('background', ['known', 'fit', 'plane'])
def test_backgrounds_are_none_a_constant_or_a_plane(background):
    plane = 40.0 + 3.0 * (X - X.mean()) - 2.0 * (Y - Y.mean())
    expected = {'known': 0.0 * X, 'fit': 0.0 * X + 40.0, 'plane': plane}[background]
    images = background_images(PIXELS, background)
    assert images.shape == ({'known': 0, 'fit': 1, 'plane': 3}[background], X.size)
    found = fit_reference(PIXELS, image() + expected, 1.0 + image() / 1e3, reference(), images,
                          0.1)
    np.testing.assert_allclose(found.background, expected, atol=1e-3)
    np.testing.assert_allclose(found.flux, FLUX, rtol=1e-4)


def test_a_star_off_the_pixels_keeps_the_others_determined():
    start = reference(PSF, [np.append(PLACES[0], 60.0), np.append(PLACES[1], 60.0)],
                      np.append(FLUX, np.nan))
    found = fit_reference(PIXELS, image(), 1.0 + image() / 1e3, start, CONSTANT, 0.1)
    np.testing.assert_allclose(found.flux[:3], FLUX, rtol=1e-4)
    assert np.isfinite(found.flux).all()


def test_slopes_are_derivatives_of_the_images():
    star = reference()
    for axis, slope in enumerate(star.slopes(PIXELS)):
        step = 1e-4 * np.eye(2)[axis]
        expected = (star.star_images(PIXELS, *step) - star.star_images(PIXELS, *-step)) / 2e-4
        np.testing.assert_allclose(slope, expected, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope='module')
def moving(tmp_path_factory):
    """Return the pixels of stars that move by more than a pixel, and their shifts."""
    phase = np.arange(60) % 12 / 5.5 - 1.0
    drift = 0.7 * np.column_stack([phase, 0.5 * phase])
    path = simulate_tpf(tmp_path_factory.mktemp('pixels') / 'a.fits', PSF, drift=drift, seed=1,
                        stars=[(2e5, 5.0, 5.0), (5e4, 7.2, 5.6)], shape=(11, 12))
    return gather_pixels(as_target_pixels(path)), drift


@pytest.mark.parametrize('position_error', [0.0, 0.1])
def test_motion_is_not_taken_for_width(moving, position_error):
    pixels, drift = moving
    scene = Scene(psf='gaussian', position_error=position_error)
    start = np.array([5.0, 7.2]), np.array([5.0, 5.6])
    blurred = fit_mean_image(pixels, scene, *start, np.full(2, np.nan), 'known')
    found = sharpen(blurred, pixels, scene, 'known', drift)
    truth = [getattr(PSF, name).value for name in SHAPE]
    np.testing.assert_allclose(shape_of(found), truth, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(found.flux, [2e5, 5e4], rtol=1e-3)
    np.testing.assert_allclose(found.x, start[0], atol=2e-3)
    assert np.abs(shape_of(blurred) / truth - 1.0).max() > 0.1
    assert found.share < 0.02 * blurred.share + 1e-3


def test_stars_at_rest_are_not_fitted_again(moving):
    pixels, _ = moving
    found = reference()
    assert sharpen(found, pixels, Scene(), 'known', np.zeros((60, 2))) is found


def test_shapes_that_are_fixed_or_images_stay(moving):
    pixels, _ = moving
    fixed = WIDER.copy()
    for name in SHAPE:
        getattr(fixed, name).fixed = True
    offset = (np.arange(120) - 59.5) / 10.0
    share = np.exp(-0.5 * offset**2 / 0.8**2)
    for psf in (fixed, TabulatedPRF(np.outer(share, share), 0.1)):
        found = fit_mean_image(pixels, Scene(psf=psf), np.array([5.0, 7.2]), np.array([5.0, 5.6]),
                               np.full(2, np.nan), 'known')
        assert found.star.shape == Star(psf).shape
