# Licensed under a 3-clause BSD style license - see LICENSE
"""Thousands of stamps in one call: `fit_stamps` and its answer, `StampFits`."""

from .fit import fit_stamps
from .results import StampFits

__all__ = ['StampFits', 'fit_stamps']
