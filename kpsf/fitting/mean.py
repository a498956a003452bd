# Licensed under a 3-clause BSD style license - see LICENSE
"""The mean counts of one astropy model as a function of its free parameters."""

import numpy as np
from astropy.modeling.fitting import (
    NonFiniteValueError,
    fitter_to_model_params_array,
    model_to_fit_params,
)

from .._validation import require_room
from .groups import SourceGroup

__all__ = ['ModelMean', 'check_model']

# Steps of numerical derivatives, in standard errors and before these are known.
_STEP = 1e-4
_FIRST_STEP = 1e-6


class ModelMean:
    """Mean counts of one model as a function of its free parameters.

    Parameters
    ----------
    model : `~astropy.modeling.FittableModel`
        The model; with tied parameters it is changed by every evaluation.
    inputs : tuple of ndarray
        Coordinates of n pixels.
    counts : ndarray, shape (n,)
        Observed electrons.
    gain : float
        Electrons per unit of the model.
    estimate_jacobian : bool
        Whether to ignore analytic derivatives.

    Attributes
    ----------
    free : list of int, length q
        Indices of the free parameters.
    names : list of str
        Their names.
    start, lower, upper : ndarray, shape (q,)
        Their values, moved inside the bounds, and the bounds.

    Raises
    ------
    ValueError
        If bounds leave no room.
    NonFiniteValueError
        If the model is not finite at its starting values.
    """

    def __init__(self, model, inputs, counts, gain, estimate_jacobian):
        values, self.free, bounds = model_to_fit_params(model)
        self.names = [model.param_names[i] for i in self.free]
        self.lower, self.upper = np.array(bounds if bounds else ((), ()), dtype=float)
        for name, low, high in zip(self.names, self.lower, self.upper, strict=True):
            require_room(low, high, name)
        self.start = np.clip(values, self.lower, self.upper)
        self._model = model
        self._inputs = inputs
        self._all = model.parameters.copy()
        self._gain = gain
        self._n_pixels = counts.size
        self._variance = np.maximum(counts, 1.0)
        self._errors = np.full(len(self.free), np.nan)
        self._group = None if model.has_tied else SourceGroup.of(model)
        has_derivatives = self._group is not None or model.fit_deriv is not None
        self._analytic = has_derivatives and not estimate_jacobian
        if not np.isfinite(self._evaluate(self.start)).all():
            values = ', '.join(f'{name}={value}' for name, value
                               in zip(model.param_names, self._expand(self.start)))
            raise NonFiniteValueError('The starting values must give a finite model, but they '
                                      f'are {values}: start elsewhere.')

    def __call__(self, params, rows=None):
        """Return the mean (1, n) for the free parameters (q, 1)."""
        return self._evaluate(params[:, 0])[np.newaxis]

    def derivative(self, params, rows=None):
        """Return the derivatives of the mean, (q, 1, n), for the free parameters (q, 1)."""
        values = params[:, 0]
        jacobian = self._analytic_jacobian(values) if self._analytic else None
        if jacobian is None:
            if np.isnan(self._errors).any():
                self._numeric_jacobian(values)
            jacobian = self._numeric_jacobian(values)
        return jacobian[:, np.newaxis]

    def store(self, values):
        """Give the model its final parameters."""
        self._model.parameters = self._expand(values)

    def all_starts(self):
        """Return the starting values of all parameters, free or not."""
        return self._expand(self.start)

    def _expand(self, values):
        """Return all parameters of the model, fixed and tied ones filled in."""
        if self._model.has_tied:
            return fitter_to_model_params_array(self._model, values, False,
                                                fit_param_indices=set(self.free))
        parameters = self._all.copy()
        parameters[self.free] = values
        return parameters

    def _evaluate(self, values):
        """Return the mean (n,) for the free parameters (q,)."""
        with np.errstate(all='ignore'):
            mean = np.ravel(self._model.evaluate(*self._inputs, *self._expand(values)))
        if mean.size != self._n_pixels:
            mean = np.broadcast_to(mean, self._n_pixels)
        return self._gain * mean

    def _analytic_jacobian(self, values):
        """Return the derivatives (q, n), ties included; None if they are not finite."""
        parameters = self._expand(values)
        if self._group is not None:
            jacobian = self._group.derivatives(self._inputs, parameters, self.free)
            usable = jacobian is not None and np.isfinite(jacobian).all()
            return self._gain * jacobian if usable else None
        columns = self._model.fit_deriv(*self._inputs, *parameters)
        if not self._model.col_fit_deriv:
            columns = np.moveaxis(np.asarray(columns), -1, 0)
        columns = [np.ravel(column) for column in columns]
        jacobian = np.empty((len(columns), self._n_pixels))
        for row, column in zip(jacobian, columns):
            row[:] = column
        if not np.isfinite(jacobian).all():
            return None
        jacobian *= self._gain
        if self._model.has_tied:
            return self._tie_slopes(values) @ jacobian
        return jacobian[self.free]

    def _tie_slopes(self, values):
        """Return d parameters / d free parameters, shape (q, n_parameters)."""
        slopes = []
        for j in range(len(values)):
            low, high = self._around(values, j, _FIRST_STEP * (abs(values[j]) or 1.0))
            slopes.append((self._expand(high) - self._expand(low)) / (high[j] - low[j]))
        return np.array(slopes).reshape(len(values), self._all.size)

    def _numeric_jacobian(self, values):
        """Return central differences (q, n); each sets the parameter's step of the next."""
        jacobian = np.empty((len(values), self._n_pixels))
        for j, value in enumerate(values):
            step = _FIRST_STEP * (abs(value) or 1.0)
            if np.isfinite(self._errors[j]):
                step = np.clip(_STEP * self._errors[j], 1e-12 * abs(value), 1e4 * step)
            low, high = self._around(values, j, step)
            jacobian[j] = self._difference(j, low, high) / (high[j] - low[j])
        with np.errstate(divide='ignore'):
            self._errors = np.sum(jacobian**2 / self._variance, axis=1)**-0.5
        return jacobian

    def _difference(self, j, low, high):
        """Return the difference (n,) that parameter ``j`` makes; of a group, in its own star."""
        if self._group is None:
            return self._evaluate(high) - self._evaluate(low)
        star = self._group.star_of(self.free[j])
        upper, lower = (self._group.evaluate(self._inputs, self._expand(values), star)
                        for values in (high, low))
        return self._gain * (upper - lower)

    def _around(self, values, j, step):
        """Return the values with number j lowered and raised by a step, inside its bounds."""
        low, high = values.copy(), values.copy()
        low[j] = max(values[j] - step, self.lower[j])
        high[j] = min(values[j] + step, self.upper[j])
        return low, high


def check_model(model, has_z):
    """Raise if the model is not one model of scalar parameters for data of this kind."""
    if len(model) != 1:
        raise ValueError('Non-linear fitters can only fit one data set at a time, but this is a '
                         f'set of {len(model)} models: fit them one by one.')
    if model.n_outputs != 1 or model.n_inputs not in (1, 2):
        raise ValueError('A model must have one or two inputs and one output, but this one has '
                         f'{model.n_inputs} and {model.n_outputs}: fit another.')
    if has_z != (model.n_inputs == 2):
        needed, found = ('x, y and z', 'x and y') if not has_z else ('x and y', 'x, y and z')
        raise TypeError(f'A model with {model.n_inputs} input(s) needs {needed}, but the data '
                        f'are {found}: pass the data as the last of them.')
    if model.parameters.size != len(model.param_names):
        raise ValueError('The parameters of a model must be numbers, but some of '
                         f'{", ".join(model.param_names)} are arrays: fit the models one by one.')
