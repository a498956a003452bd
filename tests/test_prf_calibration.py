# Licensed under a 3-clause BSD style license - see LICENSE
"""PRF calibration files: what is read from them, and what bad ones are told."""

import copy
import gzip
import os
import pickle
import shutil

import numpy as np
import pytest
from astropy.io import fits

from kpsf.models import EllipticalGaussianPRF
from kpsf.prf import PRFCalibration, read_kepler_prf, read_tess_prf
from kpsf.simulate import simulate_kepler_prf, simulate_tess_prf


def model(column, row):
    """Return a PRF that differs in size from place to place."""
    return EllipticalGaussianPRF.from_stddev(1, 0, 0, 0.5 + column / 9000, 0.45 + row / 9000, 0.3)


@pytest.fixture(scope='module')
def kepler(tmp_path_factory):
    """A file with few samples, for changes."""
    return simulate_kepler_prf(tmp_path_factory.mktemp('prf') / 'kplr07.4_2011265_prf.fits', model,
                               n_pixels=11, oversampling=4)


@pytest.fixture(scope='module')
def tess(tmp_path_factory):
    return simulate_tess_prf(tmp_path_factory.mktemp('prf'), model)


@pytest.fixture
def changed(tmp_path):
    """Return a function that copies a file with changes: a function of the HDUList."""
    def write(path, change, name=None):
        with fits.open(path) as hdulist:
            hdulist = fits.HDUList([hdu.copy() for hdu in hdulist])
        result = change(hdulist)
        target = tmp_path / (name or path.name)
        (hdulist if result is None else result).writeto(target, checksum=False)
        return target
    return write


def set_keywords(number, **keywords):
    """Return a change of the keywords of one HDU; None removes one."""
    def change(hdulist):
        for key, value in keywords.items():
            if value is None:
                del hdulist[number].header[key]
            else:
                hdulist[number].header[key] = value
    return change


def set_pixel(number, value):
    def change(hdulist):
        hdulist[number].data[5, 6] = value
    return change


def test_everything_is_taken_from_the_header(kepler):
    calibration = read_kepler_prf(kepler)
    assert calibration.mission == 'Kepler'
    assert calibration.origin == (21.0, 21.0)
    assert calibration.spacing == 0.25
    assert calibration.columns.tolist() == [12, 12, 1111, 1111, 561.5]
    assert calibration.rows.tolist() == [20, 1043, 1043, 20, 531.5]
    assert calibration.detector == {'channel': 20, 'module': 7, 'output': 4}
    assert calibration.names == (str(kepler),)
    assert calibration.interpolations == ('barycentric', 'nearest', 'inverse-distance')


def test_the_values_are_those_of_the_file(kepler):
    calibration = read_kepler_prf(kepler)
    with fits.open(kepler) as hdulist:
        for image, hdu in zip(calibration.images, hdulist[1:]):
            assert np.array_equal(image, hdu.data)
    assert calibration.images.dtype == np.dtype('float64')


@pytest.mark.parametrize(('n_pixels', 'origin'), [(11, 274.0), (15, 374.0)])
def test_both_published_sizes_are_read(tmp_path, n_pixels, origin):
    path = simulate_kepler_prf(tmp_path / 'prf.fits', n_pixels=n_pixels)
    calibration = read_kepler_prf(path)
    assert calibration.images.shape == (5, 50 * n_pixels, 50 * n_pixels)
    assert calibration.origin == (origin, origin)


def test_another_reference_pixel_moves_the_origin(kepler, changed):
    def change(hdulist):
        for hdu in hdulist[1:]:
            hdu.header.update(CRPIX1P=21.5, CRPIX2P=23.0)
    assert read_kepler_prf(changed(kepler, change)).origin == (20.5, 22.0)


@pytest.mark.parametrize(('reported', 'centre_from'), [
    ((561.5, 531.5), 'header'), ((560.5, 532.5), 'header'), ((549.5, 511.5), 'mean'),
    ((564.5, 531.5), 'mean'), ((561.5, 529.0), 'mean')])
def test_the_centre_is_where_the_header_says_if_that_is_near_the_middle(
        kepler, changed, reported, centre_from):
    path = changed(kepler, set_keywords(5, CRVAL1P=reported[0], CRVAL2P=reported[1]))
    calibration = read_kepler_prf(path)
    centre = calibration.columns[4], calibration.rows[4]
    if centre_from == 'header':
        assert calibration.centre_from == 'header'
        assert centre == reported
        assert 'centre' not in repr(calibration)
    else:
        assert calibration.centre_from == 'mean of the corners'
        assert centre == (561.5, 531.5)
        assert 'centre mean of the corners' in repr(calibration)


def test_the_order_of_the_extensions_does_not_matter(kepler, changed):
    order = [5, 3, 1, 4, 2]
    path = changed(kepler, lambda hdulist: fits.HDUList(
        [hdulist[0], *(hdulist[number] for number in order)]))
    calibration, again = read_kepler_prf(kepler), read_kepler_prf(path)
    assert again.centre_from == 'mean of the corners'
    assert (again.columns[0], again.rows[0]) == (561.5, 531.5)
    for position in [(12, 20), (700, 200), (300, 1000)]:
        assert again.image(*position) == pytest.approx(calibration.image(*position), rel=1e-12)


@pytest.mark.parametrize(('keywords', 'name', 'expected'), [
    ({}, 'kplr02.1_2011265_prf.fits', (20, 7, 4)),
    ({'MODULE': None, 'OUTPUT': None}, 'prf.fits', (20, 7, 4)),
    ({'CHANNEL': None}, 'prf.fits', (20, 7, 4)),
    ({'CHANNEL': None, 'MODULE': None, 'OUTPUT': None}, 'kplr24.4_2011265_prf.fits', (84, 24, 4)),
    ({'CHANNEL': None, 'MODULE': None, 'OUTPUT': None}, 'contents', (None, None, None)),
])
def test_the_channel_comes_from_the_header_or_else_from_the_name(kepler, changed, keywords, name,
                                                                 expected):
    path = changed(kepler, set_keywords(0, **keywords), 'contents')
    detector = read_kepler_prf(path, name=name).detector
    assert tuple(detector.values()) == expected


@pytest.mark.parametrize('keywords', [{'CHANNEL': 5}, {'CHANNEL': 99}, {'MODULE': 8},
                                      {'CHANNEL': None, 'MODULE': 5}])
def test_headers_that_name_no_channel_or_two_are_refused(kepler, changed, keywords):
    path = changed(kepler, set_keywords(0, **keywords), 'odd.fits')
    with pytest.raises(ValueError, match=r'name one channel of Kepler, but that of .*odd.fits'):
        read_kepler_prf(path)


def test_a_mixture_has_the_weighted_images_at_equal_flux(kepler, changed):
    calibration = read_kepler_prf(kepler)
    weights = calibration.weights(300, 230)
    assert np.count_nonzero(weights) == 3
    scaled = [image / image.sum() / 0.25**2 for image in calibration.images]
    image = calibration.image(300, 230)
    assert image == pytest.approx(sum(w * s for w, s in zip(weights, scaled)), rel=1e-12)
    assert image.sum() * 0.25**2 == pytest.approx(1.0)

    def brighten(hdulist):
        hdulist[1].data *= 3
    brighter = read_kepler_prf(changed(kepler, brighten))
    assert brighter.image(300, 230) == pytest.approx(image, rel=1e-6)


def test_each_interpolation_has_its_own_weights(kepler):
    calibration = read_kepler_prf(kepler)
    assert calibration.weights(300, 230, 'nearest').tolist() == [1, 0, 0, 0, 0]
    assert (calibration.weights(300, 230, 'inverse-distance') > 0).all()
    assert np.array_equal(calibration.weights(300, 230), calibration.weights(300, 230,
                                                                             'barycentric'))
    with pytest.raises(ValueError, match="interpolate must be one of 'barycentric', 'nearest'"):
        calibration.weights(300, 230, 'bilinear')


def test_nobody_can_change_a_calibration_and_copies_share_it(kepler):
    calibration = read_kepler_prf(kepler)
    twin = pickle.loads(pickle.dumps(calibration))
    for array in (calibration.images, calibration.columns, calibration.rows, twin.images):
        with pytest.raises(ValueError, match='read-only'):
            array[0] = 1
    assert copy.deepcopy(calibration) is calibration
    again = pickle.loads(pickle.dumps(calibration))
    assert isinstance(again, PRFCalibration)
    assert np.array_equal(again.images, calibration.images)
    assert again.detector == calibration.detector


def test_compressed_files_are_read(kepler, tmp_path):
    path = tmp_path / 'prf.fits.gz'
    path.write_bytes(gzip.compress(kepler.read_bytes()))
    assert np.array_equal(read_kepler_prf(path).images, read_kepler_prf(kepler).images)


def test_images_compressed_in_tiles_are_read_and_damage_in_them_is_found(kepler, tmp_path):
    path = tmp_path / 'prf.fits.fz'
    with fits.open(kepler) as hdulist:
        fits.HDUList([hdulist[0].copy(), *(
            fits.CompImageHDU(hdu.data, hdu.header, compression_type='GZIP_1', quantize_level=0)
            for hdu in hdulist[1:])]).writeto(path)
    assert np.array_equal(read_kepler_prf(path).images, read_kepler_prf(kepler).images)
    with fits.open(path, disable_image_compression=True) as hdulist:
        start = hdulist[3].fileinfo()['datLoc'] + 1000
    content = bytearray(path.read_bytes())
    content[start:start + 1000] = bytes(1000)
    path.write_bytes(content)
    with pytest.raises(ValueError, match='prf.fits.fz must be a complete FITS file, but it is'):
        read_kepler_prf(path)


def test_the_flight_like_file_of_channel_20_is_read(kpsf_data):
    calibration = read_kepler_prf(kpsf_data / 'kepler_prf/kplr07.4_2011265_prf.fits')
    assert calibration.images.shape == (5, 550, 550)
    assert (calibration.origin, calibration.spacing) == ((274.0, 274.0), 0.02)
    assert calibration.centre_from == 'mean of the corners'
    assert calibration.detector['channel'] == 20


@pytest.mark.parametrize(('change', 'message'), [
    (lambda h: h[:5], '5 extensions, all of them images, but .* has 4, of which 4 are images'),
    (lambda h: fits.HDUList([*h, h[5].copy()]), 'has 6, of which 6 are images'),
    (lambda h: fits.HDUList([*h[:5], fits.BinTableHDU.from_columns(
        [fits.Column('A', 'D', array=[1.0])])]), 'has 5, of which 4 are images'),
    (set_keywords(2, CRPIX1P=None), 'extension 2 of .* lacks CRPIX1P: pass'),
    (set_keywords(4, CRVAL2P=None, CDELT1P=None), 'extension 4 of .* lacks CDELT1P, CRVAL2P'),
    (set_keywords(1, CRVAL1P='left'), 'extension 1 of .* lacks CRVAL1P'),
    (set_pixel(3, np.nan), 'must be finite, but 1 of 1936 values in extension 3 of'),
    (set_pixel(3, np.inf), 'must be finite, but 1 of 1936 values in extension 3 of'),
    (set_pixel(2, -1e6), 'needs a sum > 0, but that of extension 2 of .* is -'),
    (lambda h: h[5].data.fill(0), 'needs a sum > 0, but that of extension 5 of .* is 0: '),
    (set_keywords(3, CDELT1P=0.03, CDELT2P=0.03), 'extension 3 of .* are 0.03 and 0.03: pass'),
    (set_keywords(3, CDELT2P=0.5), 'extension 3 of .* are 0.25 and 0.5: pass'),
    (set_keywords(3, CDELT1P=-0.25), 'extension 3 of .* are -0.25 and 0.25'),
    (set_keywords(3, CDELT1P=0.0), 'extension 3 of .* are 0 and 0.25'),
    (set_keywords(3, CDELT1P=0.5, CDELT2P=0.5), 'the spacing is 0.25 in extension 1 of .* and 0.5 '
     'in extension 3'),
    (set_keywords(5, CRPIX2P=23.0), r'the origin is \(21.0, 21.0\) in extension 1 of .* and '
     r'\(21.0, 22.0\) in extension 5'),
    (set_keywords(5, CRPIX2P=450.0), 'The star must be in the image, but CRPIX1P and CRPIX2P in '
     'extension 5 of .* are 22 and 450, and the image has 44 x 44 samples'),
    (set_keywords(1, CRVAL1P=500.0), 'images at four corners and a centre, but .* has others'),
    (set_keywords(5, CRVAL1P=12.0, CRVAL2P=20.0), 'images at four corners and a centre'),
])
def test_bad_kepler_files_are_refused_with_words(kepler, changed, change, message):
    path = changed(kepler, change, 'bad.fits')
    with pytest.raises(ValueError, match=message) as caught:
        read_kepler_prf(path)
    assert 'bad.fits' in str(caught.value)
    with pytest.raises(ValueError, match='kplr99') as caught:
        read_kepler_prf(path, name='kplr99.fits')
    assert 'bad.fits' not in str(caught.value)


def test_images_of_another_shape_are_refused(kepler, changed):
    def change(hdulist):
        hdulist[4].data = hdulist[4].data[:40]
    with pytest.raises(ValueError, match=r'the shape is \(44, 44\) in extension 1 of .* and '
                       r'\(40, 44\) in extension 4'):
        read_kepler_prf(changed(kepler, change))


@pytest.mark.parametrize('data', [None, np.ones(7, np.float32), np.ones((2, 3, 4), np.float32)])
def test_extensions_without_an_image_are_refused(kepler, changed, data):
    def change(hdulist):
        header = hdulist[2].header.copy()
        hdulist[2] = fits.ImageHDU(data)
        hdulist[2].header.extend(header, unique=True)
    with pytest.raises(ValueError, match='two axes, but extension 2 of .* has'):
        read_kepler_prf(changed(kepler, change))


@pytest.mark.parametrize('part', [0.3, 0.7, 0.95, 0.998])
@pytest.mark.parametrize('is_compressed', [False, True])
def test_truncated_files_are_refused(kepler, tmp_path, part, is_compressed):
    content = kepler.read_bytes()
    content = gzip.compress(content) if is_compressed else content
    path = tmp_path / ('prf.fits.gz' if is_compressed else 'prf.fits')
    path.write_bytes(content[:int(part * len(content))])
    with pytest.raises(ValueError, match='truncated or damaged|must have 5 extensions'):
        read_kepler_prf(path)


@pytest.mark.parametrize('read', [read_kepler_prf, read_tess_prf])
def test_what_is_no_file_of_fits_is_refused(tmp_path, read):
    path = tmp_path / 'prf.fits'
    with pytest.raises(FileNotFoundError, match='there is no file .*prf.fits: check the name'):
        read(path)
    path.write_bytes(b'')
    with pytest.raises(ValueError, match='is empty and is no FITS file'):
        read(path)
    path.write_bytes(b'<html>404 Not Found</html>')
    with pytest.raises(ValueError, match="begins with b'<html>404' and is no FITS file"):
        read(path)


@pytest.mark.parametrize('name', ['tabby-corrupted-at-header.fits', 'tabby-corrupted.fits',
                                  'tabby-corrupted-at-header2.fits', 'tpf-with-nans.fits'])
@pytest.mark.parametrize('read', [read_kepler_prf, read_tess_prf])
def test_corrupt_and_foreign_files_are_refused(kpsf_data, name, read):
    with pytest.raises(ValueError, match='truncated or damaged|PRF file must have'):
        read(kpsf_data / 'corrupt' / name)


def test_folders_are_no_kepler_file(tmp_path):
    with pytest.raises(IsADirectoryError, match='A Kepler PRF file is needed, but .* is a folder'):
        read_kepler_prf(tmp_path)


def test_files_of_the_other_mission_are_refused(kepler, tess):
    with pytest.raises(ValueError, match='has 1, of which 1 are images'):
        read_kepler_prf(tess[0])
    with pytest.raises(ValueError, match="DATATYPE 'PRF', but .* has no DATATYPE there"):
        read_tess_prf(kepler)


def test_all_files_of_a_ccd_make_a_calibration(tess):
    calibration = read_tess_prf(tess)
    assert calibration.mission == 'TESS'
    assert calibration.origin == (58.0, 58.0)
    assert calibration.spacing == 1 / 9
    assert calibration.detector == {'camera': 4, 'ccd': 1, 'first_sector': 1}
    assert calibration.centre_from is None
    assert calibration.interpolations == ('bilinear', 'nearest', 'inverse-distance')
    assert calibration.names == tuple(map(str, tess))
    positions = set(zip(calibration.columns, calibration.rows))
    assert positions == {(column, row) for column in (45, 557, 1069, 1580, 2092)
                         for row in (1, 513, 1025, 1536, 2048)}
    for image, path in zip(calibration.images, tess):
        assert np.array_equal(image, fits.getdata(path))


def test_a_folder_stands_for_the_prf_files_in_it(tess, tmp_path):
    for path in tess:
        shutil.copy(path, tmp_path)
    (tmp_path / 'tess2018243163601-phot-4-1.fits').write_text('something else')
    calibration = read_tess_prf(str(tmp_path))
    assert len(calibration.names) == 25
    assert np.array_equal(calibration.image(300, 700), read_tess_prf(tess).image(300, 700))


def test_a_folder_without_prf_files_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='the folder .* has none named tess'):
        read_tess_prf(tmp_path)


@pytest.mark.parametrize(('column', 'row'), [(300, 700), (45, 1), (2092, 2048), (557, 800),
                                             (1800, 1025)])
def test_the_cell_alone_gives_what_the_whole_grid_gives(tess, column, row):
    whole = read_tess_prf(tess)
    used = whole.weights(column, row) > 0
    part = read_tess_prf([path for path, use in zip(tess, used) if use][::-1])
    assert part.image(column, row) == pytest.approx(whole.image(column, row), rel=1e-12)


def test_one_file_is_a_calibration(tess):
    calibration = read_tess_prf(tess[7])
    assert calibration.images.shape == (1, 117, 117)
    assert calibration.weights(300, 700).tolist() == [1.0]


@pytest.mark.parametrize(('keywords', 'name', 'expected'), [
    ({}, 'contents', 1),
    ({'VERSION': 'UPDATED_2.0'}, 'contents', 4),
    ({'VERSION': 'UPDATED_2.0', 'DATE': '01-May-2019'}, 'tess2018243163601-prf-4-1.fits', 4),
    ({'DATE': '01-Feb-2019'}, 'tess2018243163601-prf-4-1.fits', 1),
    ({'DATE': None}, 'tess2019107181902-prf-4-1.fits', 4),
    ({'DATE': '01-Feb-2019'}, 'contents', None),
])
def test_the_range_of_sectors_comes_from_the_header_or_else_from_the_name(tess, changed, keywords,
                                                                          name, expected):
    path = changed(tess[0], set_keywords(0, **keywords), 'contents')
    assert read_tess_prf([path], names=[name]).detector['first_sector'] == expected


def test_the_real_sets_tell_their_sectors(kpsf_data):
    for first_sector, folder in ((1, 'start_s0001/cam4_ccd1'), (1, 'start_s0001/cam4_ccd2'),
                                 (4, 'start_s0004/cam1_ccd1')):
        paths = sorted((kpsf_data / 'tess_prf' / folder).iterdir())
        detector = read_tess_prf(paths, names=['contents'] * 25).detector
        assert detector == {'camera': int(folder[15]), 'ccd': int(folder[-1]),
                            'first_sector': first_sector}


def test_all_real_files_are_normalised_at_every_phase_and_read_as_they_are(kpsf_data):
    paths = sorted((kpsf_data / 'tess_prf').glob('*/*/*.fits'))
    assert len(paths) == 75
    for path in paths:
        calibration = read_tess_prf(path)
        with fits.open(path) as hdulist:
            data, header = hdulist[0].data, hdulist[0].header
        # As is: no flip, no transpose, no clipping; the name tells the position as well.
        assert np.array_equal(calibration.images[0], data)
        assert f'-row{calibration.rows[0]:04.0f}-col{calibration.columns[0]:04.0f}.' in path.name
        assert calibration.origin == (58.0, 58.0)
        assert (header['CAM'], header['CCD']) == tuple(calibration.detector.values())[:2]
        sums = [calibration.images[0, i::9, j::9].sum() for i in range(9) for j in range(9)]
        assert sums == pytest.approx(np.ones(81), abs=0.005)


@pytest.mark.parametrize(('change', 'message'), [
    (set_keywords(0, DATATYPE='Uncertainties'), "DATATYPE 'PRF', but .* has DATATYPE 'Uncert"),
    (set_keywords(0, DATATYPE=None), "DATATYPE 'PRF', but .* has no DATATYPE there"),
    (lambda h: fits.HDUList([fits.PrimaryHDU(h[1].data, h[1].header)]), "'Uncertainties' there"),
    (set_keywords(0, CAM=None), 'lacks CAM'),
    (set_keywords(0, CAM=7.0), 'CAM 7, CCD 1'),
    (set_keywords(0, CAM=3.6), 'CAM 3.6, CCD 1'),
    (set_keywords(0, CRVAL2P=None), 'lacks CRVAL2P'),
    (set_pixel(0, np.nan), 'must be finite, but 1 of 13689 values'),
    (lambda h: h[0].data.fill(0), 'needs a sum > 0'),
    (set_keywords(0, CDELT1P=0.12, CDELT2P=0.12), 'must divide a pixel evenly, but .* 0.12'),
])
def test_bad_tess_files_are_refused_with_words(tess, changed, change, message):
    path = changed(tess[0], change, 'bad.fits')
    with pytest.raises(ValueError, match=message) as caught:
        read_tess_prf([path, *tess[1:]])
    assert 'bad.fits' in str(caught.value)


def test_an_incomplete_grid_is_refused(tess):
    with pytest.raises(ValueError, match=r'of 25 nodes 2 are missing, at \(column, row\) '
                       r'\(557, 1\), \(1580, 2048\): pass these files too'):
        read_tess_prf([path for path in tess if 'row0001-col0557' not in path.name
                       and 'row2048-col1580' not in path.name])
    with pytest.raises(ValueError, match='of 9 nodes 6 are missing'):
        read_tess_prf([tess[0], tess[6], tess[12]])


def test_a_position_twice_is_refused(tess):
    with pytest.raises(ValueError, match='are both at column 45, row 1: leave out one'):
        read_tess_prf([*tess, tess[0]])


@pytest.mark.parametrize(('keywords', 'found'), [
    ({'CAM': 3.0}, 'camera 3 CCD 1 from sector 1'), ({'CCD': 4.0}, 'camera 4 CCD 4'),
    ({'VERSION': 'UPDATED_2.0'}, 'camera 4 CCD 1 from sector 4')])
def test_files_of_several_detectors_are_refused(tess, changed, keywords, found):
    path = changed(tess[3], set_keywords(0, **keywords), 'other.fits')
    with pytest.raises(ValueError, match='must belong to one camera, CCD and range of sectors, '
                       f'but .* is of camera 4 CCD 1 from sector 1 and .*other.fits of {found}'):
        read_tess_prf([*tess[:3], path, *tess[4:]])


def test_files_of_another_sampling_are_refused(tess, changed):
    path = changed(tess[24], set_keywords(0, CRPIX1P=60.0), 'other.fits')
    with pytest.raises(ValueError, match=r'the origin is \(58.0, 58.0\) in .*row0001-col0045.fits '
                       r'and \(59.0, 58.0\) in .*other.fits'):
        read_tess_prf([*tess[:24], path])


def test_no_files_or_too_few_names_are_refused(tess):
    with pytest.raises(ValueError, match='the list is empty'):
        read_tess_prf([])
    with pytest.raises(ValueError, match='one entry for each of the 25 files, but has 2'):
        read_tess_prf(tess, names=['a', 'b'])


def test_a_truncated_tess_file_is_refused(tess, tmp_path):
    content = tess[0].read_bytes()
    path = tmp_path / os.path.basename(tess[0])
    for length in (2000, 50_000, len(content) // 2 + 3000, len(content) - 5000):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match='truncated or damaged'):
            read_tess_prf([path, *tess[1:]])
