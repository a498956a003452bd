# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures of many light curves: stars that were fitted together, and the scatter of many files."""

import os
from textwrap import fill

import numpy as np
from astropy.table import Table
from matplotlib.ticker import LogFormatter

from ..lightcurve import SceneLightCurves
from .series import days_of, draw_series
from .style import BLUE, GREY, RATE, VERMILLION, new_figure

__all__ = ['plot_blends', 'plot_precision']

MINUS = '\N{MINUS SIGN}'
# Letters in a line, and points that a line is high.
LEGEND_WIDTH, LINE_HEIGHT = 80, 11.5
MAGNITUDE, SCATTER, LIMIT = 'magnitude', 'scatter_ppm', 'limit_ppm'


def plot_blends(scene, axes=None):
    """Plot the light curves of stars that were fitted together, one above the other.

    Flagged cadences look as in `plot_light_curve`. Between two
    neighbouring panels is the correlation of the errors of their fluxes, the
    median over the cadences: where it is near -1, what one star gains the
    other loses.

    Parameters
    ----------
    scene : SceneLightCurves
        What to plot.
    axes : sequence of `~matplotlib.axes.Axes`, optional
        Where, one per star; by default in a new figure.

    Returns
    -------
    ndarray of `~matplotlib.axes.Axes`, shape (n_stars,)
        Their figure is ``axes[0].figure``.

    Raises
    ------
    TypeError
        If these are no `SceneLightCurves`.
    ValueError
        If there is not one of the axes for each star.
    """
    if not isinstance(scene, SceneLightCurves):
        raise TypeError('plot_blends draws the SceneLightCurves of stars that were fitted '
                        f'jointly, but found {type(scene).__name__}: use plot_light_curve for one '
                        'light curve, or read a file with SceneLightCurves.read.')
    n_stars = len(scene)
    if axes is None:
        figure = new_figure((8.0, 1.1 + 1.6 * n_stars))
        axes = figure.subplots(n_stars, 1, sharex=True, squeeze=False)[:, 0]
    axes = np.atleast_1d(axes)
    if axes.shape != (n_stars,):
        raise ValueError(f'axes must be {n_stars}, one per star, but their shape is '
                         f'{axes.shape}: pass others, or none for a new figure.')
    for ax, name, light_curve in zip(axes, scene.names, scene):
        days, time_label = days_of(light_curve)
        draw_series(ax, days, light_curve['flux'].value, light_curve['flux_err'].value,
                    np.asarray(light_curve['flags']))
        ax.set_title(name, loc='left', fontsize='medium', pad=6.0 + _draw_legend_above(ax))
        ax.set_ylabel(f'Flux ({RATE})')
    axes[-1].set_xlabel(time_label)
    _write_correlations(axes, scene.correlation())
    return axes


def plot_precision(table, ax=None):
    """Plot the scatter of many light curves against the magnitudes of their stars.

    Rows without a magnitude or with no scatter above zero are left out and
    counted.

    Parameters
    ----------
    table : `~astropy.table.Table`, mapping, str or path-like
        A table with the columns ``magnitude`` and ``scatter_ppm``, or the
        name of one in ECSV or CSV. A column ``limit_ppm``, if there is one,
        is what photon and read noise alone would give, and is drawn as a
        line.
    ax : `~matplotlib.axes.Axes`, optional
        Where; by default in a new figure.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Its figure is ``ax.figure``.

    Raises
    ------
    ValueError
        If a column is missing, or no row has both numbers.
    OSError
        If a file cannot be opened.

    Examples
    --------
    >>> from kpsf.plotting import plot_precision
    >>> table = {'magnitude': [11.8, 13.4, 15.1], 'scatter_ppm': [70.0, 160.0, 640.0],
    ...          'limit_ppm': [55.0, 120.0, 480.0]}
    >>> ax = plot_precision(table)
    >>> ax.figure.savefig('precision.png')
    """
    table = Table.read(table) if isinstance(table, (str, os.PathLike)) else Table(table)
    magnitude, scatter = _numbers(table, MAGNITUDE), _numbers(table, SCATTER)
    with np.errstate(invalid='ignore'):
        usable = np.isfinite(magnitude) & np.isfinite(scatter) & (scatter > 0)
    if not usable.any():
        raise ValueError(f'A table needs rows with {MAGNITUDE} and {SCATTER} > 0, but none of '
                         f'{len(table)} has both: measure some light curves first.')
    if ax is None:
        ax = new_figure((6.4, 4.4)).subplots()
    left_out = f', {(~usable).sum()} left out' if not usable.all() else ''
    ax.plot(magnitude[usable], scatter[usable], 'o', ms=4.5, color=BLUE, mec='white', mew=0.4,
            label=f'light curves ({usable.sum()}{left_out})')
    if LIMIT in table.colnames:
        _draw_limit(ax, magnitude, _numbers(table, LIMIT))
    ax.set(xlabel='Magnitude', ylabel='Point-to-point scatter (ppm)', yscale='log')
    ax.grid(which='major', color=GREY, alpha=0.3, lw=0.6)
    ax.yaxis.set_major_formatter(LogFormatter())
    # Plain numbers, and more of them where a decade or two are all there is.
    ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2.5, 0.5)))
    ax.legend(loc='upper left', frameon=False, fontsize='small')
    return ax


def _draw_legend_above(ax):
    """Draw a legend above the axes, if there is something to say; return its height in points."""
    handles, labels = ax.get_legend_handles_labels()
    if not labels:
        return 0.0
    n_columns = 1 if sum(map(len, labels)) > LEGEND_WIDTH else len(labels)
    labels = [fill(label, LEGEND_WIDTH) for label in labels]
    ax.legend(handles, labels, loc='lower left', bbox_to_anchor=(0.0, 1.0), ncols=n_columns,
              frameon=False, fontsize='small', borderaxespad=0.1, borderpad=0.2, labelspacing=0.1)
    n_lines = [1 + label.count('\n') for label in labels]
    return LINE_HEIGHT * (sum(n_lines) if n_columns == 1 else max(n_lines))


def _write_correlations(axes, correlation):
    """Write the median correlation of neighbours (n, n_stars, n_stars) between their axes."""
    for star, ax in enumerate(axes[:-1]):
        values = correlation[:, star, star + 1]
        values = values[np.isfinite(values)]
        number = f'{np.median(values):.2f}' if values.size else 'unknown'
        ax.text(0.5, -0.08, 'correlation of the errors above and below: '
                f'{number.replace("-", MINUS)}', ha='center', va='top', fontsize='small',
                transform=ax.transAxes)


def _draw_limit(ax, magnitude, limit):
    """Draw the limit (n,) as a line."""
    order = np.argsort(magnitude)
    with np.errstate(invalid='ignore'):
        order = order[np.isfinite(magnitude[order]) & (limit[order] > 0)]
    ax.plot(magnitude[order], limit[order], '-', color=VERMILLION, lw=1.2, zorder=1,
            label='photon and read noise')


def _numbers(table, name):
    """Return a column (n,) as floats, NaN where it is masked."""
    if name not in table.colnames:
        raise ValueError(f'A table with the columns {MAGNITUDE} and {SCATTER} is needed, but it '
                         f'has {", ".join(table.colnames) or "none"}: rename or add {name}.')
    values = np.ma.asarray(getattr(table[name], 'value', table[name]), dtype=float)
    return values.filled(np.nan)
