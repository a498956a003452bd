# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures show what they should, with units, and leave pyplot alone."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from kpsf import LightCurve, extract_light_curve, read_tpf, simulate_tpf
from kpsf.plotting import (
    VERMILLION,
    plot_cadence,
    plot_centroid,
    plot_light_curve,
    plot_recovery,
)


@pytest.fixture(scope='module')
def pixels(tmp_path_factory):
    path = simulate_tpf(tmp_path_factory.mktemp('pixels') / 'star.fits', n_cadences=30,
                        shape=(7, 9), drift=0.2, seed=3)
    return read_tpf(path)


@pytest.fixture(scope='module')
def light_curve(pixels):
    return extract_light_curve(pixels)


@pytest.fixture
def flagged(light_curve):
    """Return a light curve with a flagged point, one that is far off, and one without a fit."""
    flagged = light_curve.copy()
    flagged['flags'][[4, 5, 6]] = 4, 1, 2
    flagged['flux'].value[5] *= 100
    flagged['x'].value[5] += 100
    for name in ('flux', 'flux_err', 'x', 'y', 'x_err', 'y_err'):
        flagged[name].value[6] = np.nan
    return flagged


def draw(ax, tmp_path):
    """Save the figure of some axes, which finds what drawing would raise, and check its size."""
    path = tmp_path / 'figure.png'
    ax.figure.savefig(path)
    assert path.stat().st_size > 5000


def vermillion_lines(ax):
    """Map marker to abscissae of what is drawn in the colour of trouble."""
    return {line.get_marker(): line.get_xdata().tolist() for line in ax.lines
            if to_hex(line.get_markeredgecolor()).upper() == VERMILLION}


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else []


def test_a_light_curve_shows_every_cadence_with_its_error(light_curve, tmp_path):
    ax = plot_light_curve(light_curve)
    draw(ax, tmp_path)
    line, _, (bars,) = ax.containers[0]
    np.testing.assert_array_equal(line.get_ydata(), light_curve['flux'].value)
    np.testing.assert_allclose(line.get_xdata() + 2454833, light_curve['time'].jd)
    lengths = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(lengths, 2 * light_curve['flux_err'].value, rtol=1e-6)
    assert ax.get_xlabel() == 'BJD $-$ 2454833 (days, TDB)'
    assert ax.get_ylabel() == 'Flux (e$^-$ s$^{-1}$)'
    assert ax.get_title() == 'KIC 100000001'
    assert not legend_texts(ax)


def test_flagged_cadences_are_marked_and_do_not_hide_the_others(light_curve, flagged, tmp_path):
    ax = plot_light_curve(flagged)
    draw(ax, tmp_path)
    days = light_curve['time'].jd - 2454833
    marked = vermillion_lines(ax)
    assert {marker: np.round(x, 6).tolist() for marker, x in marked.items()} == {
        'o': [round(days[4], 6)], '^': [round(days[5], 6)], '|': [round(days[6], 6)]}
    np.testing.assert_allclose(ax.containers[0][0].get_xdata(), np.delete(days, [4, 5, 6]))
    low, high = ax.get_ylim()
    spread = np.ptp(np.delete(light_curve['flux'].value, 6))
    assert low < light_curve['flux'].value.min()
    assert high - low < 2 * spread
    assert legend_texts(ax) == [
        'no fit (1)', 'AT_BOUND, NOT_CONVERGED (2, 1 beyond the axes)']


def test_light_curves_without_a_single_good_row_are_drawn(light_curve, tmp_path):
    bad = light_curve.copy()
    bad['flags'][:] = 1
    ax = plot_light_curve(bad)
    draw(ax, tmp_path)
    assert len(vermillion_lines(ax)['o']) == 30
    for name in ('flux', 'flux_err', 'x', 'y', 'x_err', 'y_err'):
        bad[name].value[:] = np.nan
    draw(plot_light_curve(bad), tmp_path)
    draw(plot_centroid(bad), tmp_path)


def test_what_was_read_from_a_file_can_be_drawn(light_curve, tmp_path):
    light_curve.write(tmp_path / 'star.fits')
    back = LightCurve.read(tmp_path / 'star.fits')
    draw(plot_light_curve(back), tmp_path)
    draw(plot_centroid(back), tmp_path)


def test_a_centroid_track_is_coloured_by_time(light_curve, tmp_path):
    ax = plot_centroid(light_curve)
    draw(ax, tmp_path)
    points = ax.collections[-1]
    np.testing.assert_allclose(points.get_offsets()[:, 0], light_curve['x'].value)
    np.testing.assert_allclose(points.get_offsets()[:, 1], light_curve['y'].value)
    np.testing.assert_allclose(points.get_array() + 2454833, light_curve['time'].jd)
    assert ax.get_xlabel() == 'x, column in the stamp (pixels)'
    assert ax.get_ylabel() == 'y, row in the stamp (pixels)'
    assert ax.figure.axes[1].get_ylabel() == 'BJD $-$ 2454833 (days, TDB)'


def test_flagged_positions_do_not_stretch_the_track(flagged, tmp_path):
    ax = plot_centroid(flagged)
    draw(ax, tmp_path)
    assert np.ptp(ax.get_xlim()) < 1.0
    assert legend_texts(ax) == ['AT_BOUND, NOT_CONVERGED (2, 1 beyond the axes)']


@pytest.mark.parametrize('kind', ['light curve', 'fits'])
def test_a_cadence_shows_data_model_and_residuals(pixels, light_curve, tmp_path, kind):
    fits = light_curve if kind == 'light curve' else light_curve.stamp_fits
    axes = plot_cadence(pixels, fits, 7)
    draw(axes[0], tmp_path)
    data, model, residual = (np.asarray(ax.images[0].get_array()) for ax in axes)
    np.testing.assert_allclose(data, pixels.total_rate[7], rtol=1e-6)
    fitted = light_curve.stamp_fits.model_images(7)
    np.testing.assert_allclose(model, pixels.noise.to_rate(fitted), rtol=1e-6)
    sigma = np.sqrt(fitted + pixels.read_variance)
    np.testing.assert_allclose(residual, (pixels.electrons[7] - fitted) / sigma)
    # The model is right, so the residuals are noise.
    assert 0.7 < residual.std() < 1.3
    assert axes[2].images[0].norm.vmin == -axes[2].images[0].norm.vmax
    assert axes[0].images[0].norm is axes[1].images[0].norm
    for ax in axes:
        assert ax.get_xlabel() == 'x, column (pixels)'
        cross = [line for line in ax.lines if line.get_marker() == '+'][0]
        np.testing.assert_allclose(cross.get_xdata(), light_curve['x'].value[7])
        np.testing.assert_allclose(cross.get_ydata(), light_curve['y'].value[7])
    labels = [ax.get_ylabel() for ax in axes[0].figure.axes[3:]]
    assert labels == ['e$^-$ s$^{-1}$ per pixel'] * 2 + [r'Standard deviations ($\sigma$)']
    assert f'cadence {pixels.cadenceno[7]}' in axes[0].figure.get_suptitle()


def test_the_outline_surrounds_the_pixels_of_the_aperture(pixels, light_curve):
    ax = plot_cadence(pixels, light_curve, 0)[0]
    inside = np.pad(pixels.pipeline_aperture.astype(int), 1)
    n_edges = sum(np.count_nonzero(np.diff(inside, axis=axis)) for axis in (0, 1))
    edges = [line for line in ax.lines if line.get_marker() == 'None']
    assert len(edges) == n_edges > 0
    for line in edges:
        x, y = line.get_xdata(), line.get_ydata()
        # An edge lies between two pixels, of which one is in the aperture.
        step = (0.5, 0.0) if x[0] == x[1] else (0.0, 0.5)
        sides = [inside[round(np.mean(y) + sign * step[1]) + 1,
                        round(np.mean(x) + sign * step[0]) + 1] for sign in (-1, 1)]
        assert sorted(sides) == [0, 1]


def test_cadences_with_missing_or_negative_pixels_are_drawn(pixels, tmp_path):
    flux = pixels.flux.copy()
    flux[3, 0, 0] = np.nan
    flux[3, 6, 8] = -pixels.background[3, 6, 8] - 2.0
    flux[4] = np.nan
    broken = replace(pixels, flux=flux, good_pixels=np.isfinite(flux))
    found = extract_light_curve(broken)
    axes = plot_cadence(broken, found, 3)
    draw(axes[0], tmp_path)
    assert np.isnan(np.ma.filled(axes[0].images[0].get_array(), np.nan)[0, 0])
    assert np.isfinite(axes[0].images[0].get_array()[6, 8])
    draw(plot_cadence(broken, found, 4)[0], tmp_path)


def test_cadences_count_from_the_end_as_in_python(pixels, light_curve):
    last = plot_cadence(pixels, light_curve, -1)[0]
    assert f'cadence {pixels.cadenceno[-1]}' in last.figure.get_suptitle()
    with pytest.raises(IndexError):
        plot_cadence(pixels, light_curve, 30)


def test_fits_of_other_pixels_are_refused(pixels, light_curve, tmp_path):
    other = read_tpf(simulate_tpf(tmp_path / 'other.fits', n_cadences=5))
    with pytest.raises(ValueError, match='there are 30 fits and 5 cadences'):
        plot_cadence(other, light_curve, 0)
    with pytest.raises(ValueError, match='only the light curve that extract_light_curve'):
        plot_cadence(pixels, light_curve[:], 0)


def test_a_recovery_shows_the_truth_and_what_is_left(light_curve, tmp_path):
    truth = np.full(30, 2e5)
    top, bottom = plot_recovery(light_curve, truth)
    draw(top, tmp_path)
    assert legend_texts(top) == ['put in', 'recovered']
    expected = 1e6 * (light_curve['flux'].value / 2e5 - 1)
    np.testing.assert_allclose(bottom.containers[0][0].get_ydata(), expected, atol=1e-6)
    assert bottom.get_ylabel() == 'Difference (ppm)'
    with pytest.raises(ValueError, match=r'truth must have the shape \(30,\)'):
        plot_recovery(light_curve, truth[:3])


def test_plots_go_into_given_axes(pixels, light_curve):
    figure = Figure()
    axes = figure.subplots(2, 3)
    assert plot_light_curve(light_curve, axes[0, 0]) is axes[0, 0]
    assert plot_centroid(light_curve, axes[0, 1]) is axes[0, 1]
    assert plot_recovery(light_curve, np.full(30, 2e5), axes[:, 2])[1] is axes[1, 2]
    more = Figure().subplots(1, 3)
    assert (plot_cadence(pixels, light_curve, 0, more) == more).all()


def test_pyplot_is_not_needed(light_curve, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith('matplotlib.pyplot')]:
        monkeypatch.delitem(sys.modules, name)
    draw(plot_light_curve(light_curve), tmp_path)
    assert 'matplotlib.pyplot' not in sys.modules
