# Licensed under a 3-clause BSD style license - see LICENSE
"""Which kernel serves which model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from .._kernels.broadcast import BroadcastLikelihood
from .._kernels.gaussian import GaussianLikelihood
from .._kernels.gridded import GriddedLikelihood, NodeGrid
from .._kernels.integrated import IntegratedLikelihood
from .._kernels.spline import SplineTable
from .._kernels.tabulated import PhaseRuns, TabulatedLikelihood
from .._kernels.widths import WidthsLikelihood
from ..models import EllipticalGaussianPSF, TabulatedPRF
from ..models.gaussian import SIGMA_TO_FWHM
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
    kind : {'gaussian', 'widths', 'integrated', 'tabulated', 'gridded', 'general'}
    likelihood : callable
        ``likelihood(counts, offset=, weights=)`` is that of some stamps; with
        ``takes_origin`` also of ``origin=``, where on the detector they are.
    chunk : int
        How many stamps a thread gets at a time.
    lowest : float
        Lowest value of the PSF at a flux of 1, below 0 for negative wings.
    takes_origin : bool
        Whether the PSF depends on the place on the detector, or may.
    """

    kind: str
    likelihood: Callable
    chunk: int
    lowest: float = 0.0
    takes_origin: bool = False


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
    if _is_upright_table(model, moving, init):
        return _tabulated([model.table], model, shape)
    if type(model).__module__.startswith('photutils.'):
        kernel = _kernel_of_photutils(model, shape, moving, init)
        if kernel is not None:
            return kernel
    n_params = len(model.param_names) + 1
    stamp_model = StampModel(model, shape)
    return Kernel('general', partial(
        _general, model=stamp_model, n_params=n_params,
        moving=[j for j in moving if j < n_params - 1]), _CHUNK, takes_origin=True)


def _general(counts, model, n_params, moving, origin=None, **known):
    """Return the likelihood of stamps under any model, at their place on the detector."""
    model = model.at(origin)
    return BroadcastLikelihood(counts, model, n_params, derivative=model.derivative,
                               linear=model.linear, moving=moving, **known)


def _tabulated(tables, model, shape):
    """Return the kernel of a model that is one table."""
    return Kernel('tabulated', partial(TabulatedLikelihood, runs=PhaseRuns(tables, shape),
                                       n_params=len(model.param_names) + 1),
                  _TABULATED_CHUNK, min(tables[0].data.min(), 0.0))


def _is_upright_table(model, moving, init):
    """Say whether a model is a tabulated PRF that stays upright, and zero out of its support."""
    # A subclass with an evaluation of its own is another model.
    if getattr(type(model), 'evaluate', None) is not TabulatedPRF.evaluate or model.fill_value:
        return False
    return all(_is_held(model, name, value, moving, init)
               for name, value in {'x_scale': 1.0, 'y_scale': 1.0, 'theta': 0.0}.items())


def _is_held(model, name, value, moving, init):
    """Say whether a parameter is not fitted, and has the value."""
    return (model.param_names.index(name) not in moving
            and np.all(init.get(name, getattr(model, name).value) == value))


def _kernel_of_photutils(model, shape, moving, init):
    """Return the kernel of a model of photutils, None if there is none."""
    from photutils import psf
    # A subclass may evaluate something else.
    kind = type(model)
    if kind in (psf.CircularGaussianPSF, psf.GaussianPSF):
        n_widths = len(model.param_names) - 3
        return Kernel('widths', partial(WidthsLikelihood, shape=shape, n_widths=n_widths),
                      _CHUNK)
    if kind is psf.CircularGaussianPRF:
        return _integrated(model, shape, moving, 1, SIGMA_TO_FWHM)
    if kind is psf.CircularGaussianSigmaPRF:
        return _integrated(model, shape, moving, 1, 1.0)
    if kind is psf.GaussianPRF and _is_held(model, 'theta', 0.0, moving, init):
        return _integrated(model, shape, moving, 2, SIGMA_TO_FWHM)
    if kind is psf.ImagePSF and model.fill_value == 0:
        return _tabulated([_point_table(model.data, model)], model, shape)
    if kind is psf.GriddedPSFModel and model.fill_value == 0:
        return _gridded(model, shape)
    return None


def _integrated(model, shape, moving, n_widths, width_in_stddev):
    """Return the kernel of a Gaussian that is integrated over pixels."""
    free_widths = any(3 <= j < 3 + n_widths for j in moving)
    return Kernel('integrated', partial(
        IntegratedLikelihood, shape=shape, n_widths=n_widths, width_in_stddev=width_in_stddev,
        free_widths=free_widths, n_params=len(model.param_names) + 1), _CHUNK)


def _gridded(model, shape):
    """Return the kernel of photutils' model of ePSFs on a grid."""
    tables = [_point_table(image, model) for image in model.data]
    if len(tables) == 1:
        return _tabulated(tables, model, shape)
    # photutils sorts them row by row.
    x, y = (np.unique(places) for places in np.asarray(model.grid_xypos).T)
    return Kernel('gridded', partial(GriddedLikelihood, runs=PhaseRuns(tables, shape),
                                     grid=NodeGrid(x, y)), _CHUNK,
                  lowest=min(min(table.data.min() for table in tables), 0.0), takes_origin=True)


def _point_table(image, model):
    """Return the spline of an image of photutils, which ends at its first and last sample."""
    oversampling_y, oversampling_x = (int(factor) for factor in model.oversampling)
    return SplineTable(image, (oversampling_x, oversampling_y), model.origin, is_cell=False)
