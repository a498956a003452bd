# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures of how much of a star's variation a light curve keeps."""

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import FixedLocator, NullLocator

from ..signals.times import length_in_words
from ..signals.transfer import TOLERANCE
from .style import GREY, VERMILLION, new_figure

__all__ = ['plot_signal_transfer']

MARKERS = {'dip': 'v', 'sinusoid': 'o'}
# Factor by which the points of a length are spread.
SPREAD = 1.5


def plot_signal_transfer(table, ax=None):
    """Plot the recovered fraction of signals against their length.

    Thick bars are the errors of the transfer, in the same noise, thin grey
    ones those that the noise of the light curve gives to such a depth.
    Signals that the light curve does not keep have a red ring; those without
    a fraction are crosses at the bottom.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `~kpsf.signal_transfer` returned.
    ax : `~matplotlib.axes.Axes`, optional
        Where; by default in a new figure.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Its figure is ``ax.figure``.

    Examples
    --------
    >>> from kpsf import signal_transfer, simulate_tpf
    >>> from kpsf.plotting import plot_signal_transfer
    >>> from kpsf.signals import Signal
    >>> path = simulate_tpf('star.fits', n_cadences=100, seed=1)
    >>> signals = [Signal('dip', 0.01, days) for days in (0.1, 0.5)]
    >>> ax = plot_signal_transfer(signal_transfer(path, signals))
    >>> ax.figure.savefig('transfer.png')
    """
    ax = new_figure((7.0, 4.4)).subplots() if ax is None else ax
    ax.axhspan(100 * (1 - TOLERANCE), 100 * (1 + TOLERANCE), color=GREY, alpha=0.25, lw=0,
               label=f'within {100 * TOLERANCE:g} %')
    ax.axhline(100.0, color=GREY, lw=1.0)
    limits = _limits(table)
    groups = sorted({(str(kind), float(depth)) for kind, depth in table.iterrows('kind', 'depth')})
    depths = sorted({depth for _, depth in groups})
    for place, (kind, depth) in enumerate(groups):
        rows = table[(table['kind'] == kind) & (table['depth'] == depth)]
        shift = SPREAD ** (place / max(len(groups) - 1, 1) - 0.5)
        color = colormaps['viridis'](0.9 * depths.index(depth) / max(len(depths) - 1, 1))
        _draw_group(ax, rows, shift, color, f'{kind}, {100 * depth:g} %')
    ax.plot([], [], '-', color=GREY, lw=0.6, label=r'$\sigma$ of the depth (noise)')
    _ring_lost(ax, table, groups)
    lengths = sorted(set(table['length'].to_value('d').tolist()))
    ax.set_xscale('log')
    ax.xaxis.set_major_locator(FixedLocator(lengths))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(lengths, [length_in_words(length) for length in lengths])
    ax.set(xlim=(lengths[0] / 1.7, lengths[-1] * 1.7), ylim=limits, ylabel='Recovered (%)',
           xlabel='Duration of dips, period of sinusoids', title=table.meta.get('target', ''))
    ax.legend(loc='center left', bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize='small')
    return ax


def _limits(table):
    """Return limits of the axis that show the fractions and the errors that matter."""
    percent = 100.0 * np.asarray(table['transfer'])
    percent = percent[np.isfinite(percent)]
    low, high = (100.0 * (1 - 2 * TOLERANCE), 100.0 * (1 + 2 * TOLERANCE))
    low, high = min(percent.min(initial=low), low), max(percent.max(initial=high), high)
    margin = 0.08 * (high - low)
    return low - margin, high + margin


def _draw_group(ax, rows, shift, color, label):
    """Draw the signals of one kind and depth."""
    days, percent = rows['length'].to_value('d') * shift, 100.0 * np.asarray(rows['transfer'])
    sigma = 100.0 * np.asarray(rows['sigma']) / np.asarray(rows['depth'])
    ax.errorbar(days, percent, sigma, fmt='none', ecolor=GREY, elinewidth=0.6, zorder=1)
    ax.errorbar(days, percent, 100.0 * np.asarray(rows['transfer_err']), color=color,
                marker=MARKERS[rows['kind'][0]], ls='none', ms=5.0, elinewidth=2.0, label=label)
    lost = ~np.isfinite(percent)
    if lost.any():
        ax.plot(days[lost], np.full(lost.sum(), 0.03), 'x', color=VERMILLION, clip_on=False,
                transform=ax.get_xaxis_transform())


def _ring_lost(ax, table, groups):
    """Draw a ring around each signal that the light curve does not keep."""
    bad = table[~table['passed'] & np.isfinite(table['transfer'])]
    if not len(bad):
        return
    places = [groups.index((str(kind), float(depth))) for kind, depth in
              bad.iterrows('kind', 'depth')]
    shift = SPREAD ** (np.array(places) / max(len(groups) - 1, 1) - 0.5)
    ax.plot(bad['length'].to_value('d') * shift, 100.0 * np.asarray(bad['transfer']), 'o',
            mfc='none', mec=VERMILLION, ms=10.0,
            label=f'not kept ({np.count_nonzero(~table["passed"])})')
