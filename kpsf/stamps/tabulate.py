# Licensed under a 3-clause BSD style license - see LICENSE
"""A model of fixed shape as a table: what is evaluated once need not be for every star."""

import numpy as np

from .._kernels.spline import SplineTable
from ..models import position_names, total_flux_name

__all__ = ['table_of']

# Stamps from which on a table takes less time than it saves.
_FEWEST = 1000
# Samples per pixel, and the largest error, relative to the peak, that they may make: in the
# brightest pixel of a star of 1e9 electrons, about 1e-3 of the noise.
_STEPS = 32
_PRECISION = 1e-7
# The model must be this much the same, relative to the peak, wherever it is.
_SAME = 1e-10
# Pixels that a star may be further from the pixels of its stamp than where it starts.
_BEYOND = 3
_N_POINTS, _N_PLACES = 500, 32


def table_of(model, shape, moving, init, n_stamps, origin):
    """Return the `SplineTable` that stands for a model, None if there is none that is right.

    Parameters
    ----------
    model : astropy.modeling.Model
    shape : (ny, nx)
        Of the stamps.
    moving : sequence of int
        Indices of the fitted parameters.
    init : dict
        Given values by name, () or (n,).
    n_stamps : int
    origin : ndarray, shape (n, 2), or None
        Where on the detector the stamps are.
    """
    names = (total_flux_name(model), *position_names(model))
    if None in names or n_stamps < _FEWEST:
        return None
    place = [model.param_names.index(name) for name in names]
    held = [init.get(name, getattr(model, name).value) for name in model.param_names]
    for j, value in enumerate(held):
        if j not in place and (j in moving or np.ptp(value) != 0):
            return None
    params = [float(np.ravel(value)[0]) for value in held]

    def evaluate(x, y, x_0=0.0, y_0=0.0):
        """Return the model of unit flux at x_0, y_0."""
        own = list(params)
        for j, value in zip(place, (1.0, x_0, y_0)):
            own[j] = value
        return np.asarray(model.evaluate(x, y, *own), dtype=float)

    with np.errstate(all='ignore'):
        try:
            return _build(evaluate, _reach(shape, [init.get(name) for name in names[1:]]), origin)
        except Exception:  # noqa: BLE001 - whatever foreign code raises, the answer is no
            return None


def _reach(shape, positions):
    """Return how far from a star along x and y, in whole pixels, its pixels may be."""
    reach = []
    for size, start in zip(shape[::-1], positions):
        far = size if start is None else np.max(np.maximum(start, size - 1 - start), initial=0)
        reach.append(int(np.ceil(min(far, size))) + _BEYOND)
    return reach


def _build(evaluate, reach, origin):
    """Return the table of a function of x, y, x_0 and y_0; None where it is not right."""
    middle_x, middle_y = (size * _STEPS for size in reach)
    y, x = np.mgrid[-middle_y:middle_y + 1, -middle_x:middle_x + 1] / _STEPS
    data = evaluate(x, y)
    if data.shape != x.shape or not np.isfinite(data).all():
        return None
    peak, rng = np.abs(data).max(), np.random.default_rng(0)
    table = SplineTable(data, (_STEPS, _STEPS), (middle_x, middle_y))
    # Most of them where the model has its peak.
    distance = np.where(np.arange(_N_POINTS) % 4, 1.5, min(reach) - 1.0)
    dx, dy = distance * rng.uniform(-1, 1, (2, _N_POINTS))
    if not np.all(np.abs(table.evaluate(dx, dy)[0] - evaluate(dx, dy)) <= _PRECISION * peak):
        return None
    return table if _is_the_same_everywhere(evaluate, dx, dy, peak, origin, rng) else None


def _is_the_same_everywhere(evaluate, dx, dy, peak, origin, rng):
    """Say whether a model looks the same wherever it is."""
    places = rng.uniform(0.0, 10.0, (_N_PLACES, 2))
    if origin is not None:
        places += origin[rng.integers(len(origin), size=_N_PLACES)]
    expected = evaluate(dx, dy)
    return all(np.all(np.abs(evaluate(dx + x_0, dy + y_0, x_0, y_0) - expected) <= _SAME * peak)
               for x_0, y_0 in places)
