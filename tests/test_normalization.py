# Licensed under a 3-clause BSD style license - see LICENSE
"""Normalization: what a flux means is what photutils' and astropy's models sum to on pixels."""

import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.modeling.models import AiryDisk2D, Gaussian1D, Gaussian2D, Moffat2D, Polynomial2D
from astropy.nddata import NDData
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import (
    AiryDiskPSF,
    CircularGaussianPRF,
    CircularGaussianPSF,
    GaussianPRF,
    GriddedPSFModel,
    ImagePSF,
    MoffatPSF,
    PSFPhotometry,
    make_psf_model,
)

from kpsf import (
    EllipticalGaussianPRF,
    EllipticalGaussianPSF,
    PoissonLikelihoodFitter,
    PoissonPSFPhotometry,
    TabulatedPRF,
    extract_light_curve,
    fit_stamps,
    simulate_tpf,
)
from kpsf.normalization import (
    amplitude_to_flux,
    as_psf_model,
    describe_normalization,
    flux_to_amplitude,
    normalize_psf,
    warn_unless_total_flux,
)

STDDEV = 2.4
WARNING = 'flux should be the total flux, but a flux of 1 of'


def sampled(steps=1, size=10.25, fwhm=2.0, shift=(0.0, 0.0), total=None, peak=None):
    """Return samples of a Gaussian integrated over pixels, of ``size`` pixels across."""
    n = int(size * steps)
    x, y = np.meshgrid((np.arange(n) - (n - 1) / 2) / steps - shift[0],
                       (np.arange(n) - (n - 1) / 2) / steps - shift[1])
    image = CircularGaussianPRF(fwhm=fwhm)(x, y)
    if total is not None:
        image *= total / image.sum()
    return image if peak is None else image * (peak / image.max())


def gridded(factors=(1.0, 1.0, 1.0, 1.0), steps=4, fwhms=(2.0, 2.0, 2.0, 2.0)):
    """Return a grid of images of which each sums to its factor times the samples per pixel."""
    images = np.array([factor * sampled(steps, fwhm=fwhm, total=steps**2)
                       for factor, fwhm in zip(factors, fwhms, strict=True)])
    return GriddedPSFModel(NDData(images, meta={
        'oversampling': steps, 'grid_xypos': [(0, 0), (100, 0), (0, 80), (100, 80)]}))


def compound(**options):
    return make_psf_model(Gaussian2D(x_stddev=1.6, y_stddev=1.3, theta=0.4), x_name='x_mean',
                          y_name='y_mean', **options)


def names_of(model):
    """Return the names of position and scale as photutils has them."""
    return [getattr(model, f'{axis}_name', None) or next(
        name for name in candidates if name in model.param_names)
        for axis, candidates in (('x', ('x_0', 'x_mean')), ('y', ('y_0', 'y_mean')),
                                 ('flux', ('flux', 'amplitude')))]


def sum_of_pixels(model, scale=1.0, place=(50.0, 40.0), half=25):
    """Return the mean sum of all pixels over places in a pixel, by the model itself."""
    model = model.copy()
    x_name, y_name, scale_name = names_of(model)
    setattr(model, scale_name, scale)
    y, x = np.mgrid[-half:half + 1, -half:half + 1].astype(float)
    sums = []
    for phase_y in (0.0, 0.25, 0.5, 0.75):
        for phase_x in (0.0, 0.25, 0.5, 0.75):
            setattr(model, x_name, place[0] + phase_x)
            setattr(model, y_name, place[1] + phase_y)
            sums.append(model(x + place[0], y + place[1]).sum())
    return np.mean(sums)


MODELS = {
    'circular PRF': CircularGaussianPRF(fwhm=2.0), 'circular PSF': CircularGaussianPSF(fwhm=2.0),
    'undersampled': CircularGaussianPSF(fwhm=1.2),
    'Gaussian PRF': GaussianPRF(x_fwhm=2.2, y_fwhm=3.1, theta=20.0),
    'Moffat': MoffatPSF(alpha=2.0, beta=3.0), 'Airy': AiryDiskPSF(radius=2.0),
    'image': ImagePSF(sampled(4, total=16.0), oversampling=4),
    'image of sum 1': ImagePSF(sampled(4, total=1.0), oversampling=4),
    'image of peak 1': ImagePSF(sampled(1, size=21, peak=1.0)),
    'image in two steps': ImagePSF(sampled(4, total=1.0), oversampling=(2, 4)),
    'compound': compound(), 'compound of peak 1': compound(normalize=False),
    'Gaussian2D': Gaussian2D(5.0, 0.0, 0.0, 1.6, 1.3, 0.3),
    'Moffat2D': Moffat2D(3.0, 0.0, 0.0, 2.0, 3.0),
    'AiryDisk2D': AiryDisk2D(3.0, 0.0, 0.0, 2.0),
    'elliptical PSF': EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 1.0, 0.8, 0.3),
    'elliptical PRF': EllipticalGaussianPRF.from_stddev(1.0, 0.0, 0.0, 1.0, 0.8, 0.3),
    'table': TabulatedPRF(sampled(4, total=3.0), 0.25, normalize=None),
    'scaled table': TabulatedPRF(sampled(4, total=3.0), 0.25, normalize=None, x_scale=1.2),
    'table of phases': TabulatedPRF(sampled(4, total=3.0), 0.25, normalize='phase'),
}
# The wings of an Airy disk fall as the cube of the radius.
ACCURACY = {'Airy': 5e-3, 'AiryDisk2D': 5e-3, 'Moffat': 1e-4, 'Moffat2D': 1e-4}


@pytest.mark.parametrize('name', MODELS)
def test_the_integral_is_the_sum_of_the_pixels_of_a_flux_of_one(name):
    model = MODELS[name]
    accuracy, half = ACCURACY.get(name, 1e-5), 200 if name in ACCURACY else 25
    expected = sum_of_pixels(model, half=half)
    assert_allclose(describe_normalization(model).integral, expected, rtol=accuracy)
    assert_allclose(as_psf_model(model)[1], expected, rtol=accuracy)
    assert as_psf_model(model)[0] is model


@pytest.mark.parametrize('name', MODELS)
def test_a_normalized_model_puts_its_flux_into_the_pixels(name):
    model = MODELS[name]
    before = model.parameters.copy()
    data = getattr(model, 'data', np.zeros(1)).copy()
    normalized = normalize_psf(model)
    assert normalized is not model
    half = 200 if name in ACCURACY else 25
    assert_allclose(sum_of_pixels(normalized, 7.0, half=half), 7.0, rtol=ACCURACY.get(name, 1e-5))
    assert describe_normalization(normalized).meaning == 'total flux'
    assert describe_normalization(normalized).is_total_flux
    assert_array_equal(model.parameters, before)
    assert_array_equal(getattr(model, 'data', np.zeros(1)), data)


@pytest.mark.parametrize('name', MODELS)
def test_flux_and_amplitude_are_inverse(name):
    model = MODELS[name]
    values = np.array([3.0, 0.0, -2.0])
    assert_allclose(flux_to_amplitude(amplitude_to_flux(values, model), model), values, rtol=1e-12)
    x_name, y_name, scale_name = names_of(model)
    star = model.copy()
    setattr(star, x_name, 100.0)
    setattr(star, y_name, 100.0)
    setattr(star, scale_name, 1.0)
    total = describe_normalization(model).integral
    # A star in the middle of a pixel; samples of even size have none there.
    assert_allclose(flux_to_amplitude(total, model), star(100.0, 100.0), rtol=1e-2)


def test_the_image_of_a_normalized_model_is_its_own():
    model = MODELS['image of sum 1'].copy()
    normalized = normalize_psf(model)
    normalized.data[:] = 0.0
    assert_allclose(model.data.sum(), 1.0, rtol=1e-12)
    table = normalize_psf(MODELS['table'])
    assert not np.shares_memory(table.data, MODELS['table'].data)


@pytest.mark.parametrize('make', [
    lambda **options: ImagePSF(sampled(4, total=1.0), oversampling=4, **options),
    lambda **options: TabulatedPRF(sampled(4, total=1.0), 0.25, normalize=None, **options)])
def test_a_normalized_model_keeps_parameters_and_constraints(make):
    model = make(flux=5.0, x_0=3.0, y_0=4.0, fixed={'x_0': True}, bounds={'flux': (0.0, 9.0)},
                 origin=(20.0, 19.0))
    normalized = normalize_psf(model)
    assert type(normalized) is type(model)
    assert_array_equal(normalized.parameters, model.parameters)
    assert normalized.fixed == model.fixed
    assert normalized.bounds == model.bounds
    assert_array_equal(normalized.origin, model.origin)


@pytest.mark.parametrize('make', [
    lambda **options: ImagePSF(sampled(4, total=1.0), oversampling=4, **options),
    lambda **options: TabulatedPRF(sampled(4, total=1.0), 0.25, normalize=None, **options)])
def test_a_normalized_model_keeps_name_and_unit(make):
    normalized = normalize_psf(make(flux=5.0 * u.electron, name='star'))
    assert normalized.flux.quantity == 5.0 * u.electron
    assert normalized.name == 'star'


@pytest.mark.parametrize('factors', [(1.0, 1.0, 1.0, 1.0), (0.25, 0.5, 2.0, 4.0)])
def test_each_image_of_a_grid_is_normalized(factors):
    model = gridded(factors)
    before = model.data.copy()
    assert_allclose(describe_normalization(model).integral, np.mean(factors), rtol=1e-12)
    normalized = normalize_psf(model)
    assert isinstance(normalized, GriddedPSFModel)
    assert_allclose(normalized.data.sum(axis=(1, 2)), 16.0, rtol=1e-12)
    for place in ((0.0, 0.0), (100.0, 80.0), (30.0, 60.0)):
        assert_allclose(sum_of_pixels(normalized, 7.0, place, half=10), 7.0, rtol=1e-5)
    assert_array_equal(model.data, before)
    assert_array_equal(normalized.grid_xypos, model.grid_xypos)


@pytest.mark.parametrize(('steps', 'options', 'factor', 'meaning'), [
    (1, {'peak': 1.0}, None, 'peak amplitude x 1: the total flux is {:.6g} x flux'),
    (1, {'total': 1.0}, 1.0, 'total flux'),
    (1, {'total': 16.0}, 16.0, 'total flux / 16: the PSF sums to 16, not to 1 '
                               '(if it is oversampled 4 times, pass oversampling=4)'),
    (4, {'peak': 1.0}, None, 'peak amplitude x 1: the total flux is {:.6g} x flux'),
    (4, {'total': 1.0}, 1 / 16, 'total flux x 16: the image is oversampled 4 times and sums to 1, '
                                'not to 16'),
    (4, {'total': 16.0}, 1.0, 'total flux')])
def test_the_meaning_of_the_flux_of_an_image_is_what_photutils_sums_to(
        steps, options, factor, meaning):
    image = sampled(steps, size=21 if steps == 1 else 10.25, **options)
    found = describe_normalization(image, oversampling=steps)
    total = sum_of_pixels(ImagePSF(image, oversampling=steps), half=10)
    assert_allclose(found.integral, total, rtol=1e-5)
    assert_allclose(total, factor or total, rtol=1e-5)
    assert found.meaning == meaning.format(found.integral)
    assert found.is_total_flux is (meaning == 'total flux')
    assert found.parameter == 'flux'
    assert found.oversampling == (steps, steps)
    assert str(found).startswith(f'flux of the image is: {found.meaning}\n')
    before = image.copy()
    normalized = normalize_psf(image, oversampling=steps)
    assert_allclose(sum_of_pixels(ImagePSF(normalized, oversampling=steps), 3.0, half=10), 3.0,
                    rtol=1e-5)
    normalized[:] = 0.0
    assert_array_equal(image, before)
    model, integral = as_psf_model(image, oversampling=steps)
    assert integral == 1.0
    assert_allclose(sum_of_pixels(model, 3.0, half=10), 3.0, rtol=1e-5)


def test_the_order_of_a_pair_of_oversampling_is_that_of_photutils():
    image = sampled(4, total=8.0)
    found = describe_normalization(image, oversampling=(2, 4))
    assert found.oversampling == (2, 4)
    assert found.meaning == 'total flux'
    assert_allclose(found.integral, sum_of_pixels(ImagePSF(image, oversampling=(2, 4)), half=12),
                    rtol=1e-5)


@pytest.mark.parametrize('wrap', [lambda image: NDData(image), lambda image: image * u.electron,
                                  lambda image: image.tolist(),
                                  lambda image: image.astype(np.float32)])
def test_images_come_in_many_forms(wrap):
    found = describe_normalization(wrap(sampled(1, peak=1.0)))
    assert_allclose(found.integral, sampled(1, peak=1.0).sum(), rtol=1e-6)


def test_masked_images_are_refused():
    image = sampled(1, size=11, peak=1.0)
    mask = image > 0.9
    with pytest.raises(TypeError, match='1 of 121 pixels are masked'):
        describe_normalization(np.ma.array(image, mask=mask))
    with pytest.raises(TypeError, match='are masked'):
        describe_normalization(NDData(image, mask=mask))


@pytest.mark.parametrize(('steps', 'shift'), [(1, (0.3, -0.2)), (4, (0.6, 0.0)), (4, (-0.4, 0.7))])
def test_the_core_of_an_image_off_its_middle_shifts_positions(steps, shift):
    image = sampled(steps, size=11.25 if steps == 4 else 11, fwhm=3.0, shift=shift)
    found = describe_normalization(image, oversampling=steps)
    # The core is the part above half of the peak; samples of a pixel resolve that to 0.03.
    assert_allclose(found.centroid, shift, atol=0.03)
    y, x = np.mgrid[:21, :21]
    counts = CircularGaussianPRF(flux=1e5, x_0=10.2, y_0=9.9, fwhm=3.0)(x, y)[np.newaxis] + 1.0
    psf, _ = as_psf_model(image, oversampling=steps)
    fits = fit_stamps(counts, psf, background=1.0)
    place = [fits.params[0, fits.param_names.index(name)] for name in ('x_0', 'y_0')]
    assert_allclose(np.subtract(place, (10.2, 9.9)), np.negative(found.centroid), atol=0.03)
    assert 'fitted positions are off by the opposite' in str(found)


def test_nothing_is_said_of_a_core_in_the_middle():
    found = describe_normalization(sampled(4), oversampling=4)
    assert_allclose(found.centroid, 0.0, atol=1e-6)
    assert 'positions' not in str(found).split('\n', 2)[2:]
    assert 'opposite' not in str(found)
    assert 'beyond the edge' not in str(found)


@pytest.mark.parametrize(('alpha', 'beta', 'half', 'steps'), [
    (2.0, 2.5, 10, 1), (2.0, 2.5, 30, 1), (2.0, 2.0, 12, 4), (1.5, 3.0, 7, 4), (3.0, 2.5, 15, 1)])
@pytest.mark.parametrize(('cut', 'accuracy'), [(0, 0.2), (2, 0.5)])
def test_the_share_of_a_moffat_outside_of_its_image_is_right(
        alpha, beta, half, steps, cut, accuracy):
    reach = 20 * half
    y, x = (np.indices((2 * reach + 1, 2 * reach + 1)) - reach) / steps
    whole = MoffatPSF(alpha=alpha, beta=beta)(x, y)
    near = slice(reach - half * steps, reach + half * steps + 1)
    # Two rows of pixels may be missing: wings are only known near the core then.
    image = whole[near, near][cut * steps:]
    middle = half * steps
    found = describe_normalization(ImagePSF(image, oversampling=steps,
                                            origin=(middle, middle - cut * steps)))
    # Beyond a circle of the radius R there is (1 + R^2 / alpha^2)^(1 - beta) of the light.
    beyond = (1.0 + (reach / steps / alpha)**2)**(1.0 - beta)
    expected = 1.0 - image.sum() / whole.sum() * (1.0 - beyond)
    assert_allclose(found.outside, expected, rtol=accuracy)
    if expected > 1e-3:
        assert 'is beyond the edge of the image, and not in the flux' in str(found)


@pytest.mark.parametrize('half', [4, 8, 20])
def test_the_share_of_a_gaussian_outside_of_its_image_is_small(half):
    y, x = np.mgrid[-half:half + 1, -half:half + 1]
    image = CircularGaussianPRF(fwhm=2.5)(x, y)
    outside = describe_normalization(image).outside
    assert 0.0 <= outside <= max(10.0 * (1.0 - image.sum()), 1e-6)
    assert describe_normalization(CircularGaussianPRF(fwhm=2.5)).outside == 0.0


def test_an_image_with_its_background_in_has_wings_that_do_not_fall():
    found = describe_normalization(sampled(1, size=15, peak=1.0) + 0.1)
    assert np.isnan(found.outside)
    assert 'the wings do not fall towards the edge of the image' in str(found)


@pytest.mark.parametrize('fwhm', [0.7, 0.9, 1.2, 2.5])
def test_the_phase_spread_of_a_point_sampled_gaussian_is_that_of_direct_sums(fwhm):
    stddev = fwhm / np.sqrt(8.0 * np.log(2.0))
    pixels = np.arange(-30, 31)
    along = np.array([np.exp(-(pixels - phase)**2 / (2.0 * stddev**2)).sum()
                      for phase in np.arange(4) / 4])
    sums = np.outer(along, along)
    expected = np.ptp(sums) / sums.mean()
    found = describe_normalization(CircularGaussianPSF(fwhm=fwhm))
    assert_allclose(found.phase_spread, expected, rtol=1e-6, atol=1e-12)
    assert_allclose(found.integral, 1.0, rtol=1e-6)


def test_the_phase_spread_of_an_image_is_that_of_photutils_pixels():
    n = 45
    y, x = (np.indices((n, n)) - (n - 1) / 2) / 4
    image = CircularGaussianPSF(fwhm=0.9)(x, y)
    psf = ImagePSF(image, oversampling=4)
    rows, columns = np.mgrid[-10:11, -10:11]
    sums = [psf.evaluate(columns, rows, 1.0, phase_x, phase_y).sum()
            for phase_x in np.arange(4) / 4 for phase_y in np.arange(4) / 4]
    assert np.ptp(sums) > 0.3
    assert_allclose(describe_normalization(psf).phase_spread, np.ptp(sums) / np.mean(sums),
                    rtol=1e-3)


def test_integrated_models_do_not_depend_on_the_phase():
    for name in ('circular PRF', 'Gaussian PRF', 'elliptical PRF', 'table of phases', 'image'):
        assert describe_normalization(MODELS[name]).phase_spread < 1e-4


@pytest.mark.parametrize('shape', [(43, 43), (42, 45), (44, 41)])
def test_oversampling_need_not_divide_the_shape(shape):
    y, x = ((index - (n - 1) / 2) / 4
            for index, n in zip(np.indices(shape), shape, strict=True))
    image = CircularGaussianPRF(fwhm=2.0)(x, y)
    normalized = normalize_psf(image, oversampling=4)
    assert_allclose(normalized.sum(), 16.0, rtol=1e-12)
    assert_allclose(sum_of_pixels(ImagePSF(normalized, oversampling=4), half=10), 1.0, rtol=1e-4)
    assert describe_normalization(image, oversampling=4).phase_spread < 1e-3


def test_negative_pixels_count():
    image = sampled(1, peak=1.0, size=15)
    image[0, 0], image[3, 4] = -0.3, -0.2
    found = describe_normalization(image)
    assert_allclose(found.integral, image.sum(), rtol=1e-12)
    normalized = normalize_psf(image)
    assert_allclose(normalized.sum(), 1.0, rtol=1e-12)
    assert (normalized < 0).sum() == 2


@pytest.mark.parametrize('call', [describe_normalization, normalize_psf, as_psf_model,
                                  lambda psf, *more: amplitude_to_flux(1.0, psf, *more),
                                  lambda psf, *more: flux_to_amplitude(1.0, psf, *more)])
@pytest.mark.parametrize(('psf', 'oversampling', 'error', 'match'), [
    (np.full((9, 9), np.nan), 1, ValueError, 'must be finite, but 81 of 81 values are NaN'),
    (np.zeros((9, 9)), 1, ValueError, 'must have a positive sum, but it is 0'),
    (-np.ones((9, 9)), 1, ValueError, 'must have a positive sum, but it is -81'),
    (np.ones((9, 9), complex), 1, TypeError, 'must be real numbers, but they are complex'),
    (np.ones(9), 1, ValueError, r'must have two axes, but its shape is \(9,\)'),
    (np.ones((2, 9, 9)), 1, ValueError, r'must have two axes, but its shape is \(2, 9, 9\)'),
    (3.0, 1, ValueError, r'must have two axes, but its shape is \(\)'),
    (np.ones((3, 9)), 1, ValueError, 'at least 4 x 4 pixels, but it has 9 x 3'),
    (sampled(), 1.5, ValueError, 'oversampling must be a whole number of at least 1, but it is'),
    (sampled(), 0, ValueError, 'oversampling must be a whole number of at least 1, but it is 0'),
    (sampled(), -2, ValueError, 'oversampling must be a whole number of at least 1'),
    (sampled(), (1, 2, 3), ValueError, 'oversampling must be a whole number or a pair'),
    (sampled(), 'four', ValueError, 'oversampling must be a whole number of at least 1'),
    (CircularGaussianPRF(fwhm=2.0), 4, ValueError, 'oversampling is for an image, but the PSF is'),
    (CircularGaussianPRF, None, TypeError, 'but it is CircularGaussianPRF: pass an array, or an'),
    (np.hypot, None, TypeError, 'must be an image or an astropy model, but it is ufunc'),
    ('gaussian', None, TypeError, 'must be an image or an astropy model, but it is str'),
    (None, None, TypeError, 'must be an image or an astropy model, but it is NoneType'),
    (['a', 'b'], None, TypeError, 'must be an array of numbers, but it is list'),
    (Gaussian1D(), None, ValueError, 'two inputs and one output, but it is one of 1 inputs'),
    (Polynomial2D(1), None, ValueError, 'A PSF needs parameters x_0, y_0 and flux'),
    (Moffat2D(*np.ones((5, 2)), n_models=2), None, ValueError,
     'but it is a set of 2'),
    (Moffat2D(1.0, 0.0, 0.0, 1.0, -1.0), None, ValueError,
     'A PSF must have its maximum at its position')])
def test_what_is_no_psf_is_refused(call, psf, oversampling, error, match):
    arguments = (psf,) if oversampling is None else (psf, oversampling)
    with pytest.raises(error, match=match):
        call(*arguments)


def test_a_model_of_an_image_without_a_positive_sum_is_refused():
    image = sampled(1, peak=1.0) - 0.5
    assert image.sum() < 0
    with pytest.raises(ValueError, match='must have a positive sum'):
        describe_normalization(ImagePSF(image))


@pytest.mark.parametrize('convert', [amplitude_to_flux, flux_to_amplitude])
def test_only_numbers_are_converted(convert):
    psf = CircularGaussianPRF(fwhm=2.0)
    with pytest.raises(TypeError, match='What is converted must be an array of numbers'):
        convert('bright', psf)
    # A star without a fit stays one.
    assert_array_equal(np.isnan(convert([np.nan, 1.0], psf)), [True, False])
    assert np.isnan(convert(np.nan, psf))


@pytest.mark.parametrize('power', [0.7, 1.0])
def test_a_model_with_light_without_end_is_refused(power):
    with pytest.raises(ValueError, match='the wings of Moffat2D do not fall steeply enough'):
        describe_normalization(Moffat2D(1.0, 0.0, 0.0, 2.0, power))


def test_the_height_of_a_gaussian_is_its_flux_over_its_area():
    area = 2.0 * np.pi * STDDEV**2
    psf = Gaussian2D(x_stddev=STDDEV, y_stddev=STDDEV)
    assert_allclose(amplitude_to_flux(3.0, psf), 3.0 * area, rtol=1e-6)
    assert_allclose(amplitude_to_flux(-3.0, psf), -3.0 * area, rtol=1e-6)
    assert_allclose(flux_to_amplitude([area, 0.0], psf), [1.0, 0.0], rtol=1e-6)
    assert isinstance(amplitude_to_flux(3, psf), float)
    with_unit = amplitude_to_flux([1.0, 2.0] * u.adu, psf)
    assert with_unit.unit == u.adu
    assert_allclose(with_unit.value, [area, 2.0 * area], rtol=1e-6)


@pytest.mark.parametrize('scale', [1.0, 7.0])
def test_heights_are_those_of_images_of_any_normalization(scale):
    image = sampled(4, size=11.25) * scale
    expected = CircularGaussianPRF(fwhm=2.0)(0.0, 0.0)
    assert_allclose(flux_to_amplitude(1.0, image, 4), expected, rtol=1e-3)
    assert_allclose(flux_to_amplitude(1.0, image, oversampling=4), expected, rtol=1e-3)


def bad_image():
    return ImagePSF(sampled(4, total=1.0), oversampling=4)


def test_a_model_that_is_not_normalized_is_warned_of_once():
    psf, other = bad_image(), bad_image()
    with pytest.warns(AstropyUserWarning, match=f'{WARNING} ImagePSF puts 0.0625 into the pixels'):
        warn_unless_total_flux(psf)
    warn_unless_total_flux(psf)
    with pytest.warns(AstropyUserWarning, match='the total flux is 0.0625 x the fitted one'):
        warn_unless_total_flux(other)


@pytest.mark.parametrize('name', [name for name in MODELS if name not in (
    'image of sum 1', 'image of peak 1', 'image in two steps', 'compound of peak 1',
    'table', 'scaled table')])
def test_models_with_a_total_flux_or_none_are_not_warned_of(name):
    model = MODELS[name].copy()
    # Warnings are errors.
    warn_unless_total_flux(model)
    assert name.endswith('2D') or describe_normalization(model).is_total_flux


@pytest.mark.parametrize('psf', [None, 'gaussian', Gaussian1D(), Polynomial2D(1),
                                 ImagePSF(sampled(1, peak=1.0) - 0.5)])
def test_what_is_no_psf_is_not_warned_of(psf):
    assert warn_unless_total_flux(psf) is None


def test_photometry_warns_of_a_psf_once():
    psf = bad_image()
    with pytest.warns(AstropyUserWarning, match=WARNING) as caught:
        PoissonPSFPhotometry(psf, 5)
    assert len(caught) == 1
    PoissonPSFPhotometry(psf, 7)
    photometry = PoissonPSFPhotometry(normalize_psf(psf), 5, background=1.0)
    y, x = np.mgrid[:15, :15]
    image = CircularGaussianPRF(flux=1e4, x_0=7.2, y_0=6.9, fwhm=2.0)(x, y)
    table = photometry(image, init_params=QTable({'x': [7.0], 'y': [7.0]}))
    # The fitted flux is the total one.
    assert_allclose(table['flux_fit'][0], 1e4, rtol=1e-3)


def test_the_fitter_warns_of_a_psf_once():
    y, x = np.mgrid[:15, :15]
    image = CircularGaussianPRF(flux=1e4, x_0=7.2, y_0=6.9, fwhm=2.0)(x, y)
    psf, fitter = bad_image(), PoissonLikelihoodFitter(background=1.0)
    psf.flux, psf.x_0, psf.y_0 = 1e5, 7.0, 7.0
    with pytest.warns(AstropyUserWarning, match=WARNING) as caught:
        assert_allclose(fitter(psf, x, y, image).flux, 1.6e5, rtol=1e-3)
    assert len(caught) == 1
    assert_allclose(fitter(psf, x, y, image).flux, 1.6e5, rtol=1e-3)
    # Photutils gives the fitter a copy for each star, and fits without warnings.
    init = QTable({'x': [7.0, 7.1], 'y': [7.0, 6.9], 'flux': [1e4, 1e4]})
    photometry = PSFPhotometry(normalize_psf(psf), 9, fitter=fitter)
    assert_allclose(photometry(image, init_params=init)['flux_fit'], 1e4, rtol=1e-3)


def test_the_fitter_is_silent_about_good_psfs():
    y, x = np.mgrid[:15, :15]
    image = CircularGaussianPRF(flux=1e4, x_0=7.2, y_0=6.9, fwhm=2.0)(x, y)
    start = {'flux': 9e3, 'x_0': 7.0, 'y_0': 7.0}
    for psf in (normalize_psf(bad_image()), CircularGaussianPRF(fwhm=2.0)):
        for name, value in start.items():
            setattr(psf, name, value)
        fitted = PoissonLikelihoodFitter(background=1.0)(psf, x, y, image)
        assert_allclose(fitted.flux, 1e4, rtol=1e-3)


def test_light_curves_warn_of_a_psf_once(tmp_path):
    truth = CircularGaussianPRF(fwhm=2.0)
    path = simulate_tpf(tmp_path / 'star.fits', truth, n_cadences=5, stars=[(2e4, 5.2, 4.9)],
                        seed=3)
    psf = ImagePSF(sampled(4, peak=1.0), oversampling=4)
    factor = 16.0 / psf.data.sum()
    with pytest.warns(AstropyUserWarning, match=WARNING) as caught:
        bad = extract_light_curve(path, psf, shape='fixed')
    assert len(caught) == 1
    # The same model again: silence.
    extract_light_curve(path, psf, shape='fixed')
    good = extract_light_curve(path, normalize_psf(psf), shape='fixed')
    assert_allclose(good['flux'].value, 2e4, rtol=2e-3)
    assert_allclose(bad['flux'].value, factor * good['flux'].value, rtol=1e-6)


def test_a_warning_costs_little_for_models_of_known_flux(monkeypatch):
    def refuse(*args):
        raise AssertionError('it was evaluated')

    for psf in (CircularGaussianPRF(fwhm=2.0), EllipticalGaussianPSF(), MODELS['table of phases']):
        monkeypatch.setattr(type(psf), 'evaluate', refuse)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            warn_unless_total_flux(psf)
