# Licensed under a 3-clause BSD style license - see LICENSE
"""Many files: what comes out, what is recorded, and that a run goes on after any end."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.modeling.models import Gaussian2D
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning
from photutils.psf import CircularGaussianPRF, ImagePSF

from kpsf import (
    CentroidPrior,
    LightCurve,
    Scene,
    SceneLightCurves,
    __version__,
    conf,
    extract_light_curve,
    extract_many,
    read_tpf,
    simulate_kepler_prf,
    simulate_tpf,
)
from kpsf.batch import manifest, processes, work
from kpsf.batch.options import complete, digest
from kpsf.batch.processes import run_in_processes
from kpsf.lightcurve import point_to_point_scatter

ROOT = Path(__file__).parents[1]
# A run of the command for its name and folder, and for files that follow.
COMMAND = [sys.executable, '-m', 'kpsf', 'lightcurve', '--workers', '2', '--outdir', 'curves']
KILL_ITSELF = '__import__("os").kill(__import__("os").getpid(), 9)'


@pytest.fixture(scope='module')
def paths(tmp_path_factory):
    """Return three small target pixel files: the second has a cadence without pixels."""
    folder = tmp_path_factory.mktemp('pixels')
    made = [simulate_tpf(folder / f'star{number}.fits', n_cadences=20, shape=(6, 7), seed=number,
                         target=number) for number in (1, 2, 3)]
    with fits.open(made[1], mode='update') as hdulist:
        hdulist[1].data['FLUX'][7] = np.nan
    return made


@pytest.fixture
def copies(paths, tmp_path):
    """Return copies of the files that a test may change."""
    (tmp_path / 'pixels').mkdir()
    return [Path(shutil.copy(path, tmp_path / 'pixels')) for path in paths]


@pytest.fixture
def curves(tmp_path):
    """Return the folder for light curves."""
    return tmp_path / 'curves'


def states(folder):
    """Return which files light curves are and when they were written, by name."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in folder.glob('[!.]*-lightcurve.fits')}


def n_recorded(folder):
    """Return how many rows are in the journal."""
    journal = folder / 'manifest.ecsv.journal'
    return journal.read_text().count('{') if journal.exists() else 0


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def expected_names(paths):
    return sorted(['manifest.ecsv', *(f'{path.stem}-lightcurve.fits' for path in paths)])


def same(table, other):
    """Tell whether two tables are equal, unknown numbers included."""
    return table.colnames == other.colnames and all(
        np.array_equal(table[name], other[name], equal_nan=table[name].dtype.kind == 'f')
        for name in table.colnames)


def start_command(files, folder):
    """Run the command on two workers in a process group of its own."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OPENBLAS_NUM_THREADS': '1'}
    # Where the tests run in the background of a shell, Ctrl-C is ignored, and that is inherited.
    return subprocess.Popen([*COMMAND, *map(str, files)], cwd=folder, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            start_new_session=True,
                            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL))


def many_copies(folder, n_files):
    (folder / 'many').mkdir()
    path = simulate_tpf(folder / 'many' / 'star0.fits', n_cadences=5, shape=(6, 7), seed=1)
    return [path, *(Path(shutil.copy(path, path.with_name(f'star{k}.fits')))
                    for k in range(1, n_files))]


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize(('n_workers', 'options'), [
    (1, {'background': 'fit', 'quality': 128}), (2, {'psf': 'prf', 'n_threads': 1})])
def test_light_curves_are_those_of_single_files_and_failures_are_recorded(
        paths, tmp_path, curves, n_workers, options):
    simulate_kepler_prf(tmp_path / 'kplr07.4_2011265_prf.fits', channel=20, n_pixels=3,
                        oversampling=4)
    missing = paths[0].with_name('none.fits')
    order = [paths[2], missing, paths[1], paths[0]]
    environment = dict(os.environ)
    with conf.set_temp('prf_path', [str(tmp_path)]), conf.set_temp('archive_url', 'none'):
        table = extract_many(order, curves, n_workers=n_workers, **options)
        quality = options.pop('quality', 'default')
        expected = [extract_light_curve(read_tpf(path, quality=quality), **options)
                    for path in (paths[2], paths[1], paths[0])]
    assert os.environ == environment
    assert list(table['status']) == ['done', 'failed', 'flagged', 'done'], table['error']
    assert list(table['path']) == [str(path) for path in order]
    assert [bool(text) for text in table['error']] == [False, True, False, False]
    assert re.match(r'A target pixel file is needed, but there is no file .*none\.fits',
                    table['error'][1])
    for row, wanted in zip(table[[0, 2, 3]], expected):
        found = LightCurve.read(row['output'])
        assert found.colnames == wanted.colnames
        for name in wanted.colnames[1:]:
            np.testing.assert_array_equal(found[name], wanted[name])
        assert row['output'] == str(curves / f'{Path(row["path"]).stem}-lightcurve.fits')
        assert row['n_flagged'] == np.count_nonzero(wanted['flags'])
    assert names_in(curves) == expected_names(paths)
    # ECSV does not tell empty texts from unknown ones.
    assert same(Table.read(curves / 'manifest.ecsv').filled(''), table)
    assert not multiprocessing.active_children()


def test_a_row_tells_of_the_light_curve_and_the_file(paths, curves):
    row = extract_many(paths[:1], curves)[0]
    pixels = read_tpf(paths[0])
    light_curve = extract_light_curve(pixels)
    scatter = point_to_point_scatter(light_curve['flux'])
    assert (row['target'], row['n_cadences'], row['n_flagged']) == ('KIC 1', 20, 0)
    assert row['scatter_ppm'] == pytest.approx(1e6 * scatter)
    assert row['aperture_scatter_ppm'] == pytest.approx(
        1e6 * point_to_point_scatter(pixels.aperture_flux()))
    flux, error = (np.median(light_curve[name].value) for name in ('flux', 'flux_err'))
    assert row['median_flux'] == pytest.approx(flux)
    assert row['error_ppm'] == pytest.approx(1e6 * error / flux)
    assert row['error_over_scatter'] == pytest.approx(error / (scatter * flux))
    assert row['magnitude'] == pytest.approx(pixels.meta['magnitude'])
    assert (row['size'], row['mtime_ns']) == (paths[0].stat().st_size,
                                              paths[0].stat().st_mtime_ns)
    sha256sum = subprocess.run(['sha256sum', paths[0]], capture_output=True, text=True, check=True)
    assert row['sha256'] == sha256sum.stdout.split()[0]
    assert (row['kpsf_version'], row['seconds'] > 0) == (__version__, True)
    meta = LightCurve.read(row['output']).meta
    assert (meta['checksum'], meta['options_digest']) == (row['sha256'], row['options'])


def test_warnings_are_recorded_and_nothing_is_shown(paths, curves, monkeypatch):
    def warn(pixels, **options):
        warnings.warn('The star\nlooks odd.', AstropyUserWarning)
        return extract_light_curve(pixels, **options)

    monkeypatch.setattr(work, 'extract_light_curve', warn)
    table = extract_many(paths[:1], curves)
    assert (table['status'][0], table['warnings'][0]) == ('done', 'The star looks odd.')


def test_a_run_that_is_resumed_leaves_what_is_done_and_tries_again_what_failed(copies, curves):
    good = copies[0].read_bytes()
    copies[0].write_bytes(good[:20000])
    first = extract_many(copies, curves)
    assert list(first['status']) == ['failed', 'flagged', 'done']
    before = states(curves)
    copies[0].write_bytes(good)
    second = extract_many(copies, curves, resume=True)
    assert list(second['status']) == ['done', 'flagged', 'done']
    assert same(second[1:], first[1:])
    after = states(curves)
    assert len(after) == 3
    assert before.items() <= after.items()


def test_rows_of_other_files_stay_in_the_manifest(paths, curves):
    first = extract_many(paths[:2], curves)
    second = extract_many(paths[2:], curves, resume=True)
    assert list(second['target']) == ['KIC 3']
    assert list(Table.read(curves / 'manifest.ecsv')['target']) == ['KIC 3', *first['target']]


@pytest.mark.parametrize('change', ['options', 'quality', 'pixels', 'truncated', 'removed'])
def test_what_is_not_as_it_would_be_made_now_is_made_again(copies, curves, change):
    extract_many(copies, curves)
    output = curves / 'star3-lightcurve.fits'
    before, options = states(curves), {}
    if change == 'options':
        options = {'shape': 'free'}
    elif change == 'quality':
        options = {'quality': 'hard'}
    elif change == 'pixels':
        simulate_tpf(copies[2], n_cadences=25, shape=(6, 7), target=3, overwrite=True)
    elif change == 'truncated':
        output.write_bytes(output.read_bytes()[:-2880])
    else:
        output.unlink()
    table = extract_many(copies, curves, resume=True, **options)
    assert list(table['status']) == ['done', 'flagged', 'done']
    after = states(curves)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == (set(after) if options else {output.name})
    found = LightCurve.read(output)
    assert (len(found), found.meta['shape']) == (
        25 if change == 'pixels' else 20, options.get('shape', 'shared'))
    assert table['n_cadences'][2] == len(found)


def test_a_file_that_is_only_newer_is_known_by_its_checksum(copies, curves):
    extract_many(copies, curves)
    before = states(curves)
    os.utime(copies[0], (0, 0))
    table = extract_many(copies, curves, resume=True)
    assert states(curves) == before
    assert (table['status'][0], table['mtime_ns'][0]) == ('done', 0)


def test_light_curves_tell_themselves_that_they_are_done(paths, curves):
    first = extract_many(paths, curves)
    before = states(curves)
    (curves / 'manifest.ecsv').unlink()
    second = extract_many(paths, curves, resume=True)
    assert states(curves) == before
    for table in (first, second):
        table.remove_column('seconds')
    assert same(first, second)


def test_an_attempt_that_was_killed_after_it_wrote_is_not_repeated(paths, curves):
    curves.mkdir()
    options = complete({})
    settings = work.Settings('default', options, digest('default', options), None)
    job = work.Job(0, str(paths[0]), str(curves / 'star1-lightcurve.fits'), may_adopt=True,
                   may_replace=False)
    first = work.make_row(job, settings)
    before = states(curves)
    second = work.make_row(job, settings)
    assert first['status'] == second['status'] == 'done'
    assert states(curves) == before
    assert work.make_row(job._replace(may_adopt=False), settings)['status'] == 'failed'
    assert work.make_row(job._replace(path=str(paths[2])), settings)['status'] == 'failed'
    assert states(curves) == before


def test_a_light_curve_of_a_file_that_was_moved_is_kept(copies, curves):
    extract_many(copies, curves)
    before = states(curves)
    moved = [path.rename(path.parent.parent / path.name) for path in copies]
    table = extract_many(moved, curves, resume=True)
    assert states(curves) == before
    assert list(table['path']) == [str(path) for path in moved]


def test_those_of_another_version_do_not(paths, curves, monkeypatch):
    extract_many(paths[:1], curves)
    (curves / 'manifest.ecsv').unlink()
    monkeypatch.setattr(work, '__version__', 'another')
    assert 'exists already' in extract_many(paths[:1], curves, resume=True)['error'][0]


@pytest.mark.parametrize('resume', [False, True])
def test_files_of_others_are_kept_without_overwrite(paths, curves, resume):
    curves.mkdir()
    output = curves / 'star1-lightcurve.fits'
    extract_light_curve(paths[0]).write(output)
    before = states(curves)
    table = extract_many(paths[:2], curves, resume=resume)
    assert list(table['status']) == ['failed', 'flagged']
    assert re.search('star1-lightcurve.fits exists already: .* pass overwrite', table['error'][0])
    assert states(curves)[output.name] == before[output.name]
    assert extract_many(paths[:1], curves, overwrite=True)['status'][0] == 'done'
    assert states(curves)[output.name] != before[output.name]


def test_a_manifest_is_not_replaced_unasked(paths, curves):
    extract_many(paths[:1], curves)
    with pytest.raises(FileExistsError, match=r'an earlier run left .*manifest\.ecsv: pass '
                       'resume=True .*, overwrite=True'):
        extract_many(paths[1:], curves)
    extract_many(paths[1:], curves, manifest=curves / 'second.ecsv')
    assert len(Table.read(curves / 'manifest.ecsv')) == 1
    extract_many(paths[2:], curves, overwrite=True)
    assert list(Table.read(curves / 'manifest.ecsv')['target']) == ['KIC 3']


@pytest.mark.parametrize('damage', [
    lambda line: line[:len(line) // 2],
    lambda line: b'\x00\xff' + line,
    lambda line: b'[1, 2]\n',
    lambda line: json.dumps({**json.loads(line), 'size': None}).encode() + b'\n',
])
def test_damaged_lines_of_a_journal_are_nothing(paths, curves, monkeypatch, damage):
    first = extract_many(paths, curves)
    before = states(curves)
    (curves / 'manifest.ecsv').unlink()
    journal = manifest.Journal(curves / 'manifest.ecsv.journal')
    for row in first[:2]:
        journal.append(manifest.as_row(row))
    journal.close()
    lines = (curves / 'manifest.ecsv.journal').read_bytes().splitlines(keepends=True)
    (curves / 'manifest.ecsv.journal').write_bytes(b''.join([*lines[:-1], damage(lines[-1])]))

    made = []
    make_row = work.make_row
    monkeypatch.setattr('kpsf.batch.run.make_row', lambda job, settings: (
        made.append(Path(job.path)), make_row(job, settings))[1])
    second = extract_many(paths, curves, resume=True)
    assert made == paths[1:]
    assert states(curves) == before
    assert list(second['target']) == ['KIC 1', 'KIC 2', 'KIC 3']
    assert names_in(curves) == expected_names(paths)


def test_the_last_line_of_a_journal_counts(tmp_path):
    row = {**dict.fromkeys(manifest.as_row(dict.fromkeys(work.new_row('', '', ''), 0)), 0),
           'output': 'a'}
    journal = manifest.Journal(tmp_path / 'm.ecsv.journal')
    for seconds in (1.0, 2.0):
        journal.append({**row, 'seconds': seconds})
    journal.close()
    assert manifest.read_records(tmp_path / 'm.ecsv')['a']['seconds'] == 2.0


def test_an_interrupt_leaves_a_manifest_to_go_on_from(paths, curves, monkeypatch):
    def interrupt(pixels, **options):
        if pixels.target == 'KIC 2':
            raise KeyboardInterrupt
        return extract_light_curve(pixels, **options)

    with monkeypatch.context() as context:
        context.setattr(work, 'extract_light_curve', interrupt)
        with pytest.raises(KeyboardInterrupt):
            extract_many(paths, curves)
    assert names_in(curves) == expected_names(paths[:1])
    assert list(Table.read(curves / 'manifest.ecsv')['status']) == ['done']
    before = states(curves)
    table = extract_many(paths, curves, resume=True)
    assert list(table['status']) == ['done', 'flagged', 'done']
    assert before.items() <= states(curves).items()


def test_a_run_that_comes_to_nothing_leaves_nothing(paths, curves, monkeypatch):
    def interrupt(pixels, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, 'extract_light_curve', interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract_many(paths, curves)
    assert not names_in(curves)


def test_what_killed_writers_left_is_removed_and_nothing_else(paths, curves):
    curves.mkdir()
    kept = ['.01234567-other-lightcurve.fits', '.abc-star1-lightcurve.fits', 'notes.txt']
    for name in ('.0123abcd-star1-lightcurve.fits', '.0123abcd-manifest.ecsv', *kept):
        (curves / name).write_text('half')
    extract_many(paths, curves, resume=True)
    assert names_in(curves) == sorted([*expected_names(paths), *kept])


def test_two_runs_do_not_write_one_manifest(paths, curves):
    pytest.importorskip('fcntl')
    curves.mkdir()
    with manifest.opened_journal(curves / 'manifest.ecsv'):
        with pytest.raises(OSError, match='by one run at a time, .* wait for it, or choose'):
            extract_many(paths, curves, resume=True)
    assert not list(curves.glob('*.fits'))


def test_a_manifest_may_be_parquet(paths, curves):
    pytest.importorskip('pyarrow')
    options = {'manifest': curves / 'table.parquet'}
    first = extract_many(paths, curves, **options)
    before = states(curves)
    second = extract_many(paths, curves, resume=True, **options)
    assert same(first, second)
    assert same(first, Table.read(curves / 'table.parquet'))
    assert states(curves) == before
    assert 'manifest.ecsv' not in names_in(curves)


def test_parquet_needs_pyarrow(paths, curves, monkeypatch):
    monkeypatch.setattr(manifest, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'kpsf\[parquet\]'"):
        extract_many(paths, curves, manifest='table.parquet')


@pytest.mark.parametrize(('change', 'error', 'message'), [
    (lambda paths: {'paths': []}, ValueError, 'at least one file, but paths is empty'),
    (lambda paths: {'paths': str(paths[0])}, TypeError, r'a list of files, .*pass \[path\]'),
    (lambda paths: {'paths': str(paths[0].parent)}, TypeError,
     r"a list of files, but found the folder '.*': pass those in it, as in sorted\(Path"),
    (lambda paths: {'paths': [*paths, paths[0]]}, ValueError, 'would both be written to'),
    (lambda paths: {'paths': [paths[0], f'more/{paths[0].name}.gz']}, ValueError,
     'would both be written to .*star1-lightcurve.fits: run them'),
    (lambda paths: {'paths': [paths[0], np.ones(3)]}, TypeError,
     'names of files, but one of them is ndarray: pass its path, or use extract_light_curve'),
    (lambda paths: {'paths': ['curves/a-lightcurve.fits', 'a.fits'], 'outdir': 'curves'},
     ValueError, 'would be read and written'),
    (lambda paths: {'n_workers': 0}, ValueError, 'n_workers must be >= 1, but it is 0'),
    (lambda paths: {'manifest': 'table.csv'}, ValueError, r"in \.ecsv or .*'table\.csv'"),
    (lambda paths: {'manifest': 'none/table.ecsv'}, FileNotFoundError, 'there is none .*none'),
    (lambda paths: {'outdir': 'none/curves'}, FileNotFoundError, 'there is none .*none'),
    (lambda paths: {'colour': 'red'}, TypeError, 'options of extract_light_curve, .*colour'),
    (lambda paths: {'psf': Gaussian2D(tied={'y_stddev': lambda model: model.x_stddev}),
                    'n_workers': 2}, TypeError, 'must be picklable .*, but psf is not'),
])
def test_wrong_calls_say_what_to_do_and_nothing_is_done(paths, tmp_path, monkeypatch, change,
                                                        error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        extract_many(**{'paths': paths, **change(paths)})
    assert not list(tmp_path.rglob('*.*'))


def test_another_table_is_no_manifest(paths, curves):
    curves.mkdir()
    Table({'a': [1]}).write(curves / 'manifest.ecsv')
    with pytest.raises(ValueError, match=r'manifest of an earlier run, but .*\.ecsv is none'):
        extract_many(paths, curves, resume=True)
    assert names_in(curves) == ['manifest.ecsv']


class TestDigest:
    def of(self, **options):
        return digest('default', complete(options))

    def test_it_is_that_of_the_defaults_and_of_what_changes_nothing(self):
        assert self.of() == self.of(psf='gaussian', shape='shared', n_threads=2)

    @pytest.mark.parametrize('options', [
        {'psf': 'prf'}, {'shape': 'free'}, {'background': 3.0}, {'background': 3.5},
        {'background': np.ones((3, 4))}, {'background': np.ones((4, 3))}, {'position': (1.0, 2.0)},
        {'position': CentroidPrior(0.1)}, {'position': CentroidPrior(0.2)},
        {'psf': CircularGaussianPRF(fwhm=2.0)}, {'psf': CircularGaussianPRF(fwhm=2.1)},
        {'psf': CircularGaussianPRF(fwhm=2.0, fixed={'fwhm': False})},
        {'psf': CircularGaussianPRF(fwhm=2.0, bounds={'flux': (0, None)})},
        {'psf': ImagePSF(np.eye(9))}, {'psf': ImagePSF(np.eye(9)[::-1])},
    ])
    def test_it_differs_for_each_and_is_the_same_twice(self, options):
        others = [self.of(), self.of(background=4.0), self.of(psf=ImagePSF(np.ones((9, 9))))]
        assert self.of(**options) not in others
        assert self.of(**options) == self.of(**options)

    def test_all_differ(self):
        (parameters,) = (mark.args[1] for mark in
                         type(self).test_it_differs_for_each_and_is_the_same_twice.pytestmark)
        assert len({self.of(**options) for options in parameters}) == len(parameters)

    def test_a_model_that_was_used_is_the_same(self):
        psf = ImagePSF(np.eye(9))
        before = self.of(psf=psf)
        psf(1.0, 2.0)
        assert self.of(psf=psf) == before
        assert 'interpolator' in vars(psf)


def test_a_job_whose_worker_is_killed_is_done_by_a_fresh_one(tmp_path):
    mark = tmp_path / 'mark'
    once = (f'open({str(mark)!r}).read() if __import__("os").path.exists({str(mark)!r}) else '
            f'open({str(mark)!r}, "w").write("killed") and {KILL_ITSELF}')
    threads = '[__import__("os").environ[f"{name}_NUM_THREADS"] for name in ("OPENBLAS", "OMP")]'
    jobs = ['1 + 1', once, threads, '2 in __import__("signal").pthread_sigmask(0, [])']
    results = dict(run_in_processes(eval, jobs, 2))
    assert list(map(results.get, jobs)) == [2, 'killed', ['1', '1'], True]
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='needs a pipe with a name')
def test_a_file_whose_worker_is_killed_is_tried_once_more_and_then_failed(copies, curves):
    pipe = copies[0].with_name('pipe.fits')
    os.mkfifo(pipe)
    killed = []

    def kill_twice():
        for _ in range(2):
            # Opens when a worker reads: it hangs there, and the other has no more to do.
            # Light curves are there before the parent knows: who is killed then does them again.
            with open(pipe, 'wb'):
                wait_for(lambda: n_recorded(curves) == 3)
                for process in multiprocessing.active_children():
                    killed.append(process.pid)
                    os.kill(process.pid, signal.SIGKILL)
                    process.join()

    thread = threading.Thread(target=kill_twice)
    thread.start()
    table = extract_many([pipe, *copies], curves, n_workers=2)
    thread.join()
    assert len(killed) >= 3
    assert list(table['status']) == ['failed', 'done', 'flagged', 'done']
    assert 'ended with the death of the worker process' in table['error'][0]
    before = states(curves)
    pipe.unlink()
    shutil.copy(copies[0], pipe)
    table = extract_many([pipe, *copies], curves, resume=True)
    assert list(table['status']) == ['done', 'done', 'flagged', 'done']
    assert before.items() <= states(curves).items()


@pytest.mark.parametrize('kill', [os.kill, os.killpg])
def test_after_a_kill_at_any_moment_nothing_is_lost_and_nothing_done_twice(tmp_path, curves, kill):
    # So many that some are left when the signal comes.
    files = many_copies(tmp_path, 60)
    moment = np.random.default_rng().uniform(1.0, 15.0)
    process = start_command(files, tmp_path)
    wait_for(lambda: len(states(curves)) >= moment)
    kill(process.pid, signal.SIGKILL)
    # Ends when all workers have, too: they hold these pipes.
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGKILL
    before = states(curves)
    assert moment <= len(before) < len(files), moment
    assert not (curves / 'manifest.ecsv').exists()
    with pytest.raises(FileExistsError, match=r'left .*manifest\.ecsv\.journal'):
        extract_many(files, curves)

    table = extract_many(files, curves, resume=True)
    assert set(table['status']) == {'done'}, moment
    assert before.items() <= states(curves).items(), moment
    assert names_in(curves) == expected_names(files)
    assert list(table['path']) == [str(path) for path in files]


def test_ctrl_c_ends_the_workers_and_leaves_a_manifest(tmp_path, curves):
    # So many that some are left when the signal comes.
    files = many_copies(tmp_path, 60)
    process = start_command(files, tmp_path)
    wait_for(lambda: len(manifest.read_records(curves / 'manifest.ecsv')) >= 3)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == 'kpsf: interrupted'
    assert 'Traceback' not in errors
    table = Table.read(curves / 'manifest.ecsv')
    assert 3 <= len(table) < len(files)
    # A light curve that was written just then has no row yet.
    assert {Path(name).name for name in table['output']} <= set(states(curves))
    assert names_in(curves) == sorted(['manifest.ecsv', *states(curves)])


def test_processes_that_cannot_start_end_the_run(paths, curves, monkeypatch):
    # As in a script whose calls are not below if __name__ == '__main__'.
    monkeypatch.setattr(processes, '_begin', partial(os._exit, 1))
    with pytest.raises(RuntimeError, match='in a script, call extract_many below if __name__ =='):
        extract_many(paths, curves, n_workers=2)
    assert not names_in(curves)


def test_a_cluster_does_the_same(tmp_path, curves):
    distributed = pytest.importorskip('distributed')
    files = [*many_copies(tmp_path, 6), tmp_path / 'none.fits']
    with (distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False,
                                   protocol='tcp', host='127.0.0.1',
                                   dashboard_address='127.0.0.1:0') as machines,
          distributed.Client(machines) as client):
        table = extract_many(files[:4], curves, scheduler=client)
        before = states(curves)
        resumed = extract_many(files, curves, scheduler=machines.scheduler_address, resume=True)
    assert list(resumed['status']) == [*['done'] * 6, 'failed']
    assert same(resumed[:4], table)
    assert before.items() <= states(curves).items()
    expected = extract_light_curve(files[0])
    for output in resumed['output'][:6]:
        np.testing.assert_array_equal(LightCurve.read(output)['flux'], expected['flux'])


def test_a_cluster_needs_distributed(paths, curves, monkeypatch):
    monkeypatch.setitem(sys.modules, 'distributed', None)
    with pytest.raises(ImportError, match=r"pip install 'kpsf\[cluster\]'"):
        extract_many(paths, curves, scheduler='tcp://127.0.0.1:1')
    assert not curves.exists()


def test_a_scene_of_several_stars_is_one_file_and_a_row_of_its_first(tmp_path, curves):
    path = simulate_tpf(tmp_path / 'pair.fits', stars=[(2e5, 3.0, 3.0), (4e4, 6.0, 5.0)],
                        n_cadences=12, seed=1)
    scene = Scene(Table({'name': ['A', 'B'], 'x': [3.0, 6.0], 'y': [3.0, 5.0]}), psf='gaussian')
    table = extract_many([path], curves, scene=scene)
    assert list(table['status']) == ['done']
    both = SceneLightCurves.read(table['output'][0])
    assert list(both.names) == ['A', 'B']
    assert table['median_flux'][0] == pytest.approx(np.median(both['A']['flux'].value))
    before = states(curves)
    # An equal scene is the same batch, also where the row was lost.
    again = Scene(Table({'name': ['A', 'B'], 'x': [3.0, 6.0], 'y': [3.0, 5.0]}), psf='gaussian')
    (curves / 'manifest.ecsv').unlink()
    table = extract_many([path], curves, scene=again, resume=True)
    assert list(table['status']) == ['done']
    assert states(curves) == before
