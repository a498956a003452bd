# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures of many light curves show every star and file, and clip nothing."""


import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from kpsf import extract_light_curve, simulate_tpf
from kpsf.lightcurve import SceneLightCurves
from kpsf.plotting import plot_blends, plot_precision
from kpsf.plotting.style import BLUE, VERMILLION

NAMES = ['target', 'Gaia DR3 2081900940499099136', 'faint']
N_CADENCES = 20


@pytest.fixture(scope='module')
def light_curves(tmp_path_factory):
    """Return three stars; the second has a flagged, a far and a missing point."""
    path = simulate_tpf(tmp_path_factory.mktemp('pixels') / 'a.fits', n_cadences=N_CADENCES,
                        shape=(7, 9), seed=3)
    star = extract_light_curve(path)
    found = [star.copy() for _ in NAMES]
    for number, part in enumerate(found):
        part['flux'] = part['flux'] / (1 + number)
    found[1]['flags'][[4, 5, 6]] = 4, 1, 2
    found[1]['flux'].value[5] *= 100
    found[1]['flux'].value[6] = np.nan
    return found


@pytest.fixture
def scene(light_curves):
    covariance = np.tile([[1.0, -0.62, 0.3], [-0.62, 1.0, 0.04], [0.3, 0.04, 1.0]],
                         (N_CADENCES, 1, 1))
    covariance[3] = np.nan
    covariance[7, 0, 1] = covariance[7, 1, 0] = 0.9
    return SceneLightCurves(light_curves, covariance, NAMES)


@pytest.fixture
def table():
    return Table({'magnitude': [13.0, 11.0, 12.0, 15.0, 14.0],
                  'scatter_ppm': [150.0, 60.0, 90.0, np.nan, 0.0],
                  'limit_ppm': [100.0, 40.0, np.nan, 300.0, 200.0]})


def require_nothing_clipped(figure, path):
    """Draw a figure; fail if text or lines reach beyond its edges."""
    figure.savefig(path)
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= 0
    assert drawn.x1 <= width
    assert drawn.y1 <= height


def line_by_label(ax, label):
    return next(line for line in ax.lines if line.get_label().startswith(label))


def markers_of_trouble(ax):
    return sorted(line.get_marker() for line in ax.lines
                  if to_hex(line.get_markeredgecolor()).upper() == VERMILLION)


def test_every_star_has_a_panel_with_its_name_and_fluxes(scene, tmp_path):
    axes = plot_blends(scene)
    require_nothing_clipped(axes[0].figure, tmp_path / 'figure.png')
    assert axes.shape == (3,)
    assert [ax.get_title(loc='left') for ax in axes] == NAMES
    for ax, light_curve in zip(axes, scene, strict=True):
        good = np.asarray(light_curve['flags']) == 0
        line = ax.containers[0][0]
        np.testing.assert_array_equal(line.get_ydata(), light_curve['flux'].value[good])
        np.testing.assert_allclose(line.get_xdata() + 2454833, light_curve['time'].jd[good])
        assert ax.get_ylabel() == 'Flux (e$^-$ s$^{-1}$)'
    assert [ax.get_xlabel() for ax in axes] == ['', '', 'BJD $-$ 2454833 (days, TDB)']
    assert axes[0].get_xlim() == axes[2].get_xlim()


def test_flagged_cadences_look_as_in_a_light_curve(scene):
    axes = plot_blends(scene)
    assert [markers_of_trouble(ax) for ax in axes] == [[], ['^', 'o', '|'], []]
    texts = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert texts == ['no fit (1)', 'flagged (2, 1 beyond the axes): AT_BOUND 1, NOT_CONVERGED 1']
    assert axes[0].get_legend() is None


def test_the_correlation_of_neighbours_stands_between_them(scene):
    axes = plot_blends(scene)
    texts = [[text.get_text() for text in ax.texts] for ax in axes]
    start = 'correlation of the errors above and below: '
    assert texts == [[f'{start}\N{MINUS SIGN}0.62'], [f'{start}0.04'], []]
    box = axes[0].texts[0].get_window_extent()
    assert axes[1].get_window_extent().y1 < box.y0
    assert box.y1 < axes[0].get_window_extent().y0


def test_correlations_that_nobody_knows_are_called_so(light_curves):
    unknown = SceneLightCurves(light_curves[:2], np.full((N_CADENCES, 2, 2), np.nan), NAMES[:2])
    assert plot_blends(unknown)[0].texts[0].get_text().endswith('unknown')


def test_long_lists_of_flags_are_broken_into_lines(scene, tmp_path):
    broken = [part.copy() for part in scene]
    for part in broken:
        part['flags'][:8] = 2 ** np.arange(8)
        part['flux'].value[0] = np.nan
    axes = plot_blends(SceneLightCurves(broken, scene.covariance, NAMES))
    require_nothing_clipped(axes[0].figure, tmp_path / 'figure.png')
    for ax in axes:
        title = ax._left_title.get_window_extent()
        assert not title.overlaps(ax.get_legend().get_window_extent())
        assert '\n' in ax.get_legend().get_texts()[1].get_text()


def test_a_scene_of_one_star_is_drawn(light_curves, tmp_path):
    one = SceneLightCurves(light_curves[1:2], np.ones((N_CADENCES, 1, 1)), NAMES[1:2])
    axes = plot_blends(one)
    require_nothing_clipped(axes[0].figure, tmp_path / 'figure.png')
    assert not axes[0].texts


@pytest.mark.parametrize('make', [lambda scene: scene[0], lambda scene: 'scene.fits'])
def test_what_is_no_scene_is_told(scene, make):
    with pytest.raises(TypeError, match=r'SceneLightCurves of .*, but found (LightCurve|str): use '
                                        'plot_light_curve for one.*SceneLightCurves.read'):
        plot_blends(make(scene))


def test_scenes_are_drawn_where_asked(scene):
    own = Figure().subplots(3, 1)
    assert all(ours is theirs for ours, theirs in zip(plot_blends(scene, own), own, strict=True))
    with pytest.raises(ValueError, match=r'axes must be 3, one per star, but their shape is \(2,'):
        plot_blends(scene, Figure().subplots(2, 1))


def test_the_scatter_of_every_file_is_a_point(table, tmp_path):
    ax = plot_precision(table)
    require_nothing_clipped(ax.figure, tmp_path / 'figure.png')
    points = line_by_label(ax, 'light curves')
    assert points.get_label() == 'light curves (3, 2 left out)'
    assert points.get_xydata().tolist() == [[13.0, 150.0], [11.0, 60.0], [12.0, 90.0]]
    assert to_hex(points.get_color()).upper() == BLUE
    assert ax.get_yscale() == 'log'
    assert (ax.get_xlabel(), ax.get_ylabel()) == ('Magnitude', 'Point-to-point scatter (ppm)')


def test_the_limit_is_a_line_from_bright_to_faint(table):
    line = line_by_label(plot_precision(table), 'photon and read noise')
    assert line.get_xydata().tolist() == [[11.0, 40.0], [13.0, 100.0], [14.0, 200.0],
                                          [15.0, 300.0]]
    table.remove_column('limit_ppm')
    assert len(plot_precision(table).lines) == 1


def test_ticks_are_plain_numbers_even_within_a_decade(tmp_path):
    ax = plot_precision({'magnitude': [12.0, 12.5], 'scatter_ppm': [70.0, 88.0]})
    ax.figure.savefig(tmp_path / 'figure.png')
    texts = [tick.get_text() for tick in ax.yaxis.get_ticklabels(which='both') if tick.get_text()]
    assert '80' in texts
    assert all(text.isdigit() for text in texts)


@pytest.mark.parametrize('suffix', ['.ecsv', '.csv'])
def test_tables_are_read_from_files(table, tmp_path, suffix):
    table.write(tmp_path / f'table{suffix}')
    for path in (tmp_path / f'table{suffix}', str(tmp_path / f'table{suffix}')):
        assert line_by_label(plot_precision(path), 'light').get_xydata().tolist() == [
            [13.0, 150.0], [11.0, 60.0], [12.0, 90.0]]


def test_masked_rows_are_left_out(table):
    table['magnitude'] = MaskedColumn(table['magnitude'], mask=[True] + [False] * 4)
    assert line_by_label(plot_precision(table), 'light').get_label() == (
        'light curves (2, 3 left out)')


def test_tables_without_what_is_needed_say_so(table):
    with pytest.raises(ValueError, match='has magnitude, limit_ppm: rename or add scatter_ppm'):
        plot_precision(table['magnitude', 'limit_ppm'])
    with pytest.raises(ValueError, match='scatter_ppm > 0, but none of 2 has both'):
        plot_precision(table[3:])


def test_precision_is_drawn_where_asked(table):
    ax = Figure().subplots()
    assert plot_precision(table, ax) is ax
