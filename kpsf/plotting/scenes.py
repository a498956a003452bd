# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures of scenes: the mean image, its model, and what is left on average and over time."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.patheffects import withStroke

from ..lightcurve import SceneLightCurves
from ..scenes.pixels import as_target_pixels
from .style import RATE, VERMILLION, draw_image, new_figure

__all__ = ['plot_scene']

# Longer names are given by their end, in which those of a catalogue differ.
LONGEST_NAME, END_OF_NAME = 14, 9
# Of the brightest pixel: what is fainter is drawn as this.
FAINTEST = 1e-3


def plot_scene(tpfs, curves, axes=None):
    """Plot a scene: its mean image, the model with its stars, and the residuals.

    Crosses mark the stars that have a light curve, with their names, and
    circles those that were taken to be constant. Places without data are
    hatched.

    Parameters
    ----------
    tpfs : TargetPixels, what `~kpsf.read_tpf` reads, or a list of these
        The pixels of the scene.
    curves : LightCurve or SceneLightCurves
        What `~kpsf.extract_light_curve` returned for them, with a scene or
        ``psf='empirical'``.
    axes : sequence of four `~matplotlib.axes.Axes`, optional
        Where; by default in a new figure.

    Returns
    -------
    ndarray of `~matplotlib.axes.Axes`, shape (4,)
        Data and model, means over the cadences in e-/s per pixel; the mean
        of their difference in standard deviations of one cadence; and the
        scatter of the difference over time, divided by the noise: 1 where
        photons and read noise explain it. A PSF that was learned from the
        series explains the mean, whatever is in it: then a star that is
        missing shows in the scatter, if it varies.

    Raises
    ------
    TypeError
        If ``tpfs`` are nothing that `~kpsf.read_tpf` reads.
    ValueError
        If the pixels are not those of the light curves, or these do not have
        the fit any more.
    """
    fit, pixels = curves.scene_fit
    _require_same(as_target_pixels(tpfs), pixels)
    data, model = (pixels.mean(values, fit.used) for values in (pixels.rate, fit.mean))
    residual = np.where(fit.used, (pixels.rate - fit.mean) / np.sqrt(fit.variance), np.nan)
    left, scatter = np.nanmean(residual, axis=0), np.nanstd(residual, axis=0)
    if axes is None:
        width, height = (np.ptp(places) + 1 for places in (pixels.x, pixels.y))
        axes = new_figure((9.0, 1.2 + 6.4 * np.clip(height / width, 0.4, 1.6))).subplots(2, 2)
    axes = np.ravel(axes)
    brightest = max(data.max(), model.max(), 1e-6)
    faintest = np.clip(min(data.min(), model.min()), FAINTEST * brightest, 0.5 * brightest)
    brightness = {'cmap': 'viridis', 'norm': LogNorm(faintest, brightest)}
    largest = max(np.abs(left).max(), 1.0)
    panels = [('Data', data, f'{RATE} per pixel', brightness),
              ('Model', model, f'{RATE} per pixel', brightness),
              ('Mean of data $-$ model', left, r'Noise of a cadence ($\sigma$)',
               {'cmap': 'RdBu_r', 'vmin': -largest, 'vmax': largest}),
              ('Scatter of data $-$ model', scatter, 'Photon and read noise',
               {'cmap': 'magma', 'vmin': 0.0, 'vmax': max(scatter.max(), 2.0)})]
    for ax, (title, values, label, style) in zip(axes, panels, strict=True):
        image, extent = _as_image(pixels, values)
        draw_image(ax, image, title, label, {**style, 'extent': extent})
        _mark_stars(ax, curves, fit, extent, with_names=title == 'Model')
    axes[0].figure.suptitle(f'{pixels.first.target}, {pixels.n_cadences} cadences')
    return axes


def _require_same(tpfs, pixels):
    """Raise unless these are the pixels that a scene was fitted to."""
    passed, fitted = ([(tpf.target, tpf.column, tpf.row, tpf.n_cadences) for tpf in found]
                      for found in (tpfs, pixels.tpfs))
    if passed != fitted:
        stamps = [', '.join(f'{target} ({n} cadences)' for target, _, _, n in found)
                  for found in (passed, fitted)]
        raise ValueError(f'The light curves must be of these pixels, {stamps[0]}, but they are '
                         f'of {stamps[1]}: pass what belongs together.')


def _as_image(pixels, values):
    """Return values (p,) as an image, NaN where there is no pixel, and its edges."""
    x, y = (np.round(places).astype(int) for places in (pixels.x, pixels.y))
    image = np.full((np.ptp(y) + 1, np.ptp(x) + 1), np.nan)
    image[y - y.min(), x - x.min()] = values
    return image, (x.min() - 0.5, x.max() + 0.5, y.min() - 0.5, y.max() + 0.5)


def _mark_stars(ax, curves, fit, extent, with_names):
    """Mark the stars, and perhaps write their names."""
    names = curves.names if isinstance(curves, SceneLightCurves) else [curves.meta['star']]
    x, y, n_free = fit.reference.x, fit.reference.y, len(names)
    ax.plot(x[:n_free], y[:n_free], '+', color=VERMILLION, ms=9.0, mew=1.8)
    ax.plot(x[n_free:], y[n_free:], 'o', mfc='none', mec=VERMILLION, ms=7.0, mew=1.4)
    ax.set(xlim=extent[:2], ylim=extent[2:])
    if not with_names:
        return
    # Outwards, where there is room between the stars and the edge.
    edges = extent[0] + 0.25 * (extent[1] - extent[0]), extent[1] - 0.25 * (extent[1] - extent[0])
    for name, star_x, star_y in zip(names, x, y):
        is_left = star_x > edges[0] and (star_x < x.mean() or star_x > edges[1])
        offset = -7 if is_left else 7, 7 if star_y >= y.mean() else -7
        ax.annotate(_short(name), (star_x, star_y), offset, textcoords='offset points',
                    ha='right' if is_left else 'left', va='center', color='white',
                    annotation_clip=True,
                    path_effects=[withStroke(linewidth=1.5, foreground='black')])


def _short(name):
    """Return a name for which there is room."""
    return name if len(name) <= LONGEST_NAME else f'\N{HORIZONTAL ELLIPSIS}{name[-END_OF_NAME:]}'
