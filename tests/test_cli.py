# Licensed under a 3-clause BSD style license - see LICENSE
"""The command: what it writes and prints, and how it fails."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.utils import data

from kpsf import (
    LightCurve,
    __version__,
    cli,
    conf,
    simulate_kepler_prf,
    simulate_tess_prf,
    simulate_tpf,
)
from kpsf.cli import lightcurve as command
from kpsf.lightcurve import point_to_point_scatter

ROOT = Path(__file__).parents[1]
KEPLER = 'kepler/fpc/prf/kplr07.4_2011265_prf.fits'
TESS = 'tess/models/prf_fitsfiles/start_s0001/cam4_ccd1'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder with three target pixel files and three bad ones."""
    folder = tmp_path_factory.mktemp('pixels')
    for number in (1, 2, 3):
        simulate_tpf(folder / f'star{number}.fits', n_cadences=20, shape=(6, 7), seed=number,
                     target=number)
    (folder / 'text.fits').write_text('hello')
    (folder / 'half.fits').write_bytes((folder / 'star1.fits').read_bytes()[:20000])
    simulate_tpf(folder / 'rejected.fits', n_cadences=3, quality=1)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    """Run the command in this process; return its exit status."""
    return cli.main([str(argument) for argument in arguments])


def run_in_shell(*arguments, cwd):
    """Run the command as a process of its own."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.run([sys.executable, '-m', 'kpsf', *map(str, arguments)], cwd=cwd,
                          env=environment, capture_output=True, text=True, check=False)


def test_one_file_becomes_one_light_curve_in_the_current_folder(folder, here, capsys):
    assert run('lightcurve', folder / 'star1.fits') == 0
    found = LightCurve.read('star1-lightcurve.fits')
    assert (len(found), found.meta['shape'], found.meta['background']) == (20, 'shared', 'known')
    printed = capsys.readouterr()
    scatter = 1e6 * point_to_point_scatter(found['flux'])
    error = 1e6 * np.median(found['flux_err']) / np.median(found['flux'])
    assert re.fullmatch(rf'KIC 1: 20 cadences, 0 flagged, scatter {scatter:.0f} ppm '
                        rf'\(aperture \d+ ppm, errors {error:.0f} ppm\) '
                        r'-> star1-lightcurve.fits\n', printed.out)
    assert not printed.err


def test_cadences_that_were_dropped_are_counted(here, capsys):
    quality = np.zeros(20, dtype=int)
    quality[[3, 7]] = 1
    simulate_tpf('star.fits', n_cadences=20, shape=(6, 7), seed=1, target=1, quality=quality)
    assert run('lightcurve', 'star.fits') == 0
    assert capsys.readouterr().out.startswith('KIC 1: 18 of 20 cadences, 0 flagged, ')


def test_few_cadences_tell_no_scatter(here, capsys):
    simulate_tpf('few.fits', n_cadences=9, shape=(6, 7), seed=1, target=1)
    assert run('lightcurve', 'few.fits') == 0
    assert re.match(r'KIC 1: 9 cadences, 0 flagged, scatter unknown \(errors \d+ ppm\) -> ',
                    capsys.readouterr().out)


def test_options_reach_the_job(folder, here):
    assert run('lightcurve', folder / 'star1.fits', '--shape', 'free', '--background', 'known',
               '--quality', '128', '--threads', '1', '-o', 'out.ecsv') == 0
    meta = LightCurve.read('out.ecsv').meta
    assert (meta['shape'], meta['background'], meta['quality_mask']) == ('free', 'known', 128)


def test_a_figure_is_drawn(folder, here):
    assert run('lightcurve', folder / 'star1.fits', '--plot', 'star.png') == 0
    assert (here / 'star.png').read_bytes().startswith(b'\x89PNG')
    assert sorted(os.listdir(here)) == ['star.png', 'star1-lightcurve.fits']


def test_many_files_go_to_the_folder_that_is_asked_for(folder, here, capsys):
    (here / 'curves').mkdir()
    assert run('lightcurve', *sorted(folder.glob('star*.fits')), '--outdir', 'curves') == 0
    assert sorted(os.listdir('curves')) == [f'star{n}-lightcurve.fits' for n in (1, 2, 3)]
    assert [line[:5] for line in capsys.readouterr().out.splitlines()] == [
        'KIC 1', 'KIC 2', 'KIC 3']


@pytest.mark.parametrize(('name', 'message'), [
    ('none.fits', r'A target pixel file is needed, but there is no file .*none\.fits'),
    ('text.fits', r'text\.fits begins with .* and is no FITS file'),
    ('half.fits', r'half\.fits must be a complete FITS file, but it is truncated'),
    ('rejected.fits', r'read_tpf needs at least one cadence .*rejected\.fits'),
])
def test_a_bad_file_is_named_and_the_others_go_on(folder, here, capsys, name, message):
    files = [folder / 'star1.fits', folder / name, folder / 'star2.fits']
    assert run('lightcurve', *files) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    first, last = printed.err.splitlines()
    assert re.match(f'kpsf lightcurve: error: .*{message}', first)
    assert last == 'kpsf lightcurve: 1 of 3 files failed'
    assert sorted(os.listdir(here)) == ['star1-lightcurve.fits', 'star2-lightcurve.fits']


def test_errors_of_any_kind_are_one_line_with_the_name_of_the_file(folder, here, capsys,
                                                                   monkeypatch):
    def fail(*args, **kwargs):
        raise KeyError('something\nunexpected')

    monkeypatch.setattr(command, 'extract_light_curve', fail)
    assert run('lightcurve', folder / 'star1.fits') == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r'kpsf lightcurve: error: .*star1\.fits: KeyError: .*run with --debug', line)
    assert run('lightcurve', folder / 'star1.fits', '--debug') == 1
    assert 'Traceback (most recent call last)' in capsys.readouterr().err
    assert not os.listdir(here)


def test_warnings_are_lines_that_name_the_file(folder, here, capsys, monkeypatch):
    path = simulate_tpf(here / 'pixels.fits', n_cadences=5, stars=[(2e5, 8.0, 5.0)])
    read_tpf = command.read_tpf

    def read_elsewhere(*args, **kwargs):
        pixels = read_tpf(*args, **kwargs)
        object.__setattr__(pixels, 'target_position', (2.0, 2.0))
        return pixels

    monkeypatch.setattr(command, 'read_tpf', read_elsewhere)
    assert run('lightcurve', path) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r'kpsf: warning: .*pixels\.fits: The fits should end at KIC', line)


def test_existing_files_are_kept_without_overwrite(folder, here, capsys):
    output = here / 'star1-lightcurve.fits'
    output.write_text('before')
    assert run('lightcurve', folder / 'star1.fits', folder / 'star2.fits') == 1
    assert 'star1-lightcurve.fits exists already: choose another name or pass --overwrite' in (
        capsys.readouterr().err)
    assert output.read_text() == 'before'
    assert (here / 'star2-lightcurve.fits').exists()
    assert run('lightcurve', folder / 'star1.fits', '--overwrite') == 0
    assert len(LightCurve.read(output)) == 20


def test_an_existing_figure_is_noticed_before_the_work(folder, here, capsys):
    (here / 'star.png').write_text('before')
    assert run('lightcurve', folder / 'star1.fits', '--plot', 'star.png') == 1
    assert 'star.png exists already' in capsys.readouterr().err
    assert os.listdir(here) == ['star.png']


@pytest.mark.parametrize(('arguments', 'message'), [
    (['star1.fits', 'star2.fits', '-o', 'out.fits'],
     '-o names one light curve, but there are 2 files: use --outdir'),
    (['star1.fits', 'star2.fits', '--plot', 'a.png'], '--plot names one figure, but there are 2'),
    (['star1.fits', 'star1.fits'], r'would both be written to star1-lightcurve\.fits'),
    (['star1.fits', 'more/star1.fits.gz'], r'would both be written to star1-lightcurve\.fits'),
    (['star1.fits', '-o', 'out.txt'], r"-o must end in one of \.fits, .*it is 'out\.txt'"),
    (['star1.fits', '--plot', 'star2.fits'], r'--plot must end in one of \.png, \.pdf, \.svg'),
    (['star1.fits', '-o', 'none/out.fits'], 'there is no folder none: create it'),
    (['star1.fits', '--outdir', 'none/at_all'], 'there is no folder none: create it'),
    (['star1.fits', '--outdir', __file__], f'{__file__} is a file: choose a folder'),
    (['star1.fits', '--plot', 'none/a.png'], 'there is no folder none: create it'),
    (['star1.fits', '--quality', 'best'], "argument --quality: none, default.*'best'"),
    (['star1.fits', '--quality', '-5'], 'argument --quality'),
    (['star1.fits', '--threads', '0'], "argument --threads: an integer >= 1 .*'0'"),
    (['star1.fits', '--threads', 'two'], 'argument --threads: an integer >= 1'),
    (['star1.fits', '--shape', 'fixed'], 'argument --shape: invalid choice'),
    (['star1.fits', '-o', 'a.fits', '--outdir', 'more'], 'not allowed with argument'),
    ([], 'the following arguments are required: FILE'),
])
def test_wrong_calls_are_one_line_and_nothing_is_done(folder, here, capsys, monkeypatch,
                                                      arguments, message):
    def fail(*args, **kwargs):
        raise AssertionError('The work began.')

    monkeypatch.setattr(command, 'read_tpf', fail)
    places = [folder / name if name.startswith('star') else name for name in arguments]
    assert run('lightcurve', *places) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert re.match(f'kpsf lightcurve: .*{message}', line)
    assert not printed.out
    assert not os.listdir(here)


def test_an_input_is_never_replaced(folder, here, capsys):
    path = here / 'star.fits'
    path.write_bytes((folder / 'star1.fits').read_bytes())
    assert run('lightcurve', path, '-o', 'star.fits', '--overwrite') == 2
    assert 'would be read and written' in capsys.readouterr().err
    assert path.read_bytes() == (folder / 'star1.fits').read_bytes()


def test_a_folder_that_cannot_be_written_to_is_noticed_before_the_work(folder, here, capsys,
                                                                       monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    for arguments in (['lightcurve', folder / 'star1.fits'], ['demo']):
        assert run(*arguments) == 2
        assert 'is read-only: choose another' in capsys.readouterr().err
    assert not os.listdir(here)


def test_an_interrupt_ends_at_once_and_leaves_no_half_file(folder, here, capsys, monkeypatch):
    write = LightCurve.write

    def interrupt(self, path, **kwargs):
        if self.meta['target'] == 'KIC 2':
            raise KeyboardInterrupt
        write(self, path, **kwargs)

    monkeypatch.setattr(LightCurve, 'write', interrupt)
    assert run('lightcurve', *sorted(folder.glob('star*.fits'))) == 130
    assert capsys.readouterr().err.splitlines()[-1] == 'kpsf: interrupted'
    assert os.listdir(here) == ['star1-lightcurve.fits']


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    """Return a folder with small PRF files in the archive's layout."""
    folder = tmp_path_factory.mktemp('archive')
    (folder / KEPLER).parent.mkdir(parents=True)
    simulate_kepler_prf(folder / KEPLER, channel=20, n_pixels=3, oversampling=4)
    simulate_tess_prf(folder / TESS, camera=4, ccd=1, sector=1)
    return folder


@pytest.fixture
def served(archive, here, monkeypatch):
    """Make that folder the archive, with an empty cache."""
    (here.parent / f'{here.name}-cache' / 'kpsf').mkdir(parents=True)
    monkeypatch.setenv('XDG_CACHE_HOME', str(here.parent / f'{here.name}-cache'))
    with conf.set_temp('prf_path', []), conf.set_temp('archive_url', archive.as_uri()):
        yield archive


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


@pytest.mark.parametrize('arguments', [['--channel', 20], ['--module', 7, '--output', 4]])
def test_a_kepler_prf_is_fetched_into_the_cache_once(served, here, capsys, arguments):
    assert run('fetch-prf', *arguments) == 0
    assert run('fetch-prf', *arguments) == 0
    assert run('fetch-prf', *arguments, '--overwrite') == 0
    name = Path(KEPLER).name
    assert capsys.readouterr() == (f'{name} -> the cache\n{name} -> the cache (there already)\n'
                                   f'{name} -> the cache\n', '')
    assert not files_in(here)


def test_all_of_a_tess_ccd_is_fetched_into_a_folder(served, here, capsys):
    arguments = ['fetch-prf', '--camera', 4, '--ccd', 1, '--sector', 2, '--outdir', 'prf']
    assert run(*arguments) == 0
    fetched = files_in(here / 'prf')
    assert fetched == [f'{TESS}/{path.name}' for path in sorted((served / TESS).iterdir())]
    assert len(fetched) == 25
    printed = capsys.readouterr()
    assert not printed.err
    assert printed.out.splitlines() == [f'{Path(name).name} -> prf/{name}' for name in fetched]
    (here / 'prf' / fetched[3]).unlink()
    (here / 'prf' / fetched[4]).write_text('damaged')
    assert run(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.out.count('(there already)') == 23
    first, last = printed.err.splitlines()
    assert re.match(rf'kpsf fetch-prf: error: .* prf/{fetched[4]} begins .*--overwrite', first)
    assert last == 'kpsf fetch-prf: 1 of 25 files failed'
    assert run(*arguments, '--overwrite') == 0


def test_target_pixel_files_tell_what_to_fetch(served, here, folder, capsys):
    tess = simulate_tpf(here / 'tess.fits', mission='TESS', n_cadences=3, column=600, row=700)
    assert run('fetch-prf', folder / 'star1.fits', folder / 'star2.fits', folder / 'rejected.fits',
               tess, folder / 'text.fits', '--outdir', 'prf') == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 5
    assert [name[-20:-5] for name in files_in(here / 'prf')[1:]] == [
        'row0513-col0557', 'row0513-col1069', 'row1025-col0557', 'row1025-col1069']
    line, = printed.err.splitlines()
    assert re.match(r'kpsf fetch-prf: error: .*text\.fits begins with .* is no FITS file', line)


def test_what_the_archive_lacks_is_one_line(served, here, capsys):
    assert run('fetch-prf', '--channel', 21, '--outdir', 'prf') == 1
    line, = capsys.readouterr().err.splitlines()
    assert re.match(r'kpsf fetch-prf: error: kplr08\.1_2011265_prf\.fits cannot be downloaded '
                    rf'from {served.as_uri()}/\S* \(.*No such file.*\): try again', line)
    assert not os.listdir(here)


def test_one_line_tells_of_a_whole_set_that_the_archive_lacks(served, here, folder, capsys):
    assert run('fetch-prf', folder / 'star1.fits', '--camera', 4, '--ccd', 1, '--sector', 4) == 1
    printed = capsys.readouterr()
    assert printed.out == f'{Path(KEPLER).name} -> the cache\n'
    first, last = printed.err.splitlines()
    assert re.match('kpsf fetch-prf: error: .*row0001-col0045', first)
    assert last == 'kpsf fetch-prf: 1 of 26 files failed, 24 were not tried'


def test_one_line_tells_of_a_folder_that_is_configured_but_not_there(served, here, capsys):
    with conf.set_temp('prf_path', ['none']):
        assert run('fetch-prf', '--camera', 4, '--ccd', 1, '--sector', 1) == 1
    line, = capsys.readouterr().err.splitlines()
    assert re.match('kpsf fetch-prf: error: kpsf.conf.prf_path must list folders, .* none', line)


def test_without_a_network_the_first_file_tells_it(served, here, capsys):
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
    with conf.set_temp('archive_url', f'http://127.0.0.1:{port}'):
        assert run('fetch-prf', '--channel', 20, '--camera', 4, '--ccd', 1, '--sector', 2) == 1
    first, last = capsys.readouterr().err.splitlines()
    assert re.match(r'kpsf fetch-prf: error: kplr07\.4_.* .*Connection refused.*: is there a '
                    r'network\? If there is, see', first)
    assert last == 'kpsf fetch-prf: 1 of 26 files failed, 25 were not tried'


@pytest.mark.parametrize(('arguments', 'message'), [
    ([], 'a FILE, --channel, --module and --output, or --camera, --ccd and --sector must say'),
    (['--channel', 85], 'channel must be a whole number, 1 to 84, but it is 85'),
    (['--channel', 'x'], "argument --channel: invalid int value: 'x'"),
    (['--module', 7], '--output must come with --module'),
    (['--sector', 1, '--ccd', 4], '--camera must come with --ccd and --sector'),
    (['--camera', 1], '--ccd and --sector must come with --camera'),
    (['--module', 5, '--output', 1], 'module must be a whole number, 2 to 4'),
    (['--camera', 1, '--ccd', 5, '--sector', 1], 'ccd must be a whole number, 1 to 4'),
    (['--channel', 20, '--outdir', 'none/at_all'], 'there is no folder none: create it'),
])
def test_wrong_calls_of_fetch_prf_are_one_line(served, here, capsys, arguments, message):
    assert run('fetch-prf', *arguments) == 2
    printed = capsys.readouterr()
    line, = printed.err.splitlines()
    assert re.match(f'kpsf fetch-prf: {message}', line)
    assert not printed.out
    assert not files_in(here)


def test_the_prf_is_looked_for_in_the_folders_that_are_given_first(folder, here, monkeypatch,
                                                                   capsys):
    seen = []
    extract_light_curve = command.extract_light_curve

    def extract(pixels, psf, **options):
        seen.append((psf, options['shape'], conf.prf_path))
        return extract_light_curve(pixels, 'gaussian', **options)

    monkeypatch.setattr(command, 'extract_light_curve', extract)
    for name in ('a', 'b', 'c'):
        (here / name).mkdir()
    with conf.set_temp('prf_path', ['c']):
        assert run('lightcurve', folder / 'star1.fits', '--psf', 'prf', '--prf-path', 'a',
                   '--prf-path', 'b') == 0
        assert seen == [('prf', 'shared', [Path('a'), Path('b'), 'c'])]
        assert conf.prf_path == ['c']


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--prf-path', '.'], '--prf-path is for --psf prf, but the PSF is gaussian: add --psf prf'),
    (['--psf', 'prf', '--prf-path', 'none'], 'there is no folder none: --prf-path needs a folder'),
    (['--psf', 'prf', '--prf-path', __file__], f'{__file__} is a file: --prf-path needs a folder'),
    (['--psf', 'prf', '--prf-path', '~none_/x'], "argument --prf-path: '~none_/x' cannot be used"),
    (['--psf', 'prf', '--shape', 'free'], '--shape free is for a shape that is fitted, .* --psf '),
    (['--psf', 'moffat'], "argument --psf: invalid choice: 'moffat'"),
])
def test_a_path_that_cannot_serve_is_refused(folder, here, capsys, arguments, message):
    assert run('lightcurve', folder / 'star1.fits', *arguments) == 2
    line, = capsys.readouterr().err.splitlines()
    assert re.match(f'kpsf lightcurve: {message}', line)
    assert not os.listdir(here)


def test_a_path_may_begin_with_the_home_folder(folder, here, archive, monkeypatch):
    monkeypatch.setenv('HOME', str(archive.parent))
    with conf.set_temp('prf_path', []):
        assert run('lightcurve', folder / 'star1.fits', '--psf', 'prf',
                   f'--prf-path=~/{archive.name}') == 0
    assert LightCurve.read('star1-lightcurve.fits').meta['prf_files'] == Path(KEPLER).name


def test_a_light_curve_whose_archive_does_not_answer_is_tried_once(served, here, folder, capsys):
    files = [folder / f'star{number}.fits' for number in (1, 2, 3)]
    with socket.create_server(('127.0.0.1', 0)) as server:
        url = f'http://127.0.0.1:{server.getsockname()[1]}'
        with conf.set_temp('archive_url', url), data.conf.set_temp('remote_timeout', 0.1):
            assert run('lightcurve', *files, '--psf', 'prf', '--outdir', 'new') == 1
        server.settimeout(0.1)
        server.accept()[0].close()
        with pytest.raises(TimeoutError):
            server.accept()
    first, second, third, last = capsys.readouterr().err.splitlines()
    assert re.match(r'kpsf lightcurve: error: \S*star1\.fits: The PRF of channel 20 .* '
                    r'\(timed out\): run `kpsf fetch-prf --channel 20` .* --prf-path DIR', first)
    for number, line in ((2, second), (3, third)):
        assert re.match(rf'kpsf lightcurve: error: \S*star{number}\.fits: The PRF of .* '
                        r'\(not tried again after: timed out\): run', line)
    assert last == 'kpsf lightcurve: 3 of 3 files failed'
    assert not os.listdir(here)


def test_the_version_and_the_help_are_printed(capsys):
    assert run('--version') == 0
    assert capsys.readouterr().out == f'kpsf {__version__}\n'
    for name in ('lightcurve', 'fetch-prf', 'demo'):
        assert run(name, '--help') == 0
        assert '--outdir DIR' in capsys.readouterr().out


@pytest.mark.parametrize(('arguments', 'message'), [
    ([], 'kpsf: the following arguments are required: COMMAND'),
    (['astrometry'], "kpsf: argument COMMAND: invalid choice: 'astrometry'"),
])
def test_a_command_is_needed(capsys, arguments, message):
    assert run(*arguments) == 2
    assert capsys.readouterr().err.startswith(message)


def test_the_demo_recovers_what_it_put_in(here, capsys):
    assert run('demo', '--seed', '5') == 0
    assert sorted(os.listdir(here)) == ['kpsf-demo-lightcurve.fits', 'kpsf-demo-lightcurve.png',
                                        'kpsf-demo-targ.fits']
    lines = capsys.readouterr().out.splitlines()
    rows = np.array([re.findall(r'[-+]?\d+\.\d+', line) for line in lines[-5:]], dtype=float)
    _, put_in, recovered, error, difference = rows.T
    assert put_in.min() < 1.0
    assert put_in.max() > 20.0
    np.testing.assert_allclose((recovered - put_in) / error, difference, atol=0.15)
    # Five numbers from a normal distribution.
    assert abs(difference).max() < 4.0
    assert (abs(recovered - put_in) < 0.02).all()


def test_the_demo_replaces_its_files_only_when_asked(here, capsys):
    (here / 'kpsf-demo-lightcurve.png').write_text('before')
    assert run('demo') == 1
    assert 'kpsf-demo-lightcurve.png exists already' in capsys.readouterr().err
    assert os.listdir(here) == ['kpsf-demo-lightcurve.png']
    assert run('demo', '--overwrite') == 0
    assert run('demo', '--outdir', 'none/at_all') == 2
    assert run('demo', '--outdir', 'new') == 0
    assert len(os.listdir(here / 'new')) == 3


def test_the_command_runs_as_a_process(folder, here):
    done = run_in_shell('lightcurve', folder / 'star1.fits', folder / 'text.fits', cwd=here)
    assert done.returncode == 1
    assert done.stdout.startswith('KIC 1: 20 cadences')
    assert done.stderr.count('\n') == 2
    assert 'Traceback' not in done.stderr
    assert os.listdir(here) == ['star1-lightcurve.fits']
    assert run_in_shell('lightcurve', cwd=here).returncode == 2


def test_a_terminal_gets_a_progress_bar_and_whole_lines(folder, here, monkeypatch, capsys):
    class Terminal:
        def __init__(self):
            self.text = ''

        def write(self, text):
            self.text += text

        def flush(self):
            pass

        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    assert run('lightcurve', folder / 'star1.fits', folder / 'text.fits') == 1
    assert '(50.00%)' in terminal.text
    # Whatever is printed begins on a cleared line.
    assert '\r\x1b[2Kkpsf lightcurve: error: ' in terminal.text
    assert capsys.readouterr().out.count('\n') == 1


def test_real_files_and_broken_ones(kpsf_data, here, capsys):
    good = kpsf_data / 'kepler' / 'kplr008462852-q08-first100.fits'
    bad = sorted((kpsf_data / 'corrupt').glob('tabby-corrupted*.fits'))
    assert run('lightcurve', good, *bad, '--outdir', here) == 1
    printed = capsys.readouterr()
    assert re.match(r'KIC 8462852: 99 of 100 cadences, 0 flagged, scatter \d+ ppm '
                    r'\(aperture 110 ppm, errors',
                    printed.out)
    lines = printed.err.splitlines()
    assert len(lines) == len(bad) + 1
    for path, line in zip(bad, lines):
        assert path.name in line
    assert os.listdir(here) == ['kplr008462852-q08-first100-lightcurve.fits']
