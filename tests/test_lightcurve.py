# Licensed under a 3-clause BSD style license - see LICENSE
"""Light curves: what is extracted is the truth within its errors."""

import warnings
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.modeling.models import Gaussian2D
from astropy.utils.exceptions import AstropyUserWarning
from photutils.psf import CircularGaussianPRF

from kpsf import EllipticalGaussianPSF, LightCurve, extract_light_curve, read_tpf, simulate_tpf
from kpsf.batch.rows import summarize
from kpsf.flags import FitFlag
from kpsf.lightcurve import point_to_point_scatter

N_CADENCES = 400
PSF = EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 0.8, 0.65, 0.4)


def simulate(path, **options):
    """Return simulated pixels and their truth."""
    options = {'psf': PSF, 'n_cadences': N_CADENCES, 'shape': (9, 10), 'drift': 0.2, 'seed': 4,
               'stars': [(4e4, 4.3, 3.9)], **options}
    path = simulate_tpf(path, **options)
    return read_tpf(path), fits.getdata(path, 'TRUTH')


@pytest.fixture(scope='module')
def simulated(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp('pixels') / 'star.fits')


@pytest.fixture(scope='module')
def pixels(simulated):
    return simulated[0]


@pytest.fixture(scope='module')
def few(tmp_path_factory):
    """Return the pixels of twelve cadences."""
    path = tmp_path_factory.mktemp('pixels') / 'few.fits'
    return simulate(path, n_cadences=12, header={'CHANNEL': 33, 'QUARTER': 5})[0]


@pytest.fixture(scope='module')
def light_curve(few):
    return extract_light_curve(few)


def without_background(pixels):
    """Return pixels of a file that does not know its background."""
    return replace(pixels, flux=pixels.flux + pixels.background,
                   background=np.zeros_like(pixels.background), has_background=False)


def with_pixels(pixels, index, rate):
    """Return pixels with other rates, background included, in some places."""
    flux = pixels.flux.copy()
    flux[index] = rate - pixels.background[index]
    return replace(pixels, flux=flux, good_pixels=np.isfinite(flux))


@pytest.mark.parametrize(('shape', 'psf'), [('shared', 'gaussian'), ('free', 'gaussian'),
                                            ('fixed', PSF)])
def test_fluxes_and_positions_are_the_truth_within_their_errors(simulated, shape, psf):
    pixels, truth = simulated
    found = extract_light_curve(pixels, psf, shape=shape)
    assert not found['flags'].any()
    for name, column in (('flux', 'FLUX'), ('x', 'X'), ('y', 'Y')):
        pulls = (found[name].value - np.ravel(truth[column])) / found[f'{name}_err'].value
        # Four standard deviations of 400 pulls; a shared shape is wrong in all alike.
        assert abs(pulls.mean()) < 0.25
        assert 0.86 < pulls.std() < 1.14
    assert abs(found['gof_z'].mean()) < 0.5


@pytest.mark.parametrize('position', ['free', 'shared', 'known'])
def test_holding_the_position_makes_the_flux_no_worse(tmp_path, position):
    still, truth = simulate(tmp_path / 'still.fits', drift=0.0, n_cadences=100)
    place = (truth['X'][0], truth['Y']) if position == 'known' else position
    found = extract_light_curve(still, position=place)
    pulls = (found['flux'].value - np.ravel(truth['FLUX'])) / found['flux_err'].value
    assert abs(pulls.mean()) < 0.5
    assert 0.72 < pulls.std() < 1.28
    x, x_err = found['x'].value, found['x_err'].value
    if position == 'free':
        assert np.unique(x).size == 100
    else:
        assert np.unique(x).size == 1
        assert (x_err == 0).all() == (position == 'known')
        assert abs(x[0] - truth['X'][0]) <= 4 * x_err[0]
    assert found.meta['position'] == position


def test_positions_of_another_light_curve_may_be_given(few, light_curve):
    found = extract_light_curve(few, position=(light_curve['x'], light_curve['y']))
    np.testing.assert_array_equal(found['x'], light_curve['x'])
    assert found.meta['position'] == 'known'


def test_positions_may_be_given_per_cadence(simulated):
    pixels, truth = simulated
    found = extract_light_curve(pixels, position=(np.ravel(truth['X']), np.ravel(truth['Y'])))
    np.testing.assert_array_equal(found['x'].value, np.ravel(truth['X']))
    pulls = (found['flux'].value - np.ravel(truth['FLUX'])) / found['flux_err'].value
    assert 0.86 < pulls.std() < 1.14


def test_a_shared_shape_is_one_joint_fit_of_the_series(pixels):
    found = extract_light_curve(pixels)
    values, errors = found.meta['psf_parameters'], found.meta['psf_parameter_errors']
    for name in 'abc':
        assert abs(values[name] - getattr(PSF, name)) < 4 * errors[name]
    free = extract_light_curve(pixels, shape='free', background='known')
    # Of 400 independent fits the mean has an error 20 times smaller, as a joint fit has.
    assert np.isclose(errors['a'], np.mean(free['psf_a_err']) / 20, rtol=0.1)
    assert np.isclose(values['a'], np.mean(free['psf_a']), atol=3 * errors['a'])
    assert not [name for name in found.colnames if name.startswith('psf_')]


def test_a_free_shape_has_columns_of_its_own_and_costs_scatter(pixels):
    found = extract_light_curve(pixels, shape='free')
    assert found.meta['background'] == 'fit'
    assert 'psf_parameters' not in found.meta
    pulls = (found['psf_a'] - PSF.a) / found['psf_a_err']
    assert 0.86 < pulls.std() < 1.14
    shared = extract_light_curve(pixels)
    assert point_to_point_scatter(found['flux']) > 1.1 * point_to_point_scatter(shared['flux'])
    assert found['flux_err'].mean() > 1.1 * shared['flux_err'].mean()


def test_a_fixed_shape_is_that_of_the_model(few):
    wide = EllipticalGaussianPSF(1.0, 0.0, 0.0, 0.3, 0.02, 0.4)
    found = extract_light_curve(few, wide, shape='fixed')
    assert found.meta['psf_parameters'] == {'a': 0.3, 'b': 0.02, 'c': 0.4}
    assert found.meta['psf_parameter_errors'] == {'a': 0.0, 'b': 0.0, 'c': 0.0}


def test_what_is_fixed_on_the_model_stays_fixed(few):
    psf = EllipticalGaussianPSF(fixed={'b': True})
    for shape in ('shared', 'free'):
        assert extract_light_curve(few, psf, shape=shape).meta['psf_parameters']['b'] == 0.0


def test_models_of_photutils_are_fitted_too(tmp_path):
    from photutils.psf import CircularGaussianPRF

    pixels, truth = simulate(tmp_path / 'star.fits', psf=CircularGaussianPRF(fwhm=1.7),
                             n_cadences=60)
    psf = CircularGaussianPRF(fwhm=2.0)
    psf.fwhm.fixed = False
    found = extract_light_curve(pixels, psf)
    assert abs(found.meta['psf_parameters']['fwhm'] - 1.7) < 1e-3
    pulls = (found['flux'].value - np.ravel(truth['FLUX'])) / found['flux_err'].value
    assert abs(pulls.mean()) < 0.6
    assert 0.63 < pulls.std() < 1.37


def test_the_background_column_is_the_known_part_and_the_fitted_offset(few):
    # A pipeline that took a twentieth of the background for something else.
    less = replace(few, flux=few.flux + 0.05 * few.background, background=0.95 * few.background)
    found = extract_light_curve(less)
    assert found.meta['background'] == 'known'
    difference = found['background'] - 300 * u.electron / u.s
    assert (abs(difference) < 4 * found['background_err']).all()
    assert (found['background_err'] > 0).all()
    assert np.unique(found['background_err']).size == 1


def test_the_background_is_known_by_default_if_the_file_knows_it_and_the_shape_is_not_free(few):
    blind = without_background(few)
    labels = [extract_light_curve(pixels, shape=shape).meta['background']
              for pixels in (few, blind) for shape in ('shared', 'free')]
    assert labels == ['known', 'fit', 'fit', 'fit']


def test_more_than_a_tenth_of_the_background_is_not_taken_from_the_star(few):
    less = replace(few, flux=few.flux + 0.2 * few.background, background=0.8 * few.background)
    found = extract_light_curve(less)
    assert np.allclose(found['background'].value, 1.1 * 0.8 * 300, rtol=1e-6)
    assert not found['flags'].any()


def test_one_background_per_cadence_costs_scatter(pixels):
    fitted = extract_light_curve(pixels, background='fit')
    known = extract_light_curve(pixels)
    assert np.unique(fitted['background']).size == N_CADENCES
    assert fitted['flux_err'].mean() > 1.01 * known['flux_err'].mean()


def test_a_known_background_may_have_any_shape(few):
    shapes = [(), (12,), (9, 10), (12, 9, 10)]
    fluxes = [extract_light_curve(few, background=np.full(shape, 300.0))['flux']
              for shape in shapes]
    for flux in fluxes[1:]:
        np.testing.assert_allclose(flux.value, fluxes[0].value, rtol=1e-9)
    found = extract_light_curve(few, background=300.0)
    assert found.meta['background'] == 'given'
    np.testing.assert_allclose(found['background'].value, 300.0)
    np.testing.assert_array_equal(found['background_err'].value, 0.0)


def test_a_background_that_was_forgotten_is_told(few):
    rate = np.median(few.background)
    with pytest.warns(AstropyUserWarning, match=rf'has {rate:.4g} e-/s of it, which read_tpf adds '
                                                r".*, and 0 is given: pass background='known'"):
        extract_light_curve(few, background=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        extract_light_curve(few, background=0.9 * rate)
        extract_light_curve(without_background(few), background=0.0)


def test_a_known_background_may_be_missing_where_pixels_are(few):
    broken = with_pixels(few, (2, 3), np.nan)
    background = few.background.astype(float)
    background[2, 3] = np.nan
    assert not extract_light_curve(broken, background=background)['flags'].any()
    with pytest.raises(ValueError, match='A known background must be finite, but 10 of 1080'):
        extract_light_curve(few, background=background)


def test_cadences_without_pixels_are_flagged_rows_and_change_no_other(few):
    broken = with_pixels(few, (slice(3, 5),), np.nan)
    found = extract_light_curve(broken, shape='free')
    assert len(found) == 12
    np.testing.assert_array_equal(np.flatnonzero(found['flags']), [3, 4])
    assert (found['flags'][3:5] == FitFlag.TOO_FEW_PIXELS).all()
    assert (found['n_pixels'][3:5] == 0).all()
    for name in ('flux', 'flux_err', 'x', 'y_err', 'background', 'background_err', 'psf_a',
                 'cstat', 'gof_z', 'flux_fraction'):
        values = getattr(found[name], 'value', found[name])
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(values)), [3, 4], err_msg=name)
    whole = extract_light_curve(few, shape='free')
    np.testing.assert_allclose(np.delete(found['flux'].value, [3, 4]),
                               np.delete(whole['flux'].value, [3, 4]), rtol=1e-7)


def test_a_missing_pixel_shows_in_the_number_of_pixels_and_the_flux_fraction(few):
    found = extract_light_curve(with_pixels(few, (2, 4, 4), np.nan))
    assert (found['n_pixels'] == np.where(np.arange(12) == 2, 89, 90)).all()
    assert found['flux_fraction'][2] < 0.9
    assert np.delete(found['flux_fraction'], 2).min() > 0.99
    assert abs(found['flux'][2].value - 4e4) < 5 * found['flux_err'][2].value


def test_pixels_far_below_zero_are_left_out_with_a_warning(few):
    sigma = few.noise.read_variance_rate ** 0.5
    with pytest.warns(AstropyUserWarning, match=r'1 of 1080 pixels in 1 of 12 cadences .* 8 sig'):
        found = extract_light_curve(with_pixels(few, (5, 0, 0), -8.5 * sigma))
    assert found['n_pixels'][5] == 89
    assert not found['flags'].any()
    np.testing.assert_allclose(found['flux'][5].value, extract_light_curve(few)['flux'][5].value,
                               rtol=1e-3)


def test_pixels_a_little_below_zero_stay_in(few):
    sigma = few.noise.read_variance_rate ** 0.5
    found = extract_light_curve(with_pixels(few, (5, 0, 0), -7.5 * sigma))
    assert (found['n_pixels'] == 90).all()


@pytest.mark.parametrize('shape', ['shared', 'free'])
def test_a_file_without_usable_pixels_says_so(few, shape):
    with pytest.raises(ValueError, match='no cadence of KIC 100000001 has more than 0 of 90'):
        extract_light_curve(with_pixels(few, (slice(None),), np.nan), shape=shape)


def test_a_stamp_with_fewer_pixels_than_parameters_says_so(tmp_path):
    small, _ = simulate(tmp_path / 'small.fits', shape=(2, 3), stars=[(4e4, 1.0, 0.5)])
    with pytest.raises(ValueError, match='as free parameters, 7, but no cadence.* 6 of 6'):
        extract_light_curve(small, shape='free')
    assert not extract_light_curve(small, PSF, shape='fixed')['flags'].any()


def test_fits_that_follow_another_star_are_told(few):
    elsewhere = replace(few, target_position=(2.0, 3.9))
    with pytest.warns(AstropyUserWarning, match=r'\(4\.\d, 3\.9\) is more than 1\.5 pixels'):
        extract_light_curve(elsewhere)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        extract_light_curve(elsewhere, position=(4.3, 3.9))
    unknown = replace(elsewhere, meta={**few.meta, 'target_position_from': 'centre of the stamp'})
    extract_light_curve(unknown)


def test_pixels_without_a_star_are_told(tmp_path):
    empty, _ = simulate(tmp_path / 'empty.fits', stars=[(0.0, 4.3, 3.9)], n_cadences=5,
                        magnitude=20.0)
    with pytest.warns(AstropyUserWarning, match='none of 5 cadences .* has a usable fit'):
        found = extract_light_curve(empty, PSF, shape='fixed', position=(40.0, 40.0))
    assert found['flags'].all()


@pytest.mark.parametrize(('make', 'background'), [
    (lambda pixels: pixels, r'background=tpf\.background'),
    (without_background, "background='fit'")])
def test_the_remedy_for_a_blend_is_to_fit_it_and_names_a_background_that_is_there(
        few, make, background):
    with pytest.warns(AstropyUserWarning, match=r'if stars blend here.*find_stars\(tpf\) or '
                                                rf'--stars find; else hold.*{background}'):
        extract_light_curve(replace(make(few), target_position=(2.0, 3.9)))


@pytest.mark.parametrize('psf', ['gaussian', 'empirical'])
def test_fluxes_without_any_noise_are_told(few, psf):
    same = np.zeros(few.n_cadences, dtype=int)
    frozen = replace(few, **{name: getattr(few, name)[same] for name in (
        'flux', 'flux_err', 'background', 'good_pixels', 'pos_corr')})
    with pytest.warns(AstropyUserWarning, match=r'should scatter.*KIC 100000001 are constant: '
                                                'the pixels are no obs.*look') as told:
        found = extract_light_curve(frozen, psf)
    assert len(told) == 1
    assert np.isnan(found.meta.get('error_over_scatter', np.nan))
    row = summarize(frozen, found)
    assert np.isnan(row['scatter_ppm']) and np.isnan(row['error_over_scatter'])


@pytest.mark.parametrize('psf', ['gaussian', 'empirical'])
def test_a_saturated_star_is_told(tmp_path, psf):
    wide = EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 1.6, 1.4, 0.0)
    pixels, _ = simulate(tmp_path / 'star.fits', psf=wide, stars=[(4e5, 4.3, 3.9)], n_cadences=12,
                         shape=(11, 11))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        extract_light_curve(pixels, psf)
    full = replace(pixels, flux=np.minimum(pixels.flux, 0.4 * pixels.flux.max()))
    with pytest.warns(AstropyUserWarning, match=r'not full, but in the median image of KIC 1000'
                                                r'00001, \d+ pixels are within 10 %.*saturated'):
        extract_light_curve(full, psf)


def test_columns_units_and_metadata(few, light_curve):
    assert light_curve.colnames == [
        'time', 'flux', 'flux_err', 'x', 'y', 'x_err', 'y_err', 'column', 'row', 'background',
        'background_err', 'cstat', 'gof_z', 'flux_fraction', 'n_pixels', 'converged', 'cadenceno',
        'quality', 'flags']
    units = {name: light_curve[name].unit for name in light_curve.colnames[1:11]}
    rate = u.electron / u.s
    assert units == {'flux': rate, 'flux_err': rate, 'x': u.pix, 'y': u.pix, 'x_err': u.pix,
                     'y_err': u.pix, 'column': u.pix, 'row': u.pix, 'background': rate,
                     'background_err': rate}
    assert light_curve['converged'].dtype == bool
    np.testing.assert_array_equal(light_curve['time'].jd, few.time.jd)
    np.testing.assert_array_equal(light_curve['cadenceno'], few.cadenceno)
    meta = light_curve.meta
    assert meta['target'] == 'KIC 100000001'
    assert (meta['mission'], meta['channel'], meta['quarter']) == ('Kepler', 33, 5)
    assert (meta['psf'], meta['shape'], meta['covariance']) == (
        'EllipticalGaussianPSF', 'shared', 'sandwich')
    assert meta['filename'] == 'few.fits'
    assert None not in meta.values()
    assert not [name for name in meta if name.startswith('prf_')]


def test_positions_are_told_on_the_detector_too(few, light_curve):
    for name, label, corner in (('column', 'x', few.column), ('row', 'y', few.row)):
        assert light_curve.meta[name] == corner == 500
        np.testing.assert_array_equal(light_curve[name].value, corner + light_curve[label].value)
    elsewhere = replace(few, column=12, row=77)
    found = extract_light_curve(elsewhere, position=(4.25, 3.5))
    assert (found['column'].value == 16.25).all()
    assert (found['row'].value == 80.5).all()


def test_the_default_errors_are_those_of_fisher_where_the_psf_is_right(few, light_curve):
    fisher = extract_light_curve(few, covariance='fisher')
    np.testing.assert_array_equal(fisher['flux'], light_curve['flux'])
    np.testing.assert_allclose(fisher['flux_err'].value, light_curve['flux_err'].value, rtol=0.02)
    assert fisher.meta['covariance'] == 'fisher'
    with pytest.raises(ValueError, match="covariance must be one of 'fisher'"):
        extract_light_curve(few, covariance='best')


def test_whatever_read_tpf_takes_is_taken(tmp_path, few, light_curve):
    path = simulate_tpf(tmp_path / 'few.fits', psf=PSF, n_cadences=12, shape=(9, 10), drift=0.2,
                        seed=4, stars=[(4e4, 4.3, 3.9)])
    np.testing.assert_array_equal(extract_light_curve(str(path))['flux'], light_curve['flux'])
    with fits.open(path) as hdulist:
        np.testing.assert_array_equal(extract_light_curve(hdulist)['flux'], light_curve['flux'])


def test_several_files_need_a_scene(few):
    with pytest.raises(TypeError, match=r'one target pixel file, or a scene, but found a list of '
                                        '2: pass scene= .*or use extract_many'):
        extract_light_curve([few, few])


def test_threads_change_nothing(pixels):
    fluxes = [extract_light_curve(pixels, shape='free', n_threads=n)['flux'] for n in (1, 3)]
    np.testing.assert_array_equal(*fluxes)


def test_strong_motion_is_followed(tmp_path):
    moving, truth = simulate(tmp_path / 'k2.fits', mission='K2', drift=1.5, n_cadences=100)
    for shape in ('shared', 'free'):
        found = extract_light_curve(moving, shape=shape)
        assert not found['flags'].any()
        assert abs(found['x'].value - np.ravel(truth['X'])).max() < 0.02


@pytest.mark.parametrize(('options', 'error', 'message'), [
    ({'psf': 'moffat'}, ValueError, "psf must be 'gaussian', 'empirical', 'prf' or .*'moffat'"),
    ({'psf': EllipticalGaussianPSF}, TypeError, "'empirical', 'prf' or an instance .* the class"),
    ({'psf': Gaussian2D()}, ValueError, 'total flux and a position.*Gaussian2D are amplitude'),
    ({'shape': 'round'}, ValueError, "shape must be one of 'shared', 'free', 'fixed'"),
    ({'shape': 'fixed'}, ValueError, "shape='fixed' needs a PSF that has a shape"),
    ({'background': 'none'}, ValueError, "background must be one of 'known', 'fit'"),
    ({'background': -3.0}, ValueError, 'A known background must be >= 0'),
    ({'background': np.nan}, ValueError, 'A known background must be finite'),
    ({'background': np.ones(5)}, ValueError, r'have the shape \(12,\), \(9, 10\) or'),
    ({'background': 3 * u.electron / u.s}, TypeError, 'plain numbers in e-/s per pixel'),
    ({'background': [None, 'x']}, TypeError, 'A known background must be an array of numbers'),
    ({'position': 'fixed'}, ValueError, "position must be 'free', 'shared', a CentroidPrior"),
    ({'position': (1.0, 2.0, 3.0)}, ValueError, "position must be 'free', 'shared', a Centr"),
    ({'position': 3.0}, ValueError, "position must be 'free', 'shared', a CentroidPrior"),
    ({'position': (np.ones(5), 2.0)}, ValueError, r'x must be a number or one per cadence, \(12,'),
    ({'position': (1.0, np.nan)}, ValueError, 'The known position y must be finite'),
    ({'position': (1 * u.deg, 2 * u.deg)}, TypeError, 'x must be plain numbers in stamp pixels'),
])
def test_wrong_options_say_what_to_do(few, options, error, message):
    with pytest.raises(error, match=message):
        extract_light_curve(few, **options)


def test_an_unknown_background_cannot_be_asked_for(few):
    with pytest.raises(ValueError, match="background='known' needs the column FLUX_BKG"):
        extract_light_curve(without_background(few), background='known')


def test_the_fits_behind_the_rows_can_be_had_while_they_belong_to_them(few, light_curve):
    fitted = light_curve.stamp_fits
    np.testing.assert_array_equal(fitted.flags, light_curve['flags'])
    np.testing.assert_allclose(few.noise.to_rate(fitted.params[:, 0]), light_curve['flux'].value)
    for part in (light_curve[2:], light_curve.copy()):
        assert isinstance(part, LightCurve)
        with pytest.raises(ValueError, match='only the light curve that extract_light_curve'):
            part.stamp_fits  # noqa: B018


def test_the_scatter_is_that_of_the_noise_and_not_of_trends_and_outliers():
    rng = np.random.default_rng(8)
    scatters = []
    for _ in range(50):
        flux = 1000.0 + rng.normal(0.0, 2.0, 1000) + np.linspace(0.0, 50.0, 1000)
        flux[::97] = 5000.0
        scatters.append(point_to_point_scatter(flux))
    # The outliers, two differences each, take part in the median: 2 % of them.
    assert np.isclose(np.mean(scatters), 2.0 / 1025.0, rtol=0.04)


def test_the_scatter_has_no_unit_and_ignores_gaps():
    flux = np.array([1.0, 2.0, 4.0, 7.0, 11.0])
    expected = 1.4826 * 1.0 / np.sqrt(2.0) / 4.0
    gappy = np.insert(flux, 2, np.nan)
    for values in (flux, flux.tolist(), flux * u.electron / u.s, gappy):
        assert np.isclose(point_to_point_scatter(values), expected)
    assert np.isnan(point_to_point_scatter([1.0, 2.0, np.nan]))


def aperture_ratio(pixels, found):
    """Return the scatter of a light curve in units of that of the pipeline's aperture."""
    flux, aperture = found['flux'].value, pixels.aperture_flux()
    both = np.isfinite(flux) & np.isfinite(aperture)
    # A fit that never leaves its start would look better than the truth.
    assert np.unique(flux[both]).size > 0.99 * both.sum()
    return point_to_point_scatter(flux[both]) / point_to_point_scatter(aperture[both])


def test_tabbys_star_with_free_shapes(kpsf_data):
    found = extract_light_curve(kpsf_data / 'kepler' / 'kplr008462852-q08-first100.fits',
                                shape='free')
    assert found['converged'].all()
    assert not found['flags'].any()
    assert 1e6 * point_to_point_scatter(found['flux']) < 130


@pytest.mark.filterwarnings('ignore:The fits should end at KIC 12644774')
@pytest.mark.filterwarnings('ignore:The pixels should be those of one star')
def test_shared_shapes_of_five_stars_scatter_no_more_than_the_aperture(kpsf_data):
    ratios = []
    for path in sorted((kpsf_data / 'kepler_q12_ch04').glob('*.fits')):
        pixels = read_tpf(path)
        ratios.append(aperture_ratio(pixels, extract_light_curve(pixels)))
    assert len(ratios) == 5
    assert np.median(ratios) < 1.05


def test_a_star_beside_a_brighter_one_is_told_and_can_be_held(kpsf_data):
    pixels = read_tpf(next((kpsf_data / 'kepler_q12_ch04').glob('kplr012644774*')))
    with pytest.warns(AstropyUserWarning, match='none of 500 cadences .* has a usable fit'):
        found = extract_light_curve(pixels)
    assert (found['flags'] & FitFlag.FAR_FROM_TARGET > 0).all()
    # The shape of a neighbour on the same channel, half a pixel below the header's position.
    psf = EllipticalGaussianPSF(1.0, 0.0, 0.0, 0.97, 0.08, 1.64)
    found = extract_light_curve(pixels, psf, shape='fixed', background=pixels.background,
                                position=(3.12, 1.09))
    assert not found['flags'].any()
    assert np.isclose(np.median(found['flux'].value), np.median(pixels.aperture_flux()), rtol=0.1)
    assert aperture_ratio(pixels, found) < 1.1


@pytest.mark.parametrize('shape', ['shared', 'free'])
@pytest.mark.parametrize('pattern', ['kepler/*.fits*', 'kepler_q12_ch04/*.fits', 'k2/*.fits*',
                                     'tess/*.fits*'])
@pytest.mark.filterwarnings('ignore:The fits should end at')
@pytest.mark.filterwarnings('ignore:The pixels should be those of one star')
@pytest.mark.filterwarnings('ignore:A PSF needs pixels that are not full')
def test_every_cadence_of_real_files_converged_or_has_a_flag(kpsf_data, shape, pattern):
    paths = sorted(kpsf_data.glob(pattern))
    assert paths
    for path in paths:
        found = extract_light_curve(path, shape=shape)
        assert (found['converged'] | (found['flags'] != 0)).all()


def test_rows_in_another_order_have_no_stamp_fits(few):
    light_curve = extract_light_curve(few)
    assert light_curve.stamp_fits.params.shape[0] == len(light_curve)
    light_curve.sort('flux')
    with pytest.raises(ValueError, match='not its parts, copies'):
        light_curve.stamp_fits  # noqa: B018


def test_a_psf_that_holds_its_shape_is_told(few):
    with pytest.warns(AstropyUserWarning, match='set model.fwhm.fixed = False'):
        extract_light_curve(few, CircularGaussianPRF())
