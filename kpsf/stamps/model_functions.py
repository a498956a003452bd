# Licensed under a 3-clause BSD style license - see LICENSE
"""Any astropy model as a function of (parameters x stamps)."""

import numpy as np

__all__ = ['flux_name', 'position_names', 'stamp_functions']


def stamp_functions(model, shape):
    """
    Return ``function`` and ``derivative`` of a model on the pixels of a stamp.

    Parameters
    ----------
    model : astropy.modeling.Model
        Two inputs, one output; simple or compound.
    shape : (ny, nx)

    Returns
    -------
    function : callable
        ``function(params)``, (q, m) to (m, n_pixels).
    derivative : callable or None
        ``derivative(params)``, (q, m) to (q, m, n_pixels).
    """
    y, x = np.mgrid[:shape[0], :shape[1]].reshape(2, -1).astype(float)
    if _broadcasts(model, x, y):
        def function(params):
            values = model.evaluate(x, y, *params[:, :, None])
            return np.broadcast_to(values, (params.shape[1], x.size))
    else:
        def function(params):
            return np.array([np.broadcast_to(model.evaluate(x, y, *column), x.shape)
                             for column in params.T])
    if getattr(model, 'fit_deriv', None) is None:
        return function, None

    def derivative(params):
        columns = model.fit_deriv(x, y, *params[:, :, None])
        return np.array([np.broadcast_to(column, (params.shape[1], x.size))
                         for column in columns])

    return function, derivative if _is_derivative(function, derivative, model) else None


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


def _is_derivative(function, derivative, model):
    """Say whether the model's ``fit_deriv`` is right for columns of parameters."""
    params = _two_columns(model)
    with np.errstate(all='ignore'):
        try:
            analytic = derivative(params)
        except Exception:  # noqa: BLE001 - as above
            return False
        if analytic.shape[0] != len(params):
            return False
        for j in range(len(params)):
            step = 1e-6 * np.maximum(np.abs(params[j]), 1e-3)
            up, down = params.copy(), params.copy()
            up[j] += step
            down[j] -= step
            numeric = (function(up) - function(down)) / (2 * step[:, None])
            size = np.nanmax(np.abs(numeric), initial=0.0) + 1e-12
            if not np.allclose(analytic[j], numeric, rtol=1e-3, atol=1e-3 * size,
                               equal_nan=True):
                return False
    return True


def _first_known(model, attribute, candidates):
    """Return the parameter that ``attribute`` names, else the first candidate, else None."""
    name = getattr(model, attribute, None)
    if name in model.param_names:
        return name
    return next((name for name in candidates if name in model.param_names), None)


def position_names(model):
    """Return the names of the model's position parameters, or (None, None)."""
    return (_first_known(model, 'x_name', ('x_0', 'x_mean')),
            _first_known(model, 'y_name', ('y_0', 'y_mean')))


def flux_name(model):
    """Return the name of the parameter that scales the model, or None."""
    return _first_known(model, 'flux_name', ('flux', 'amplitude'))
