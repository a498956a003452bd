# Licensed under a 3-clause BSD style license - see LICENSE
"""`kpsf check-signal`: what it says of light curves, and how it fails."""

import os
import re

import numpy as np
import pytest
from astropy.table import QTable, Table

from kpsf import cli, simulate_tpf
from kpsf.cli import check_signal as command
from kpsf.signals import Signal, signal_transfer


@pytest.fixture(scope='module')
def star(tmp_path_factory):
    """Return the path of a target pixel file of a day."""
    return simulate_tpf(tmp_path_factory.mktemp('pixels') / 'star.fits', n_cadences=50,
                        shape=(7, 7), seed=3, target=7, stars=[(5e4, 3.1, 2.9)])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    """Run the command; return its exit status."""
    return cli.main(['check-signal', *map(str, arguments)])


def judge_with(monkeypatch, **columns):
    """Let the command see a table with other numbers."""
    def check(pixels, **options):
        table = signal_transfer(pixels, [Signal('dip', 0.01, 0.2), Signal('sinusoid', 0.1, 0.5)])
        for name, values in columns.items():
            table[name] = values
        return table

    monkeypatch.setattr(command, 'signal_transfer', check)


def test_a_table_and_a_verdict_are_printed(star, here, capsys):
    assert run(star) == 0
    printed = capsys.readouterr()
    first, heading, *lines, verdict = printed.out.splitlines()
    assert 'Recovered: the depth found over the depth put in' in printed.out
    assert 'one\nunder 3 sigma may be kept, but is not seen in it.' in printed.out
    assert first == ('KIC 7: 50 of 50 cadences without flags, 12 signals put into the pixels one '
                     'by one')
    assert heading.split() == ['kind', 'depth', '(%)', 'length', 'recovered', '(%)', 'sigma',
                               '(%)', 'verdict']
    rows = [line.split() for line in lines if line.startswith('  ')]
    assert [row[:4] for row in rows[:5]] == [['dip', depth, '1', 'h'] for depth in
                                             ('0.01', '0.1', '1', '10')] + [
                                                 ['dip', '0.01', '6', 'h']]
    assert all(abs(float(row[4]) - 100.0) < 2.0 and row[8][:4] == 'kept' for row in rows)
    hidden = [float(row[1]) < 3.0 * float(row[7]) for row in rows]
    assert [row[8:] == ['kept,', 'under', '3', 'sigma'] for row in rows] == hidden
    assert 0 < sum(hidden) < len(hidden)
    assert 'Left out: dips of 1 d: longer than a third of the series (8.17 h).' in lines
    assert verdict == 'The light curve keeps all 12 signals within 2 % or 2 sigma.'
    assert not printed.err
    assert not os.listdir(here)


def test_the_table_and_the_figure_are_written(star, here, capsys):
    assert run(star, '-o', 'table.ecsv', '--plot', 'transfer.png') == 0
    assert capsys.readouterr().out.endswith('-> table.ecsv\n-> transfer.png\n')
    table = QTable.read('table.ecsv')
    assert len(table) == 12
    assert table.meta['target'] == 'KIC 7'
    assert (here / 'transfer.png').read_bytes().startswith(b'\x89PNG')


def test_options_reach_the_light_curve(star, here):
    assert run(star, '--shape', 'free', '--background', 'known', '--quality', 'hardest',
               '--threads', '1', '-o', 'table.ecsv') == 0
    assert QTable.read('table.ecsv').meta['options'] == {
        'psf': 'gaussian', 'shape': 'free', 'background': 'known', 'n_threads': 1}


def test_the_star_of_a_scene_is_chosen_and_named(here, capsys):
    simulate_tpf('two.fits', n_cadences=50, shape=(7, 9), seed=3, target=7,
                 stars=[(5e4, 2.1, 2.9), (3e4, 6.0, 4.0)])
    Table({'name': ['A', 'B'], 'x': [2.1, 6.0], 'y': [2.9, 4.0]}).write('stars.ecsv')
    for arguments, name in (([], 'A'), (['--star', 'B'], 'B')):
        assert run('two.fits', '--stars', 'stars.ecsv', *arguments, '-o', f'{name}.ecsv') == 0
        assert capsys.readouterr().out.startswith(f'KIC 7, {name}: 50 of 50 cadences')
        assert QTable.read(f'{name}.ecsv').meta['star'] == name
    assert run('two.fits', '--stars', 'stars.ecsv', '--star', 'C') == 1
    assert '--star must have one of the names A, B, but it is' in capsys.readouterr().err


def test_a_signal_that_is_lost_is_named_and_the_status_is_one(star, here, capsys, monkeypatch):
    judge_with(monkeypatch, transfer=[0.4, 0.95], passed=[False, False])
    assert run(star) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith('   CHANGED')
    assert lines[-1] == ('The light curve changes 2 of 2 signals by more than 2 % or 2 sigma; '
                         'the worst: 40.0 % of a dip of 1 % and 4.8 h.')


def test_a_signal_that_flags_its_cadences_is_named(star, here, capsys, monkeypatch):
    judge_with(monkeypatch, transfer=[1.0, np.nan], lost=[0.0, 0.93], passed=[True, False])
    assert run(star) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].endswith('   FLAGGED')
    assert lines[-1].endswith(
        'the worst: a sinusoid of 10 % and 12 h flags 93 % of its own cadences.')


@pytest.mark.parametrize(('arguments', 'message'), [
    (['-o', 'table.txt'], r"-o must end in one of \.ecsv, but it is 'table\.txt'"),
    (['--plot', 'a.txt'], r'--plot must end in one of \.png'),
    (['-o', 'none/table.ecsv'], 'there is no folder none: create it'),
    (['--psf', 'prf', '--shape', 'free'], '--shape free is for a shape that is fitted'),
    (['--psf', 'empirical', '--shape', 'free'], '--psf empirical is learned: leave --shape out'),
    (['--prf-path', '.'], '--prf-path is for --psf prf'),
    (['--quality', 'best'], 'argument --quality: none, default'),
    (['--star', 'A'], '--star chooses one of several, but --stars does not say which'),
    (['--depth', '3'], 'unrecognized arguments: --depth 3'),
])
def test_wrong_calls_are_one_line_and_nothing_is_done(star, here, capsys, monkeypatch, arguments,
                                                      message):
    def fail(*args, **kwargs):
        raise AssertionError('The work began.')

    monkeypatch.setattr(command, 'read_tpf', fail)
    assert run(star, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f'kpsf( check-signal)?: .*{message}', line)
    assert not os.listdir(here)


def test_existing_files_are_kept_without_overwrite(star, here, capsys):
    (here / 'table.ecsv').write_text('before')
    assert run(star, '-o', 'table.ecsv') == 1
    assert 'table.ecsv exists already' in capsys.readouterr().err
    assert (here / 'table.ecsv').read_text() == 'before'
    assert run(star, '-o', 'table.ecsv', '--overwrite') == 0
    assert len(QTable.read('table.ecsv')) == 12


def test_the_input_is_never_replaced(star, here, capsys):
    path = here / 'star.ecsv'
    path.write_bytes(star.read_bytes())
    assert run(path, '-o', 'star.ecsv', '--overwrite') == 2
    assert 'would be read and written' in capsys.readouterr().err


def test_a_series_that_is_too_short_is_one_line(here, capsys):
    path = simulate_tpf(here / 'short.fits', n_cadences=3, seed=1)
    assert run(path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r'kpsf check-signal: error: .*short\.fits: The default signals need .*: take '
                    'a file with more of them, or pass signals= to kpsf.signal_transfer', line)
