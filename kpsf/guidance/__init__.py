# Licensed under a 3-clause BSD style license - see LICENSE
"""Guidance: normalisation, starting values, centroids, fit boxes, and what a fit is worth."""

from ..normalization import (
    Normalization,
    amplitude_to_flux,
    describe_normalization,
    flux_to_amplitude,
    normalize_psf,
)
from .advice import Advice, advise
from .centroid import CentroidAdvice, advise_centroid
from .diagnosis import Diagnosis, Problem, diagnose
from .fit_box import FitBoxAdvice, suggest_fit_shape
from .locate import locate_source

__all__ = ['Advice', 'CentroidAdvice', 'Diagnosis', 'FitBoxAdvice', 'Normalization', 'Problem',
           'advise', 'advise_centroid', 'amplitude_to_flux', 'describe_normalization', 'diagnose',
           'flux_to_amplitude', 'locate_source', 'normalize_psf', 'suggest_fit_shape']
