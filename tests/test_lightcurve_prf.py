# Licensed under a 3-clause BSD style license - see LICENSE
"""Light curves by the instrument's PRF: the truth within its errors, and the right detector."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from kpsf import extract_light_curve, read_tpf, simulate_tpf
from kpsf._configuration import conf
from kpsf.flags import FitFlag
from kpsf.lightcurve import point_to_point_scatter
from kpsf.models import TabulatedPRF
from kpsf.prf import KeplerPRF, TessPRF, instrument_prf
from kpsf.simulate import simulate_kepler_prf, simulate_tess_prf

N_CADENCES = 400
HEADERS = {'Kepler': {'CHANNEL': 20, 'MODULE': 7, 'OUTPUT': 4},
           'K2': {'CHANNEL': 20, 'MODULE': 7, 'OUTPUT': 4},
           'TESS': {'CAMERA': 4, 'CCD': 1, 'SECTOR': 2}}
FLUX = {'Kepler': 4e4, 'K2': 4e4, 'TESS': 2e4}
CORNER = {'column': 290, 'row': 700}
PLACE = (294.3, 703.9)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder with simulated calibration files of two channels and one CCD."""
    folder = tmp_path_factory.mktemp('prf')
    simulate_kepler_prf(folder / 'kplr07.4_2011265_prf.fits', channel=20)
    simulate_kepler_prf(folder / 'kplr08.1_2011265_prf.fits', channel=21)
    simulate_tess_prf(folder / 'start_s0001' / 'cam4_ccd1', camera=4, ccd=1, sector=1)
    return folder


@pytest.fixture
def known_folder(folder):
    """Let the package look for PRF files in the folder of simulated ones."""
    with conf.set_temp('prf_path', [str(folder)]):
        yield folder


def true_prf(folder, mission, **options):
    """Return the PRF at the place of the star."""
    if mission == 'TESS':
        return TessPRF.from_files(folder / 'start_s0001' / 'cam4_ccd1', *PLACE, **options)
    return KeplerPRF.from_file(folder / 'kplr07.4_2011265_prf.fits', *PLACE, **options)


def simulate(path, psf, mission='Kepler', **options):
    """Return simulated pixels and their truth."""
    options = {'n_cadences': N_CADENCES, 'shape': (9, 10), 'drift': 0.2, 'seed': 8,
               'stars': [(FLUX[mission], 4.3, 3.9)], 'header': HEADERS[mission], **CORNER,
               **options}
    path = simulate_tpf(path, psf, mission=mission, **options)
    return read_tpf(path), fits.getdata(path, 'TRUTH')


@pytest.fixture(scope='module')
def few(tmp_path_factory, folder):
    """Return the pixels of twelve cadences of Kepler."""
    path = tmp_path_factory.mktemp('pixels') / 'few.fits'
    return simulate(path, true_prf(folder, 'Kepler'), n_cadences=12)[0]


@pytest.fixture(scope='module')
def scaled(tmp_path_factory, folder):
    """Return pixels of a PRF that is 3 % wider along x and 5 % along y than the files say."""
    psf = true_prf(folder, 'Kepler', x_scale=1.03, y_scale=1.05)
    return simulate(tmp_path_factory.mktemp('pixels') / 'scaled.fits', psf)


def freed(tpf):
    """Return the instrument's PRF with free scales."""
    psf = instrument_prf(tpf)
    psf.x_scale.fixed = psf.y_scale.fixed = False
    return psf


def require_unbiased(found, truth, names=('flux', 'x', 'y')):
    """Fail unless values are the truth with normal errors, by their pulls."""
    for name in names:
        pulls = (found[name].value - np.ravel(truth[name.upper()])) / found[f'{name}_err'].value
        # Four standard deviations of 400 pulls, and what all cadences have in common.
        assert abs(pulls.mean()) < 0.25, name
        assert 0.86 < pulls.std() < 1.14, name


@pytest.mark.parametrize('mission', ['Kepler', 'K2', 'TESS'])
def test_fluxes_and_positions_are_the_truth_within_their_errors(tmp_path, known_folder, mission):
    pixels, truth = simulate(tmp_path / 'star.fits', true_prf(known_folder, mission), mission)
    found = extract_light_curve(pixels, 'prf')
    assert found['converged'].all()
    assert not found['flags'].any()
    require_unbiased(found, truth)
    assert abs(found['gof_z'].mean()) < 0.5
    # The star is fitted where it is on the detector, not only in the stamp.
    for name, column, corner in (('column', 'X', 290), ('row', 'Y', 700)):
        assert np.abs(found[name].value - corner - np.ravel(truth[column])).max() < 0.02


def test_a_plain_table_is_as_good_as_the_instruments_prf_it_was_taken_from(folder, few):
    prf = true_prf(folder, 'Kepler')
    table = TabulatedPRF(prf.data, prf.spacing, origin=prf.origin)
    fluxes = [extract_light_curve(few, psf)['flux'].value for psf in (prf, table)]
    np.testing.assert_allclose(*fluxes, rtol=1e-9)
    meta = extract_light_curve(few, table).meta
    assert {name: meta[name] for name in meta if name.startswith('prf_')} == {
        'prf_normalize': 'phase', 'prf_clip_negative': False}
    assert meta['psf'] == 'TabulatedPRF'


def test_the_prf_is_that_of_the_targets_place_by_the_header(few, known_folder):
    found = extract_light_curve(few, 'prf')
    x, y = few.target_position
    meta = found.meta
    assert (meta['prf_column'], meta['prf_row']) == pytest.approx((290 + x, 700 + y), abs=1e-6)
    assert meta['psf'] == 'KeplerPRF'
    assert meta['prf_detector'] == 'channel 20 (7.4)'
    assert meta['prf_interpolate'] == 'barycentric'
    assert meta['prf_files'] == 'kplr07.4_2011265_prf.fits'
    assert meta['prf_forced'] is False
    given = extract_light_curve(few, instrument_prf(few, interpolate='nearest'))
    assert given.meta['prf_interpolate'] == 'nearest'
    # In the simulated files, the nearest PRF is that of the centre, a little sharper.
    assert (given['cstat'] > found['cstat']).all()


def test_the_default_background_is_known_but_for_one_constant(few, known_folder):
    meta = extract_light_curve(few, 'prf').meta
    assert meta['background'] == 'known'
    assert abs(meta['background_offset']) < 4 * meta['background_offset_err']
    assert extract_light_curve(few, 'prf', background='fit').meta['background'] == 'fit'


def test_the_shape_of_a_prf_is_known_and_held_without_a_word(few, known_folder):
    shared, fixed = (extract_light_curve(few, 'prf', shape=shape) for shape in ('shared', 'fixed'))
    np.testing.assert_array_equal(shared['flux'].value, fixed['flux'].value)
    for found in (shared, fixed):
        assert found.meta['shape'] == 'fixed'
        assert found.meta['psf_parameters'] == {'x_scale': 1.0, 'y_scale': 1.0, 'theta': 0.0}
        assert found.meta['psf_parameter_errors'] == {'x_scale': 0.0, 'y_scale': 0.0, 'theta': 0.0}


@pytest.mark.parametrize('psf', ['prf', 'model'])
def test_a_free_shape_of_a_prf_that_has_nothing_free_says_what_to_do(few, known_folder, psf):
    psf = instrument_prf(few) if psf == 'model' else psf
    with pytest.raises(ValueError, match=r"x_scale, y_scale, theta of KeplerPRF are fixed: pass "
                                         r"shape='shared', or .* model\.x_scale\.fixed = False"):
        extract_light_curve(few, psf, shape='free')


def test_scales_of_the_series_are_found_if_they_are_freed(scaled, known_folder):
    pixels, truth = scaled
    found = extract_light_curve(pixels, freed(pixels))
    values, errors = found.meta['psf_parameters'], found.meta['psf_parameter_errors']
    for name, expected in (('x_scale', 1.03), ('y_scale', 1.05)):
        assert 0 < errors[name] < 1e-3
        assert abs(values[name] - expected) < 4 * errors[name]
    assert (values['theta'], errors['theta']) == (0.0, 0.0)
    assert found.meta['shape'] == 'shared'
    assert not found['flags'].any()
    require_unbiased(found, truth)


def test_scales_of_each_cadence_are_columns(scaled, known_folder):
    pixels, truth = scaled
    found = extract_light_curve(pixels, freed(pixels), shape='free')
    assert found['converged'].all()
    require_unbiased(found, truth)
    for name, expected in (('x_scale', 1.03), ('y_scale', 1.05)):
        pulls = (found[f'psf_{name}'] - expected) / found[f'psf_{name}_err']
        assert abs(pulls.mean()) < 0.25
        assert 0.86 < pulls.std() < 1.14
    assert found.meta['psf_parameters'] == {'theta': 0.0}


def test_scales_that_are_held_again_are_those_of_the_model(scaled, known_folder):
    pixels, truth = scaled
    psf = freed(pixels)
    narrow = extract_light_curve(pixels, psf, shape='fixed')
    assert narrow.meta['psf_parameters']['x_scale'] == 1.0
    psf.x_scale, psf.y_scale = 1.03, 1.05
    right = extract_light_curve(pixels, psf, shape='fixed')
    assert right.meta['psf_parameters'] == {'x_scale': 1.03, 'y_scale': 1.05, 'theta': 0.0}
    require_unbiased(right, truth)
    assert narrow['gof_z'].mean() > right['gof_z'].mean() + 10


@pytest.mark.parametrize('position', ['shared', (4.3, 3.9)])
def test_positions_may_be_held_or_shared(tmp_path, known_folder, position):
    pixels, truth = simulate(tmp_path / 'still.fits', true_prf(known_folder, 'Kepler'), drift=0.0)
    found = extract_light_curve(pixels, 'prf', position=position)
    require_unbiased(found, truth, names=['flux'])
    assert np.unique(found['column']).size == 1
    assert abs(found['column'][0].value - PLACE[0]) < 1e-3


def test_a_small_stamp_has_enough_pixels_for_what_is_free(tmp_path, known_folder):
    # Six pixels, as many as the PRF has parameters, of which three are free.
    pixels, truth = simulate(tmp_path / 'small.fits', true_prf(known_folder, 'Kepler'),
                             shape=(2, 3), stars=[(4e4, 1.0, 0.5)], column=293, row=703)
    found = extract_light_curve(pixels, 'prf')
    assert not found['flags'].any()
    assert np.median(found['n_pixels']) == 6
    pulls = (found['flux'].value - np.ravel(truth['FLUX'])) / found['flux_err'].value
    assert 0.8 < pulls.std() < 1.2


def test_cadences_without_pixels_are_flagged_rows(few, known_folder):
    good = few.good_pixels & (np.arange(12) != 5)[:, None, None]
    found = extract_light_curve(replace(few, good_pixels=good), 'prf')
    np.testing.assert_array_equal(np.flatnonzero(found['flags']), [5])
    assert found['flags'][5] == FitFlag.TOO_FEW_PIXELS
    for name in ('flux', 'x', 'column', 'row'):
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(found[name].value)), [5])


def test_the_prf_of_another_channel_is_refused_unless_it_was_forced(few, folder):
    wrong = folder / 'kplr08.1_2011265_prf.fits'
    message = r'of channel 21 \(8\.1\), and KIC 100000001 is on channel 20 \(7\.4\)'
    with pytest.raises(ValueError, match=message):
        extract_light_curve(few, KeplerPRF.from_file(wrong, *PLACE))
    found = extract_light_curve(few, KeplerPRF.from_tpf(few, wrong, force=True))
    assert not found['flags'].any()
    assert found.meta['prf_forced'] is True
    assert found.meta['prf_detector'] == 'channel 21 (8.1)'


def test_the_prf_of_another_mission_is_refused(few, folder):
    with pytest.raises(ValueError, match='PRF of TESS .* KIC 100000001 .* by Kepler'):
        extract_light_curve(few, true_prf(folder, 'TESS'))


def test_pixels_that_do_not_tell_their_channel_take_any_prf_but_find_none(few, folder):
    meta = {name: value for name, value in few.meta.items()
            if name not in ('channel', 'module', 'output')}
    unknown = replace(few, meta=meta)
    expected = extract_light_curve(few, true_prf(folder, 'Kepler'))
    found = extract_light_curve(unknown, true_prf(folder, 'Kepler'))
    np.testing.assert_array_equal(found['flux'].value, expected['flux'].value)
    with conf.set_temp('prf_path', [str(folder)]), pytest.raises(ValueError, match='KIC 1000'):
        extract_light_curve(unknown, 'prf')


def test_the_remedy_for_hopeless_pixels_names_the_prf(tmp_path, known_folder):
    pixels, _ = simulate(tmp_path / 'empty.fits', true_prf(known_folder, 'Kepler'), n_cadences=5,
                         stars=[(0.0, 4.3, 3.9)], magnitude=20.0)
    with pytest.warns(AstropyUserWarning, match=r"extract_light_curve\(tpf, 'prf', shape='fixed'"):
        extract_light_curve(pixels, 'prf', position=(40.0, 40.0))


def extract_real(kpsf_data, name, psf='prf'):
    """Return pixels of a real file and their light curve by real PRF files."""
    pixels = read_tpf(kpsf_data / name)
    paths = [str(kpsf_data / 'kepler_prf'), str(kpsf_data / 'tess_prf')]
    with conf.set_temp('prf_path', paths):
        return pixels, extract_light_curve(pixels, psf)


def relative_residual(pixels, found):
    """Return the L1 residual of all fitted cadences relative to the star."""
    fitted = np.isfinite(found['flux'].value)
    good = pixels.good_pixels & fitted[:, None, None]
    background = pixels.noise.to_electrons(found['background'].value)[:, None, None]
    residual = np.abs(pixels.electrons - found.stamp_fits.model_images())
    return residual[good].sum() / (pixels.electrons - background)[good].sum()


KEPLER62 = 'kepler/kplr009002278-2010174085026_lpd-targ.fits.gz'
TIC25155310 = 'tess/tess25155310-s01-first-cadences.fits.gz'


@pytest.mark.parametrize('psf', ['gaussian', 'prf'])
def test_all_cadences_of_kepler_62_are_fitted_or_flagged(kpsf_data, psf):
    pixels, found = extract_real(kpsf_data, KEPLER62, psf)
    assert len(found) == pixels.n_cadences == 4504
    assert (found['converged'] | (found['flags'] != 0)).all()
    # Flagged are those without pixels alone.
    np.testing.assert_array_equal(found['flags'] != 0, ~pixels.good_pixels.any(axis=(1, 2)))
    flux, aperture = found['flux'].value, pixels.aperture_flux()
    both = np.isfinite(flux) & np.isfinite(aperture)
    ratio = point_to_point_scatter(flux[both]) / point_to_point_scatter(aperture[both])
    assert 0.9 < ratio < 1.02


def test_kepler_62_is_where_its_header_has_it_and_as_its_prf_is(kpsf_data):
    pixels, found = extract_real(kpsf_data, KEPLER62)
    fitted = [np.nanmedian(found[name].value) for name in ('column', 'row')]
    x, y = pixels.target_position
    assert fitted == pytest.approx((290 + x, 228 + y), abs=0.05)
    assert relative_residual(pixels, found) < 0.07
    _, gaussian = extract_real(kpsf_data, KEPLER62, 'gaussian')
    assert relative_residual(pixels, gaussian) > 0.09


def test_a_star_of_tess_is_where_its_header_has_it(kpsf_data):
    pixels, found = extract_real(kpsf_data, TIC25155310)
    assert found['converged'].all()
    assert not found['flags'].any()
    expected = np.add(pixels.target_position, pixels.meta['pos_corr_median'])
    fitted = [np.median(found[name].value) for name in 'xy']
    assert fitted == pytest.approx(expected, abs=0.05)
    assert found.meta['prf_detector'] == 'camera 4 CCD 1 from sector 1'
    assert len(found.meta['prf_files'].split(', ')) == 4
    _, gaussian = extract_real(kpsf_data, TIC25155310, 'gaussian')
    assert relative_residual(pixels, found) < 0.6 * relative_residual(pixels, gaussian)


@pytest.mark.filterwarnings('ignore:The fits should end at')
@pytest.mark.filterwarnings('ignore:The pixels should be those of one star')
@pytest.mark.parametrize('pattern', ['kepler/*.fits*', 'kepler_q12_ch04/*.fits', 'k2/*.fits*',
                                     'tess/*.fits*'])
@pytest.mark.filterwarnings('ignore:A PSF needs pixels that are not full')
def test_every_cadence_of_real_files_converged_or_has_a_flag(kpsf_data, pattern):
    # Most of these are of other detectors, so that the PRF is somewhat wrong.
    for path in sorted(kpsf_data.glob(pattern)):
        pixels = read_tpf(path)
        folder = ('tess_prf/start_s0001/cam4_ccd1' if pixels.mission == 'TESS'
                  else 'kepler_prf/kplr07.4_2011265_prf.fits')
        psf = instrument_prf(pixels, path=kpsf_data / folder, force=True)
        found = extract_light_curve(pixels, psf)
        assert (found['converged'] | (found['flags'] != 0)).all()
        assert found['converged'].any()
