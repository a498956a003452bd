# Licensed under a 3-clause BSD style license - see LICENSE
"""The mean counts of one astropy model as a function of its free parameters."""

from weakref import WeakKeyDictionary

import numpy as np
from astropy.modeling.fitting import (
    NonFiniteValueError,
    fitter_to_model_params_array,
    model_to_fit_params,
)

from .._validation import require_room
from .groups import positions_of

__all__ = ['ModelMean', 'check_model']

# Steps of numerical derivatives, in standard errors and before these are known. The error of a
# one-sided difference over the first is a small part of a standard error.
_STEP = 1e-4
_FIRST_STEP = 1e-6
# First steps between these, in the errors that they lead to, are good enough to begin with.
_GOOD_STEPS = (1e-7, 0.1)
# Up to so many free parameters of an image, or of each star, differences cost less than
# derivatives, which are those of fixed parameters as well and, of some models of photutils, come
# from another model that is made each time.
_FEW = 3
# How far from differences derivatives may be, as a share of the largest.
_TOLERANCE = 0.01
# Whether those of a class are right, by the parameters that were free.
_are_right = WeakKeyDictionary()
# The largest step in pixels: positions of faint stars are less certain than a PSF is smooth.
_LARGEST_STEP = 0.05


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
    group : SourceGroup, optional
        The group of stars that the model is.

    Attributes
    ----------
    free : list of int, length q
        Indices of the free parameters.
    names : list of str
        Their names.
    start, lower, upper : ndarray, shape (q,)
        Their values, moved inside the bounds, and the bounds.
    n_alike : int
        Number of stars that have the same free parameters each; 1 for a
        model that is no group.
    largest_steps : ndarray, shape (q,)
        Limits to the steps over which derivatives of the derivatives are
        taken: positions of faint stars are less certain than a PSF is smooth.

    Raises
    ------
    ValueError
        If bounds leave no room.
    NonFiniteValueError
        If the model is not finite at its starting values.
    """

    def __init__(self, model, inputs, counts, gain, estimate_jacobian, group=None):
        values, self.free, bounds = model_to_fit_params(model)
        self.names = [model.param_names[i] for i in self.free]
        self.lower, self.upper = np.array(bounds if bounds else ((), ()), dtype=float)
        for name, low, high in zip(self.names, self.lower, self.upper, strict=True):
            require_room(low, high, name)
        self.start = np.clip(values, self.lower, self.upper)
        self._model, self._has_tied = model, model.has_tied
        self._inputs = inputs
        self._all = model.parameters.copy()
        self._gain = gain
        self._n_pixels = counts.size
        self._variance = np.maximum(counts, 1.0)
        self._errors = np.full(len(self.free), np.nan)
        self._last = None, None
        self.group = group
        self._n_terms = 1 if group is None else group.n_sources
        self.n_alike = 1 if group is None else group.n_alike(self.free)
        positions = positions_of(model) if group is None else group.positions()
        self.largest_steps = np.where([name in positions for name in self.names],
                                      _LARGEST_STEP, np.inf)
        derivatives = model.fit_deriv if group is None else group.psf.fit_deriv
        self._analytic = (derivatives is not None and not estimate_jacobian
                          and not (model.n_inputs == 2
                                   and len(self.free) <= _FEW * self._n_terms))
        self._is_stacked = False
        with np.errstate(all='ignore'):
            first = self._evaluate(self.start)
            self._linear = self._find_linear()
            self._is_stacked = self.n_alike > 1 and self._agrees_with_a_stack()
        if not np.isfinite(first).all():
            values = ', '.join(f'{name}={value}' for name, value
                               in zip(model.param_names, self.all_starts()))
            raise NonFiniteValueError('The starting values must give a finite model, but they '
                                      f'are {values}: start elsewhere.')
        self._analytic = self._analytic and self._derivatives_are_right()

    def __call__(self, params, rows=None):
        """Return the mean (1, n) for the free parameters (q, 1)."""
        return self._evaluate(params[:, 0])[np.newaxis]

    def derivative(self, params, rows=None):
        """Return the derivatives of the mean, (q, 1, n), for the free parameters (q, 1)."""
        values = params[:, 0]
        jacobian = self._analytic_jacobian(values) if self._analytic else None
        if jacobian is None:
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
        if self._has_tied:
            return fitter_to_model_params_array(self._model, values, False,
                                                fit_param_indices=set(self.free))
        parameters = self._all.copy()
        parameters[self.free] = values
        return parameters

    def _evaluate(self, values):
        """Return the mean (n,) for the free parameters (q,)."""
        return self._gain * sum(self._images(values))

    def _images(self, values):
        """Return the model (n,), or each star of a group, in a list."""
        # Derivatives and residuals are asked for where the mean was.
        place = values.tobytes()
        if place != self._last[0]:
            parameters = self._expand(values)
            if self._is_stacked:
                images = self._stack(parameters)
            else:
                images = [self._sample(parameters, star) for star in range(self._n_terms)]
            self._last = place, images
        return self._last[1]

    def _stack(self, parameters):
        """Return all stars of a group at once, (n_stars, n)."""
        columns = parameters.reshape(self._n_terms, -1, 1).transpose(1, 0, 2)
        return self.group.psf.evaluate(*self._inputs, *columns)

    def _agrees_with_a_stack(self):
        """Say whether the PSF of a group takes the parameters of all stars at once."""
        # Stars of one width would hide a PSF that takes that of the first for all.
        apart = np.linspace(0.0, 1e-4, self._n_terms)[:, np.newaxis]
        parameters = self.all_starts().reshape(self._n_terms, -1)
        parameters = np.ravel(parameters * (1.0 + apart) + apart)
        images = np.array([self._sample(parameters, star) for star in range(self._n_terms)])
        try:
            stack = self._stack(parameters)
        except Exception:  # noqa: BLE001 - whatever foreign code raises, the answer is no
            return False
        return np.shape(stack) == images.shape and np.allclose(stack, images, rtol=1e-12, atol=0.0)

    def _sample(self, parameters, star):
        """Return the model, or the star of a group, at the pixels, (n,)."""
        model = self._model
        if self.group is not None:
            model, parameters = self.group.psf, parameters[self.group.parameters_of(star)]
        image = model.evaluate(*self._inputs, *parameters)
        if np.shape(image) != (self._n_pixels,):
            image = np.broadcast_to(np.ravel(image), self._n_pixels)
        return image

    def _analytic_jacobian(self, values):
        """Return the derivatives (q, n), ties included; None if they are not finite."""
        parameters = self._expand(values)
        if self.group is not None:
            jacobian = self.group.derivatives(self._inputs, parameters, self.free)
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
        if self._has_tied:
            return self._tie_slopes(values) @ jacobian
        return jacobian[self.free]

    def _derivatives_are_right(self):
        """Say whether ``fit_deriv`` agrees with differences, for a class of models once.

        In photutils 3.0, that of CircularGaussianPSF is by the width along x alone.
        """
        psf = self._model if self.group is None else self.group.psf
        names = psf.param_names
        free = frozenset(names[number % len(names)] for number in self.free)
        known = _are_right.setdefault(type(psf), {})
        if free in known:
            return known[free]
        with np.errstate(all='ignore'):
            analytic = self._analytic_jacobian(self.start)
            if analytic is None:
                # Not finite here, for which there are differences; elsewhere it may be.
                return True
            numeric = self._numeric_jacobian(self.start)
        largest = np.abs(numeric).max(axis=1)
        error = np.abs(analytic - numeric).max(axis=1)
        are_right = bool((error <= _TOLERANCE * largest).all())
        # Where nothing depends on a parameter, its derivative cannot be told.
        if largest.all():
            known[free] = are_right
        return are_right

    def _tie_slopes(self, values):
        """Return d parameters / d free parameters, shape (q, n_parameters)."""
        slopes = []
        for j in range(len(values)):
            low, high = self._around(values, j, _FIRST_STEP * (abs(values[j]) or 1.0))
            slopes.append((self._expand(high) - self._expand(low)) / (high[j] - low[j]))
        return np.array(slopes).reshape(len(values), self._all.size)

    def _numeric_jacobian(self, values):
        """Return one-sided differences (q, n), whose steps follow from the errors."""
        jacobian, steps = self._differences(values)
        with np.errstate(all='ignore'):
            relative = np.abs(steps) / self._errors
            unsure = (relative < _GOOD_STEPS[0]) | (relative > _GOOD_STEPS[1])
        return self._differences(values)[0] if unsure.any() else jacobian

    def _find_linear(self):
        """Return which free parameters, those named flux, are factors of the model or of a star.

        Their derivative needs no evaluation. The model is asked at twice the flux whether it is.
        """
        psf = self._model if self.group is None else self.group.psf
        name = getattr(psf, 'flux_name', 'flux')
        if self._has_tied or name not in psf.param_names:
            return set()
        index, start = psf.param_names.index(name), self.all_starts()
        if start[index] == 0:
            return set()
        double = start.copy()
        double[index] *= 2.0
        image = self._images(self.start)[0]
        if not np.allclose(self._sample(double, 0), 2.0 * image, rtol=1e-13, atol=0.0):
            return set()
        stride = len(psf.param_names)
        return {j for j, free in enumerate(self.free) if free % stride == index}

    def _differences(self, values):
        """Return differences (q, n) and the steps (q,); remember the errors for the next."""
        images, steps = self._images(values), self._steps(values)
        jacobian = np.empty((len(values), self._n_pixels))
        if self._is_stacked:
            self._stacked_differences(values, images, steps, jacobian)
        else:
            for j, step in enumerate(steps):
                star = 0 if self.group is None else self.group.star_of(self.free[j])
                if np.isnan(step):
                    np.multiply(images[star], self._gain / values[j], out=jacobian[j])
                    continue
                shifted = values.copy()
                shifted[j] += step
                np.subtract(self._sample(self._expand(shifted), star), images[star],
                            out=jacobian[j])
                jacobian[j] *= self._gain / step
        with np.errstate(divide='ignore'):
            self._errors = (jacobian * jacobian @ (1.0 / self._variance))**-0.5
        return jacobian, steps

    def _steps(self, values):
        """Return the steps of differences (q,), NaN for factors, which need none."""
        size = np.abs(values)
        first = _FIRST_STEP * np.where(size == 0, 1.0, size)
        step = np.where(np.isfinite(self._errors), np.minimum(
            np.maximum(_STEP * self._errors, 1e-12 * size), 1e4 * first), first)
        shifted = values + step
        shifted = np.where(shifted > self.upper, np.maximum(values - step, self.lower), shifted)
        steps = shifted - values                    # as they were rounded
        for j in self._linear:
            if values[j] != 0:
                steps[j] = np.nan
        return steps

    def _stacked_differences(self, values, images, steps, jacobian):
        """Write the differences of a group, each parameter of all stars at once."""
        q = len(values) // self._n_terms
        for j in range(q):
            step = steps[j::q]
            if np.isnan(step).all():
                np.multiply(images, self._gain / values[j::q, np.newaxis], out=jacobian[j::q])
                continue
            shifted = values.copy()
            shifted[j::q] += np.nan_to_num(step)
            difference = self._stack(self._expand(shifted)) - images
            own = np.isnan(step)
            with np.errstate(divide='ignore', invalid='ignore'):
                jacobian[j::q] = np.where(
                    own[:, np.newaxis], images / values[j::q, np.newaxis],
                    difference / step[:, np.newaxis]) * self._gain

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
