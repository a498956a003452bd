# Licensed under a 3-clause BSD style license - see LICENSE
"""Which kernel serves which model: for stamps of one star, and for groups of stars."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from .._kernels.broadcast import BroadcastLikelihood
from .._kernels.gaussian import GaussianLikelihood
from .._kernels.gridded import GriddedLikelihood, NodeGrid
from .._kernels.integrated import IntegratedLikelihood
from .._kernels.profiles import GaussianProfile, IntegratedProfile, TableProfile
from .._kernels.spline import SplineTable
from .._kernels.tabulated import PhaseRuns, TabulatedLikelihood
from .._kernels.widths import WidthsLikelihood, shape_of_widths
from ..models import (
    EllipticalGaussianPSF,
    TabulatedPRF,
    position_names,
    total_flux_name,
)
from ..models.gaussian import SIGMA_TO_FWHM
from .model_functions import ModelProfile, StampModel
from .tabulate import table_of

__all__ = ['Kernel', 'kernel_of', 'profile_of']

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


def kernel_of(model, shape, moving, init, n_stamps=1, origin=None):
    """Return the `Kernel` for stamps of a shape (ny, nx).

    Many stamps under a model of fixed shape that looks the same everywhere
    are fitted by a table of it.

    Parameters
    ----------
    model : astropy.modeling.Model
    shape : (ny, nx)
    moving : sequence of int
        Indices of the fitted parameters, the background's after the model's.
    init : dict
        Given values by name; those of parameters that are not fitted are held.
    n_stamps : int
        Number of stamps.
    origin : ndarray, shape (n_stamps, 2), or None
        Where on the detector they are.
    """
    kind, n_params = _kind_of(model, moving, init), len(model.param_names) + 1
    if kind == 'gaussian':
        return Kernel(kind, partial(GaussianLikelihood, shape=shape), _CHUNK)
    if kind == 'widths':
        likelihood = partial(WidthsLikelihood, shape=shape, n_widths=n_params - 4)
        return Kernel(kind, likelihood, _CHUNK)
    if kind == 'integrated':
        n_widths, unit = _widths_of(model)
        free_widths = any(3 <= j < 3 + n_widths for j in moving)
        return Kernel(kind, partial(
            IntegratedLikelihood, shape=shape, n_widths=n_widths, width_per_stddev=unit,
            free_widths=free_widths, n_params=n_params), _CHUNK)
    if kind in ('tabulated', 'gridded'):
        return _kernel_of_tables(*_tables_of(model), shape, n_params)
    function = StampModel(model, shape)
    if _has_the_order_of_tables(model) and function.linear:
        table = table_of(model, shape, moving, init, n_stamps, origin)
        if table is not None:
            return _kernel_of_tables([table], None, shape, n_params)
    return Kernel(kind, partial(
        _general, model=function, n_params=n_params,
        moving=[j for j in moving if j < n_params - 1]), _CHUNK, takes_origin=True)


def _has_the_order_of_tables(model):
    """Say whether flux, x and y are the first parameters of a model, as those of a table."""
    return model.param_names[:3] == (total_flux_name(model), *position_names(model))


def _kernel_of_tables(tables, grid, shape, n_params):
    """Return the kernel of one image, or of images on a grid."""
    known = {'runs': PhaseRuns(tables, shape), 'n_params': n_params}
    lowest = min(0.0, *(table.data.min() for table in tables))
    if grid is None:
        return Kernel('tabulated', partial(TabulatedLikelihood, **known), _TABULATED_CHUNK, lowest)
    return Kernel('gridded', partial(GriddedLikelihood, grid=grid, **known), _CHUNK, lowest,
                  takes_origin=True)


def _general(counts, model, n_params, moving, origin=None, **known):
    """Return the likelihood of stamps under any model, at their place on the detector."""
    model = model.at(origin)
    return BroadcastLikelihood(counts, model, n_params, derivative=model.derivative,
                               linear=model.linear, moving=moving, **known)


def profile_of(model, moving):
    """Return what serves groups of stars, and its order of parameters.

    Parameters
    ----------
    model : astropy.modeling.Model
        With a flux and a position.
    moving : sequence of int
        Indices of the fitted parameters.

    Returns
    -------
    profile : object
        See `kpsf._kernels.profiles`.
    order : list of int
        Which of the model's parameters are its flux, x, y and the rest.

    Raises
    ------
    ValueError
        If the model is not proportional to its flux.
    """
    first = [model.param_names.index(name)
             for name in (total_flux_name(model), *position_names(model))]
    order = [*first, *(j for j in range(len(model.param_names)) if j not in first)]
    kind = _kind_of(model, moving, {})
    if kind == 'gaussian':
        return GaussianProfile(), order
    if kind == 'widths':
        return GaussianProfile(shape_of_widths), order
    if kind == 'integrated':
        return IntegratedProfile(*_widths_of(model)), order
    if kind in ('tabulated', 'gridded'):
        return TableProfile(*_tables_of(model)), order
    profile = ModelProfile(model, order)
    if not profile.is_proportional:
        raise ValueError(f'A PSF must be proportional to its flux for stars to be fitted jointly, '
                         f'but {type(model).__name__} is not: fill it with 0 outside of its '
                         'image, and give the background to the photometry.')
    return profile, order


def _kind_of(model, moving, init):
    """Return which kernel serves a model."""
    if type(model) is EllipticalGaussianPSF:
        return 'gaussian'
    if _is_upright_table(model, moving, init):
        return 'tabulated'
    if type(model).__module__.startswith('photutils.'):
        return _kind_of_photutils(model, moving, init)
    return 'general'


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


def _kind_of_photutils(model, moving, init):
    """Return which kernel serves a model of photutils; a subclass may evaluate something else."""
    from photutils import psf
    kind = type(model)
    if kind in (psf.CircularGaussianPSF, psf.GaussianPSF):
        return 'widths'
    if kind in (psf.CircularGaussianPRF, psf.CircularGaussianSigmaPRF):
        return 'integrated'
    if kind is psf.GaussianPRF and _is_held(model, 'theta', 0.0, moving, init):
        return 'integrated'
    if kind in (psf.ImagePSF, psf.GriddedPSFModel) and model.fill_value == 0:
        return 'gridded' if kind is psf.GriddedPSFModel and len(model.data) > 1 else 'tabulated'
    return 'general'


def _widths_of(model):
    """Return the number of widths of an integrated Gaussian, and that of a deviation of 1."""
    names = model.param_names
    return 2 if 'y_fwhm' in names else 1, 1.0 if 'sigma' in names else SIGMA_TO_FWHM


def _tables_of(model):
    """Return the splines of a model that is one image or a grid of them, and the grid or None."""
    if isinstance(model, TabulatedPRF):
        return [model.table], None
    steps = tuple(int(factor) for factor in model.oversampling[::-1])
    images = model.data if model.data.ndim == 3 else model.data[np.newaxis]
    # The images of photutils end at their first and last samples.
    tables = [SplineTable(image, steps, model.origin[:2], is_cell=False) for image in images]
    if len(tables) == 1:
        return tables, None
    # photutils sorts them row by row.
    return tables, NodeGrid(*(np.unique(places) for places in np.asarray(model.grid_xypos).T))
