# Licensed under a 3-clause BSD style license - see LICENSE
"""Fluxes, positions and their errors over many stars, alone and blended; two PSFs of one class."""

import numpy as np
import pytest
from astropy.table import QTable
from numpy.testing import assert_allclose
from photutils.psf import CircularGaussianPRF, CircularGaussianPSF, ImagePSF

from kpsf import PoissonPSFPhotometry

FWHM = 2.0
# Stars, or pairs of them, stand so far apart that their boxes have nothing in common.
SPACING = 24


def draw(x, y, flux, background, rng, shape):
    """Return counts of stars at x, y (n,) on a background."""
    mean = np.full(shape, background)
    rows, columns = np.mgrid[-9:10, -9:10]
    psf = CircularGaussianPRF()
    for own in zip(x, y, flux):
        i, j = round(own[1]), round(own[0])
        mean[i - 9:i + 10, j - 9:j + 10] += psf.evaluate(
            columns + j, rows + i, own[2], own[0], own[1], FWHM)
    return rng.poisson(mean).astype(float)


def cells(n_side, rng):
    """Return places near the middles of the cells of a square, (n,) each, and its shape."""
    y, x = (np.mgrid[:n_side, :n_side].reshape(2, -1) + 0.5) * SPACING
    x, y = x + rng.uniform(-0.5, 0.5, (1, x.size)), y + rng.uniform(-0.5, 0.5, (1, y.size))
    return x[0], y[0], (n_side * SPACING, n_side * SPACING)


def assert_standard(pulls):
    """Check that pulls have a mean of 0 and a standard deviation of 1, at 4 of their errors."""
    assert abs(np.mean(pulls)) < 4 / np.sqrt(pulls.size)
    assert abs(np.std(pulls) - 1) < 4 / np.sqrt(2 * pulls.size)


@pytest.mark.parametrize('flux', [300.0, 1e4])
@pytest.mark.parametrize('is_known', [False, True], ids=['fitted', 'known'])
def test_isolated_stars_scatter_as_their_errors_say(is_known, flux):
    rng, background = np.random.default_rng(5), 4.0
    x, y, shape = cells(26, rng)
    fluxes = np.full(x.size, flux)
    data = draw(x, y, fluxes, background, rng, shape)
    phot = PoissonPSFPhotometry(CircularGaussianPRF(fwhm=FWHM), (11, 11),
                                background=background if is_known else 'fit')
    init = QTable({'x': x + rng.normal(0, 0.1, x.size), 'y': y + rng.normal(0, 0.1, x.size)})
    table = phot(data - background * is_known, init_params=init)
    assert len(table) == 676
    assert not table['flags'].any()
    for name, truth in (('flux', fluxes), ('x', x), ('y', y)):
        assert_standard((table[f'{name}_fit'] - truth) / table[f'{name}_err'])
    assert abs(table['gof_z'].mean()) < 4 / np.sqrt(x.size)
    if not is_known:
        # A background of 4 on 121 pixels is almost, but not quite, normally distributed.
        assert_standard((table['background_fit'] - background) / table['background_err'])


@pytest.fixture(scope='module', name='pairs', params=[False, True], ids=['fitted', 'known'])
def fixture_pairs(request):
    """Return pulls (3, n_pairs, 2) of flux, x and y of 400 pairs 2 to 3.5 pixels apart."""
    rng, background, pulls = np.random.default_rng(7), 2.0, []
    for _ in range(4):
        x, y, shape = cells(10, rng)
        distance, angle = rng.uniform(2.0, 3.5, x.size), rng.uniform(0, 2 * np.pi, x.size)
        away = 0.5 * distance * np.array([np.cos(angle), np.sin(angle)])
        x, y = (np.stack([middle - half, middle + half], axis=1).ravel()
                for middle, half in zip((x, y), away))
        flux = np.tile([2000.0, 1200.0], x.size // 2)
        data = draw(x, y, flux, background, rng, shape)
        phot = PoissonPSFPhotometry(CircularGaussianPRF(fwhm=FWHM), (11, 11),
                                    background=background if request.param else 'fit')
        init = QTable({'x': x + rng.normal(0, 0.1, x.size), 'y': y + rng.normal(0, 0.1, x.size),
                       'group_id': np.repeat(np.arange(1, x.size // 2 + 1), 2)})
        table = phot(data - background * request.param, init_params=init)
        assert not table['flags'].any()
        pulls.append([((table[f'{name}_fit'] - truth) / table[f'{name}_err']).reshape(-1, 2)
                      for name, truth in (('flux', flux), ('x', x), ('y', y))])
    return np.concatenate(pulls, axis=1)


def test_blended_pairs_scatter_as_their_errors_say(pairs):
    assert pairs.shape == (3, 400, 2)
    for pulls in pairs:
        assert_standard(pulls)


def test_no_pixel_of_a_pair_counts_twice(pairs):
    # All parameters of 400 pairs: the sampling error of the scatter is below 1.5 %, while pixels
    # counted twice would make it 0.7.
    ratio = 1.0 / np.std(pairs)
    assert 0.95 < ratio < 1.05


def test_the_total_of_a_pair_is_known_better_than_its_parts():
    # The errors of a blend are not independent: those of its fluxes are larger than alone.
    rng, psf = np.random.default_rng(9), CircularGaussianPRF(fwhm=FWHM)
    data = draw([20.0, 22.0], [20.0, 20.0], [1000.0, 1000.0], 2.0, rng, (41, 41))
    init = QTable({'x': [20.0, 22.0], 'y': [20.0, 20.0], 'group_id': [1, 1]})
    together = PoissonPSFPhotometry(psf, 11)(data, init_params=init)
    alone = draw([20.0], [20.0], [1000.0], 2.0, rng, (41, 41))
    single = PoissonPSFPhotometry(psf, 11)(alone, init_params=init['x', 'y'][:1])
    assert np.all(together['flux_err'] > 1.1 * single['flux_err'])


def image_psf(fwhm):
    """Return a PSF of unit flux at four samples per pixel."""
    y, x = np.mgrid[:61, :61]
    return ImagePSF(CircularGaussianPSF().evaluate(x, y, 16.0, 30.0, 30.0, 4 * fwhm),
                    oversampling=4)


@pytest.mark.parametrize('through', ['kpsf', 'photutils'])
def test_image_psfs_of_one_process_do_not_leak_into_each_other(through):
    y, x = np.mgrid[:31, :31]
    init = QTable({'x': [14.0, 17.0], 'y': [15.0, 15.2], 'flux': [900.0, 700.0],
                   'group_id': [1, 1]})
    for fwhm in (1.6, 2.4, 1.6, 3.0, 2.0):
        psf = image_psf(fwhm)
        data = psf.evaluate(x, y, 1000.0, 14.1, 15.1) + psf.evaluate(x, y, 800.0, 17.1, 15.0)
        phot = PoissonPSFPhotometry(psf, (11, 11), background=5.0)
        if through == 'photutils':
            phot = phot.to_photutils()
        table = phot(data, init_params=init)
        assert_allclose(table['flux_fit'], [1000.0, 800.0], rtol=1e-5)
        assert_allclose(table['x_fit'], [14.1, 17.1], atol=1e-5)


def test_grouped_image_psfs_side_by_side_keep_apart():
    y, x = np.mgrid[:31, :31]
    init = QTable({'x': [14.0, 17.0], 'y': [15.0, 15.2], 'flux': [900.0, 700.0],
                   'group_id': [1, 1]})
    psfs = [image_psf(fwhm) for fwhm in (1.6, 2.6)]
    made = [PoissonPSFPhotometry(psf, (11, 11), background=5.0).to_photutils() for psf in psfs]
    for _ in range(2):
        for psf, phot in zip(psfs, made):
            data = psf.evaluate(x, y, 1000.0, 14.1, 15.1) + psf.evaluate(x, y, 800.0, 17.1, 15.0)
            assert_allclose(phot(data, init_params=init)['flux_fit'], [1000.0, 800.0], rtol=1e-5)


@pytest.mark.parametrize('is_known', [False, True], ids=['fitted', 'known'])
@pytest.mark.parametrize('size', [1, 2], ids=['single', 'pairs'])
def test_the_goodness_of_fit_of_empty_pixels_is_standard_normal(size, is_known):
    rng, background = np.random.default_rng(13), 0.1
    x, y, shape = cells(18, rng)
    x = (x[:, np.newaxis] + (3.0 * np.arange(size) - 1.5 * (size - 1))).ravel()
    data = draw(x, np.repeat(y, size), np.full(x.size, 400.0), background, rng, shape)
    phot = PoissonPSFPhotometry(CircularGaussianPRF(fwhm=FWHM), 15,
                                background=background if is_known else 'fit')
    table = phot(data - background * is_known, init_params=QTable(
        {'x': x, 'y': np.repeat(y, size), 'group_id': 1 + np.arange(x.size) // size}))
    assert not table['flags'].any()
    assert_standard(np.array(table['gof_z'][::size]))
