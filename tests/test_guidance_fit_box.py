# Licensed under a 3-clause BSD style license - see LICENSE
"""Fit boxes: predicted errors and biases are those of simulated stars that are really fitted."""

from functools import cache

import numpy as np
import pytest
from astropy.nddata import NDData
from astropy.table import QTable
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import (
    CircularGaussianPRF,
    CircularGaussianPSF,
    GriddedPSFModel,
    ImagePSF,
    MoffatPSF,
)
from scipy.optimize import brentq

from kpsf import TabulatedPRF, fit_stamps, suggest_fit_shape

N_STARS = 4000


def moffat_image(half=11, steps=4):
    """Return a Moffat image, oversampled, whose wings reach far."""
    y, x = (np.mgrid[-half * steps:half * steps + 1, -half * steps:half * steps + 1]) / steps
    return MoffatPSF(alpha=2.2, beta=3.0)(x, y)


PSFS = {'narrow': CircularGaussianPRF(fwhm=2.0), 'wide': CircularGaussianPRF(fwhm=4.0),
        'Moffat': TabulatedPRF(moffat_image(), 0.25)}


def images(psf, side, x, y):
    """Return stars of a flux of 1 at x, y from the middle pixel, (n, side, side)."""
    rows, columns = np.mgrid[:side, :side]
    x, y = (np.reshape(place, (-1, 1, 1)) + side // 2 for place in (x, y))
    params = {name: getattr(psf, name).value for name in psf.param_names}
    params |= {'flux': 1.0, 'x_0': x, 'y_0': y}
    return psf.evaluate(columns, rows, *params.values())


@cache
def stars(name, side, n=N_STARS):
    """Return places and images of stars anywhere in the middle pixel."""
    x, y = np.random.default_rng(7).uniform(-0.5, 0.5, (2, n))
    return x, y, images(PSFS[name], side, x, y)


def fit_fluxes(psf, counts, x, y, background, **options):
    """Return the fluxes of stamps fitted from the true places."""
    middle = counts.shape[-1] // 2
    fits = fit_stamps(counts, psf, background=background,
                      init={'x_0': x + middle, 'y_0': y + middle}, **options)
    return fits.params[:, fits.param_names.index('flux')]


@cache
def flux_of(name, signal, background, background_known):
    """Return the flux at which the recommended box is expected to reach a signal to noise."""
    def excess(log_flux):
        found = suggest_fit_shape(PSFS[name], np.exp(log_flux), background, largest=21,
                                  background_known=background_known, loss=0.0)
        return np.exp(log_flux) / found.table['flux_err'].min() / signal - 1.0

    return np.exp(brentq(excess, 0.0, 16.0, rtol=1e-3))


@pytest.mark.parametrize('background_known', [False, True])
@pytest.mark.parametrize('background', [1.0, 10.0, 100.0])
@pytest.mark.parametrize(('name', 'signal'), [('narrow', 15.0), ('wide', 15.0), ('Moffat', 20.0)])
def test_flux_errors_are_those_of_simulated_stars(name, signal, background, background_known):
    flux = flux_of(name, signal, background, background_known)
    found = suggest_fit_shape(PSFS[name], flux, background, background_known=background_known)
    side = found.fit_shape[0]
    x, y, shares = stars(name, side)
    counts = np.random.default_rng(side).poisson(flux * shares + background)
    fluxes = fit_fluxes(PSFS[name], counts, x, y, background if background_known else 'fit')
    predicted = found.table['flux_err'][found.table['side'] == side][0]
    # The scatter of n stars is known to 1 / sqrt(2 n).
    assert abs(predicted / fluxes.std() - 1.0) < 0.03 + 1.0 / np.sqrt(2.0 * N_STARS)
    assert abs(fluxes.mean() / flux - 1.0) < 0.01


@pytest.mark.parametrize(('side', 'options', 'held'), [
    (5, {}, ()), (5, {'background_known': True}, ()), (3, {'background_known': True}, ()),
    (9, {'position_known': True}, ('x_0', 'y_0'))])
def test_every_box_has_the_error_of_simulated_stars(side, options, held):
    flux, background = 4000.0, 20.0
    table = suggest_fit_shape(PSFS['narrow'], flux, background, **options).table
    x, y, shares = stars('narrow', side)
    counts = np.random.default_rng(side + 30).poisson(flux * shares + background)
    fluxes = fit_fluxes(PSFS['narrow'], counts, x, y,
                        background if options.get('background_known') else 'fit', fixed=held)
    predicted = table['flux_err'][table['side'] == side][0]
    assert abs(predicted / fluxes.std() - 1.0) < 0.03 + 1.0 / np.sqrt(2.0 * N_STARS)
    assert_allclose(1.0 - table['outside'][table['side'] == side][0],
                    shares.sum(axis=(1, 2)).mean(), atol=4e-3)


def test_read_noise_is_that_of_simulated_stars():
    flux, background, variance = 2000.0, 4.0, 100.0
    found = suggest_fit_shape(PSFS['narrow'], flux, background, read_variance=variance)
    side, rng = found.fit_shape[0], np.random.default_rng(8)
    x, y, shares = stars('narrow', side)
    counts = rng.poisson(flux * shares + background) + rng.normal(0.0, 10.0, shares.shape)
    fluxes = fit_fluxes(PSFS['narrow'], counts, x, y, 'fit', read_variance=variance)
    predicted = found.table['flux_err'][found.table['side'] == side][0]
    assert abs(predicted / fluxes.std() - 1.0) < 0.03 + 1.0 / np.sqrt(2.0 * N_STARS)


@pytest.mark.parametrize('fwhm', [2.0, 3.0, 4.0, 6.0])
def test_a_fitted_background_needs_five_widths_and_a_known_one_about_two(fwhm):
    psf = CircularGaussianPRF(fwhm=fwhm)
    free = suggest_fit_shape(psf, 2000.0, 1000.0)
    known = suggest_fit_shape(psf, 2000.0, 1000.0, background_known=True)
    # Rules in widths are rounded to odd sides.
    assert free.fit_shape[0] >= 5.0 * free.fwhm - 1.0
    assert 2.0 * known.fwhm - 4.0 < known.fit_shape[0] <= 3.0 * known.fwhm
    assert known.table['total'].min() < free.table['total'].min()


def test_bright_stars_need_no_large_box_for_the_background():
    faint = suggest_fit_shape(PSFS['narrow'], 1000.0, 100.0)
    bright = suggest_fit_shape(PSFS['narrow'], 1e7, 1.0)
    assert bright.fit_shape[0] < faint.fit_shape[0]


@pytest.mark.parametrize('loss', [0.0, 0.005, 0.02, 0.1, 0.5])
@pytest.mark.parametrize('neighbours', [None, [(5.0, 1.0, 150.0)]])
@pytest.mark.parametrize('name', PSFS)
def test_the_box_is_the_smallest_within_the_loss(name, loss, neighbours):
    found = suggest_fit_shape(PSFS[name], 3000.0, 50.0, loss=loss, neighbours=neighbours)
    # Boxes without nine tenths of the light are left out.
    table = found.table
    enough = table[table['outside'] <= 0.1]
    good = enough['total'] <= (1.0 + loss) * enough['total'].min()
    assert found.fit_shape == (enough['side'][good].min(),) * 2
    assert found.loss == loss
    # A bias that changes its sign is zero in one box by chance: the next ones count.
    bias = np.abs(np.pad(table['neighbour_bias'], 1, mode='edge'))
    bias = np.maximum(np.maximum(bias[:-2], bias[2:]), bias[1:-1])
    assert_allclose(table['total'], np.hypot(table['flux_err'], bias), rtol=1e-12)
    assert_allclose(table['relative'], table['total'] / table['total'].min())
    assert table['relative'].min() == 1.0


def test_a_box_that_holds_little_light_is_only_taken_where_there_is_no_other():
    options = {'background_known': True, 'position_known': True}
    found = suggest_fit_shape(PSFS['wide'], 3000.0, 1e4, loss=1.0, **options)
    assert found.table['outside'][found.table['side'] == found.fit_shape[0]][0] < 0.1
    small = suggest_fit_shape(PSFS['wide'], 3000.0, 1e4, largest=5, **options)
    assert small.fit_shape == (5, 5)
    assert small.table['outside'][-1] > 0.1


def test_a_neighbour_that_matters_is_to_be_fitted_jointly():
    found = suggest_fit_shape(PSFS['narrow'], 3000.0, 5.0, neighbours=[(3.5, 0.0, 700.0)])
    assert '(fit them jointly)' in found.sentence
    assert 'total: of the error and the largest bias in this box' in str(found)
    assert not found.is_joint
    alone = suggest_fit_shape(PSFS['narrow'], 3000.0, 5.0)
    assert 'total: of the error' not in str(alone)


@pytest.mark.parametrize('neighbour', [(2.0, 0.0, 2000.0), (5.0, 3.0, 60000.0)])
def test_where_no_box_is_good_for_a_star_alone_that_is_all_that_is_said(neighbour):
    found = suggest_fit_shape(PSFS['narrow'], 3000.0, 5.0, neighbours=[neighbour])
    assert found.is_joint
    assert str(found).startswith(
        'No box works for this star alone: its neighbours change the flux by 20 % or more. Fit')
    assert 'box  error' not in str(found)
    # The box for the joint fit is that of the errors.
    table = found.table[found.table['outside'] <= 0.1]
    good = table['flux_err'] <= 1.02 * table['flux_err'].min()
    assert found.fit_shape == (table['side'][good].min(),) * 2


def scatter_of_fits(place, shape, side, mask, psf=PSFS['narrow'], flux=5000.0, background=20.0):
    """Return the scatter of fluxes of simulated stars at a place of an image."""
    n, (x, y) = 600, place
    lines, columns = np.mgrid[:shape[0], :shape[1]]
    mean = background + psf.evaluate(columns, lines, flux, x, y, *psf.parameters[3:])
    counts = np.random.default_rng(5).poisson(mean, (n, *shape)).astype(float)
    counts[:, mask] = np.nan
    middle = [int(np.ceil(value - 0.5)) for value in place]
    far = [np.abs(grid - value) > side // 2 for grid, value in zip((columns, lines), middle)]
    counts[:, far[0] | far[1]] = np.nan
    fits = fit_stamps(counts, psf, background='fit', init={psf.param_names[1]: x,
                                                           psf.param_names[2]: y},
                      fixed=psf.param_names[3:])
    return fits.params[:, 0].std()


@pytest.mark.parametrize('place', [(15.2, 14.9), (15.2, 0.3), (0.1, 14.8)])
def test_errors_are_those_of_the_pixels_that_exist(place):
    mask = np.zeros((31, 31), dtype=bool)
    mask[:, 17] = True
    found = suggest_fit_shape(PSFS['narrow'], 5000.0, 20.0, position=place, mask=mask)
    for side in (7, 11):
        expected = found.table['flux_err'][found.table['side'] == side][0]
        assert expected == pytest.approx(scatter_of_fits(place, mask.shape, side, mask), rel=0.12)
    whole = suggest_fit_shape(PSFS['narrow'], 5000.0, 20.0)
    assert found.table['flux_err'][-1] > 1.02 * whole.table['flux_err'][-1]
    assert found.table['outside'][-1] > 0.01


def test_with_all_pixels_a_place_changes_little():
    whole = suggest_fit_shape(PSFS['narrow'], 5000.0, 20.0, neighbours=[(5.0, 0.0, 500.0)])
    there = suggest_fit_shape(PSFS['narrow'], 5000.0, 20.0, neighbours=[(5.0, 0.0, 500.0)],
                              position=(50.2, 49.9), mask=np.zeros((101, 101), dtype=bool))
    assert_allclose(there.table['flux_err'][2:], whole.table['flux_err'][2:], rtol=0.02)
    assert_allclose(there.table['neighbour_bias'][4:], whole.table['neighbour_bias'][4:],
                    rtol=0.2, atol=5.0)


@pytest.mark.parametrize(('options', 'message'), [
    ({'position': (1.0, 2.0)}, 'mask and position must be given together'),
    ({'mask': np.zeros((9, 9), dtype=bool)}, 'mask and position must be given together'),
    ({'mask': np.ones((9, 9), dtype=bool), 'position': (1.0, 2.0)}, 'mask must be an image'),
    ({'mask': np.zeros(9, dtype=bool), 'position': (1.0, 2.0)}, 'mask must be an image'),
    ({'mask': np.zeros((9, 9), dtype=bool), 'position': 1.0}, 'position must be two finite'),
])
def test_pixels_that_are_no_image_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        suggest_fit_shape(PSFS['narrow'], 5000.0, 20.0, **options)


def test_a_flux_that_is_not_measurable_is_called_so():
    assert 'the flux is not measurable' in suggest_fit_shape(PSFS['narrow'], 1.0, 1e4).sentence


def test_a_larger_loss_never_gives_a_larger_box():
    sides = [suggest_fit_shape(PSFS['wide'], 3000.0, 50.0, loss=loss).fit_shape[0]
             for loss in (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)]
    assert_array_equal(sides, sorted(sides, reverse=True))
    assert sides[0] > sides[-1]


def test_errors_and_light_outside_fall_with_the_box():
    table = suggest_fit_shape(PSFS['Moffat'], 3000.0, 50.0).table
    assert np.all(np.diff(table['flux_err']) < 1e-9 * table['flux_err'][-1])
    assert np.all(np.diff(table['outside']) <= 1e-12)
    assert_array_equal(table['side'], np.arange(3, table['side'][-1] + 1, 2))
    assert np.all(table['neighbour_bias'] == 0.0)


@pytest.mark.parametrize('faint', [10.0, 100.0])
@pytest.mark.parametrize(('dx', 'dy', 'background_known'), [
    (3.2, 0.4, False), (-2.0, 4.1, False), (5.5, 5.0, False), (3.2, 0.4, True),
    (-2.0, 3.1, True)])
def test_the_bias_by_a_neighbour_is_that_of_a_real_fit(dx, dy, background_known, faint):
    flux, background = 20000.0, 30.0
    psf = PSFS['narrow']
    table = suggest_fit_shape(psf, flux, background, neighbours=[(dx, dy, faint)],
                              background_known=background_known).table
    phases = (np.arange(4) + 0.5) / 4 - 0.5
    x, y = (grid.ravel() for grid in np.meshgrid(phases, phases))
    for side in (5, 7, 9, 13):
        # Without noise: what is left is the bias.
        mean = (flux * images(psf, side, x, y) + faint * images(psf, side, x + dx, y + dy)
                + background)
        fluxes = fit_fluxes(psf, mean, x, y, background if background_known else 'fit')
        predicted = table['neighbour_bias'][table['side'] == side][0]
        assert_allclose(predicted, fluxes.mean() - flux, rtol=0.1, atol=0.005 * faint)
    # None of it would be seen if there were no bias.
    assert np.abs(table['neighbour_bias']).max() > 0.05 * faint


def test_the_biases_of_faint_neighbours_add():
    neighbours = [(3.0, 0.0, 20.0), (-4.0, 2.0, 30.0)]
    together, *alone = (
        suggest_fit_shape(PSFS['narrow'], 1e5, 100.0, neighbours=rows).table['neighbour_bias']
        for rows in (neighbours, neighbours[:1], neighbours[1:]))
    assert_allclose(together, alone[0] + alone[1], rtol=0.02, atol=0.05)


def test_a_neighbour_makes_the_box_smaller():
    alone = suggest_fit_shape(PSFS['narrow'], 3000.0, 100.0, background_known=True, loss=0.0)
    beside = suggest_fit_shape(PSFS['narrow'], 3000.0, 100.0, background_known=True, loss=0.0,
                               neighbours=[(4.0, 0.0, 1500.0)])
    assert beside.fit_shape[0] < alone.fit_shape[0]
    assert 'of which neighbours +' in beside.sentence
    assert 'neighbours' not in alone.sentence


def test_neighbours_may_come_as_a_table():
    rows = [(4.0, 0.0, 500.0), (-3.0, 2.0, 100.0)]
    table = QTable(rows=rows, names=('dx', 'dy', 'flux'))[['flux', 'dy', 'dx']]
    found, same = (suggest_fit_shape(PSFS['narrow'], 3000.0, 100.0, neighbours=each).table
                   for each in (rows, table))
    assert_array_equal(found['neighbour_bias'], same['neighbour_bias'])


@pytest.mark.parametrize('nothing', [None, [], np.zeros((0, 3)),
                                     QTable(names=('dx', 'dy', 'flux'))])
def test_there_may_be_no_neighbours(nothing):
    table = suggest_fit_shape(PSFS['narrow'], 3000.0, 100.0, neighbours=nothing).table
    assert np.all(table['neighbour_bias'] == 0.0)


@pytest.mark.parametrize(('largest', 'last'), [
    (21, 21), (20, 19), (20.9, 19), (5, 5), (4, 3), (1e9, 301), (None, 21)])
def test_boxes_go_up_to_the_largest(largest, last):
    psf = CircularGaussianPSF(fwhm=2.15)
    assert suggest_fit_shape(psf, 1000.0, 10.0, largest=largest).table['side'][-1] == last


def test_the_normalization_of_the_psf_does_not_matter():
    image = moffat_image()
    expected = suggest_fit_shape(PSFS['Moffat'], 5000.0, 20.0)
    for psf, oversampling in ((image, 4), (image * 7.0, 4),
                              (ImagePSF(image * 3.0, oversampling=4), None)):
        found = suggest_fit_shape(psf, 5000.0, 20.0, oversampling=oversampling)
        assert found.fit_shape == expected.fit_shape
        # Splines differ next to the edge of the image.
        assert_allclose(found.table['flux_err'], expected.table['flux_err'], rtol=2e-3)


def test_a_grid_of_images_is_a_psf_too():
    images = np.array([moffat_image()] * 4)
    grid = GriddedPSFModel(NDData(images, meta={
        'oversampling': 4, 'grid_xypos': [(0, 0), (100, 0), (0, 80), (100, 80)]}))
    found, expected = (suggest_fit_shape(psf, 5000.0, 20.0)
                       for psf in (grid, ImagePSF(moffat_image(), oversampling=4)))
    assert found.fit_shape == expected.fit_shape
    assert_allclose(found.table['flux_err'], expected.table['flux_err'], rtol=2e-3)


def test_the_text_says_what_the_table_has():
    found = suggest_fit_shape(PSFS['narrow'], 3000.0, 50.0)
    side = found.fit_shape[0]
    row = found.table[found.table['side'] == side][0]
    assert found.sentence.startswith(f'Fit {side} x {side} pixels ({side / found.fwhm:.1f} FWHM) '
                                     'with a fitted background: the flux is good to '
                                     f'{row["total"]:.4g} e- ')
    sentence, text = str(found).split('\n  box')
    assert ' '.join(map(str.strip, sentence.splitlines())) == found.sentence
    assert max(map(len, sentence.splitlines())) < 100
    lines = text.splitlines()
    assert lines[0].split() == ['error', '(e-)', 'outside', 'neighbours', '(e-)', 'total',
                                '(e-)']
    marked, = (line.split() for line in lines if line.startswith('*'))
    assert marked[1:] == [str(side), f'{row["flux_err"]:.4g}', f'{100 * row["outside"]:.1f}', '%',
                          '0', f'{row["total"]:.4g}']
    assert all(len(line) == len(lines[1]) for line in lines[1:])
    known = suggest_fit_shape(PSFS['narrow'], 3000.0, 50.0, background_known=True)
    assert 'with a known background' in known.sentence
    assert known.background_known is True
    assert found.background_known is False
    assert found.flux == 3000.0


@pytest.mark.parametrize(('arguments', 'options', 'error', 'match'), [
    ((np.zeros((9, 9)), 1.0, 1.0), {}, ValueError, 'must have a positive sum'),
    ((CircularGaussianPRF, 1.0, 1.0), {}, TypeError, 'but it is CircularGaussianPRF'),
    ((PSFS['narrow'], 0.0, 1.0), {}, ValueError, 'flux must be a finite number > 0'),
    ((PSFS['narrow'], -5.0, 1.0), {}, ValueError, 'flux must be a finite number > 0'),
    ((PSFS['narrow'], 'bright', 1.0), {}, TypeError, 'flux must be a number'),
    ((PSFS['narrow'], 1.0, -1.0), {}, ValueError, 'background must be a finite number >= 0'),
    ((PSFS['narrow'], 1.0, np.nan), {}, ValueError, 'background must be a finite number >= 0'),
    ((PSFS['narrow'], 1.0, 1.0), {'read_variance': -1.0}, ValueError, 'read_variance must be'),
    ((PSFS['narrow'], 1.0, 1.0), {'loss': -0.1}, ValueError, 'loss must be a finite number >= 0'),
    ((PSFS['narrow'], 1.0, 1.0), {'largest': 0}, ValueError, 'largest must be a finite number'),
    ((PSFS['narrow'], 1.0, 1.0), {'oversampling': 4}, ValueError, 'oversampling is for an image'),
    ((PSFS['narrow'], 1.0, 1.0), {'neighbours': [(1.0, 2.0)]}, ValueError,
     r'must be three finite numbers .* but they are \[\(1.0, 2.0\)\]: pass'),
    ((PSFS['narrow'], 1.0, 1.0), {'neighbours': (1.0, 2.0, np.nan)}, ValueError,
     'must be three finite numbers'),
    ((PSFS['narrow'], 1.0, 1.0), {'neighbours': QTable({'x': [1.0]})}, ValueError,
     'needs the columns dx, dy and flux, but it has x'),
    ((PSFS['narrow'], 1.0, 1.0), {'neighbours': [(1.0, 2.0, 3.0), (1.0, 2.0)]}, ValueError,
     'neighbours must be three finite numbers'),
    ((PSFS['narrow'], 1.0, 1.0), {'neighbours': 3.0}, ValueError,
     'neighbours must be three finite numbers')])
def test_wrong_input_is_refused(arguments, options, error, match):
    with pytest.raises(error, match=match):
        suggest_fit_shape(*arguments, **options)
