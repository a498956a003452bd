# Licensed under a 3-clause BSD style license - see LICENSE
"""
Tests of kpsf.models: the contract that every PSF model keeps, and each model's own.
"""

import copy
import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.modeling.fitting import TRFLSQFitter
from astropy.modeling.models import Gaussian2D
from astropy.table import QTable
from numpy.testing import assert_allclose

from kpsf.models import (
    EllipticalGaussianPRF,
    EllipticalGaussianPSF,
    precision_to_stddev,
    stddev_to_precision,
)

CONTRACT_MODELS = {
    'round': lambda: EllipticalGaussianPSF(1234.5, 20.3, 19.6, 0.09, 0.0, 0.09),
    'rotated': lambda: EllipticalGaussianPSF.from_stddev(80.0, 19.7, 20.2, 2.6, 1.4, 0.4),
    'elongated': lambda: EllipticalGaussianPSF.from_stddev(1e6, 20.1, 20.4, 1.1, 3.1, -0.7),
    'integrated': lambda: EllipticalGaussianPRF(700.0, 19.8, 20.3, 0.35, 0.0, 0.35),
    'integrated-rotated': lambda: EllipticalGaussianPRF.from_stddev(
        2e4, 20.4, 19.7, 0.95, 1.4, 0.5),
}
RNG_SEED = 20240611


@pytest.fixture(name='psf', params=CONTRACT_MODELS)
def fixture_psf(request):
    """One model of each kind, near the centre of a 41 x 41 image."""
    return CONTRACT_MODELS[request.param]()


def image_grid(size=41):
    """Pixel centres x, y of a square image."""
    y, x = np.mgrid[:size, :size].astype(float)
    return x, y


def random_shapes(rng, n):
    """Widths and angles of ``n`` ellipses with axis ratios up to 4."""
    return rng.uniform(0.5, 2.0, n), rng.uniform(0.5, 2.0, n), rng.uniform(-0.78, 0.78, n)


def random_parameters(rng):
    """Parameters of one random elliptical Gaussian near (5, 5)."""
    widths = random_shapes(rng, 1)
    shape = [float(value[0]) for value in stddev_to_precision(*widths)]
    return [rng.uniform(10.0, 1000.0), *rng.uniform(4.0, 6.0, 2), *shape]


class TestModelContract:
    """
    What a fitter and photutils may expect of every PSF model.
    """

    def test_integral_over_the_plane_is_the_flux(self, psf):
        assert_allclose(psf(*image_grid()).sum(), psf.flux.value, rtol=1e-8)

    def test_centroid_is_the_position(self, psf):
        x, y = image_grid()
        image = psf(x, y) / psf.flux.value
        assert_allclose([(image * x).sum(), (image * y).sum()],
                        [psf.x_0.value, psf.y_0.value], atol=1e-6)

    def test_peak_is_at_the_position(self, psf):
        at_peak = psf(psf.x_0.value, psf.y_0.value)
        angle = np.linspace(0.0, 2.0 * np.pi, 16)
        around = psf(psf.x_0.value + 0.1 * np.cos(angle), psf.y_0.value + 0.1 * np.sin(angle))
        assert np.all(around < at_peak)

    @pytest.mark.parametrize('flux', [None, 0.0, -3.0])
    def test_derivatives_agree_with_differences(self, psf, flux):
        parameters = psf.parameters.copy()
        if flux is not None:
            parameters[0] = flux
        assert_derivatives_agree(type(psf), parameters, *image_grid(), scale=parameters[0])

    def test_is_linear_in_flux(self, psf):
        x, y = image_grid()
        doubled = psf.copy()
        doubled.flux = 2.0 * psf.flux.value
        assert_allclose(doubled(x, y), 2.0 * psf(x, y), rtol=1e-14)

    @pytest.mark.parametrize('duplicate', [
        copy.copy, copy.deepcopy, lambda model: model.copy(),
        lambda model: pickle.loads(pickle.dumps(model)),
    ], ids=['copy', 'deepcopy', 'model-copy', 'pickle'])
    def test_duplicates_evaluate_equally_and_are_independent(self, psf, duplicate):
        psf.flux.fixed = True
        psf.x_0.bounds = (0.0, 40.0)
        twin = duplicate(psf)
        x, y = image_grid()
        assert np.array_equal(twin(x, y), psf(x, y))
        assert twin.fixed == psf.fixed
        assert twin.bounds == psf.bounds
        assert twin.bounding_box == psf.bounding_box

    def test_copy_does_not_share_parameters(self, psf):
        before = psf.parameters.copy()
        psf.copy().flux = -1.0
        assert np.array_equal(psf.parameters, before)

    def test_is_made_from_positional_parameters(self, psf):
        twin = type(psf)(*psf.parameters)
        assert np.array_equal(twin.parameters, psf.parameters)

    def test_bounding_box_holds_the_flux(self, psf):
        x, y = image_grid()
        (y_low, y_high), (x_low, x_high) = psf.bounding_box.bounding_box()
        inside = (x >= x_low) & (x <= x_high) & (y >= y_low) & (y <= y_high)
        assert_allclose(psf(x, y)[inside].sum(), psf.flux.value, rtol=1e-6)
        boxed = psf(x, y, with_bounding_box=True, fill_value=-1.0)
        assert np.array_equal(boxed != -1.0, inside)

    def test_bbox_factor_scales_the_bounding_box(self, psf):
        full = psf.bbox_factor
        heights = {}
        for factor in (1.0, 0.5, 0.0):
            psf.bbox_factor = factor * full
            low, high = psf.bounding_box.bounding_box()[0]
            heights[factor] = high - low
        assert heights[0.5] > heights[0.0]
        assert_allclose(heights[1.0] - heights[0.0], 2.0 * (heights[0.5] - heights[0.0]))

    def test_parameters_broadcast_against_pixels(self, psf):
        rng = np.random.default_rng(RNG_SEED)
        x, y = image_grid(11)
        stack = np.tile(psf.parameters, (5, 1))
        stack[:, :3] *= rng.uniform(0.2, 1.5, (5, 3))
        columns = stack.T[:, :, np.newaxis, np.newaxis]
        images = psf.evaluate(x, y, *columns)
        derivatives = psf.fit_deriv(x, y, *columns)
        assert images.shape == (5, 11, 11)
        for i, parameters in enumerate(stack):
            assert_allclose(images[i], psf.evaluate(x, y, *parameters), rtol=1e-13)
            one = psf.fit_deriv(x, y, *parameters)
            for all_rows, row in zip(derivatives, one, strict=True):
                assert_allclose(all_rows[i], row, rtol=1e-12, atol=1e-300)

    def test_integer_and_scalar_coordinates_are_accepted(self, psf):
        y, x = np.mgrid[:41, :41]
        assert np.array_equal(psf(x, y), psf(x.astype(float), y.astype(float)))
        assert psf(20, 20) == psf(20.0, 20.0)

    def test_units_go_through_evaluation(self, psf):
        x, y = image_grid()
        with_units = add_units(psf, u.arcsec, u.Jy)
        image = with_units(x * u.arcsec, y * u.arcsec)
        assert image.unit == u.Jy
        assert_allclose(image.value, psf(x, y), rtol=1e-12)
        assert_allclose(with_units(x / 60.0 * u.arcmin, y / 60.0 * u.arcmin).value, psf(x, y),
                        rtol=1e-9)
        y_interval, x_interval = with_units.bounding_box.bounding_box()
        assert x_interval[0].unit == u.arcsec
        assert y_interval[0].unit == u.arcsec

    def test_units_go_through_a_fit(self, psf):
        x, y = image_grid()
        data = psf(x, y) * u.Jy
        start = add_units(psf, u.arcsec, u.Jy)
        start.flux = start.flux.quantity * 1.05
        start.x_0 = start.x_0.quantity + 0.05 * u.arcsec
        fitted = TRFLSQFitter()(start, x * u.arcsec, y * u.arcsec, data)
        assert fitted.flux.unit == u.Jy
        assert fitted.x_0.unit == u.arcsec
        assert_allclose(fitted.parameters, psf.parameters, rtol=1e-5, atol=1e-7)

    def test_least_squares_recovers_the_parameters(self, psf):
        x, y = image_grid()
        start = psf.copy()
        start.parameters = psf.parameters * np.array([0.8, 1.02, 0.98, 1.1, 1.0, 0.95])
        fitted = TRFLSQFitter()(start, x, y, psf(x, y))
        assert_allclose(fitted.parameters, psf.parameters, rtol=1e-5, atol=1e-7)

    def test_photutils_psf_photometry_takes_it_unchanged(self, psf):
        photutils_psf = pytest.importorskip('photutils.psf')
        x, y = image_grid()
        for name in psf.param_names[3:]:
            getattr(psf, name).fixed = True
        init = QTable({'x': [20.0], 'y': [20.0], 'flux': [0.9 * psf.flux.value]})
        photometry = photutils_psf.PSFPhotometry(psf, (15, 15))
        table = photometry(psf(x, y), init_params=init)
        fitted = [table[f'{name}_fit'][0] for name in ('flux', 'x', 'y')]
        assert_allclose(fitted, psf.parameters[:3], rtol=1e-6)


def add_units(psf, length, flux):
    """Copy a model and give its parameters units."""
    units = psf._parameter_units_for_data_units({'x': length, 'y': length}, {'z': flux})
    twin = psf.copy()
    for name, unit in units.items():
        setattr(twin, name, getattr(psf, name).value * unit)
    return twin


def assert_derivatives_agree(model, parameters, x, y, scale):
    """
    Compare fit_deriv with central differences of evaluate.

    The tolerance is relative to the largest derivative at unit flux, because
    differences lose their digits in the wings.
    """
    analytic = model.fit_deriv(x, y, *parameters)
    for i, value in enumerate(parameters):
        step = 1e-5 * max(abs(value), 1e-2)
        upper, lower = parameters.copy(), parameters.copy()
        upper[i] += step
        lower[i] -= step
        numeric = (model.evaluate(x, y, *upper) - model.evaluate(x, y, *lower)) / (2.0 * step)
        assert analytic[i].shape == x.shape
        assert np.all(np.isfinite(analytic[i]))
        size = np.abs(numeric).max() if scale else 1.0
        assert_allclose(analytic[i], numeric, rtol=0.0, atol=1e-7 * size + 1e-12)


def test_gaussian_derivatives_agree_with_differences_at_random_parameters():
    rng = np.random.default_rng(RNG_SEED)
    x, y = image_grid(11)
    for _ in range(50):
        parameters = np.array(random_parameters(rng))
        assert_derivatives_agree(EllipticalGaussianPSF, parameters, x, y, scale=1.0)


def test_gaussian_equals_the_one_of_photutils():
    photutils_psf = pytest.importorskip('photutils.psf')
    rng = np.random.default_rng(RNG_SEED)
    x, y = image_grid(15)
    fwhm = 2.0 * np.sqrt(2.0 * np.log(2.0))
    for x_stddev, y_stddev, theta in zip(*random_shapes(rng, 20), strict=True):
        ours = EllipticalGaussianPSF.from_stddev(50.0, 7.1, 6.8, x_stddev, y_stddev, 3.0 * theta)
        theirs = photutils_psf.GaussianPSF(
            flux=50.0, x_0=7.1, y_0=6.8, x_fwhm=fwhm * x_stddev, y_fwhm=fwhm * y_stddev,
            theta=np.rad2deg(3.0 * theta))
        assert_allclose(ours(x, y), theirs(x, y), rtol=1e-9, atol=1e-300)


def test_gaussian_has_the_bounding_box_of_astropy():
    rng = np.random.default_rng(RNG_SEED)
    for x_stddev, y_stddev, theta in zip(*random_shapes(rng, 20), strict=True):
        ours = EllipticalGaussianPSF.from_stddev(50.0, 7.1, 6.8, x_stddev, y_stddev, 3.0 * theta)
        theirs = Gaussian2D(1.0, 7.1, 6.8, x_stddev, y_stddev, 3.0 * theta)
        assert_allclose(ours.bounding_box.bounding_box(), theirs.bounding_box.bounding_box())


def test_widths_and_angle_make_a_round_trip():
    rng = np.random.default_rng(RNG_SEED)
    x_stddev, y_stddev, theta = random_shapes(rng, 500)
    there_and_back = precision_to_stddev(*stddev_to_precision(x_stddev, y_stddev, theta))
    assert_allclose(there_and_back, [x_stddev, y_stddev, theta], rtol=1e-8)


def test_angles_beyond_45_degrees_exchange_the_axes():
    x_stddev, y_stddev, theta = precision_to_stddev(*stddev_to_precision(3.0, 1.0, 1.2))
    assert_allclose([x_stddev, y_stddev, theta], [1.0, 3.0, 1.2 - 0.5 * np.pi])
    assert_allclose(stddev_to_precision(x_stddev, y_stddev, theta),
                    stddev_to_precision(3.0, 1.0, 1.2))


@pytest.mark.parametrize(('shape', 'expected'), [
    ((0.5, 0.0, 0.5), (1.0, 1.0, 0.0)),
    ((0.125, 0.0, 0.5), (2.0, 1.0, 0.0)),
    ((0.5, 0.0, 0.125), (1.0, 2.0, 0.0)),
    ((0.3125, 0.1875, 0.3125), (1.0, 2.0, np.pi / 4)),
    ((0.3125, -0.1875, 0.3125), (2.0, 1.0, np.pi / 4)),
])
def test_special_orientations_have_their_axes(shape, expected):
    assert_allclose(precision_to_stddev(*shape), expected, rtol=1e-14)


def test_very_elongated_shapes_keep_their_digits():
    x_stddev, y_stddev, _ = precision_to_stddev(*stddev_to_precision(1e3, 1.0, 0.0))
    assert_allclose([x_stddev, y_stddev], [1e3, 1.0], rtol=1e-12)


def test_properties_follow_the_parameters():
    psf = EllipticalGaussianPSF.from_stddev(10.0, 1.0, 2.0, 1.3, 0.7, 25.0 * u.deg, name='star')
    assert psf.name == 'star'
    assert_allclose([psf.x_stddev, psf.y_stddev, psf.theta], [1.3, 0.7, np.deg2rad(25.0)])
    assert_allclose(psf.fwhm, 2.354820045 * np.sqrt(1.3 * 0.7))
    psf.a, psf.b, psf.c = 0.5, 0.0, 0.5
    assert_allclose([psf.x_stddev, psf.y_stddev, psf.theta], [1.0, 1.0, 0.0], atol=1e-15)


def test_widths_with_units_give_widths_with_units():
    psf = EllipticalGaussianPSF.from_stddev(1.0 * u.Jy, 3.0 * u.arcsec, 4.0 * u.arcsec,
                                            2.0 * u.arcsec, 0.05 * u.arcmin)
    assert psf.a.unit == u.arcsec**-2
    assert psf.x_stddev.unit == u.arcsec
    assert_allclose([psf.x_stddev.value, psf.y_stddev.value], [2.0, 3.0])
    assert psf.fwhm.unit == u.arcsec


def test_coordinates_in_different_units_are_refused():
    psf = EllipticalGaussianPSF()
    with pytest.raises(u.UnitsError, match='x and y must have the same unit, but found m and s'):
        psf._parameter_units_for_data_units({'x': u.m, 'y': u.s}, {'z': u.Jy})


@pytest.mark.parametrize('shape', [
    (0.5, 0.6, 0.5), (-0.5, 0.0, -0.5), (0.5, 0.0, -0.5), (0.0, 0.0, 0.5), (0.5, 0.5, 0.5),
    (np.nan, 0.0, 0.5), (0.5, np.nan, 0.5), (np.inf, 0.0, 0.5), (0.5, 0.0, np.inf),
])
def test_a_shape_that_is_not_positive_definite_is_refused(shape):
    with pytest.raises(ValueError, match=r'needs a positive definite shape.*but found a=.*make '
                                         'the model from widths'):
        EllipticalGaussianPSF(1.0, 0.0, 0.0, *shape)


@pytest.mark.parametrize('widths', [(0.0, 1.0), (1.0, -1.0), (np.nan, 1.0), (1.0, np.inf)])
def test_widths_that_are_not_positive_are_refused(widths):
    with pytest.raises(ValueError, match='must be finite and > 0, but found x_stddev='):
        EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, *widths)


def test_an_angle_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match='angle of a Gaussian PSF must be finite, but found'):
        EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 1.0, 1.0, np.nan)


@pytest.mark.parametrize('shape', [(0.5, 0.6, 0.5), (-50.0, 0.0, -50.0), (1e200, 0.0, -1e200),
                                   (1e200, 1e200, 1e200)])
def test_a_step_outside_is_nan_and_silent(shape):
    psf = EllipticalGaussianPSF()
    psf.a, psf.b, psf.c = shape
    x, y = image_grid(5)
    assert np.all(np.isnan(psf(x, y)))
    assert np.all(np.isnan(psf.fit_deriv(x, y, *psf.parameters)))
    assert np.all(np.isnan(precision_to_stddev(*shape)))


def test_only_the_rows_outside_are_nan():
    shapes = np.array([[0.5, 0.0, 0.5], [0.5, 0.7, 0.5], [0.2, 0.1, 0.4]])
    a, b, c = shapes.T[:, :, np.newaxis]
    values = EllipticalGaussianPSF.evaluate(np.arange(4.0), 0.0, 1.0, 1.0, 0.0, a, b, c)
    assert np.array_equal(np.isfinite(values).all(axis=1), [True, False, True])
    assert np.array_equal(np.isnan(values).all(axis=1), [False, True, False])


def test_a_model_set_evaluates_each_of_its_models():
    psf = EllipticalGaussianPSF([1.0, 2.0], [0.0, 1.0], [0.0, 0.0], [0.5, 0.3], [0.0, 0.1],
                                [0.5, 0.6], n_models=2)
    single = EllipticalGaussianPSF(2.0, 1.0, 0.0, 0.3, 0.1, 0.6)
    x, y = image_grid(5)
    assert_allclose(psf(x, y, model_set_axis=False)[1], single(x, y))


def test_shape_is_free_by_default_and_can_be_fixed():
    assert not any(EllipticalGaussianPSF().fixed.values())
    psf = EllipticalGaussianPSF(fixed={'a': True, 'b': True, 'c': True})
    assert [name for name in psf.param_names if psf.fixed[name]] == ['a', 'b', 'c']


def test_photutils_fits_the_shape_of_every_star():
    photutils_psf = pytest.importorskip('photutils.psf')
    truth = EllipticalGaussianPSF.from_stddev(1e4, 20.2, 19.9, 1.6, 1.2, 0.3)
    x, y = image_grid()
    start = EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 1.5, 1.5)
    init = QTable({'x': [20.0], 'y': [20.0], 'flux': [9e3]})
    table = photutils_psf.PSFPhotometry(start, (13, 13))(truth(x, y), init_params=init)
    assert_allclose([table[f'{name}_fit'][0] for name in 'abc'], truth.parameters[3:], rtol=1e-5)


def test_photutils_groups_share_pixels_between_two_stars():
    photutils_psf = pytest.importorskip('photutils.psf')
    stars = [EllipticalGaussianPSF.from_stddev(flux, x_0, 20.0, 1.5, 1.2, 0.2)
             for flux, x_0 in ((1e4, 18.0), (5e3, 22.0))]
    x, y = image_grid()
    image = stars[0](x, y) + stars[1](x, y)
    psf = stars[0].copy()
    for name in 'abc':
        getattr(psf, name).fixed = True
    init = QTable({'x': [18.2, 21.8], 'y': [20.0, 20.1], 'flux': [9e3, 6e3],
                   'group_id': [1, 1]})
    table = photutils_psf.PSFPhotometry(psf, (9, 9))(image, init_params=init)
    assert_allclose(table['flux_fit'], [1e4, 5e3], rtol=1e-5)
