# Licensed under a 3-clause BSD style license - see LICENSE
"""Downloads of PRF files, the cache, and files that are fetched before they are needed."""

import shutil
import tempfile
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from astropy.utils import data
from astropy.utils.exceptions import AstropyUserWarning

from kpsf import conf, simulate_kepler_prf, simulate_tess_prf
from kpsf.prf import fetch_prf, kepler_prf_file, read_kepler_prf, read_tess_prf, tess_prf_files
from kpsf.prf.archive import PRFNotFoundError, find_prf
from kpsf.prf.download import ArchiveError, asking_once, find_cached

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


def find_kepler(channel):
    return find_prf(kepler_prf_file(channel)).path


def find_tess(*detector_and_place):
    return [find_prf(file).path for file in tess_prf_files(*detector_and_place)]


def tess_names(*detector_and_place):
    return [file.locations[0] for file in tess_prf_files(*detector_and_place)]


def test_a_local_folder_comes_before_the_cache(folder, archive):
    cached = find_kepler(20)
    with conf.set_temp('prf_path', [folder]):
        assert find_kepler(20) == folder / KEPLER
    assert find_kepler(20) == cached
    assert len(archive.requests) == 1


@pytest.mark.parametrize('path', [None, '', []])
def test_a_path_may_be_empty(archive, path):
    conf.prf_path = path
    assert find_kepler(20).is_file()


def test_a_download_is_kept_in_the_cache(folder, archive, tmp_path):
    path = find_kepler(20)
    assert path.read_bytes() == (folder / KEPLER).read_bytes()
    assert path.is_relative_to(tmp_path / 'cache')
    assert cached_urls() == [f'{archive.url}/{KEPLER}']
    assert find_kepler(20) == path
    assert archive.requests == [KEPLER]
    assert read_kepler_prf(path).detector['channel'] == 20
    assert not files_in(tmp_path / 'temporary')


def test_the_cache_needs_no_network(archive):
    path = find_kepler(20)
    with data.conf.set_temp('allow_internet', False):
        assert find_kepler(20) == path
    archive.manner = 'missing'
    assert find_kepler(20) == path


def test_only_the_tess_files_around_a_position_are_downloaded(archive):
    paths = find_tess(4, 1, 1, 1000, 1000)
    names = tess_names(4, 1, 1, 1000, 1000)
    assert archive.requests == names
    calibration = read_tess_prf(paths, names)
    assert sorted(set(calibration.columns)) == [557, 1069]
    assert calibration.detector == {'camera': 4, 'ccd': 1, 'first_sector': 1}


def test_a_slash_at_the_end_of_the_address_does_no_harm(archive):
    conf.archive_url = f'{archive.url}/'
    find_kepler(20)
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
        find_kepler(20)
    assert not cached_urls()
    assert not files_in(tmp_path)
    archive.manner = 'good'
    assert find_kepler(20).is_file()
    assert archive.requests == [KEPLER, KEPLER]


@pytest.mark.parametrize('manner', [manner for manner, _ in FAILURES])
def test_a_failed_download_for_tess_leaves_nothing_either(archive, tmp_path, manner):
    archive.manner = manner
    with pytest.raises(FileNotFoundError, match='of camera 4 CCD 1 from sector 1 needs tess2018'):
        find_tess(4, 1, 1, 1069, 1025)
    assert not cached_urls()
    assert not files_in(tmp_path)
    archive.manner = 'good'
    path, = find_tess(4, 1, 1, 1069, 1025)
    assert path.is_file()


def test_a_server_that_is_down_leaves_nothing(folder, tmp_path):
    server = Archive(folder)
    server.server_close()
    with (conf.set_temp('archive_url', server.url),
          pytest.raises(FileNotFoundError, match='Connection refused') as caught):
        find_kepler(20)
    assert caught.value.is_unreachable
    assert not cached_urls()
    assert not files_in(tmp_path)


def test_the_time_limit_of_astropy_counts(archive):
    archive.manner = 'hanging'
    with (data.conf.set_temp('remote_timeout', 0.05),
          pytest.raises(PRFNotFoundError, match='timed out') as caught):
        find_kepler(20)
    assert caught.value.is_unreachable


def test_the_traceback_of_a_file_that_is_not_found_shows_one_error():
    with pytest.raises(PRFNotFoundError, match='Connection refused') as caught:
        find_kepler(20)
    text = ''.join(traceback.format_exception(caught.value))
    assert text.count('Traceback') == 1
    assert 'urllib' not in text


def test_an_archive_that_does_not_answer_is_asked_once_where_that_is_wanted(folder, archive):
    archive.manner = 'hanging'
    with data.conf.set_temp('remote_timeout', 0.05), asking_once():
        for function in (find_kepler, fetch_prf, find_kepler):
            argument = kepler_prf_file(20) if function is fetch_prf else 20
            with pytest.raises(OSError, match='timed out') as caught:
                function(argument)
            assert caught.value.is_unreachable
        assert archive.requests == [KEPLER]
        # Another address is another archive.
        with conf.set_temp('archive_url', folder.as_uri()):
            assert find_kepler(20).is_file()
    archive.manner = 'good'
    assert fetch_prf(kepler_prf_file(20), overwrite=True).is_new


def test_an_archive_that_answers_is_asked_for_every_file(archive):
    archive.manner = 'missing'
    with asking_once():
        for _ in range(2):
            with pytest.raises(PRFNotFoundError, match='404') as caught:
                find_kepler(20)
            assert not caught.value.is_unreachable
    assert len(archive.requests) == 2


def test_the_error_of_a_download_asks_for_a_network_only_if_nothing_answers(archive):
    archive.manner = 'missing'
    with pytest.raises(ArchiveError, match=r'Not Found\): try again later, or see whether'):
        fetch_prf(kepler_prf_file(20))
    with (data.conf.set_temp('allow_internet', False),
          pytest.raises(ArchiveError, match=r'is False\): is there a network\? If there is, see')):
        fetch_prf(kepler_prf_file(20))


def test_without_leave_of_astropy_nothing_is_downloaded(archive):
    with (data.conf.set_temp('allow_internet', False),
          pytest.raises(FileNotFoundError, match='allow_internet is False')):
        find_kepler(20)
    assert not archive.requests


def test_the_error_says_what_where_why_and_what_to_do(archive, tmp_path):
    archive.manner = 'missing'
    conf.prf_path = [tmp_path / 'a', tmp_path / 'b']
    for folder in conf.prf_path:
        folder.mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        find_kepler(20)
    assert str(caught.value) == (
        'The PRF of channel 20 (7.4) needs kplr07.4_2011265_prf.fits, but it is neither in the '
        f'folders of kpsf.conf.prf_path ({tmp_path}/a, {tmp_path}/b) nor in the cache, and it '
        f'cannot be downloaded from {archive.url}/{KEPLER} (HTTP Error 404: Not Found): run '
        '`kpsf fetch-prf --channel 20` where there is a network, with --outdir DIR if that is '
        'another machine, and name DIR in kpsf.conf.prf_path, or with --prf-path DIR on the '
        'command line.')


def test_the_error_names_the_command_for_tess(archive):
    archive.manner = 'missing'
    with pytest.raises(FileNotFoundError, match=r'kpsf\.conf\.prf_path \(which lists none\) .* '
                                                'fetch-prf --camera 4 --ccd 1 --sector 3` where'):
        find_tess(4, 1, 3)
    # All times that are known, and only for the first file.
    assert len(archive.requests) == 2


def test_a_tess_file_of_another_known_time_is_found(folder, tmp_path, archive):
    shutil.copytree(folder, tmp_path / 'served')
    other = NODE.replace('2018243163601', '2018243163600')
    (tmp_path / 'served' / NODE).rename(tmp_path / 'served' / other)
    archive.folder = tmp_path / 'served'
    path, = find_tess(4, 1, 1, 1069, 1025)
    assert archive.requests == [NODE, other]
    assert cached_urls() == [f'{archive.url}/{other}']
    assert find_tess(4, 1, 1, 1069, 1025) == [path]
    assert len(archive.requests) == 2


@pytest.mark.parametrize('url', ['archive', '', '/data/prf'])
def test_an_address_that_is_none_is_told(url):
    conf.archive_url = url
    with pytest.raises(ValueError, match=f"archive_url must be an address .* but it is '{url}'"):
        find_kepler(20)


def test_addresses_that_lead_nowhere_are_told():
    for url in ('http://', 'http://127.0.0.1:port', 'http://a..b'):
        conf.archive_url = url
        with pytest.raises(FileNotFoundError, match='cannot be downloaded from http:'):
            find_kepler(20)


def test_a_folder_can_be_the_archive(folder):
    conf.archive_url = folder.as_uri()
    assert find_kepler(20).read_bytes() == (folder / KEPLER).read_bytes()
    with pytest.raises(FileNotFoundError, match='No such file') as caught:
        find_kepler(21)
    assert not caught.value.is_unreachable


def test_without_a_cache_the_file_serves_for_the_session(archive, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError('read-only')

    monkeypatch.setattr(data, 'import_file_to_cache', refuse)
    told = (r'kplr07\.4_\S*\.fits cannot be kept in the cache \(read-only\): run `kpsf fetch-prf '
            '--channel 20 --outdir DIR` and add DIR to kpsf.conf.prf_path')
    with pytest.warns(AstropyUserWarning, match=f'{told}; until then it is downloaded in every'):
        path = find_kepler(20)
    assert read_kepler_prf(path).detector['channel'] == 20
    with pytest.raises(OSError, match=told):
        fetch_prf(kepler_prf_file(20))


def test_a_cached_file_that_was_damaged_is_replaced(archive):
    path = find_kepler(20)
    good = path.read_bytes()
    path.write_bytes(good[:-2880])
    with pytest.warns(AstropyUserWarning, match=rf'{path} must be .* truncated .*, in the cache: '
                                                r'kplr07\.4_\S*\.fits is downloaded again'):
        assert find_kepler(20).read_bytes() == good
    assert len(archive.requests) == 2


def test_a_file_is_fetched_into_the_cache(archive):
    file = kepler_prf_file(20)
    assert find_cached(file) is None
    fetched = fetch_prf(file)
    assert (fetched.is_new, fetched.is_cached) == (True, True)
    cached = find_cached(file)
    assert (cached.location, cached.path) == (KEPLER, fetched.path)
    assert fetch_prf(file) == (fetched.path, False, True)
    assert len(archive.requests) == 1
    assert fetch_prf(file, overwrite=True).is_new
    assert len(archive.requests) == 2


def test_the_options_of_fetch_prf_go_by_name():
    with pytest.raises(TypeError, match='positional'):
        fetch_prf(kepler_prf_file(20), 'prf')


def test_what_is_in_a_local_folder_need_not_be_fetched(folder, archive):
    conf.prf_path = [folder]
    assert fetch_prf(kepler_prf_file(20)) == (folder / KEPLER, False, False)
    assert not archive.requests
    assert fetch_prf(kepler_prf_file(20), overwrite=True).is_cached


def test_files_are_fetched_into_a_folder_in_the_layout_of_the_archive(folder, archive, tmp_path):
    outdir = tmp_path / 'prf'
    files = [kepler_prf_file(20), *tess_prf_files(4, 1, 1)]
    assert all(fetch_prf(file, outdir=outdir).is_new for file in files)
    assert files_in(outdir) == sorted([KEPLER, *tess_names(4, 1, 1)])
    assert (outdir / KEPLER).read_bytes() == (folder / KEPLER).read_bytes()
    assert not cached_urls()
    assert not files_in(tmp_path / 'temporary')
    assert fetch_prf(files[0], outdir=outdir) == (outdir / KEPLER, False, False)
    assert len(archive.requests) == 26
    conf.prf_path = [outdir]
    with data.conf.set_temp('allow_internet', False):
        assert find_kepler(20) == outdir / KEPLER
        assert len(find_tess(4, 1, 1)) == 25


def test_a_folder_is_filled_from_the_cache_where_it_can_be(archive, tmp_path):
    cached = find_kepler(20)
    fetched = fetch_prf(kepler_prf_file(20), outdir=tmp_path / 'prf')
    assert fetched.path.read_bytes() == cached.read_bytes()
    assert cached.is_file()
    assert len(archive.requests) == 1


@pytest.mark.parametrize(('manner', 'reason'), FAILURES)
def test_a_failed_download_leaves_nothing_in_the_folder(archive, tmp_path, manner, reason):
    archive.manner = manner
    with pytest.raises(ArchiveError, match=reason) as caught:
        fetch_prf(kepler_prf_file(20), outdir=tmp_path / 'prf')
    assert not files_in(tmp_path)
    assert not caught.value.is_unreachable


def test_a_damaged_file_in_the_folder_is_named_and_replaced_on_demand(folder, archive, tmp_path):
    path = tmp_path / 'prf' / Path(KEPLER).name
    path.parent.mkdir()
    path.write_text('damaged')
    with pytest.raises(ValueError, match=f'{path} begins with .* is no FITS file: replace it'):
        fetch_prf(kepler_prf_file(20), outdir=tmp_path / 'prf')
    assert path.read_text() == 'damaged'
    assert fetch_prf(kepler_prf_file(20), outdir=tmp_path / 'prf', overwrite=True).path == path
    assert path.read_bytes() == (folder / KEPLER).read_bytes()


def test_the_real_files_pass_through_an_archive(kpsf_data, tmp_path, archive):
    served = tmp_path / 'served'
    (served / KEPLER).parent.mkdir(parents=True)
    (served / 'tess/models').mkdir(parents=True)
    (served / KEPLER).symlink_to(kpsf_data / 'kepler_prf' / Path(KEPLER).name)
    (served / 'tess/models/prf_fitsfiles').symlink_to(kpsf_data / 'tess_prf')
    archive.folder = served
    assert find_kepler(20).stat().st_size == (served / KEPLER).stat().st_size
    paths = find_tess(4, 2, 2, 1631, 260)
    assert read_tess_prf(paths).detector == {'camera': 4, 'ccd': 2, 'first_sector': 1}
    assert len(find_tess(1, 1, 9)) == 25
    assert len(archive.requests) == 1 + 4 + 25
