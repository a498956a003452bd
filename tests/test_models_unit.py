# Licensed under a 3-clause BSD style license - see LICENSE
"""UnitPSF: widths, centres and places of any PSF, against closed forms."""

import astropy.units as u
import numpy as np
import pytest
from astropy.modeling.models import AiryDisk2D, Gaussian1D, Gaussian2D, Moffat2D, Polynomial2D
from astropy.nddata import NDData
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import (
    AiryDiskPSF,
    CircularGaussianPRF,
    CircularGaussianPSF,
    GaussianPSF,
    GriddedPSFModel,
    ImagePSF,
    MoffatPSF,
    make_psf_model,
)
from scipy.optimize import brentq
from scipy.special import ndtr

from kpsf import EllipticalGaussianPRF, EllipticalGaussianPSF, TabulatedPRF
from kpsf.models.unit import UnitPSF

FWHM_OF_STDDEV = np.sqrt(8.0 * np.log(2.0))
# Radius of the half maximum of an Airy disk over that of its first zero.
AIRY_FWHM = 2.0 * 1.61633995 / 3.83170597
PLACES = [(x, y) for y in (0.0, 41.0, 80.0) for x in (0.0, 52.0, 100.0)]


def samples(psf, shape=(61, 61), steps=(4, 4), origin=None):
    """Return a PSF sampled ``steps`` times per pixel along y and x."""
    origin = origin or tuple((n - 1) / 2 for n in shape[::-1])
    rows, columns = np.indices(shape)
    return psf((columns - origin[0]) / steps[1], (rows - origin[1]) / steps[0])


def gridded(fwhms=(2.0, 2.2, 2.5, 3.2, 4.5, 3.3, 3.0, 3.4, 3.5), steps=4):
    images = np.array([samples(CircularGaussianPSF(fwhm=fwhm), (81, 81), (steps, steps))
                       for fwhm in fwhms])
    return GriddedPSFModel(NDData(images, meta={'oversampling': steps, 'grid_xypos': PLACES}))


def integrated_fwhm(stddev):
    """Return twice the distance at which an integrated Gaussian is at half along an axis."""
    def level(offset):
        return ndtr((offset + 0.5) / stddev) - ndtr((offset - 0.5) / stddev)

    return 2.0 * brentq(lambda offset: level(offset) - 0.5 * level(0.0), 0.0, 20.0)


@pytest.mark.parametrize(('psf', 'expected'), [
    (CircularGaussianPSF(fwhm=2.0), 2.0), (CircularGaussianPSF(fwhm=0.3), 0.3),
    (CircularGaussianPSF(fwhm=150.0), 150.0),
    (CircularGaussianPSF(flux=1e6, x_0=900.3, y_0=-7.1, fwhm=2.0), 2.0),
    (GaussianPSF(x_fwhm=2.0, y_fwhm=4.5, theta=30.0), 3.0),
    (Gaussian2D(3.0, 5.0, 6.0, 2.0, 2.0), 2.0 * FWHM_OF_STDDEV),
    (EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 1.0, 1.0), FWHM_OF_STDDEV),
    (MoffatPSF(alpha=2.0, beta=2.5), 4.0 * np.sqrt(2.0**0.4 - 1.0)),
    (Moffat2D(1.0, 0.0, 0.0, 3.0, 4.0), 6.0 * np.sqrt(2.0**0.25 - 1.0)),
    (AiryDiskPSF(radius=3.0), 3.0 * AIRY_FWHM), (AiryDisk2D(2.0, 0.0, 0.0, 5.0), 5.0 * AIRY_FWHM),
    (make_psf_model(Gaussian2D(x_stddev=1.5, y_stddev=1.5), x_name='x_mean', y_name='y_mean'),
     1.5 * FWHM_OF_STDDEV),
    (ImagePSF(samples(CircularGaussianPSF(fwhm=2.5)), oversampling=4), 2.5),
    (ImagePSF(samples(CircularGaussianPSF(fwhm=2.5), (31, 61), (2, 4)), oversampling=(2, 4)), 2.5),
    (ImagePSF(samples(CircularGaussianPSF(fwhm=12.0), steps=(1, 1))), 12.0),
    (TabulatedPRF(samples(CircularGaussianPSF(fwhm=2.5)), 0.25), 2.5),
    (TabulatedPRF(samples(CircularGaussianPSF(fwhm=2.5)), 0.25, x_scale=1.2, y_scale=1.2), 3.0),
    (TabulatedPRF(samples(CircularGaussianPSF(fwhm=2.5), (61, 31), (4, 2)), (0.5, 0.25)), 2.5)])
def test_the_width_is_that_of_the_closed_form(psf, expected):
    assert_allclose(UnitPSF(psf).fwhm, expected, rtol=6e-3)


@pytest.mark.parametrize('stddev', [0.5, 0.85, 2.0])
def test_the_width_of_an_integrated_gaussian_has_the_pixel_in_it(stddev):
    psf = CircularGaussianPRF(fwhm=stddev * FWHM_OF_STDDEV)
    found = UnitPSF(psf).fwhm
    assert found > psf.fwhm.value * 1.005
    # Where the pixel dominates, the half maximum is a bit of a square.
    assert_allclose(found, integrated_fwhm(stddev), rtol=0.03 if stddev < 0.6 else 0.01)
    same = EllipticalGaussianPRF.from_stddev(1.0, 0.0, 0.0, stddev, stddev)
    assert_allclose(UnitPSF(same).fwhm, found, rtol=1e-3)


def test_a_hot_sample_far_from_the_core_hardly_widens_it():
    image = samples(CircularGaussianPSF(fwhm=2.5))
    image[2, 3] = 0.8 * image.max()
    assert_allclose(UnitPSF(ImagePSF(image, oversampling=4)).fwhm, 2.5, rtol=0.02)


@pytest.mark.parametrize('psf', [CircularGaussianPSF(flux=9.0, x_0=3.0, y_0=4.0, fwhm=2.0),
                                 Gaussian2D(9.0, 3.0, 4.0, 1.0, 1.5, 0.3),
                                 ImagePSF(samples(CircularGaussianPSF(fwhm=2.0)), flux=9.0,
                                          oversampling=4),
                                 TabulatedPRF(samples(CircularGaussianPSF(fwhm=2.0)), 0.25)])
def test_values_are_those_of_the_model_with_a_scale_of_one(psf):
    unit = UnitPSF(psf)
    before = psf.parameters.copy()
    offsets = np.linspace(-2.0, 2.0, 7)
    star = psf.copy()
    setattr(star, unit.scale, 1.0)
    setattr(star, unit.x, 30.25)
    setattr(star, unit.y, 20.5)
    assert_allclose(unit(offsets, offsets[:, np.newaxis], 0.25, 0.5),
                    star(*np.meshgrid(30.0 + offsets, 20.0 + offsets)), rtol=1e-10, atol=1e-15)
    assert_array_equal(psf.parameters, before)


@pytest.mark.parametrize('psf', [CircularGaussianPSF(fwhm=2.0), gridded(), MoffatPSF(),
                                 ImagePSF(samples(CircularGaussianPSF(fwhm=2.0)), oversampling=4)])
def test_offsets_and_positions_broadcast(psf):
    unit = UnitPSF(psf)
    y, x = np.mgrid[-3:4, -2:3]
    x_0, y_0 = np.array([0.1, -0.3, 0.4]), np.array([0.2, 0.0, -0.4])
    together = unit(x, y, x_0[:, np.newaxis, np.newaxis], y_0[:, np.newaxis, np.newaxis])
    assert together.shape == (3, 7, 5)
    assert_allclose(together, [unit(x, y, *place) for place in zip(x_0, y_0, strict=True)],
                    rtol=1e-10, atol=1e-14)
    assert unit(0.0, 0.0).shape == ()


def test_peaks_are_those_of_closed_forms():
    assert_allclose(UnitPSF(MoffatPSF(flux=5.0, alpha=2.0, beta=2.5)).peak,
                    1.5 / (np.pi * 4.0), rtol=1e-10)
    assert_allclose(UnitPSF(CircularGaussianPSF(fwhm=3.0)).peak,
                    FWHM_OF_STDDEV**2 / (2.0 * np.pi * 9.0), rtol=1e-10)
    assert_allclose(UnitPSF(Gaussian2D(7.0)).peak, 1.0, rtol=1e-12)
    image = samples(CircularGaussianPSF(fwhm=2.0))
    assert_allclose(UnitPSF(ImagePSF(image, flux=5.0, oversampling=4)).peak, image.max(),
                    rtol=1e-10)


@pytest.mark.parametrize(('shape', 'steps'), [((61, 61), (4, 4)), ((60, 61), (4, 4)),
                                              ((31, 61), (2, 4)), ((21, 20), (1, 1))])
@pytest.mark.parametrize('shift', [(0.0, 0.0), (0.5, -0.25), (-1.1, 0.7)])
@pytest.mark.parametrize('kind', ['photutils', 'kpsf'])
def test_the_centroid_is_where_the_core_is(shape, steps, shift, kind):
    psf = CircularGaussianPSF(x_0=shift[0], y_0=shift[1], fwhm=3.0)
    image = samples(psf, shape, steps)
    model = (ImagePSF(image, oversampling=steps) if kind == 'photutils' else
             TabulatedPRF(image, (1 / steps[1], 1 / steps[0])))
    assert_allclose(UnitPSF(model).centroid, shift, atol=0.02)


def test_the_origin_of_an_image_counts():
    image = samples(CircularGaussianPSF(fwhm=3.0))
    unit = UnitPSF(ImagePSF(image, origin=(28.0, 33.0), oversampling=4))
    assert unit.origin == (28.0, 33.0)
    assert_allclose(unit.centroid, (0.5, -0.75), atol=0.01)


@pytest.mark.parametrize('psf', [CircularGaussianPSF(x_0=9.0, y_0=3.0, fwhm=2.0), MoffatPSF(),
                                 GaussianPSF(x_fwhm=2.0, y_fwhm=4.0, theta=30.0), gridded()])
def test_symmetric_models_have_their_centre_at_their_position(psf):
    assert_allclose(UnitPSF(psf).centroid, 0.0, atol=1e-6)


def test_a_lopsided_core_has_its_centre_of_light_on_that_side():
    image = samples(CircularGaussianPSF(fwhm=2.0))
    image = image + 0.8 * samples(CircularGaussianPSF(x_0=1.2, fwhm=2.0))
    psf = ImagePSF(image, oversampling=4)
    x, y = UnitPSF(psf).centroid
    rows, columns = np.mgrid[-3:3:241j, -3:3:241j]
    values = psf(columns, rows)
    core = np.where(values > 0.5 * values.max(), values, 0.0)
    assert_allclose([x, y], [(columns * core).sum() / core.sum(), 0.0], atol=0.01)
    assert 0.4 < x < 0.7


def test_the_place_on_a_grid_is_the_grid_point_nearest_to_its_middle():
    unit = UnitPSF(gridded())
    assert unit.place == (52.0, 41.0)
    assert_allclose(unit.fwhm, 4.5, rtol=6e-3)
    assert unit.is_image
    assert unit.images.shape == (9, 81, 81)


@pytest.mark.parametrize(('place', 'fwhm'), [((0.0, 0.0), 2.0), ((100.0, 0.0), 2.5),
                                             ((0.0, 80.0), 3.0), ((100.0, 80.0), 3.5)])
def test_the_shape_is_that_of_the_place_that_is_asked_for(place, fwhm):
    psf = gridded()
    unit = UnitPSF(psf, place=place)
    assert unit.place == place
    assert_allclose(unit.fwhm, fwhm, rtol=6e-3)


def test_between_grid_points_the_shape_is_interpolated():
    psf = gridded()
    offsets = np.linspace(-3.0, 3.0, 9)
    star = psf.copy()
    star.x_0, star.y_0 = 30.0, 60.0
    assert_allclose(UnitPSF(psf, place=(30, 60))(offsets, 0.5 * offsets),
                    star(30.0 + offsets, 60.0 + 0.5 * offsets), rtol=1e-10, atol=1e-15)
    assert 3.2 < UnitPSF(psf, place=(30, 60)).fwhm < 4.5


def test_names_of_parameters_are_found():
    unit = UnitPSF(Gaussian2D())
    assert (unit.x, unit.y, unit.scale) == ('x_mean', 'y_mean', 'amplitude')
    compound = make_psf_model(Gaussian2D(), x_name='x_mean', y_name='y_mean')
    unit = UnitPSF(compound)
    assert (unit.x, unit.y, unit.scale) == (compound.x_name, compound.y_name, compound.flux_name)
    assert not unit.is_image
    assert unit.steps == (1, 1)


def test_models_with_units_are_taken_as_numbers():
    psf = CircularGaussianPSF(flux=5.0 * u.electron, x_0=1.0, y_0=2.0, fwhm=2.0)
    unit = UnitPSF(psf)
    assert_allclose(unit.fwhm, 2.0, rtol=6e-3)
    assert_allclose(unit(0.0, 0.0), CircularGaussianPSF(fwhm=2.0)(0.0, 0.0), rtol=1e-12)


@pytest.mark.parametrize(('model', 'error', 'match'), [
    (np.ones((9, 9)), TypeError, 'must be an astropy model or an image, but it is ndarray'),
    (CircularGaussianPSF, TypeError, 'must be an astropy model or an image, but it is'),
    (None, TypeError, 'but it is NoneType'),
    (Moffat2D(*np.ones((5, 2)), n_models=2), ValueError, 'but it is a set of 2'),
    (Gaussian1D(), ValueError, 'but it is one of 1 inputs and 1 outputs'),
    (Polynomial2D(1), ValueError, 'needs parameters x_0, y_0 and flux .* are c0_0, c1_0, c0_1'),
    (CircularGaussianPSF() + CircularGaussianPSF(), ValueError, 'A PSF needs parameters x_0')])
def test_what_is_no_psf_is_refused(model, error, match):
    with pytest.raises(error, match=match):
        UnitPSF(model)


@pytest.mark.parametrize('model', [Moffat2D(1.0, 0.0, 0.0, 1.0, -1.0),
                                   Gaussian2D(x_stddev=1e5, y_stddev=1e5)])
def test_a_model_that_does_not_fall_is_refused(model):
    with pytest.raises(ValueError, match='must have its maximum at its position and fall to half'):
        _ = UnitPSF(model).fwhm
