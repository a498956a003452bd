# Licensed under a 3-clause BSD style license - see LICENSE

import copy
import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.modeling.fitting import TRFLSQFitter
from astropy.table import QTable
from astropy.units import UnitsError
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import CircularGaussianPRF, ImagePSF, PSFPhotometry
from scipy.special import ndtr

from kpsf import KeplerPRF, PoissonLikelihoodFitter, TabulatedPRF, TessPRF
from kpsf._kernels.spline import phase_sums

# weight, centre and width of two Gaussians: a core and a lopsided wing.
PARTS = ((0.7, 0.0, 0.0, 0.55, 0.6), (0.3, 0.2, -0.15, 0.9, 0.75))
Y, X = np.mgrid[:21, :21].astype(float)


def in_pixels(dx, dy, parts=PARTS):
    """Return the share of the flux in pixels at offsets from the star."""
    return sum(weight
               * (ndtr((dx - x + 0.5) / width) - ndtr((dx - x - 0.5) / width))
               * (ndtr((dy - y + 0.5) / height) - ndtr((dy - y - 0.5) / height))
               for weight, x, y, width, height in parts)


def image(steps=(10, 10), pixels=(13, 13), origin=None, parts=PARTS):
    """Return a sampled image of the star and where it is among the samples."""
    size = [n * s for n, s in zip(pixels, steps, strict=True)]
    origin = origin or tuple((n - 1) / 2 for n in size)
    dx, dy = np.meshgrid(*((np.arange(n) - o) / s
                           for n, o, s in zip(size, origin, steps, strict=True)))
    return in_pixels(dx, dy, parts), origin


def make_prf(**options):
    """Return a PRF of this image with a flux of 1000 near the middle of 21 x 21 pixels."""
    data, origin = image()
    return TabulatedPRF(data, 0.1, **{'flux': 1000.0, 'x_0': 10.2, 'y_0': 9.7, 'origin': origin,
                                      **options})


@pytest.fixture(name='prf')
def fixture_prf():
    return make_prf()


def test_the_value_in_a_pixel_is_that_of_the_integrated_profile(prf):
    # 1e-5 of the peak is what ten samples per pixel resolve of a Gaussian of 0.55 pixels.
    assert_allclose(prf(X, Y), 1000 * in_pixels(X - 10.2, Y - 9.7), atol=3e-3)


def test_all_pixels_sum_to_the_flux_at_every_phase(prf):
    for x_0, y_0 in np.random.default_rng(1).uniform(9.5, 10.5, (20, 2)):
        assert_allclose(prf.evaluate(X, Y, 7.0, x_0, y_0, 1, 1, 0).sum(), 7.0, rtol=1e-6)


@pytest.mark.parametrize('spacing', [(0.1, 0.2), (0.25, 1 / 9)])
def test_samples_may_be_longer_along_one_axis(spacing):
    steps = tuple(round(1 / value) for value in spacing)
    data, origin = image(steps)
    prf = TabulatedPRF(data, spacing, x_0=10.3, y_0=9.6, origin=origin)
    assert_allclose(prf.spacing, spacing, rtol=1e-12)
    assert_allclose(prf(X, Y), in_pixels(X - 10.3, Y - 9.6), atol=2e-4)


def test_the_spacing_of_a_header_is_rounded_to_a_whole_number_of_samples():
    data, _ = image((9, 9))
    assert TabulatedPRF(data, 0.111111).spacing == TabulatedPRF(data, 1 / 9).spacing


def test_the_origin_is_the_middle_unless_it_is_given():
    data, origin = image((4, 4))
    assert TabulatedPRF(data, 0.25).origin == origin == (25.5, 25.5)
    data, _ = image((4, 4), origin=(20.0, 27.0))
    prf = TabulatedPRF(data, 0.25, x_0=10.0, y_0=10.0, origin=(20.0, 27.0))
    assert_allclose(prf(X, Y), in_pixels(X - 10, Y - 10), atol=2e-3)


def test_outside_of_the_support_it_is_exactly_zero(prf):
    assert prf(10.2 - 6.626, 9.7) == 0
    assert prf(10.2 - 6.624, 9.7) > 0
    assert prf(10.2, 9.7 + 6.624) > 0
    assert prf(10.2, 9.7 + 6.626) == 0
    assert prf(1e6, 1e6) == 0


def test_a_fill_value_is_outside_whatever_the_flux():
    prf = make_prf(fill_value=-3.0)
    assert prf(0.0, 0.0) == -3.0
    assert_array_equal(prf(X, Y)[5:15, 5:15], make_prf()(X, Y)[5:15, 5:15])
    assert_array_equal(np.unique(prf(X, Y)[0]), [-3.0])


class TestNormalization:
    """
    What flux means.
    """

    def test_phases_sum_to_one_by_default(self):
        data = 3.7 * image()[0] * (1 + 0.05 * np.sin(2 * np.pi * np.arange(130) / 10))
        prf = TabulatedPRF(data, 0.1)
        assert prf.normalize == 'phase'
        assert_allclose(phase_sums(prf.data, (10, 10)), 1, rtol=1e-13)

    def test_the_mean_of_the_phases_is_one(self):
        data = 3.7 * image()[0] * (1 + 0.05 * np.sin(2 * np.pi * np.arange(130) / 10))
        sums = phase_sums(TabulatedPRF(data, 0.1, normalize='mean').data, (10, 10))
        assert_allclose(sums.mean(), 1, rtol=1e-13)
        assert np.ptp(sums) > 0.05

    def test_the_image_is_taken_as_it_is(self):
        data = 3.7 * image()[0]
        assert_array_equal(TabulatedPRF(data, 0.1, normalize=None).data, data)

    def test_negative_samples_stay_unless_they_are_to_be_clipped(self):
        data = image()[0] - 1e-4
        assert TabulatedPRF(data, 0.1).data.min() < 0
        clipped = TabulatedPRF(data, 0.1, clip_negative=True)
        assert clipped.data.min() == 0
        assert_allclose(phase_sums(clipped.data, (10, 10)), 1, rtol=1e-13)
        assert 'clip_negative=True' in repr(clipped)
        assert 'clip_negative=False' in repr(TabulatedPRF(data, 0.1))

    def test_the_array_that_is_passed_is_not_changed(self):
        data = image()[0] - 1e-4
        before = data.copy()
        TabulatedPRF(data, 0.1, clip_negative=True)
        assert_array_equal(data, before)

    @pytest.mark.parametrize('normalize', ['phase', 'mean'])
    def test_an_image_without_flux_is_refused(self, normalize):
        with pytest.raises(ValueError, match=r'must be > 0 to be normalised, but the lowest is 0'):
            TabulatedPRF(np.zeros((20, 20)), 0.1, normalize=normalize)

    def test_a_phase_without_flux_is_refused(self):
        data = image()[0]
        data[3::10, 4::10] = 0
        with pytest.raises(ValueError, match='every sub-pixel phase'):
            TabulatedPRF(data, 0.1)


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    ((np.ones(5), 0.1), ValueError, r'shape \(ny, nx\) of at least \(2, 2\), but it is \(5,\)'),
    ((np.ones((1, 9)), 0.1), ValueError, r'\(1, 9\): pass one image'),
    ((np.full((9, 9), np.nan), 0.1), ValueError, '81 of 81 values are NaN'),
    ((np.ones((9, 9)) * u.Jy, 0.1), TypeError, 'has the unit Jy'),
    ((np.ones((9, 9)) * 1j, 0.1), TypeError, 'they are complex'),
    (('PRF.fits', 0.1), TypeError, 'must be an array of numbers'),
    ((np.ones((9, 9)), 0.25 * u.pix), TypeError, 'spacing must be plain numbers in pixels'),
    ((np.ones((9, 9)), '0.25'), TypeError, "but it is '0.25': pass for example 0.25"),
    ((np.ones((9, 9)), 4), ValueError, 'the inverse of the oversampling, for example 0.25'),
    ((np.ones((9, 9)), 0.3), ValueError, 'fits a whole number of times in 1, but it is 0.3'),
    ((np.ones((9, 9)), 0.0), ValueError, 'but it is 0.0'),
    ((np.ones((9, 9)), -0.5), ValueError, 'but it is -0.5'),
    ((np.ones((9, 9)), 2.0), ValueError, 'but it is 2.0'),
    ((np.ones((9, 9)), np.nan), ValueError, 'but it is nan'),
    ((np.ones((9, 9)), (0.5, 0.5, 0.5)), ValueError, r'but it is \(0.5, 0.5, 0.5\)'),
])
def test_what_is_no_image_or_no_spacing_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        TabulatedPRF(*arguments)


@pytest.mark.parametrize('origin', [3.0, (1.0, 2.0, 3.0), (np.nan, 1.0)])
def test_an_origin_is_two_numbers(origin):
    with pytest.raises(ValueError, match=r'origin must be two finite numbers \(x, y\)'):
        TabulatedPRF(np.ones((9, 9)), 0.5, origin=origin)


def test_an_unknown_normalization_is_refused():
    with pytest.raises(ValueError, match="normalize must be one of 'phase', 'mean', None"):
        TabulatedPRF(np.ones((9, 9)), 0.5, normalize='sum')


class TestScaleAndRotation:
    """
    Focus and roll.
    """

    def test_they_are_fixed_unless_they_are_freed(self, prf):
        assert [name for name in prf.param_names if prf.fixed[name]] == ['x_scale', 'y_scale',
                                                                         'theta']

    def test_a_scale_widens_the_image_and_keeps_the_flux(self):
        prf = make_prf(x_scale=1.3, y_scale=0.9)
        wide, narrow = prf(X, Y), make_prf()(X, Y)
        assert_allclose(wide.sum(), 1000, rtol=1e-3)
        for axis, grid, scale in ((0, X, 1.3), (1, Y, 0.9)):
            variances = []
            for values in (wide, narrow):
                profile = values.sum(axis=axis) / values.sum()
                places = grid.max(axis=axis)
                mean = (profile * places).sum()
                variances.append((profile * (places - mean) ** 2).sum())
            assert_allclose(variances[0] / variances[1], scale ** 2, rtol=0.02)

    def test_the_angle_turns_counterclockwise(self):
        quarter = make_prf(theta=90 * u.deg)
        # What lay along +x of the star lies along +y.
        assert_allclose(quarter(10.2, 9.7 + 1.3), make_prf()(10.2 + 1.3, 9.7), rtol=1e-12)
        assert_allclose(quarter(10.2 - 0.8, 9.7), make_prf()(10.2, 9.7 + 0.8), rtol=1e-12)
        assert_allclose(quarter.theta.value, np.pi / 2)

    @pytest.mark.parametrize('scale', [0.0, -1.0])
    def test_a_scale_that_is_not_positive_has_no_value(self, scale):
        assert np.isnan(make_prf().evaluate(X, Y, 1, 10, 10, scale, 1, 0)).all()
        assert np.isnan(make_prf().evaluate(X, Y, 1, 10, 10, 1, scale, 0.3)).all()

    def test_the_bounding_box_turns_with_the_image(self):
        box = make_prf(x_scale=1.5, theta=np.pi / 2).bounding_box.bounding_box()
        assert_allclose(box, [(9.7 - 9.9375, 9.7 + 9.9375), (10.2 - 6.625, 10.2 + 6.625)])


@pytest.mark.parametrize('values', [(1000, 10.2, 9.7, 1, 1, 0), (0, 10.2, 9.7, 1, 1, 0),
                                    (-5, 9.6, 10.1, 1.2, 0.85, 0.6), (30, 10, 10, 0.8, 1.1, -2)])
def test_derivatives_agree_with_differences(prf, values):
    analytic = prf.fit_deriv(X, Y, *values)
    assert len(analytic) == 6
    # At the edge of the support the value may jump, so that nothing within a step of it counts.
    near = np.hypot(X - values[1], Y - values[2]) < 5
    for j, column in enumerate(analytic):
        step = 1e-5
        high, low = (prf.evaluate(X, Y, *np.add(values, sign * step * np.eye(6)[j]))
                     for sign in (1, -1))
        assert_allclose(column[near], ((high - low) / (2 * step))[near],
                        atol=1e-7 * max(abs(values[0]), 1))
        assert np.shape(column) == X.shape


def test_columns_of_parameters_broadcast_against_pixels(prf):
    rng = np.random.default_rng(4)
    stack = prf.parameters + rng.uniform(-0.1, 0.1, (5, 6))
    columns = stack.T[:, :, np.newaxis, np.newaxis]
    images, derivatives = prf.evaluate(X, Y, *columns), prf.fit_deriv(X, Y, *columns)
    for row, values in enumerate(stack):
        assert_allclose(images[row], prf.evaluate(X, Y, *values), rtol=1e-12, atol=1e-12)
        for together, alone in zip(derivatives, prf.fit_deriv(X, Y, *values), strict=True):
            assert_allclose(np.broadcast_to(together, images.shape)[row], alone, rtol=1e-9,
                            atol=1e-9)


def test_scalars_and_integers_are_coordinates(prf):
    assert np.ndim(prf(10, 10)) == 0
    assert prf(10, 10) == prf(10.0, 10.0)


@pytest.mark.parametrize('duplicate', [
    copy.copy, copy.deepcopy, lambda model: model.copy(),
    lambda model: pickle.loads(pickle.dumps(model)),
], ids=['copy', 'deepcopy', 'model-copy', 'pickle'])
def test_duplicates_are_equal(prf, duplicate):
    prf.flux.fixed = True
    prf.x_0.bounds = (0.0, 40.0)
    twin = duplicate(prf)
    assert_array_equal(twin(X, Y), prf(X, Y))
    assert twin.fixed == prf.fixed
    assert twin.bounds == prf.bounds
    assert twin.bounding_box == prf.bounding_box
    assert repr(twin) == repr(prf)


def test_copies_share_the_spline_and_not_the_parameters(prf):
    twin = prf.copy()
    assert twin.table is prf.table
    twin.flux = 1.0
    assert prf.flux == 1000


def test_units_go_through_evaluation(prf):
    twin = make_prf(flux=1000 * u.Jy, x_0=10.2 * u.pix, y_0=9.7 * u.pix)
    values = twin(X * u.pix, Y * u.pix)
    assert values.unit == u.Jy
    assert_allclose(values.value, prf(X, Y), rtol=1e-13)
    assert twin.bounding_box.bounding_box()[0][0].unit == u.pix
    filled = make_prf(flux=1000 * u.Jy, x_0=10.2 * u.pix, y_0=9.7 * u.pix, fill_value=2.0)
    assert filled(0 * u.pix, 0 * u.pix) == 2 * u.Jy


def test_units_go_through_a_fit(prf):
    start = make_prf(flux=900 * u.Jy, x_0=10.1 * u.pix, y_0=9.8 * u.pix)
    fitted = TRFLSQFitter()(start, X * u.pix, Y * u.pix, prf(X, Y) * u.Jy)
    assert fitted.flux.unit == u.Jy
    assert_allclose(fitted.parameters, prf.parameters, rtol=1e-6)


def test_x_and_y_need_one_unit():
    start = make_prf(flux=900 * u.Jy, x_0=10.1 * u.pix, y_0=9.8 * u.pix)
    with pytest.raises(UnitsError, match='x and y must have the same unit'):
        start._parameter_units_for_data_units({'x': u.pix, 'y': u.deg}, {'z': u.Jy})


class TestPhotutils:
    """
    Models of photutils in and out, and its photometry.
    """

    @pytest.fixture(name='psf')
    def fixture_psf(self):
        x, y = (np.arange(60) - 29.0) / 4, (np.arange(84) - 41.0) / 6
        data = CircularGaussianPRF(fwhm=1.9)(x, y[:, np.newaxis])
        psf = ImagePSF(data, flux=800.0, x_0=9.8, y_0=10.3, oversampling=(6, 4),
                       origin=(29.0, 41.0))
        psf.x_0.fixed = True
        psf.flux.bounds = (0.0, None)
        return psf

    def test_a_model_from_photutils_is_the_same(self, psf):
        prf = TabulatedPRF.from_image_psf(psf)
        assert prf.spacing == (1 / 4, 1 / 6)
        assert prf.origin == (29.0, 41.0)
        assert_allclose(prf(X, Y), psf(X, Y), atol=1e-4)
        assert prf.fixed['x_0']
        assert not prf.fixed['y_0']
        assert prf.bounds['flux'] == (0.0, None)

    def test_there_and_back_it_is_the_same(self, psf):
        back = TabulatedPRF.from_image_psf(psf).to_image_psf()
        assert_array_equal(back.data, psf.data)
        assert_array_equal(back.oversampling, psf.oversampling)
        assert_array_equal(back.origin, psf.origin)
        assert_array_equal(back.parameters, psf.parameters)
        assert back.fixed == psf.fixed
        assert back.bounds == psf.bounds

    def test_both_fit_the_same_flux(self):
        prf = make_prf()
        init = QTable({'x': [10.0], 'y': [10.0], 'flux': [900.0]})
        data = 1000 * in_pixels(X - 10.2, Y - 9.7)
        ours, theirs = (PSFPhotometry(model, (11, 11))(data, init_params=init)
                        for model in (prf, prf.to_image_psf()))
        assert_allclose(ours['flux_fit'], theirs['flux_fit'], rtol=1e-6)
        assert_allclose(ours['x_fit'], theirs['x_fit'], atol=1e-6)
        assert_allclose(ours['flux_fit'], 1000, rtol=1e-5)

    def test_groups_are_fitted_and_rendered(self):
        prf = make_prf()
        init = QTable({'x': [8.1, 11.2], 'y': [10.0, 10.1], 'flux': [800.0, 500.0],
                       'group_id': [1, 1]})
        truth = 1000 * in_pixels(X - 8.2, Y - 9.7) + 600 * in_pixels(X - 11.1, Y - 10.2)
        photometry = PSFPhotometry(prf, (9, 9))
        table = photometry(truth, init_params=init)
        assert_allclose(table['flux_fit'], [1000, 600], rtol=1e-4)
        assert_allclose(photometry.make_model_image(truth.shape), truth, atol=0.05)

    def test_only_an_image_psf_is_taken(self):
        with pytest.raises(TypeError, match='needs a photutils.psf.ImagePSF, but found Circular'):
            TabulatedPRF.from_image_psf(CircularGaussianPRF())

    def test_a_rotated_prf_is_no_image_psf(self):
        with pytest.raises(ValueError, match=r'needs x_scale = y_scale = 1 and theta = 0'):
            make_prf(theta=0.1).to_image_psf()


def test_the_poisson_fitter_recovers_all_six_parameters():
    truth = make_prf(flux=1e6, x_scale=1.05, y_scale=0.97, theta=0.2)
    start = make_prf(flux=8e5, x_0=10.0, y_0=10.0)
    for name in ('x_scale', 'y_scale', 'theta'):
        getattr(start, name).fixed = False
    fitted = PoissonLikelihoodFitter(background=5.0)(start, X, Y, truth(X, Y))
    assert_allclose(fitted.parameters, truth.parameters, rtol=1e-5)


def test_str_tells_what_it_is_made_of(prf):
    assert 'Image: 130 x 130 samples' in str(prf)
    assert 'normalize: phase' in str(prf)
    assert repr(prf).startswith('<TabulatedPRF(flux=1000.')


def test_a_file_keeps_image_spacing_and_origin(tmp_path):
    data, origin = image(steps=(4, 6), origin=(24.0, 41.5))
    prf = TabulatedPRF(data, (1 / 4, 1 / 6), origin=origin)
    path = prf.write(tmp_path / 'prf.fits')
    again = TabulatedPRF.read(path, flux=7.0, x_0=2.0)
    assert_allclose(again.data, prf.data, rtol=1e-12)
    assert (again.spacing, again.origin) == (prf.spacing, prf.origin)
    assert (again.flux.value, again.x_0.value) == (7.0, 2.0)
    with pytest.raises(FileExistsError, match='overwrite=True'):
        prf.write(path)
    assert prf.write(path, overwrite=True) == path


def test_a_file_without_such_an_image_says_what_is_missing(tmp_path):
    path = tmp_path / 'other.fits'
    fits.PrimaryHDU(np.ones((9, 9))).writeto(path)
    with pytest.raises(ValueError, match='lacks CRPIX1P, CRPIX2P, CDELT1P, CDELT2P'):
        TabulatedPRF.read(path)
    with pytest.raises(ValueError, match="no image with two axes in extension 'PRF'"):
        TabulatedPRF.read(path, extension='PRF')
    fits.PrimaryHDU(np.ones(9)).writeto(path, overwrite=True)
    with pytest.raises(ValueError, match='no image with two axes'):
        TabulatedPRF.read(path)
    with pytest.raises(FileNotFoundError, match='there is no file'):
        TabulatedPRF.read(tmp_path / 'none.fits')


@pytest.mark.parametrize('model', [KeplerPRF, TessPRF])
def test_an_instrument_needs_a_place_to_be_read(model, tmp_path):
    with pytest.raises(TypeError, match=f'use {model.__name__}.from_file'):
        model.read(tmp_path / 'prf.fits')
