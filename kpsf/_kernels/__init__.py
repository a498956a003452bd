# Licensed under a 3-clause BSD style license - see LICENSE
"""Array kernels: float64 in, float64 out, unitless, without state, checks or warnings."""
