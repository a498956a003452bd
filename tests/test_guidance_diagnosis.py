# Licensed under a 3-clause BSD style license - see LICENSE
"""What is wrong with a fit is said, and nothing is said of a good one."""

import re
from functools import cache

import astropy.units as u
import numpy as np
import pytest
from astropy.modeling.fitting import TRFLSQFitter
from astropy.modeling.models import Gaussian2D
from astropy.table import QTable, Table
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import CircularGaussianPRF, ImagePSF, PSFPhotometry

from kpsf import PoissonLikelihoodFitter, PoissonPSFPhotometry, diagnose, fit_stamps
from kpsf.flags import DiagnosisFlag
from kpsf.guidance import Diagnosis, Problem
from kpsf.stamps.boxes import Boxes

FWHM, SHAPE, BOX = 2.5, (41, 41), 11
PSF = CircularGaussianPRF(fwhm=FWHM)
Y, X = np.mgrid[:SHAPE[0], :SHAPE[1]]
STAR = (5000.0, 20.3, 19.8)
BRIGHT = (50000.0, 20.3, 19.8)


def simulate(*rows, background=20.0, fwhm=FWHM, seed=1):
    """Return counts of stars (flux, x, y) on a background."""
    mean = sum((PSF.evaluate(X, Y, *row, fwhm) for row in rows),
               np.zeros(SHAPE) + background)
    return np.random.default_rng(seed).poisson(mean).astype(float)


def measure(counts, place=STAR[1:], shape=BOX, psf=PSF, **options):
    """Return the row of the photometry of one star."""
    photometry = PoissonPSFPhotometry(psf, shape, **options)
    return photometry(counts, init_params=QTable({'x': [place[0]], 'y': [place[1]]}))[0]


def judge(counts, place=STAR[1:], shape=BOX, **options):
    """Return the diagnosis of the photometry of one star."""
    return diagnose(counts, measure(counts, place, shape), psf=PSF, fit_shape=shape, **options)


def model(flux, x, y, fwhm=FWHM):
    return CircularGaussianPRF(flux=flux, x_0=x, y_0=y, fwhm=fwhm)


def problem(diagnosis, flag):
    """Return the one problem with a flag."""
    found, = (problem for problem in diagnosis.problems if problem.flag == flag)
    return found


GOOD = simulate(STAR)


@pytest.mark.parametrize('flux', [300.0, 5000.0, 1e6])
def test_good_fits_are_trusted(flux):
    trusted = []
    for seed in range(60):
        rng = np.random.default_rng(100 + seed)
        place = 20.0 + rng.uniform(-0.5, 0.5, 2)
        trusted.append(judge(simulate((flux, *place), seed=seed), place).is_trusted)
    assert np.mean(trusted) >= 0.95


@pytest.mark.parametrize('background', [0.3, 400.0])
def test_good_fits_are_trusted_on_any_background(background):
    flux = 200.0 * max(background, 1.0)**0.5
    trusted = []
    for seed in range(20):
        counts = simulate((flux, *STAR[1:]), background=background, seed=seed)
        trusted.append(judge(counts).is_trusted)
    assert np.mean(trusted) >= 0.95


def test_a_good_fit_is_described():
    found = judge(GOOD)
    assert isinstance(found, Diagnosis)
    assert found.is_trusted
    assert found.problems == ()
    assert found.flags == DiagnosisFlag(0)
    row = measure(GOOD)
    assert_allclose([found.x, found.y, found.flux],
                    [row['x_fit'], row['y_fit'], row['flux_fit']])
    assert abs(found.gof_z - row['gof_z']) < 0.3
    assert ' '.join(str(found).split()) == (
        f'Fit at (20.3, 19.8) with a total flux of {found.flux:.0f} +- {found.flux_err:.0f} e-, '
        f'goodness of fit {found.gof_z:+.1f} sigma: nothing wrong was found.')


def test_all_problems_are_told_line_by_line():
    found = diagnose(GOOD, model(200.0, 5.0, 33.0), start=(30.0, 5.0))
    assert found.flags == DiagnosisFlag.WRONG_MINIMUM | DiagnosisFlag.FAR_FROM_START
    assert not found.is_trusted
    assert max(map(len, str(found).splitlines())) < 100
    first, *lines = str(found).replace('\n  ', ' ').splitlines()
    assert first.startswith('Fit at (5.0, 33.0) with a total flux of 200 e-')
    assert lines == [f'- {entry.flag.name}: {entry.text}' for entry in found.problems]
    assert str(Problem(DiagnosisFlag.SPIKES, 'text')) == 'SPIKES: text'
    assert np.isnan(Problem(DiagnosisFlag.SPIKES, 'text').significance)


def test_a_fit_that_missed_the_star_is_in_a_wrong_minimum():
    found = diagnose(GOOD, model(200.0, 5.0, 33.0))
    assert found.flags == DiagnosisFlag.WRONG_MINIMUM
    entry = problem(found, DiagnosisFlag.WRONG_MINIMUM)
    assert 'at (20.3, 19.8) with a flux of' in entry.text
    assert entry.significance > 50.0
    # Beside the star, but within its width, it is another matter.
    assert DiagnosisFlag.WRONG_MINIMUM not in diagnose(GOOD, model(5000.0, 21.5, 20.9)).flags


def test_a_faint_star_beside_a_brighter_one_is_no_wrong_minimum():
    counts = simulate((20000.0, 9.0, 11.0), (2000.0, 29.7, 30.2))
    assert judge(counts, (29.7, 30.2)).is_trusted


def test_the_fit_of_the_asteroid_that_was_lost_is_in_a_wrong_minimum():
    y, x = np.mgrid[-150:150, -150:150]
    profile = np.exp(-0.5 * (x**2 + y**2) / 6.4**2)
    counts = np.random.default_rng(1).poisson(22594.0 * profile + 2706.0).astype(float)
    image = profile[90:211, 90:211] / profile.sum()
    lost = TRFLSQFitter()(ImagePSF(image, flux=1e6, x_0=0.0, y_0=0.0), x + 150, y + 150,
                          counts - np.median(counts))
    assert np.hypot(lost.x_0 - 150, lost.y_0 - 150) > 50
    flags = diagnose(counts, lost, start=(0.0, 0.0)).flags
    assert DiagnosisFlag.WRONG_MINIMUM in flags


@pytest.mark.parametrize('factor', [0.8, 1.25])
def test_a_wrong_flux_is_not_at_the_maximum(factor):
    row = dict(measure(GOOD))
    right = {name: row[name] for name in ('x_fit', 'y_fit', 'flux_fit', 'background_fit')}
    wrong = right | {'flux_fit': factor * right['flux_fit']}
    assert diagnose(GOOD, right, psf=PSF).is_trusted
    found = diagnose(GOOD, wrong, psf=PSF)
    assert found.flags == DiagnosisFlag.NOT_AT_MAXIMUM
    flux = float(re.search(r'a flux of ([\d.e+]+) e-', found.problems[0].text).group(1))
    assert flux == pytest.approx(right['flux_fit'], rel=0.01)


def test_a_fit_by_least_squares_is_not_at_the_maximum_if_the_psf_is_not_exact():
    # Least squares look at the core alone.
    counts = simulate((50000.0, *STAR[1:]), background=20.0, fwhm=2.75)
    squares = TRFLSQFitter()(model(45000.0, *STAR[1:]), X, Y, counts - 20.0)
    likelihood = measure(counts)
    assert likelihood['flux_fit'] > 1.03 * squares.flux.value
    assert DiagnosisFlag.NOT_AT_MAXIMUM in diagnose(counts, squares, background=20.0).flags
    found = diagnose(counts, likelihood, psf=PSF, fit_shape=BOX)
    assert DiagnosisFlag.NOT_AT_MAXIMUM not in found.flags


def test_noise_is_no_source():
    empty = simulate()
    found = diagnose(empty, model(20.0, *STAR[1:]))
    assert found.flags == DiagnosisFlag.NO_SOURCE
    assert found.problems[0].significance < 5.0
    assert 'hold the position where the star should be' in found.problems[0].text
    for seed in range(5):
        assert judge(simulate((400.0, *STAR[1:]), seed=seed)).is_trusted


@pytest.mark.parametrize(('shape', 'outside'), [(3, True), (5, False), (BOX, False)])
def test_light_outside_of_the_box_is_told(shape, outside):
    found = judge(GOOD, shape=shape)
    assert (DiagnosisFlag.FLUX_OUTSIDE in found.flags) == outside
    if outside:
        share = 1.0 - PSF.evaluate(X, Y, 1.0, *STAR[1:], FWHM)[19:22, 19:22].sum()
        assert f'{100 * share:.0f} % of the light is outside' in found.problems[0].text
    else:
        assert found.is_trusted


@pytest.mark.parametrize(('x', 'text'), [
    (0.4, '% of the light is outside of the fitted pixels'), (2.2, 'the data end 1.0 FWHM'),
    (4.6, None)])
def test_a_star_at_the_edge_has_light_beyond_it(x, text):
    found = judge(simulate((5000.0, x, 20.0)), (x, 20.0))
    if text is None:
        assert found.is_trusted
    else:
        assert found.flags == DiagnosisFlag.FLUX_OUTSIDE
        assert text in found.problems[0].text


@pytest.mark.parametrize('scale', [1.0, 0.995, 0.5])
def test_a_flux_that_is_not_the_total_one_is_named(scale):
    image = np.exp(-0.5 * (np.arange(-10.0, 11.0)**2) / 1.1**2)
    image = np.outer(image, image)
    psf = ImagePSF(scale * image / image.sum())
    star = ImagePSF(image / image.sum(), flux=5000.0, x_0=20.3, y_0=19.8)
    counts = np.random.default_rng(1).poisson(star(X, Y) + 20.0).astype(float)
    row = {'x_fit': 20.3, 'y_fit': 19.8, 'flux_fit': 5000.0 / scale, 'background_fit': 20.0}
    found = diagnose(counts, row, psf=psf)
    # Within a per cent it does not matter.
    assert (found.flags == DiagnosisFlag.NOT_TOTAL_FLUX) == (scale == 0.5)
    assert found.is_trusted == (scale != 0.5)
    assert found.flux == pytest.approx(5000.0)
    if scale == 0.5:
        assert 'that is 0.5 x flux' in found.problems[0].text


@pytest.mark.parametrize('fwhm', [2.25, 2.5, 2.75])
@pytest.mark.parametrize('seed', [0, 1])
def test_a_psf_of_the_wrong_width_is_told_and_by_how_much(fwhm, seed):
    found = judge(simulate((20000.0, *STAR[1:]), fwhm=fwhm, seed=seed))
    if fwhm == FWHM:
        assert found.is_trusted
        return
    flag = DiagnosisFlag.PSF_TOO_NARROW if fwhm > FWHM else DiagnosisFlag.PSF_TOO_WIDE
    other = DiagnosisFlag.PSF_TOO_WIDE if fwhm > FWHM else DiagnosisFlag.PSF_TOO_NARROW
    assert flag in found.flags
    assert other not in found.flags
    text = problem(found, flag).text
    assert ('wider' if fwhm > FWHM else 'narrower') in text
    assert float(text.split('about ')[1].split(' %')[0]) == pytest.approx(10.0, abs=3.0)


def test_a_width_that_hardly_matters_is_not_told():
    assert judge(simulate((20000.0, *STAR[1:]), fwhm=2.53)).is_trusted
    # Nor one that the star does not tell.
    assert judge(simulate((500.0, *STAR[1:]), fwhm=2.75)).is_trusted


@pytest.mark.parametrize(('along_x', 'along_y'), [(0.4, 0.0), (-0.3, 0.3), (0.0, -0.4)])
def test_a_slope_of_the_background_is_told_in_both_directions(along_x, along_y):
    slope = 40.0 + along_x * (X - 20) + along_y * (Y - 20)
    entry = problem(judge(simulate(STAR, background=slope)), DiagnosisFlag.BACKGROUND_SLOPE)
    parts = entry.text.removeprefix('the background rises by ').split(' e- per pixel along x and ')
    found = [float(part.split(' ')[0]) for part in parts]
    assert_allclose(found, [along_x, along_y], atol=0.12)
    assert entry.significance > 5.0


def test_a_slope_that_is_known_or_does_not_show_is_none():
    slope = 40.0 + 0.4 * (X - 20)
    counts = simulate(STAR, background=slope)
    row = measure(counts - slope, background=slope)
    assert diagnose(counts, row, psf=PSF, background=slope, fit_shape=BOX).is_trusted
    assert judge(simulate(STAR, background=40.0 + 0.02 * (X - 20))).is_trusted


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_a_neighbour_is_told_with_its_place_and_flux(seed):
    entry = problem(judge(simulate(STAR, (1500.0, 24.6, 22.2), seed=seed)),
                    DiagnosisFlag.NEIGHBOUR)
    share, place = entry.text.removeprefix('another source of ').split(' % of the flux at (')
    assert float(share) == pytest.approx(30.0, abs=8.0)
    x, y = map(float, place.split(')')[0].split(', '))
    assert np.hypot(x - 24.6, y - 22.2) < 0.4
    assert entry.significance > 5.0


def test_neighbours_are_counted():
    places = [(24.6, 22.2), (15.6, 20.7), (20.3, 25.2), (19.0, 14.5), (29.1, 17.0), (14.0, 26.5),
              (26.0, 27.5)]
    entry = problem(judge(simulate(STAR, *((1500.0, *place) for place in places))),
                    DiagnosisFlag.NEIGHBOUR)
    assert entry.text.startswith('other sources of ')
    assert ' and 2 more: fit them jointly' in entry.text


@pytest.mark.parametrize('row', [(1500.0, 36.0, 35.0), (30.0, 24.6, 22.2)],
                         ids=['far away', 'too faint'])
def test_stars_that_do_not_matter_are_no_neighbours(row):
    assert judge(simulate(STAR, row)).is_trusted


def test_a_neighbour_in_the_known_background_is_none():
    light = 20.0 + PSF.evaluate(X, Y, 1500.0, 24.6, 22.2, FWHM)
    counts = simulate(STAR, background=light)
    row = measure(counts - light, background=light)
    assert diagnose(counts, row, psf=PSF, background=light).is_trusted


def test_a_plateau_is_saturated():
    counts = simulate(BRIGHT)
    assert judge(counts).is_trusted
    found = judge(np.minimum(counts, 2500.0))
    assert found.flags == DiagnosisFlag.SATURATED
    n_full = np.sum(counts > 2250.0)
    assert found.problems[0].text.startswith(f'{n_full} pixels are within 10 % of the highest')


def test_the_noise_of_a_faint_star_is_no_plateau():
    # Many pixels are near the highest, as photons will have it.
    assert judge(simulate((150.0, *STAR[1:]), background=2.0)).is_trusted
    wide = CircularGaussianPRF(fwhm=9.0)
    mean = wide.evaluate(X, Y, 2e5, 20.3, 19.8, 9.0) + 20.0
    counts = np.random.default_rng(1).poisson(mean).astype(float)
    found = diagnose(counts, measure(counts, psf=wide, shape=31), psf=wide, fit_shape=31)
    assert DiagnosisFlag.SATURATED not in found.flags


@pytest.mark.parametrize(('saturation', 'is_full'), [(2500.0, True), (1e5, False)])
def test_saturation_may_be_named(saturation, is_full):
    found = judge(simulate(BRIGHT), saturation=saturation)
    assert (DiagnosisFlag.SATURATED in found.flags) == is_full
    if is_full:
        n_full = np.sum(simulate(BRIGHT) >= saturation)
        assert f'{n_full} pixels are at or above 2500 e-' in found.problems[0].text


@pytest.mark.parametrize('gain', [2.0, 0.5])
@pytest.mark.parametrize('seed', [0, 1])
def test_data_that_are_no_electrons_are_told(gain, seed):
    found = judge(gain * simulate(STAR, seed=seed))
    assert found.flags == DiagnosisFlag.NOT_POISSON
    text = found.problems[0].text
    factor, explained = (float(text.split(before)[1].split(' ')[0])
                         for before in ('vary ', 'a gain of '))
    # Whole numbers of electrons make it coarse.
    assert factor == pytest.approx(gain, rel=0.3)
    assert explained == pytest.approx(1.0 / factor, rel=0.01)
    assert judge(simulate(STAR, seed=seed)).is_trusted


def test_noise_far_beyond_that_of_photons_is_not_taken_for_neighbours():
    assert DiagnosisFlag.NOT_POISSON in judge(5.0 * simulate(STAR)).flags


def test_read_noise_that_is_named_is_noise():
    counts = simulate(STAR) + np.random.default_rng(2).normal(0.0, 6.0, SHAPE)
    row = measure(counts, read_noise=6.0)
    assert diagnose(counts, row, psf=PSF, read_variance=36.0, fit_shape=BOX).is_trusted
    counts = np.maximum(counts, 0.0)
    assert judge(counts).flags == DiagnosisFlag.NOT_POISSON


@pytest.mark.parametrize(('start', 'is_far'), [((30.0, 30.0), True), ((21.5, 21.0), False)])
def test_a_fit_far_from_its_start_is_told(start, is_far):
    found = judge(GOOD, start=start)
    assert (found.flags == DiagnosisFlag.FAR_FROM_START) == is_far
    assert found.is_trusted != is_far
    if is_far:
        assert 'ended 14.1 pixels from its start (30.0, 30.0)' in found.problems[0].text


def test_pixels_that_the_psf_does_not_have_are_a_misfit():
    mean = PSF.evaluate(X, Y, *BRIGHT, FWHM) + 20.0
    # A flat field that nobody corrected.
    rough = mean * (1.0 + 0.1 * np.sin(2 * X) * np.cos(3 * Y))
    counts = np.random.default_rng(1).poisson(rough).astype(float)
    found = judge(counts)
    assert found.flags == DiagnosisFlag.MISFIT
    assert found.gof_z > 5.0
    assert f'the C-statistic is {found.gof_z:.1f} standard deviations above' in str(found)
    less = mean * (1.0 + 0.01 * np.sin(2 * X) * np.cos(3 * Y))
    assert judge(np.random.default_rng(1).poisson(less).astype(float)).is_trusted


@pytest.mark.parametrize(('place', 'is_near'), [((22, 24), True), ((3, 35), False)])
def test_hot_pixels_near_the_star_are_told(place, is_near):
    counts = GOOD.copy()
    counts[place[1], place[0]] = 4000.0
    # The fit left them out, or did not have them in its box.
    mask = np.zeros(SHAPE, dtype=bool)
    mask[place[1], place[0]] = True
    row = PoissonPSFPhotometry(PSF, BOX)(counts, mask=mask, init_params=QTable(
        {'x': [20.3], 'y': [19.8]}))[0]
    assert diagnose(counts, row, psf=PSF, fit_shape=BOX, mask=mask).is_trusted
    found = diagnose(counts, row, psf=PSF, fit_shape=BOX)
    assert (found.flags == DiagnosisFlag.SPIKES) == is_near
    assert found.is_trusted != is_near


def test_hot_pixels_on_the_star_that_were_fitted_are_told():
    counts = GOOD.copy()
    counts[22, 21] = 4000.0
    assert DiagnosisFlag.SPIKES in judge(counts).flags


@cache
def fitted(kind):
    """Return a fit of the counts, and what else its diagnosis needs."""
    init = QTable({'x': [20.3], 'y': [19.8], 'flux': [5000.0]})
    if kind == 'model':
        return PoissonLikelihoodFitter()(model(*STAR), X, Y, GOOD - 20.0, background=20.0), {
            'background': 20.0}
    if kind == 'photutils':
        table = PSFPhotometry(PSF, BOX, fitter=TRFLSQFitter())(
            GOOD - 20.0, error=np.sqrt(GOOD), init_params=init)
        return table[0], {'psf': PSF, 'background': 20.0}
    table = PoissonPSFPhotometry(PSF, BOX)(GOOD, init_params=init)
    options = {'psf': PSF, 'fit_shape': BOX}
    if kind == 'with units':
        row = PoissonPSFPhotometry(PSF, BOX)(GOOD * u.electron, init_params=QTable(
            {'x': [20.3], 'y': [19.8]}))[0]
        return row, options
    return {'row': table[0], 'table': table, 'plain row': Table(table)[0],
            'dict': {name: table[name][0] for name in table.colnames}}[kind], options


KINDS = ['row', 'table', 'plain row', 'dict', 'with units', 'photutils']


@pytest.mark.parametrize('kind', KINDS)
def test_fits_of_all_kinds_are_read(kind):
    fit, options = fitted(kind)
    found = diagnose(GOOD, fit, **options)
    assert found.is_trusted
    assert np.hypot(found.x - 20.3, found.y - 19.8) < 0.1
    assert found.flux == pytest.approx(5000.0, rel=0.05)


def test_a_model_is_a_fit():
    fit = TRFLSQFitter()(model(*STAR), X, Y, GOOD - np.median(GOOD))
    for options in ({}, {'background': 20.0}, {'background': np.full(SHAPE, 20.0)}):
        found = diagnose(GOOD, fit, **options)
        assert found.is_trusted
        assert (found.x, found.y, found.flux) == (fit.x_0, fit.y_0, fit.flux)
    amplitude = Gaussian2D(600.0, 20.3, 19.8, 1.1, 1.1)
    found = diagnose(simulate(STAR, fwhm=2.5), amplitude)
    # Its amplitude is no flux, and the flux that is given is the total one.
    assert DiagnosisFlag.NOT_TOTAL_FLUX in found.flags
    assert found.flux == pytest.approx(600.0 * 2.0 * np.pi * 1.1**2, rel=1e-3)


def stamps(counts, places, side=15):
    """Return boxes of counts (n, side, side), and x and y of their first pixels."""
    boxes = Boxes.around(*np.array(places, dtype=float).T, (side, side), counts.shape)
    return boxes.cut(counts, np.nan), boxes.first


@pytest.mark.parametrize('background', ['fit', 20.0])
def test_one_of_many_stamps_is_judged_by_its_index(background):
    rows = [(5000.0, 12.0, 12.3), (8000.0, 28.6, 30.1)]
    cut, first = stamps(simulate(*rows), [row[1:] for row in rows])
    # One star has a neighbour beside it.
    y, x = np.mgrid[:15, :15]
    cut[1] += np.random.default_rng(3).poisson(PSF.evaluate(x, y, 3000.0, 11.3, 9.6, FWHM))
    fits = fit_stamps(cut, PSF, background=background, fixed=['fwhm'])
    found = [diagnose(cut[k], fits, index=k) for k in (0, 1)]
    assert found[0].is_trusted
    assert found[1].flags == DiagnosisFlag.NEIGHBOUR | DiagnosisFlag.MISFIT
    for k in (0, 1):
        assert found[k].flux == pytest.approx(fits.params[k, fits.param_names.index('flux')])
        assert abs(found[k].gof_z - fits.gof_z[k]) < 0.3


@pytest.mark.parametrize('background', ['fit', 0.1])
def test_the_goodness_of_a_fit_to_empty_pixels_is_the_one_that_the_fit_says(background):
    rows = [(300.0, 12.0, 12.3), (150.0, 28.6, 30.1)]
    cut, _ = stamps(simulate(*rows, background=0.1), [row[1:] for row in rows])
    fits = fit_stamps(cut, PSF, background=background, fixed=['fwhm'])
    for k in (0, 1):
        assert abs(diagnose(cut[k], fits, index=k).gof_z - fits.gof_z[k]) < 1e-3


def test_stamps_know_their_mask_and_read_noise():
    cut, _ = stamps(simulate(STAR), [STAR[1:]])
    cut += np.random.default_rng(2).normal(0.0, 6.0, cut.shape)
    mask = np.zeros(cut.shape, dtype=bool)
    mask[0, 9, 9], cut[0, 9, 9] = True, 5000.0
    fits = fit_stamps(cut, PSF, mask=mask, read_variance=36.0, fixed=['fwhm'])
    found = diagnose(cut[0], fits)
    assert found.is_trusted
    assert found.flux == pytest.approx(5000.0, rel=0.1)


def test_a_row_of_a_table_is_chosen_by_its_index():
    counts = simulate(STAR, (3000.0, 8.2, 9.1))
    table = PoissonPSFPhotometry(PSF, 9)(counts, init_params=QTable(
        {'x': [20.3, 8.2], 'y': [19.8, 9.1]}))
    for index, x in enumerate((20.3, 8.2)):
        found = diagnose(counts, table, psf=PSF, index=index, fit_shape=9)
        assert found.x == pytest.approx(x, abs=0.1)
        assert found.is_trusted


def test_a_local_background_is_background():
    row = {'x_fit': 20.3, 'y_fit': 19.8, 'flux_fit': 5000.0, 'background_fit': 8.0,
           'local_bkg': 12.0}
    assert diagnose(GOOD, row, psf=PSF).is_trusted
    assert not diagnose(GOOD, row | {'local_bkg': 0.0}, psf=PSF).is_trusted


def test_the_box_that_was_fitted_is_the_one_that_is_judged():
    # A neighbour that the small box left out pulls on the large one.
    counts = simulate(STAR, (4000.0, 27.0, 19.8))
    row = measure(counts, shape=7)
    own = diagnose(counts, row, psf=PSF, fit_shape=7)
    assert DiagnosisFlag.NOT_AT_MAXIMUM not in own.flags
    assert own.gof_z < 5.0
    assert diagnose(counts, row, psf=PSF, fit_shape=15).gof_z > 5.0
    assert diagnose(GOOD, measure(GOOD, shape=(7, 11)), psf=PSF, fit_shape=(7, 11)).is_trusted


def test_masked_pixels_are_not_judged():
    counts = simulate(STAR, (3000.0, 25.0, 22.0))
    mask = np.hypot(X - 25.0, Y - 22.0) < 3.5
    spoiled = np.where(mask, np.nan, counts)
    photometry = PoissonPSFPhotometry(PSF, BOX)
    row = photometry(counts, mask=mask, init_params=QTable({'x': [20.3], 'y': [19.8]}))[0]
    assert diagnose(counts, row, psf=PSF, mask=mask, fit_shape=BOX).is_trusted
    assert diagnose(spoiled, row, psf=PSF, fit_shape=BOX).is_trusted
    assert not diagnose(counts, row, psf=PSF, fit_shape=BOX).is_trusted


def test_an_image_of_the_psf_may_be_oversampled():
    y, x = np.mgrid[-40:41, -40:41]
    image = PSF.evaluate(x / 4, y / 4, 1.0, 0.0, 0.0, FWHM)
    row = measure(GOOD)
    found = diagnose(GOOD, row, psf=image, oversampling=4, fit_shape=BOX)
    assert found.is_trusted
    assert found.flux == pytest.approx(row['flux_fit'])
    assert not diagnose(GOOD, row, psf=image, fit_shape=BOX).is_trusted


def test_what_is_passed_is_left_alone():
    counts, level = GOOD.copy(), np.full(SHAPE, 20.0)
    mask = counts > 1e6
    row = {'x_fit': 20.3, 'y_fit': 19.8, 'flux_fit': 5000.0}
    before, psf = row.copy(), PSF.copy()
    diagnose(counts, row, psf=psf, background=level, mask=mask)
    assert_array_equal(counts, GOOD)
    assert_array_equal(level, np.full(SHAPE, 20.0))
    assert not mask.any()
    assert row == before
    assert_array_equal(psf.parameters, PSF.parameters)


ROW = {'x_fit': 20.3, 'y_fit': 19.8, 'flux_fit': 5000.0, 'background_fit': 20.0}


@pytest.mark.parametrize(('fit', 'options', 'error', 'message'), [
    (ROW, {'psf': None}, ValueError, 'needs the PSF it was fitted with, but there is none'),
    ({'x_fit': 20.3, 'flux': 5.0}, {}, ValueError,
     'needs x_fit, y_fit and flux_fit, but it has x_fit, flux: rename'),
    (ROW | {'x_fit': np.nan}, {}, ValueError, 'Position and flux of a fit'),
    (ROW | {'flux_fit': np.inf}, {}, ValueError, 'Position and flux of a fit'),
    ([20.3, 19.8, 5000.0], {}, TypeError, 'or a row of a table .*, but it is list: pass one'),
    (None, {}, TypeError, 'but it is NoneType'),
    (ROW, {'start': (1.0, 2.0, 3.0)}, ValueError, 'start must be two finite numbers'),
    (ROW, {'fit_shape': 4}, ValueError, 'fit_shape must be an odd whole number.* at least 3'),
    (ROW, {'fit_shape': (5, 7, 9)}, ValueError, 'fit_shape must be an odd whole number'),
    (ROW, {'fit_shape': 5.0}, ValueError, 'fit_shape must be an odd whole number'),
    (ROW, {'saturation': 0.0}, ValueError, 'saturation'),
    (ROW, {'read_variance': -1.0}, ValueError, 'read_variance'),
    (ROW, {'mask': np.zeros((3, 3), dtype=bool)}, ValueError, 'mask must have the shape'),
    (ROW, {'background': np.zeros((3, 3))}, ValueError, 'background must be a number or'),
])
def test_what_cannot_be_judged_is_named(fit, options, error, message):
    with pytest.raises(error, match=message):
        diagnose(GOOD, fit, **{'psf': PSF, **options})


@pytest.mark.parametrize(('data', 'options', 'message'), [
    (np.ones((5, 5)), {}, r'data must be the stamp of \(15, 15\) pixels that was fitted'),
    (None, {'index': 1}, 'index must be below the number of stamps, 1, but it is 1'),
    (None, {'index': -1}, 'index'),
    (None, {'index': np.nan}, 'index'),
])
def test_stamps_that_were_not_fitted_are_named(data, options, message):
    cut, _ = stamps(simulate(STAR), [STAR[1:]])
    fits = fit_stamps(cut, PSF, fixed=['fwhm'])
    with pytest.raises(ValueError, match=message):
        diagnose(cut[0] if data is None else data, fits, **options)


def test_negative_data_ask_for_their_background():
    with pytest.raises(ValueError, match='add the background that was subtracted'):
        diagnose(GOOD - 20.0, ROW, psf=PSF)


PAIR = [STAR, (2000.0, 24.3, 17.8)]


@pytest.mark.parametrize('options', [{}, {'background': 20.0}])
def test_stars_of_one_group_are_no_neighbours_of_each_other(options):
    counts = simulate(*PAIR)
    start = QTable({'x': [20.3, 24.3], 'y': [19.8, 17.8], 'group_id': [1, 1]})
    known = options.get('background', 0.0)
    table = PoissonPSFPhotometry(PSF, BOX, **options)(counts - known, init_params=start)
    for fit, index in ((table, 1), (table[0], 0)):
        assert diagnose(counts, fit, psf=PSF, fit_shape=BOX, index=index, **options).is_trusted


@pytest.mark.parametrize('columns', [['group_id'], []])
def test_a_star_that_was_fitted_alone_does_not_know_others_of_its_table(columns):
    counts = simulate(*PAIR)
    start = QTable({'x': [20.3, 24.3], 'y': [19.8, 17.8], 'group_id': [1, 2]})
    table = PoissonPSFPhotometry(PSF, BOX)(counts, init_params=start)
    table = table[[*columns, 'x_fit', 'y_fit', 'flux_fit', 'background_fit']]
    found = diagnose(counts, table, psf=PSF, fit_shape=BOX)
    assert problem(found, DiagnosisFlag.NEIGHBOUR)


def test_a_third_star_is_a_neighbour_of_a_group():
    counts = simulate(*PAIR, (3000.0, 15.1, 22.4))
    start = QTable({'x': [20.3, 24.3], 'y': [19.8, 17.8], 'group_id': [1, 1]})
    table = PoissonPSFPhotometry(PSF, BOX)(counts, init_params=start)
    found = problem(diagnose(counts, table[0], psf=PSF, fit_shape=BOX), DiagnosisFlag.NEIGHBOUR)
    assert 'another source of' in found.text
    assert '(15.' in found.text


def test_a_companion_that_was_not_fitted_is_left_out():
    counts = simulate(STAR)
    row = measure(counts)
    table = Table({'x_fit': [row['x_fit'], np.nan], 'y_fit': [row['y_fit'], 5.0],
                   'flux_fit': [row['flux_fit'], 100.0], 'group_id': [1, 1],
                   'background_fit': [row['background_fit'], 20.0]})
    assert diagnose(counts, table, psf=PSF, fit_shape=BOX).is_trusted


# What the table of a row tells.

READ_NOISE = 5.0


def in_adu(gain=2.3, seed=3):
    """Return an image in adu with read noise."""
    rng = np.random.default_rng(seed)
    return (simulate(STAR) + rng.normal(0.0, READ_NOISE, SHAPE)) / gain


@pytest.mark.parametrize('unit', [None, u.adu])
@pytest.mark.parametrize('level', [None, 20.0 / 2.3, np.float64(20.0 / 2.3)])
def test_gain_read_noise_and_background_are_those_of_the_table(unit, level):
    data = in_adu() if unit is None else in_adu() << unit
    options = {'gain': 2.3, 'read_noise': READ_NOISE}
    if level is not None:
        level = level if unit is None else level * unit
        data, options['background'] = data - level, level
    row = measure(data, **options)
    found = diagnose(data, row, psf=PSF)
    assert found.is_trusted
    assert found.flux == pytest.approx(2.3 * getattr(row['flux_fit'], 'value', row['flux_fit']))
    assert found.flux_err == pytest.approx(
        2.3 * getattr(row['flux_err'], 'value', row['flux_err']))
    assert abs(found.flux - 5000.0) < 4.0 * found.flux_err
    assert abs(found.gof_z) < 4.0


def test_a_background_that_is_passed_is_in_the_data_in_their_unit():
    data = in_adu()
    row = measure(data - 20.0 / 2.3, gain=2.3, read_noise=READ_NOISE,
                  background=np.full(SHAPE, 20.0 / 2.3))
    found = diagnose(data, row, psf=PSF, background=np.full(SHAPE, 20.0 / 2.3))
    assert found.is_trusted
    assert abs(found.gof_z) < 4.0


def test_a_read_variance_that_is_passed_is_not_that_of_the_table():
    row = measure(in_adu(), gain=2.3, read_noise=READ_NOISE)
    found = diagnose(in_adu(), row, psf=PSF, read_variance=4.0)
    assert found.gof_z > 5.0


def test_companions_are_scaled_with_the_gain():
    rows = [STAR, (4000.0, 26.0, 19.8)]
    data = simulate(*rows) / 4.0
    init = QTable({'x': [20.3, 26.0], 'y': [19.8, 19.8], 'group_id': [1, 1]})
    table = PoissonPSFPhotometry(PSF, BOX, gain=4.0)(data, init_params=init)
    for index, (flux, _, _) in enumerate(rows):
        found = diagnose(data, table, psf=PSF, index=index)
        assert found.is_trusted
        assert found.flux == pytest.approx(flux, rel=0.1)


@pytest.mark.parametrize('fitter', [None, PoissonLikelihoodFitter(background='fit')])
def test_the_box_of_a_row_is_that_of_its_table(fitter):
    # Of a fit in a small box, a box of five times the FWHM sees a neighbour.
    counts = simulate(STAR, (3e4, 26.5, 19.8))
    table = (PoissonPSFPhotometry(PSF, 5) if fitter is None else
             PSFPhotometry(PSF, (5, 5), fitter=fitter))(
        counts, init_params=QTable({'x': [20.3], 'y': [19.8], 'flux': [5000.0]}))
    told = diagnose(counts, table, psf=PSF)
    assert told.gof_z == diagnose(counts, table, psf=PSF, fit_shape=5).gof_z
    table.meta.clear()
    assert diagnose(counts, table, psf=PSF).gof_z > told.gof_z + 100.0


@pytest.mark.filterwarnings('ignore:Attribute `version`', 'ignore:Keyword name')
@pytest.mark.parametrize('suffix', ['ecsv', 'fits'])
def test_a_table_that_was_written_tells_the_same(tmp_path, suffix):
    table = PoissonPSFPhotometry(PSF, BOX, gain=2.3, read_noise=READ_NOISE)(
        in_adu(), init_params=QTable({'x': [20.3], 'y': [19.8]}))
    table.write(tmp_path / f'table.{suffix}')
    again = QTable.read(tmp_path / f'table.{suffix}')
    assert diagnose(in_adu(), again, psf=PSF) == diagnose(in_adu(), table, psf=PSF)


def test_a_fit_that_walked_off_to_another_star_is_far_from_its_start():
    counts = simulate((60000.0, 26.3, 21.0), (1000.0, 20.3, 19.8))
    row = measure(counts, place=(22.8, 20.0), shape=17)
    assert np.hypot(row['x_fit'] - 26.3, row['y_fit'] - 21.0) < 0.1
    found = diagnose(counts, row, psf=PSF)
    assert DiagnosisFlag.FAR_FROM_START in found.flags
    text = problem(found, DiagnosisFlag.FAR_FROM_START).text
    assert re.match(r'the fit ended 3\.6 pixels from its start \(22\.8, 20\.0\): is it the star '
                    r'that is meant\? Bound the position', text)
    # A start that is passed has precedence.
    near = diagnose(counts, row, psf=PSF, start=(26.0, 21.0))
    assert DiagnosisFlag.FAR_FROM_START not in near.flags


def test_pixels_that_were_fitted_are_around_the_start():
    # The fit of a box of 9 pixels that ends beyond them leans on wings.
    row = {'x_init': 20.3, 'y_init': 19.8, 'x_fit': 26.3, 'y_fit': 19.8, 'flux_fit': 5000.0,
           'background_fit': 20.0}
    found = diagnose(simulate((5000.0, 26.3, 19.8)), row, psf=PSF, fit_shape=9)
    assert {DiagnosisFlag.FLUX_OUTSIDE, DiagnosisFlag.FAR_FROM_START} <= set(found.flags)


def test_errors_are_those_of_the_fit():
    row = measure(GOOD)
    assert diagnose(GOOD, row, psf=PSF).flux_err == row['flux_err']
    boxes = Boxes.around(*(np.array([place]) for place in STAR[1:]), (BOX, BOX), SHAPE)
    stamp = boxes.cut(GOOD, np.nan)[0]
    fits = fit_stamps(stamp[np.newaxis], PSF, background='fit', init={'x_0': 5.0, 'y_0': 5.0})
    assert diagnose(stamp, fits).flux_err == fits.errors[0, 0]
    fitted = PoissonLikelihoodFitter(background='fit', calc_uncertainties=True)(
        model(*STAR), X, Y, GOOD)
    assert diagnose(GOOD, fitted).flux_err == pytest.approx(75.0, rel=0.1)
    assert np.isnan(diagnose(GOOD, model(*STAR)).flux_err)


def trail(length, angle, flux=6000.0, seed=1):
    """Return counts of a star that moved, at an angle in degrees from x towards y."""
    steps = length * np.linspace(-0.5, 0.5, 41)
    x, y = (20.2 + steps * np.cos(np.radians(angle)), 20.1 + steps * np.sin(np.radians(angle)))
    mean = 60.0 + np.mean([PSF.evaluate(X, Y, flux, *place, FWHM) for place in zip(x, y)], axis=0)
    return np.random.default_rng(seed).poisson(mean).astype(float)


@pytest.mark.parametrize('angle', [0.0, 30.0, 110.0])
@pytest.mark.parametrize(('length', 'box'), [(3.0, 5), (5.0, 13)])
def test_a_trail_is_elongated_along_its_direction(angle, length, box):
    counts = trail(length, angle)
    found = diagnose(counts, measure(counts, (20.2, 20.1), box), psf=PSF)
    # In a small box, a fitted background hides the width.
    assert found.flags & (DiagnosisFlag.MISFIT | DiagnosisFlag.PSF_TOO_NARROW)
    text = str(found).replace('\n ', '')
    told = float(re.search(r'elongated along a line at (\d+) degrees from x towards y', text)[1])
    assert abs((told - angle + 90.0) % 180.0 - 90.0) < 6.0


def test_what_is_wider_on_all_sides_is_not_elongated():
    counts = simulate(STAR, fwhm=3.2)
    text = problem(diagnose(counts, measure(counts), psf=PSF), DiagnosisFlag.PSF_TOO_NARROW).text
    assert 'elongated' not in text
    assert text.endswith('than the PSF: free its width, or learn the PSF from stars.')
