# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures of single cadences: data, model and what is left."""

import numpy as np
from matplotlib.colors import LogNorm

from ..stamps import StampFits
from ..tpf.missions import reference_date
from .style import RATE, VERMILLION, draw_image, new_figure

__all__ = ['plot_cadence']


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
    if not -tpf.n_cadences <= index < tpf.n_cadences:
        raise IndexError(f'index must be that of one of {tpf.n_cadences} cadences, but it is '
                         f'{index}: count from 0 to {tpf.n_cadences - 1}; '
                         'np.flatnonzero(tpf.cadenceno == number) finds that of a cadence number.')
    index = range(tpf.n_cadences)[index]
    good = tpf.good_pixels[index]
    rate = np.add(tpf.flux[index], tpf.background[index], dtype=np.float64)
    data = np.where(good, tpf.noise.to_electrons(rate), np.nan)
    model = fits.model_images(index)
    with np.errstate(invalid='ignore'):
        residual = (data - model) / np.sqrt(np.maximum(model, 0.0) + tpf.read_variance)
    if axes is None:
        ny, nx = tpf.shape
        axes = new_figure((8.6, 0.8 + 2.0 * min(ny / nx, 1.6))).subplots(1, 3)
    brightness = _brightness(tpf.noise.to_rate(data), tpf.noise.to_rate(model))
    largest = max(np.nanmax(np.abs(residual), initial=0.0), 1.0)
    panels = [('Data', tpf.noise.to_rate(data), {'cmap': 'viridis', 'norm': brightness}),
              ('Model', tpf.noise.to_rate(model), {'cmap': 'viridis', 'norm': brightness}),
              ('Difference / noise', residual,
               {'cmap': 'RdBu_r', 'vmin': -largest, 'vmax': largest})]
    for ax, (title, image, style) in zip(axes, panels, strict=True):
        label = r'Standard deviations ($\sigma$)' if 'vmin' in style else f'{RATE} per pixel'
        draw_image(ax, image, title, label, style)
        _mark_star(ax, tpf, fits, index, 'black' if 'vmin' in style else 'white')
    day = reference_date(tpf.mission)
    axes[0].figure.suptitle(f'{tpf.target}, cadence {tpf.cadenceno[index]}, '
                            f'BJD $-$ {day:.0f} = {tpf.time[index].jd - day:.4f}')
    return np.asarray(axes)


def _brightness(data, model):
    """Return a logarithmic scale that shows faint wings, for images in e-/s."""
    both = np.concatenate([data[np.isfinite(data)], model[np.isfinite(model)]])
    brightest = max(both.max(initial=0.0), 1e-6)
    faintest = np.min(both, initial=brightest, where=both > 0)
    return LogNorm(max(faintest, 1e-3 * brightest) * 0.999, brightest)


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
