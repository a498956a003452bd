# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures of light curves and of the track of the position."""

import numpy as np

from .series import days_of, draw_flagged, draw_series, limits_of, require_light_curve
from .style import GREY, RATE, new_figure

__all__ = ['plot_centroid', 'plot_light_curve', 'plot_recovery']

FLUX_COLUMNS = ('flux', 'flux_err', 'flags')


def plot_light_curve(light_curve, ax=None):
    """Plot flux against time, with errors and flags.

    Flagged cadences are open circles without errors; those far from all others are drawn
    as triangles at the edge, so that a bad fit does not hide the star.
    Cadences without a fit are ticks at the bottom.

    Parameters
    ----------
    light_curve : LightCurve
        What to plot.
    ax : `~matplotlib.axes.Axes`, optional
        Where; by default in a new figure.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Its figure is ``ax.figure``.

    Raises
    ------
    TypeError
        If it is no `LightCurve`.
    ValueError
        If it lacks columns.

    See Also
    --------
    plot_blends : The light curves of a scene.

    Examples
    --------
    >>> from kpsf import extract_light_curve, simulate_tpf
    >>> from kpsf.plotting import plot_light_curve
    >>> light_curve = extract_light_curve(simulate_tpf('star.fits', n_cadences=20, seed=1))
    >>> ax = plot_light_curve(light_curve)
    >>> ax.figure.savefig('light_curve.png')
    """
    require_light_curve(light_curve, 'plot_light_curve', FLUX_COLUMNS)
    if ax is None:
        ax = new_figure((8.0, 3.6)).subplots()
    days, time_label = days_of(light_curve)
    draw_series(ax, days, light_curve['flux'].value, light_curve['flux_err'].value,
                np.asarray(light_curve['flags']))
    ax.set(xlabel=time_label, ylabel=f'Flux ({RATE})', title=light_curve.meta.get('target', ''))
    _draw_legend(ax)
    return ax


def plot_recovery(light_curve, truth, axes=None):
    """Plot a light curve of a simulated file, and how far it is from the truth.

    Parameters
    ----------
    light_curve : LightCurve
        What was recovered.
    truth : ndarray, shape (n_cadences,)
        Fluxes that were put in, in e-/s.
    axes : sequence of two `~matplotlib.axes.Axes`, optional
        Where; by default in a new figure.

    Returns
    -------
    ndarray of `~matplotlib.axes.Axes`, shape (2,)
        Light curve and residuals.

    Raises
    ------
    TypeError
        If it is no `LightCurve`.
    ValueError
        If it lacks columns, or the truth does not have one flux per cadence.
    """
    require_light_curve(light_curve, 'plot_recovery', FLUX_COLUMNS)
    truth = np.asarray(truth, dtype=float)
    if truth.shape != (len(light_curve),):
        raise ValueError(f'truth must have the shape ({len(light_curve)},), one flux per cadence '
                         f'of the light curve, but it is {truth.shape}: select the cadences.')
    if axes is None:
        axes = new_figure((8.0, 5.0)).subplots(2, 1, sharex=True, height_ratios=(2, 1))
    top, bottom = axes
    plot_light_curve(light_curve, top)
    days, time_label = days_of(light_curve)
    top.plot(days, truth, '-', color=GREY, lw=2.5, zorder=0, label='put in')
    top.containers[0].set_label('recovered')
    top.legend(loc='lower left', frameon=False, fontsize='small')
    top.set_xlabel('')
    with np.errstate(divide='ignore', invalid='ignore'):
        residual, error = (1e6 * values / truth for values in
                           (light_curve['flux'].value - truth, light_curve['flux_err'].value))
    draw_series(bottom, days, residual, error, np.asarray(light_curve['flags']))
    bottom.axhline(0.0, color=GREY, lw=1.0, zorder=0)
    bottom.set(xlabel=time_label, ylabel='Difference (ppm)')
    return np.array([top, bottom])


def plot_centroid(light_curve, ax=None):
    """Plot the track of the position in the stamp, coloured by time.

    Flagged cadences are open circles; those far from all others are left
    out and counted.

    Parameters
    ----------
    light_curve : LightCurve
        What to plot.
    ax : `~matplotlib.axes.Axes`, optional
        Where; by default in a new figure.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Its figure is ``ax.figure``.

    Raises
    ------
    TypeError
        If it is no `LightCurve`.
    ValueError
        If it lacks columns.
    """
    require_light_curve(light_curve, 'plot_centroid', ('x', 'y', 'x_err', 'y_err', 'flags'))
    if ax is None:
        ax = new_figure((5.4, 4.2)).subplots()
    days, time_label = days_of(light_curve)
    x, y, x_err, y_err = (light_curve[name].value for name in ('x', 'y', 'x_err', 'y_err'))
    flags = np.asarray(light_curve['flags'])
    fitted = np.isfinite(x) & np.isfinite(y)
    good = fitted & (flags == 0)
    ax.errorbar(x[good], y[good], y_err[good], x_err[good], fmt='none', ecolor=GREY,
                elinewidth=0.6, zorder=1)
    points = ax.scatter(x[good], y[good], c=days[good], s=9.0, cmap='viridis', zorder=2)
    reference = good if good.any() else fitted
    shown = fitted
    for values, set_limits in ((x, ax.set_xlim), (y, ax.set_ylim)):
        low, high = limits_of(values[reference], 0.0)
        shown = shown & (low <= values) & (values <= high)
        set_limits(low, high)
    draw_flagged(ax, x, y, flags, shown)
    if good.any():
        ax.figure.colorbar(points, ax=ax, label=time_label)
    ax.set(xlabel='x, column in the stamp (pixels)', ylabel='y, row in the stamp (pixels)',
           title=light_curve.meta.get('target', ''))
    _draw_legend(ax)
    ax.ticklabel_format(style='plain', useOffset=False)
    ax.locator_params(nbins=5)
    return ax


def _draw_legend(ax):
    """Draw a legend below the axes, where it covers nothing."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc='upper center', bbox_to_anchor=(0.5, -0.17), ncols=2, frameon=False,
                  fontsize='small', borderaxespad=0.0)
