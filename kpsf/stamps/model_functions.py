# Licensed under a 3-clause BSD style license - see LICENSE
"""Any astropy model as a function of arrays: of stamps, and of lists of pixels."""

from copy import copy

import numpy as np

from ..models import position_names, scale_name

__all__ = ['ModelProfile', 'StampModel']

# Step of a forward difference, relative to a value or in pixels: the error of
# the place is half of it, the rounding of the difference about the same.
_STEP = 3e-8


class _ModelFunction:
    """A model as a function of coordinates and columns of parameters.

    Attributes
    ----------
    linear : list of int
        The flux or amplitude, if the model is proportional to it.
    has_derivative : bool
        Whether the model has a ``fit_deriv`` that is right for columns.
    """

    def __init__(self, model, x, y):
        self._model = model
        self._broadcasts = self._agrees_with_columns(x, y)
        self.linear = [model.param_names.index(name) for name in [scale_name(model)]
                       if name is not None and self._is_proportional(name, x, y)]
        self.has_derivative = (getattr(model, 'fit_deriv', None) is not None
                               and self._derivative_is_right(x, y))

    def values(self, x, y, params):
        """Return the values, shape (..., n), for coordinates of that and params (q, ...)."""
        if self._broadcasts:
            return self._model.evaluate(x, y, *params[..., np.newaxis])
        size = (*params.shape[1:], np.shape(x)[-1])
        x, y = (np.broadcast_to(places, size).reshape(-1, size[-1]) for places in (x, y))
        columns = params.reshape(len(params), -1).T
        return np.array([np.broadcast_to(self._model.evaluate(*own, *column), size[-1:])
                         for *own, column in zip(x, y, columns)]).reshape(size)

    def derivatives(self, x, y, params):
        """Return the model's ``fit_deriv``, a list of q arrays."""
        return self._model.fit_deriv(x, y, *params[..., np.newaxis])

    def _two_columns(self):
        """Return the model's parameters and slightly different ones, (q, 2)."""
        model = self._model
        values = np.array([np.ravel(getattr(model, name).value)[0] for name in model.param_names],
                          dtype=float)
        return np.column_stack([values, values * 1.01 + 0.001])

    def _agrees_with_columns(self, x, y):
        """Say whether the model takes columns of parameters."""
        params, evaluate = self._two_columns(), self._model.evaluate
        with np.errstate(all='ignore'):
            try:
                together = np.broadcast_to(evaluate(x, y, *params[:, :, np.newaxis]), (2, x.size))
            except Exception:  # noqa: BLE001 - whatever foreign code raises, the answer is no
                return False
            apart = [np.broadcast_to(evaluate(x, y, *column), x.shape) for column in params.T]
        return np.allclose(together, apart, equal_nan=True)

    def _is_proportional(self, name, x, y):
        """Say whether the model is proportional to a parameter."""
        params, j = self._two_columns(), self._model.param_names.index(name)
        params[j] = 1.0
        with np.errstate(all='ignore'):
            once = self.values(x, y, params)
            params[j] = 3.0
            return np.allclose(self.values(x, y, params), 3.0 * once, rtol=1e-12, atol=0.0,
                               equal_nan=True)

    def _derivative_is_right(self, x, y):
        """Say whether ``fit_deriv`` agrees with differences, for two columns of parameters."""
        params = self._two_columns()
        with np.errstate(all='ignore'):
            try:
                analytic = [np.broadcast_to(column, (2, x.size))
                            for column in self.derivatives(x, y, params)]
            except Exception:  # noqa: BLE001 - whatever foreign code raises, the answer is no
                return False
            if len(analytic) != len(params):
                return False
            return all(np.allclose(analytic[j], numeric, rtol=1e-3, equal_nan=True,
                                   atol=1e-3 * np.nanmax(np.abs(numeric), initial=1e-9))
                       for j, numeric in enumerate(self._differences(x, y, params)))

    def _differences(self, x, y, params):
        """Yield central differences (2, n_pixels) by each parameter."""
        for j in range(len(params)):
            step = 1e-6 * np.maximum(np.abs(params[j]), 1e-3)
            up, down = params.copy(), params.copy()
            up[j] += step
            down[j] -= step
            yield ((self.values(x, y, up) - self.values(x, y, down)) / (2 * step[:, np.newaxis]))


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
    linear : list of int
        The flux or amplitude, if the model is proportional to it.
    """

    def __init__(self, model, shape):
        self._y, self._x = np.mgrid[:shape[0], :shape[1]].reshape(2, -1).astype(float)
        self._function, self._origin = _ModelFunction(model, self._x, self._y), None
        self._position = [model.param_names.index(name) if name is not None else None
                          for name in position_names(model)]
        self.linear = self._function.linear
        self.derivative = self._columns if self._function.has_derivative else None

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
            # The copy's own method, which looks at the copy's origin.
            moved.derivative = moved._columns
        return moved

    def __call__(self, params, rows=None):
        """Return the model's values, (m, n_pixels), for ``params`` (q, m) of stamps ``rows``."""
        values = self._function.values(*self._on_detector(params, rows))
        return np.broadcast_to(values, (params.shape[1], self._x.size))

    def _columns(self, params, rows=None):
        """Return the model's ``fit_deriv``, (q, m, n_pixels)."""
        columns = self._function.derivatives(*self._on_detector(params, rows))
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


class ModelProfile:
    """A model as a profile of stars, see `kpsf._kernels.profiles`.

    Parameters
    ----------
    model : astropy.modeling.Model
        Proportional to its flux.
    order : sequence of int
        Its flux, x, y and other parameters among ``model.param_names``.
    """

    lowest = 0.0

    def __init__(self, model, order):
        y, x = np.mgrid[:9, :8].reshape(2, -1).astype(float)
        self._function = _ModelFunction(model, x, y)
        self._order = np.asarray(order)
        self.is_proportional = self._function.linear == [order[0]]

    def images(self, params, x, y, wanted):
        """Return P and its derivatives, see the module of profiles."""
        own = np.empty_like(params)
        own[self._order], own[self._order[0]] = params, 1.0
        x, y = x.astype(float), y.astype(float)
        images = np.empty((1 + len(wanted), *params.shape[1:], x.shape[-1]))
        with np.errstate(all='ignore'):
            images[0] = self._function.values(x, y, own)
            if wanted and self._function.has_derivative:
                columns = self._function.derivatives(x, y, own)
                for image, j in zip(images[1:], wanted):
                    image[:] = columns[self._order[j]]
                return images
            for image, j in zip(images[1:], wanted):
                i, shifted = self._order[j], own.copy()
                shifted[i] += _STEP * (1.0 if j < 3 else np.maximum(np.abs(own[i]), 1e-3))
                step = shifted[i] - own[i]                  # as it was rounded
                image[:] = self._function.values(x, y, shifted)
                image -= images[0]
                image /= step[..., np.newaxis]
        return images
