# Licensed under a 3-clause BSD style license - see LICENSE
"""PRF files: their names, the order of the places where they are looked for, and downloads."""

import shutil
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from astropy.utils import data
from astropy.utils.exceptions import AstropyUserWarning

from kpsf import conf, read_tpf, simulate_kepler_prf, simulate_tess_prf, simulate_tpf
from kpsf.prf import read_kepler_prf, read_tess_prf
from kpsf.prf.archive import (
    channel_to_module_output,
    find_kepler_prf,
    find_prf,
    find_tess_prf,
    kepler_prf_file,
    kepler_prf_name,
    module_output_to_channel,
    prf_files_of,
    require_local_folders,
    tess_prf_files,
    tess_prf_names,
)
from kpsf.prf.download import ArchiveError, find_cached
from kpsf.prf.fetch import fetch_prf

KEPLER = 'kepler/fpc/prf/kplr07.4_2011265_prf.fits'
TESS = 'tess/models/prf_fitsfiles/start_s0001/cam4_ccd1'
# The node at column 1069, row 1025.
NODE = f'{TESS}/tess2018243163601-prf-4-1-row1025-col1069.fits'
PAGE = b'<html><body>The archive is down for maintenance.</body></html>'


class Archive(ThreadingHTTPServer):
    """A server on the loopback address that can misbehave."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(('127.0.0.1', 0), Handler)
        self.folder = folder
        self.manner = 'good'
        self.requests = []
        self.goes_on = threading.Event()

    @property
    def url(self):
        return f'http://127.0.0.1:{self.server_port}/missions'


class Handler(BaseHTTPRequestHandler):
    """Answers a request in the manner that is set."""

    def do_GET(self):
        place = self.path.removeprefix('/missions/')
        self.server.requests.append(place)
        path = self.server.folder / place
        answer = getattr(self, self.server.manner)
        answer(path.read_bytes()) if path.is_file() else self.send_error(404)

    def good(self, content, promised=None):
        self.send_response(200)
        self.send_header('Content-Length', str(promised or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def missing(self, content):
        self.send_error(404)

    def failing(self, content):
        self.send_error(503)

    def cut(self, content):
        self.good(content[:len(content) // 2], promised=len(content))

    def closed(self, content):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content[:-2880])

    def closed_early(self, content):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content[:len(content) // 2])

    def corrupt(self, content):
        self.good(b'\xff' * len(content))

    def page(self, content):
        self.good(PAGE)

    def empty(self, content):
        self.good(b'')

    def foreign(self, content):
        self.good((self.server.folder / 'foreign.fits').read_bytes())

    def silent(self, content):
        self.close_connection = True

    def hanging(self, content):
        self.server.goes_on.wait(10)

    def log_message(self, *args):
        pass


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
    """Keep the cache, temporary files and settings of a test apart from all others."""
    for name in ('cache/kpsf', 'temporary'):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'temporary'))
    with (conf.set_temp('prf_path', []),
          conf.set_temp('archive_url', 'http://127.0.0.1:9/missions')):
        yield


@pytest.fixture
def archive(folder):
    """Run a server and make it the archive."""
    with Archive(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with conf.set_temp('archive_url', server.url):
            yield server
        server.goes_on.set()
        server.shutdown()
        thread.join()


def cached_urls():
    return data.get_cached_urls(pkgname='kpsf')


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_every_channel_has_its_module_and_output():
    pairs = [channel_to_module_output(channel) for channel in range(1, 85)]
    assert [module_output_to_channel(*pair) for pair in pairs] == list(range(1, 85))
    assert (pairs[0], pairs[19], pairs[55], pairs[83]) == ((2, 1), (7, 4), (16, 4), (24, 4))
    assert {module for module, _ in pairs} == {*range(2, 25)} - {5, 21}


@pytest.mark.parametrize(('function', 'arguments', 'message'), [
    (channel_to_module_output, (0,), 'channel must be a whole number, 1 to 84, but it is 0: take'),
    (channel_to_module_output, (85,), 'channel .* 85'),
    (find_kepler_prf, (20.5,), 'channel must be a whole number'),
    (find_kepler_prf, (None,), 'channel must be a whole number, .* None'),
    (module_output_to_channel, (5, 1), 'module must be .*, 2 to 4, 6 to 20 and 22 to 24, but it'),
    (kepler_prf_name, (7, 5), 'output must be a whole number, 1 to 4, but it is 5'),
    (tess_prf_names, (5, 1, 1), 'camera must be a whole number, 1 to 4, but it is 5'),
    (tess_prf_names, (1, 0, 1), 'ccd must be'),
    (find_tess_prf, (1, 1, 0), 'sector must be a whole number, 1 and more, but it is 0'),
    (tess_prf_names, (1, 1, 1, 100), 'must be two finite numbers, but they are 100 and None'),
    (tess_prf_names, (1, 1, 1, 100, float('nan')), 'but they are 100 and nan: pass both'),
])
def test_a_detector_that_does_not_exist_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_the_name_of_a_kepler_file_has_the_module_and_the_output():
    assert kepler_prf_name(7, 4) == KEPLER
    assert kepler_prf_name(13, 1) == 'kepler/fpc/prf/kplr13.1_2011265_prf.fits'


@pytest.mark.parametrize(('camera', 'ccd', 'sector', 'start', 'stamp'), [
    (1, 1, 1, 1, 2018243163600), (2, 3, 3, 1, 2018243163600), (2, 4, 2, 1, 2018243163601),
    (4, 4, 3, 1, 2018243163601), (1, 1, 4, 4, 2019107181900), (1, 2, 5, 4, 2019107181901),
    (3, 1, 90, 4, 2019107181901), (3, 2, 4, 4, 2019107181902), (4, 4, 26, 4, 2019107181902),
])
def test_tess_files_are_in_one_of_two_sets(camera, ccd, sector, start, stamp):
    names = tess_prf_names(camera, ccd, sector)
    assert len(set(names)) == 25
    assert names[0] == (f'tess/models/prf_fitsfiles/start_s000{start}/cam{camera}_ccd{ccd}/'
                        f'tess{stamp}-prf-{camera}-{ccd}-row0001-col0045.fits')
    assert names[-1].endswith(f'tess{stamp}-prf-{camera}-{ccd}-row2048-col2092.fits')


@pytest.mark.parametrize(('column', 'row', 'expected'), [
    (1000, 1000, ['row0513-col0557', 'row0513-col1069', 'row1025-col0557', 'row1025-col1069']),
    (1069, 1000.5, ['row0513-col1069', 'row1025-col1069']),
    (1069.0, 1025, ['row1025-col1069']),
    (2, 700, ['row0513-col0045', 'row1025-col0045']),
    (2136, 2078, ['row2048-col2092']),
    (46, 1, ['row0001-col0045', 'row0001-col0557']),
])
def test_a_position_needs_only_the_files_around_it(column, row, expected):
    names = tess_prf_names(4, 1, 1, column, row)
    assert [name[-20:-5] for name in names] == expected
    assert set(names) <= set(tess_prf_names(4, 1, 1))


def test_the_names_are_those_of_the_real_files(kpsf_data):
    real = kpsf_data / 'tess_prf'
    names = [name for detector in ((4, 1, 1), (4, 2, 3), (1, 1, 4))
             for name in tess_prf_names(*detector)]
    place = 'tess/models/prf_fitsfiles/'
    assert sorted(name.removeprefix(place) for name in names) == files_in(real)
    assert files_in(kpsf_data / 'kepler_prf') == [Path(kepler_prf_name(7, 4)).name]


@pytest.mark.parametrize('level', range(4))
def test_a_local_folder_may_begin_at_any_level_of_the_layout(tmp_path, folder, archive, level):
    place = tmp_path / 'local' / Path(*Path(KEPLER).parts[level:])
    place.parent.mkdir(parents=True)
    shutil.copy(folder / KEPLER, place)
    conf.prf_path = [tmp_path / 'local']
    assert find_kepler_prf(20) == place
    conf.prf_path = str(tmp_path / 'local')
    assert find_kepler_prf(20) == place
    assert not archive.requests


@pytest.mark.parametrize('level', range(6))
def test_so_it_may_for_tess(folder, archive, level):
    conf.prf_path = [folder / Path(*Path(NODE).parts[:level])]
    assert find_tess_prf(4, 1, 2, 1069, 1025) == [folder / NODE]
    assert [path.name for path in find_tess_prf(4, 1, 2)] == [
        Path(name).name for name in tess_prf_names(4, 1, 2)]
    assert not archive.requests


def test_the_first_folder_counts(tmp_path, folder):
    (tmp_path / 'first').mkdir()
    conf.prf_path = [tmp_path / 'first', folder]
    assert find_kepler_prf(20) == folder / KEPLER
    shutil.copy(folder / KEPLER, tmp_path / 'first')
    assert find_kepler_prf(20) == tmp_path / 'first' / Path(KEPLER).name


def test_a_local_folder_comes_before_the_cache(folder, archive):
    cached = find_kepler_prf(20)
    with conf.set_temp('prf_path', [folder]):
        assert find_kepler_prf(20) == folder / KEPLER
    assert find_kepler_prf(20) == cached
    assert len(archive.requests) == 1


@pytest.mark.parametrize(('content', 'message'), [
    (lambda good: good[:-2880], 'must be a complete FITS file, but it is truncated'),
    (lambda good: good[:len(good) // 2], '.*(has 2|ends after the first image)'),
    (lambda good: PAGE, 'begins with .* and is no FITS file'),
    (lambda good: b'', 'is empty and is no FITS file'),
])
def test_a_damaged_local_file_is_named_and_not_passed_over(tmp_path, folder, archive, content,
                                                           message):
    conf.prf_path = [tmp_path, folder]
    for place, find, arguments in ((KEPLER, find_kepler_prf, [20]),
                                   (NODE, find_tess_prf, [4, 1, 1])):
        bad = tmp_path / Path(place).name
        bad.write_bytes(content((folder / place).read_bytes()))
        with pytest.raises(ValueError, match=f'{bad} {message}'):
            find(*arguments)
    assert not archive.requests


def test_a_local_file_of_another_detector_is_refused(tmp_path, folder):
    path = shutil.copy(folder / 'foreign.fits', tmp_path / Path(KEPLER).name)
    conf.prf_path = [tmp_path]
    with pytest.raises(ValueError, match=rf'{path} must be of channel 20 \(7\.4\), but its header '
                                         r'says channel 21 \(8\.1\): put the right file there'):
        find_kepler_prf(20)


def test_a_local_file_of_another_position_is_refused(tmp_path, folder):
    path = shutil.copy(folder / tess_prf_names(4, 1, 1)[0], tmp_path / Path(NODE).name)
    conf.prf_path = [tmp_path]
    with pytest.raises(ValueError, match=f'{path} must be of column 1069, row 1025, but its '
                                         'header says 45, 1: put'):
        find_tess_prf(4, 1, 1, 1069, 1025)


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
    exact = tmp_path / Path(file.places[0]).name
    shutil.copy(folder / NODE, exact)
    assert file.find_in(tmp_path) == exact


@pytest.mark.parametrize(('path', 'error', 'message'), [
    (['/does/not/exist'], FileNotFoundError,
     'kpsf.conf.prf_path must list folders, but there is no folder /does/not/exist: create it'),
    ('/does/not/exist', FileNotFoundError, 'there is no folder /does/not/exist'),
    ([3], TypeError, 'must list folders, but it has 3: list their names'),
])
def test_a_path_that_cannot_work_is_told(archive, path, error, message):
    conf.prf_path = path
    with pytest.raises(error, match=message):
        find_kepler_prf(20)
    assert not archive.requests


def test_a_folder_that_is_not_reached_may_be_missing(folder):
    conf.prf_path = [folder, '/does/not/exist']
    assert find_kepler_prf(20) == folder / KEPLER
    with pytest.raises(FileNotFoundError, match='there is no folder /does/not/exist'):
        find_kepler_prf(21)
    with pytest.raises(FileNotFoundError, match='there is no folder /does/not/exist'):
        require_local_folders()


@pytest.mark.parametrize('path', [None, '', []])
def test_a_path_may_be_empty(archive, path):
    conf.prf_path = path
    assert find_kepler_prf(20).is_file()


def test_a_download_is_kept_in_the_cache(folder, archive, tmp_path):
    path = find_kepler_prf(20)
    assert path.read_bytes() == (folder / KEPLER).read_bytes()
    assert path.is_relative_to(tmp_path / 'cache')
    assert cached_urls() == [f'{archive.url}/{KEPLER}']
    assert find_kepler_prf(20) == path
    assert archive.requests == [KEPLER]
    assert read_kepler_prf(path).detector['channel'] == 20
    assert not files_in(tmp_path / 'temporary')


def test_the_cache_needs_no_network(archive):
    path = find_kepler_prf(20)
    with data.conf.set_temp('allow_internet', False):
        assert find_kepler_prf(20) == path
    archive.manner = 'missing'
    assert find_kepler_prf(20) == path


def test_only_the_tess_files_around_a_position_are_downloaded(archive):
    paths = find_tess_prf(4, 1, 1, 1000, 1000)
    names = tess_prf_names(4, 1, 1, 1000, 1000)
    assert archive.requests == names
    calibration = read_tess_prf(paths, names)
    assert sorted(set(calibration.columns)) == [557, 1069]
    assert calibration.detector == {'camera': 4, 'ccd': 1, 'first_sector': 1}


def test_a_slash_at_the_end_of_the_address_does_no_harm(archive):
    conf.archive_url = f'{archive.url}/'
    find_kepler_prf(20)
    assert archive.requests == [KEPLER]


FAILURES = [
    ('missing', 'HTTP Error 404: Not Found'),
    ('failing', 'HTTP Error 503: Service Unavailable'),
    ('cut', r'File was supposed to be \d+ bytes but we only got \d+'),
    ('closed', 'what came must be a complete FITS file, but it is truncated or damaged'),
    ('closed_early', 'must have 5 extensions, all of them images, but what came has 2'),
    ('corrupt', 'what came begins with .* and is no FITS file'),
    ('page', r"what came begins with b'<html><bo' and is no FITS file\)"),
    ('empty', 'what came is empty and is no FITS file'),
    ('foreign', r'what came must be of channel 20 \(7\.4\), but its header says channel 21'),
    ('silent', 'Remote end closed connection without response'),
]


@pytest.mark.parametrize(('manner', 'reason'), FAILURES)
def test_a_failed_download_leaves_nothing_and_the_next_one_succeeds(archive, tmp_path, manner,
                                                                    reason):
    archive.manner = manner
    with pytest.raises(FileNotFoundError, match=reason):
        find_kepler_prf(20)
    assert not cached_urls()
    assert not files_in(tmp_path)
    archive.manner = 'good'
    assert find_kepler_prf(20).is_file()
    assert archive.requests == [KEPLER, KEPLER]


@pytest.mark.parametrize('manner', [manner for manner, _ in FAILURES])
def test_so_it_is_for_tess(archive, tmp_path, manner):
    archive.manner = manner
    with pytest.raises(FileNotFoundError, match='of camera 4 CCD 1 from sector 1 needs tess2018'):
        find_tess_prf(4, 1, 1, 1069, 1025)
    assert not cached_urls()
    assert not files_in(tmp_path)
    archive.manner = 'good'
    path, = find_tess_prf(4, 1, 1, 1069, 1025)
    assert path.is_file()


def test_a_server_that_is_down_leaves_nothing(folder, tmp_path):
    server = Archive(folder)
    server.server_close()
    with (conf.set_temp('archive_url', server.url),
          pytest.raises(FileNotFoundError, match='Connection refused') as caught):
        find_kepler_prf(20)
    assert caught.value.__cause__.is_unreachable
    assert not cached_urls()
    assert not files_in(tmp_path)


def test_the_time_limit_of_astropy_counts(archive):
    archive.manner = 'hanging'
    with (data.conf.set_temp('remote_timeout', 0.05),
          pytest.raises(FileNotFoundError, match='timed out')):
        find_kepler_prf(20)


def test_without_leave_of_astropy_nothing_is_downloaded(archive):
    with (data.conf.set_temp('allow_internet', False),
          pytest.raises(FileNotFoundError, match='allow_internet is False')):
        find_kepler_prf(20)
    assert not archive.requests


def test_the_error_says_what_where_why_and_what_to_do(archive, tmp_path):
    archive.manner = 'missing'
    conf.prf_path = [tmp_path / 'a', tmp_path / 'b']
    for folder in conf.prf_path:
        folder.mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        find_kepler_prf(20)
    assert str(caught.value) == (
        'The PRF of channel 20 (7.4) needs kplr07.4_2011265_prf.fits, but it is neither in the '
        f'folders of kpsf.conf.prf_path ({tmp_path}/a, {tmp_path}/b) nor in the cache, and it '
        f'cannot be downloaded from {archive.url}/{KEPLER} (HTTP Error 404: Not Found): run '
        '`kpsf fetch-prf --channel 20` where there is a network, with --outdir DIR if that is '
        'another machine, and add DIR to kpsf.conf.prf_path.')


def test_the_error_names_the_command_for_tess(archive):
    archive.manner = 'missing'
    with pytest.raises(FileNotFoundError, match=r'kpsf\.conf\.prf_path \(which lists none\) .* '
                                                'fetch-prf --camera 4 --ccd 1 --sector 3` where'):
        find_tess_prf(4, 1, 3)
    # All times that are known, and only for the first file.
    assert len(archive.requests) == 2


def test_a_tess_file_of_another_known_time_is_found(folder, tmp_path, archive):
    shutil.copytree(folder, tmp_path / 'served')
    other = NODE.replace('2018243163601', '2018243163600')
    (tmp_path / 'served' / NODE).rename(tmp_path / 'served' / other)
    archive.folder = tmp_path / 'served'
    path, = find_tess_prf(4, 1, 1, 1069, 1025)
    assert archive.requests == [NODE, other]
    assert cached_urls() == [f'{archive.url}/{other}']
    assert find_tess_prf(4, 1, 1, 1069, 1025) == [path]
    assert len(archive.requests) == 2


@pytest.mark.parametrize('url', ['archive', '', '/data/prf'])
def test_an_address_that_is_none_is_told(url):
    conf.archive_url = url
    with pytest.raises(ValueError, match=f"archive_url must be an address .* but it is '{url}'"):
        find_kepler_prf(20)


def test_addresses_that_lead_nowhere_are_told():
    for url in ('http://', 'http://127.0.0.1:port', 'http://a..b'):
        conf.archive_url = url
        with pytest.raises(FileNotFoundError, match='cannot be downloaded from http:'):
            find_kepler_prf(20)


def test_a_folder_can_be_the_archive(folder):
    conf.archive_url = folder.as_uri()
    assert find_kepler_prf(20).read_bytes() == (folder / KEPLER).read_bytes()
    with pytest.raises(FileNotFoundError, match='No such file') as caught:
        find_kepler_prf(21)
    assert not caught.value.__cause__.is_unreachable


def test_without_a_cache_the_file_serves_for_the_session(archive, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError('read-only')

    monkeypatch.setattr(data, 'import_file_to_cache', refuse)
    told = (r'kplr07\.4_\S*\.fits cannot be kept in the cache \(read-only\): run `kpsf fetch-prf '
            '--channel 20 --outdir DIR` and add DIR to kpsf.conf.prf_path')
    with pytest.warns(AstropyUserWarning, match=f'{told}; until then it is downloaded in every'):
        path = find_kepler_prf(20)
    assert read_kepler_prf(path).detector['channel'] == 20
    with pytest.raises(OSError, match=told):
        fetch_prf(kepler_prf_file(20))


def test_a_cached_file_that_was_damaged_is_replaced(archive):
    path = find_kepler_prf(20)
    good = path.read_bytes()
    path.write_bytes(good[:-2880])
    with pytest.warns(AstropyUserWarning, match=rf'{path} must be .* truncated .*, in the cache: '
                                                r'kplr07\.4_\S*\.fits is downloaded again'):
        assert find_kepler_prf(20).read_bytes() == good
    assert len(archive.requests) == 2


def test_a_file_is_fetched_into_the_cache(archive):
    file = kepler_prf_file(20)
    assert find_cached(file) == (None, None)
    fetched = fetch_prf(file)
    assert (fetched.is_new, fetched.is_cached) == (True, True)
    assert find_cached(file) == (KEPLER, fetched.path)
    assert fetch_prf(file) == (fetched.path, False, True)
    assert len(archive.requests) == 1
    assert fetch_prf(file, overwrite=True).is_new
    assert len(archive.requests) == 2


def test_what_is_in_a_local_folder_need_not_be_fetched(folder, archive):
    conf.prf_path = [folder]
    assert fetch_prf(kepler_prf_file(20)) == (folder / KEPLER, False, False)
    assert not archive.requests
    assert fetch_prf(kepler_prf_file(20), overwrite=True).is_cached


def test_files_are_fetched_into_a_folder_in_the_layout_of_the_archive(folder, archive, tmp_path):
    outdir = tmp_path / 'prf'
    files = [kepler_prf_file(20), *tess_prf_files(4, 1, 1)]
    assert all(fetch_prf(file, outdir).is_new for file in files)
    assert files_in(outdir) == sorted([KEPLER, *tess_prf_names(4, 1, 1)])
    assert (outdir / KEPLER).read_bytes() == (folder / KEPLER).read_bytes()
    assert not cached_urls()
    assert not files_in(tmp_path / 'temporary')
    assert fetch_prf(files[0], outdir) == (outdir / KEPLER, False, False)
    assert len(archive.requests) == 26
    conf.prf_path = [outdir]
    with data.conf.set_temp('allow_internet', False):
        assert find_kepler_prf(20) == outdir / KEPLER
        assert len(find_tess_prf(4, 1, 1)) == 25


def test_a_folder_is_filled_from_the_cache_where_it_can_be(archive, tmp_path):
    cached = find_kepler_prf(20)
    fetched = fetch_prf(kepler_prf_file(20), tmp_path / 'prf')
    assert fetched.path.read_bytes() == cached.read_bytes()
    assert cached.is_file()
    assert len(archive.requests) == 1


@pytest.mark.parametrize(('manner', 'reason'), FAILURES)
def test_a_failed_download_leaves_nothing_in_the_folder(archive, tmp_path, manner, reason):
    archive.manner = manner
    with pytest.raises(ArchiveError, match=reason) as caught:
        fetch_prf(kepler_prf_file(20), tmp_path / 'prf')
    assert not files_in(tmp_path)
    assert not caught.value.is_unreachable


def test_a_damaged_file_in_the_folder_is_named_and_replaced_on_demand(folder, archive, tmp_path):
    path = tmp_path / 'prf' / Path(KEPLER).name
    path.parent.mkdir()
    path.write_text('damaged')
    with pytest.raises(ValueError, match=f'{path} begins with .* is no FITS file: replace it'):
        fetch_prf(kepler_prf_file(20), tmp_path / 'prf')
    assert path.read_text() == 'damaged'
    assert fetch_prf(kepler_prf_file(20), tmp_path / 'prf', overwrite=True).path == path
    assert path.read_bytes() == (folder / KEPLER).read_bytes()


@pytest.mark.parametrize(('mission', 'header', 'expected'), [
    ('Kepler', {}, [KEPLER]),
    ('K2', {'CHANNEL': None}, [KEPLER]),
    ('TESS', {}, tess_prf_names(4, 1, 1, 600, 30)),
    ('TESS', {'SECTOR': 30, 'CAMERA': 1}, tess_prf_names(1, 1, 30, 600, 30)),
])
def test_a_target_pixel_file_tells_which_files_it_needs(tmp_path, mission, header, expected):
    path = simulate_tpf(tmp_path / 'pixels.fits', mission=mission, n_cadences=3, column=598,
                        row=28, header=header)
    assert [file.places[0] for file in prf_files_of(read_tpf(path))] == expected


@pytest.mark.parametrize(('mission', 'header', 'message'), [
    ('TESS', {'SECTOR': None}, r'the PRF of TIC \d+, .* CAMERA, CCD, SECTOR, but it lacks SECTOR'),
    ('K2', {'CHANNEL': None, 'OUTPUT': None}, 'have MODULE, OUTPUT, but it lacks OUTPUT: choose'),
])
def test_a_header_that_does_not_tell_is_an_error(tmp_path, mission, header, message):
    path = simulate_tpf(tmp_path / 'pixels.fits', mission=mission, n_cadences=3, header=header)
    with pytest.raises(ValueError, match=message):
        prf_files_of(read_tpf(path))


def test_the_real_files_pass_through_an_archive(kpsf_data, tmp_path, archive):
    served = tmp_path / 'served'
    (served / KEPLER).parent.mkdir(parents=True)
    (served / 'tess/models').mkdir(parents=True)
    (served / KEPLER).symlink_to(kpsf_data / 'kepler_prf' / Path(KEPLER).name)
    (served / 'tess/models/prf_fitsfiles').symlink_to(kpsf_data / 'tess_prf')
    archive.folder = served
    assert find_kepler_prf(20).stat().st_size == (served / KEPLER).stat().st_size
    paths = find_tess_prf(4, 2, 2, 1631, 260)
    assert read_tess_prf(paths).detector == {'camera': 4, 'ccd': 2, 'first_sector': 1}
    assert len(find_tess_prf(1, 1, 9)) == 25
    assert len(archive.requests) == 1 + 4 + 25


def test_the_real_files_serve_from_their_folders(kpsf_data):
    conf.prf_path = [kpsf_data / 'kepler_prf', kpsf_data / 'tess_prf']
    assert find_kepler_prf(20).parent == kpsf_data / 'kepler_prf'
    pixels = read_tpf(kpsf_data / 'tess' / 'tess25155310-s01-first-cadences.fits.gz')
    names = [find_prf(file).name[-20:-5] for file in prf_files_of(pixels)]
    assert names == ['row0001-col1580', 'row0001-col2092', 'row0513-col1580', 'row0513-col2092']
