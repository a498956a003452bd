# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures of light curves, scenes, signals, PRFs and images; matplotlib is only in here."""

from .blends import plot_blends, plot_precision
from .cadences import plot_cadence
from .guidance import plot_advice, plot_centroid_advice, plot_fit_box
from .light_curves import plot_centroid, plot_light_curve, plot_recovery
from .photometry import plot_photometry
from .prf import plot_prf, plot_prf_positions
from .scenes import plot_scene
from .signals import plot_signal_transfer

__all__ = ['plot_advice', 'plot_blends', 'plot_cadence', 'plot_centroid', 'plot_centroid_advice',
           'plot_fit_box', 'plot_light_curve', 'plot_photometry', 'plot_precision', 'plot_prf',
           'plot_prf_positions', 'plot_recovery', 'plot_scene', 'plot_signal_transfer']
