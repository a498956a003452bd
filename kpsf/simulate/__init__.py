# Licensed under a 3-clause BSD style license - see LICENSE
"""Simulated files whose truth is known."""

from .calibration import simulate_kepler_prf, simulate_tess_prf
from .pixels import simulate_tpf, tabby_like_dips

__all__ = ['simulate_kepler_prf', 'simulate_tess_prf', 'simulate_tpf', 'tabby_like_dips']
