# Licensed under a 3-clause BSD style license - see LICENSE
"""Advice on positions: biases and errors are those of photometry of other simulated stars."""

import warnings
from functools import cache

import numpy as np
import pytest
from astropy.modeling.models import Gaussian2D
from astropy.nddata import NDData
from astropy.table import QTable
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import CircularGaussianPRF, GriddedPSFModel, ImagePSF
from scipy.special import ndtr

from kpsf import PoissonPSFPhotometry, advise_centroid

PSF = CircularGaussianPRF(fwhm=2.0)
STDDEV = 2.0 / np.sqrt(8.0 * np.log(2.0))
MODES = ('free', 'prior', 'fixed')
# Flux at which the signal-to-noise ratio on one electron per pixel is about 1.8, 5 and 20.
FLUXES = {1.8: 8.6, 5.0: 35.0, 20.0: 440.0}
N_ALONG = 50


@cache
def advice(signal, known_to=0.1, background_known=True, **options):
    return advise_centroid(PSF, FLUXES[signal], 1.0, known_to=known_to, fit_shape=7,
                           background_known=background_known, **options)


def shares(x, y, side):
    """Return the share of a star in each pixel (n, side, side), by the error function."""
    edges = np.arange(side + 1) - 0.5
    along_x, along_y = (np.diff(ndtr((edges - place[:, np.newaxis]) / STDDEV), axis=1)
                        for place in (x, y))
    return along_y[:, :, np.newaxis] * along_x[:, np.newaxis, :]


@cache
def measured(signal, mode, known_to=0.1, background_known=True, box=7, seed=101):
    """Return errors of fluxes and positions of a field of stars, measured by photometry."""
    side, flux, rng = box + 6, FLUXES[signal], np.random.default_rng(seed)
    n = N_ALONG**2
    x, y = side // 2 + rng.uniform(-0.5, 0.5, (2, n))
    cells = rng.poisson(flux * shares(x, y, side) + 1.0).astype(float)
    image = cells.reshape(N_ALONG, N_ALONG, side, side).swapaxes(1, 2)
    image = image.reshape(N_ALONG * side, N_ALONG * side)
    rows, columns = (grid.ravel() * side for grid in np.mgrid[:N_ALONG, :N_ALONG])
    psf = PSF.copy()
    if mode == 'fixed':
        psf.x_0.fixed = psf.y_0.fixed = True
    photometry = PoissonPSFPhotometry(psf, box, background=1.0 if background_known else 'fit',
                                      centroid_prior=known_to if mode == 'prior' else None)
    starts = rng.normal(0.0, known_to, (2, n)) + [x + columns, y + rows]
    with warnings.catch_warnings():
        # Of faint stars, some end at their bounds.
        warnings.simplefilter('ignore')
        table = photometry(image - (1.0 if background_known else 0.0),
                           init_params=QTable({'x': starts[0], 'y': starts[1]}))
    off = np.concatenate([table['x_fit'] - x - columns, table['y_fit'] - y - rows])
    fluxes = np.asarray(table['flux_fit'])
    assert np.isfinite(fluxes).all()
    return fluxes - flux, off


def compare(row, fluxes, off):
    """Assert that a row of the table is what was measured, within 10 % and the sampling."""
    noise = np.hypot(row['flux_bias_err'], fluxes.std() / np.sqrt(len(fluxes)))
    assert abs(row['flux_bias'] - fluxes.mean()) < 0.1 * abs(fluxes.mean()) + 3.0 * noise
    assert_allclose(row['flux_err'], fluxes.std(), rtol=0.1)
    assert_allclose(row['x_err'], np.sqrt(np.mean(off**2)), rtol=0.1)


@pytest.mark.parametrize('background_known', [False, True])
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('signal', FLUXES)
def test_bias_and_errors_are_those_of_photometry(signal, mode, background_known):
    row = advice(signal, background_known=background_known).table[MODES.index(mode)]
    assert row['position'] == mode
    compare(row, *measured(signal, mode, background_known=background_known))


@pytest.mark.parametrize(('known_to', 'box'), [(0.3, 7), (0.5, 5), (1.0, 5)])
@pytest.mark.parametrize('mode', MODES)
def test_positions_known_badly_are_right_too(known_to, box, mode):
    found = advise_centroid(PSF, FLUXES[1.8], 1.0, known_to=known_to, fit_shape=box,
                            background_known=True)
    compare(found.table[MODES.index(mode)], *measured(1.8, mode, known_to, box=box))


def test_faint_stars_come_out_too_bright_where_they_are_free():
    # None of the comparisons would tell anything without a bias.
    faint = advice(1.8)
    assert faint.table['flux_bias'][0] > 0.15 * faint.flux
    assert abs(faint.table['flux_bias'][1]) < 0.03 * faint.flux
    wide = advice(1.8, 0.5)
    assert wide.table['flux_bias'][2] < -0.05 * wide.flux


@pytest.mark.parametrize('signal', FLUXES)
def test_the_signal_to_noise_ratio_is_that_of_the_bound(signal):
    found = advice(signal)
    assert_allclose(found.signal_to_noise, signal, rtol=0.06)
    assert_allclose(found.signal_to_noise, found.flux / found.table['flux_err_bound'][0],
                    rtol=1e-12)


@pytest.mark.parametrize('signal', [5.0, 20.0])
def test_the_bound_of_the_position_is_the_scatter_of_free_ones(signal):
    # At S/N 5, maximum likelihood does not quite reach the bound.
    above = {5.0: 0.25, 20.0: 0.03}[signal]
    found = advice(signal)
    _, off = measured(signal, 'free')
    assert -0.03 < off.std() / found.position_error - 1.0 < above
    fluxes, _ = measured(signal, 'free')
    assert_allclose(found.table['flux_err_bound'][0], fluxes.std(), rtol=0.05)


def test_the_bound_of_the_position_follows_the_formula_of_a_sampled_gaussian():
    # A star far above its background: sigma over the root of the electrons, with the pixel in it.
    found = advise_centroid(CircularGaussianPRF(fwhm=5.0), 1e6, 1e-3, fit_shape=25,
                            n_simulated=100)
    assert_allclose(found.position_error, np.hypot(5.0 / np.sqrt(8 * np.log(2)), 12**-0.5) / 1e3,
                    rtol=0.01)


def test_a_prior_and_a_fixed_position_scatter_as_they_must():
    table = advice(20.0, 0.3).table
    free, prior, fixed = table['x_err']
    assert_allclose(fixed, 0.3, rtol=0.03)
    assert_allclose(prior, (free**-2 + 0.3**-2)**-0.5, rtol=0.03)
    assert_allclose(table['rms'], np.hypot(table['flux_bias'], table['flux_err']), rtol=1e-12)


@pytest.mark.parametrize(('flux', 'known_to', 'expected'), [
    (8.6, 0.01, 'fixed'), (8.6, 0.5, 'prior'), (8.6, 0.4, 'prior'), (1e4, 0.1, 'free'),
    (1e4, 0.5, 'free'), (1e6, 0.01, 'free')])
def test_the_recommendation_is_what_the_numbers_say(flux, known_to, expected):
    found = advise_centroid(PSF, flux, 1.0, known_to=known_to, fit_shape=7)
    assert found.recommendation == expected
    assert found.known_to == known_to


def test_a_bright_star_whose_position_is_known_best_of_all_may_be_either():
    # Nothing is lost by the simplest way.
    table = advise_centroid(PSF, 1e5, 1.0, known_to=1e-4).table
    assert_allclose(table['flux_err'], table['flux_err'][0], rtol=0.01)


def test_the_recommended_way_is_among_the_best():
    for signal in FLUXES:
        for known_to in (0.03, 0.1, 0.5):
            found = advice(signal, known_to, n_simulated=1000)
            row = found.table[MODES.index(found.recommendation)]
            others = found.table[np.abs(found.table['flux_bias']) <= np.abs(row['flux_bias'])]
            assert row['rms'] <= 1.03 * others['rms'].min()


def test_the_same_seed_gives_the_same_advice():
    options = {'fit_shape': 7, 'n_simulated': 200}
    first, same, other = (advise_centroid(PSF, 20.0, 1.0, seed=seed, **options).table
                          for seed in (4, 4, 5))
    for name in first.colnames:
        assert_array_equal(first[name], same[name])
    assert np.all(first['flux_bias'] != other['flux_bias'])
    # The bound is no matter of chance.
    assert_array_equal(first['flux_err_bound'], other['flux_err_bound'])


def test_the_random_numbers_of_others_are_left_alone():
    np.random.seed(7)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    advise_centroid(PSF, 20.0, 1.0, fit_shape=5, n_simulated=100)
    assert np.random.random() == expected  # noqa: NPY002


def test_more_stars_make_the_bias_better_known():
    few, many = (advise_centroid(PSF, 50.0, 1.0, fit_shape=5, n_simulated=n).table
                 for n in (400, 6400))
    assert_allclose(few['flux_bias_err'] / many['flux_bias_err'], 4.0, rtol=0.15)
    assert_allclose(many['flux_bias_err'], many['flux_err'] / 80.0, rtol=1e-6)


def test_the_model_is_not_changed():
    psf = CircularGaussianPRF(flux=7.0, x_0=3.0, y_0=4.0, fwhm=2.0)
    before = psf.parameters.copy()
    advise_centroid(psf, 20.0, 1.0, fit_shape=5, n_simulated=100)
    assert_array_equal(psf.parameters, before)
    assert not any(psf.fixed[name] for name in ('flux', 'x_0', 'y_0'))


def oversampled():
    y, x = np.mgrid[-24:25, -24:25] / 4
    return PSF.copy()(x, y)


@pytest.mark.parametrize(('psf', 'oversampling'), [
    (oversampled(), 4), (7.0 * oversampled(), 4),
    (ImagePSF(0.01 * oversampled(), oversampling=4), None),
    (GriddedPSFModel(NDData(np.array([oversampled()] * 4), meta={
        'oversampling': 4, 'grid_xypos': [(0, 0), (100, 0), (0, 80), (100, 80)]})), None)],
    ids=['image', 'brighter image', 'ImagePSF', 'grid'])
def test_the_normalization_of_the_psf_does_not_matter(psf, oversampling):
    options = {'fit_shape': 7, 'known_to': 0.3, 'n_simulated': 1000}
    expected = advise_centroid(PSF, 20.0, 1.0, **options)
    found = advise_centroid(psf, 20.0, 1.0, oversampling=oversampling, **options)
    for name in ('flux_bias', 'flux_err'):
        assert_allclose(found.table[name], expected.table[name], atol=0.03 * 6.0)
    assert_allclose(found.position_error, expected.position_error, rtol=2e-3)
    assert found.recommendation == expected.recommendation


def test_an_amplitude_counts_as_the_flux_that_it_means():
    psf = Gaussian2D(x_stddev=1.2, y_stddev=1.2)
    found = advise_centroid(psf, 1000.0, 5.0, fit_shape=9, n_simulated=2000)
    row = found.table[0]
    assert abs(row['flux_bias']) < 0.01 * 1000.0
    assert_allclose(row['flux_err'], row['flux_err_bound'], rtol=0.06)


def test_the_box_is_that_of_the_other_guidance_unless_it_is_given():
    assert advise_centroid(PSF, 20.0, 1.0, n_simulated=100).fit_shape == (11, 11)
    assert advise_centroid(PSF, 20.0, 1.0, n_simulated=100, fit_shape=(5, 9)).fit_shape == (5, 9)


def test_a_box_that_is_not_square_has_the_errors_of_its_simulation():
    found = advise_centroid(PSF, 3000.0, 20.0, n_simulated=4000, fit_shape=(3, 13))
    assert_allclose(found.table['flux_err_bound'][0], found.table['flux_err'][0], rtol=0.04)
    assert_allclose(found.signal_to_noise, 3000.0 / found.table['flux_err'][0], rtol=0.04)


def test_read_noise_makes_it_worse():
    quiet, noisy = (advise_centroid(PSF, 300.0, 1.0, read_variance=variance, fit_shape=7,
                                    n_simulated=3000) for variance in (0.0, 25.0))
    assert noisy.signal_to_noise < 0.7 * quiet.signal_to_noise
    assert_allclose(noisy.table['flux_err'][0], noisy.table['flux_err_bound'][0], rtol=0.06)


@pytest.mark.parametrize(('flux', 'known_to', 'start'), [
    (8.6, 0.5, 'Give the position a prior, CentroidPrior(0.5)'),
    (8.6, 0.01, 'Hold the position fixed'), (1e4, 0.1, 'Leave the position free')])
def test_the_text_says_what_the_table_has(flux, known_to, start):
    found = advise_centroid(PSF, flux, 1.0, known_to=known_to, fit_shape=7)
    assert found.sentence.startswith(f'{start}: at S/N {found.signal_to_noise:.1f} the pixels ')
    assert ('(free: ' in found.sentence) is (found.recommendation != 'free')
    *sentence, header, first, second, third = str(found).splitlines()
    assert ' '.join(map(str.strip, sentence)) == found.sentence
    assert max(map(len, sentence)) < 100
    assert header.split() == ['position', 'x', 'error', '(pixels)', 'flux', 'bias', 'flux',
                              'scatter']
    assert [line[2:].split()[0] for line in (first, second, third)] == list(MODES)
    marked, = (line for line in (first, second, third) if line.startswith('*'))
    row = found.table[MODES.index(found.recommendation)]
    assert marked.split()[1:3] == [found.recommendation, f'{row["x_err"]:.3g}']
    assert all(len(line) == len(header) for line in (first, second, third))


@pytest.mark.parametrize(('arguments', 'options', 'error', 'match'), [
    ((np.zeros((9, 9)), 1.0, 1.0), {}, ValueError, 'must have a positive sum'),
    ((CircularGaussianPRF, 1.0, 1.0), {}, TypeError, 'but it is CircularGaussianPRF'),
    ((PSF, 0.0, 1.0), {}, ValueError, 'flux must be a finite number > 0'),
    ((PSF, np.inf, 1.0), {}, ValueError, 'flux must be a finite number > 0'),
    ((PSF, 1.0, -1.0), {}, ValueError, 'background must be a finite number >= 0'),
    ((PSF, 1.0, None), {}, TypeError, 'background must be a number'),
    ((PSF, 1.0, 1.0), {'known_to': 0.0}, ValueError, 'known_to must be a finite number > 0'),
    ((PSF, 1.0, 1.0), {'known_to': (0.1, 0.2)}, TypeError, 'known_to must be a number'),
    ((PSF, 1.0, 1.0), {'read_variance': -1.0}, ValueError, 'read_variance must be a finite'),
    ((PSF, 1.0, 1.0), {'fit_shape': 6}, ValueError, 'fit_shape must be an odd whole number'),
    ((PSF, 1.0, 1.0), {'fit_shape': 1}, ValueError, 'fit_shape must be an odd whole number'),
    ((PSF, 1.0, 1.0), {'fit_shape': 7.0}, ValueError, 'fit_shape must be an odd whole number'),
    ((PSF, 1.0, 1.0), {'fit_shape': (5, 7, 9)}, ValueError, 'fit_shape must be an odd whole'),
    ((PSF, 1.0, 1.0), {'n_simulated': 0}, ValueError, 'n_simulated must be a whole number'),
    ((PSF, 1.0, 1.0), {'n_simulated': 99}, ValueError, 'n_simulated must be at least 100, but'),
    ((PSF, 1.0, 1.0), {'seed': -1}, ValueError, 'seed must be a whole number >= 0, but it is -1'),
    ((PSF, 1.0, 1.0), {'seed': 1.5}, ValueError, 'seed must be a whole number >= 0'),
    ((PSF, 1.0, 1.0), {'known_to': 3.6, 'fit_shape': 7}, ValueError,
     'known_to must not exceed half of the box, 7 pixels, but it is 3.6'),
    ((PSF, 1.0, 1.0), {'n_simulated': 10.5}, ValueError, 'n_simulated must be a whole number'),
    ((PSF, 1.0, 1.0), {'oversampling': 4}, ValueError, 'oversampling is for an image')])
def test_wrong_input_is_refused(arguments, options, error, match):
    with pytest.raises(error, match=match):
        advise_centroid(*arguments, **options)


def test_a_star_at_the_edge_has_the_errors_of_the_pixels_that_exist():
    mask = np.zeros((41, 41), dtype=bool)
    psf = CircularGaussianPRF(fwhm=2.5)
    options = {'fit_shape': 9, 'n_simulated': 500, 'mask': mask}
    at_edge = advise_centroid(psf, 5000.0, 20.0, position=(20.2, -0.4), **options)
    inside = advise_centroid(psf, 5000.0, 20.0, position=(20.2, 20.1), **options)
    assert at_edge.table['flux_err'][0] > 2.0 * inside.table['flux_err'][0]
    assert at_edge.table['flux_err'][0] == pytest.approx(at_edge.table['flux_err_bound'][0],
                                                         rel=0.15)
