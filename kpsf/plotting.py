# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures of light curves, single cadences and centroids; the only module with matplotlib."""

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from .flags import decode_flags
from .stamps import StampFits
from .tpf import REFERENCE_DATES

__all__ = ['plot_cadence', 'plot_centroid', 'plot_light_curve', 'plot_recovery']

# Of Okabe & Ito's palette, which the colour-blind tell apart.
BLUE, VERMILLION, GREY = '#0072B2', '#D55E00', '#999999'
RATE = 'e$^-$ s$^{-1}$'


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
        ax = _new_figure((8.0, 3.6)).subplots()
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
        axes = _new_figure((8.0, 5.0)).subplots(2, 1, sharex=True, height_ratios=(2, 1))
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
        ax = _new_figure((5.4, 4.2)).subplots()
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


def plot_cadence(tpf, fits, index=0, axes=None):
    """Plot data, model and residuals of one cadence.

    A cross marks the fitted position, white lines the pipeline's aperture.
    Pixels without data are hatched.

    Parameters
    ----------
    tpf : TargetPixels
        The pixels.
    fits : LightCurve or StampFits
        Their fits. A light curve must be the one that `extract_light_curve`
        returned.
    index : int, optional
        Which cadence, counted from 0; by default the first.
    axes : sequence of three `~matplotlib.axes.Axes`, optional
        Where; by default in a new figure.

    Returns
    -------
    ndarray of `~matplotlib.axes.Axes`, shape (3,)
        Data and model in e-/s per pixel, and their difference in standard
        deviations of photon and read noise.

    Raises
    ------
    ValueError
        If the fits are not of these pixels, or a light curve does not have
        them any more.
    IndexError
        If there is no such cadence.
    """
    fits = fits if isinstance(fits, StampFits) else fits.stamp_fits
    if len(fits) != tpf.n_cadences:
        raise ValueError(f'The fits must be of these pixels, but there are {len(fits)} fits and '
                         f'{tpf.n_cadences} cadences: pass what belongs together.')
    index = range(tpf.n_cadences)[index]
    good = tpf.good_pixels[index]
    rate = np.add(tpf.flux[index], tpf.background[index], dtype=np.float64)
    data = np.where(good, tpf.noise.to_electrons(rate), np.nan)
    model = fits.model_images(index)
    with np.errstate(invalid='ignore'):
        residual = (data - model) / np.sqrt(np.maximum(model, 0.0) + tpf.read_variance)
    if axes is None:
        ny, nx = tpf.shape
        axes = _new_figure((11.0, 1.0 + 3.1 * min(ny / nx, 1.6))).subplots(1, 3)
    brightness = _brightness(tpf.noise.to_rate(data), tpf.noise.to_rate(model))
    largest = max(np.nanmax(np.abs(residual), initial=0.0), 1.0)
    panels = [('Data', tpf.noise.to_rate(data), {'cmap': 'viridis', 'norm': brightness}),
              ('Model', tpf.noise.to_rate(model), {'cmap': 'viridis', 'norm': brightness}),
              ('(Data $-$ model) / noise', residual,
               {'cmap': 'RdBu_r', 'vmin': -largest, 'vmax': largest})]
    for ax, (title, image, style) in zip(axes, panels, strict=True):
        label = r'Standard deviations ($\sigma$)' if 'vmin' in style else f'{RATE} per pixel'
        _draw_image(ax, image, title, label, style)
        _mark_star(ax, tpf, fits, index, 'black' if 'vmin' in style else 'white')
    day = REFERENCE_DATES[tpf.mission]
    axes[0].figure.suptitle(f'{tpf.target}, cadence {tpf.cadenceno[index]}, '
                            f'BJD $-$ {day:.0f} = {tpf.time[index].jd - day:.4f}')
    return np.asarray(axes)


def _new_figure(size):
    """Return a figure that pyplot knows nothing of."""
    return Figure(figsize=size, layout='constrained')


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


def _brightness(data, model):
    """Return a logarithmic scale that shows faint wings, for images in e-/s."""
    both = np.concatenate([data[np.isfinite(data)], model[np.isfinite(model)]])
    brightest = max(both.max(initial=0.0), 1e-6)
    faintest = np.min(both, initial=brightest, where=both > 0)
    return LogNorm(max(faintest, 1e-3 * brightest) * 0.999, brightest)


def _draw_image(ax, image, title, label, style):
    """Draw an image (ny, nx) with its scale."""
    ax.set_facecolor('white')
    ax.patch.set(hatch='////', edgecolor=GREY)
    shown = image
    if 'norm' in style:
        # A logarithm has no place for pixels that read noise took below zero.
        shown = np.maximum(image, style['norm'].vmin)
    cmap = mpl.colormaps[style['cmap']].with_extremes(bad=(0.0, 0.0, 0.0, 0.0))
    mappable = ax.imshow(shown, origin='lower', interpolation='nearest', **{**style, 'cmap': cmap})
    ax.figure.colorbar(mappable, ax=ax, label=label, shrink=0.85)
    ax.set(title=title, xlabel='x, column (pixels)', ylabel='y, row (pixels)')
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.yaxis.get_major_locator().set_params(integer=True)


def _mark_star(ax, tpf, fits, index, color):
    """Mark the fitted position and the pipeline's aperture."""
    inside = np.pad(tpf.pipeline_aperture, 1)
    for axis in (0, 1):
        for y, x in np.argwhere(np.diff(inside.astype(int), axis=axis) != 0):
            edge = ([x - 1.5, x - 0.5], [y - 0.5] * 2) if axis == 0 else (
                [x - 0.5] * 2, [y - 1.5, y - 0.5])
            ax.plot(*edge, color=color, lw=1.2)
    if {'x_0', 'y_0'} <= set(fits.param_names):
        x, y = (fits.params[index, fits.param_names.index(name)] for name in ('x_0', 'y_0'))
        ax.plot(x, y, '+', color=VERMILLION, ms=11.0, mew=2.0)
    ax.set(xlim=(-0.5, tpf.shape[1] - 0.5), ylim=(-0.5, tpf.shape[0] - 0.5))
