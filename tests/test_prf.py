# Licensed under a 3-clause BSD style license - see LICENSE
"""`KeplerPRF` and `TessPRF`: the instruments' PRF at a place, for pixels, on real stars."""

import copy
import pickle
import shutil

import numpy as np
import pytest
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from scipy.optimize import least_squares

from kpsf import KeplerPRF, TabulatedPRF, TessPRF, conf, read_tpf, simulate_tpf
from kpsf.models import EllipticalGaussianPRF
from kpsf.prf import instrument_prf, read_kepler_prf, read_tess_prf, require_same_detector
from kpsf.simulate import simulate_kepler_prf, simulate_tess_prf

# Wide enough for the centroid of its pixels to be where it is itself.
ROUND = EllipticalGaussianPRF.from_stddev(1.0, 0.0, 0.0, 0.8, 0.8)
# Its images are not the same after any flip or transpose.
TILTED = (EllipticalGaussianPRF.from_stddev(0.8, 0.0, 0.0, 0.7, 0.5, 0.3)
          + EllipticalGaussianPRF.from_stddev(0.2, 0.6, 0.3, 0.6, 0.6))
Y, X = np.mgrid[:15, :15]


@pytest.fixture(scope='module')
def kepler(tmp_path_factory):
    return simulate_kepler_prf(tmp_path_factory.mktemp('prf') / 'kplr07.4_2011265_prf.fits',
                               n_pixels=11, oversampling=10)


@pytest.fixture(scope='module')
def tess(tmp_path_factory):
    return simulate_tess_prf(tmp_path_factory.mktemp('prf'))


@pytest.fixture(scope='module')
def write_tpf(tmp_path_factory):
    """Return a function that writes a target pixel file for arguments of simulate_tpf."""
    def write(**arguments):
        path = tmp_path_factory.mktemp('tpf') / 'tpf.fits'
        return simulate_tpf(path, n_cadences=2, seed=1, **arguments)
    return write


@pytest.fixture(scope='module')
def tpf(write_tpf):
    """Return pixels on channel 20, the target at column 105.2 and row 803.9."""
    return read_tpf(write_tpf(stars=[(1e5, 5.2, 3.9)], column=100, row=800))


@pytest.fixture(scope='module')
def tess_tpf(write_tpf):
    return read_tpf(write_tpf(mission='TESS', stars=[(1e4, 5.2, 3.9)], column=700, row=300))


def centroid(image):
    return (image * X).sum() / image.sum(), (image * Y).sum() / image.sum()


# What the files say

def test_a_symmetric_prf_has_its_centroid_at_the_star(tmp_path):
    prfs = [KeplerPRF.from_file(simulate_kepler_prf(tmp_path / 'prf.fits', ROUND)),
            TessPRF.from_files(simulate_tess_prf(tmp_path, ROUND), 600, 700)]
    for prf in prfs:
        for x_0, y_0 in [(7.0, 7.0), (7.31, 6.84), (6.5, 7.5)]:
            found = centroid(prf.evaluate(X, Y, 1.0, x_0, y_0, 1.0, 1.0, 0.0))
            assert found == pytest.approx((x_0, y_0), abs=1e-5)


def test_the_published_sampling_gives_back_the_prf_and_its_orientation(tmp_path):
    prfs = [KeplerPRF.from_file(simulate_kepler_prf(tmp_path / 'prf.fits', TILTED)),
            TessPRF.from_files(simulate_tess_prf(tmp_path, TILTED), 600, 700)]
    for prf, tolerance in zip(prfs, (2e-7, 2e-5)):
        found = prf.evaluate(X, Y, 1.0, 7.31, 6.84, 1.0, 1.0, 0.0)
        assert found == pytest.approx(TILTED(X - 7.31, Y - 6.84), abs=tolerance)
        assert np.abs(found - found.T).max() > 0.02


def test_one_file_serves_its_own_position(kepler, tess):
    prf = KeplerPRF.from_file(kepler)
    assert (prf.column, prf.row) == (561.5, 531.5)
    calibration = read_kepler_prf(kepler)
    assert np.array_equal(prf.data, KeplerPRF(calibration, 561.5, 531.5).data)
    path = next(path for path in tess if 'row0513-col1580' in path.name)
    prf = TessPRF.from_file(path)
    assert (prf.column, prf.row) == (1580, 513)
    assert prf.data == pytest.approx(fits.getdata(path), rel=1e-9)


def test_a_list_of_one_kepler_file_is_a_file(kepler):
    assert np.array_equal(KeplerPRF.from_files([kepler], 300, 200).data,
                          KeplerPRF.from_file(kepler, 300, 200).data)
    with pytest.raises(ValueError, match='needs one calibration file, .* but found 2'):
        KeplerPRF.from_files([kepler, kepler], 300, 200)


def test_files_of_a_folder_are_those_of_the_list(tess):
    prf = TessPRF.from_files(tess, 300, 700)
    assert np.array_equal(TessPRF.from_files(tess[0].parent, 300, 700).data, prf.data)


def test_the_position_sets_the_shape_and_not_the_place(kepler):
    prf, corner = (KeplerPRF.from_file(kepler, *place, flux=5.0, x_0=7.2, y_0=6.9)
                   for place in ((561.5, 531.5), (12, 20)))
    assert corner(7.0, 7.0) < 0.95 * prf(7.0, 7.0)
    assert (corner.x_0, corner.y_0, corner.flux) == (7.2, 6.9, 5.0)
    for model in (prf, corner):
        assert model(X, Y).sum() == pytest.approx(5.0, rel=1e-5)
        assert [model.fixed[name] for name in model.param_names] == [
            False, False, False, True, True, True]


def test_the_interpolation_can_be_chosen(kepler, tess):
    calibration = read_kepler_prf(kepler)
    images = {name: KeplerPRF(calibration, 300, 230, interpolate=name).data
              for name in ('barycentric', 'nearest', 'inverse-distance')}
    assert np.array_equal(images['nearest'], KeplerPRF(calibration, 12, 20).data)
    assert np.abs(images['barycentric'] - images['inverse-distance']).max() > 1e-4
    assert np.array_equal(images['barycentric'], KeplerPRF(calibration, 300, 230).data)
    with pytest.raises(ValueError, match="interpolate must be one of 'bilinear', 'nearest'"):
        TessPRF.from_files(tess, 300, 700, interpolate='barycentric')


def test_options_of_the_table_are_passed_on(kepler, tmp_path):
    with fits.open(kepler) as hdulist:
        for hdu in hdulist[1:]:
            hdu.data[:2] = -1e-3
        hdulist.writeto(tmp_path / 'prf.fits')
    prf = KeplerPRF.from_file(tmp_path / 'prf.fits')
    assert prf.data.min() < 0
    clipped = KeplerPRF.from_file(tmp_path / 'prf.fits', clip_negative=True, normalize='mean')
    assert clipped.data.min() == 0
    assert clipped.data.sum() == pytest.approx(100.0)
    assert 'clip_negative=True' in repr(clipped)
    assert "normalize='mean'" in repr(clipped)
    assert 'clip_negative=False' in repr(prf)


def test_the_repr_says_what_it_is(kepler, tess):
    text = repr(KeplerPRF.from_file(kepler, 300, 200))
    for part in ("detector='channel 20 (7.4)'", 'column=300.0', 'row=200.0',
                 "interpolate='barycentric'"):
        assert part in text
    assert 'clamped' not in text
    assert "detector='camera 4 CCD 1 from sector 1'" in repr(TessPRF.from_files(tess, 300, 200))
    assert 'channel 20' in str(KeplerPRF.from_file(kepler))


# Places

@pytest.mark.parametrize(('place', 'inside'), [
    ((3, 700), (12, 700)), ((1131, 1069), (1111, 1043)), ((600, 0), (600, 20))])
def test_beyond_the_calibrated_positions_the_nearest_counts(kepler, place, inside):
    calibration = read_kepler_prf(kepler)
    prf = KeplerPRF(calibration, *place)
    assert (prf.column, prf.row) == place
    assert np.array_equal(prf.data, KeplerPRF(calibration, *inside).data)
    assert f'clamped_to=({inside[0]:.1f}, {inside[1]:.1f})' in repr(prf)


@pytest.mark.parametrize('place', [(-1, 500), (1132, 500), (500, -1), (500, 1070),
                                   (np.nan, 500), (500, np.inf)])
def test_positions_off_a_channel_are_refused(kepler, place):
    with pytest.raises(ValueError, match='on the detector of Kepler, columns 0 to 1131 and rows '
                       f'0 to 1069, but found column {place[0]:g}, row {place[1]:g}'):
        KeplerPRF.from_file(kepler, *place)


@pytest.mark.parametrize('place', [(0, 500), (2137, 500), (500, 0), (500, 2079)])
def test_positions_off_a_ccd_are_refused(tess, place):
    with pytest.raises(ValueError, match='on the detector of TESS, columns 1 to 2136'):
        TessPRF.from_files(tess, *place)


@pytest.mark.parametrize('place', [(1, 1), (2136, 2078), (45, 2048), (1069, 700)])
def test_edges_and_nodes_of_a_ccd_are_on_it(tess, place):
    prf = TessPRF.from_files(tess, *place)
    assert prf(0.0, 0.0) > 0.1


def test_a_place_far_from_the_files_is_warned_of(tess):
    prf = TessPRF.from_file(tess[0])
    with pytest.warns(AstropyUserWarning, match='column 600, row 700 needs the files around that '
                      'place, but those that were read reach only to column 45, row 1'):
        far = prf.at(600, 700)
    assert np.array_equal(far.data, prf.data)


def test_the_same_model_can_be_had_for_another_place(kepler, tess):
    for prf in (KeplerPRF.from_file(kepler, 100, 200, interpolate='nearest', flux=3.0, x_0=5.0,
                                    name='star', clip_negative=True, normalize='mean'),
                TessPRF.from_files(tess, 100, 200, flux=3.0, x_0=5.0, name='star')):
        prf.x_0.fixed = True
        prf.flux.bounds = (0, None)
        there = prf.at(900, 950)
        assert (there.column, there.row) == (900, 950)
        assert np.array_equal(there.data, type(prf)(
            prf.calibration, 900, 950, interpolate=prf.interpolate, normalize=prf.normalize,
            clip_negative=prf.clip_negative).data)
        assert np.abs(there.data - prf.data).max() > 1e-3
        assert (prf.column, prf.row) == (100, 200)
        assert np.array_equal(there.parameters, prf.parameters)
        assert (there.name, there.x_0.fixed, there.flux.bounds) == ('star', True, (0, None))
        for name in ('calibration', 'interpolate', 'normalize', 'clip_negative'):
            assert getattr(there, name) == getattr(prf, name)


def test_copies_share_the_table_and_the_calibration(kepler):
    prf = KeplerPRF.from_file(kepler, flux=3.0)
    for again in (prf.copy(), copy.deepcopy(prf)):
        assert again.table is prf.table
        assert again.calibration is prf.calibration
        again.flux = 6.0
        assert again(0.0, 0.0) == pytest.approx(2 * prf(0.0, 0.0))


def test_models_can_be_pickled(kepler, tess):
    for prf in (KeplerPRF.from_file(kepler, 300, 200, x_0=5.0),
                TessPRF.from_files(tess, 300, 200, x_0=5.0)):
        again = pickle.loads(pickle.dumps(prf))
        assert type(again) is type(prf)
        assert repr(again) == repr(prf)
        assert np.array_equal(again(X, Y), prf(X, Y))
        assert again.at(500, 600)(5.0, 0.0) == prf.at(500, 600)(5.0, 0.0)


def test_the_identity_cannot_be_changed_through_the_model(kepler):
    prf = KeplerPRF.from_file(kepler)
    prf.detector['channel'] = 3
    assert prf.detector == {'channel': 20, 'module': 7, 'output': 4}


@pytest.mark.parametrize('model', [KeplerPRF, TessPRF])
def test_a_wrong_calibration_is_refused(kepler, tess, model):
    other = TessPRF if model is KeplerPRF else KeplerPRF
    calibration = read_tess_prf(tess) if model is KeplerPRF else read_kepler_prf(kepler)
    with pytest.raises(ValueError, match=f'but found one of .*: use {other.__name__}'):
        model(calibration, 500, 500)
    with pytest.raises(TypeError, match='a PRFCalibration, but found ndarray: use from_file'):
        model(np.ones((11, 11)), 500, 500)


def test_a_model_of_photutils_has_no_detector(kepler):
    psf = KeplerPRF.from_file(kepler, 300, 200, flux=3.0).to_image_psf()
    assert psf(0.0, 0.0) == pytest.approx(KeplerPRF.from_file(kepler, 300, 200, flux=3.0)(0, 0),
                                          rel=1e-6)
    with pytest.raises(TypeError, match='use TabulatedPRF.from_image_psf'):
        KeplerPRF.from_image_psf(psf)
    assert isinstance(TabulatedPRF.from_image_psf(psf), TabulatedPRF)


# For pixels

def test_pixels_tell_place_and_position(kepler, tpf):
    prf = KeplerPRF.from_tpf(tpf, kepler, flux=10.0)
    assert (prf.column, prf.row) == pytest.approx((105.2, 803.9))
    assert (prf.x_0.value, prf.y_0.value) == pytest.approx((5.2, 3.9))
    assert prf.flux == 10.0
    assert not prf.is_forced
    assert np.array_equal(prf.data, KeplerPRF.from_file(kepler, prf.column, prf.row).data)
    assert KeplerPRF.from_tpf(tpf, kepler, x_0=1.0).x_0 == 1.0


def test_a_file_does_instead_of_pixels(kepler, write_tpf):
    path = write_tpf()
    assert np.array_equal(KeplerPRF.from_tpf(path, kepler)(X, Y),
                          KeplerPRF.from_tpf(read_tpf(path), kepler)(X, Y))


def test_pixels_of_k2_get_keplers_prf(kepler, write_tpf):
    prf = instrument_prf(write_tpf(mission='K2'), path=kepler)
    assert type(prf) is KeplerPRF


def test_pixels_of_tess_get_the_prf_of_tess(tess, tess_tpf):
    prf = instrument_prf(tess_tpf, path=tess, flux=2.0)
    assert type(prf) is TessPRF
    assert (prf.column, prf.row, prf.flux.value) == pytest.approx((705.2, 303.9, 2.0))
    assert np.array_equal(prf.data, TessPRF.from_tpf(tess_tpf, tess[0].parent).data)


def test_the_prf_of_another_channel_is_refused_unless_forced(kepler, write_tpf):
    tpf = read_tpf(write_tpf(header={'CHANNEL': 56, 'MODULE': 16, 'OUTPUT': 4}))
    message = ('is of channel 20 .7.4., and KIC 100000001 is on channel 56 .16.4.: pass the files '
               'of that detector, or make the PRF with from_tpf.*force=True')
    for function in (KeplerPRF.from_tpf, instrument_prf):
        with pytest.raises(ValueError, match=message):
            function(tpf, path=kepler)
        prf = function(tpf, path=kepler, force=True)
        assert prf.is_forced
        assert 'is_forced=True' in repr(prf)
        assert prf.at(5, 5).is_forced
        assert pickle.loads(pickle.dumps(prf)).is_forced
        require_same_detector(prf.copy(), tpf)
    with pytest.raises(ValueError, match=message):
        require_same_detector(KeplerPRF.from_file(kepler), tpf)


@pytest.mark.parametrize('header', [
    {'CHANNEL': None, 'MODULE': None, 'OUTPUT': None}, {'MODULE': None, 'OUTPUT': None},
    {'CHANNEL': None}])
def test_what_the_pixels_do_not_tell_is_no_difference(kepler, write_tpf, header):
    tpf = read_tpf(write_tpf(header=header))
    require_same_detector(KeplerPRF.from_tpf(tpf, kepler), tpf)


def test_module_and_output_alone_show_a_difference(kepler, write_tpf):
    tpf = read_tpf(write_tpf(header={'CHANNEL': None, 'MODULE': 7, 'OUTPUT': 3}))
    with pytest.raises(ValueError, match=r'is on channel \? \(7.3\)'):
        KeplerPRF.from_tpf(tpf, kepler)


@pytest.mark.parametrize(('header', 'found'), [
    ({'SECTOR': 4}, 'camera 4 CCD 1 from sector 4'), ({'SECTOR': 60}, 'from sector 4'),
    ({'CAMERA': 3}, 'camera 3 CCD 1 from sector 1'), ({'CCD': 2}, 'camera 4 CCD 2')])
def test_the_prf_of_another_ccd_or_set_of_sectors_is_refused(tess, write_tpf, header, found):
    tpf = read_tpf(write_tpf(mission='TESS', header=header))
    with pytest.raises(ValueError, match='is of camera 4 CCD 1 from sector 1, and TIC 100000001 '
                       f'is on .*{found}'):
        TessPRF.from_tpf(tpf, tess)
    assert TessPRF.from_tpf(tpf, tess, force=True).is_forced


@pytest.mark.parametrize('sector', [1, 3])
def test_a_set_serves_all_its_sectors(tess, write_tpf, sector):
    tpf = read_tpf(write_tpf(mission='TESS', header={'SECTOR': sector}))
    assert not TessPRF.from_tpf(tpf, tess).is_forced


def test_the_prf_of_another_mission_is_refused(kepler, tess, tpf, tess_tpf):
    with pytest.raises(ValueError, match='The PRF of Kepler needs pixels of Kepler or K2, but TIC '
                       '100000001 was observed by TESS: use TessPRF'):
        KeplerPRF.from_tpf(tess_tpf, kepler)
    with pytest.raises(ValueError, match='The PRF of TESS needs pixels of TESS, but KIC '
                       '100000001 was observed by Kepler: use KeplerPRF'):
        require_same_detector(TessPRF.from_file(tess[0]), tpf)


# From the archive's layout

def test_local_folders_serve_as_the_archive(kepler, tpf, tmp_path):
    shutil.copy(kepler, tmp_path)
    with conf.set_temp('prf_path', [str(tmp_path)]):
        for detector in (20, np.int64(20), (7, 4)):
            prf = KeplerPRF.from_archive(detector, 300, 200)
            assert np.array_equal(prf.data, KeplerPRF.from_file(kepler, 300, 200).data)
        assert KeplerPRF.from_archive(20).column == 561.5
        prf = instrument_prf(tpf)
    assert np.array_equal(prf.data, KeplerPRF.from_tpf(tpf, kepler).data)
    assert prf.calibration.names == (str(tmp_path / kepler.name),)


def test_the_files_around_the_place_are_enough(tess, tess_tpf, tmp_path):
    around = [path for path in tess if path.name[-20:] in (
        'row0001-col0557.fits', 'row0513-col0557.fits', 'row0001-col1069.fits',
        'row0513-col1069.fits')]
    assert len(around) == 4
    for path in around:
        shutil.copy(path, tmp_path)
    with conf.set_temp('prf_path', [str(tmp_path)]):
        prf = TessPRF.from_archive((4, 1, 2), 705.2, 303.9)
        of_pixels = instrument_prf(tess_tpf)
    expected = TessPRF.from_files(tess, 705.2, 303.9)
    for model in (prf, of_pixels):
        assert model.data == pytest.approx(expected.data, rel=1e-10)
        assert len(model.calibration.names) == 4


def test_files_that_lost_their_names_in_a_cache_are_known(kepler, monkeypatch, tmp_path):
    with fits.open(kepler) as hdulist:
        for key in ('CHANNEL', 'MODULE', 'OUTPUT'):
            del hdulist[0].header[key]
        hdulist.writeto(tmp_path / 'contents')
    monkeypatch.setattr('kpsf.prf.instrument.find_prf', lambda file: tmp_path / 'contents')
    prf = KeplerPRF.from_archive(56)
    assert prf.detector == {'channel': 56, 'module': 16, 'output': 4}
    assert prf.calibration.names == ('kplr16.4_2011265_prf.fits',)


def test_pixels_that_do_not_tell_their_detector_need_a_path(write_tpf):
    for arguments, missing in [
            ({'header': {'CHANNEL': None, 'MODULE': None, 'OUTPUT': None}}, 'MODULE, OUTPUT'),
            ({'mission': 'TESS', 'header': {'CAMERA': None}}, 'CAMERA')]:
        tpf = read_tpf(write_tpf(**arguments))
        with pytest.raises(ValueError, match=f'header .* lacks {missing}: '):
            instrument_prf(tpf)


def test_detectors_of_the_wrong_form_are_refused():
    with pytest.raises(TypeError, match='Module and output must be a pair'):
        KeplerPRF.from_archive((7, 4, 1), 300, 200)
    with pytest.raises(ValueError, match='must be camera, CCD and sector, but found 4'):
        TessPRF.from_archive(4, 300, 200)
    with pytest.raises(ValueError, match='must be on the detector of TESS'):
        TessPRF.from_archive((4, 1, 1), 0, 200)


# Real stars

def fit(prf, image, error, start):
    """Return flux, x, y, background and residual image of the best fit, from several starts."""
    y, x = np.mgrid[:image.shape[0], :image.shape[1]]

    def residual(params):
        return image - prf.evaluate(x, y, *params[:3], 1.0, 1.0, 0.0) - params[3]

    fits_of = [least_squares(lambda params: (residual(params) / error).ravel(),
                             [image.sum(), start[0] + dx, start[1] + dy, 0.0],
                             x_scale=[image.sum(), 0.1, 0.1, 0.001 * image.sum()])
               for dx in (-0.5, 0.0, 0.5) for dy in (-0.5, 0.0, 0.5)]
    best = min(fits_of, key=lambda result: result.cost).x
    return best, residual(best)


def mean_image(tpf):
    """Return the mean of the complete cadences in e-/s, its typical error, without background."""
    complete = tpf.good_pixels.all(axis=(1, 2))
    error = np.sqrt(np.mean(tpf.flux_err[complete].astype(float)**2, axis=0))
    return tpf.flux[complete].mean(axis=0, dtype=float), error


def test_kepler_62_is_fitted_within_7_percent_at_the_place_of_the_header(kpsf_data):
    tpf = read_tpf(kpsf_data / 'kepler/kplr009002278-2010174085026_lpd-targ.fits.gz')
    path = kpsf_data / 'kepler_prf/kplr07.4_2011265_prf.fits'
    image, error = mean_image(tpf)
    l1 = {}
    for name in ('barycentric', 'inverse-distance', 'nearest'):
        prf = KeplerPRF.from_tpf(tpf, path, interpolate=name)
        params, residual = fit(prf, image, error, tpf.target_position)
        l1[name] = np.abs(residual).sum() / np.abs(image).sum()
        assert params[1:3] == pytest.approx(tpf.target_position, abs=0.05)
    assert l1['barycentric'] < 0.055
    assert l1['barycentric'] < 0.95 * l1['inverse-distance']
    assert l1['barycentric'] < 0.95 * l1['nearest']


# There are other stars among the outermost pixels.
@pytest.mark.parametrize(('part', 'limit'), [(np.s_[1:-1, 1:-1], 0.075), (np.s_[:, :], 0.11)])
def test_tic_25155310_is_fitted_well_at_its_place_and_in_no_other_orientation(kpsf_data, part,
                                                                              limit):
    tpf = read_tpf(kpsf_data / 'tess/tess25155310-s01-first-cadences.fits.gz')
    prf = TessPRF.from_tpf(tpf, kpsf_data / 'tess_prf/start_s0001/cam4_ccd1')
    image, error = (values[part] for values in mean_image(tpf))
    start = np.subtract(tpf.target_position, part[0].start or 0)
    l1 = {}
    for transposed, upside_down, mirrored in np.ndindex(2, 2, 2):
        data = prf.data.T if transposed else prf.data
        data = data[::-1] if upside_down else data
        data = data[:, ::-1] if mirrored else data
        model = TabulatedPRF(data, prf.spacing, origin=prf.origin)
        params, residual = fit(model, image, error, start)
        l1[transposed, upside_down, mirrored] = np.abs(residual).sum() / np.abs(image).sum()
        if data is prf.data:
            assert params[1:3] - start == pytest.approx(tpf.meta['pos_corr_median'], abs=0.05)
    as_is = l1.pop((0, 0, 0))
    assert as_is < limit
    assert as_is < 0.6 * min(l1.values())
