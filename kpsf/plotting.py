# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures of light curves, single cadences and centroids; the only module with matplotlib."""

import numpy as np
from matplotlib.figure import Figure

from .flags import decode_flags
from .stamps import StampFits

__all__ = ['plot_cadence', 'plot_centroid', 'plot_light_curve', 'plot_recovery']

# Okabe & Ito's palette, which the colour-blind tell apart.
BLACK, BLUE, VERMILLION, GREY = '#000000', '#0072B2', '#D55E00', '#999999'
KEPLER_DAY, TESS_DAY = 2454833, 2457000


def plot_light_curve(light_curve, ax=None):
    """Plot flux against time, with errors and flags.

    Flagged cadences are open symbols; those that lie outside the range of
    the others are drawn as arrows at the edge, so that one bad fit does not
    hide the light curve. Cadences without a fit are ticks at the bottom.

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
    ax = _new_axes((8.0, 3.6)) if ax is None else ax
    days, time_label = _days(light_curve)
    flux, error = light_curve['flux'].value, light_curve['flux_err'].value
    _draw_series(ax, days, flux, error, light_curve['flags'])
    ax.set(xlabel=time_label, ylabel='Flux (e$^-$ s$^{-1}$)', title=_title(light_curve))
    return ax
