# Licensed under a 3-clause BSD style license - see LICENSE
"""PSF photometry of an image: photutils' table, with the numbers of the likelihood."""

import pickle
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import NDData, StdDevUncertainty, VarianceUncertainty
from astropy.table import QTable, Table
from astropy.utils.exceptions import AstropyUserWarning
from numpy.testing import assert_allclose, assert_array_equal
from photutils.detection import DAOStarFinder
from photutils.psf import (
    CircularGaussianPRF,
    CircularGaussianPSF,
    GaussianPSF,
    GriddedPSFModel,
    ImagePSF,
    MoffatPSF,
    PSFPhotometry,
    SourceGrouper,
    make_psf_model,
)

from kpsf import (
    CentroidPrior,
    EllipticalGaussianPSF,
    PoissonLikelihoodFitter,
    PoissonPSFPhotometry,
    TabulatedPRF,
)
from kpsf.photometry.photometry import _of_own_class
from kpsf.priors import GaussianPrior
from kpsf.stamps.boxes import Boxes

SHAPE = (48, 52)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]]
BACKGROUND = 4.0
PSF = CircularGaussianPRF(fwhm=2.0)
TRUTH = {'x': np.array([10.2, 12.6, 35.1, 37.9, 20.3, 50.6]),
         'y': np.array([11.1, 11.9, 15.0, 15.3, 36.8, 30.2]),
         'flux': np.array([2000.0, 1500.0, 3000.0, 1200.0, 2500.0, 1800.0])}
GROUPS = [1, 1, 4, 4, 2, 3]


def samples(fwhm, y_fwhm=None):
    """Return an image at four samples per pixel, of flux 1 on the pixels."""
    y, x = np.mgrid[:61, :61]
    return GaussianPSF().evaluate(x, y, 16.0, 30.0, 30.0, 4 * fwhm, 4 * (y_fwhm or fwhm), 0.0)


def free_gaussian():
    psf = GaussianPSF(x_fwhm=2.2, y_fwhm=2.6, theta=20.0)
    psf.x_fwhm.fixed = psf.y_fwhm.fixed = False
    return psf


def gridded():
    meta = {'grid_xypos': [(0, 0), (0, 47), (51, 0), (51, 47)], 'oversampling': 4}
    return GriddedPSFModel(NDData(np.array([samples(2.0 + 0.2 * i) for i in range(4)]),
                                  meta=meta))


@cache
def compound_psf():
    psf = make_psf_model(CircularGaussianPSF(fwhm=2.4), x_name='x_0', y_name='y_0')
    for name in psf.param_names:
        getattr(psf, name).fixed = name not in (psf.x_name, psf.y_name, psf.flux_name)
    return psf


def compound():
    return deepcopy(compound_psf())


MODELS = {
    'prf': lambda: CircularGaussianPRF(fwhm=2.0), 'shape free': free_gaussian,
    'image': lambda: ImagePSF(samples(2.2, 2.6), oversampling=4), 'grid': gridded,
    'moffat': lambda: MoffatPSF(alpha=1.8, beta=2.5),
    'tabulated': lambda: TabulatedPRF(samples(2.2, 2.6), 0.25),
    'elliptical': lambda: EllipticalGaussianPSF(a=0.5, b=0.05, c=0.4),
    'compound': compound}


def expected_counts(psf=PSF, background=BACKGROUND):
    """Return the image that the stars are drawn from."""
    model, image = psf.copy(), np.full(SHAPE, background)
    names = [getattr(psf, f'{axis}_name', name)
             for axis, name in (('x', 'x_0'), ('y', 'y_0'), ('flux', 'flux'))]
    for values in zip(*TRUTH.values()):
        for name, value in zip(names, values):
            setattr(model, name, value)
        image = image + model(X, Y)
    return image


def draw(psf=PSF, seed=3):
    """Return counts."""
    return np.random.default_rng(seed).poisson(expected_counts(psf)).astype(float)


def start(*, grouped=True, **columns):
    """Return a table of starting values beside the truth."""
    rng = np.random.default_rng(8)
    table = QTable({name: values + rng.normal(0, 0.05, 6) for name, values in TRUTH.items()})
    table['flux'] = 0.9 * table['flux']
    if grouped:
        table['group_id'] = GROUPS
    for name, values in columns.items():
        table[name] = values
    return table


def by_photutils(psf, data, init, *, fit_shape=(9, 9), error=None, mask=None, options=None,
                 **fitter):
    """Return the table of photutils with the fitter of kpsf."""
    # photutils 3.0 confuses grouped fits of two models of one class.
    phot = PSFPhotometry(_of_own_class(psf), fit_shape, fitter=PoissonLikelihoodFitter(**fitter),
                         **options or {})
    return phot(data, mask=mask, error=error, init_params=init)


def assert_same(table, expected, tolerance=1e-3):
    """Check that tables have the same fits within a thousandth of their errors."""
    for name in ('x', 'y', 'flux'):
        error = expected[f'{name}_err']
        error = np.where(error > 0, error, 1e-12)
        away = np.abs(table[f'{name}_fit'] - expected[f'{name}_fit']) / error
        assert np.all((away < tolerance) | ~np.isfinite(expected[f'{name}_fit']))
        assert_array_equal(np.isnan(table[f'{name}_fit']), np.isnan(expected[f'{name}_fit']))
        assert_allclose(table[f'{name}_err'], expected[f'{name}_err'], rtol=2e-3)


PHOTUTILS_COLUMNS = [
    'id', 'group_id', 'group_size', 'local_bkg', 'x_init', 'y_init', 'flux_init', 'x_fit', 'y_fit',
    'flux_fit', 'x_err', 'y_err', 'flux_err', 'n_pixels_fit', 'qfit', 'cfit', 'reduced_chi2']


@pytest.mark.parametrize('background', ['fit', BACKGROUND], ids=['fitted', 'known'])
@pytest.mark.parametrize('grouped', [False, True], ids=['alone', 'grouped'])
@pytest.mark.parametrize('name', list(MODELS))
def test_the_table_is_that_of_photutils(name, grouped, background):
    psf = MODELS[name]()
    if name == 'elliptical':
        for other in 'abc':
            getattr(psf, other).fixed = True
    data = draw(psf) - (background if background != 'fit' else 0.0)
    error, init = np.sqrt(expected_counts(psf)), start(grouped=grouped)
    if not grouped:
        # In the box of one of a pair there are two stars: that is no good test of a fit.
        init = init[[4, 5]]
    expected = by_photutils(psf, data, init, error=error, background=background)
    table = PoissonPSFPhotometry(psf, (9, 9), background=background)(
        data, error=error, init_params=init)
    shared = [column for column in table.colnames if column in expected.colnames]
    assert shared == expected.colnames
    # photutils sorts groups, and then rows by id: as they were.
    for column in ('id', 'group_id', 'group_size', 'local_bkg', 'x_init', 'y_init', 'flux_init',
                   'n_pixels_fit', 'flags'):
        assert_array_equal(table[column], expected[column])
    assert_same(table, expected)
    for column in ('qfit', 'cfit', 'reduced_chi2'):
        assert_allclose(table[column], expected[column], rtol=5e-3, atol=2e-5)
    for column in (c for c in table.colnames if c.endswith('_fit') and c in expected.colnames):
        assert np.isfinite(table[column]).all()
    if name == 'shape free':
        for column in ('x_fwhm', 'y_fwhm'):
            away = np.abs(table[f'{column}_fit'] - expected[f'{column}_fit'])
            assert np.all(away < 1e-3 * expected[f'{column}_err'])
            assert_array_equal(table[f'{column}_init'], expected[f'{column}_init'])
    assert np.all(np.abs(table['flux_fit'] - TRUTH['flux'][-len(init):]) < 5 * table['flux_err'])


def test_the_columns_are_those_of_photutils_and_four_more():
    table = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=start())
    assert table.colnames == [*PHOTUTILS_COLUMNS, 'cstat', 'gof_z', 'background_fit',
                              'background_err', 'flags']
    known = PoissonPSFPhotometry(PSF, 9, background=BACKGROUND)(draw(), init_params=start())
    assert known.colnames == table.colnames
    assert np.isnan(known['background_fit']).all()
    assert np.isnan(known['background_err']).all()
    assert np.isnan(table['reduced_chi2']).all()
    assert_allclose(table['background_fit'], BACKGROUND, atol=1.0)


@pytest.mark.parametrize('grouped', [False, True])
def test_flags_are_those_of_photutils(grouped):
    data, bad = draw(), np.zeros(SHAPE, dtype=bool)
    bad[20:31, 20:31] = bad[37:39, 20] = bad[:9, 36:50] = True
    bad[3, 40] = bad[4, 41] = False
    # Two that are right, one whose box is masked, two of 79 and of 2 pixels, outside, nowhere,
    # without a flux, inside and outside, at the edge, and a pair.
    init = QTable({
        'x': [35.1, 37.9, 25.0, 20.3, 40.0, -40.0, np.nan, 30.0, 900.0, 50.6, 10.2, 12.6],
        'y': [15.0, 15.3, 25.0, 36.8, 4.0, 5.0, 5.0, 40.0, 900.0, 30.2, 11.1, 11.9],
        'flux': [3000.0, 1200.0, 90.0, 2500.0, 90.0, 90.0, 90.0, np.nan, np.nan, 1800.0, 2000.0,
                 1500.0],
        'local_bkg': [0.0, np.nan, 0.0, 0.0, 0.0, 0.0, np.nan, 0.0, 0.0, np.inf, 0.0, 0.0],
        'group_id': [1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5]})
    if not grouped:
        init = init[[2, 3, 4, 5, 6, 7, 8, 9]]
        init.remove_column('group_id')
    expected = by_photutils(PSF, data, init, mask=bad, background='fit')
    table = PoissonPSFPhotometry(PSF, 9)(data, mask=bad, init_params=init)
    for column in ('n_pixels_fit', 'group_id', 'group_size', 'flags'):
        assert_array_equal(table[column], expected[column])
    for column in ('flux_fit', 'flux_err', 'qfit', 'cfit'):
        assert_array_equal(np.isnan(table[column]), np.isnan(expected[column]))
    assert len(set(table['flags'])) == (9 if grouped else 7)


@pytest.mark.parametrize('bounds', [0.05, (None, 0.02), (0.05, None), (5.0, 5.0)])
def test_positions_at_their_bounds_are_flagged_as_by_photutils(bounds):
    init = start(grouped=False)[4:]
    init['x'], init['y'] = TRUTH['x'][4:] + 0.3, TRUTH['y'][4:] - 0.2
    expected = by_photutils(PSF, draw(), init, background='fit', options={'xy_bounds': bounds})
    table = PoissonPSFPhotometry(PSF, 9, xy_bounds=bounds)(draw(), init_params=init)
    assert_array_equal(table['flags'], expected['flags'])
    assert_array_equal(table['flags'] & 32, 0 if bounds == (5.0, 5.0) else 32)
    # photutils 3.0 forgets the bounds of groups before it makes flags; they are as near to them.
    init['group_id'] = 1
    grouped = PoissonPSFPhotometry(PSF, 9, xy_bounds=bounds)(draw(), init_params=init)
    assert_array_equal(grouped['flags'], table['flags'])


def test_groups_that_are_not_given_are_numbered_as_the_stars():
    init = start(grouped=False, id=[11, 12, 31, 32, 50, 70])
    expected = by_photutils(PSF, draw(), init[4:], background='fit')
    table = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=init[4:])
    for column in ('id', 'group_id', 'group_size', 'flags'):
        assert_array_equal(table[column], expected[column])


def test_rows_keep_their_order():
    order = np.array([4, 0, 5, 3, 1, 2])
    init = start(id=[7, 3, 9, 1, 20, 2])
    table = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=init)
    shuffled = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=init[order])
    assert_array_equal(table['id'], init['id'])
    assert_array_equal(shuffled['id'], init['id'][order])
    for column in ('x_fit', 'flux_fit', 'flux_err', 'gof_z', 'background_fit'):
        assert_allclose(shuffled[column], table[column][order], rtol=1e-6)


@pytest.mark.parametrize('ending', [
    '{}_init', '{}init', '{}', '{}_0', '{}0', '{}centroid', '{}_centroid', '{}_peak', '{}cen',
    '{}_cen', '{}pos', '{}_pos', '{}_fit', '{}fit'])
def test_positions_have_any_name_that_photutils_knows(ending):
    expected = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=start())
    init = start()
    for axis in 'xy':
        init.rename_column(axis, ending.format(axis))
    table = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=init)
    assert_array_equal(table['x_init'], start()['x'])
    assert_array_equal(table['flux_fit'], expected['flux_fit'])
    assert_array_equal(by_photutils(PSF, draw(), init, background='fit')['x_init'],
                       table['x_init'])


@pytest.mark.parametrize('name', ['flux_init', 'fluxinit', 'flux', 'flux_0', 'flux0', 'flux_fit',
                                  'fluxfit', 'source_sum', 'segment_flux', 'kron_flux'])
def test_fluxes_have_any_name_that_photutils_knows(name):
    init = start()
    init.rename_column('flux', name)
    table = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=init)
    assert_array_equal(table['flux_init'], init[name])


def test_the_first_of_several_names_is_taken():
    init = start(x_init=start()['x'], x_fit=np.zeros(6), flux_fit=np.full(6, -1.0))
    init['x'] = 0.0
    table = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=init)
    expected = by_photutils(PSF, draw(), init, background='fit')
    for column in ('x_init', 'flux_init'):
        assert_array_equal(table[column], expected[column])


@pytest.mark.parametrize('ending', ['{}_init', '{}', '{}_fit'])
def test_other_parameters_start_where_a_column_says(ending):
    psf = CircularGaussianPRF(fwhm=3.0)
    psf.fwhm.fixed = False
    widths = np.linspace(1.8, 2.2, 6)
    init = start(**{ending.format('fwhm'): widths})
    table = PoissonPSFPhotometry(psf, 9)(draw(), init_params=init)
    assert_array_equal(table['fwhm_init'], widths)
    assert np.all(np.abs(table['fwhm_fit'] - 2.0) < 5 * table['fwhm_err'])
    assert_array_equal(PoissonPSFPhotometry(psf, 9)(draw(), init_params=start())['fwhm_init'], 3.0)


def test_fluxes_need_not_be_given():
    expected = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=start())
    init = start()
    init.remove_column('flux')
    for options in ({}, {'aperture_radius': 2.0}):
        table = PoissonPSFPhotometry(PSF, 9, **options)(draw(), init_params=init)
        assert_same(table, expected)
        assert np.isnan(table['flux_init']).all() == (not options)
    assert_allclose(table['flux_init'][4], TRUTH['flux'][4], rtol=0.5)


def test_finder_and_grouper_of_photutils():
    data = draw()
    finder, grouper = DAOStarFinder(30.0, 2.0, min_separation=1.0), SourceGrouper(5.0)
    phot = PoissonPSFPhotometry(PSF, 9, finder=finder, grouper=grouper)
    table = phot(data)
    expected = by_photutils(PSF, data, None, background='fit', options={
        'finder': finder, 'grouper': grouper, 'aperture_radius': 2.0})
    # The fainter of one pair is not found.
    assert len(table) == len(phot.finder_results) == 5
    for column in ('id', 'group_id', 'group_size', 'x_init', 'flags'):
        assert_array_equal(table[column], expected[column])
    assert_same(table, expected)
    assert_array_equal(np.sort(table['group_size']), [1, 1, 1, 2, 2])


def test_a_finder_sees_no_masked_pixels():
    data, mask = draw(), np.zeros(SHAPE, dtype=bool)
    mask[30:44, 14:27] = True
    data[37, 20] = np.nan
    phot = PoissonPSFPhotometry(PSF, 9, finder=DAOStarFinder(30.0, 2.0, min_separation=1.0))
    table = phot(data, mask=mask)
    assert len(table) == 4
    assert np.isfinite(table['flux_fit']).all()


def test_groups_of_a_table_come_before_a_grouper():
    def grouper(x, y):
        raise AssertionError('asked')

    table = PoissonPSFPhotometry(PSF, 9, grouper=grouper)(draw(), init_params=start())
    assert_array_equal(table['group_id'], GROUPS)


# Backgrounds.

@pytest.mark.parametrize('grouped', [False, True])
def test_every_way_to_say_a_background_is_the_same(grouped):
    data, init = draw() - BACKGROUND, start(grouped=grouped)
    error = np.full(SHAPE, np.sqrt(BACKGROUND))
    expected = PoissonPSFPhotometry(PSF, 9, background=BACKGROUND)(
        data, error=error, init_params=init)
    for background in (np.full(SHAPE, BACKGROUND), lambda x, y: BACKGROUND + 0.0 * x, 'error',
                       int(BACKGROUND), np.float32(BACKGROUND)):
        table = PoissonPSFPhotometry(PSF, 9, background=background)(
            data, error=error, init_params=init)
        for column in ('x_fit', 'flux_fit', 'flux_err', 'cstat', 'gof_z', 'reduced_chi2', 'qfit'):
            assert_allclose(table[column], expected[column], rtol=1e-6)


@pytest.mark.parametrize('grouped', [False, True])
def test_a_local_background_is_one_that_the_data_still_contain(grouped):
    init, known = start(grouped=grouped), start(grouped=grouped, local_bkg=np.full(6, BACKGROUND))
    expected = PoissonPSFPhotometry(PSF, 9, background=BACKGROUND)(
        draw() - BACKGROUND, init_params=init)
    nothing_subtracted = PoissonPSFPhotometry(PSF, 9, background=0)(draw(), init_params=known)
    half = PoissonPSFPhotometry(PSF, 9, background=1.0)(
        draw() - 1.0, init_params=start(grouped=grouped, local_bkg=np.full(6, BACKGROUND - 1.0)))
    for table in (nothing_subtracted, half):
        for column in ('x_fit', 'flux_fit', 'flux_err', 'gof_z'):
            assert_allclose(table[column], expected[column], rtol=1e-6)
    assert_array_equal(nothing_subtracted['local_bkg'], BACKGROUND)
    # What is left is fitted.
    free = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=init)
    rest = PoissonPSFPhotometry(PSF, 9)(
        draw(), init_params=start(grouped=grouped, local_bkg=np.full(6, 1.5)))
    assert_same(rest, free)
    assert_allclose(rest['background_fit'], free['background_fit'] - 1.5, atol=1e-3)


def test_a_group_has_one_background_and_a_mean_local_one():
    table, same = (
        PoissonPSFPhotometry(PSF, 9, background=0.0)(
            draw(), init_params=start(local_bkg=[*own, 4.0, 4.0, 4.0, 4.0]))
        for own in ((3.0, 6.0), (4.5, 4.5)))
    assert_allclose(table['flux_fit'], same['flux_fit'], rtol=1e-9)
    fitted = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=start())
    for column in ('background_fit', 'background_err', 'cstat', 'gof_z'):
        assert fitted[column][0] == fitted[column][1]
        assert fitted[column][0] != fitted[column][2]


# Units, NDData, gain.

@pytest.mark.parametrize('grouped', [False, True])
def test_units_are_those_of_the_data(grouped):
    data, error = draw(), np.sqrt(draw() + 1)
    plain = start(grouped=grouped, local_bkg=np.full(6, 1.0))
    expected = PoissonPSFPhotometry(PSF, 9)(data, error=error, init_params=plain)
    init = plain.copy()
    init['flux'], init['local_bkg'] = 1e3 * init['flux'] * u.mJy, 1e-3 * init['local_bkg'] * u.kJy
    init['x'] = init['x'] * u.pix
    table = PoissonPSFPhotometry(PSF, 9, gain=1)(
        data * u.Jy, error=error * u.Jy, init_params=init)
    for name in ('flux_init', 'flux_fit', 'flux_err', 'local_bkg', 'background_fit',
                 'background_err'):
        assert table[name].unit == u.Jy
        assert_allclose(table[name].value, expected[name], rtol=1e-7)
    for name in ('x_init', 'x_fit', 'qfit', 'cfit', 'reduced_chi2', 'cstat', 'flags'):
        assert getattr(table[name], 'unit', None) is None
        assert_allclose(table[name], expected[name], rtol=1e-6)


@pytest.mark.parametrize('background', [
    BACKGROUND * u.Jy, 1e3 * BACKGROUND * u.mJy, np.full(SHAPE, BACKGROUND) * u.Jy,
    lambda x, y: (BACKGROUND + 0.0 * x) * u.Jy, 'error'],
    ids=['number', 'other unit', 'map', 'function', 'error'])
def test_a_background_has_the_unit_of_the_data(background):
    data = draw() - BACKGROUND
    expected = PoissonPSFPhotometry(PSF, 9, background=BACKGROUND)(data, init_params=start())
    init = start(flux=start()['flux'] * u.Jy)
    table = PoissonPSFPhotometry(PSF, 9, background=background, gain=1)(
        data * u.Jy, error=np.full(SHAPE, BACKGROUND**0.5) * u.Jy, init_params=init)
    assert_allclose(table['flux_fit'].value, expected['flux_fit'], rtol=1e-6)
    # No background needs no unit.
    none = PoissonPSFPhotometry(PSF, 9, background=0, gain=1)(
        draw() * u.Jy, init_params=init)
    assert none['flux_fit'].unit == u.Jy


@pytest.mark.parametrize('unit', [u.adu, u.electron / u.s, 1000 * u.electron, u.Jy])
def test_units_that_are_not_electrons_need_a_gain(unit):
    unit = u.Unit(unit)
    init = start(flux=start()['flux'] * unit)
    with pytest.warns(AstropyUserWarning, match='the data are in .* and gain= is not given: pass '
                      'the electrons per .* taken to be 1') as caught:
        PoissonPSFPhotometry(PSF, 9)(draw() * unit, init_params=init)
    assert len(caught) == 1
    PoissonPSFPhotometry(PSF, 9, gain=1)(draw() * unit, init_params=init)


@pytest.mark.parametrize('unit', [u.electron, u.ph, u.ct, u.electron / u.pix, u.Unit('')])
def test_electrons_and_counts_need_no_gain(unit):
    phot = PoissonPSFPhotometry(PSF, 9)
    assert phot.gain == 1.0
    table = phot(draw() * unit, init_params=start(flux=start()['flux'] * unit))
    assert table['flux_fit'].unit == unit


@pytest.mark.parametrize('unit', [None, u.electron, u.dimensionless_unscaled])
@pytest.mark.parametrize('kind', [StdDevUncertainty, VarianceUncertainty])
def test_nddata_bring_mask_error_and_unit(unit, kind):
    data, error, mask = draw(), np.sqrt(draw() + 1), np.zeros(SHAPE, dtype=bool)
    mask[10, 10] = True
    expected = PoissonPSFPhotometry(PSF, 9)(data, error=error, mask=mask, init_params=start())
    uncertainty = kind(error if kind is StdDevUncertainty else error**2)
    init = start() if unit is None else start(flux=start()['flux'] * unit)
    nddata = NDData(data, mask=mask, uncertainty=uncertainty, unit=unit)
    table = PoissonPSFPhotometry(PSF, 9)(nddata, init_params=init)
    assert getattr(table['flux_fit'], 'unit', None) == unit
    for name in ('x_fit', 'flux_fit', 'flux_err', 'reduced_chi2', 'n_pixels_fit', 'flags'):
        values = getattr(table[name], 'value', table[name])
        assert_allclose(values, expected[name], rtol=1e-7)


def test_nddata_with_an_error_in_another_unit():
    error = np.sqrt(draw() + 1)
    expected = PoissonPSFPhotometry(PSF, 9)(draw(), error=error, init_params=start())
    nddata = NDData(draw(), uncertainty=StdDevUncertainty(1e3 * error, unit=u.mJy), unit=u.Jy)
    table = PoissonPSFPhotometry(PSF, 9, gain=1)(
        nddata, init_params=start(flux=start()['flux'] * u.Jy))
    assert_allclose(table['reduced_chi2'], expected['reduced_chi2'], rtol=1e-7)


@pytest.mark.parametrize('background', ['fit', BACKGROUND])
@pytest.mark.parametrize('grouped', [False, True])
def test_a_gain_turns_adu_into_electrons(grouped, background):
    gain, subtracted = 3.7, background if background != 'fit' else 0.0
    expected = PoissonPSFPhotometry(PSF, 9, background=background)(
        draw() - subtracted, init_params=start(grouped=grouped), error=np.sqrt(draw() + 1))
    init = start(grouped=grouped, flux=start()['flux'] / gain)
    table = PoissonPSFPhotometry(
        PSF, 9, background=background if background == 'fit' else background / gain, gain=gain)(
        (draw() - subtracted) / gain, init_params=init, error=np.sqrt(draw() + 1) / gain)
    for name in ('flux_fit', 'flux_err', 'background_fit'):
        assert_allclose(gain * table[name], expected[name], rtol=1e-6)
    for name in ('x_fit', 'x_err', 'cstat', 'gof_z', 'qfit', 'cfit', 'reduced_chi2', 'flags'):
        assert_allclose(table[name], expected[name], rtol=1e-6)


@pytest.mark.parametrize('grouped', [False, True])
def test_read_noise_is_in_the_errors(grouped):
    read_noise, pulls, gof_z = 6.0, [], []
    for seed in range(60):
        rng = np.random.default_rng([2, seed])
        data = draw(seed=seed) + rng.normal(0, read_noise, SHAPE)
        table = PoissonPSFPhotometry(PSF, 9, read_noise=read_noise)(
            data, init_params=start(grouped=grouped))
        rows = slice(0, 6) if grouped else slice(4, 6)
        pulls.append(((table['flux_fit'] - TRUTH['flux']) / table['flux_err'])[rows])
        # Of each fit once.
        gof_z.extend(table['gof_z'][[0, 2, 4, 5] if grouped else [4, 5]])
    pulls = np.array(pulls)
    assert abs(np.mean(gof_z)) < 4 / np.sqrt(len(gof_z))
    assert abs(np.std(gof_z) - 1) < 4 / np.sqrt(2 * len(gof_z))
    assert abs(pulls.mean()) < 4 / np.sqrt(pulls.size)
    assert abs(pulls.std() - 1) < 4 / np.sqrt(2 * pulls.size)
    quiet = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=start(grouped=grouped))
    assert np.all(table['flux_err'] > 1.02 * quiet['flux_err'])


# What is known about positions.

@pytest.mark.parametrize('grouped', [False, True])
def test_positions_stay_within_their_bounds(grouped):
    init = start(grouped=grouped)
    init['x'] = init['x'] + 0.4
    for bounds, x_reach, y_reach in ((0.2, 0.2, 0.2), ((0.1, None), 0.1, 4.5),
                                     ((None, 0.3), 4.5, 0.3)):
        table = PoissonPSFPhotometry(PSF, 9, xy_bounds=bounds)(draw(), init_params=init)
        assert np.all(np.abs(table['x_fit'] - init['x']) <= x_reach + 1e-12)
        assert np.all(np.abs(table['y_fit'] - init['y']) <= y_reach + 1e-12)
        assert_array_equal(table['flags'][4:] & 32, 32 * (x_reach < 0.4))


@pytest.mark.parametrize('gain', [1.0, 4.0])
@pytest.mark.parametrize('grouped', [False, True])
def test_bounds_of_the_model_are_kept_and_flagged(grouped, gain):
    psf = CircularGaussianPRF(fwhm=2.3)
    psf.fwhm.fixed, psf.fwhm.bounds = False, (2.2, 3.0)
    init = start(grouped=grouped)
    table = PoissonPSFPhotometry(psf, 9, gain=gain)(draw() / gain, init_params=init)
    rows = slice(0, 6) if grouped else slice(4, 6)
    assert_array_equal(table['fwhm_fit'][rows], 2.2)
    assert_array_equal(table['flags'][rows] & 32, 32)
    psf = CircularGaussianPRF(fwhm=2.0)
    psf.flux.bounds = (1600.0 / gain, 2100.0 / gain)
    table = PoissonPSFPhotometry(psf, 9, gain=gain)(draw() / gain, init_params=init)
    assert_allclose(table['flux_fit'][4] * gain, 2100.0)
    assert_array_equal(table['flags'][4:] & 32, [32, 0])


@pytest.mark.parametrize('grouped', [False, True])
def test_a_centroid_prior_pulls_positions(grouped):
    init = start(grouped=grouped)
    init['x'] = init['x'] + 0.5
    free = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=init)
    number, tight, own = (
        PoissonPSFPhotometry(PSF, 9, centroid_prior=prior)(draw(), init_params=init)
        for prior in (0.05, CentroidPrior(1e-5),
                      CentroidPrior((1e-5, 1e3), x=TRUTH['x'], y=TRUTH['y'])))
    rows = slice(0, 6) if grouped else slice(4, 6)
    # Posterior: the weighted mean of fit and prior, where both are about as wide.
    for table, stddev, centre in ((number, 0.05, init['x']), (tight, 1e-5, init['x']),
                                  (own, 1e-5, TRUTH['x'])):
        assert np.all(np.abs(table['x_fit'] - centre)[rows]
                      <= np.abs(free['x_fit'] - centre)[rows] + 1e-6)
        assert np.all(table['x_err'][rows] < np.minimum(free['x_err'][rows], stddev) + 1e-12)
    assert_allclose(tight['x_fit'], init['x'], atol=1e-4)
    assert_allclose(own['x_fit'], TRUTH['x'], atol=1e-4)
    assert_allclose(own['y_fit'][rows], free['y_fit'][rows], atol=0.05)
    assert np.all(np.abs(number['x_fit'][4:] - init['x'][4:]) > 0.05)


@pytest.mark.parametrize('grouped', [False, True])
@pytest.mark.parametrize('gain', [1.0, 4.0])
def test_priors_of_the_model_are_read(grouped, gain):
    psf = CircularGaussianPRF(fwhm=2.0)
    psf.fwhm.fixed = False
    psf.fwhm.prior, psf.flux.prior = GaussianPrior(2.3, 1e-6), GaussianPrior(1234.5, 1e-4)
    table = PoissonPSFPhotometry(psf, 9, gain=gain)(draw() / gain,
                                                    init_params=start(grouped=grouped))
    assert_allclose(table['fwhm_fit'], 2.3, atol=1e-4)
    assert_allclose(table['flux_fit'], 1234.5, atol=1e-2)
    assert_allclose(table['flux_err'], 1e-4, rtol=1e-3)


@pytest.mark.parametrize('background', ['fit', BACKGROUND])
@pytest.mark.parametrize('grouped', [False, True])
def test_fixed_positions_are_forced_photometry(grouped, background):
    psf = CircularGaussianPRF(fwhm=2.0)
    psf.x_0.fixed = psf.y_0.fixed = True
    data = draw() - (background if background != 'fit' else 0.0)
    init = start(grouped=grouped, x=TRUTH['x'], y=TRUTH['y'])
    if not grouped:
        init = init[4:]
    table = PoissonPSFPhotometry(psf, 9, background=background)(data, init_params=init)
    expected = by_photutils(psf, data, init, background=background)
    for column in ('x', 'y'):
        assert_array_equal(table[f'{column}_fit'], init[column])
        assert np.isnan(table[f'{column}_err']).all()
        assert np.isnan(expected[f'{column}_err']).all()
    assert_allclose(table['flux_fit'], expected['flux_fit'], rtol=1e-4)
    assert_allclose(table['flux_err'], expected['flux_err'], rtol=1e-3)
    assert_array_equal(table['flags'], expected['flags'])
    free = PoissonPSFPhotometry(PSF, 9, background=background)(data, init_params=init)
    assert np.all(table['flux_err'] < 1.00001 * free['flux_err'])
    assert np.any(table['flux_err'] < 0.97 * free['flux_err'])


@pytest.mark.parametrize('background', ['fit', BACKGROUND])
@pytest.mark.parametrize('grouped', [False, True])
def test_everything_fixed_is_compared_with_the_data(grouped, background):
    psf = CircularGaussianPRF(fwhm=2.0, flux=1500.0)
    psf.x_0.fixed = psf.y_0.fixed = psf.flux.fixed = True
    data = draw() - (background if background != 'fit' else 0.0)
    init = start(grouped=grouped)
    table = PoissonPSFPhotometry(psf, 9, background=background)(data, init_params=init)
    assert_array_equal(table['flux_fit'], init['flux'])
    assert np.isnan(table['flux_err']).all()
    assert np.isfinite(table['cstat']).all()
    assert not np.any(table['flags'] & ~1)
    # Without a column, the flux is the model's.
    init.remove_column('flux')
    table = PoissonPSFPhotometry(psf, 9, background=background)(data, init_params=init)
    assert_array_equal(table['flux_fit'], 1500.0)


def test_what_is_fixed_may_change_between_calls():
    phot = PoissonPSFPhotometry(CircularGaussianPRF(fwhm=2.1), 9)
    assert 'fwhm_fit' not in phot(draw(), init_params=start()).colnames
    phot.psf_model.fwhm.fixed = False
    table = phot(draw(), init_params=start())
    for column in ('fwhm_init', 'fwhm_fit', 'fwhm_err'):
        assert np.isfinite(table[column]).all()
    assert 'fwhm_init' in phot.results_to_init_params().colnames


def test_masked_pixels_do_not_count():
    data, mask = draw(), np.zeros(SHAPE, dtype=bool)
    mask[11, 12] = mask[36, 21] = True
    table = PoissonPSFPhotometry(PSF, 9)(data, mask=mask, init_params=start())
    wrong = data.copy()
    wrong[mask] = 1e6
    same = PoissonPSFPhotometry(PSF, 9)(wrong, mask=mask, init_params=start())
    assert_array_equal(table['flux_fit'], same['flux_fit'])
    assert_array_equal(table['n_pixels_fit'], [80, 80, 81, 81, 80, 45])
    assert_same(table, by_photutils(PSF, data, start(), mask=mask, background='fit'))


# What is done with results.

@pytest.fixture(name='phot')
def fixture_phot():
    phot = PoissonPSFPhotometry(PSF, 9)
    init = start()
    init.insert_row(2, {'x': -90.0, 'y': 5.0, 'flux': 9.0, 'group_id': 1})
    phot(draw(), init_params=init)
    return phot


def test_results_are_starting_values_of_the_next_call(phot):
    init = phot.results_to_init_params()
    assert init.colnames == ['id', 'x_init', 'y_init', 'flux_init']
    assert_array_equal(init['id'], [1, 2, 3, 4, 5, 6])
    kept = phot.results_to_init_params(reset_ids=False)
    assert_array_equal(kept['id'], [1, 2, 4, 5, 6, 7])
    assert len(phot.results_to_init_params(remove_invalid=False)) == 7
    init['group_id'] = GROUPS
    again = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=init)
    assert_same(again, phot.results[np.isfinite(phot.results['flux_fit'])])


def test_results_are_parameters_of_the_model():
    psf = compound()
    phot = PoissonPSFPhotometry(psf, 9)
    table = phot(draw(), init_params=start())
    params = phot.results_to_model_params()
    assert params.colnames == ['id', psf.x_name, psf.y_name, psf.flux_name]
    assert_array_equal(params[psf.flux_name], table['flux_fit'])
    image = phot.make_model_image(SHAPE, psf_shape=9)
    assert image.max() > 100


def test_the_model_image_is_the_stars_and_the_residuals_the_rest(phot):
    image = phot.make_model_image(SHAPE, psf_shape=(15, 15))
    params = phot.results[np.isfinite(phot.results['flux_fit'])]
    expected = sum(PSF.evaluate(X, Y, star['flux_fit'], star['x_fit'], star['y_fit'], 2.0)
                   for star in params)
    assert_allclose(image, expected, atol=1e-3)
    data = draw()
    assert_allclose(phot.make_residual_image(data, psf_shape=15), data - image)
    assert_array_equal(data, draw())
    # Without a size, the bounding box of the model is drawn.
    assert_allclose(phot.make_model_image(SHAPE), image, atol=1e-3)


def test_the_local_background_is_drawn_around_each_star():
    phot = PoissonPSFPhotometry(PSF, 9)
    init = start(local_bkg=[1.0] * 5 + [np.nan])
    table = phot(draw(), init_params=init)
    without = phot.make_model_image(SHAPE, psf_shape=9)
    image = phot.make_model_image(SHAPE, psf_shape=9, include_local_bkg=True)
    added = image - without
    assert_allclose(added[37, 20], 1.0 + table['background_fit'][4])
    assert added[20, 20] == 0.0
    known = PoissonPSFPhotometry(PSF, 9, background=1.0)
    known(draw() - 1.0, init_params=start(local_bkg=[3.0] * 6))
    difference = (known.make_model_image(SHAPE, psf_shape=9, include_local_bkg=True)
                  - known.make_model_image(SHAPE, psf_shape=9))
    assert_allclose(difference[37, 20], 3.0)


def test_images_have_units():
    phot = PoissonPSFPhotometry(PSF, 9, gain=1)
    phot(draw() * u.Jy, init_params=start(flux=start()['flux'] * u.Jy))
    for include in (False, True):
        image = phot.make_model_image(SHAPE, psf_shape=9, include_local_bkg=include)
        assert image.unit == u.Jy
        residual = phot.make_residual_image(draw() * u.Jy, psf_shape=9, include_local_bkg=include)
        assert residual.unit == u.Jy
        assert_allclose((image + residual).value, draw())


@pytest.mark.parametrize('unit', [None, u.Jy])
def test_residuals_of_nddata_are_nddata(unit):
    phot = PoissonPSFPhotometry(PSF, 9, gain=1)
    nddata = NDData(draw(), unit=unit, mask=np.zeros(SHAPE, dtype=bool), meta={'object': 'M 13'})
    init = start(grouped=True, flux=start()['flux'] * (unit or 1.0))
    phot(nddata, init_params=init)
    residual = phot.make_residual_image(nddata, psf_shape=9)
    assert isinstance(residual, NDData)
    assert residual.unit == unit
    assert residual.meta == {'object': 'M 13'}
    model = phot.make_model_image(SHAPE, psf_shape=9)
    assert_allclose(residual.data, draw() - getattr(model, 'value', model))
    assert_array_equal(nddata.data, draw())


def test_residuals_of_integers_are_not_rounded(phot):
    data = draw().astype(np.uint16)
    residual = phot.make_residual_image(data, psf_shape=9)
    assert_allclose(residual, phot.make_residual_image(draw(), psf_shape=9))


def test_a_model_without_a_bounding_box_needs_a_size():
    phot = PoissonPSFPhotometry(compound(), 9)
    phot(draw(), init_params=start())
    with pytest.raises(ValueError, match='model_shape must be specified'):
        phot.make_model_image(SHAPE)


def test_without_any_fitted_star_the_model_image_is_empty():
    phot = PoissonPSFPhotometry(PSF, 9)
    phot(draw(), init_params=start(x=np.full(6, -90.0)))
    assert_array_equal(phot.make_model_image(SHAPE, psf_shape=9), np.zeros(SHAPE))
    assert_array_equal(phot.make_residual_image(draw(), psf_shape=9), draw())
    assert len(phot.results_to_init_params()) == 0
    phot(draw(), init_params=start()[:0])
    assert_array_equal(phot.make_model_image(SHAPE, include_local_bkg=True), np.zeros(SHAPE))


def test_flags_are_spelled_out(phot):
    names = phot.decode_flags()
    assert names[0] == []
    assert 'no_overlap' in names[2]
    assert names[6] == ['n_pixels_fit_partial']
    assert 64 in phot.decode_flags(return_bit_values=True)[2]


def test_the_same_photometry_by_photutils():
    phot = PoissonPSFPhotometry(PSF, (9, 7), grouper=SourceGrouper(5.0), xy_bounds=1.0,
                                centroid_prior=0.1, gain=2.0, read_noise=1.0, aperture_radius=2.0)
    data, init = draw() / 2.0, start(grouped=False)
    other = phot.to_photutils(fitter_maxiters=200)
    assert isinstance(other, PSFPhotometry)
    assert other.fitter_maxiters == 200
    assert_same(phot(data, init_params=init), other(data, init_params=init), tolerance=3e-3)
    for background in (2.0, np.full(SHAPE, 2.0), lambda x, y: 2.0 + 0.0 * x):
        phot = PoissonPSFPhotometry(PSF, 9, background=background)
        assert_same(phot(draw() - 2.0, init_params=start()),
                    phot.to_photutils()(draw() - 2.0, init_params=start()))


@pytest.mark.parametrize('name', list(MODELS))
def test_every_model_goes_to_photutils(name):
    psf = MODELS[name]()
    other = PoissonPSFPhotometry(psf, 9, background=BACKGROUND).to_photutils()
    assert isinstance(other.psf_model, type(psf))
    assert type(other.psf_model) is not type(psf)
    assert other.psf_model.param_names == psf.param_names
    assert other.psf_model.fixed == psf.fixed


def test_the_options_are_shown():
    phot = PoissonPSFPhotometry(PSF, 9, background=np.ones(SHAPE), xy_bounds=2.0, gain=1.5,
                                centroid_prior=0.1, grouper=SourceGrouper(3.0))
    shown = repr(phot)
    for part in ('PoissonPSFPhotometry(psf_model=<CircularGaussianPRF(', 'fit_shape=(9, 9)',
                 'background=<array of shape (48, 52)>', 'xy_bounds=(2.0, 2.0)', 'gain=1.5',
                 'centroid_prior=CentroidPrior(stddev=(0.1, 0.1))', 'grouper=SourceGrouper('):
        assert part in shown


def test_the_table_says_how_it_was_made(phot):
    meta = phot.results.meta
    assert meta['psf_class'] == 'PoissonPSFPhotometry'
    assert meta['fit_shape'] == '(9, 9)'
    assert set(meta['version']) == {'kpsf', 'photutils', 'astropy', 'numpy'}


# As of photutils' table: FITS headers have no place for versions, nor for long keywords.
@pytest.mark.filterwarnings('ignore:Attribute `version`')
@pytest.mark.filterwarnings('ignore:Keyword name')
@pytest.mark.parametrize('unit', [None, u.Jy])
def test_the_table_survives_files(tmp_path, unit):
    phot = PoissonPSFPhotometry(PSF, 9, background=0.0, gain=1, grouper=SourceGrouper(4.0))
    data, init = draw() * (unit or 1.0), start(flux=start()['flux'] * (unit or 1.0))
    table = phot(data, init_params=init)
    table.write(tmp_path / 'stars.ecsv')
    table.write(tmp_path / 'stars.fits')
    for again in (QTable.read(tmp_path / 'stars.ecsv'), QTable.read(tmp_path / 'stars.fits'),
                  pickle.loads(pickle.dumps(table))):
        assert again.colnames == table.colnames
        for name in table.colnames:
            assert_array_equal(again[name], table[name])
            assert getattr(again[name], 'unit', None) == getattr(table[name], 'unit', None)
    # And what was read are starting values.
    again = QTable.read(tmp_path / 'stars.ecsv')
    assert_array_equal(phot(data, init_params=again)['flux_fit'], table['flux_fit'])


def test_the_photometry_can_be_pickled(phot):
    again = pickle.loads(pickle.dumps(phot))
    assert_array_equal(again.results['flux_fit'], phot.results['flux_fit'])
    assert_array_equal(again(draw(), init_params=start())['flux_fit'],
                       phot(draw(), init_params=start())['flux_fit'])


@pytest.mark.parametrize('name', list(MODELS))
def test_nothing_that_is_given_is_changed(name):
    psf, data, mask = MODELS[name](), draw(), np.zeros(SHAPE, dtype=bool)
    mask[10, 10], data[0, 0] = True, np.nan
    error, background = np.sqrt(np.nan_to_num(data) + 1), np.full(SHAPE, 1.0)
    init = start(local_bkg=np.full(6, 1.0), fwhm=np.full(6, 2.0))
    before, parameters = [v.copy() for v in (data, mask, error, background)], psf.parameters.copy()
    table = init.copy()
    phot = PoissonPSFPhotometry(psf, 9, background=background, centroid_prior=0.3)
    with pytest.warns(AstropyUserWarning, match='non-finite'):
        phot(data, mask=mask, error=error, init_params=init)
    phot.make_residual_image(data, psf_shape=9, include_local_bkg=True)
    phot.to_photutils()
    for values, old in zip((data, mask, error, background), before):
        assert_array_equal(values, old)
    assert_array_equal(psf.parameters, parameters)
    assert init.colnames == table.colnames
    for column in init.colnames:
        assert_array_equal(init[column], table[column])
    # Nor are results another view of what was given.
    phot.results['x_init'][0] = -1.0
    phot.results['group_id'][0] = 99
    assert init['x'][0] == table['x'][0]
    assert init['group_id'][0] == 1


def test_a_second_call_knows_nothing_of_the_first():
    fresh = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=start())
    phot = PoissonPSFPhotometry(PSF, 9, finder=DAOStarFinder(30.0, 2.0, min_separation=1.0))
    first = phot(draw(seed=9)[::-1] + 3.0)
    copy = first.copy()
    assert phot.finder_results is not None
    second = phot(draw(), init_params=start())
    assert phot.finder_results is None
    assert phot.results is second
    for column in fresh.colnames:
        assert_array_equal(second[column], fresh[column])
    assert_array_equal(first['flux_fit'], copy['flux_fit'])


def test_threads_and_bars_make_no_difference():
    fresh = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=start())
    table = PoissonPSFPhotometry(PSF, 9, n_threads=3, progress_bar=True)(
        draw(), init_params=start())
    for column in ('flux_fit', 'x_err', 'gof_z'):
        assert_allclose(table[column], fresh[column], rtol=1e-9)


def test_a_plain_table_does_as_well():
    table = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=Table(start()))
    assert_array_equal(table['flux_fit'],
                       PoissonPSFPhotometry(PSF, 9)(draw(), init_params=start())['flux_fit'])


def test_the_goodness_of_fit_tells_a_wrong_psf():
    right = PoissonPSFPhotometry(PSF, 9)(draw(), init_params=start())
    wrong = PoissonPSFPhotometry(CircularGaussianPRF(fwhm=3.0), 9)(draw(), init_params=start())
    assert np.all(np.abs(right['gof_z']) < 4)
    assert np.all(wrong['gof_z'] > 10)
    assert np.all(wrong['qfit'] > right['qfit'])


@pytest.mark.parametrize('grouped', [False, True])
def test_the_goodness_of_fit_knows_the_read_noise(grouped):
    rng = np.random.default_rng(12)
    y, x = (24.0 * places.ravel() + 12.0 for places in np.mgrid[:8, :8])
    rows, columns = np.mgrid[:192, :192]
    mean = 0.05 + sum(PSF.evaluate(columns, rows, 500.0, *place, 2.0) for place in zip(x, y))
    data = rng.poisson(mean) + rng.normal(0.0, 3.0, mean.shape)
    init = QTable({'x': x, 'y': y, 'group_id': np.repeat(np.arange(1, 33), 2) if grouped
                   else np.arange(1, 65)})
    table = PoissonPSFPhotometry(PSF, 15, read_noise=3.0)(data, init_params=init)
    gof_z = table['gof_z'][::1 + grouped]
    assert abs(np.mean(gof_z)) < 4 / np.sqrt(gof_z.size)
    assert abs(np.std(gof_z) - 1) < 4 / np.sqrt(2 * gof_z.size)


def test_a_star_that_was_found_does_not_walk_to_its_neighbour():
    y, x = np.mgrid[:41, :41]
    mean = 20.0 + PSF.evaluate(x, y, 60000.0, 23.0, 20.0, 2.0) + (
        PSF.evaluate(x, y, 4000.0, 19.0, 20.0, 2.0))
    counts = np.random.default_rng(1).poisson(mean)
    found = PoissonPSFPhotometry(PSF, 13)(counts)
    faint = found[np.argmin(found['x_init'])]
    assert abs(faint['x_init'] - 19.0) < 0.1
    # The bound is the FWHM that the finder measures.
    assert abs(faint['x_fit'] - faint['x_init']) < 2.3
    assert faint['flags'] & 32
    # Told where to start, it may go as far as its box reaches, and does.
    told = PoissonPSFPhotometry(PSF, 13)(counts, init_params=found['x_init', 'y_init'])
    assert told['x_fit'][np.argmin(found['x_init'])] - faint['x_init'] > 3.5
    joint = PoissonPSFPhotometry(PSF, 13, grouper=SourceGrouper(8.0))(counts)
    faint = joint[np.argmin(joint['x_init'])]
    assert not faint['flags']
    assert abs(faint['flux_fit'] - 4000.0) < 4.0 * faint['flux_err']


def test_the_union_of_boxes_is_what_they_cover():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-6, 36, (2, 12))
    boxes = Boxes.around(x, y, (5, 7), (30, 28))
    boxes = boxes.take(boxes.overlaps)
    rows, columns = np.mgrid[:30, :28]
    expected = np.zeros((30, 28), dtype=bool)
    for first_x, first_y in boxes.first:
        expected |= ((columns >= first_x) & (columns < first_x + 7)
                     & (rows >= first_y) & (rows < first_y + 5))
    assert 0 < expected.sum() < expected.size
    assert np.array_equal(boxes.union(), expected)
    assert not boxes.take(slice(0, 0)).union().any()
