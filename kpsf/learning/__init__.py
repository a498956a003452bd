# Licensed under a 3-clause BSD style license - see LICENSE
"""Learning the PRF itself from the stars of many stamps."""

from .learn import learn_psf
from .results import LearnedPSF

__all__ = ['LearnedPSF', 'learn_psf']
