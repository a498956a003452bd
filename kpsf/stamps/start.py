# Licensed under a 3-clause BSD style license - see LICENSE
"""Starting values of every stamp: from the data, the model and the user."""

import numpy as np

from .._kernels.moments import starting_values
from ..models import position_names, scale_name

__all__ = ['starting_params']


def starting_params(problem, init, series):
    """Return starting values inside the bounds.

    What ``init`` gives is taken, fixed parameters are the model's, and what
    is left is measured: position, flux and background from moments, and
    the shape too where the model is an elliptical Gaussian.

    Parameters
    ----------
    problem : Problem
    init : dict
        Name to array, scalar or (n,).
    series : Series
        Knows the chunks and how to run them.

    Returns
    -------
    ndarray, shape (p, m)
    """
    start = np.empty((problem.n_params, len(problem.rows)))

    def measure(part):
        start[:, part] = _measured(problem, problem.stamps(part))

    series.run(measure, series.parts)
    moving = set(problem.moving)
    for j, name in enumerate((*problem.model.param_names, 'background')):
        if name in init:
            start[j] = init[name] if np.ndim(init[name]) == 0 else init[name][problem.rows]
        elif j not in moving:
            start[j] = problem.fixed_values[j]
        elif j in problem.shared:
            start[j] = np.median(start[j])
    _rescale_flux(problem, start, init, series)
    j, limits = problem.moving, series.constraints
    start[j] = np.clip(start[j], limits.lower[j], limits.upper[j])
    start[problem.shared] = np.median(start[problem.shared], axis=1, keepdims=True)
    if problem.is_gaussian:
        _check_shape(start)
    return start


def _check_shape(start):
    """Raise if given starting values are no ellipse."""
    a, b, c = start[3:6]
    bad = ~((a > 0) & (c > 0) & (a * c > b * b))
    if bad.any():
        first = bad.argmax()
        raise ValueError('The shape must be positive definite, a > 0, c > 0 and a c > b^2, but '
                         f'{bad.sum()} of {bad.size} starting values are not (the first has '
                         f'a={a[first]:.4g}, b={b[first]:.4g}, c={c[first]:.4g}): change init, '
                         'bounds or the model, for example with '
                         'EllipticalGaussianPSF.from_stddev.')


def _measured(problem, rows):
    """Return starting values of the stamps ``rows`` from their moments, (p, m)."""
    counts, weights = problem.pixels(rows)
    known = problem.known_mean(rows)
    measure_background = problem.n_params - 1 in problem.moving
    moments = starting_values(counts, problem.shape, weights, known, measure_background)
    if problem.is_gaussian:
        return moments
    start = np.repeat(problem.fixed_values[:, None], len(counts), axis=1)
    names = problem.model.param_names
    for name, row in zip(position_names(problem.model), (1, 2), strict=True):
        if name is not None:
            start[names.index(name)] = moments[row]
    start[-1] = moments[6]
    return start


def _rescale_flux(problem, start, init, series):
    """Scale the flux (or amplitude) so that model and data agree, in place."""
    name = scale_name(problem.model)
    if problem.is_gaussian or name is None or name in init:
        return
    j = problem.model.param_names.index(name)
    if j not in problem.moving:
        return

    def scale(part):
        likelihood = series.objective(part)
        params = start[:, part].copy()
        params[j] = np.where(params[j] == 0, 1.0, params[j])
        psf, mean = likelihood.mean(params, np.arange(params.shape[1]))
        data = likelihood.counts - (mean - psf)
        if likelihood.weights is not None:
            psf = psf * likelihood.weights
        with np.errstate(all='ignore'):
            factor = np.vecdot(psf, data) / np.vecdot(psf, psf)
        factor = np.where(np.isfinite(factor) & (factor > 0), factor, 1.0)
        start[j, part] = params[j] * factor

    series.run(scale, series.parts)
