# Licensed under a 3-clause BSD style license - see LICENSE
"""`KeplerPRF` and `TessPRF`: the instruments' PRF at a place and for pixels."""

import copy
import pickle
import shutil

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning

from kpsf import KeplerPRF, TabulatedPRF, TessPRF, conf, read_tpf, simulate_tpf
from kpsf.models import EllipticalGaussianPRF
from kpsf.prf import (
    DetectorPRF,
    instrument_prf,
    read_kepler_prf,
    read_tess_prf,
    require_same_detector,
)
from kpsf.prf import calibration as calibration_module
from kpsf.prf import files as files_module
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


@pytest.mark.parametrize('number', [
    float, int, np.float32, np.int64, np.array, lambda value: value * u.pix,
    lambda value: u.Quantity(value, u.pix, dtype=np.float32),
    lambda value: QTable({'column': [value] * u.pix})['column'][0]])
def test_places_may_be_any_numbers_and_quantities_in_pixels(kepler, tess, number):
    for prf, expected in ((KeplerPRF.from_file(kepler, number(300), number(200)),
                           KeplerPRF.from_file(kepler, 300, 200)),
                          (TessPRF.from_files(tess, 700, 800).at(number(300), number(200)),
                           TessPRF.from_files(tess, 300, 200))):
        assert (type(prf.column), prf.column, prf.row) == (float, 300, 200)
        assert np.array_equal(prf.data, expected.data)


@pytest.mark.parametrize('wrong', [
    300 * u.arcsec, 300 * u.one, '300', [300], np.array([300.0]), [300] * u.pix, True, 3j,
    np.ma.masked])
def test_places_of_another_kind_are_refused_by_name(kepler, tess, wrong):
    calibration = read_kepler_prf(kepler)
    prf = TessPRF.from_files(tess, 300, 700)
    for function, arguments in [(KeplerPRF.from_file, [kepler]), (KeplerPRF, [calibration]),
                                (KeplerPRF.from_archive, [20]), (prf.at, []),
                                (TessPRF.from_archive, [(4, 1, 1)])]:
        with pytest.raises(TypeError, match='column must be one number, in pixels on the detec'):
            function(*arguments, wrong, 200)
        with pytest.raises(TypeError, match='row must be one number, in pixels on the detector'):
            function(*arguments, 300, wrong)


def test_column_and_row_come_together(kepler, tess):
    for function, source in [(KeplerPRF.from_file, kepler), (KeplerPRF.from_archive, (7, 4)),
                             (KeplerPRF.from_files, [kepler]), (TessPRF.from_file, tess[0])]:
        for place, found in [({'column': 300}, '300 and None'), ({'row': 2.5}, 'None and 2.5')]:
            with pytest.raises(ValueError, match=f'given together, but they are {found}: pass '
                               r'both or neither\.'):
                function(source, **place)


def test_module_and_output_without_parentheses_are_told_from_a_place():
    with pytest.raises(ValueError, match=r'they are 4 and None: pass both or neither, or pass '
                       r'\(7, 4\) for this module and output\.'):
        KeplerPRF.from_archive(7, 4)


def test_what_the_calibration_tells_cannot_be_passed(kepler, tess, tpf):
    for name in ('origin', 'spacing', 'fill_value'):
        for function, arguments in [(KeplerPRF.from_file, [kepler]),
                                    (KeplerPRF.from_tpf, [tpf, kepler]),
                                    (TessPRF.from_files, [tess, 300, 200])]:
            with pytest.raises(TypeError, match=f'^{name} come.* from the calibration and cannot '
                               'be passed: use TabulatedPRF'):
                function(*arguments, **{name: 1})


def test_what_the_pixels_tell_cannot_be_passed(kepler, tpf):
    with pytest.raises(TypeError, match='^column and row come from the pixels and cannot be passed'
                       r': use at\(column, row\) of the model'):
        KeplerPRF.from_tpf(tpf, kepler, column=300, row=200)


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


def test_a_subclass_with_arguments_of_its_own_can_be_had_for_another_place(kepler):
    class Star(KeplerPRF):
        def __init__(self, flux):
            super().__init__(read_kepler_prf(kepler), 100, 200, flux=flux)

    there = Star(7.0).at(900, 950)
    assert (type(there), there.flux, there.column) == (Star, 7.0, 900)
    assert np.array_equal(there.data, KeplerPRF.from_file(kepler, 900, 950).data)


def test_another_place_is_checked_as_the_first_one_is(kepler):
    with pytest.raises(ValueError, match='must be on the detector of Kepler'):
        KeplerPRF.from_file(kepler).at(1132, 500)


def test_the_models_have_a_public_base(kepler, tess):
    for prf in (KeplerPRF.from_file(kepler), TessPRF.from_file(tess[0])):
        assert isinstance(prf, DetectorPRF)
        assert not [cls.__name__ for cls in type(prf).__mro__
                    if cls.__module__.startswith('kpsf') and cls.__name__.startswith('_')]


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


@pytest.mark.parametrize('level', range(4))
def test_a_folder_may_have_the_layout_of_the_archive_from_any_level_on(kepler, tess, tpf, tess_tpf,
                                                                       tmp_path, level):
    for folder, paths in (('kepler/fpc/prf', [kepler]),
                          ('tess/prf_fitsfiles/start_s0001/cam4_ccd1', tess)):
        target = tmp_path.joinpath('archive', *folder.split('/'))
        target.mkdir(parents=True)
        for path in paths:
            shutil.copy(path, target)
    (tmp_path / 'archive/tess/models').mkdir()
    (tmp_path / 'archive/tess/prf_fitsfiles').rename(
        tmp_path / 'archive/tess/models/prf_fitsfiles')
    parts = 'kepler', 'fpc', 'prf'
    prf = KeplerPRF.from_tpf(tpf, tmp_path.joinpath('archive', *parts[:level]))
    assert np.array_equal(prf.data, KeplerPRF.from_tpf(tpf, kepler).data)
    parts = 'tess', 'models', 'prf_fitsfiles', 'start_s0001'
    prf = TessPRF.from_tpf(tess_tpf, str(tmp_path.joinpath('archive', *parts[:level + 1])))
    assert np.array_equal(prf.data, TessPRF.from_tpf(tess_tpf, tess).data)
    assert len(prf.calibration.names) == 25


def test_a_folder_may_have_files_of_several_detectors_or_only_those_around_the_target(
        tess, tess_tpf, tmp_path):
    simulate_tess_prf(tmp_path, camera=4, ccd=2)
    for path in tess:
        if path.name[-20:-13] in ('row0001', 'row0513'):
            shutil.copy(path, tmp_path)
    prf = TessPRF.from_tpf(tess_tpf, tmp_path)
    assert len(prf.calibration.names) == 4
    assert prf.data == pytest.approx(TessPRF.from_tpf(tess_tpf, tess).data, rel=1e-10)


def test_a_folder_serves_pixels_that_do_not_tell_their_ccd(tess, write_tpf):
    tpf = read_tpf(write_tpf(mission='TESS', header={'CAMERA': None}))
    assert len(TessPRF.from_tpf(tpf, tess[0].parent).calibration.names) == 25


def test_a_folder_without_the_files_is_refused(tpf, tess_tpf, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'channel 20 \(7\.4\) needs kplr07\.4_2011265_prf'
                       rf'\.fits, but it is neither in the folder {tmp_path} nor'):
        KeplerPRF.from_tpf(tpf, tmp_path)
    with pytest.raises(FileNotFoundError, match=f'the folder {tmp_path} has none named tess'):
        TessPRF.from_tpf(tess_tpf, tmp_path)


def test_a_prf_is_forced_only_by_name(kepler, tpf):
    with pytest.raises(TypeError, match='positional'):
        KeplerPRF.from_tpf(tpf, kepler, True)


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


def test_a_file_that_is_found_is_opened_only_as_often_as_it_must_be(kepler, tess, monkeypatch):
    opened = []
    open_fits = calibration_module.open_fits
    for module in (calibration_module, files_module):
        def count(path, wanted, module=module):
            opened.append((module, path))
            return open_fits(path, wanted)
        monkeypatch.setattr(module, 'open_fits', count)
    with conf.set_temp('prf_path', [kepler.parent, tess[0].parent]):
        KeplerPRF.from_archive(20, 300, 200)
        assert opened == [(calibration_module, kepler)]
        TessPRF.from_archive((4, 1, 1), 300, 700)
    # That a file of TESS is complete is seen before it is read.
    assert len(opened) == 1 + 4 * 2


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
    monkeypatch.setattr('astropy.utils.data.download_file', lambda *args, **kwargs:
                        str(tmp_path / 'contents'))
    with conf.set_temp('prf_path', []):
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
