# Licensed under a 3-clause BSD style license - see LICENSE
"""All of the guidance at once says the same as its parts, also of real images."""

import re

import numpy as np
import pytest
from astropy.io import fits
from astropy.modeling import Model
from astropy.modeling.models import Gaussian2D
from numpy.testing import assert_allclose, assert_array_equal
from photutils.psf import CircularGaussianPRF, ImagePSF

from kpsf import describe_normalization, diagnose, locate_source, read_tpf
from kpsf.flags import DiagnosisFlag
from kpsf.guidance import advise
from kpsf.guidance.width import gaussian_of_brightest
from kpsf.guidance.words import number, percent, pixels, with_error

FWHM, SHAPE = 2.5, (41, 41)
PSF = CircularGaussianPRF(fwhm=FWHM)
STAR = (5000.0, 23.4, 11.8)
TITLES = ['1. What the flux means', '2. Where the star is', '3. What to do with its position',
          '4. How large a box to fit', '5. Whether the fit can be trusted']
# The files and the widths that their PSFs have, in pixels.
TABBY = 'kepler/kplr008462852-q08-first100.fits'
KEPLER62 = 'kepler/kplr009002278-2010174085026_lpd-targ.fits.gz'
K2_BULGE = 'k2/ktwo221312395-c91_lpd-targ.fits.gz'
CUTOUT = 'tess/tess-s0001-4-2-pimen_6x6_astrocut.fits'
FERMI = 'counts/fermi_counts.fits.gz'


def simulate(*rows, shape=SHAPE, background=20.0, fwhm=FWHM, seed=1):
    """Return counts of stars (flux, x, y) on a background."""
    y, x = np.mgrid[:shape[0], :shape[1]]
    mean = sum((PSF.evaluate(x, y, *row, fwhm) for row in rows),
               np.full(shape, float(background)))
    return np.random.default_rng(seed).poisson(mean).astype(float)


def titles(advice):
    return [line for line in str(advice).splitlines() if line[0].isdigit()]


@pytest.fixture(scope='module')
def advice():
    return advise(simulate(STAR), PSF)


def test_the_text_has_five_parts(advice):
    assert titles(advice) == TITLES
    text = ' '.join(str(advice).split())
    for part in (advice.normalization, advice.centroid, advice.box, advice.diagnosis):
        assert str(part).splitlines()[0] in text
    assert 'flux of CircularGaussianPRF is: total flux' in text
    assert '1 source above 5 sigma of the background, 0 hot pixels or cosmic rays left out' in text
    assert 'nothing wrong was found' in text


def test_the_parts_are_those_of_the_functions(advice):
    assert advice.psf is PSF
    assert not advice.psf_is_fitted
    assert advice.normalization == describe_normalization(PSF)
    sources = locate_source(simulate(STAR), PSF, n=None)
    for name in sources.colnames:
        assert_array_equal(advice.sources[name], sources[name])
    assert advice.box.fit_shape == advice.centroid.fit_shape == (11, 11)
    assert advice.box.flux == advice.centroid.flux == sources['flux'][0]
    assert advice.centroid.recommendation == 'free'
    assert advice.diagnosis.is_trusted
    assert abs(advice.diagnosis.flux - 5000.0) < 4.0 * sources['flux_err'][0]


def test_the_residual_is_in_standard_deviations_and_has_no_star(advice):
    assert advice.residual.shape == SHAPE
    assert abs(advice.residual.mean()) < 0.1
    assert 0.93 < advice.residual.std() < 1.07
    assert np.abs(advice.residual).max() < 6.0
    assert_array_equal(advice.data, simulate(STAR))
    assert not advice.mask.any()


@pytest.mark.parametrize('fwhm', [1.5, 2.5, 4.0, 9.0])
def test_a_psf_that_is_not_given_is_fitted(fwhm):
    shape = (41, 41) if fwhm < 5 else (81, 81)
    flux = 2e4 * max(fwhm / 2.5, 1.0)
    counts = simulate((flux, 20.4, 19.8), shape=shape, fwhm=fwhm)
    found = advise(counts)
    assert found.psf_is_fitted
    assert isinstance(found.psf, Model)
    assert found.psf.fwhm.value == pytest.approx(fwhm, rel=0.05)
    assert found.diagnosis.flux == pytest.approx(flux, rel=0.05)
    assert found.diagnosis.is_trusted
    assert 'no PSF was given: a Gaussian is fitted to the star' in str(found)
    assert titles(found) == TITLES


def test_the_width_is_that_of_the_star_that_is_meant():
    y, x = np.mgrid[:61, :61]
    mean = 20.0 + PSF.evaluate(x, y, 5e4, 15.0, 40.0, 2.0) + PSF.evaluate(
        x, y, 3e4, 45.0, 15.0, 4.0)
    counts = np.random.default_rng(1).poisson(mean).astype(float)
    mask = np.zeros(counts.shape, dtype=bool)
    for near, fwhm in (((15.0, 40.0), 2.0), ((44.0, 16.0), 4.0)):
        psf = gaussian_of_brightest(counts, mask=mask, near=near)
        assert psf.fwhm.value == pytest.approx(fwhm, rel=0.05)
        assert psf.fwhm.fixed


def test_hot_pixels_do_not_make_the_width():
    counts = simulate((2e4, 20.4, 19.8))
    counts[5, 5], counts[30, 35] = 60000.0, 9000.0
    found = advise(counts)
    assert found.psf.fwhm.value == pytest.approx(FWHM, rel=0.05)
    assert found.sources.meta['spikes'] == 2
    assert '2 hot pixels or cosmic rays left out' in str(found)


def test_without_a_source_that_is_said():
    found = advise(simulate(), PSF)
    assert titles(found) == TITLES[:2]
    assert 'no source is significant: pass electrons, the PSF, or the position' in str(found)
    assert (found.centroid, found.box, found.diagnosis) == (None, None, None)
    assert len(found.sources) == 0
    assert np.isnan(found.residual).all()


@pytest.mark.parametrize('data', [np.zeros(SHAPE), np.full(SHAPE, 7.0)])
def test_without_a_source_there_is_no_psf_to_be_fitted(data):
    with pytest.raises(ValueError, match='A source is needed to tell the width of the PSF'):
        advise(data)


def test_a_place_names_the_star():
    rows = [(20000.0, 10.0, 30.0), (8000.0, 31.3, 9.8)]
    counts = simulate(*rows)
    for near, (flux, x, y) in (((30.0, 10.0), rows[1]), (None, rows[0])):
        found = advise(counts, PSF, near=near)
        assert np.hypot(found.diagnosis.x - x, found.diagnosis.y - y) < 0.1
        assert found.diagnosis.flux == pytest.approx(flux, rel=0.05)
        assert len(found.sources) == 2
        assert '2 sources above 5 sigma' in str(found)
        assert 'a second source competes' not in str(found)
        assert ('the first is meant, 1.3 pixels from (30.0, 10.0)' in str(found)) == (
            near is not None)


def test_a_second_source_competes_where_no_place_is_named():
    counts = simulate((20000.0, 10.0, 30.0), (15000.0, 31.3, 9.8))
    assert 'a second source competes: say which is meant by its position' in str(
        advise(counts, PSF))
    assert 'competes' not in str(advise(counts, PSF, near=(10.0, 30.0)))
    # Of a place, what is near to it does.
    counts = simulate((20000.0, 10.0, 30.0), (15000.0, 14.5, 30.0))
    assert '; 1 other within 5.2 pixels:' in ' '.join(str(
        advise(counts, PSF, near=(10.0, 30.0))).split())


@pytest.mark.parametrize('psf', [PSF, None])
def test_another_star_is_no_answer_for_a_place_where_nothing_is(psf):
    counts = simulate((20000.0, 10.0, 30.0), (60.0, 30.0, 10.0))
    found = advise(counts, psf, near=(30.0, 10.0))
    assert (found.centroid, found.box, found.diagnosis) == (None, None, None)
    assert not found.is_trusted
    text = ' '.join(str(found).split())
    assert re.search(r'nothing is above 5 sigma within \d\.\d pixels of \(30\.0, 10\.0\); the '
                     r'nearest source is 28\.3 pixels away: \(10\.0, 30\.0\)', text)
    assert re.search(r'Answer: no source; a star exactly at \(30\.0, 10\.0\) has [\d-]+ \+- \d+ '
                     r'e- \(position held, \d+ x \d+ pixels\), less than \d+ e- at 3 sigma', text)
    assert titles(found) == TITLES[:2]
    assert abs(found.flux - 60.0) < 4.0 * found.flux_err
    assert 0.9 < np.nanstd(found.residual) < 1.1
    far = advise(counts, psf, near=(30.0, 10.0), within=None)
    assert far.diagnosis.x == pytest.approx(10.0, abs=0.1)
    assert far.within is None


def test_a_flux_at_a_place_is_that_of_a_fit_with_its_position_held():
    pulls = []
    for seed in range(60):
        # The light of the neighbour is not that of the place.
        counts = simulate((20000.0, 12.0, 24.0), (20.0, 18.2, 20.1), seed=seed)
        found = advise(counts, PSF, near=(18.2, 20.1))
        assert found.box is None
        pulls.append((found.flux - 20.0) / found.flux_err)
    assert abs(np.mean(pulls)) < 0.5
    assert 0.75 < np.std(pulls) < 1.3
    empty = advise(simulate(), PSF, near=(18.2, 20.1))
    assert 'nothing is above 5 sigma, neither at (18.2, 20.1) nor elsewhere' in str(empty)
    assert 'Answer: no source' in str(empty)
    assert abs(empty.flux) < 4.0 * empty.flux_err


def test_a_place_without_pixels_has_no_flux():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:, 25:] = True
    found = advise(simulate((20000.0, 10.0, 30.0)), PSF, mask=mask, near=(40.0, 20.0))
    assert np.isnan(found.flux)
    assert 'no flux, as there are too few pixels around (40.0, 20.0)' in str(found)


def test_a_star_beside_a_brighter_one_is_measured_with_its_light_held():
    counts = simulate((60000.0, 25.0, 24.0), (4000.0, 20.2, 20.1))
    found = advise(counts, PSF, near=(20.0, 20.0))
    assert found.box.is_joint
    assert found.n_held == 1
    assert abs(found.flux - 4000.0) < 4.0 * found.flux_err
    assert np.hypot(found.diagnosis.x - 20.2, found.diagnosis.y - 20.1) < 0.2
    assert DiagnosisFlag.NEIGHBOUR not in found.diagnosis.flags
    assert 'with the light of 1 other source subtracted as it was found' in found.answer
    assert 0.9 < found.residual.std() < 1.1


def test_the_answer_says_whether_to_trust_it(advice):
    assert re.fullmatch(r'total flux \d{4} \+- \d\d e- at \(23\.4, 11\.8\); trusted',
                        advice.answer)
    assert str(advice).splitlines()[-1] == f'Answer: {advice.answer}.'
    assert advice.is_trusted
    assert (advice.flux, advice.flux_err) == (advice.diagnosis.flux, advice.diagnosis.flux_err)
    wide = advise(simulate(STAR, fwhm=3.5), PSF)
    assert 'not trusted: PSF_TOO_NARROW' in wide.answer
    assert not wide.is_trusted


def test_errors_at_the_edge_are_those_of_the_pixels_that_exist():
    found = advise(simulate((5000.0, 20.2, -1.0)), PSF, near=(20.0, 0.0))
    assert found.diagnosis.y == pytest.approx(-1.0, abs=0.4)
    row = found.box.table[found.box.table['side'] == found.box.fit_shape[0]][0]
    assert 0.5 < found.flux_err / row['flux_err'] < 2.0
    assert row['flux_err'] > 200.0
    assert found.centroid.table['flux_err'][0] > 200.0


def test_many_sources_are_counted():
    places = [(x, y) for x in (5.0, 15.0, 25.0, 35.0) for y in (8.0, 20.0, 32.0)]
    found = advise(simulate(*((3000.0, *place) for place in places)), PSF)
    assert len(found.sources) == 12
    assert '12 sources above 5 sigma' in str(found)
    assert 'and 2 more' in str(found)


def test_a_neighbour_makes_the_box_smaller():
    alone = advise(simulate(STAR), PSF)
    beside = advise(simulate(STAR, (4000.0, 30.6, 11.8)), PSF)
    assert beside.box.fit_shape[0] < alone.box.fit_shape[0]
    assert np.abs(beside.box.table['neighbour_bias']).max() > 10.0


def test_a_known_background_is_passed_on():
    level = np.full(SHAPE, 20.0)
    found = advise(simulate(STAR), PSF, background=level)
    assert found.box.background_known
    assert found.box.fit_shape[0] < 11
    assert found.diagnosis.is_trusted
    assert_allclose(found.sources['background'], 20.0)


def test_read_noise_is_passed_on():
    rng = np.random.default_rng(7)
    counts = simulate(STAR) + rng.normal(0.0, 8.0, SHAPE)
    found = advise(counts, PSF, read_variance=64.0)
    assert found.diagnosis.is_trusted
    assert 0.93 < found.residual.std() < 1.07


def test_what_is_known_of_the_position_is_passed_on():
    faint = simulate((300.0, 20.2, 20.1))
    assert advise(faint, PSF, known_to=0.01).centroid.known_to == 0.01
    rows = {known_to: advise(faint, PSF, known_to=known_to).centroid.table[2]
            for known_to in (0.01, 1.0)}
    assert rows[1.0]['rms'] > rows[0.01]['rms']


@pytest.mark.parametrize('fill', [np.nan, -1e4])
def test_masked_pixels_are_left_out(fill):
    counts, mask = simulate(STAR), np.zeros(SHAPE, dtype=bool)
    mask[25:30, 4:9] = mask[11, 25] = True
    found = advise(np.where(mask, fill, counts), PSF, mask=mask)
    assert_array_equal(found.mask, mask)
    assert_array_equal(np.isnan(found.residual), mask)
    assert_array_equal(found.data, np.where(mask, 0.0, counts))
    assert found.diagnosis.is_trusted
    assert found.diagnosis.flux == pytest.approx(5000.0, rel=0.06)


def test_a_psf_image_of_any_sum_gives_the_same_advice():
    y, x = np.mgrid[-40:41, -40:41]
    image = PSF.evaluate(x / 4, y / 4, 1.0, 0.0, 0.0, FWHM)
    found = [advise(simulate(STAR), total * image / image.sum(), oversampling=4)
             for total in (16.0, 1.0)]
    assert found[0].diagnosis.flux == pytest.approx(found[1].diagnosis.flux)
    assert found[0].diagnosis.is_trusted
    assert found[1].diagnosis.is_trusted
    assert 'all fluxes below are total fluxes: the PSF is normalised here' in str(found[1])
    assert 'normalised here' not in str(found[0])
    assert 'total flux x 16: the image is oversampled 4 times' in str(found[1])
    assert found[0].box.fit_shape == found[1].box.fit_shape


@pytest.mark.parametrize('psf', [
    ImagePSF(3.0 * PSF(*np.meshgrid(*[np.arange(-10.0, 11.0)] * 2))), Gaussian2D(
        x_stddev=FWHM / 2.3548, y_stddev=FWHM / 2.3548)])
def test_the_psf_is_normalised(psf):
    found = advise(simulate(STAR), psf)
    assert describe_normalization(found.psf).is_total_flux
    assert not found.normalization.is_total_flux
    assert DiagnosisFlag.NOT_TOTAL_FLUX not in found.diagnosis.flags
    assert abs(found.flux - 5000.0) < 4.0 * found.flux_err
    assert 70.0 < found.flux_err < 80.0


@pytest.mark.parametrize('shape', [(9, 9), (12, 7), (40, 41)])
def test_stamps_of_any_size_are_advised_on(shape):
    x, y = 0.5 * (shape[1] - 1) + 0.2, 0.5 * (shape[0] - 1) - 0.2
    found = advise(simulate((20000.0, x, y), shape=shape), PSF)
    assert found.diagnosis.flux == pytest.approx(20000.0, rel=0.05)
    assert titles(found) == TITLES


def test_what_is_passed_is_left_alone():
    counts, mask, level = simulate(STAR), np.zeros(SHAPE, dtype=bool), np.full(SHAPE, 20.0)
    psf = PSF.copy()
    advise(counts, psf, mask=mask, background=level)
    advise(counts, mask=mask)
    assert_array_equal(counts, simulate(STAR))
    assert not mask.any()
    assert_array_equal(level, np.full(SHAPE, 20.0))
    assert_array_equal(psf.parameters, PSF.parameters)


@pytest.mark.parametrize(('options', 'message'), [
    ({'near': 3.0}, 'near must be two finite numbers'),
    ({'known_to': 0.0}, 'known_to'), ({'read_variance': -2.0}, 'read_variance'),
    ({'mask': np.ones(SHAPE, dtype=bool)}, 'all 1681 are masked'),
    ({'background': np.ones((2, 2))}, 'background must be a number'),
])
def test_what_cannot_be_advised_on_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        advise(simulate(STAR), PSF, **options)


@pytest.mark.parametrize(('share', 'signed', 'text'), [
    (0.123, False, '12 %'), (0.099, False, '9.9 %'), (0.0996, False, '10 %'),
    (0.00123, False, '0.12 %'), (0.00001, True, '0 %'), (0.05, True, '+5.0 %'),
    (-0.25, True, '-25 %')])
def test_shares_are_told_with_two_digits(share, signed, text):
    assert percent(share, signed=signed) == text


@pytest.mark.parametrize(('value', 'error', 'text'), [
    (3906.4, 94.2, '3906 +- 94'), (2.6529e8, 1.81e4, '2.65290e+08 +- 1.8e+04'),
    (-6.6e-21, 0.5, '0.00 +- 0.50'), (-0.2, 31.0, '0 +- 31'), (60.04, 7.46, '60.0 +- 7.5'),
    (1e-3, 2e-6, '0.001 +- 2e-06'), (12.0, np.nan, '12'), (5e6, 2e7, '5.0e+06 +- 2.0e+07'),
    (0.0, 0.0, '0')])
def test_numbers_are_told_as_far_as_their_errors(value, error, text):
    assert with_error(value, error) == text


def test_a_number_that_is_next_to_nothing_is_zero():
    assert [number(value, 1e-9) for value in (-0.0, -6.6e-21, 0.5, 12345.6)] == [
        '0', '0', '0.5', '1.235e+04']


def test_places_are_told_to_a_tenth():
    assert pixels(3.14159, -0.26) == '(3.1, -0.3)'


@pytest.fixture(scope='module')
def advised(kpsf_data):
    """Return a function that gives advice on the median of a target pixel file, once."""
    known = {}

    def get(name):
        if name not in known:
            tpf = read_tpf(kpsf_data / name)
            ever = tpf.good_pixels.any(axis=0)
            image = np.full(tpf.shape, np.nan)
            image[ever] = np.nanmedian(
                np.where(tpf.good_pixels, tpf.electrons, np.nan)[:, ever], axis=0)
            near = tuple(float(np.median(place)) for place in tpf.expected_positions())
            known[name] = near, advise(np.maximum(image, 0.0), read_variance=tpf.read_variance,
                                       near=near)
        return known[name]
    return get


@pytest.mark.parametrize('name', [TABBY, KEPLER62, K2_BULGE, CUTOUT])
def test_the_target_of_a_real_file_is_found_and_its_psf_is_narrow(advised, name):
    near, found = advised(name)
    assert titles(found) == TITLES
    assert 1.0 < found.psf.fwhm.value < 3.5
    assert np.hypot(found.sources['x'][0] - near[0], found.sources['y'][0] - near[1]) < 2.0
    assert found.sources['significance'][0] > 50.0


def test_the_neighbour_of_tabbys_star_is_noticed(advised):
    _, found = advised(TABBY)
    corner = (found.sources['x'] > 9.0) & (found.sources['y'] < 0.5)
    assert corner.any()
    assert not corner[0]


def test_the_stamp_of_kepler62_ends_too_near_to_it(advised):
    assert DiagnosisFlag.FLUX_OUTSIDE in advised(KEPLER62)[1].diagnosis.flags


def test_the_bulge_is_crowded(advised):
    _, found = advised(K2_BULGE)
    assert len(found.sources) >= 8
    assert 'more' in str(found)


def test_pi_mensae_is_saturated(advised):
    _, found = advised(CUTOUT)
    assert DiagnosisFlag.SATURATED in found.diagnosis.flags


def test_the_brightest_source_of_fermi_is_a_pulsar(kpsf_data):
    counts = fits.getdata(kpsf_data / FERMI).astype(float)
    psf = CircularGaussianPRF(fwhm=2.7)
    found = advise(counts, psf)
    # PSR J1709-4429.
    assert np.hypot(found.sources['x'][0] - 369.4, found.sources['y'][0] - 73.5) < 1.0
    assert found.sources['significance'][0] > 20.0
    assert len(found.sources) > 20
    row = {'x_fit': 300.0, 'y_fit': 30.0, 'flux_fit': 1.0}
    assert diagnose(counts, row, psf=psf).flags == DiagnosisFlag.WRONG_MINIMUM
