# Licensed under a 3-clause BSD style license - see LICENSE
"""The figure of recovered signals shows the numbers of its table."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from matplotlib.figure import Figure

from kpsf.plotting import plot_signal_transfer
from kpsf.plotting.style import VERMILLION


@pytest.fixture
def table():
    """Return a made-up result: a lost dip, one that cannot be measured, and good ones."""
    table = QTable(meta={'target': 'KIC 7'})
    table['kind'] = ['dip', 'dip', 'dip', 'sinusoid']
    table['depth'] = [0.01, 0.01, 0.1, 0.001]
    table['length'] = [1.0, 24.0, 24.0, 24.0] * u.h
    table['transfer'] = [1.005, 0.6, np.nan, 0.99]
    table['transfer_err'] = [0.001, 0.01, np.nan, 0.002]
    table['sigma'] = [0.001, 0.0005, np.nan, 0.0001]
    table['passed'] = [True, False, False, True]
    return table


def groups_of(ax):
    """Return days and per cent of the points of each kind and depth, by label."""
    return {container.get_label(): container.lines[0].get_xydata()
            for container in ax.containers if not container.get_label().startswith('_')}


def test_the_fractions_are_drawn_in_per_cent_by_depth(table, tmp_path):
    ax = plot_signal_transfer(table)
    ax.figure.savefig(tmp_path / 'figure.png')
    groups = groups_of(ax)
    assert set(groups) == {'dip, 1 %', 'dip, 10 %', 'sinusoid, 0.1 %'}
    np.testing.assert_allclose(groups['dip, 1 %'][:, 1], [100.5, 60.0])
    # Spread by less than what lies between two lengths.
    np.testing.assert_allclose(groups['dip, 1 %'][:, 0] * 24, [1.0, 24.0], rtol=0.3)
    np.testing.assert_allclose(groups['sinusoid, 0.1 %'][:, 1], [99.0])
    assert [label.get_text() for label in ax.get_xticklabels()] == ['1 h', '1 d']
    assert ax.get_title() == 'KIC 7'
    assert (ax.get_xlabel(), ax.get_ylabel()) == ('Duration of dips, period of sinusoids',
                                                  'Recovered (%)')
    low, high = ax.get_ylim()
    assert low < 60.0
    assert high > 102.0


def test_both_errors_are_drawn(table):
    ax = plot_signal_transfer(table)
    heights = sorted(round(float(np.ptp(segment[:, 1])) / 2, 6) for container in ax.containers
                     for bars in container.lines[2] for segment in bars.get_segments()
                     if np.isfinite(segment).all() and len(segment))
    # Of the transfer, 0.1, 0.2 and 1 %; of depths of 1, 0.1 and 1 %, a tenth to a twentieth.
    assert heights == [0.1, 0.2, 1.0, 5.0, 10.0, 10.0]
    assert r'$\sigma$ of the depth (noise)' in [
        text.get_text() for text in ax.get_legend().get_texts()]


def test_what_is_lost_has_a_ring_and_what_cannot_be_measured_a_cross(table):
    ax = plot_signal_transfer(table)
    marked = {line.get_marker(): line for line in ax.lines if line.get_color() == VERMILLION
              or line.get_markeredgecolor() == VERMILLION}
    ring, cross = marked['o'], marked['x']
    assert ring.get_label() == 'not kept (2)'
    np.testing.assert_allclose(ring.get_ydata(), [60.0])
    points = groups_of(ax)['dip, 1 %']
    np.testing.assert_allclose(ring.get_xdata(), points[1, 0])
    assert len(cross.get_xdata()) == 1


def test_axes_may_be_given_and_nothing_is_cut_off(table, tmp_path):
    figure = Figure(figsize=(7.0, 4.0), layout='constrained')
    axes = figure.subplots()
    assert plot_signal_transfer(table, axes) is axes
    figure.savefig(tmp_path / 'figure.png')
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) > -0.01
    assert drawn.x1 < width + 0.01
    assert drawn.y1 < height + 0.01


def test_one_signal_is_a_figure_too(table, tmp_path):
    ax = plot_signal_transfer(table[:1])
    ax.figure.savefig(tmp_path / 'figure.png')
    assert list(groups_of(ax)) == ['dip, 1 %']
