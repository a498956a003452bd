# Licensed under a 3-clause BSD style license - see LICENSE
"""What is wrong with an image, a table or an option: flags of photutils, or one clear error."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.modeling.models import Gaussian1D, Gaussian2D
from astropy.nddata import NDData
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.utils.exceptions import AstropyUserWarning
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import (
    CircularGaussianPRF,
    CircularGaussianPSF,
    GaussianPSF,
    ImagePSF,
    MoffatPSF,
    SourceGrouper,
)

from kpsf import CentroidPrior, EllipticalGaussianPSF, PoissonPSFPhotometry

SHAPE = (40, 42)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]]
BACKGROUND = 5.0
PSF = CircularGaussianPRF(fwhm=2.0)
PARTIAL, OUTSIDE, NO_COVARIANCE, NEAR_BOUND = 1, 2, 16, 32
NO_OVERLAP, FULLY_MASKED, TOO_FEW, NO_POSITION, NO_FLUX = 64, 128, 256, 512, 1024
NO_LOCAL_BKG = 2048
NOT_FITTED = PARTIAL | NO_COVARIANCE | NO_POSITION | NO_FLUX


def make_mean():
    """Return the expected counts of a pair of stars and of one alone."""
    return BACKGROUND + sum(PSF.evaluate(X, Y, flux, x, y, 2.0) for flux, x, y
                            in [(1000, 10, 10), (1000, 30, 20), (800, 12.1, 10.5)])


def make_image(seed=1):
    """Return counts of the three stars."""
    return np.random.default_rng(seed).poisson(make_mean()).astype(float)


def stars(**columns):
    """Return the table of the stars, with further columns or others."""
    return QTable({'x': [10.0, 30.0, 12.0], 'y': [10.0, 20.0, 10.6],
                   'flux': [900.0, 900.0, 900.0], 'group_id': [1, 2, 1]} | columns)


def measure(data=None, init=None, *, psf=PSF, fit_shape=5, mask=None, error=None, **options):
    """Return the results of one call."""
    phot = PoissonPSFPhotometry(psf, fit_shape, **options)
    return phot(make_image() if data is None else data, mask=mask, error=error,
                init_params=stars() if init is None else init)


def assert_whole(table, n):
    """Check that there is a row for each star, and a flag wherever something is NaN."""
    assert len(table) == n
    for name in ('x_fit', 'y_fit', 'flux_fit', 'x_err', 'y_err', 'flux_err', 'cstat'):
        unknown = ~np.isfinite(table[name])
        assert np.all(table['flags'][unknown] != 0)


# Images.

@pytest.mark.parametrize('kind', [np.uint8, np.uint16, np.int16, np.int64, np.float32, '>f4'])
def test_numbers_of_any_type_are_the_same_counts(kind):
    data = np.minimum(make_image(), 255).astype(kind)
    table, expected = measure(data), measure(data.astype(float))
    assert_array_equal(table['flux_fit'], expected['flux_fit'])


def test_unsigned_integers_do_not_wrap_around():
    # Below a background of 5 there are pixels of 0: subtracted as uint8 they would be 251.
    data = np.random.default_rng(2).poisson(0.3, SHAPE).astype(np.uint8)
    data[9:12, 9:12] += 200
    known = measure(data, background=2.0)
    assert_allclose(known['flux_fit'], measure(data.astype(float), background=2.0)['flux_fit'])
    image = PoissonPSFPhotometry(PSF, 5, background=2.0)
    image(data, init_params=stars())
    assert image.make_residual_image(data, psf_shape=9).min() > -250


def test_integers_near_overflow_are_summed_as_floats():
    table = measure(np.full(SHAPE, 2**63 - 1))
    assert_whole(table, 3)
    assert_allclose(table['background_fit'], 2.0**63, rtol=1e-6)


@pytest.mark.filterwarnings('ignore:One or more fit')
@pytest.mark.parametrize('size', [1e-300, 1e-30, 1e-6, 1e6, 1e30, 1e150])
def test_numbers_of_any_size_make_a_table(size):
    for group_id in ([1, 2, 1], [1, 2, 3]):
        table = measure(size * make_image(), stars(group_id=group_id))
        assert_whole(table, 3)
        if 1e-9 < size < 1e9:
            assert_array_equal(table['flags'], 0)


def test_booleans_are_counts():
    assert_whole(measure(make_image() > 20), 3)


@pytest.mark.parametrize('data', [make_image() + 0j, make_image().astype(object),
                                  make_image().astype(str), None])
def test_what_is_no_real_number_is_an_error(data):
    with pytest.raises(TypeError, match='data must be an array of real numbers'):
        PoissonPSFPhotometry(PSF, 5)(data, init_params=stars())


@pytest.mark.parametrize(('data', 'found'), [
    ('image.fits', "it is the path 'image.fits': pass what astropy.io.fits.getdata reads"),
    (Path('image.fits'), "it is the path 'image.fits'"),
    (fits.PrimaryHDU(make_image()), 'it is the PrimaryHDU of a FITS file: pass its data'),
    (fits.HDUList([fits.PrimaryHDU(make_image())]), 'it is a whole FITS file: pass the data'),
    (make_image() + 0j, 'they are complex'),
    (make_image().astype(str), 'it is ndarray of <U.*: convert it first'),
])
def test_what_is_there_in_the_place_of_an_image_is_named(data, found):
    with pytest.raises(TypeError, match=f'data must be an array of real numbers, but {found}'):
        PoissonPSFPhotometry(PSF, 5)(data, init_params=stars())


@pytest.mark.parametrize('data', [make_image()[0], make_image()[np.newaxis], 3.0])
def test_data_are_one_image(data):
    with pytest.raises(ValueError, match='data must be one image, a 2D array, but its shape'):
        measure(data)


@pytest.mark.parametrize('shape', [(0, 0), (0, 5), (1, 1), (1, 40), (40, 1), (2, 2)])
@pytest.mark.parametrize('n', [0, 3])
def test_images_smaller_than_a_box_have_flags(shape, n):
    table = measure(np.ones(shape), stars()[:n])
    assert_whole(table, n)
    assert np.all(table['flags'] & PARTIAL)


def test_a_box_may_be_larger_than_the_image():
    table = measure(fit_shape=61)
    assert_array_equal(table['flags'], PARTIAL)
    assert_array_equal(table['n_pixels_fit'] < 40 * 42, [True, False, False])
    assert_allclose(table['flux_fit'], [1000.0, 1000.0, 800.0], rtol=0.15)
    assert len(measure(init=stars()[:0], fit_shape=61)) == 0


def test_negative_data_need_their_background():
    data = make_image() - BACKGROUND
    for background in ('fit', 0.0, 1.0):
        with pytest.raises(ValueError, match='Poisson counts must be >= 0.*negative'):
            measure(data, background=background)
    assert_array_equal(measure(data, background=BACKGROUND)['flags'], 0)


@pytest.mark.parametrize('group_id', [[1, 2, 1], [1, 2, 3]])
def test_negative_data_are_looked_for_around_the_stars_alone(group_id):
    data = make_image()
    data[35:, 35:] = -100.0
    assert_array_equal(measure(data, stars(group_id=group_id))['flags'] & ~NEAR_BOUND, 0)
    data[10, 11] = -100.0
    with pytest.raises(ValueError, match='negative'):
        measure(data, stars(group_id=group_id))


def test_read_noise_explains_some_of_what_is_negative():
    data = make_image()
    data[20, 32] = -20.0
    assert_whole(measure(data, read_noise=3.0), 3)
    with pytest.raises(ValueError, match='but for read noise of 2, but 1 of 25 pixels'):
        measure(data, read_noise=2.0)


def make_image_with_read_noise(sky, read_noise, seed=3):
    """Return an image of the three stars in electrons, from a CCD."""
    rng = np.random.default_rng(seed)
    mean = make_mean() - BACKGROUND + sky
    return rng.poisson(mean) + rng.normal(0.0, read_noise, SHAPE)


@pytest.mark.parametrize('group_id', [[1, 2, 1], [1, 2, 3]])
@pytest.mark.parametrize(('background', 'remedy'), [
    ('fit', 'was a background subtracted[?] Pass it as background='),
    (1.0, 'check that background= is what was subtracted')])
def test_a_background_that_was_subtracted_is_noticed_beside_read_noise(background, remedy,
                                                                       group_id):
    data = make_image_with_read_noise(60.0, 5.0) - 60.0
    with pytest.warns(AstropyUserWarning, match='pixels around the stars are below -10 electrons, '
                      f'of which read noise of 5 explains no more than.*{remedy}') as caught:
        measure(data, stars(group_id=group_id), fit_shape=15, read_noise=5.0,
                background=background)
    assert len(caught) == 1
    assert_whole(measure(data, fit_shape=15, read_noise=5.0, background=60.0), 3)


@pytest.mark.parametrize('sky', [0.0, 0.3, 60.0])
@pytest.mark.parametrize(('gain', 'is_whole'), [(1.0, False), (2.0, True), (8.0, True)])
def test_read_noise_alone_is_no_reason_to_warn(sky, gain, is_whole):
    for seed in range(5):
        data = make_image_with_read_noise(sky, 4.0, seed) / gain
        data = np.round(data) if is_whole else data
        assert_whole(measure(data, fit_shape=15, read_noise=4.0, gain=gain), 3)


def test_a_few_pixels_far_below_zero_are_no_reason_to_warn():
    data = make_image_with_read_noise(0.0, 4.0)
    data[20, 28:33] = data[10, 10:14] = -30.0
    assert_whole(measure(data, fit_shape=15, read_noise=4.0), 3)


@pytest.mark.parametrize('background', ['fit', 0.0, 5.0])
@pytest.mark.parametrize('with_flux', [False, True])
def test_an_image_of_zeros_has_no_stars_and_no_crash(background, with_flux):
    init = stars() if with_flux else stars()['x', 'y', 'group_id']
    table = measure(np.zeros(SHAPE), init, background=background)
    assert_whole(table, 3)
    assert np.all(np.abs(table['flux_fit']) < 1e-6)
    assert_allclose(table['x_fit'], init['x'], atol=0.5)
    free = CircularGaussianPRF(fwhm=2.0)
    free.fwhm.fixed = False
    assert_whole(measure(np.zeros(SHAPE), init, background=background, psf=free), 3)


def test_one_constant_is_a_background():
    table = measure(np.full(SHAPE, 7.0))
    assert_whole(table, 3)
    assert_allclose(table['background_fit'], 7.0, rtol=1e-4)
    assert np.all(np.abs(table['flux_fit']) < 0.1)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_do_not_count_and_are_warned_of(value):
    data = make_image()
    masked = np.zeros(SHAPE, dtype=bool)
    masked[9, 9] = masked[20, 31] = True
    expected = measure(data, mask=masked)
    data[masked] = value
    with pytest.warns(AstropyUserWarning, match='unmasked non-finite values'):
        table = measure(data)
    for name in ('flux_fit', 'flux_err', 'n_pixels_fit', 'qfit', 'flags'):
        assert_array_equal(table[name], expected[name])
    # Those that a mask covers are known, and nothing to warn of.
    assert_array_equal(measure(data, mask=masked)['flux_fit'], expected['flux_fit'])


def test_masked_arrays_bring_their_mask():
    data, mask = make_image(), np.zeros(SHAPE, dtype=bool)
    mask[9, 9:11] = True
    expected = measure(data, mask=mask)
    table = measure(np.ma.array(data, mask=mask))
    both = measure(np.ma.array(data, mask=mask & (X == 9)), mask=mask & (X == 10))
    for name in ('flux_fit', 'n_pixels_fit', 'flags'):
        assert_array_equal(table[name], expected[name])
        assert_array_equal(both[name], expected[name])
    assert_array_equal(measure(np.ma.array(data), mask=np.ma.nomask)['flags'], 0)


def test_saturated_pixels_that_are_masked_do_no_harm():
    data = make_image()
    saturated = data > 80
    assert saturated.sum() > 10
    clipped = np.minimum(data, 80.0)
    table = measure(clipped, mask=saturated, fit_shape=9)
    truth = np.array([1000.0, 1000.0, 800.0])
    assert np.all(np.abs(table['flux_fit'] - truth) < 4 * table['flux_err'])
    biased = measure(clipped, fit_shape=9)
    assert np.all(biased['flux_fit'] < truth - 4 * biased['flux_err'])


@pytest.mark.parametrize('group_id', [[1, 2, 1], [1, 1, 1], [1, 2, 3]])
@pytest.mark.parametrize('options', [{}, {'aperture_radius': 2.0}, {'background': 0.0}])
def test_where_all_is_masked_stars_are_flagged(options, group_id):
    everything = np.ones(SHAPE, dtype=bool)
    for init in (stars(group_id=group_id), stars(group_id=group_id)['x', 'y', 'group_id']):
        table = measure(init=init, mask=everything, **options)
        assert_array_equal(table['flags'], NOT_FITTED | FULLY_MASKED)
        assert_array_equal(table['n_pixels_fit'], 0)
        assert np.isnan(table['flux_fit']).all()


def test_too_few_pixels_are_flagged_and_the_others_of_the_group_fitted():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[8:13, 8:13] = True
    mask[10, 10:12] = False
    table = measure(mask=mask, init=stars(x=[10.0, 30.0, 16.0]))
    assert table['flags'][0] == NOT_FITTED | TOO_FEW
    assert table['n_pixels_fit'][0] == 2
    assert not table['flags'][1]
    assert np.isfinite(table['flux_fit'][1:]).all()
    assert_array_equal(table['group_size'], [2, 1, 2])


@pytest.mark.parametrize('mask, error', [
    (np.zeros(3, dtype=bool), ValueError), (np.zeros((3, 3)), TypeError), ('x', TypeError),
    (np.zeros(SHAPE[::-1], dtype=bool), ValueError)])
def test_masks_of_another_kind_are_errors(mask, error):
    with pytest.raises(error, match='mask must'):
        measure(mask=mask)


def test_nddata_with_a_mask_or_error_beside_is_ambiguous():
    data = NDData(make_image())
    for extra in ({'mask': np.zeros(SHAPE, dtype=bool)}, {'error': np.ones(SHAPE)}):
        with pytest.raises(ValueError, match='NDData bring their own mask and uncertainty'):
            measure(data, **extra)


# Errors.

@pytest.mark.parametrize('value', [0.0, -1.0, np.nan, np.inf])
def test_errors_that_are_not_positive_stop_where_pixels_count(value):
    error = np.sqrt(make_image() + 1)
    error[10, 10] = value
    with pytest.raises(ValueError, match='Errors must be finite and > 0, but 2 of 75 pixels'):
        measure(error=error)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[10, 10] = True
    assert np.isfinite(measure(error=error, mask=mask)['reduced_chi2']).all()


def test_nobody_is_told_to_mask_empty_pixels():
    counts = np.random.default_rng(5).poisson((make_image() - BACKGROUND).clip(0.1))
    with pytest.raises(ValueError, match=r'leave error= away, .* but not empty ones'):
        measure(counts, error=np.sqrt(counts))


def test_errors_that_are_not_positive_do_not_matter_elsewhere():
    error = np.sqrt(make_image() + 1)
    error[35:] = 0.0
    error[:3, :3] = np.nan
    # The second star there has no flux, and is not fitted either.
    init = stars(x=[10.0, 30.0, 1.0], y=[10.0, 20.0, 1.0], flux=[900.0, 900.0, np.nan])
    table = measure(error=error, init=init)
    assert np.isfinite(table['reduced_chi2'][:2]).all()
    assert np.isnan(table['reduced_chi2'][2])


@pytest.mark.parametrize('error', [np.ones(SHAPE[::-1]), np.ones(3), 1.0])
def test_errors_have_the_shape_of_the_data(error):
    with pytest.raises(ValueError, match='error must have the shape of the data'):
        measure(error=error)


def test_errors_and_data_have_the_same_unit():
    data, error, init = make_image(), np.ones(SHAPE), stars()['x', 'y']
    for one, other in ((data * u.Jy, error), (data, error * u.Jy), (data * u.Jy, error * u.m)):
        with pytest.raises(ValueError, match='data and error must have the same unit'):
            measure(one, init, error=other)


def test_complex_errors_are_an_error():
    with pytest.raises(TypeError, match='error must be an array of real numbers'):
        measure(error=np.ones(SHAPE, dtype=complex))


# Tables.

@pytest.mark.parametrize('with_flux', [False, True])
def test_stars_without_a_place_are_flagged(with_flux):
    init = QTable({'x': [10.0, -30.0, np.nan, 1e300, -np.inf, 60.0, 30.0],
                   'y': [10.0, 5.0, 5.0, 5.0, 5.0, 1e9, -1e300], 'flux': np.full(7, 900.0)})
    table = measure(init=init if with_flux else init['x', 'y'])
    far, nowhere = NOT_FITTED | NO_OVERLAP, NOT_FITTED
    assert_array_equal(table['flags'], [0, far, nowhere, far, nowhere, far, far])
    assert_array_equal(table['x_init'], init['x'])
    assert_array_equal(table['n_pixels_fit'][1:], 0)


@pytest.mark.parametrize('flux', [np.nan, np.inf])
def test_fluxes_that_are_not_finite_are_flagged(flux):
    table = measure(init=stars(flux=[flux, 900.0, 900.0]))
    assert_array_equal(table['flags'] > 0, [True, False, False])
    assert table['flags'][0] == NOT_FITTED
    # Outside of the image, as well: photutils looks at the flux first.
    table = measure(init=stars(x=[-90.0, 30.0, 12.0], flux=[flux, 900.0, 900.0]))
    assert table['flags'][0] == NOT_FITTED


@pytest.mark.parametrize('group_id', [[1, 2, 1], [1, 2, 3]])
@pytest.mark.parametrize('flux', [0.0, 1e-300, 1e8])
def test_starting_fluxes_of_any_size_lead_to_the_same_fit(flux, group_id):
    table, expected = (measure(init=stars(flux=[own] * 3, group_id=group_id), fit_shape=9)
                       for own in (flux, 900.0))
    if group_id == [1, 2, 3]:
        # The box of one of a pair has two maxima.
        table, expected = table[1:2], expected[1:2]
    assert_allclose(table['flux_fit'], expected['flux_fit'], atol=0.1)


def test_boxes_half_outside_are_partial():
    data = make_image() + PSF.evaluate(X, Y, 2000.0, 0.2, 30.0, 2.0).round()
    table = measure(data, stars(x=[0.0, 30.0, 12.0], y=[30.0, 20.0, 10.5], group_id=[1, 2, 3]))
    assert_array_equal(table['flags'][:2], [PARTIAL, 0])
    assert table['n_pixels_fit'][0] == 15
    assert abs(table['flux_fit'][0] - 2000.0) < 4 * table['flux_err'][0]


def test_stars_beside_the_image_whose_boxes_are_in_it_are_fitted():
    data = make_image() + PSF.evaluate(X, Y, 4000.0, -1.0, 30.0, 2.0).round()
    table = measure(data, QTable({'x': [-1.0], 'y': [30.0]}), fit_shape=9)
    assert table['flags'][0] == PARTIAL | OUTSIDE
    assert abs(table['flux_fit'][0] - 4000.0) < 5 * table['flux_err'][0]


def test_duplicates_on_their_own_are_equal():
    table = measure(init=stars()[[1, 1]]['x', 'y'])
    assert_array_equal(table['flux_fit'][0], table['flux_fit'][1])
    assert not table['flags'].any()


@pytest.mark.parametrize('positions_are_fixed', [False, True])
@pytest.mark.parametrize('with_flux', [False, True])
def test_duplicates_in_a_group_are_flagged(positions_are_fixed, with_flux):
    psf = PSF.copy()
    psf.x_0.fixed = psf.y_0.fixed = positions_are_fixed
    init = stars()[[1, 1]]
    if not with_flux:
        init.remove_column('flux')
    phot = PoissonPSFPhotometry(psf, 5)
    if positions_are_fixed:
        table = phot(make_image(), init_params=init)
        assert_array_equal(table['flags'], NO_COVARIANCE)
        assert np.isnan(table['flux_err']).all()
        assert_allclose(table['flux_fit'].sum(), 1000.0, rtol=0.2)
        return
    # Free stars at one place: whatever the fit does, it must not claim to know both.
    table = phot(make_image(), init_params=init)
    alone = phot(make_image(), init_params=init[:1])['flux_err'][0]
    known = np.isfinite(table['flux_err']) & (table['flags'] == 0)
    assert not np.any(table['flux_err'][known] < 1.5 * alone)
    assert_whole(table, 2)


def test_more_stars_than_pixels_are_flagged():
    psf = PSF.copy()
    psf.x_0.fixed = psf.y_0.fixed = True
    init = QTable({'x': [10.0, 10.1], 'y': [10.0, 10.1], 'group_id': [1, 1]})
    table = measure(init=init, psf=psf, fit_shape=1, background=0.0)
    assert np.all(table['flags'] & NO_COVARIANCE)
    assert_whole(table, 2)


def test_boxes_of_one_pixel():
    table = measure(fit_shape=1)
    assert_array_equal(table['flags'], NOT_FITTED & ~PARTIAL | TOO_FEW)
    psf = PSF.copy()
    psf.x_0.fixed = psf.y_0.fixed = True
    table = measure(fit_shape=1, psf=psf, background=BACKGROUND, data=make_image() - BACKGROUND)
    assert_array_equal(table['flags'], 0)
    assert np.all(np.abs(table['flux_fit'] - [1000, 1000, 800]) < 4 * table['flux_err'])


def test_a_group_whose_stars_are_partly_lost_goes_on_with_the_rest():
    init = stars(x=[10.0, -300.0, 12.0], group_id=[1, 1, 1])
    table, expected = measure(init=init), measure(init=stars()[[0, 2]])
    assert_array_equal(table['flags'], [0, NOT_FITTED | NO_OVERLAP, 0])
    assert_array_equal(table['group_size'], 3)
    assert_allclose(table['flux_fit'][[0, 2]], expected['flux_fit'])
    # With one left, it is alone, and with none there is no fit.
    init['flux'][0] = np.nan
    assert_array_equal(measure(init=init)['flags'] > 0, [True, True, False])
    init['y'][2] = np.nan
    assert_array_equal(measure(init=init)['flags'] > 0, True)


def test_a_local_background_that_is_not_finite_is_none_and_flagged():
    init = stars(local_bkg=[np.nan, np.inf, 1.0])
    table, expected = measure(init=init), measure(init=stars(local_bkg=[0.0, 0.0, 1.0]))
    assert_array_equal(table['flags'], [NO_LOCAL_BKG, NO_LOCAL_BKG, 0])
    assert_array_equal(table['flux_fit'], expected['flux_fit'])


@pytest.mark.parametrize('group_id', [[1, 2, 1], [1, 2, 3], [1, 1, 1]])
def test_a_negative_local_background_needs_one_that_is_fitted(group_id):
    init = stars(group_id=group_id, local_bkg=[-3.0, -3.0, -3.0])
    expected = measure(init=stars(group_id=group_id))
    table = measure(init=init)
    assert_allclose(table['flux_fit'], expected['flux_fit'], rtol=1e-4)
    assert_allclose(table['background_fit'], expected['background_fit'] + 3.0, rtol=1e-3)
    with pytest.raises(ValueError, match='must not be negative together, but they are -1 '):
        measure(init=init, background=2.0)
    known, plain = (measure(make_image() - BACKGROUND, own, background=np.full(SHAPE, BACKGROUND))
                    for own in (init, stars(group_id=group_id)))
    assert np.all(known['flux_fit'] > plain['flux_fit'])


def test_a_negative_local_background_is_no_matter_outside_of_the_image():
    init = QTable({'x': [0.0], 'y': [20.0], 'local_bkg': [-1.0]})
    assert_whole(measure(init=init, background=np.full(SHAPE, 2.0)), 1)


def test_an_empty_table_has_all_columns():
    empty, full = measure(init=stars()[:0]), measure()
    assert len(empty) == 0
    assert empty.colnames == full.colnames
    for name in empty.colnames:
        assert empty[name].dtype == full[name].dtype


@pytest.mark.parametrize('group_id, error, match', [
    (['a', 'b', 'c'], TypeError, 'group_id must be integers'),
    ([1.0, 2.0, 3.0], TypeError, 'group_id must be integers'),
    ([0, 1, 2], ValueError, 'group_id must be > 0'), ([-1, 1, 2], ValueError, 'must be > 0')])
def test_groups_are_positive_integers(group_id, error, match):
    with pytest.raises(error, match=match):
        measure(init=stars(group_id=group_id))


@pytest.mark.parametrize('kind', [np.uint8, np.uint64, np.int16])
def test_groups_are_integers_of_any_kind(kind):
    table = measure(init=stars(group_id=np.array([1, 2, 1], dtype=kind)))
    assert_array_equal(table['flux_fit'], measure()['flux_fit'])


def test_groups_have_numbers_of_any_size():
    table = measure(init=stars(group_id=[2**62, 7, 2**62]))
    assert_array_equal(table['flux_fit'], measure()['flux_fit'])


@pytest.mark.parametrize('n', [26, 60])
def test_large_groups_are_warned_of_and_fitted(n):
    rng = np.random.default_rng(3)
    y, x = (5.5 * places.ravel()[:n] + 6.0 for places in np.mgrid[:9, :9])
    rows, columns = np.mgrid[:60, :60]
    mean = BACKGROUND + sum(PSF.evaluate(columns, rows, 1000.0, *place, 2.0)
                            for place in zip(x, y))
    init = QTable({'x': x + rng.normal(0, 0.1, n), 'y': y + rng.normal(0, 0.1, n),
                   'group_id': np.ones(n, dtype=int)})
    with pytest.warns(AstropyUserWarning, match=f'more than 25 stars .the largest has {n}'):
        table = measure(rng.poisson(mean), init, fit_shape=7)
    assert not table['flags'].any()
    assert np.all(np.abs(table['flux_fit'] - 1000.0) < 4.5 * table['flux_err'])


def test_positions_are_needed():
    with pytest.raises(ValueError, match='must have a column of y positions'):
        measure(init=QTable({'x': [1.0]}))
    with pytest.raises(ValueError, match='must have a column of x positions'):
        PoissonPSFPhotometry(PSF, 5, finder=lambda data, mask: QTable({'u': [1.0]}))(make_image())


@pytest.mark.parametrize('init', [{'x': [1.0], 'y': [1.0]}, np.ones((2, 2)), 'table.ecsv'])
def test_a_table_is_a_table(init):
    with pytest.raises(TypeError, match='init_params must be an astropy Table'):
        measure(init=init)


def test_columns_are_numbers():
    for name in ('x', 'flux', 'local_bkg'):
        with pytest.raises(TypeError, match=f'{name} of the stars must be an array of numbers'):
            measure(init=stars(**{name: ['a', 'b', 'c']}))


def test_columns_have_one_real_number_for_each_star():
    for name in ('x', 'flux', 'local_bkg'):
        for values in (np.ones(3, dtype=complex), np.ones((3, 2))):
            with pytest.raises(ValueError, match=f'{name} of the stars must be one real number'):
                measure(init=stars(**{name: values}))


@pytest.mark.parametrize('kind', [int, float])
def test_masked_entries_of_a_table_are_unknown(kind):
    init = Table({'x': MaskedColumn(np.array([10, 30, 12], dtype=kind), mask=[False, True, False]),
                  'y': [10, 20, 11],
                  'flux': MaskedColumn(np.full(3, 900, dtype=kind), mask=[True, False, False])})
    table = measure(init=init)
    assert_array_equal(table['flags'], [NOT_FITTED, NOT_FITTED, 0])


def test_starting_values_of_other_parameters_are_finite():
    psf = PSF.copy()
    psf.fwhm.fixed = False
    for group_id in ([1, 2, 1], [1, 2, 3]):
        init = stars(fwhm=[np.nan, 2.0, 2.0], group_id=group_id)
        with pytest.raises(ValueError, match='fwhm of the stars must be finite, but 1 of 3'):
            measure(init=init, psf=psf)
    # Of a star that is not fitted, they do not matter.
    init = stars(fwhm=[np.nan, 2.0, 2.0], x=[-90.0, 30.0, 12.0])
    assert_array_equal(measure(init=init, psf=psf)['flags'] > 0, [True, False, False])


@pytest.mark.parametrize('name', ['flux', 'local_bkg'])
def test_columns_have_the_unit_of_the_data(name):
    data, plain = make_image(), stars()['x', 'y', 'group_id']
    values = np.full(3, 2.0)
    for image, own in ((data, values * u.Jy), (data * u.Jy, values), (data * u.Jy, values * u.m)):
        init = plain.copy()
        init[name] = own
        with pytest.raises(ValueError, match=f'{name} of the stars must'):
            measure(image, init)


def test_a_column_with_a_unit_is_not_yet_a_quantity():
    # As in photutils: a Table (not a QTable) has columns with units, and these are plain numbers.
    init = Table({'x': [30.0], 'y': [20.0], 'flux': Column([900.0], unit='Jy')})
    with pytest.raises(ValueError, match='flux of the stars must have the unit of the data, Jy'):
        measure(make_image() * u.Jy, init)
    assert_allclose(measure(init=init)['flux_fit'], measure()['flux_fit'][1], rtol=1e-3)


@pytest.mark.parametrize('found', [None, QTable({'x': [1.0], 'y': [1.0]})[:0]])
def test_a_finder_may_find_nothing(found):
    phot = PoissonPSFPhotometry(PSF, 5, finder=lambda data, mask: found)
    phot(make_image(), init_params=stars())
    assert phot(make_image()) is None
    assert phot.results is None
    with pytest.raises(ValueError, match='Results are needed'):
        phot.decode_flags()


def test_a_grouper_returns_a_group_for_each_star():
    for groups in ([1], [1, 2], [[1, 2, 3]], 1):
        with pytest.raises(ValueError, match='group_id must be one integer for each of 3 stars'):
            measure(init=stars()['x', 'y'], grouper=lambda x, y, groups=groups: groups)


def test_a_grouper_of_photutils_wants_finite_positions():
    with pytest.raises(ValueError, match='finite'):
        measure(init=stars(x=[np.nan, 30.0, 12.0])['x', 'y'], grouper=SourceGrouper(3.0))


# Models and options.

def test_models_that_cannot_be_fitted_are_errors_before_a_call():
    tied, united = PSF.copy(), CircularGaussianPRF(flux=1 * u.Jy, fwhm=2.0)
    tied.y_0.tied = lambda model: model.x_0
    models = CircularGaussianPRF(flux=[1, 2], x_0=[0, 0], y_0=[0, 0], fwhm=[2, 2], n_models=2)
    for psf, error, match in [
            (tied, ValueError, 'y_0 is tied'), (united, TypeError, 'flux has a unit'),
            (models, TypeError, 'must be one astropy model, but it is a set of 2'),
            (Gaussian2D(), ValueError, 'needs parameters x_0, y_0 and flux'),
            (Gaussian1D(), ValueError, 'one 2-D model'),
            ('psf', TypeError, "it is the string 'psf'"),
            (CircularGaussianPRF, TypeError, 'must be one astropy model'),
            (np.ones((5, 7)), TypeError, r'an image of shape \(5, 7\): make a model of it'),
            (None, TypeError, 'but it is NoneType')]:
        with pytest.raises(error, match=match):
            PoissonPSFPhotometry(psf, 5)


@pytest.mark.parametrize('shape', [4, 0, -3, 5.0, (5, 4), (5, 5, 5), '5', None, np.nan])
def test_boxes_are_odd(shape):
    with pytest.raises(ValueError, match='fit_shape must be an odd whole number'):
        PoissonPSFPhotometry(PSF, shape)


@pytest.mark.parametrize('option', ['gain', 'read_noise', 'xy_bounds', 'aperture_radius',
                                    'centroid_prior', 'n_threads'])
@pytest.mark.parametrize('value', [np.nan, np.inf, -1.0])
def test_options_are_finite_and_positive(option, value):
    with pytest.raises(ValueError, match='(must|stddev)'):
        PoissonPSFPhotometry(PSF, 5, **{option: value})


@pytest.mark.parametrize('option', ['gain', 'xy_bounds', 'aperture_radius', 'centroid_prior'])
def test_options_that_must_not_be_zero(option):
    with pytest.raises(ValueError, match='> 0'):
        PoissonPSFPhotometry(PSF, 5, **{option: 0.0})


@pytest.mark.parametrize('options, error', [
    ({'finder': 'dao'}, TypeError), ({'grouper': 3.0}, TypeError),
    ({'background': None}, TypeError), ({'background': 'median'}, ValueError),
    ({'gain': 2 * u.electron}, TypeError),
    ({'gain': 'two'}, TypeError), ({'xy_bounds': (1.0, 2.0, 3.0)}, ValueError)])
def test_options_of_another_kind_are_errors(options, error):
    with pytest.raises(error, match='(must|says)'):
        PoissonPSFPhotometry(PSF, 5, **options)


@pytest.mark.parametrize(('option', 'remedy'), [
    ('fitter', 'the likelihood is that of PoissonLikelihoodFitter, or pass that fitter to'),
    ('fitter_maxiters', 'each fit goes on until it has converged'),
    ('local_bkg_estimator', "background='fit' fits one around each star"),
    ('localbkg_estimator', "background='fit' fits one around each star"),
    ('group_warning_threshold', 'leave it away')])
def test_other_arguments_of_photutils_say_what_to_do(option, remedy):
    with pytest.raises(TypeError, match=f'made without {option}=, but it is given: .*{remedy}'):
        PoissonPSFPhotometry(PSF, 5, **{option: None})


def test_unknown_arguments_are_errors_as_everywhere():
    with pytest.raises(TypeError, match='unexpected keyword argument'):
        PoissonPSFPhotometry(PSF, 5, box=3)
    assert 'fitter' not in inspect.signature(PoissonPSFPhotometry).parameters
    assert 'finder' in inspect.signature(PoissonPSFPhotometry).parameters


@pytest.mark.parametrize('background, match', [
    (np.nan, 'must be finite'), (-1.0, 'must be >= 0'), (np.full(SHAPE, np.nan), 'must be finite'),
    (np.ones(3), 'must have the shape of the data'), (1 * u.Jy, 'must be plain numbers'),
    (lambda x, y: np.ones(3), 'must have the shape of the data'),
    (lambda x, y: -x, 'must be >= 0'), ('error', 'needs error=')])
def test_backgrounds_that_cannot_be_put_back_are_errors(background, match):
    with pytest.raises(ValueError, match=match):
        measure(background=background)


def test_the_background_of_data_with_a_unit_has_it_too():
    for background in (1.0, 1 * u.m, np.ones(SHAPE), lambda x, y: 1.0 + 0 * x):
        with pytest.raises(ValueError, match='The background must have the unit of the data, Jy'):
            measure(make_image() * u.Jy, stars()['x', 'y'], background=background)


def test_bounds_leave_positions_room():
    psf = PSF.copy()
    psf.x_0.bounds = (0.0, 11.0)
    assert_whole(measure(psf=psf, init=stars()[:1]), 1)
    # The same for stars alone and in groups.
    for rows in ([0, 1], [0, 1, 2]):
        with pytest.raises(ValueError, match='Bounds must leave room for x_0, but 1 of'):
            measure(psf=psf, init=stars()[rows])


@pytest.mark.parametrize('group_id', [[1, 1, 2], [1, 2, 3]])
def test_bounds_of_what_is_held_do_not_matter(group_id):
    held, bounded = PSF.copy(), PSF.copy()
    for psf in (held, bounded):
        psf.x_0.fixed = psf.y_0.fixed = True
    bounded.x_0.bounds, bounded.y_0.bounds = (0.0, 3.0), (50.0, 60.0)
    table, expected = (measure(psf=psf, init=stars(group_id=group_id)) for psf in (bounded, held))
    for name in ('x_fit', 'flux_fit', 'flux_err', 'flags'):
        assert_array_equal(table[name], expected[name])


def test_a_prior_has_a_centre_for_each_star():
    with pytest.raises(ValueError, match='one position per star, but it has 2 for 3'):
        measure(centroid_prior=CentroidPrior(0.1, x=[1.0, 2.0], y=[1.0, 2.0]))


def filled(fill_value):
    """Return an image of a star with something else around it."""
    y, x = np.mgrid[:41, :41]
    return ImagePSF(CircularGaussianPSF().evaluate(x, y, 16.0, 20.0, 20.0, 8.0), oversampling=4,
                    fill_value=fill_value)


def test_stars_of_a_group_are_proportional_to_their_flux():
    with pytest.raises(ValueError, match='must be proportional to its flux.*ImagePSF is not'):
        measure(psf=filled(0.01))
    assert_array_equal(measure(psf=filled(0.0))['flags'], 0)
    assert_whole(measure(psf=filled(0.01), init=stars(group_id=[1, 2, 3])), 3)


def test_without_results_there_is_nothing_to_draw():
    phot = PoissonPSFPhotometry(PSF, 5)
    for ask in (phot.decode_flags, phot.results_to_init_params, phot.results_to_model_params,
                lambda: phot.make_model_image(SHAPE),
                lambda: phot.make_residual_image(make_image())):
        with pytest.raises(ValueError, match='Results are needed'):
            ask()


def test_what_failed_leaves_no_results():
    phot = PoissonPSFPhotometry(PSF, 5)
    phot(make_image(), init_params=stars())
    with pytest.raises(ValueError, match='negative'):
        phot(make_image() - 50.0, init_params=stars())
    assert phot.results is None


# Anything.

def with_state(model, fixed=(), free=()):
    """Return a model with some parameters fixed and others free."""
    for name in (*fixed, *free):
        getattr(model, name).fixed = name in fixed
    return model


RANDOM_MODELS = [
    lambda: CircularGaussianPRF(fwhm=2.0), lambda: CircularGaussianPSF(fwhm=2.0),
    lambda: filled(0.0), lambda: MoffatPSF(alpha=2.0, beta=2.5), EllipticalGaussianPSF,
    lambda: with_state(CircularGaussianPRF(fwhm=2.0), free=['fwhm']),
    lambda: with_state(GaussianPSF(x_fwhm=2.0, y_fwhm=2.3), free=['x_fwhm', 'y_fwhm', 'theta']),
    lambda: with_state(CircularGaussianPRF(fwhm=2.0), fixed=['x_0', 'y_0']),
    lambda: with_state(filled(0.0), fixed=['x_0', 'y_0', 'flux'])]


def draw_image(rng):
    """Return counts of any small shape, empty or bright, some of them NaN."""
    shape = tuple(rng.integers(1, 20, 2) if rng.uniform() < 0.8 else rng.integers(1, 4, 2))
    data = rng.poisson(rng.choice([0.0, 0.05, 3.0, 300.0]), shape).astype(float)
    y, x = np.mgrid[:shape[0], :shape[1]]
    middle = rng.uniform(-2, np.array(shape) + 2)
    data += rng.poisson(rng.choice([1.0, 100.0, 1e4])
                        * np.exp(-((x - middle[1])**2 + (y - middle[0])**2) / 2))
    if rng.uniform() < 0.2:
        data[rng.uniform(size=shape) < 0.2] = np.nan
    return data


def draw_stars(rng, shape):
    """Return a table of up to six stars inside and outside, alone and in groups."""
    n = int(rng.integers(0, 7))
    table = QTable({'id': rng.permutation(n) + 10, 'x': rng.uniform(-8, shape[1] + 8, n),
                    'y': rng.uniform(-8, shape[0] + 8, n)})
    if rng.uniform() < 0.5:
        table['x'], table['y'] = np.clip(table['x'], 0, shape[1]), np.clip(table['y'], 0, shape[0])
    if n > 1 and rng.uniform() < 0.3:
        table['x'][1], table['y'][1] = table['x'][0], table['y'][0]
    if n and rng.uniform() < 0.2:
        table['x'][0] = rng.choice([np.nan, np.inf, 1e300])
    if rng.uniform() < 0.5:
        table['flux'] = rng.choice([-10.0, 0.0, 1.0, 1e3, 1e7, np.nan], n)
    if rng.uniform() < 0.6:
        table['group_id'] = rng.integers(1, 4, n)
    if rng.uniform() < 0.2:
        table['local_bkg'] = rng.choice([0.0, 1.0, np.nan, -1.0], n)
    return table


@pytest.mark.filterwarnings('ignore:One or more fit')
@pytest.mark.filterwarnings('ignore:Input data contains unmasked')
@pytest.mark.parametrize('seed', range(10))
def test_any_small_image_and_table_make_a_table_in_order(seed):
    n_tables = 0
    for number in range(40):
        rng = np.random.default_rng([seed, number])
        data, psf = draw_image(rng), RANDOM_MODELS[rng.integers(len(RANDOM_MODELS))]()
        init = draw_stars(rng, data.shape)
        mask = rng.uniform(size=data.shape) < rng.choice([0.0, 0.1, 0.5, 1.0])
        error = rng.choice([None, 1.0]) and np.sqrt(np.nan_to_num(data) + 1.0)
        background = ['fit', 0.0, 2.0, np.full(data.shape, 1.0)][rng.integers(4)]
        phot = PoissonPSFPhotometry(
            psf, rng.choice([1, 3, 5, 7, 25], 2), background=background,
            gain=rng.choice([0.5, 1.0, 4.0]), read_noise=rng.choice([0.0, 3.0]),
            xy_bounds=[None, 0.5, (None, 1.0)][rng.integers(3)],
            centroid_prior=[None, 0.2][rng.integers(2)],
            aperture_radius=[None, 1.5][rng.integers(2)])
        try:
            table = phot(data, mask=mask, error=error, init_params=init)
        except (TypeError, ValueError):
            continue
        n_tables += 1
        assert_array_equal(table['id'], init['id'])
        assert_array_equal(table['x_init'], init['x'])
        unknown = np.zeros(len(table), dtype=bool)
        for name, column in zip(('x_0', 'y_0', 'flux'), ('x', 'y', 'flux')):
            unknown |= ~np.isfinite(table[f'{column}_fit'])
            if not psf.fixed[name]:
                unknown |= ~np.isfinite(table[f'{column}_err'])
        assert np.all(table['flags'][unknown] != 0)
    assert n_tables > 30


@pytest.mark.filterwarnings('ignore:flux should be the total flux')
@pytest.mark.parametrize('group_id', [[1, 2, 1], [1, 2, 3]])
def test_wings_below_zero_without_a_background_are_flagged(group_id):
    image = filled(0.0).data.copy()
    image[:8] -= 1e-3
    psf = ImagePSF(image, oversampling=4)
    init = QTable({'x': [10.0, 30.0, 12.5], 'y': [12.0, 20.0, 12.0], 'group_id': group_id})
    light = sum(psf.evaluate(X, Y, 1000.0, x, y) for x, y in zip(init['x'], init['y']))
    rng = np.random.default_rng(4)
    # Expected counts below zero have no likelihood: the fit is none, and must not look like one.
    with pytest.warns(AstropyUserWarning, match='may not have converged'):
        table = measure(rng.poisson(np.maximum(light, 0.0)), init, psf=psf, fit_shape=11,
                        background=0.0)
    assert np.all(table['flags'] & 8)
    for background in ('fit', 5.0):
        data = rng.poisson(light + 5.0) - (background != 'fit') * 5.0
        table = measure(data, init, psf=psf, fit_shape=11, background=background)
        assert not np.any(table['flags'] & 8)
        if group_id == [1, 2, 1]:
            assert np.all(np.abs(table['flux_fit'] - 1000.0) < 4 * table['flux_err'])
