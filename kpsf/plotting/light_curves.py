# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures of light curves and of the track of the position."""

import numpy as np

from ..flags import decode_flags
from ..tpf.read import REFERENCE_DATES
from .style import BLUE, GREY, RATE, VERMILLION, new_figure

__all__ = ['plot_centroid', 'plot_light_curve', 'plot_recovery']


def plot_light_curve(light_curve, ax=None):
    """Plot flux against time, with errors and flags.

    Flagged cadences are open circles; those far from all others are drawn
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

    Examples
    --------
    >>> from kpsf import extract_light_curve, simulate_tpf
    >>> from kpsf.plotting import plot_light_curve
    >>> light_curve = extract_light_curve(simulate_tpf('star.fits', n_cadences=20, seed=1))
    >>> ax = plot_light_curve(light_curve)
    >>> ax.figure.savefig('light_curve.png')
    """
    if ax is None:
        ax = new_figure((8.0, 3.6)).subplots()
    days, time_label = _days(light_curve)
    _draw_series(ax, days, light_curve['flux'].value, light_curve['flux_err'].value,
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
    ValueError
        If the truth does not have one flux per cadence.
    """
    truth = np.asarray(truth, dtype=float)
    if truth.shape != (len(light_curve),):
        raise ValueError(f'truth must have the shape ({len(light_curve)},), one flux per cadence '
                         f'of the light curve, but it is {truth.shape}: select the cadences.')
    if axes is None:
        axes = new_figure((8.0, 5.0)).subplots(2, 1, sharex=True, height_ratios=(2, 1))
    top, bottom = axes
    plot_light_curve(light_curve, top)
    days, time_label = _days(light_curve)
    top.plot(days, truth, '-', color=GREY, lw=2.5, zorder=0, label='put in')
    top.containers[0].set_label('recovered')
    top.legend(loc='lower left', frameon=False, fontsize='small')
    top.set_xlabel('')
    with np.errstate(divide='ignore', invalid='ignore'):
        residual, error = (1e6 * values / truth for values in
                           (light_curve['flux'].value - truth, light_curve['flux_err'].value))
    _draw_series(bottom, days, residual, error, np.asarray(light_curve['flags']))
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
    """
    if ax is None:
        ax = new_figure((5.4, 4.2)).subplots()
    days, time_label = _days(light_curve)
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
        low, high = _limits(values[reference], 0.0)
        shown = shown & (low <= values) & (values <= high)
        set_limits(low, high)
    _draw_flagged(ax, x, y, y_err, flags, shown)
    if good.any():
        ax.figure.colorbar(points, ax=ax, label=time_label)
    ax.set(xlabel='x, column in the stamp (pixels)', ylabel='y, row in the stamp (pixels)',
           title=light_curve.meta.get('target', ''))
    _draw_legend(ax)
    ax.ticklabel_format(style='plain', useOffset=False)
    ax.locator_params(nbins=5)
    return ax


def _days(light_curve):
    """Return times in the mission's days (n,) and what to call them."""
    day = REFERENCE_DATES.get(light_curve.meta.get('mission'), 0.0)
    time = light_curve['time'].tdb
    label = f'BJD $-$ {day:.0f}' if day else 'BJD'
    return (time.jd1 - day) + time.jd2, f'{label} (days, TDB)'


def _limits(values, errors, margin=0.06):
    """Return the range of values and their errors, with a margin."""
    if not np.size(values):
        return 0.0, 1.0
    low, high = np.min(values - errors), np.max(values + errors)
    spread = (high - low) or abs(high) * 1e-6 or 1.0
    return low - margin * spread, high + margin * spread


def _draw_series(ax, days, values, errors, flags):
    """Draw values against time, flagged ones in their own way; all (n,)."""
    fitted, flagged = np.isfinite(values), flags != 0
    good = fitted & ~flagged
    errors = np.where(np.isfinite(errors), errors, 0.0)
    size = 3.0 if len(days) > 1000 else 4.5
    ax.errorbar(days[good], values[good], errors[good], fmt='.', ms=size, color=BLUE,
                ecolor=GREY, elinewidth=0.6)
    reference = good if good.any() else fitted
    low, high = _limits(values[reference], errors[reference] * good.any())
    ax.set_ylim(low, high)
    _draw_flagged(ax, days, values, errors, flags, fitted & (low <= values) & (values <= high))
    style = {'ls': 'none', 'mfc': 'none', 'mec': VERMILLION, 'ms': 4.5, 'clip_on': False,
             'transform': ax.get_xaxis_transform()}
    with np.errstate(invalid='ignore'):
        for height, marker, beyond in ((1.0, '^', values > high), (0.0, 'v', values < low)):
            if beyond.any():
                ax.plot(days[beyond], np.full(beyond.sum(), height), marker=marker, **style)
    if not fitted.all():
        ax.plot(days[~fitted], np.full((~fitted).sum(), 0.03), marker='|',
                label=f'no fit ({(~fitted).sum()})', **{**style, 'ms': 9.0})
    ax.ticklabel_format(style='plain', useOffset=False)


def _draw_flagged(ax, x, y, y_err, flags, shown):
    """Draw those flagged points that are shown as circles, and say how many there are."""
    flagged = (flags != 0) & np.isfinite(y)
    if not flagged.any():
        return
    names = sorted({name for row in decode_flags(flags[flagged]) for name in row})
    n_beyond = np.count_nonzero(flagged & ~shown)
    label = (f'{", ".join(names)} ({flagged.sum()}'
             f'{f", {n_beyond} beyond the axes" if n_beyond else ""})')
    points = flagged & shown
    ax.errorbar(x[points], y[points], y_err[points], fmt='o', ms=4.5, mfc='none', mew=0.9,
                mec=VERMILLION, ecolor=GREY, elinewidth=0.6, label=label)


def _draw_legend(ax):
    """Draw a legend below the axes, where it covers nothing."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc='upper center', bbox_to_anchor=(0.5, -0.17), ncols=2, frameon=False,
                  fontsize='small', borderaxespad=0.0)
