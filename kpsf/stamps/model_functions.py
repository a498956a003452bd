# Licensed under a 3-clause BSD style license - see LICENSE
"""Any astropy model as a function of (parameters x stamps)."""

from copy import copy

import numpy as np

from ..models import position_names, scale_name

__all__ = ['StampModel']


class StampModel:
    """A model on the pixels of a stamp.

    Parameters
    ----------
    model : astropy.modeling.Model
        Two inputs, one output; simple or compound.
    shape : (ny, nx)

    Attributes
    ----------
    derivative : callable or None
        ``derivative(params, rows)``, (q, m) to (q, m, n_pixels); None where
        the model has none that is right for columns of parameters.
    """

    def __init__(self, model, shape):
        self._model, self._origin = model, None
        self._y, self._x = np.mgrid[:shape[0], :shape[1]].reshape(2, -1).astype(float)
        self._position = [model.param_names.index(name) if name is not None else None
                          for name in position_names(model)]
        self._broadcasts = _broadcasts(model, self._x, self._y)
        self.linear = [model.param_names.index(name) for name in [scale_name(model)]
                       if name is not None and self._is_proportional(name)]
        has_derivative = getattr(model, 'fit_deriv', None) is not None
        self.derivative = self._columns if has_derivative and self._is_right() else None

    def at(self, origin):
        """Return the model for stamps whose first pixels are at x, y of ``origin``, (n, 2).

        Their positions are still counted from there; with None the model, too,
        knows nothing else.
        """
        if origin is None:
            return self
        moved = copy(self)
        moved._origin = np.asarray(origin, dtype=float)
        if self.derivative is not None:
            moved.derivative = moved._columns
        return moved

    def __call__(self, params, rows=None):
        """Return the model's values, (m, n_pixels), for ``params`` (q, m) of stamps ``rows``."""
        x, y, params = self._on_detector(params, rows)
        if self._broadcasts:
            values = self._model.evaluate(x, y, *params[:, :, None])
            return np.broadcast_to(values, (params.shape[1], self._x.size))
        x, y = (np.broadcast_to(places, (params.shape[1], self._x.size)) for places in (x, y))
        return np.array([np.broadcast_to(self._model.evaluate(*own, *column), self._x.shape)
                         for *own, column in zip(x, y, params.T)])

    def _columns(self, params, rows=None):
        """Return the model's ``fit_deriv``, (q, m, n_pixels)."""
        x, y, params = self._on_detector(params, rows)
        columns = self._model.fit_deriv(x, y, *params[:, :, None])
        return np.array([np.broadcast_to(column, (params.shape[1], self._x.size))
                         for column in columns])

    def _on_detector(self, params, rows):
        """Return coordinates of the pixels and parameters where the stamps are."""
        if self._origin is None:
            return self._x, self._y, params
        origin, params = self._origin[rows].T, params.copy()
        for j, first in zip(self._position, origin):
            if j is not None:
                params[j] += first
        return self._x + origin[0][:, np.newaxis], self._y + origin[1][:, np.newaxis], params

    def _is_right(self):
        """Say whether ``fit_deriv`` agrees with differences, for two columns of parameters."""
        params = _two_columns(self._model)
        with np.errstate(all='ignore'):
            try:
                analytic = self._columns(params)
            except Exception:  # noqa: BLE001 - whatever foreign code raises, the answer is no
                return False
            if len(analytic) != len(params):
                return False
            return all(np.allclose(analytic[j], numeric, rtol=1e-3, equal_nan=True,
                                   atol=1e-3 * np.nanmax(np.abs(numeric), initial=1e-9))
                       for j, numeric in enumerate(self._differences(params)))

    def _is_proportional(self, name):
        """Say whether the model is proportional to a parameter."""
        params = _two_columns(self._model)
        j = self._model.param_names.index(name)
        params[j] = 1.0
        with np.errstate(all='ignore'):
            once = self(params)
            params[j] = 3.0
            return np.allclose(self(params), 3.0 * once, rtol=1e-12, atol=0.0, equal_nan=True)

    def _differences(self, params):
        """Yield central differences (2, n_pixels) by each parameter."""
        for j in range(len(params)):
            step = 1e-6 * np.maximum(np.abs(params[j]), 1e-3)
            up, down = params.copy(), params.copy()
            up[j] += step
            down[j] -= step
            yield (self(up) - self(down)) / (2 * step[:, None])


def _two_columns(model):
    """Return the model's parameters and slightly different ones, (q, 2)."""
    values = np.array([np.ravel(getattr(model, name).value)[0] for name in model.param_names],
                      dtype=float)
    return np.column_stack([values, values * 1.01 + 0.001])


def _broadcasts(model, x, y):
    """Say whether the model takes columns of parameters."""
    params = _two_columns(model)
    with np.errstate(all='ignore'):
        try:
            together = np.broadcast_to(model.evaluate(x, y, *params[:, :, None]), (2, x.size))
        except Exception:  # noqa: BLE001 - whatever foreign code raises, the answer is no
            return False
        apart = [np.broadcast_to(model.evaluate(x, y, *column), x.shape) for column in params.T]
    return np.allclose(together, apart, equal_nan=True)
