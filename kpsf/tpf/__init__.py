# Licensed under a 3-clause BSD style license - see LICENSE
"""Target pixel files: Kepler, K2 and TESS pixels as electrons with their noise."""

from .pixels import TargetPixels
from .read import read_tpf

__all__ = ['TargetPixels', 'read_tpf']
