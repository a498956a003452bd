# Licensed under a 3-clause BSD style license - see LICENSE
"""Light curves as objects of lightkurve, with which its methods work."""

import sys

import astropy.units as u
import numpy as np
import pytest
from matplotlib.figure import Figure

from kpsf import extract_light_curve, read_tpf, simulate_tpf

MISSIONS = ['Kepler', 'K2', 'TESS']
PERIOD = 0.4


@pytest.fixture(scope='module')
def light_curves(tmp_path_factory):
    """Return a light curve of a sinusoid for each mission, by its name."""
    folder, found = tmp_path_factory.mktemp('pixels'), {}
    for mission in MISSIONS:
        cadence = 120.0 / 86400 if mission == 'TESS' else 0.0204336
        days = np.arange(240) * cadence
        period = PERIOD * (0.2 if mission == 'TESS' else 1.0)
        path = simulate_tpf(folder / f'{mission}.fits', mission=mission, n_cadences=240, seed=2,
                            light_curve=1.0 + 0.05 * np.sin(2 * np.pi * days / period))
        found[mission] = extract_light_curve(path)
    return found


@pytest.fixture
def convert():
    """Return the conversion; skip where lightkurve is not installed."""
    pytest.importorskip('lightkurve')
    return lambda light_curve: light_curve.to_lightkurve()


pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.mark.parametrize(('mission', 'kind', 'time_format'), [
    ('Kepler', 'KeplerLightCurve', 'bkjd'), ('K2', 'KeplerLightCurve', 'bkjd'),
    ('TESS', 'TessLightCurve', 'btjd'), (None, 'LightCurve', 'jd')])
def test_the_class_and_the_times_are_those_of_the_mission(light_curves, convert, mission, kind,
                                                          time_format):
    own = light_curves[mission or 'Kepler'].copy()
    own.meta['mission'] = mission
    theirs = convert(own)
    assert type(theirs).__name__ == kind
    assert (theirs.time.format, theirs.time.scale) == (time_format, 'tdb')
    assert abs((theirs.time - own['time']).sec).max() < 1e-6
    day = {'bkjd': 2454833.0, 'btjd': 2457000.0, 'jd': 0.0}[time_format]
    np.testing.assert_allclose(theirs.time.value + day, own['time'].jd, rtol=0, atol=1e-9)


@pytest.mark.parametrize('mission', MISSIONS)
def test_fluxes_positions_and_flags_are_the_same(light_curves, convert, mission):
    own = light_curves[mission].copy()
    own['flags'][3], own['quality'][5] = 4, 64
    own['flux'].value[7] = np.nan
    theirs = convert(own)
    assert theirs.flux.unit == theirs.flux_err.unit == u.electron / u.s
    assert theirs.centroid_col.unit == theirs.centroid_row.unit == u.pix
    for name, source in {'flux': 'flux', 'flux_err': 'flux_err', 'centroid_col': 'column',
                         'centroid_row': 'row', 'cadenceno': 'cadenceno', 'quality': 'quality',
                         'psf_flags': 'flags', 'psf_bkg': 'background'}.items():
        np.testing.assert_array_equal(getattr(theirs[name], 'value', theirs[name]),
                                      getattr(own[source], 'value', own[source]))
    theirs.flux[0] = 0.0 * theirs.flux.unit
    assert own['flux'][0].value > 0


@pytest.mark.parametrize(('mission', 'label', 'keys'), [
    ('Kepler', 'KIC 100000001', ('quarter', 'channel')),
    ('K2', 'EPIC 100000001', ('campaign', 'channel')),
    ('TESS', 'TIC 100000001', ('sector', 'camera', 'ccd'))])
def test_the_metadata_have_the_names_of_lightkurve(light_curves, convert, mission, label, keys):
    own = light_curves[mission]
    theirs = convert(own)
    assert (theirs.targetid, theirs.label, theirs.mission) == (100000001, label, mission)
    assert (theirs.ra, theirs.dec) == (own.meta['ra'], own.meta['dec'])
    for key in keys:
        assert getattr(theirs, key) == own.meta[key]
    assert theirs.meta['AUTHOR'] == 'kpsf'


@pytest.mark.parametrize('mission', MISSIONS)
def test_the_methods_of_lightkurve_work(light_curves, convert, mission):
    theirs = convert(light_curves[mission])
    ax = theirs.plot(ax=Figure().subplots())
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), theirs.flux.value)
    period = PERIOD * (0.2 if mission == 'TESS' else 1.0)
    assert theirs.to_periodogram().period_at_max_power.value == pytest.approx(period, rel=0.05)
    # Its filter has nothing to go by at the ends.
    flat = theirs.flatten(window_length=5)[20:-20]
    assert np.std(flat.flux.value) < 0.1 * np.std(theirs.normalize().flux.value)
    binned = theirs.bin(bins=24)
    assert len(binned) == 24
    start = binned['time_bin_start'][5]
    inside = (theirs.time >= start) & (theirs.time < start + binned['time_bin_size'][5])
    np.testing.assert_allclose(binned.flux.value[5], theirs.flux.value[inside].mean())
    assert 1.0 < flat.estimate_cdpp(transit_duration=2).value < 5e3


def test_the_star_of_a_scene_is_the_label(light_curves, convert):
    own = light_curves['Kepler'].copy()
    own.meta['star'] = 'Gaia DR3 1'
    assert convert(own).label == 'Gaia DR3 1'


def test_the_same_fluxes_come_by_way_of_the_file(light_curves, convert, tmp_path):
    lightkurve = pytest.importorskip('lightkurve')
    own = light_curves['Kepler']
    own.write(tmp_path / 'star.fits')
    read, made = lightkurve.read(str(tmp_path / 'star.fits')), convert(own)
    np.testing.assert_array_equal(read.flux.value, made.flux.value)
    assert abs((read.time - made.time).sec).max() < 1e-4


def test_without_lightkurve_there_is_an_instruction(light_curves, monkeypatch):
    monkeypatch.setitem(sys.modules, 'lightkurve', None)
    with pytest.raises(ImportError, match='needs the package lightkurve, .*: pip install lightk'):
        light_curves['Kepler'].to_lightkurve()


def test_real_light_curves_are_converted(kpsf_data, convert):
    pixels = read_tpf(kpsf_data / 'kepler' / 'kplr008462852-q08-first100.fits')
    own = extract_light_curve(pixels)
    theirs = convert(own)
    assert theirs.label == 'KIC 8462852'
    assert theirs.quarter == 8
    assert 10 < theirs.estimate_cdpp(savgol_window=31).value < 50
