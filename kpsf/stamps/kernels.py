# Licensed under a 3-clause BSD style license - see LICENSE
"""Which kernel serves which model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from .._kernels.broadcast import BroadcastLikelihood
from .._kernels.gaussian import GaussianLikelihood
from .._kernels.tabulated import PhaseRuns, TabulatedLikelihood
from ..models import EllipticalGaussianPSF, TabulatedPRF
from .model_functions import StampModel

__all__ = ['Kernel', 'kernel_of']

# Stamps that one thread works on at a time: enough to hide the cost of
# Python, few enough for their 7 x 7 matrices not to need memory that shows.
_CHUNK = 3072
# The more stars of a table there are, the more are in one cell.
_TABULATED_CHUNK = 6144


@dataclass(frozen=True)
class Kernel:
    """The kernel that serves a model.

    Attributes
    ----------
    kind : {'gaussian', 'tabulated', 'general'}
    likelihood : callable
        ``likelihood(counts, offset=, weights=)`` is that of some stamps.
    chunk : int
        How many stamps a thread gets at a time.
    """

    kind: str
    likelihood: Callable
    chunk: int


def kernel_of(model, shape, moving, init):
    """Return the `Kernel` for stamps of a shape (ny, nx).

    Parameters
    ----------
    model : astropy.modeling.Model
    shape : (ny, nx)
    moving : sequence of int
        Indices of the fitted parameters, the background's after the model's.
    init : dict
        Given values by name; those of parameters that are not fitted are held.
    """
    if type(model) is EllipticalGaussianPSF:
        return Kernel('gaussian', partial(GaussianLikelihood, shape=shape), _CHUNK)
    n_params = len(model.param_names) + 1
    if _is_upright_table(model, moving, init):
        runs = PhaseRuns(model.table, shape)
        return Kernel('tabulated', partial(TabulatedLikelihood, runs=runs, n_params=n_params),
                      _TABULATED_CHUNK)
    stamp_model = StampModel(model, shape)
    return Kernel('general', partial(
        BroadcastLikelihood, function=stamp_model, n_params=n_params,
        derivative=stamp_model.derivative, moving=[j for j in moving if j < n_params - 1]), _CHUNK)


def _is_upright_table(model, moving, init):
    """Say whether a model is a tabulated PRF that stays upright, and zero out of its support."""
    # A subclass with an evaluation of its own is another model.
    if getattr(type(model), 'evaluate', None) is not TabulatedPRF.evaluate or model.fill_value:
        return False
    upright = {'x_scale': 1.0, 'y_scale': 1.0, 'theta': 0.0}
    return all(model.param_names.index(name) not in moving
               and np.all(init.get(name, getattr(model, name).value) == value)
               for name, value in upright.items())
