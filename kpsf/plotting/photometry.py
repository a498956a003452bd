# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures of the stars of an image: where they are, and what is left without them."""

import warnings

import numpy as np
from astropy.utils.exceptions import AstropyUserWarning
from matplotlib.colors import AsinhNorm
from matplotlib.transforms import ScaledTranslation
from scipy.ndimage import uniform_filter

from ..photometry.image import read_image
from ..photometry.results import FLAGS
from ..stamps.boxes import Boxes
from .style import VERMILLION, draw_image, new_figure

__all__ = ['plot_photometry']

# Percentiles of the image between which it has colours, and of the residuals.
DARKEST, BRIGHTEST, LARGEST = 0.5, 99.8, 99.9
# The residuals have colours at least up to this many standard deviations.
LEAST_SIGMA = 4.0
N_TICKS = 6
# Longest side of an image of which every pixel is drawn.
N_SHARP = 500
CLIP_SIGMA, N_CLIPS = 5.0, 4


def plot_photometry(photometry, data, axes=None, *, mask=None, psf_shape=None, unit=None):
    """Plot an image with the stars that were fitted, and what is left without them.

    Circles are fitted stars; crosses are those with a flag, where the fit
    ended, or at the start if there was no fit. Masked pixels are hatched.
    Outside of the boxes that were fitted, the background is measured in the
    image.

    Parameters
    ----------
    photometry : PoissonPSFPhotometry
        What was called with the image.
    data : array_like, `~astropy.units.Quantity` or `~astropy.nddata.NDData`, shape (ny, nx)
        The image.
    axes : sequence of two `~matplotlib.axes.Axes`, optional
        Where; by default in a new figure.
    mask : array_like of bool, shape (ny, nx), optional
        True for pixels that were left out.
    psf_shape : int or (int, int), optional
        Size of the box in which each star is drawn, as for
        `~kpsf.PoissonPSFPhotometry.make_model_image`.
    unit : str or `~astropy.units.UnitBase`, optional
        What to call the unit of the image; by default that of the data.

    Returns
    -------
    ndarray of `~matplotlib.axes.Axes`, shape (2,)
        Image, and data minus model in standard deviations of what the model
        expects. Their figure is ``axes[0].figure``.

    Raises
    ------
    TypeError
        If the data are not real numbers.
    ValueError
        If there are no results, or the background of the photometry is
        ``'error'``: there is no model of the pixels then.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> from photutils.psf import CircularGaussianPRF
    >>> from kpsf import PoissonPSFPhotometry
    >>> from kpsf.plotting import plot_photometry
    >>> psf = CircularGaussianPRF(fwhm=2.0)
    >>> y, x = np.mgrid[:31, :31]
    >>> mean = psf.evaluate(x, y, 900.0, 14.8, 15.3, 2.0) + 4.0
    >>> counts = np.random.default_rng(1).poisson(mean)
    >>> phot = PoissonPSFPhotometry(psf, (11, 11))
    >>> table = phot(counts, init_params=QTable({'x': [15.0], 'y': [15.0]}))
    >>> axes = plot_photometry(phot, counts)
    >>> axes[0].figure.savefig('stars.png')
    """
    image = _read(photometry, data, mask)
    model, in_boxes = _model(photometry, image, psf_shape)
    residual = _residual(photometry, image, model)
    if axes is None:
        ny, nx = image.data.shape
        axes = new_figure(_figure_size(ny / nx)).subplots(1, 2)
    left, right = axes
    unit = image.unit if unit is None else unit
    _draw_data(left, image, f'{unit} per pixel' if unit is not None and str(unit) else
               'Value of the pixel')
    _draw_stars(left, photometry.results)
    _draw_residual(right, residual, in_boxes)
    for ax in axes:
        if max(image.data.shape) > N_SHARP:
            # Several pixels share one of the figure: their values are averaged, not the colours.
            ax.images[0].set(interpolation='auto', interpolation_stage='data')
    return np.asarray(axes)


def _figure_size(ratio):
    """Return width and height of a figure of two images whose height is ``ratio`` of the width."""
    return (9.0, 2.0 + 3.2 * min(max(ratio, 0.3), 1.5))


def _read(photometry, data, mask):
    """Return the `Image` of a photometry that has results."""
    if photometry.results is None:
        raise ValueError('A photometry with results is needed, but there are none: call it with '
                         'the image first.')
    if isinstance(photometry.background, str) and photometry.background == 'error':
        raise ValueError("A photometry with a model of the pixels is needed, but with background="
                         "'error' there is none for the background: pass what was subtracted.")
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', AstropyUserWarning)
        return read_image(data, mask, None, photometry.background, photometry.gain,
                          photometry.read_noise)


def _model(photometry, image, psf_shape):
    """Return what stars and background are expected to be, and which pixels were fitted."""
    stars = photometry.make_model_image(image.data.shape, psf_shape=psf_shape)
    stars = getattr(stars, 'value', stars)
    total, n_boxes = _fitted_background(photometry, image.data.shape)
    in_boxes = n_boxes > 0
    if not isinstance(photometry.background, str):
        return stars, in_boxes
    between = np.zeros_like(total)
    if not in_boxes.all():
        between = _measured_background(image.data - stars, image.mask, photometry)
    with np.errstate(divide='ignore', invalid='ignore'):
        return stars + np.where(in_boxes, total / n_boxes, between), in_boxes


def _fitted_background(photometry, shape):
    """Return sum and number of the backgrounds that were fitted to each pixel, (ny, nx) each."""
    results = photometry.results
    level, x, y = (_numbers(results[name]) for name in ('background_fit', 'x_init', 'y_init'))
    level = np.nan_to_num(level) + np.nan_to_num(_numbers(results['local_bkg']))
    rows = np.flatnonzero(np.isfinite(_numbers(results['flux_fit']))
                          & (_numbers(results['flags']) & FLAGS['no_convergence'] == 0))
    boxes = Boxes.around(x[rows], y[rows], photometry.fit_shape, shape)
    columns, lines = boxes.places()
    inside = (columns >= 0) & (lines >= 0) & (columns < shape[1]) & (lines < shape[0])
    flat = (lines * shape[1] + columns)[inside]
    levels = np.broadcast_to(level[rows, np.newaxis], inside.shape)[inside]
    return tuple(np.bincount(flat, weights, np.prod(shape)).reshape(shape)
                 for weights in (levels, np.ones(len(flat))))


def _measured_background(rest, mask, photometry):
    """Return the mean around each pixel of an image without its stars, (ny, nx).

    Pixels far above it, of stars that nobody fitted, are left out.
    """
    size = photometry.fit_shape
    used = ~mask
    for _ in range(N_CLIPS):
        share = uniform_filter(used.astype(float), size, mode='constant')
        total = uniform_filter(np.where(used, rest, 0.0), size, mode='constant')
        mean = np.where(share > 0, total / np.maximum(share, 1e-9), 0.0)
        noise = np.sqrt(photometry.gain * np.maximum(mean, 0.0)
                        + max(photometry.read_noise**2, 1.0)) / photometry.gain
        used = ~mask & ~(rest > mean + CLIP_SIGMA * noise)
    return mean


def _residual(photometry, image, model):
    """Return data minus model in standard deviations, NaN where nothing is expected, (ny, nx)."""
    gain = photometry.gain
    variance = gain * np.maximum(model + image.subtracted, 0.0) + photometry.read_noise**2
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.where(variance > 0, gain * (image.data - model) / np.sqrt(variance), np.nan)


def _numbers(column):
    """Return a column without its unit."""
    return np.asarray(getattr(column, 'value', column))


def _draw_data(ax, image, label):
    """Draw an image with an asinh stretch between percentiles."""
    values = image.data[np.isfinite(image.data)]
    if not values.size:
        values = np.zeros(1)
    darkest, middle, brightest = np.percentile(values, [DARKEST, 50.0, BRIGHTEST])
    width = 1.4826 * np.median(np.abs(values - middle))
    if not brightest > darkest:
        darkest, brightest = values.min(), values.max() + (np.ptp(values) == 0)
    norm = AsinhNorm(max(3.0 * width, 0.02 * (brightest - darkest)), vmin=darkest, vmax=brightest)
    ny, nx = image.data.shape
    draw_image(ax, image.data, f'Data, {nx} $\\times$ {ny} pixels', label,
               {'cmap': 'viridis', 'norm': norm})
    ticks = norm.inverse(np.linspace(0.0, 1.0, N_TICKS))
    ax.images[0].colorbar.set_ticks(ticks, labels=[f'{float(f"{tick:.3g}"):g}' for tick in ticks])


def _draw_stars(ax, results):
    """Draw circles around stars, crosses on those with a flag, and count them below."""
    place = np.column_stack([_numbers(results['x_fit']), _numbers(results['y_fit'])])
    start = np.column_stack([_numbers(results['x_init']), _numbers(results['y_init'])])
    fitted = np.isfinite(place).all(axis=1)
    place = np.where(fitted[:, np.newaxis], place, start)
    flags = _numbers(results['flags'])
    size = float(np.clip(90.0 * (30.0 / max(len(results), 1))**0.5, 6.0, 90.0))
    limits = ax.get_xlim(), ax.get_ylim()
    good = flags == 0
    if good.any():
        ax.scatter(*place[good].T, s=size, fc='none', ec='white', lw=0.9 if size > 20 else 0.5,
                   label=f'fitted ({good.sum()})')
    if not good.all():
        ax.scatter(*place[~good].T, s=size, marker='x', color=VERMILLION, lw=1.2,
                   label=f'flagged ({(~good).sum()})\n{_flag_names(flags)}')
    ax.set(xlim=limits[0], ylim=limits[1])
    stars = 'star' if len(results) == 1 else 'stars'
    ax.set_title(f'{len(results)} {stars}, {(~good).sum()} flagged')
    _draw_legend(ax)


def _flag_names(flags):
    """Return the names of flags with how often each is set, the most frequent first."""
    counts = {name: np.count_nonzero(flags & bit) for name, bit in FLAGS.items()}
    ranked = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    shown = ', '.join(f'{name} {counts[name]}' for name in ranked[:2])
    return f'{shown}, ...' if len(ranked) > 2 else shown


def _draw_legend(ax):
    """Draw a legend below the axes, on the dark of the image so that white shows."""
    if ax.get_legend_handles_labels()[0]:
        below = ScaledTranslation(0.0, -0.5, ax.figure.dpi_scale_trans)
        ax.legend(loc='upper center', bbox_to_anchor=(0.5, 0.0), borderaxespad=0.0,
                  bbox_transform=ax.transAxes + below, fontsize='small', frameon=True,
                  facecolor='#3b528b', labelcolor='white', framealpha=1.0)


def _draw_residual(ax, residual, in_boxes):
    """Draw residuals in standard deviations on a symmetric scale."""
    finite, fitted = (residual[used & np.isfinite(residual)] for used in (True, in_boxes))
    largest = max(np.percentile(np.abs(finite), LARGEST), LEAST_SIGMA) if finite.size else 1.0
    spread = (f'standard deviation {fitted.std():.3g} in the boxes'
              if fitted.size else 'nothing was fitted')
    draw_image(ax, residual, f'(Data $-$ model) / noise\n{spread}',
               r'Standard deviations ($\sigma$)',
               {'cmap': 'RdBu_r', 'vmin': -largest, 'vmax': largest})
    ax.title.set_size('medium')
