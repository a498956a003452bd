# Licensed under a 3-clause BSD style license - see LICENSE
"""Simulated PRF calibration files: layout, and that their PRF is what it should be."""

import os
from itertools import combinations

import numpy as np
import pytest
from astropy.io import fits
from astropy.modeling.models import Gaussian2D

from kpsf.models import EllipticalGaussianPRF
from kpsf.simulate import simulate_kepler_prf, simulate_tess_prf

PRF = EllipticalGaussianPRF.from_stddev(1.0, 0.0, 0.0, 0.6, 0.5, 0.4)


def phase_sums(image, n):
    """Return the sums (n, n) over the pixels of every sub-pixel phase."""
    return np.array([[image[i::n, j::n].sum() for j in range(n)] for i in range(n)])


def images_of(path):
    with fits.open(path) as hdulist:
        return [hdu.data.astype(float) for hdu in hdulist if hdu.data is not None]


@pytest.fixture(scope='module')
def kepler(tmp_path_factory):
    return simulate_kepler_prf(tmp_path_factory.mktemp('prf') / 'kplr07.4_2011265_prf.fits')


@pytest.fixture(scope='module')
def tess(tmp_path_factory):
    return simulate_tess_prf(tmp_path_factory.mktemp('prf'))


def test_the_pixels_of_every_phase_sum_to_1(kepler, tess):
    for image in images_of(kepler):
        assert image.shape == (550, 550)
        assert phase_sums(image, 50) == pytest.approx(1.0, abs=1e-6)
    for path in tess:
        image, uncertainty = images_of(path)
        assert image.shape == uncertainty.shape == (117, 117)
        assert phase_sums(image, 9) == pytest.approx(1.0, abs=1e-9)


def test_kepler_files_have_the_header_of_the_archive(kepler):
    with fits.open(kepler) as hdulist:
        hdulist.verify('exception')
        assert len(hdulist) == 6
        primary = hdulist[0].header
        assert [primary[key] for key in ('TELESCOP', 'CHANNEL', 'MODULE', 'OUTPUT')] == [
            'Kepler', 20, 7, 4]
        assert primary['SIMDATA'] is True
        assert primary['DATE'] == '2011-09-22'
        positions = []
        for hdu in hdulist[1:]:
            assert hdu.header['BITPIX'] == -32
            assert hdu.header['WCSNAMEP'] == 'PHYSICAL'
            for axis, name in ((1, 'RAWX'), (2, 'RAWY')):
                assert hdu.header[f'CTYPE{axis}P'] == name
                assert hdu.header[f'CRPIX{axis}P'] == 275
                assert hdu.header[f'CDELT{axis}P'] == 0.02
            positions.append((hdu.header['CRVAL1P'], hdu.header['CRVAL2P']))
    assert positions == [(12, 20), (12, 1043), (1111, 1043), (1111, 20), (549.5, 511.5)]


def test_the_true_centre_can_be_in_the_header(tmp_path):
    path = simulate_kepler_prf(tmp_path / 'prf.fits', n_pixels=5, oversampling=2,
                               centre_as_published=False)
    header = fits.getheader(path, 5)
    assert (header['CRVAL1P'], header['CRVAL2P']) == (561.5, 531.5)


def test_wide_files_have_15_pixels(tmp_path):
    path = simulate_kepler_prf(tmp_path / 'prf.fits', PRF, n_pixels=15, oversampling=50)
    header = fits.getheader(path, 1)
    assert [header[key] for key in ('NAXIS1', 'NAXIS2', 'CRPIX1P', 'CRPIX2P')] == [
        750, 750, 375, 375]


@pytest.mark.parametrize(('sector', 'stamp', 'version', 'date'), [
    (1, '2018243163601', None, '30-Jan-2019'),
    (3, '2018243163601', None, '30-Jan-2019'),
    (4, '2019107181902', 'UPDATED_2.0', '01-May-2019'),
    (50, '2019107181902', 'UPDATED_2.0', '01-May-2019'),
])
def test_tess_files_have_name_and_header_of_the_archive(tmp_path, sector, stamp, version, date):
    paths = simulate_tess_prf(tmp_path, PRF, camera=4, ccd=2, sector=sector)
    assert len(paths) == len(list(tmp_path.iterdir())) == 25
    path = tmp_path / f'tess{stamp}-prf-4-2-row0513-col1580.fits'
    assert path in paths
    assert os.path.getsize(path) == 230400
    with fits.open(path) as hdulist:
        hdulist.verify('exception')
        assert len(hdulist) == 2
        header = hdulist[0].header
        assert hdulist[1].header['DATATYPE'] == 'Uncertainties'
    assert (header.get('VERSION'), header['DATE']) == (version, date)
    assert header['BITPIX'] == -64
    assert [header[key] for key in ('DATATYPE', 'TELESCOP', 'CAM', 'CCD', 'CCD_RREF', 'CCD_CREF',
                                    'NSAMP', 'CRPIX1P', 'CRPIX2P', 'CRVAL1P', 'CRVAL2P')] == [
        'PRF', 'TESS', 4.0, 2.0, 513.0, 1580.0, 9.0, 59.0, 59.0, 1580.0, 513.0]
    assert header['CDELT1P'] == header['CDELT2P'] == 0.111111111111111


def test_a_real_file_has_the_same_keywords(kpsf_data, tess):
    real = kpsf_data / 'tess_prf/start_s0001/cam4_ccd1' / tess[0].name
    ours, theirs = (fits.getheader(path) for path in (tess[0], real))
    comments = {'', 'COMMENT', 'SIMDATA'}
    assert set(ours) - comments == set(theirs) - comments
    same = set(theirs) - comments - {'ORIGIN'}
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}


def test_the_values_are_those_of_the_model_about_the_reference_pixel(tmp_path):
    moved = PRF.copy()
    moved.flux, moved.x_0 = 7.0, 3.0
    path = simulate_kepler_prf(tmp_path / 'prf.fits', moved, n_pixels=5, oversampling=10)
    for image in images_of(path):
        # CRPIX = 25 counts from 1.
        assert image[24, 24] == pytest.approx(PRF(0.0, 0.0), rel=1e-6)
        assert image[24, 34] == pytest.approx(PRF(1.0, 0.0), rel=1e-6)
        assert image[29, 17] == pytest.approx(PRF(-0.7, 0.5), rel=1e-6)
    assert (moved.flux, moved.x_0) == (7.0, 3.0)
    image, _ = images_of(simulate_tess_prf(tmp_path, PRF)[12])
    assert image[58, 58] == pytest.approx(PRF(0.0, 0.0), rel=1e-12)
    assert image[60, 51] == pytest.approx(PRF(-7 / 9, 2 / 9), rel=1e-12)


def test_a_function_gives_the_model_of_every_position(tmp_path):
    asked = []

    def model(column, row):
        asked.append((column, row))
        return EllipticalGaussianPRF.from_stddev(1, 0, 0, 0.4 + column / 5000, 0.4 + row / 5000)

    path = simulate_kepler_prf(tmp_path / 'prf.fits', model, n_pixels=5, oversampling=3)
    # The fifth is made for the true centre, wherever the header puts it.
    assert asked == [(12, 20), (12, 1043), (1111, 1043), (1111, 20), (561.5, 531.5)]
    for position, image in zip(list(asked), images_of(path)):
        assert image[7, 7] == pytest.approx(model(*position)(0.0, 0.0), rel=1e-6)
    asked.clear()
    simulate_tess_prf(tmp_path, model)
    assert sorted(asked) == [(column, row) for column in (45, 557, 1069, 1580, 2092)
                             for row in (1, 513, 1025, 1536, 2048)]


def test_a_mixture_is_taken_as_it_stands(tmp_path):
    core, wings = (EllipticalGaussianPRF.from_stddev(flux, 0, 0, width, width)
                   for flux, width in ((0.7, 0.4), (0.3, 0.9)))
    path = simulate_kepler_prf(tmp_path / 'prf.fits', core + wings, n_pixels=15, oversampling=4)
    image = images_of(path)[0]
    assert image[29, 29] == pytest.approx(core(0.0, 0.0) + wings(0.0, 0.0), rel=1e-6)
    assert phase_sums(image, 4) == pytest.approx(1.0, abs=1e-6)


def test_by_default_the_corners_are_wider_than_the_centre_and_differ(kepler, tess):
    peaks = np.array([image.max() for image in images_of(kepler)])
    assert (peaks[:4] < 0.9 * peaks[4]).all()
    assert all(np.abs(first - second).max() > 0.02 * peaks[4]
               for first, second in combinations(images_of(kepler), 2))
    peaks = np.array([images_of(path)[0].max() for path in tess]).reshape(5, 5)
    assert peaks.argmax() == 12
    assert peaks.max() > 1.1 * peaks.min()


def test_a_file_that_exists_is_kept_unless_told_otherwise(tmp_path):
    path = simulate_kepler_prf(tmp_path / 'prf.fits', PRF, n_pixels=3, oversampling=2)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match='pass overwrite=True'):
        simulate_kepler_prf(path, n_pixels=3, oversampling=3)
    assert path.read_bytes() == before
    simulate_kepler_prf(path, n_pixels=3, oversampling=3, overwrite=True)
    assert path.read_bytes() != before


def test_tess_files_come_all_or_none(tmp_path):
    folder = tmp_path / 'new' / 'folder'
    paths = simulate_tess_prf(folder, PRF)
    for path in paths[:-1]:
        path.unlink()
    with pytest.raises(FileExistsError, match='row2048-col2092.fits exists already'):
        simulate_tess_prf(folder, PRF)
    assert list(folder.iterdir()) == paths[-1:]
    assert simulate_tess_prf(folder, PRF, overwrite=True) == paths
    assert sorted(folder.iterdir()) == sorted(paths)


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    ({'channel': 85}, ValueError, 'channel must be a whole number, 1 to 84, but it is 85'),
    ({'n_pixels': 0}, ValueError, 'n_pixels must be a whole number of at least 1'),
    ({'oversampling': 2.5}, ValueError, 'oversampling must be a whole number'),
    ({'psf': 3.0}, TypeError, 'an astropy model or a function .* but found float'),
    ({'psf': lambda column, row: 1.0}, TypeError, 'an astropy model of x and y, but found float'),
    ({'psf': Gaussian2D(np.nan)}, ValueError, 'The PRF must be finite, but 9 of 9 values'),
])
def test_wrong_arguments_say_what_to_do(tmp_path, arguments, error, message):
    arguments = {'n_pixels': 3, 'oversampling': 1, **arguments}
    with pytest.raises(error, match=message):
        simulate_kepler_prf(tmp_path / 'prf.fits', **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('arguments', [{'camera': 5}, {'ccd': 0}, {'sector': 0}])
def test_tess_detectors_that_do_not_exist_are_refused(tmp_path, arguments):
    name = next(iter(arguments))
    with pytest.raises(ValueError, match=f'{name} must be a whole number'):
        simulate_tess_prf(tmp_path / 'prf', **arguments)
    assert not (tmp_path / 'prf').exists()
