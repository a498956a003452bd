# Licensed under a 3-clause BSD style license - see LICENSE
"""Stamps under the models of photutils, which have kernels, and models that know their place."""

import numpy as np
import pytest
from astropy.modeling import Fittable2DModel, Parameter
from astropy.nddata import NDData
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import (
    CircularGaussianPRF,
    CircularGaussianPSF,
    CircularGaussianSigmaPRF,
    GaussianPRF,
    GaussianPSF,
    GriddedPSFModel,
    ImagePSF,
    MoffatPSF,
)

from kpsf import fit_stamps
from kpsf.flags import FitFlag
from kpsf.stamps.kernels import kernel_of

SHAPE = (9, 10)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]].astype(float)
NODES = (0.0, 400.0, 1000.0)


def star_image(width, pixels=25, oversampling=3):
    size = pixels * oversampling
    v, u = np.mgrid[:size + 1, :size + 1] - size / 2
    return GaussianPSF().evaluate(u, v, oversampling ** 2, 0.2, -0.1, width * oversampling,
                                  1.2 * width * oversampling, 20.0)


def gridded_model(nodes=NODES, kind=GriddedPSFModel, **kwargs):
    places = [(x, y) for y in nodes for x in nodes]
    images = [star_image(1.8 + 1e-3 * x + 5e-4 * y) for x, y in places]
    return kind(NDData(np.array(images), meta={'grid_xypos': places, 'oversampling': 3}),
                **kwargs)


def image_model(kind=ImagePSF, **kwargs):
    return kind(star_image(2.0), oversampling=3, **kwargs)


MODELS = {
    'CircularGaussianPSF': (CircularGaussianPSF(fwhm=2.1), 'widths'),
    'GaussianPSF': (GaussianPSF(x_fwhm=1.8, y_fwhm=2.6, theta=35.0), 'widths'),
    'CircularGaussianPRF': (CircularGaussianPRF(fwhm=2.1), 'integrated'),
    'CircularGaussianSigmaPRF': (CircularGaussianSigmaPRF(sigma=0.9), 'integrated'),
    'GaussianPRF': (GaussianPRF(x_fwhm=1.8, y_fwhm=2.6), 'integrated'),
    'ImagePSF': (image_model(), 'tabulated'),
    'GriddedPSFModel': (gridded_model(), 'gridded'),
}
SHAPED = list(MODELS)[:5]


def shape_names(model):
    """Return the parameters besides flux and place."""
    return model.param_names[3:]


def with_free_shape(name):
    model = MODELS[name][0].copy()
    # The kernel integrates Gaussians along rows and columns alone.
    for parameter in shape_names(model):
        model.fixed[parameter] = parameter == 'theta' and name == 'GaussianPRF'
    return model


class Stars:
    """Simulated stamps of stars all over the detector, and what is true of them."""

    def __init__(self, model, n, flux=2000.0, background=8.0, seed=1):
        rng = np.random.default_rng(seed)
        self.model, self.flux, self.background = model, flux, background
        self.x, self.y = 4.6 + rng.uniform(-0.5, 0.5, n), 3.9 + rng.uniform(-0.5, 0.5, n)
        self.origin = rng.integers(-50, 1050, (n, 2))
        shape = [getattr(model, name).value for name in shape_names(model)]
        self.truth = np.column_stack([np.full(n, flux), self.x, self.y,
                                      np.tile(shape, (n, 1)), np.full(n, background)])
        self.counts = rng.poisson([
            model.evaluate(X + first[0], Y + first[1], flux, x + first[0], y + first[1], *shape)
            + background for x, y, first in zip(self.x, self.y, self.origin, strict=True)])

    def fit(self, model=None, **kwargs):
        return fit_stamps(self.counts, model or self.model, origin=self.origin, **kwargs)

    def pulls(self, fits):
        """Return the pulls of what was fitted, (n, q)."""
        free = fits.errors[0] > 0
        return (fits.params - self.truth)[:, free] / fits.errors[:, free]


def generic(model, module=__name__):
    """Return the same model as an object of a subclass, which has no kernel of its own."""
    twin = model.copy()
    twin.__class__ = type('Own' + type(model).__name__, (type(model),), {'__module__': module})
    return twin


def kind_of(model, moving=(0, 1, 2), init=()):
    return kernel_of(model, SHAPE, [*moving, len(model.param_names)], dict(init)).kind


def assert_calibrated(pulls):
    """Check that pulls have the mean 0 and the standard deviation 1, to 4 of their errors."""
    n = len(pulls)
    assert np.abs(pulls.mean(axis=0)).max() < 4 / np.sqrt(n)
    assert np.abs(pulls.std(axis=0) - 1).max() < 4 / np.sqrt(2 * n)


@pytest.mark.parametrize('name', list(MODELS))
def test_each_model_has_its_kernel_and_a_subclass_of_it_has_none(name):
    model, kind = MODELS[name]
    assert kind_of(model) == kind
    for module in (__name__, type(model).__module__):
        assert kind_of(generic(model, module)) == 'general'
    assert kind_of(with_free_shape(name), range(len(model.param_names) - 1)) == kind


@pytest.mark.parametrize('model', [
    image_model(fill_value=1e-3), image_model(fill_value=None), image_model(fill_value=np.nan),
    gridded_model(fill_value=1e-3), gridded_model(fill_value=None), MoffatPSF()])
def test_images_that_are_filled_and_other_models_have_no_kernel(model):
    assert kind_of(model) == 'general'


def test_only_an_integrated_gaussian_that_stays_upright_has_a_kernel():
    upright = GaussianPRF(x_fwhm=1.8, y_fwhm=2.6)
    angle = upright.param_names.index('theta')
    assert kind_of(upright) == 'integrated'
    assert kind_of(upright, (0, 1, 2, angle)) == 'general'
    assert kind_of(GaussianPRF(theta=20.0)) == 'general'
    assert kind_of(GaussianPRF(theta=20.0), init={'theta': np.zeros(())}) == 'integrated'
    assert kind_of(upright, init={'theta': np.array([0.0, 10.0])}) == 'general'
    assert kind_of(upright, init={'theta': np.zeros(2)}) == 'integrated'


def test_a_grid_of_one_image_is_that_image_everywhere():
    one = GriddedPSFModel(NDData(star_image(2.0)[np.newaxis],
                                 meta={'grid_xypos': [(5.0, 7.0)], 'oversampling': 3}))
    assert kind_of(one) == 'tabulated'
    stars = Stars(image_model(), 20)
    fits = fit_stamps(stars.counts, one)
    assert_allclose(fits.params, stars.fit().params, rtol=1e-12)


def test_oversampling_may_differ_along_the_axes():
    v, u = np.mgrid[:81, :101]
    image = GaussianPSF().evaluate(u, v, 20.0, 50, 40, 10.0, 9.0, 0.0)
    model = ImagePSF(image, oversampling=(4, 5), origin=(49.0, 41.0))
    stars = Stars(model, 2000)
    fits = stars.fit()
    assert fits._problem.kernel.kind == 'tabulated'
    assert_calibrated(stars.pulls(fits))
    assert_allclose(fits.model_images(3) - fits.params[3, 3],
                    model.evaluate(X, Y, *fits.params[3, :3]), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize('name', ['ImagePSF', 'GriddedPSFModel'])
def test_images_with_wings_below_zero_are_fitted_where_there_is_hardly_any_sky(name):
    model = MODELS[name][0].copy()
    lower = model.data - 2e-4
    if name == 'ImagePSF':
        model = ImagePSF(lower, oversampling=3)
    else:
        model = GriddedPSFModel(NDData(lower, meta={'grid_xypos': model.grid_xypos,
                                                    'oversampling': 3}))
    assert kernel_of(model, SHAPE, [0, 1, 2, 3], {}).lowest == lower.min()
    assert kernel_of(MODELS[name][0], SHAPE, [0, 1, 2, 3], {}).lowest == 0
    stars = Stars(model, 400, background=0.5)
    fits = stars.fit(init={'x_0': stars.x, 'y_0': stars.y})
    assert fits.converged.all()
    assert_calibrated(stars.pulls(fits)[:, :3])


@pytest.mark.parametrize(('name', 'free'), [*((name, False) for name in MODELS),
                                            *((name, True) for name in SHAPED)])
def test_the_fit_is_that_of_the_same_model_without_a_kernel(name, free):
    model = with_free_shape(name) if free else MODELS[name][0]
    stars = Stars(model, 25, flux=5000.0)
    fits, others = stars.fit(), stars.fit(generic(model))
    assert others._problem.kernel.kind == 'general'
    assert fits.converged.all() and others.converged.all()
    errors = np.where(others.errors > 0, others.errors, 1e-9)
    away = np.abs(fits.params - others.params) / errors
    # Besides how far each says that it stopped from the minimum.
    stopped = np.sqrt(2 * fits.edm) + np.sqrt(2 * others.edm)
    assert (away.max(axis=1) < 1e-4 + stopped).all()
    assert_allclose(fits.errors, others.errors, rtol=1e-3)
    assert_allclose(fits.deviance, others.deviance, atol=1e-5)
    assert_allclose(fits.flux_fraction, others.flux_fraction, rtol=1e-5)
    assert_allclose(fits.model_images(slice(5)), others.model_images(slice(5)), rtol=1e-3)
    assert_array_equal(fits.flags, others.flags)


@pytest.mark.parametrize('name', list(MODELS))
def test_pulls_with_a_fixed_shape_have_mean_zero_and_deviation_one(name):
    stars = Stars(MODELS[name][0], 2000)
    fits = stars.fit()
    assert fits.converged.all()
    assert not fits.flags.any()
    pulls = stars.pulls(fits)
    assert pulls.shape == (2000, 4)
    assert_calibrated(pulls)


@pytest.mark.parametrize('name', SHAPED)
def test_pulls_with_a_free_shape_have_mean_zero_and_deviation_one(name):
    # So bright that the parameters are linear over their errors.
    stars = Stars(with_free_shape(name), 2500, flux=1e5)
    fits = stars.fit()
    assert fits.converged.all()
    assert not fits.flags.any()
    pulls = stars.pulls(fits)
    assert pulls.shape[1] == {'GaussianPSF': 7, 'GaussianPRF': 6}.get(name, 5)
    assert_calibrated(pulls)


@pytest.mark.parametrize('covariance', ['observed', 'sandwich'])
@pytest.mark.parametrize('name', list(MODELS))
def test_other_covariances_are_those_of_the_model_without_a_kernel(name, covariance):
    model = with_free_shape(name) if name in SHAPED else MODELS[name][0]
    stars = Stars(model, 10, flux=1000.0)
    fits, others = (stars.fit(one, covariance=covariance) for one in (model, generic(model)))
    assert_allclose(fits.errors, others.errors, rtol=2e-3)
    assert not np.allclose(fits.errors, stars.fit().errors, rtol=5e-3)


@pytest.mark.parametrize('name', list(MODELS))
def test_masked_pixels_and_a_known_background_are_taken_into_account(name):
    stars = Stars(MODELS[name][0], 1000)
    rng = np.random.default_rng(5)
    known = rng.uniform(0, 9, SHAPE)
    stars.counts += rng.poisson(known, stars.counts.shape)
    mask = rng.uniform(size=stars.counts.shape) < 0.05
    stars.counts[mask] = 10_000
    fits = stars.fit(mask=mask, known_background=known)
    assert fits.converged.all()
    assert_calibrated(stars.pulls(fits))


def test_a_grid_needs_to_know_where_the_stamps_are():
    counts = np.ones((3, *SHAPE))
    with pytest.raises(ValueError, match=r'pass x and y of their first pixels as origin='):
        fit_stamps(counts, gridded_model())


@pytest.mark.parametrize(('origin', 'message'), [
    (np.zeros((4, 2)), r'shape \(2,\) or \(3, 2\), but its shape is \(4, 2\)'),
    (np.zeros((2, 3)), r'shape \(2,\) or \(3, 2\), but its shape is \(2, 3\)'),
    (np.zeros(3), r'shape \(2,\) or \(3, 2\), but its shape is \(3,\)'),
    (5.0, r'shape \(2,\) or \(3, 2\), but its shape is \(\)'),
    ([[0.0, 1.0], [2.0, np.nan], [3.0, 4.0]], 'origin'), ((np.inf, 0.0), 'origin')])
@pytest.mark.parametrize('model', [gridded_model(), image_model(), MoffatPSF()])
def test_an_origin_that_is_none_says_what_it_must_be(model, origin, message):
    with pytest.raises(ValueError, match=message):
        fit_stamps(np.ones((3, *SHAPE)), model, origin=origin)


@pytest.mark.parametrize('name', list(MODELS))
def test_one_origin_is_that_of_all_stamps(name):
    stars = Stars(MODELS[name][0], 8)
    stars.origin = np.array([350, 700])
    one = stars.fit()
    stars.origin = np.tile(stars.origin, (8, 1))
    assert_array_equal(one.params, stars.fit().params)


def test_the_place_on_the_detector_matters_for_a_grid_alone():
    for name, (model, kind) in MODELS.items():
        stars = Stars(model, 20)
        here = stars.fit()
        stars.origin = stars.origin + [300, 100]
        there = stars.fit()
        if kind == 'gridded':
            assert np.abs((there.params - here.params) / here.errors)[:, 0].max() > 1, name
        else:
            assert_array_equal(there.params, here.params, name)


def test_stamps_without_enough_pixels_leave_the_others_where_they_are():
    stars = Stars(gridded_model(), 40)
    counts = stars.counts.astype(float)
    counts[::3] = np.nan
    fits = fit_stamps(counts, gridded_model(), origin=stars.origin)
    assert (fits.flags[::3] == FitFlag.TOO_FEW_PIXELS).all()
    used = np.arange(40) % 3 > 0
    assert_allclose(fits.params[used], stars.fit().params[used], rtol=1e-9)
    assert_allclose(fits.gof_z[used], stars.fit().gof_z[used], rtol=1e-6)


class WidensAlongX(Fittable2DModel):
    """A star as wide as its place on the detector makes it."""

    flux, x_0, y_0 = (Parameter(default=value) for value in (100.0, 4.0, 3.5))
    at_zero, per_pixel = Parameter(default=1.0), Parameter(default=0.0, fixed=True)

    @staticmethod
    def evaluate(x, y, flux, x_0, y_0, at_zero, per_pixel):
        width = at_zero + per_pixel * x_0
        return flux / (2 * np.pi * width ** 2) * np.exp(
            -0.5 * ((x - x_0) ** 2 + (y - y_0) ** 2) / width ** 2)


class WidensOneByOne(WidensAlongX):
    """The same for one star at a time."""

    @staticmethod
    def evaluate(x, y, flux, x_0, y_0, at_zero, per_pixel):
        if np.size(x_0) > 1:
            raise ValueError('one star at a time')
        return WidensAlongX.evaluate(x, y, flux, x_0, y_0, at_zero, per_pixel)


@pytest.mark.parametrize(('model', 'n'), [(WidensAlongX, 2000), (WidensOneByOne, 200)])
def test_a_model_that_knows_its_place_has_the_width_of_every_place(model, n):
    stars = Stars(model(at_zero=0.8, per_pixel=6e-4), n, flux=3e4, seed=4)
    fits = stars.fit()
    assert fits.converged.all()
    width = fits.param_names.index('at_zero')
    assert_array_equal(fits.params[:, width + 1], 6e-4)
    pulls = stars.pulls(fits)
    assert_calibrated(pulls)
    # Neither on one side of the detector nor on the other.
    across = np.corrcoef(stars.origin[:, 0], pulls[:, width])[0, 1]
    assert abs(across) < 4 / np.sqrt(n)


def test_without_an_origin_the_stamp_is_all_that_a_model_knows():
    stars = Stars(WidensAlongX(at_zero=0.8, per_pixel=6e-4), 1000, flux=3e4, seed=5)
    fits = fit_stamps(stars.counts, stars.model)
    width = fits.param_names.index('at_zero')
    expected = 0.8 + 6e-4 * stars.origin[:, 0]
    assert_calibrated(((fits.params[:, width] - expected) / fits.errors[:, width])[:, np.newaxis])


@pytest.mark.parametrize('flux', [90.0, 300.0, 3e3, 1e6])
@pytest.mark.parametrize('name', [*MODELS, 'MoffatPSF'])
def test_with_the_positions_given_all_stars_converge_from_a_flux_by_least_squares(name, flux):
    # Signals of 5 to 1000 times their noise.
    model = MODELS[name][0] if name in MODELS else MoffatPSF(alpha=1.5, beta=2.5)
    stars = Stars(model, 300, flux=flux, background=5 + 1e-3 * flux)
    fits = stars.fit(init={'x_0': stars.x, 'y_0': stars.y})
    assert fits.converged.all()
    assert 4 < np.median(fits.params[:, 0] / fits.errors[:, 0]) < 1200
    assert_calibrated(stars.pulls(fits)[:, :1])


@pytest.mark.parametrize('known', [{}, {'known_background': 3.0}, {'background': 8.0}])
@pytest.mark.parametrize('name', [*MODELS, 'MoffatPSF'])
def test_without_noise_the_start_at_the_right_positions_is_the_fit(name, known):
    model = MODELS[name][0] if name in MODELS else MoffatPSF(alpha=1.5, beta=2.5)
    stars = Stars(model, 20)
    shape = stars.truth[0, 3:-1]
    stars.counts = np.array([
        model.evaluate(X + first[0], Y + first[1], 2000.0, x + first[0], y + first[1], *shape) + 8
        for x, y, first in zip(stars.x, stars.y, stars.origin, strict=True)])
    mask = np.zeros(stars.counts.shape, dtype=bool)
    mask[:, 2:4, 6], mask[3] = True, Y > 6
    fits = stars.fit(init={'x_0': stars.x, 'y_0': stars.y}, mask=mask, **known)
    assert fits.n_iter.max() <= 2
    assert_allclose(fits.params[:, 0], 2000.0, rtol=1e-5)


@pytest.mark.parametrize('name', list(MODELS))
def test_two_threads_find_what_one_does(name):
    model = with_free_shape(name) if name in SHAPED else MODELS[name][0]
    stars = Stars(model, 60)
    one, two = (stars.fit(n_threads=n) for n in (1, 2))
    assert_allclose(two.params, one.params, rtol=1e-9)
    assert_allclose(two.triangles, one.triangles, rtol=1e-9)
