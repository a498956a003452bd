# Licensed under a 3-clause BSD style license - see LICENSE
"""What all figures have in common: colours, images and names of axes."""

from contextlib import contextmanager
from contextvars import ContextVar

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

__all__ = ['BLUE', 'GREY', 'RATE', 'VERMILLION', 'draw_image', 'figures_for_files', 'new_figure']

_for_files = ContextVar('for_files', default=False)

# Of Okabe & Ito's palette, which the colour-blind tell apart.
BLUE = '#0072B2'
VERMILLION = '#D55E00'
GREY = '#999999'
RATE = 'e$^-$ s$^{-1}$'


def new_figure(size):
    """Return a figure: pyplot's, which notebooks and `plt.show` show, or one for a file."""
    if _for_files.get():
        return Figure(figsize=size, layout='constrained')
    # Here, so that a command that writes a figure needs no screen and no toolkit for windows.
    from matplotlib import pyplot
    return pyplot.figure(figsize=size, layout='constrained')


@contextmanager
def figures_for_files():
    """Let new figures be none of pyplot's: they need no screen, and go when nobody holds them."""
    token = _for_files.set(True)
    try:
        yield
    finally:
        _for_files.reset(token)


def draw_image(ax, image, title, label, style):
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
