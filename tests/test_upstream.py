# Licensed under a 3-clause BSD style license - see LICENSE
"""Tests that astropy and photutils have for models of their own, on the models of kpsf."""

import copy
import os
import pickle
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kpsf import (
    EllipticalGaussianPRF,
    EllipticalGaussianPSF,
    KeplerPRF,
    TabulatedPRF,
    TessPRF,
)
from kpsf.simulate import simulate_kepler_prf, simulate_tess_prf

PLUGINS = Path(__file__).parent / 'upstream'
# What astropy's class TestFittable2DModels does with a model, four of them fitters twice.
N_TESTS = 12


def run_upstream(folder, *arguments):
    """Run pytest on tests of another package in an empty folder; return the test cases."""
    # A configuration of its own: the one of this source tree must not be found.
    (folder / 'pytest.ini').write_text('[pytest]\n')
    paths = [str(PLUGINS), str(PLUGINS.parents[1]), os.environ.get('PYTHONPATH', '')]
    command = [sys.executable, '-m', 'pytest', '-c', 'pytest.ini', '-p', 'no:cacheprovider',
               '-W', 'error', '--junit-xml=report.xml', *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder,
                            env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths))})
    assert result.returncode == 0, result.stdout + result.stderr
    return list(ET.parse(folder / 'report.xml').getroot().iter('testcase'))


def test_the_tests_of_astropy_for_models_pass(tmp_path):
    cases = run_upstream(tmp_path, '-p', 'kpsf_models', '--pyargs',
                         'astropy.modeling.tests.test_models', '-k', 'Elliptical or Positional')
    assert not [case.get('name') for case in cases if len(case)]
    models = Counter(case.get('name').partition('[')[2].split('-')[-2] for case in cases)
    assert models == dict.fromkeys(
        ['EllipticalGaussianPSF', 'EllipticalGaussianPRF', 'PositionalTabulatedPRF',
         'PositionalKeplerPRF', 'PositionalTessPRF'], N_TESTS)


FITTER_TESTS = [f'astropy.modeling.tests.{name}' for name in (
    'test_fitters', 'test_constraints', 'test_quantities_fitting', 'test_models',
    'test_functional_models', 'test_fitting_parallel')]


@pytest.mark.parametrize(('tests', 'at_least'), [(['photutils.psf'], 450), (FITTER_TESTS, 800)],
                         ids=['photutils', 'astropy'])
def test_the_fitter_stands_in_for_the_default_one(tmp_path, tests, at_least):
    # What may fail, and has to, is listed in tests/upstream/swap_failures.py.
    cases = run_upstream(tmp_path, '-W', 'default', '-p', 'swap_fitter', '--pyargs', *tests)
    assert len(cases) >= at_least


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Return the same star as every model of kpsf, its shape fixed."""
    folder = tmp_path_factory.mktemp('prf')
    fixed = dict.fromkeys('abc', True)
    integrated = EllipticalGaussianPRF.from_stddev(1.0, 0.0, 0.0, 0.9, 0.7, 0.4, fixed=fixed)
    y, x = (np.mgrid[:165, :165] - 82) / 15
    return {
        'EllipticalGaussianPSF': EllipticalGaussianPSF(*integrated.parameters, fixed=fixed),
        'EllipticalGaussianPRF': integrated,
        'TabulatedPRF': TabulatedPRF(integrated(x, y), 1 / 15),
        'KeplerPRF': KeplerPRF.from_file(simulate_kepler_prf(
            folder / 'kplr07.4_2011265_prf.fits', integrated, oversampling=20)),
        'TessPRF': TessPRF.from_files(simulate_tess_prf(folder, integrated), 300, 700),
    }


@pytest.fixture(params=['EllipticalGaussianPSF', 'EllipticalGaussianPRF', 'TabulatedPRF',
                        'KeplerPRF', 'TessPRF'])
def psf(request, models):
    """Return a copy of one of the models."""
    return models[request.param].copy()


@pytest.fixture
def sky(psf):
    """Return an image of twelve stars, its errors, and the table of the stars."""
    photutils_psf = pytest.importorskip('photutils.psf')
    data, stars = photutils_psf.make_psf_model_image(
        (101, 91), psf, 12, model_shape=(11, 11), flux=(500, 1500), min_separation=15,
        border_size=8, seed=3)
    return data, np.sqrt(0.01 * data + 1.0), stars


def test_photutils_draws_images_within_the_bounding_box(psf, sky):
    from photutils.datasets import make_model_image
    _, _, stars = sky
    y, x = np.mgrid[:101, :91]
    expected = sum(psf.evaluate(x, y, row['flux'], row['x_0'], row['y_0'], *psf.parameters[3:])
                   for row in stars)
    image = make_model_image((101, 91), psf, stars)
    assert_allclose(image, expected, rtol=0, atol=1e-4)
    assert_allclose(image.sum(), stars['flux'].sum(), rtol=1e-4)


@pytest.mark.parametrize('fit_shape', [(5, 5), (7, 9)])
def test_photutils_measures_every_star(psf, sky, fit_shape):
    from photutils.psf import PSFPhotometry
    data, error, stars = sky
    init = stars.copy()
    init['x_0'] += 0.2
    init['y_0'] -= 0.3
    init['flux'] *= 0.8
    photometry = PSFPhotometry(psf, fit_shape)
    found = photometry(data, error=error, init_params=init['x_0', 'y_0', 'flux'])
    for fitted, true in (('flux', 'flux'), ('x', 'x_0'), ('y', 'y_0')):
        assert_allclose(found[f'{fitted}_fit'], stars[true], rtol=1e-5)
        assert np.all(found[f'{fitted}_err'] > 0)
    assert not found['flags'].any()
    assert_allclose(found['qfit'], 0, atol=1e-5)
    residual = photometry.make_residual_image(data, psf_shape=(11, 11))
    assert_allclose(residual, 0, atol=1e-3 * data.max())
    assert psf.parameters[:3].tolist() == [1.0, 0.0, 0.0]


def test_photutils_finds_and_measures_stars_by_iteration(psf, sky):
    from photutils.detection import DAOStarFinder
    from photutils.psf import IterativePSFPhotometry
    data, error, stars = sky
    photometry = IterativePSFPhotometry(psf, (5, 5), finder=DAOStarFinder(threshold=10, fwhm=2.0),
                                        aperture_radius=3, mode='new')
    found = photometry(data, error=error)
    found.sort('x_fit')
    stars.sort('x_0')
    assert len(found) == len(stars)
    assert_allclose(found['flux_fit'], stars['flux'], rtol=1e-4)


@pytest.mark.parametrize('duplicate', [
    copy.copy, copy.deepcopy, lambda model: model.copy(), lambda model: model.deepcopy(),
    lambda model: pickle.loads(pickle.dumps(model)),
], ids=['copy', 'deepcopy', 'model-copy', 'model-deepcopy', 'pickle'])
def test_duplicates_are_equal_and_their_parameters_their_own(psf, duplicate):
    psf.flux, psf.x_0, psf.y_0 = 10.0, 3.2, 2.9
    psf.x_0.fixed = True
    twin = duplicate(psf)
    y, x = np.mgrid[:7, :8]
    assert type(twin) is type(psf)
    assert np.array_equal(twin(x, y), psf(x, y))
    assert twin.fixed == psf.fixed
    if duplicate is not copy.copy:
        twin.flux = 20.0
        assert psf.flux == 10.0
