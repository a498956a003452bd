# Licensed under a 3-clause BSD style license - see LICENSE
"""`kpsf lightcurve` for many files as a batch: the same lines, and a manifest."""

import os
import re
import sys

import pytest
from astropy.table import Table

from kpsf import LightCurve, cli, extract_light_curve, simulate_tpf
from kpsf.batch import manifest, work


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder with two target pixel files and a bad one."""
    folder = tmp_path_factory.mktemp('pixels')
    for number in (1, 2):
        simulate_tpf(folder / f'star{number}.fits', n_cadences=20, shape=(6, 7), seed=number,
                     target=number)
    (folder / 'text.fits').write_text('hello')
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    """Run the command in this process; return its exit status."""
    return cli.main(['lightcurve', *map(str, arguments)])


@pytest.mark.parametrize('n_workers', [1, 2])
def test_a_batch_says_what_single_files_say_and_leaves_a_manifest(folder, here, capsys, n_workers):
    files = [folder / name for name in ('star1.fits', 'text.fits', 'star2.fits')]
    assert run(*files, '--outdir', 'single') == 1
    single = capsys.readouterr()
    assert run(*files, '--outdir', 'many', '--workers', n_workers) == 1
    many = capsys.readouterr()
    assert sorted(many.out.splitlines()) == sorted(single.out.replace('single', 'many')
                                                   .splitlines())
    assert many.err == single.err
    assert many.err.splitlines()[-1] == 'kpsf lightcurve: 1 of 3 files failed'
    assert sorted(os.listdir('many')) == ['manifest.ecsv', *sorted(os.listdir('single'))]
    table = Table.read('many/manifest.ecsv')
    assert list(table['status']) == ['done', 'failed', 'done']
    for name in os.listdir('single'):
        one, other = (LightCurve.read(f'{place}/{name}') for place in ('single', 'many'))
        assert (one['flux'] == other['flux']).all()


def test_a_batch_is_resumed(folder, here, capsys):
    assert run(folder / 'star1.fits', '--manifest', 'stars.ecsv') == 0
    before = os.stat('star1-lightcurve.fits')
    first = capsys.readouterr().out
    assert run(folder / 'star1.fits', folder / 'star2.fits', '--resume', '--manifest',
               'stars.ecsv') == 0
    there, new = capsys.readouterr().out.splitlines()
    assert there == f'{first.strip()} (there already)'
    assert re.fullmatch(r'KIC 2: 20 cadences, .* -> star2-lightcurve\.fits', new)
    after = os.stat('star1-lightcurve.fits')
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(Table.read('stars.ecsv')) == 2
    assert sorted(os.listdir()) == ['star1-lightcurve.fits', 'star2-lightcurve.fits',
                                    'stars.ecsv']


def test_options_reach_the_batch(folder, here):
    assert run(folder / 'star1.fits', '--resume', '--shape', 'free', '--background', 'known',
               '--quality', '128', '--threads', '1') == 0
    meta = LightCurve.read('star1-lightcurve.fits').meta
    assert (meta['shape'], meta['background'], meta['quality_mask']) == ('free', 'known', 128)


def test_existing_light_curves_are_kept_without_overwrite(folder, here, capsys):
    assert run(folder / 'star1.fits') == 0
    assert run(folder / 'star1.fits', '--workers', 1) == 1
    assert re.search(r'error: .*star1-lightcurve\.fits exists already: .* overwrite',
                     capsys.readouterr().err)
    assert run(folder / 'star1.fits', '--workers', 1, '--overwrite') == 0


def test_warnings_are_lines_that_name_the_file(folder, here, capsys, monkeypatch):
    def warn(pixels, **options):
        import warnings

        from astropy.utils.exceptions import AstropyUserWarning
        warnings.warn('It looks odd.', AstropyUserWarning)
        return extract_light_curve(pixels, **options)

    monkeypatch.setattr(work, 'extract_light_curve', warn)
    assert run(folder / 'star1.fits', '--workers', 1) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f'kpsf: warning: {folder / "star1.fits"}: It looks odd.'


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--workers', '0'], 'argument --workers: an integer >= 1'),
    (['--workers', '1', '--scheduler', 'tcp://a:1'], 'not allowed with argument'),
    (['--workers', '1', '-o', 'a.fits'], '-o is not for a batch: use --outdir, or leave'),
    (['--resume', '--plot', 'a.png'], '--plot is not for a batch'),
    (['--manifest', 'a.csv'], r"manifest must end in \.ecsv or \.parquet, but it is 'a\.csv'"),
    (['--manifest', 'none/a.ecsv'], 'there is no folder none: create it'),
    (['--manifest', 'a.parquet'], r'A manifest in Parquet needs pyarrow'),
    (['--scheduler', 'tcp://a:1'], r'A scheduler needs dask\.distributed'),
])
def test_wrong_calls_are_one_line_and_nothing_is_done(folder, here, capsys, monkeypatch,
                                                      arguments, message):
    monkeypatch.setattr(manifest, 'find_spec', lambda name: None)
    monkeypatch.setitem(sys.modules, 'distributed', None)
    assert run(folder / 'star1.fits', *arguments) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert re.match(f'kpsf lightcurve: .*{message}', line)
    assert not printed.out
    assert not os.listdir(here)


def test_a_manifest_is_not_replaced_unasked(folder, here, capsys):
    assert run(folder / 'star1.fits', '--workers', 1) == 0
    capsys.readouterr()
    assert run(folder / 'star2.fits', '--workers', 1) == 2
    assert re.match(r'kpsf lightcurve: an earlier run left .*manifest\.ecsv: pass --resume',
                    capsys.readouterr().err)
    assert not os.path.exists('star2-lightcurve.fits')
