# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures show what they should, with units, in notebooks and without a screen."""

import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from kpsf import LightCurve, extract_light_curve, read_tpf, simulate_tpf
from kpsf.flags import FitFlag
from kpsf.lightcurve import SceneLightCurves
from kpsf.models import EllipticalGaussianPSF, TabulatedPRF
from kpsf.plotting import (
    plot_cadence,
    plot_centroid,
    plot_light_curve,
    plot_prf,
    plot_prf_positions,
    plot_recovery,
)
from kpsf.plotting.style import BLUE, VERMILLION, figures_for_files
from kpsf.prf import KeplerPRF, TessPRF
from kpsf.simulate import simulate_kepler_prf, simulate_tess_prf


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


def require_nothing_clipped(figure):
    """Fail if text or lines reach beyond the edges of a figure."""
    drawn, width, height = figure.get_tightbbox(), *figure.get_size_inches()
    assert drawn.x0 >= 0
    assert drawn.y0 >= 0
    assert drawn.x1 <= width
    assert drawn.y1 <= height


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
        'no fit (1)', 'flagged (2, 1 beyond the axes): AT_BOUND 1, NOT_CONVERGED 1']


def test_every_flag_is_counted(light_curve):
    mixed = light_curve.copy()
    mixed['flags'][:6] = [4, 4, 5, 5, 4, 1]
    assert legend_texts(plot_light_curve(mixed)) == ['flagged (6): AT_BOUND 5, NOT_CONVERGED 3']
    mixed['flags'][:6] = 4
    assert legend_texts(plot_light_curve(mixed)) == ['AT_BOUND (6)']


def test_rows_that_failed_most_do_not_hide_the_others_where_all_have_flags(light_curve):
    bad = light_curve.copy()
    bad['flags'][:] = int(FitFlag.LITTLE_FLUX_INSIDE)
    bad['flags'][:9] |= int(FitFlag.FLUX_NOT_POSITIVE)
    bad['flux'].value[:9] = -1e9
    ax = plot_light_curve(bad)
    assert np.ptp(ax.get_ylim()) < 2 * np.ptp(light_curve['flux'].value)
    assert len(vermillion_lines(ax)['v']) == 9


def test_errors_of_flagged_cadences_are_not_drawn(light_curve):
    failed = light_curve.copy()
    failed['flags'][:] = 1
    failed['flux_err'].value[:] = 1e9
    ax = plot_light_curve(failed)
    assert not [segment for container in ax.containers for bars in container[2]
                for segment in bars.get_segments()]
    assert np.ptp(ax.get_ylim()) < 2 * np.ptp(failed['flux'].value)


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
    assert legend_texts(ax) == ['flagged (2, 1 beyond the axes): AT_BOUND 1, NOT_CONVERGED 1']


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


def test_a_cadence_that_is_not_there_is_told(pixels, light_curve):
    n = pixels.n_cadences
    for index in (n, -n - 1):
        with pytest.raises(IndexError, match=rf'one of {n} cadences, but it is {index}: count '
                                             rf'from 0 to {n - 1}; np\.flatnonzero'):
            plot_cadence(pixels, light_curve, index)


@pytest.mark.parametrize('plot', [plot_light_curve, plot_centroid,
                                  lambda found: plot_recovery(found, np.ones(len(found)))])
def test_what_is_no_light_curve_is_told(light_curve, plot):
    covariance = np.ones((len(light_curve), 1, 1))
    scene = SceneLightCurves([light_curve], covariance, ['A'])
    with pytest.raises(TypeError, match=r"one LightCurve, but found SceneLightCurves: choose a "
                                        r"star, as in curves\['A'\], or use plot_blends"):
        plot(scene)
    with pytest.raises(TypeError, match='but found str: read a file with LightCurve.read, or'):
        plot('star.fits')
    strange = LightCurve(time=light_curve['time'], data={'flux': light_curve['flux']})
    with pytest.raises(ValueError, match=r'needs the columns .*err.* flags is not there: pass'):
        plot(strange)


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


def test_a_new_figure_is_one_that_notebooks_and_show_find(light_curve):
    figure = plot_light_curve(light_curve).figure
    assert pyplot.fignum_exists(figure.number)
    assert pyplot.gcf() is figure


def test_figures_for_files_do_without_pyplot(light_curve, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith('matplotlib.pyplot')]:
        monkeypatch.delitem(sys.modules, name)
    with figures_for_files():
        draw(plot_light_curve(light_curve), tmp_path)
    assert 'matplotlib.pyplot' not in sys.modules


def test_the_style_gives_colours_that_all_can_tell_apart(light_curve, tmp_path):
    with pyplot.style.context('kpsf.plotting.style'):
        colors = [to_hex(color) for color in mpl.rcParams['axes.prop_cycle'].by_key()['color']]
        assert [color.upper() for color in colors[:2]] == [BLUE, VERMILLION]
        ax = plot_light_curve(light_curve)
        draw(ax, tmp_path)
        require_nothing_clipped(ax.figure)


@pytest.fixture(scope='module')
def kepler_prf(tmp_path_factory):
    path = simulate_kepler_prf(tmp_path_factory.mktemp('prf') / 'kplr07.4_2011265_prf.fits')
    return KeplerPRF.from_file(path, column=300.0, row=100.0)


@pytest.fixture(scope='module')
def tess_prf(tmp_path_factory):
    folder = tmp_path_factory.mktemp('prf')
    simulate_tess_prf(folder)
    return TessPRF.from_files(folder, 300.0, 700.0)


def joined(ax):
    """Return the pairs of places that lines on a map join."""
    return {frozenset(zip(line.get_xdata().tolist(), line.get_ydata().tolist()))
            for line in ax.lines if len(line.get_xdata()) == 2}


def test_a_prf_is_drawn_in_pixels_from_the_star(kepler_prf, tmp_path):
    ax = plot_prf(kepler_prf)[0]
    draw(ax, tmp_path)
    require_nothing_clipped(ax.figure)
    image = ax.images[0]
    np.testing.assert_array_equal(image.get_array(), kepler_prf.data)
    # 550 samples, the star at 274: as many beyond the first one's lower edge.
    np.testing.assert_allclose(image.get_extent(), (-5.49, 5.51, -5.49, 5.51))
    assert image.origin == 'lower'
    assert image.norm.vmin <= kepler_prf.data.min()
    assert image.norm.vmax == kepler_prf.data.max()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ('x from the star (pixels)',
                                                  'y from the star (pixels)')
    assert ax.get_title() == 'KeplerPRF\ncontours at 50, 10, 1, 0.1 % of the peak'
    assert vermillion_lines(ax) == {'+': [0.0]}
    assert ax.figure.axes[2].get_ylabel() == 'Share of the flux in a pixel'


def test_contours_of_a_prf_are_where_it_has_these_fractions_of_its_peak(kepler_prf):
    ax = plot_prf(kepler_prf)[0]
    contours = [artist for artist in ax.collections if hasattr(artist, 'levels')][0]
    peak = kepler_prf.data.max()
    np.testing.assert_allclose(contours.levels, np.array([0.001, 0.01, 0.1, 0.5]) * peak)
    for level, path in zip(contours.levels, contours.get_paths(), strict=True):
        x, y = path.vertices[:-1].T
        np.testing.assert_allclose(kepler_prf(x, y), level, rtol=0.02)


def test_the_grid_is_that_of_pixels_with_a_star_in_the_middle(kepler_prf):
    ax = plot_prf(kepler_prf)[0]
    grids = [artist for artist in ax.collections if not hasattr(artist, 'levels')]
    for axis, grid in enumerate(grids):
        places = [segment[0, axis] for segment in grid.get_segments()]
        np.testing.assert_allclose(places, np.arange(-4.5, 5.6))


def test_what_is_to_the_upper_right_of_the_star_is_drawn_there(tmp_path):
    data = np.ones((33, 33))
    data[28, 22] = 100.0
    ax, = plot_prf(TabulatedPRF(data, 1 / 3))
    draw(ax, tmp_path)
    require_nothing_clipped(ax.figure)
    image = ax.images[0]
    left, right, bottom, top = image.get_extent()
    y, x = np.unravel_index(np.argmax(image.get_array()), data.shape)
    assert left + (x + 0.5) * (right - left) / 33 == pytest.approx((22 - 16) / 3)
    assert bottom + (y + 0.5) * (top - bottom) / 33 == pytest.approx((28 - 16) / 3)


def test_a_scaled_and_turned_prf_is_drawn_as_it_is(kepler_prf):
    prf = TabulatedPRF(kepler_prf.data, 0.02, origin=kepler_prf.origin, flux=50.0, x_0=3.0,
                       x_scale=1.5, theta=0.3)
    ax, = plot_prf(prf)
    image = ax.images[0]
    left, right, bottom, top = image.get_extent()
    (start, end), (low, high) = (prf.bounding_box[name] for name in 'xy')
    np.testing.assert_allclose((left, right), (start - 3.0, end - 3.0), atol=0.02)
    np.testing.assert_allclose((bottom, top), (low, high), atol=0.02)
    ny, nx = image.get_array().shape
    x = left + (np.arange(nx) + 0.5) * (right - left) / nx
    y = bottom + (np.arange(ny) + 0.5) * (top - bottom) / ny
    expected = prf(*np.meshgrid(x + 3.0, y)) / 50.0
    np.testing.assert_allclose(image.get_array(), expected, atol=1e-9)
    assert prf.flux == 50.0


def test_the_map_shows_the_positions_of_kepler_and_their_triangles(kepler_prf, tmp_path):
    ax = plot_prf(kepler_prf)[1]
    calibration = kepler_prf.calibration
    points = ax.collections[0]
    np.testing.assert_array_equal(points.get_offsets(),
                                  np.transpose([calibration.columns, calibration.rows]))
    # The two lower corners and the centre are in use.
    used = [to_hex(color) == BLUE.lower() for color in points.get_facecolors()]
    assert used == (calibration.weights(300.0, 100.0) > 0).tolist() == [True, False, False, True,
                                                                        True]
    written = [float(text.get_text()) for text in ax.texts]
    np.testing.assert_allclose(written, calibration.weights(300.0, 100.0)[used], atol=0.005)
    corners = [(12.0, 20.0), (12.0, 1043.0), (1111.0, 1043.0), (1111.0, 20.0)]
    sides = {frozenset(pair) for pair in zip(corners, [*corners[1:], corners[0]])}
    assert joined(ax) == sides | {frozenset([(561.5, 531.5), corner]) for corner in corners}
    place, = [line for line in ax.lines if line.get_marker() == 'P']
    assert (*place.get_xdata(), *place.get_ydata()) == (300.0, 100.0)
    box = ax.patches[0]
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (-0.5, -0.5, 1132, 1070)
    assert ax.get_title() == 'channel 20 (7.4), barycentric\nat column 300.0, row 100.0'
    assert ax.get_xlabel() == 'Column on the detector (pixels)'
    assert not legend_texts(ax)


def test_the_map_shows_the_cells_of_tess(tess_prf, tmp_path):
    axes = plot_prf(tess_prf)
    draw(axes[0], tmp_path)
    require_nothing_clipped(axes[0].figure)
    lengths = [np.hypot(*np.diff(list(pair), axis=0)[0]) for pair in joined(axes[1])]
    assert len(lengths) == 40
    assert set(np.round(lengths)) == {511, 512}
    assert len(axes[1].texts) == 4
    assert axes[1].get_title() == ('camera 4 CCD 1 from sector 1, bilinear\n'
                                   'at column 300.0, row 700.0')


def test_an_arrow_leads_to_the_place_that_counts_beyond_the_positions(kepler_prf, tmp_path):
    inside, outside = plot_prf(kepler_prf)[1], plot_prf(kepler_prf.at(5.0, 100.0))[1]
    draw(outside, tmp_path)
    arrows = [[text for text in ax.texts if not text.get_text()] for ax in (inside, outside)]
    assert [len(found) for found in arrows] == [0, 1]
    assert arrows[1][0].xy == (12.0, 100.0)


@pytest.mark.parametrize('mission', ['Kepler', 'TESS', 'part of TESS'])
def test_the_positions_lie_as_on_the_detector_with_one_stretch(request, mission, tmp_path):
    prf = request.getfixturevalue('kepler_prf' if mission == 'Kepler' else 'tess_prf')
    if mission == 'part of TESS':
        names = [name for name in prf.calibration.names
                 if 'col0557' in name and ('row0001' in name or 'row0513' in name)]
        prf = TessPRF.from_files(names, 557.0, 300.0)
    calibration = prf.calibration
    axes = plot_prf_positions(prf)
    draw(axes[0], tmp_path)
    require_nothing_clipped(axes[0].figure)
    assert len(axes) == {'Kepler': 5, 'TESS': 25, 'part of TESS': 2}[mission]
    x, y = np.array([ax.get_position().p0 for ax in axes]).T
    for places, values in ((x, calibration.columns), (y, calibration.rows)):
        order = np.argsort(values, kind='stable')
        steps = np.diff(places[order])
        np.testing.assert_array_equal(steps > 1e-6, np.diff(values[order]) > 0)
    weights = calibration.weights(prf.column, prf.row)
    for index, ax in enumerate(axes):
        image = calibration.images[index]
        np.testing.assert_allclose(ax.images[0].get_array(),
                                   image / (image.sum() * calibration.spacing**2))
        assert ax.images[0].norm is axes[0].images[0].norm
        title = f'column {calibration.columns[index]:g}, row {calibration.rows[index]:g}'
        shown = f'\nweight {weights[index]:.2f}' if weights[index] > 0 else ''
        assert ax.get_title() == title + shown
    assert axes[0].images[0].norm.vmax == max(ax.images[0].get_array().max() for ax in axes)


def test_a_calibration_alone_has_no_weights(kepler_prf, tmp_path):
    figure = Figure(figsize=(7.0, 7.0), layout='constrained')
    axes = plot_prf_positions(kepler_prf.calibration, figure)
    assert axes[4].get_title() == 'column 561.5, row 531.5'
    assert axes[0].figure is figure
    assert figure.get_suptitle() == 'Kepler channel 20 (7.4)'
    assert figure.get_supxlabel() == 'x from the star (pixels)'


def test_plots_of_prfs_refuse_what_is_none(kepler_prf):
    table = TabulatedPRF(np.ones((3, 3)), 1.0)
    with pytest.raises(TypeError, match='plot_prf needs a TabulatedPRF.*EllipticalGaussianPSF'):
        plot_prf(EllipticalGaussianPSF())
    with pytest.raises(TypeError, match='plot_prf_positions needs .* found TabulatedPRF'):
        plot_prf_positions(table)
    with pytest.raises(ValueError, match='TabulatedPRF has 1 panel, but there are 2 axes'):
        plot_prf(table, Figure().subplots(1, 2))


def test_prfs_go_into_given_axes(kepler_prf):
    axes = Figure().subplots(1, 2)
    assert (plot_prf(kepler_prf, axes) == axes).all()
    alone = Figure().subplots()
    assert plot_prf(kepler_prf, alone)[0] is alone
    assert alone.images


def test_light_curves_by_a_prf_are_drawn_too(kepler_prf, tmp_path):
    path = simulate_tpf(tmp_path / 'star.fits', kepler_prf, n_cadences=5, shape=(7, 9), seed=3)
    pixels = read_tpf(path)
    found = extract_light_curve(pixels, kepler_prf)
    axes = plot_cadence(pixels, found, 2)
    draw(axes[0], tmp_path)
    residual = np.asarray(axes[2].images[0].get_array())
    assert 0.7 < residual.std() < 1.3
    cross = [line for line in axes[0].lines if line.get_marker() == '+'][0]
    np.testing.assert_allclose(cross.get_xdata(), found['x'].value[2])
    draw(plot_light_curve(found), tmp_path)
    draw(plot_centroid(found), tmp_path)


def test_real_prfs_are_drawn(kpsf_data, tmp_path):
    kepler = KeplerPRF.from_file(kpsf_data / 'kepler_prf' / 'kplr07.4_2011265_prf.fits', 300, 700)
    tess = TessPRF.from_files(kpsf_data / 'tess_prf' / 'start_s0001' / 'cam4_ccd1', 300, 700)
    for prf in (kepler, tess):
        for ax in (plot_prf(prf)[0], plot_prf_positions(prf)[0]):
            draw(ax, tmp_path)
            require_nothing_clipped(ax.figure)
