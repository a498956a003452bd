# Licensed under a 3-clause BSD style license - see LICENSE
"""Signals that are put into pixels: exactly the star's light, and what light curves keep."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from astropy.time import Time
from astropy.utils.exceptions import AstropyUserWarning
from photutils.psf import MoffatPSF
from scipy.ndimage import median_filter

from kpsf import (
    CentroidPrior,
    EllipticalGaussianPSF,
    Scene,
    extract_light_curve,
    read_tpf,
    signal_transfer,
    simulate_tpf,
)
from kpsf.flags import FitFlag
from kpsf.signals import Signal, default_signals, inject_signal, transfer
from kpsf.signals.light import star_light

PSF = EllipticalGaussianPSF.from_stddev(1.0, 0.0, 0.0, 0.8, 0.65, 0.4)
# Wings as real PSFs have them; photutils holds the shape.
WINGED = MoffatPSF(alpha=1.4, beta=2.5)
HOUR = 1.0 / 24.0
ONE_OF_EACH = [Signal('dip', 0.01, 6 * HOUR), Signal('dip', 0.1, 1.0),
               Signal('sinusoid', 0.001, 0.5)]


def simulate(path, stars=((4e4, 4.3, 3.9),), **options):
    """Return pixels with a drift, and their truth."""
    options = {'psf': PSF, 'n_cadences': 200, 'shape': (9, 10), 'drift': 0.2, 'seed': 4,
               **options}
    path = simulate_tpf(path, stars=list(stars), **options)
    return read_tpf(path), fits.getdata(path, 'TRUTH')


def true_light(pixels, truth, star=0):
    """Return what a star puts into the pixels by the truth (n, ny, nx), in e-/s."""
    flux, x, y = (np.reshape(truth[name], (pixels.n_cadences, -1))[:, star, None, None]
                  for name in ('FLUX', 'X', 'Y'))
    j, i = np.indices(pixels.shape)
    return PSF.evaluate(i, j, flux, x, y, PSF.a.value, PSF.b.value, PSF.c.value)


@pytest.fixture(scope='module')
def simulated(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp('pixels') / 'star.fits')


@pytest.fixture(scope='module')
def pixels(simulated):
    return simulated[0]


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """Return pixels of two stars three pixels apart, the target the fainter one."""
    return simulate(tmp_path_factory.mktemp('pixels') / 'two.fits', n_cadences=100,
                    stars=[(2e4, 3.1, 3.9), (4e4, 6.1, 4.2)])


def some_of(tpf, cadences):
    """Return some cadences of some pixels."""
    names = ('time', 'cadenceno', 'flux', 'flux_err', 'background', 'quality', 'good_pixels',
             'pos_corr')
    return replace(tpf, **{name: getattr(tpf, name)[cadences] for name in names})


def days_of(pixels):
    return (pixels.time - pixels.time[0]).to_value(u.day)


def eat_with(monkeypatch, change):
    """Let the extraction change its light curve by a function of it."""
    def extract(tpf, **options):
        curve = extract_light_curve(tpf, **options)
        change(curve)
        return curve

    monkeypatch.setattr(transfer, 'extract_light_curve', extract)


def flatten(curve):
    """Take the slow variation out of a light curve, the star's with it."""
    flux = curve['flux'].value
    trend = median_filter(flux, 31, mode='nearest')
    curve['flux'] = (flux - trend + np.median(flux)) * curve['flux'].unit


def test_a_dip_has_the_depth_the_duration_and_the_place_that_are_asked_for(pixels):
    days = days_of(pixels)
    flux = Signal('dip', 0.2, 1.0, 1.5).relative_flux(pixels.time)
    cadence = np.median(np.diff(days))
    assert flux.min() == pytest.approx(0.8)
    np.testing.assert_allclose(flux[np.abs(days - 1.5) < 0.3 - cadence], 0.8)
    np.testing.assert_array_equal(flux[np.abs(days - 1.5) > 0.5 + cadence], 1.0)
    # A trapezoid with 60 % of its length at the bottom covers 80 % of it.
    assert np.sum(1.0 - flux) * cadence == pytest.approx(0.2 * 0.8, rel=1e-3)
    assert np.sum((1.0 - flux) * days) / np.sum(1.0 - flux) == pytest.approx(1.5, abs=1e-3)


def test_a_sinusoid_rises_through_one_at_its_time(pixels):
    days = days_of(pixels)
    flux = Signal('sinusoid', 0.1, 2.0, 0.3).relative_flux(pixels.time)
    np.testing.assert_allclose(flux, 1.0 + 0.1 * np.sin(np.pi * (days - 0.3)), atol=1e-4)


def test_a_cadence_averages_over_a_signal_as_short_as_itself(pixels):
    cadence = np.median(np.diff(days_of(pixels)))
    flux = Signal('sinusoid', 0.1, 2.0 * cadence, 0.5 * cadence).relative_flux(pixels.time)
    # The mean of half a wave is 2 / pi of its height.
    assert np.ptp(flux) == pytest.approx(0.2 * 2.0 / np.pi, rel=0.01)


def test_lengths_and_times_may_have_units(pixels):
    plain = Signal('dip', 0.01, 0.25, 1.5)
    assert Signal('dip', 0.01, 6 * u.h, 36 * u.h) == plain
    at = Signal('dip', 0.01, 0.25, Time(pixels.time[0].jd + 1.5, format='jd', scale='tdb'))
    np.testing.assert_allclose(at.relative_flux(pixels.time), plain.relative_flux(pixels.time),
                               atol=1e-8)


def test_without_a_time_a_dip_is_in_the_middle(pixels):
    flux = Signal('dip', 0.5, 0.5).relative_flux(pixels.time)
    np.testing.assert_allclose(flux, flux[::-1], atol=1e-6)
    assert flux[100] == 0.5


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    (('flare', 0.1, 1.0), ValueError, "kind must be one of 'dip', 'sinusoid'.*'flare'"),
    (('dip', 0.0, 1.0), ValueError, 'depth must be a finite number > 0, but it is 0.0'),
    (('dip', 2.0, 1.0), ValueError, 'depth must be at most 1, but it is 2: .*not per cent'),
    (('sinusoid', 1.0, 1.0), ValueError, 'depth must be below 1, but it is 1'),
    (('dip', 0.1, -1.0), ValueError, 'length must be a finite number > 0, but it is -1.0'),
    (('dip', 0.1, 1.0 * u.m), TypeError, 'length must be a time, but it has the unit m'),
    (('dip', 0.1, 'long'), TypeError, "length must be a number, but it is 'long'"),
    (('dip', 0.1, 1.0, np.nan), ValueError, 'time must be finite, but it is nan'),
])
def test_a_bad_signal_says_what_is_needed(arguments, error, message):
    with pytest.raises(error, match=message):
        Signal(*arguments)


def test_the_default_signals_are_those_that_the_series_can_tell(pixels):
    signals = default_signals(pixels)
    lengths = {kind: sorted({round(24 * s.length) for s in signals if s.kind == kind})
               for kind in ('dip', 'sinusoid')}
    # 200 cadences of 29.4 minutes are 4.09 days.
    assert lengths == {'dip': [1, 6, 24], 'sinusoid': [6, 24]}
    assert {s.depth for s in signals} == {1e-4, 1e-3, 1e-2, 1e-1}
    assert len(set(signals)) == len(signals) == 20
    assert signals.left_out == (
        'dips of 3 d: longer than a third of the series (1.36 d)',
        'dips of 10 d: longer than a third of the series (1.36 d)',
        'sinusoids of 1 h: shorter than four cadences (1.96 h)',
        'sinusoids of 3 d: longer than two thirds of the series (2.72 d)',
        'sinusoids of 10 d: longer than two thirds of the series (2.72 d)')


def test_other_depths_and_lengths_may_be_asked_for(pixels):
    signals = default_signals(pixels, depths=[0.05], lengths=[12 * u.h, 30 * u.min])
    assert [str(signal) for signal in signals] == ['dip of 5 % and 12 h',
                                                   'sinusoid of 5 % and 12 h']
    assert signals.left_out[0] == 'dips of 30 min: shorter than two cadences (58.8 min)'


def test_dips_are_put_where_no_cadence_is_missing(pixels):
    keep = np.ones(200, dtype=bool)
    keep[90:115] = False
    gapped = some_of(pixels, keep)
    begin, end = days_of(gapped)[[89, 90]]
    assert end - begin > 0.5
    for signal in default_signals(gapped):
        if signal.kind == 'dip':
            half = 0.5 * signal.length - 0.03
            assert signal.time + half < begin or signal.time - half > end


def test_the_light_of_a_star_is_what_was_simulated(simulated):
    pixels, truth = simulated
    light = star_light(pixels, extract_light_curve(pixels))
    true = true_light(pixels, truth)
    # Of 200 cadences with a noise of 13 e-/s per pixel of sky: a few, and less than the drift.
    assert np.abs(light.pixels - true).max() < 0.01 * true.max()
    assert np.abs(true - true.mean(axis=0)).max() > 0.05 * true.max()
    np.testing.assert_allclose(light.flux, 4e4, rtol=3e-3)


@pytest.mark.parametrize('seed', [None, 7])
def test_an_injection_scales_the_light_and_nothing_else(simulated, seed):
    pixels, truth = simulated
    true, factor = true_light(pixels, truth), 1.0 + 0.1 * np.sin(np.arange(200) / 5.0)
    changed = inject_signal(pixels, factor, true, seed=seed)
    change = changed.flux - pixels.flux
    if seed is None:
        np.testing.assert_allclose(change, (factor - 1.0)[:, None, None] * true, atol=1e-9)
    else:
        excess = pixels.noise.to_electrons(change - (factor - 1.0)[:, None, None] * true)
        mean = pixels.noise.to_electrons(np.maximum(factor - 1.0, 0.0)[:, None, None] * true)
        assert np.abs(excess[mean == 0]).max() < 1e-6
        bright = mean > 100.0
        assert (excess[bright] / np.sqrt(mean[bright])).std() == pytest.approx(1.0, abs=0.05)
    assert changed.noise is pixels.noise
    for name in ('flux_err', 'background', 'good_pixels', 'time'):
        assert getattr(changed, name) is getattr(pixels, name)


def test_the_light_follows_the_star_where_it_varies(tmp_path):
    days = np.arange(200) / 49.0
    curve = 1.0 - 0.3 * np.exp(-0.5 * ((days - 2.0) / 0.5) ** 2)
    pixels, truth = simulate(tmp_path / 'varies.fits', light_curve=curve)
    light = star_light(pixels, extract_light_curve(pixels))
    true = true_light(pixels, truth)
    peak = np.unravel_index(true[0].argmax(), pixels.shape)
    np.testing.assert_allclose(light.pixels[:, *peak], true[:, *peak], rtol=0.02)


def test_the_light_of_a_neighbour_stays(pair):
    pixels, truth = pair
    curve = extract_light_curve(pixels, PSF, shape='fixed',
                                position=(truth['X'][:, 0], truth['Y'][:, 0]))
    light = star_light(pixels, curve).pixels
    own, other = true_light(pixels, truth), true_light(pixels, truth, 1)
    near, far = own > 5.0 * other, other > 50.0 * own
    assert np.abs(light - own)[near].max() < 0.15 * own.max()
    assert light[far & (other > 100.0)].max() < 0.05 * other.max()


def test_a_cosmic_ray_is_no_light_of_the_star(pixels):
    curve, flux = extract_light_curve(pixels), pixels.flux.copy()
    flux[77, 1, 1] += 1e5
    light, hit = (star_light(tpf, curve).pixels for tpf in (pixels, replace(pixels, flux=flux)))
    # Spread over 200 cadences it would be 500.
    assert np.abs(hit - light).max() < 5.0


def test_the_light_far_from_two_stars_is_split_as_well(tmp_path):
    pixels, _ = simulate(tmp_path / 'wide.fits', n_cadences=30, shape=(5, 60), drift=None,
                         stars=[(4e4, 4.3, 2.1), (4e4, 10.2, 1.8)])
    curve = extract_light_curve(pixels, PSF, shape='fixed', position=(4.3, 2.1))
    share = star_light(pixels, curve).pixels
    assert np.isfinite(share).all()
    # So far out that a Gaussian is zero there to the last digit.
    assert np.count_nonzero(share[0, :, 55:]) == 25


@pytest.mark.parametrize('options', [
    {}, {'shape': 'free'}, {'psf': PSF, 'shape': 'fixed'}, {'background': 'fit'},
    {'position': 'shared'}, {'position': CentroidPrior(0.01)}])
def test_todays_light_curves_keep_every_signal(pixels, options):
    table = signal_transfer(pixels, ONE_OF_EACH, **options)
    np.testing.assert_allclose(table['transfer'], 1.0, atol=0.02)
    assert table['passed'].all()
    assert list(table['kind']) == ['dip', 'dip', 'sinusoid']
    np.testing.assert_array_equal(table['depth'], [0.01, 0.1, 0.001])
    np.testing.assert_allclose(table['length'].to_value('h'), [6.0, 24.0, 12.0])
    assert (table.meta['n_cadences'], table.meta['n_good']) == (200, 200)
    assert set(table.meta['options']) == set(options)


def test_all_default_signals_are_kept_and_the_table_can_be_written(pixels, tmp_path):
    table = signal_transfer(pixels)
    np.testing.assert_allclose(table['transfer'], 1.0, atol=0.02)
    assert np.asarray(table['transfer_err']).max() < 0.02
    assert len(table.meta['left_out']) == 5
    table.write(tmp_path / 'table.ecsv')
    back = QTable.read(tmp_path / 'table.ecsv')
    assert back.meta == table.meta
    np.testing.assert_array_equal(back['length'], table['length'])


def test_sigma_is_the_error_of_the_depth_in_the_light_curve(pixels):
    signal = Signal('sinusoid', 0.01, 0.5)
    table = signal_transfer(pixels, [signal, replace(signal, depth=0.1)])
    error = np.median(extract_light_curve(pixels)['flux_err'].value) / 4e4
    # The amplitude of a sinusoid in n points of equal error.
    np.testing.assert_allclose(table['sigma'], error * np.sqrt(2.0 / 200), rtol=0.03)


def test_photon_noise_of_added_light_scatters_the_transfer_as_it_should(pixels):
    signal = Signal('sinusoid', 0.5, 0.5)
    quiet, noisy, same = (signal_transfer(pixels, signal, seed=seed) for seed in (None, 3, 3))
    assert noisy['transfer'][0] == same['transfer'][0] != quiet['transfer'][0]
    assert noisy['transfer_err'][0] > 3.0 * quiet['transfer_err'][0]
    assert abs(noisy['transfer'][0] - 1.0) < 4.0 * noisy['transfer_err'][0] + 0.01


def test_a_light_curve_that_eats_signals_is_caught(pixels, monkeypatch):
    eat_with(monkeypatch, flatten)
    table = signal_transfer(pixels, [Signal('dip', 0.01, 2 * HOUR), Signal('dip', 0.01, 1.2),
                                     Signal('sinusoid', 0.01, 2.0)])
    assert list(table['passed']) == [True, False, False]
    assert np.all(table['transfer'][1:] < 0.7)


def test_a_depth_below_the_noise_is_no_failure(pixels, monkeypatch):
    eat_with(monkeypatch, flatten)
    table = signal_transfer(pixels, [Signal('dip', depth, 1.2) for depth in (1e-6, 1e-2)])
    assert table['transfer'][0] < 0.9
    assert list(table['passed']) == [True, False]


def test_a_signal_whose_cadences_are_flagged_is_lost(pixels, monkeypatch):
    def reject(curve):
        low = curve['flux'].value < 0.97 * np.median(curve['flux'].value)
        curve['flags'] = np.where(low, int(FitFlag.AT_BOUND), 0)

    eat_with(monkeypatch, reject)
    table = signal_transfer(pixels, [Signal('dip', depth, 0.5) for depth in (0.02, 0.1)])
    assert list(table['passed']) == [True, False]
    assert table['lost'][0] == 0
    assert table['lost'][1] > 0.9


def test_a_neighbour_in_the_flux_dilutes_the_signal(pair):
    pixels, truth = pair
    place = truth['X'][:, 0], truth['Y'][:, 0]
    table = signal_transfer(pixels, Signal('dip', 0.1, 0.5), psf=PSF, shape='fixed',
                            position=place)
    flux = np.median(extract_light_curve(pixels, PSF, shape='fixed', position=place)['flux'].value)
    assert flux > 1.05 * 2e4
    assert table['transfer'][0] == pytest.approx(2e4 / flux, abs=0.05)
    assert not table['passed'][0]


@pytest.mark.parametrize('container', [list, lambda curves: dict(zip('ab', curves))])
def test_a_scene_is_indexed_by_star(pair, monkeypatch, container):
    pixels, truth = pair

    def scene(tpf, **options):
        # Each star in what the true light of the other leaves.
        return container([extract_light_curve(
            replace(tpf, flux=tpf.flux - true_light(pixels, truth, 1 - star)), PSF,
            shape='fixed', position=(truth['X'][:, star], truth['Y'][:, star]))
            for star in (0, 1)])

    monkeypatch.setattr(transfer, 'extract_light_curve', scene)
    keys = (0, 1) if container is list else 'ab'
    for key in keys:
        table = signal_transfer(pixels, Signal('dip', 0.1, 0.5), star=key)
        assert table['transfer'][0] == pytest.approx(1.0, abs=0.02)
        assert table.meta['star'] == key


def test_a_star_of_a_scene_that_could_not_be_fitted_takes_no_light(pixels):
    curve = extract_light_curve(pixels)
    failed = curve.copy()
    failed['flags'] = 1
    np.testing.assert_array_equal(star_light(pixels, [curve, failed]).pixels,
                                  star_light(pixels, curve).pixels)


def test_pixels_without_data_do_no_harm(pixels):
    good = pixels.good_pixels.copy()
    good[:, 0, 0] = good[50, 4, 4] = good[120] = False
    flux = np.where(good, pixels.flux, np.nan)
    table = signal_transfer(replace(pixels, flux=flux, good_pixels=good), ONE_OF_EACH)
    np.testing.assert_allclose(table['transfer'], 1.0, atol=0.02)
    assert table.meta['n_good'] == 199


@pytest.mark.parametrize(('signals', 'error', 'message'), [
    ([], ValueError, 'At least one signal is needed, but signals is empty'),
    (['dip'], TypeError, "signals must be Signal objects, but one is 'dip'"),
    (Signal('dip', 0.1, 0.5, 20.0), ValueError,
     'must change the flux between good cadences, but a dip of 10 % and 12 h at 20.0 does not'),
    (Signal('dip', 0.1, 50.0), ValueError, 'must change the flux .* 50 d at None does not'),
])
def test_signals_that_cannot_be_told_raise(pixels, signals, error, message):
    with pytest.raises(error, match=message):
        signal_transfer(pixels, signals)


def test_a_star_is_chosen_only_in_a_scene(pixels):
    with pytest.raises(ValueError, match='star is 1: leave it out'):
        signal_transfer(pixels, ONE_OF_EACH, star=1)


def test_a_short_series_says_that_it_is_too_short(pixels):
    with pytest.raises(ValueError, match=r'has 3 cadences over 1\.5 h: pass signals='):
        signal_transfer(some_of(pixels, slice(3)))


def test_a_light_curve_without_good_cadences_is_refused(pixels, monkeypatch):
    eat_with(monkeypatch, lambda curve: curve['flags'].fill(1))
    with pytest.raises(ValueError, match='at least 5 cadences with a good fit, but 0 of 200.*: '
                                         'if stars blend here, fit them jointly, with scene='):
        signal_transfer(pixels, ONE_OF_EACH)


def test_warnings_come_once(pixels):
    flux = pixels.flux.copy()
    flux[20, 1, 1] = -1e4
    with pytest.warns(AstropyUserWarning, match='Electrons must be >= 0') as caught:
        table = signal_transfer(replace(pixels, flux=flux), ONE_OF_EACH)
    assert len(caught) == 1
    assert table['passed'].all()


@pytest.mark.parametrize(('name', 'n'), [
    ('kepler/kplr009002278-2010174085026_lpd-targ.fits.gz', 500),
    ('kepler_q12_ch04/kplr012644714-q12-500cadences.fits', 200),
    ('k2/synthetic-k2-flat.targ.fits.gz', 300),
])
def test_light_curves_of_real_stars_keep_every_signal(kpsf_data, name, n):
    table = signal_transfer(some_of(read_tpf(kpsf_data / name), slice(n)))
    np.testing.assert_allclose(table['transfer'], 1.0, atol=0.01)
    assert table['passed'].all()


# Quick motion, so that smoothing and modes have something to take for noise, or not.
TREMBLE = np.random.default_rng(3).normal(0.0, 0.02, (600, 2)) + np.linspace(
    -0.05, 0.05, 600)[:, np.newaxis]


def test_what_is_learned_from_a_series_takes_nothing_of_its_star(tmp_path):
    pixels, _ = simulate(tmp_path / 'star.fits', n_cadences=600, drift=TREMBLE)
    assert extract_light_curve(pixels, 'empirical').meta['n_modes'] > 0
    table = signal_transfer(pixels, psf='empirical')
    assert len(table) >= 28
    assert table['passed'].all(), table[~table['passed']]


@pytest.mark.parametrize('star', [0, 1])
@pytest.mark.parametrize('psf', [PSF, 'empirical'])
def test_a_blend_in_a_scene_keeps_the_signals_of_either_star(tmp_path, star, psf):
    places = {'x': [4.3, 6.1], 'y': [3.9, 4.6]}
    pixels, _ = simulate(tmp_path / 'pair.fits', [(4e4, 4.3, 3.9), (2e4, 6.1, 4.6)],
                         n_cadences=600, drift=TREMBLE)
    scene = Scene(places, base=PSF) if psf == 'empirical' else Scene(places, psf)
    table = signal_transfer(pixels, star=star, scene=scene)
    assert table['passed'].all(), table[~table['passed']]


@pytest.fixture(scope='module')
def winged(tmp_path_factory):
    """Return the pixels of a blend whose PSF has wings, the scene, and the right fit of it."""
    pixels, _ = simulate(tmp_path_factory.mktemp('winged') / 'pair.fits',
                         [(1.6e5, 4.2, 3.8), (8e3, 5.4, 4.7)], psf=WINGED, drift=0.01)
    places = {'x': [4.2, 5.4], 'y': [3.8, 4.7]}
    return pixels, Scene(places), extract_light_curve(pixels, scene=Scene(places, WINGED))


def test_a_wrong_base_is_found_by_the_light_that_a_right_psf_tells(winged):
    pixels, scene, right = winged
    dip = Signal('dip', 0.1, 1.0)
    # What the wrong base takes for the star's light does come back.
    assert signal_transfer(pixels, dip, star=1, scene=scene)['passed'][0]
    table = signal_transfer(pixels, dip, star=1, light=right, scene=scene)
    assert 0.5 < table['transfer'][0] < 0.9
    assert not table['passed'][0]
    table = signal_transfer(pixels, dip, star=1, light=right, scene=replace(scene, base=WINGED))
    assert table['transfer'][0] == pytest.approx(1.0, abs=0.01)


def test_the_residual_of_the_mean_image_tells_a_wrong_base(winged):
    pixels, scene, right = winged
    assert right[0].meta['psf_residual'] < 1e-3
    assert extract_light_curve(pixels, scene=scene)[0].meta['psf_residual'] > 0.1


def test_the_light_of_other_cadences_is_refused(pixels, winged):
    with pytest.raises(ValueError, match='light must be a fit of the same pixels, 50 cadences'):
        signal_transfer(some_of(pixels, slice(50)), ONE_OF_EACH, light=winged[2][0])


@pytest.mark.parametrize('name', [
    'kepler/kplr008462852-q08-first100.fits',
    *(f'kepler_q12_ch04/kplr0126{number}-q12-500cadences.fits'
      for number in ('44714', '44769', '44774', '44778', '44822'))])
def test_learned_psfs_keep_the_signals_of_real_stars(kpsf_data, name):
    table = signal_transfer(read_tpf(kpsf_data / name), psf='empirical')
    assert len(table) >= 16
    assert table['passed'].all(), table[~table['passed']]
