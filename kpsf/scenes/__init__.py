# Licensed under a 3-clause BSD style license - see LICENSE
"""Scenes: stars that share a PSF, a background and a motion, fitted together."""

from .scene import Scene
from .stars import find_stars, query_gaia

__all__ = ['Scene', 'find_stars', 'query_gaia']
