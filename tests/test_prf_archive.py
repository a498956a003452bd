# Licensed under a 3-clause BSD style license - see LICENSE
"""PRF files: their names, which ones pixels need, and how local folders are searched."""

import shutil
from pathlib import Path

import pytest

from kpsf import conf, read_tpf, simulate_kepler_prf, simulate_tess_prf, simulate_tpf
from kpsf.prf import kepler_prf_file, prf_files_of, tess_prf_files
from kpsf.prf.archive import find_prf, require_local_folders

KEPLER = 'kepler/fpc/prf/kplr07.4_2011265_prf.fits'
TESS = 'tess/models/prf_fitsfiles/start_s0001/cam4_ccd1'
# The node at column 1069, row 1025.
NODE = f'{TESS}/tess2018243163601-prf-4-1-row1025-col1069.fits'
PAGE = b'<html><body>The archive is down for maintenance.</body></html>'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder with small PRF files in the archive's layout."""
    folder = tmp_path_factory.mktemp('archive')
    (folder / KEPLER).parent.mkdir(parents=True)
    simulate_kepler_prf(folder / KEPLER, channel=20, n_pixels=3, oversampling=4)
    simulate_kepler_prf(folder / 'foreign.fits', channel=21, n_pixels=3, oversampling=4)
    (folder / TESS).mkdir(parents=True)
    simulate_tess_prf(folder / TESS, camera=4, ccd=1, sector=1)
    return folder


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    """Keep the cache and settings of a test apart from all others; no archive answers."""
    (tmp_path / 'cache/kpsf').mkdir(parents=True)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    with (conf.set_temp('prf_path', []),
          conf.set_temp('archive_url', 'http://127.0.0.1:9/missions')):
        yield


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def find_kepler(channel):
    return find_prf(kepler_prf_file(channel)).path


def find_tess(*detector_and_place):
    return [find_prf(file).path for file in tess_prf_files(*detector_and_place)]


def tess_names(*detector_and_place):
    return [file.locations[0] for file in tess_prf_files(*detector_and_place)]


def test_the_name_of_a_kepler_file_has_the_module_and_the_output():
    assert kepler_prf_file(20).locations == (KEPLER,)
    assert kepler_prf_file(41.0).locations == ('kepler/fpc/prf/kplr13.1_2011265_prf.fits',)


@pytest.mark.parametrize(('camera', 'ccd', 'sector', 'start', 'time'), [
    (1, 1, 1, 1, 2018243163600), (2, 3, 3, 1, 2018243163600), (2, 4, 2, 1, 2018243163601),
    (4, 4, 3, 1, 2018243163601), (1, 1, 4, 4, 2019107181900), (1, 2, 5, 4, 2019107181901),
    (3, 1, 90, 4, 2019107181901), (3, 2, 4, 4, 2019107181902), (4, 4, 26, 4, 2019107181902),
])
def test_tess_files_are_in_one_of_two_sets(camera, ccd, sector, start, time):
    names = tess_names(camera, ccd, sector)
    assert len(set(names)) == 25
    assert names[0] == (f'tess/models/prf_fitsfiles/start_s000{start}/cam{camera}_ccd{ccd}/'
                        f'tess{time}-prf-{camera}-{ccd}-row0001-col0045.fits')
    assert names[-1].endswith(f'tess{time}-prf-{camera}-{ccd}-row2048-col2092.fits')


@pytest.mark.parametrize(('column', 'row', 'expected'), [
    (1000, 1000, ['row0513-col0557', 'row0513-col1069', 'row1025-col0557', 'row1025-col1069']),
    (1069, 1000.5, ['row0513-col1069', 'row1025-col1069']),
    (1069.0, 1025, ['row1025-col1069']),
    (2, 700, ['row0513-col0045', 'row1025-col0045']),
    (2136, 2078, ['row2048-col2092']),
    (46, 1, ['row0001-col0045', 'row0001-col0557']),
])
def test_a_position_needs_only_the_files_around_it(column, row, expected):
    names = tess_names(4, 1, 1, column, row)
    assert [name[-20:-5] for name in names] == expected
    assert set(names) <= set(tess_names(4, 1, 1))


def test_the_names_are_those_of_the_real_files(kpsf_data):
    real = kpsf_data / 'tess_prf'
    names = [name for detector in ((4, 1, 1), (4, 2, 3), (1, 1, 4))
             for name in tess_names(*detector)]
    place = 'tess/models/prf_fitsfiles/'
    assert sorted(name.removeprefix(place) for name in names) == files_in(real)
    assert files_in(kpsf_data / 'kepler_prf') == [kepler_prf_file(20).name]


@pytest.mark.parametrize('level', range(4))
def test_a_local_folder_may_begin_at_any_level_of_the_layout(tmp_path, folder, level):
    place = tmp_path / 'local' / Path(*Path(KEPLER).parts[level:])
    place.parent.mkdir(parents=True)
    shutil.copy(folder / KEPLER, place)
    conf.prf_path = [tmp_path / 'local']
    assert find_kepler(20) == place
    conf.prf_path = str(tmp_path / 'local')
    assert find_kepler(20) == place


@pytest.mark.parametrize('level', range(6))
def test_a_local_folder_of_tess_may_begin_at_any_level_too(folder, level):
    conf.prf_path = [folder / Path(*Path(NODE).parts[:level])]
    assert find_tess(4, 1, 2, 1069, 1025) == [folder / NODE]
    assert [path.name for path in find_tess(4, 1, 2)] == [
        Path(name).name for name in tess_names(4, 1, 2)]


def test_the_first_folder_counts(tmp_path, folder):
    (tmp_path / 'first').mkdir()
    conf.prf_path = [tmp_path / 'first', folder]
    assert find_kepler(20) == folder / KEPLER
    shutil.copy(folder / KEPLER, tmp_path / 'first')
    assert find_kepler(20) == tmp_path / 'first' / Path(KEPLER).name


@pytest.mark.parametrize(('content', 'message'), [
    (lambda good: good[:-2880], 'must be a complete FITS file, but it is truncated'),
    (lambda good: good[:len(good) // 2], '.*(has 2|ends after the first image)'),
    (lambda good: PAGE, 'begins with .* and is no FITS file'),
    (lambda good: b'', 'is empty and is no FITS file'),
])
def test_a_damaged_local_file_is_named_and_not_passed_over(tmp_path, folder, content, message):
    conf.prf_path = [tmp_path, folder]
    for place, find, arguments in ((KEPLER, find_kepler, [20]),
                                   (NODE, find_tess, [4, 1, 1])):
        bad = tmp_path / Path(place).name
        bad.write_bytes(content((folder / place).read_bytes()))
        with pytest.raises(ValueError, match=f'{bad} {message}'):
            find(*arguments)


def test_a_local_file_of_another_detector_is_refused(tmp_path, folder):
    path = shutil.copy(folder / 'foreign.fits', tmp_path / Path(KEPLER).name)
    conf.prf_path = [tmp_path]
    with pytest.raises(ValueError, match=rf'{path} must be of channel 20 \(7\.4\), but its header '
                                         r'says channel 21 \(8\.1\): put the right file there'):
        find_kepler(20)


def test_a_local_file_of_another_position_is_refused(tmp_path, folder):
    path = shutil.copy(folder / tess_names(4, 1, 1)[0], tmp_path / Path(NODE).name)
    conf.prf_path = [tmp_path]
    with pytest.raises(ValueError, match=f'{path} must be of column 1069, row 1025, but its '
                                         'header says 45, 1: put'):
        find_tess(4, 1, 1, 1069, 1025)


def test_tess_files_of_another_time_serve_but_no_strays_and_no_other_set(tmp_path, folder):
    file, = tess_prf_files(4, 1, 5, 1069, 1025)
    for name in ('tess2018243163601-prf-4-1-row1025-col1069.fits',
                 'tess2018243163600-prf-4-1-row1025-col1069.fits',
                 'tess2020000000000-phot-4-1-row1025-col1069.fits',
                 'tess2020000000000_old-prf-4-1-row1025-col1069.fits',
                 'tess2020000000000-prf-4-1-row1025-col1069.fits.part',
                 'tess2020000000000-prf-4-2-row1025-col1069.fits'):
        (tmp_path / name).write_text('stray')
    assert file.find_in(tmp_path) is None
    shutil.copy(folder / NODE, tmp_path / 'tess2020000000000-prf-4-1-row1025-col1069.fits')
    shutil.copy(folder / NODE, tmp_path / 'tess2019999999999-prf-4-1-row1025-col1069.fits')
    other = tmp_path / 'cam4_ccd1' / 'tess2019107181900-prf-4-1-row1025-col1069.fits'
    other.parent.mkdir()
    shutil.copy(folder / NODE, other)
    # What lies where the archive has it comes first.
    assert file.find_in(tmp_path) == other
    other.unlink()
    assert file.find_in(tmp_path).name == 'tess2020000000000-prf-4-1-row1025-col1069.fits'
    exact = tmp_path / Path(file.locations[0]).name
    shutil.copy(folder / NODE, exact)
    assert file.find_in(tmp_path) == exact


@pytest.mark.parametrize(('path', 'error', 'message'), [
    (['/does/not/exist'], FileNotFoundError,
     'kpsf.conf.prf_path must list folders, but there is no folder /does/not/exist: create the'),
    ([__file__], FileNotFoundError, f'but {__file__} is a file: create the folder, or take that'),
    ('/does/not/exist', FileNotFoundError, 'there is no folder /does/not/exist'),
    ([3], TypeError, 'must list folders, but it has 3: list their names'),
])
def test_a_path_that_cannot_work_is_told(path, error, message):
    conf.prf_path = path
    with pytest.raises(error, match=message):
        find_kepler(20)


def test_a_folder_that_is_not_reached_may_be_missing(folder):
    conf.prf_path = [folder, '/does/not/exist']
    assert find_kepler(20) == folder / KEPLER
    with pytest.raises(FileNotFoundError, match='there is no folder /does/not/exist'):
        find_kepler(21)
    with pytest.raises(FileNotFoundError, match='there is no folder /does/not/exist'):
        require_local_folders()


@pytest.mark.parametrize(('mission', 'header', 'expected'), [
    ('Kepler', {}, [KEPLER]),
    ('K2', {'CHANNEL': None}, [KEPLER]),
    ('TESS', {}, tess_names(4, 1, 1, 600, 30)),
    ('TESS', {'SECTOR': 30, 'CAMERA': 1}, tess_names(1, 1, 30, 600, 30)),
])
def test_a_target_pixel_file_tells_which_files_it_needs(tmp_path, mission, header, expected):
    path = simulate_tpf(tmp_path / 'pixels.fits', mission=mission, n_cadences=3, column=598,
                        row=28, header=header)
    assert [file.locations[0] for file in prf_files_of(read_tpf(path))] == expected


@pytest.mark.parametrize(('mission', 'header', 'message'), [
    ('TESS', {'SECTOR': None}, r'the PRF of TIC \d+, .* CAMERA, CCD, SECTOR, but it lacks SECTOR'),
    ('K2', {'CHANNEL': None, 'OUTPUT': None}, 'have MODULE, OUTPUT, but it lacks OUTPUT: choose'),
])
def test_a_header_that_does_not_tell_is_an_error(tmp_path, mission, header, message):
    path = simulate_tpf(tmp_path / 'pixels.fits', mission=mission, n_cadences=3, header=header)
    with pytest.raises(ValueError, match=message):
        prf_files_of(read_tpf(path))


def test_the_real_files_serve_from_their_folders(kpsf_data):
    conf.prf_path = [kpsf_data / 'kepler_prf', kpsf_data / 'tess_prf']
    assert find_kepler(20).parent == kpsf_data / 'kepler_prf'
    pixels = read_tpf(kpsf_data / 'tess' / 'tess25155310-s01-first-cadences.fits.gz')
    names = [find_prf(file).path.name[-20:-5] for file in prf_files_of(pixels)]
    assert names == ['row0001-col1580', 'row0001-col2092', 'row0513-col1580', 'row0513-col2092']
