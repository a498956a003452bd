# Licensed under a 3-clause BSD style license - see LICENSE
"""Which kernel serves which model."""

from functools import partial

import numpy as np

from .._kernels.broadcast import BroadcastLikelihood
from .._kernels.gaussian import GaussianLikelihood
from .._kernels.tabulated import TabulatedLikelihood
from ..models import EllipticalGaussianPSF, TabulatedPRF
from .model_functions import StampModel

__all__ = ['chunk_size', 'has_gaussian_kernel', 'has_tabulated_kernel', 'kernel_of']

# Stamps that one thread works on at a time: enough to hide the cost of
# Python, few enough for their 7 x 7 matrices not to need memory that shows.
_CHUNK = 3072
# The more stars of a table there are, the more are in one cell.
_TABULATED_CHUNK = 6144


def kernel_of(model, shape, moving, init):
    """Return what makes the likelihood of stamps, by ``kernel(counts, offset=, weights=)``.

    Parameters
    ----------
    model : astropy.modeling.Model
    shape : (ny, nx)
    moving : sequence of int
        Indices of the fitted parameters, the background's after the model's.
    init : dict
        Given values by name; those of parameters that are not fitted are held.
    """
    if has_gaussian_kernel(model):
        return partial(GaussianLikelihood, shape=shape)
    n_params = len(model.param_names) + 1
    if has_tabulated_kernel(model, moving, init):
        return partial(TabulatedLikelihood, shape=shape, table=model.table, n_params=n_params)
    stamp_model = StampModel(model, shape)
    return partial(BroadcastLikelihood, function=stamp_model, n_params=n_params,
                   derivative=stamp_model.derivative,
                   moving=[j for j in moving if j < n_params - 1])


def chunk_size(kernel):
    """Return how many stamps a thread gets at a time."""
    return _TABULATED_CHUNK if kernel.func is TabulatedLikelihood else _CHUNK


def has_gaussian_kernel(model):
    """Say whether a model is the one that the Gaussian kernel knows."""
    return type(model) is EllipticalGaussianPSF


def has_tabulated_kernel(model, moving, init):
    """Say whether a model is a tabulated PRF that stays upright, and zero out of its support."""
    if getattr(type(model), 'evaluate', None) is not TabulatedPRF.evaluate or model.fill_value:
        return False
    upright = {'x_scale': 1.0, 'y_scale': 1.0, 'theta': 0.0}
    return all(model.param_names.index(name) not in moving
               and np.all(init.get(name, getattr(model, name).value) == value)
               for name, value in upright.items())
