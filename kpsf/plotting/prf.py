# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures of PRFs: the image, its place on the detector, the calibrated positions."""

import numpy as np
from matplotlib.colors import AsinhNorm
from matplotlib.patches import Rectangle

from ..models import TabulatedPRF
from ..prf import PRFCalibration
from ..prf.calibration import detector_name
from ..prf.detector import DETECTORS
from ..prf.weights import find_centre
from .style import BLUE, GREY, VERMILLION, new_figure

__all__ = ['plot_prf', 'plot_prf_positions']

# Contours as fractions of the peak, each in a colour that shows on what is below.
CONTOURS = {0.001: 'white', 0.01: 'white', 0.1: 'black', 0.5: 'black'}
# Below this fraction of the peak the stretch is linear, so that tails below zero have a place.
LINEAR_FRACTION = 1e-3
SHARE = 'Share of the flux in a pixel'
X_LABEL, Y_LABEL = 'x from the star (pixels)', 'y from the star (pixels)'
# Positions closer than this fraction of their range are in one column or row of panels.
SAME_PLACE = 0.01


def plot_prf(prf, axes=None):
    """Plot a PRF, and where on the detector it is.

    The image has an asinh stretch, contours at 50, 10, 1 and 0.1 % of the
    peak, and the edges of the pixels of a star in the middle of one. The map
    shows the detector, the place of the PRF (a cross), the calibrated
    positions, filled and with their weights where they are used, and the
    triangles (Kepler) or cells (TESS) between them.

    Parameters
    ----------
    prf : TabulatedPRF
        Also `KeplerPRF` or `TessPRF`; others have no map.
    axes : sequence of `~matplotlib.axes.Axes`, optional
        Where: two for image and map, one for the image alone; by default in
        a new figure.

    Returns
    -------
    ndarray of `~matplotlib.axes.Axes`, shape (2,) or (1,)
        Image and map. Their figure is ``axes[0].figure``.

    Raises
    ------
    TypeError
        If the model is no PRF image.
    ValueError
        If there are more axes than there is to draw.

    Examples
    --------
    >>> from kpsf import KeplerPRF
    >>> from kpsf.plotting import plot_prf
    >>> from kpsf.simulate import simulate_kepler_prf
    >>> path = simulate_kepler_prf('kplr07.4_2011265_prf.fits', channel=20)
    >>> image, position = plot_prf(KeplerPRF.from_file(path, column=300, row=700))
    >>> image.figure.savefig('prf.png')
    """
    if not isinstance(prf, TabulatedPRF):
        msg = (f'plot_prf needs a TabulatedPRF, KeplerPRF or TessPRF, but found '
               f'{type(prf).__name__}: make one of an ImagePSF with from_image_psf, or '
               'of samples of another model with TabulatedPRF.')
        raise TypeError(msg)
    calibration = getattr(prf, 'calibration', None)
    n_panels = 1 if calibration is None else 2
    if axes is None:
        axes = new_figure((5.2 * n_panels, 4.8)).subplots(1, n_panels)
    axes = np.atleast_1d(axes)
    if len(axes) > n_panels:
        msg = (f'A {type(prf).__name__} has {n_panels} panel, but there are {len(axes)} axes: '
               'pass one, or a PRF that knows its detector.')
        raise ValueError(msg)
    mappable = _draw_prf(axes[0], *_image_and_extent(prf))
    _draw_colorbar(mappable, axes[0], shrink=0.85)
    fractions = ', '.join(f'{100 * fraction:g}' for fraction in reversed(CONTOURS))
    axes[0].set(title=f'{type(prf).__name__}\ncontours at {fractions} % of the peak',
                xlabel=X_LABEL, ylabel=Y_LABEL)
    if len(axes) == 2:
        _draw_map(axes[1], prf)
    for ax in axes:
        ax.title.set_size('medium')
    return axes


def plot_prf_positions(prf, figure=None):
    """Plot the calibrated positions of a detector side by side.

    They lie as on the detector, have equal flux and the same stretch, and
    have contours at 50, 10, 1 and 0.1 % of their own peak.

    Parameters
    ----------
    prf : KeplerPRF, TessPRF or PRFCalibration
        The weights of a model are in the titles.
    figure : `~matplotlib.figure.Figure`, optional
        Where, an empty one; by default a new figure.

    Returns
    -------
    ndarray of `~matplotlib.axes.Axes`, shape (k,)
        In the order of the calibration: five for Kepler, one for each file
        of TESS.

    Raises
    ------
    TypeError
        If the PRF has no calibrated positions.
    """
    calibration = getattr(prf, 'calibration', prf)
    if not isinstance(calibration, PRFCalibration):
        msg = ('plot_prf_positions needs a KeplerPRF, TessPRF or PRFCalibration, but found '
               f'{type(prf).__name__}: plot_prf shows other images.')
        raise TypeError(msg)
    places, (n_rows, n_columns) = _places(calibration.columns, calibration.rows)
    if figure is None:
        figure = new_figure((1.5 + 1.9 * n_columns, 0.8 + 2.0 * n_rows))
    grid = figure.add_gridspec(n_rows, n_columns)
    axes = np.array([figure.add_subplot(grid[place]) for place in places])
    images, extent = _images_and_extent(calibration)
    norm = _stretch(images)
    for ax, image, title in zip(axes, images, _titles(calibration, prf)):
        mappable = _draw_prf(ax, image, extent, norm)
        ax.set_title(title, fontsize='small')
        ax.label_outer()
    figure.supxlabel(X_LABEL, fontsize='medium')
    figure.supylabel(Y_LABEL, fontsize='medium')
    figure.suptitle(f'{calibration.mission} {detector_name(calibration.detector)}')
    _draw_colorbar(mappable, list(axes), shrink=0.7, aspect=30)
    return axes


def _image_and_extent(prf):
    """Return a PRF of flux 1 as an image, scaled and rotated, and its edges in pixels."""
    if prf.is_upright:
        return prf.data, _extent(prf.shape, prf.spacing, prf.origin)
    centred = prf.copy()
    centred.flux, centred.x_0, centred.y_0 = 1.0, 0.0, 0.0
    box, places, edges = centred.bounding_box, [], []
    for name, step in zip(('x', 'y'), prf.spacing):
        low, high = box[name]
        places.append(np.arange(low + step / 2, high, step))
        edges += [low, places[-1][-1] + step / 2]
    return centred(*np.meshgrid(*places)), tuple(edges)


def _extent(shape, spacing, origin):
    """Return left, right, bottom and top edge of an image in pixels from the star."""
    edges = []
    for size, step, middle in zip(shape[::-1], spacing, origin):
        edges += [(-0.5 - middle) * step, (size - 0.5 - middle) * step]
    return tuple(edges)


def _stretch(images):
    """Return an asinh scale for images, on which tails below zero show too."""
    peak = images.max()
    return AsinhNorm(LINEAR_FRACTION * peak, vmin=min(images.min(), 0.0), vmax=peak)


def _draw_prf(ax, image, extent, norm=None):
    """Draw an image of a PRF with contours, the star and the edges of pixels."""
    mappable = ax.imshow(image, origin='lower', extent=extent, cmap='viridis',
                         norm=_stretch(image) if norm is None else norm)
    across, along = extent[:2], extent[2:]
    for lines, (low, high), span in ((ax.vlines, across, along), (ax.hlines, along, across)):
        edges = np.arange(np.ceil(low - 0.5) + 0.5, high, 1.0)
        lines(edges, *span, colors='white', lw=0.4, alpha=0.2)
    y, x = (low + (np.arange(n) + 0.5) * (high - low) / n
            for n, (low, high) in zip(image.shape, (along, across)))
    ax.contour(x, y, image, [fraction * image.max() for fraction in CONTOURS],
               colors=list(CONTOURS.values()), linewidths=0.7)
    ax.plot(0.0, 0.0, '+', color=VERMILLION, ms=6.0, mew=1.2)
    ax.set(xlim=across, ylim=along)
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    return mappable


def _draw_colorbar(mappable, ax, **options):
    """Draw the scale of an image, with zero and the powers of ten that the asinh keeps apart."""
    figure = (ax if not isinstance(ax, list) else ax[0]).figure
    lowest, highest = np.log10([mappable.norm.linear_width, mappable.norm.vmax])
    ticks = [0.0, *10.0 ** np.arange(np.ceil(lowest), np.floor(highest) + 1)]
    figure.colorbar(mappable, ax=ax, ticks=ticks, label=SHARE, **options)


def _draw_map(ax, prf):
    """Draw the detector, the calibrated positions and the place of a PRF."""
    calibration = prf.calibration
    left, right, bottom, top = DETECTORS[calibration.mission]
    ax.add_patch(Rectangle((left - 0.5, bottom - 0.5), right - left + 1, top - bottom + 1,
                           fc='none', ec='black', lw=1.2))
    columns, rows = calibration.columns, calibration.rows
    for first, second in _edges(columns, rows):
        ax.plot(columns[[first, second]], rows[[first, second]], '-', color=GREY, lw=0.8)
    weights = calibration.weights(prf.column, prf.row, prf.interpolate)
    ax.scatter(columns, rows, s=36.0, fc=np.where(weights > 0, BLUE, 'white'), ec=BLUE, zorder=3)
    _write_weights(ax, prf, weights)
    ax.plot(prf.column, prf.row, 'P', color=VERMILLION, mec='white', ms=10.0, zorder=4)
    clamped = calibration.clamp(prf.column, prf.row)
    if clamped != (prf.column, prf.row):
        ax.annotate('', clamped, (prf.column, prf.row), zorder=4,
                    arrowprops={'arrowstyle': '->', 'color': VERMILLION})
    margin = 0.2 * (right - left)
    ax.set(aspect='equal', xlim=(left - margin, right + margin),
           ylim=(bottom - margin, top + margin), xlabel='Column on the detector (pixels)',
           ylabel='Row on the detector (pixels)',
           title=f'{detector_name(prf.detector)}, {prf.interpolate}\n'
                 f'at column {prf.column:.1f}, row {prf.row:.1f}')
    ax.locator_params(nbins=6)


def _write_weights(ax, prf, weights):
    """Write the weights that are not 0 beside their positions, away from the PRF's place."""
    for column, row, weight in zip(prf.calibration.columns, prf.calibration.rows, weights):
        if weight > 0:
            right, up = column >= prf.column, row >= prf.row
            ax.annotate(f'{weight:.2f}', (column, row), (7 if right else -7, 5 if up else -5),
                        textcoords='offset points', fontsize='small', zorder=5,
                        ha='left' if right else 'right', va='bottom' if up else 'top',
                        bbox={'fc': 'white', 'ec': 'none', 'alpha': 0.8, 'pad': 0.8})


def _edges(columns, rows):
    """Return pairs of positions that are joined: sides of triangles or of cells."""
    try:
        centre = find_centre(columns, rows)
    except ValueError:
        centre = None
    if centre is not None:
        corners = np.delete(np.arange(len(columns)), centre)
        angles = np.arctan2(rows[corners] - rows[centre], columns[corners] - columns[centre])
        corners = corners[np.argsort(angles)]
        return [*zip(corners, np.roll(corners, -1)), *((centre, corner) for corner in corners)]
    pairs = []
    for across, along in ((columns, rows), (rows, columns)):
        for value in np.unique(across):
            line = np.flatnonzero(across == value)
            line = line[np.argsort(along[line])]
            pairs += zip(line[:-1], line[1:])
    return pairs


def _places(columns, rows):
    """Return row and column of each panel, the highest row on top, and their numbers."""
    x, y = _ranks(columns), _ranks(rows)
    return list(zip(y.max() - y, x)), (y.max() + 1, x.max() + 1)


def _ranks(values):
    """Return the rank of each value (k,), the same for those that are nearly equal."""
    order = np.argsort(values, kind='stable')
    steps = np.diff(values[order]) > SAME_PLACE * max(np.ptp(values), 1.0)
    ranks = np.empty(len(values), dtype=int)
    ranks[order] = np.concatenate([[0], np.cumsum(steps)])
    return ranks


def _images_and_extent(calibration):
    """Return the calibrated images (k, ny, nx), of flux 1 each, and their edges in pixels."""
    sums = calibration.images.sum(axis=(1, 2), keepdims=True)
    spacing = (calibration.spacing, calibration.spacing)
    return (calibration.images / (sums * calibration.spacing**2),
            _extent(calibration.images.shape[1:], spacing, calibration.origin))


def _titles(calibration, prf):
    """Return the positions in words, with the weights in a PRF if it is one."""
    titles = [f'column {column:g}, row {row:g}'
              for column, row in zip(calibration.columns, calibration.rows)]
    if prf is calibration:
        return titles
    weights = calibration.weights(prf.column, prf.row, prf.interpolate)
    return [f'{title}\nweight {weight:.2f}' if weight > 0 else title
            for title, weight in zip(titles, weights)]
