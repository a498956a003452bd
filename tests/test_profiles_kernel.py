# Licensed under a 3-clause BSD style license - see LICENSE
"""The profiles of stars in groups: the model's images, and their derivatives by differences."""

import numpy as np
import pytest
from astropy.modeling import Fittable2DModel, Parameter
from astropy.nddata import NDData
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import (
    AiryDiskPSF,
    CircularGaussianPRF,
    CircularGaussianPSF,
    CircularGaussianSigmaPRF,
    GaussianPRF,
    GaussianPSF,
    GriddedPSFModel,
    ImagePSF,
    MoffatPSF,
    make_psf_model,
)
from photutils.psf.functional_models import GAUSSIAN_FWHM_TO_SIGMA

from kpsf import EllipticalGaussianPSF, TabulatedPRF
from kpsf._kernels.profiles import GaussianProfile, IntegratedProfile, TableProfile
from kpsf.stamps.kernels import profile_of
from kpsf.stamps.model_functions import ModelProfile

N_STARS, N_GROUPS = 3, 4
SAMPLE_Y, SAMPLE_X = np.mgrid[:61, :61]


def samples(fwhm):
    """Return an image at four samples per pixel, of flux 1 on the pixels."""
    return CircularGaussianPRF().evaluate(SAMPLE_X, SAMPLE_Y, 16.0, 30.0, 30.0, fwhm)


def grid():
    """Return PSFs that widen along the rows of a grid of four nodes."""
    meta = {'grid_xypos': [(0, 0), (0, 40), (40, 0), (40, 40)], 'oversampling': 4}
    return GriddedPSFModel(NDData(np.array([samples(8.0 + i) for i in range(4)]), meta=meta))


def free(model):
    """Return a model of which everything is free."""
    for name in model.param_names:
        getattr(model, name).fixed = False
    return model


class OneByOne(Fittable2DModel):
    """A Gaussian that takes one set of parameters at a time, its derivatives wrong."""

    flux, x_0, y_0 = (Parameter(default=value) for value in (1.0, 0.0, 0.0))

    @staticmethod
    def evaluate(x, y, flux, x_0, y_0):
        values = [float(np.ravel(value).item()) for value in (flux, x_0, y_0)]
        return CircularGaussianPSF().evaluate(x, y, *values, 2.2)

    @staticmethod
    def fit_deriv(x, y, flux, x_0, y_0):
        return [np.zeros_like(x)] * 3


class Renamed(Fittable2DModel):
    """A Gaussian with its parameters in another order, that it has names for."""

    x_name, y_name, flux_name = 'column', 'row', 'counts'
    width, row, counts, column = (Parameter(default=value) for value in (2.0, 0.0, 1.0, 0.0))

    @staticmethod
    def evaluate(x, y, width, row, counts, column):
        return CircularGaussianPSF().evaluate(x, y, counts, column, row, width)


MODELS = {
    'elliptical': (lambda: free(EllipticalGaussianPSF()), [0.7, 0.1, 0.5], GaussianProfile),
    'circular': (lambda: free(CircularGaussianPSF()), [2.2], GaussianProfile),
    'turned': (lambda: free(GaussianPSF()), [2.0, 2.6, 30.0], GaussianProfile),
    'prf': (lambda: free(CircularGaussianPRF()), [2.2], IntegratedProfile),
    'sigma prf': (lambda: free(CircularGaussianSigmaPRF()), [0.9], IntegratedProfile),
    'image': (lambda: ImagePSF(samples(8.0), oversampling=4), [], TableProfile),
    'grid': (grid, [], TableProfile),
    'moffat': (lambda: free(MoffatPSF()), [2.0, 2.5], ModelProfile),
    'airy': (lambda: free(AiryDiskPSF()), [2.5], ModelProfile),
    'turned prf': (lambda: free(GaussianPRF()), [2.0, 2.6, 30.0], ModelProfile),
    'one by one': (OneByOne, [], ModelProfile),
}


def places(rng, origin=(0, 0)):
    """Return pixels (m, n) of boxes that are not in the order of the image."""
    y, x = np.mgrid[10:21, 15:27].reshape(2, -1)
    order = rng.permuted(np.tile(np.arange(x.size), (N_GROUPS, 1)), axis=1)[:, :100]
    return x[order] + origin[0], y[order] + origin[1]


def stars_of(shape, rng, origin=(0, 0)):
    """Return parameters (k, n_stars, m), the fluxes not to be looked at."""
    stars = np.empty((3 + len(shape), N_STARS, N_GROUPS))
    stars[0] = np.nan
    stars[1] = rng.uniform(16, 25, (N_STARS, N_GROUPS)) + origin[0]
    stars[2] = rng.uniform(11, 19, (N_STARS, N_GROUPS)) + origin[1]
    for row, value in zip(stars[3:], shape):
        row[:] = value * rng.uniform(0.9, 1.1, (N_STARS, N_GROUPS))
    return stars


def images_of(model, order, stars, x, y):
    """Return the images of unit flux, (n_stars, m, n), by the model itself."""
    images = np.empty((*stars.shape[1:], x.shape[1]))
    for star, group in np.ndindex(*stars.shape[1:]):
        own = np.empty(len(stars))
        own[order] = [1.0, *stars[1:, star, group]]
        images[star, group] = model.evaluate(x[group].astype(float), y[group].astype(float), *own)
    return images


@pytest.mark.parametrize('origin', [(0, 0), (2000, 1900)], ids=['near', 'far'])
@pytest.mark.parametrize('name', list(MODELS))
def test_images_are_those_of_the_model(name, origin):
    make, shape, kind = MODELS[name]
    rng = np.random.default_rng(1)
    model, (x, y), stars = make(), places(rng, origin), stars_of(shape, rng, origin)
    profile, order = profile_of(model, range(len(model.param_names)))
    assert type(profile) is kind
    expected = images_of(model, order, stars, x, y)
    images = profile.images(stars, x, y, [])
    assert images.shape == (1, *expected.shape)
    # Tables end 7.5 pixels from the star, and fade where photutils cuts them off.
    ends = np.zeros(expected.shape, dtype=bool)
    if kind is TableProfile:
        distances = (np.abs(places - place[..., np.newaxis])
                     for places, place in ((x, stars[1]), (y, stars[2])))
        ends = np.any([np.abs(distance - 7.5) <= 0.125 for distance in distances], axis=0)
        assert 0 < np.mean(ends) < 0.2
    # The last bits of coordinates of 2000 pixels are worth 1e-12.
    assert_allclose(images[0][~ends], expected[~ends], rtol=1e-9, atol=1e-11 * expected.max())


@pytest.mark.parametrize('origin', [(0, 0), (2000, 1900)], ids=['near', 'far'])
@pytest.mark.parametrize('name', list(MODELS))
def test_derivatives_are_differences_of_images(name, origin):
    make, shape, _ = MODELS[name]
    rng = np.random.default_rng(2)
    model, (x, y), stars = make(), places(rng, origin), stars_of(shape, rng, origin)
    profile, _ = profile_of(model, range(len(model.param_names)))
    wanted = list(range(1, len(stars)))
    images = profile.images(stars, x, y, wanted)
    assert_array_equal(images[0], profile.images(stars, x, y, [])[0])
    for image, j in zip(images[1:], wanted, strict=True):
        up, down = stars.copy(), stars.copy()
        up[j] += 1e-4
        down[j] -= 1e-4
        difference = (profile.images(up, x, y, [])[0] - profile.images(down, x, y, [])[0]) / 2e-4
        # Forward differences of the model's own are good to 1e-6, central ones of 1e-4 to 1e-8.
        assert_allclose(image, difference, atol=2e-6 * np.abs(difference).max() + 1e-8 * (j < 3))


@pytest.mark.parametrize('name', list(MODELS))
def test_wanted_derivatives_come_in_the_order_they_are_wanted(name):
    make, shape, _ = MODELS[name]
    rng = np.random.default_rng(3)
    model, (x, y), stars = make(), places(rng), stars_of(shape, rng)
    profile, _ = profile_of(model, range(len(model.param_names)))
    last = len(stars) - 1
    every = profile.images(stars, x, y, list(range(1, last + 1)))
    for wanted in ([1], [2], [last], [1, last]):
        # A number or two differ in the last bit where arrays are summed in another order.
        assert_allclose(profile.images(stars, x, y, wanted), every[[0, *wanted]],
                        rtol=1e-12, atol=1e-15)


def test_two_widths_without_an_angle_are_integrated():
    model = GaussianPRF(x_fwhm=2.0, y_fwhm=2.6)
    profile, order = profile_of(model, [0, 1, 2, 3, 4])
    assert type(profile) is IntegratedProfile
    rng = np.random.default_rng(4)
    (x, y), stars = places(rng), stars_of([2.0, 2.6, 0.0], rng)
    assert_allclose(profile.images(stars, x, y, [])[0], images_of(model, order, stars, x, y),
                    atol=1e-14)
    images = profile.images(stars, x, y, [3, 4, 5])
    assert_array_equal(images[3], 0.0)
    for j, image in zip((3, 4), images[1:]):
        step = 1e-4 * (np.arange(6) == j)[:, np.newaxis, np.newaxis]
        difference = (profile.images(stars + step, x, y, [])[0]
                      - profile.images(stars - step, x, y, [])[0]) / 2e-4
        assert_allclose(image, difference, atol=1e-8)


def test_a_tabulated_prf_has_its_own_table():
    y, x = np.mgrid[:45, :45]
    prf = TabulatedPRF(CircularGaussianPRF().evaluate(x, y, 16.0, 22.0, 22.0, 8.0), 0.25)
    profile, order = profile_of(prf, [0, 1, 2])
    assert type(profile) is TableProfile
    rng = np.random.default_rng(5)
    (x, y), stars = places(rng), stars_of([], rng)
    held = np.array([getattr(prf, name).value for name in prf.param_names[3:]])
    stars = np.concatenate([stars, np.broadcast_to(held.reshape(-1, 1, 1), (
        len(held), N_STARS, N_GROUPS))])
    expected = images_of(prf, order, stars, x, y)
    assert_allclose(profile.images(stars, x, y, [])[0], expected, atol=1e-12 * expected.max())


@pytest.mark.parametrize('name', ['circular', 'prf', 'image', 'grid', 'moffat'])
def test_pixels_far_from_a_star_are_dark_and_their_slopes_flat(name):
    make, shape, kind = MODELS[name]
    model = make()
    profile, _ = profile_of(model, range(len(model.param_names)))
    stars = np.array([np.nan, 20.0, 15.0, *shape]).reshape(-1, 1, 1)
    # One near, the others beyond the ends of the tables or at the far end of a detector.
    x, y = np.array([[20, 60, 20, 3000, 25]]), np.array([[15, 15, 90, 3000, -200]])
    images = profile.images(stars, x, y, list(range(1, len(stars))))
    assert np.isfinite(images).all()
    assert images[0, 0, 0, 0] > 0.1
    far = images[..., 1:]
    if kind is TableProfile:
        assert_array_equal(far, 0.0)
    assert np.abs(far).max() < 1e-4


def test_a_table_ends_as_gently_for_a_group_as_its_slopes_say():
    # Pixels within the quarter of a pixel over which a table fades.
    profile, _ = profile_of(ImagePSF(samples(30.0), oversampling=4), [0, 1, 2])
    stars = np.array([np.nan, 20.0, 15.0]).reshape(3, 1, 1)
    ends = np.linspace(7.2, 7.9, 15)
    x, y = np.full((1, 15), 20), np.full((1, 15), 15)
    values = []
    for end in ends:
        moved = stars + np.array([0.0, end, 0.3]).reshape(3, 1, 1)
        image, by_x = profile.images(moved, x, y, [1])[:, 0, 0, 0]
        step = np.array([0.0, 1e-6, 0.0]).reshape(3, 1, 1)
        difference = (profile.images(moved + step, x, y, [])[0, 0, 0, 0]
                      - profile.images(moved - step, x, y, [])[0, 0, 0, 0]) / 2e-6
        assert_allclose(by_x, difference, rtol=1e-5, atol=1e-8)
        values.append(image)
    assert values[0] > 1e-3
    assert values[-1] == 0.0


def test_a_model_says_by_itself_which_parameters_are_flux_and_position():
    model = Renamed()
    profile, order = profile_of(model, [0, 1, 2, 3])
    assert order == [2, 3, 1, 0]
    rng = np.random.default_rng(6)
    (x, y), stars = places(rng), stars_of([2.2], rng)
    reference, _ = profile_of(free(CircularGaussianPSF()), [0, 1, 2, 3])
    assert_allclose(profile.images(stars, x, y, [1, 2, 3]),
                    reference.images(stars, x, y, [1, 2, 3]), atol=1e-7)


def test_a_compound_model_is_a_profile():
    psf = make_psf_model(MoffatPSF(alpha=2.0, beta=2.5), x_name='x_0', y_name='y_0')
    profile, order = profile_of(psf, [0])
    assert profile.is_proportional
    x, y = np.array([[20, 22]]), np.array([[15, 15]])
    stars = np.empty((len(order), 1, 1))
    for place, j in enumerate(order):
        stars[place] = getattr(psf, psf.param_names[j]).value
    assert [psf.param_names[j] for j in order[:3]] == [psf.flux_name, psf.x_name, psf.y_name]
    stars[1], stars[2] = 20.3, 15.2
    assert_allclose(profile.images(stars, x, y, [])[0], images_of(psf, order, stars, x, y),
                    rtol=1e-12)
    step = np.zeros_like(stars)
    step[1] = 1e-5
    difference = (profile.images(stars + step, x, y, [])[0]
                  - profile.images(stars - step, x, y, [])[0]) / 2e-5
    assert_allclose(profile.images(stars, x, y, [1])[1], difference, atol=1e-6)


def test_a_model_that_is_not_proportional_to_its_flux_is_no_profile():
    filled = ImagePSF(samples(8.0), oversampling=4, fill_value=0.01)
    with pytest.raises(ValueError, match='must be proportional to its flux.*ImagePSF is not'):
        profile_of(filled, [0, 1, 2])


def test_a_derivative_that_is_wrong_is_not_used():
    profile, _ = profile_of(OneByOne(), [0, 1, 2])
    stars = np.array([np.nan, 20.2, 15.0]).reshape(3, 1, 1)
    x, y = np.array([[19, 20, 21]]), np.array([[15, 15, 15]])
    slopes = profile.images(stars, x, y, [1])[1, 0, 0]
    assert slopes[0] < -0.01
    assert slopes[2] > 0.01


def test_the_width_of_an_integrated_profile_counts_in_its_own_unit():
    stars = np.array([np.nan, 20.2, 15.0, 1.0]).reshape(4, 1, 1)
    x, y = np.array([[19, 20, 21]]), np.array([[15, 15, 14]])
    in_stddev = IntegratedProfile(1, 1.0).images(stars, x, y, [3])
    stars[3] /= GAUSSIAN_FWHM_TO_SIGMA
    in_fwhm = IntegratedProfile(1, 1.0 / GAUSSIAN_FWHM_TO_SIGMA).images(stars, x, y, [3])
    assert_allclose(in_fwhm[0], in_stddev[0], rtol=1e-12)
    assert_allclose(in_fwhm[1], in_stddev[1] * GAUSSIAN_FWHM_TO_SIGMA, rtol=1e-12)
