# Licensed under a 3-clause BSD style license - see LICENSE
"""`kpsf lightcurve --stars`: what it says of each star."""

import numpy as np
import pytest
from astropy.table import Table

from kpsf import EllipticalGaussianPSF, cli, simulate_tpf
from kpsf.lightcurve import SceneLightCurves, point_to_point_scatter

PSF = EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 0.8, 0.65, 0.4)
X, Y = [3.0, 7.2], [3.1, 4.9]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder beside a file of two stars."""
    monkeypatch.chdir(tmp_path)
    simulate_tpf('two.fits', PSF, n_cadences=30, shape=(9, 11), drift=0.1, seed=2, target=7,
                 stars=[(9e4, X[0], Y[0]), (4e4, X[1], Y[1])])
    return tmp_path


def run(*arguments):
    return cli.main(['lightcurve', *map(str, arguments)])


def test_every_star_is_told_with_its_flags_and_the_scatter_of_the_rows_without(here, capsys):
    Table({'name': ['A', 'B', 'out'], 'x': [*X, 13.0], 'y': [*Y, 4.0],
           'flux': [9e4, 4e4, 1e3]}).write('three.ecsv')
    assert run('two.fits', '--stars', 'three.ecsv', '-o', 'three.fits') == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == 'KIC 7: 3 stars, 30 cadences -> three.fits'
    curves = SceneLightCurves.read('three.fits')
    for name, line in zip('AB', lines):
        scatter = 1e6 * point_to_point_scatter(curves[name]['flux'])
        error = 1e6 * np.median(curves[name]['flux_err'] / np.median(curves[name]['flux']))
        place = f'({X["AB".index(name)]:.1f}, {Y["AB".index(name)]:.1f})'
        flux = np.median(curves[name]['flux'].value)
        assert line == (f'  {name} at {place} with {flux:.0f} e-/s: 0 flagged, scatter '
                        f'{scatter:.0f} ppm (errors {error:.0f} ppm)')
    assert lines[2].startswith('  out ')
    assert lines[2].endswith(': 30 flagged, scatter unknown')
    assert np.all(curves['out']['flags'] > 0)


def test_stars_that_were_found_are_to_be_looked_at(here, capsys):
    assert run('two.fits', '--stars', 'find') == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith('KIC 7: 2 stars')
    assert lines[0].startswith('  target at (3.0, 3.1) with ')
    assert lines[1].startswith('  star 2 at (7.2, 4.9) with ')
    assert ' '.join(lines[2:]).startswith('Look at these first: knots in the wings')


def test_one_star_is_one(here, capsys):
    Table({'x': X[:1], 'y': Y[:1]}).write('one.ecsv')
    assert run('two.fits', '--stars', 'one.ecsv') == 0
    assert capsys.readouterr().out.startswith('KIC 7: 1 star, 30 cadences -> ')
