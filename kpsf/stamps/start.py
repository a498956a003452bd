# Licensed under a 3-clause BSD style license - see LICENSE
"""Starting values of every stamp: from the data, the model and the user."""

from functools import partial

import numpy as np

from .._kernels.moments import starting_values
from ..models import position_names, precision_to_stddev, scale_name
from ..models.gaussian import SIGMA_TO_FWHM

__all__ = ['starting_params']

# Sub-pixel phases along each axis at which a PRF is measured as the stamps are.
_N_PHASES = 4
_MANY = 1e12
# Narrowest standard deviation in pixels of a starting width.
_NARROWEST = 0.3


def starting_params(problem, series):
    """Return starting values inside the bounds.

    What the user gave is taken, fixed parameters are the model's, and what
    is left is measured: position, flux and background from moments, and
    the shape too where the model is an elliptical Gaussian.

    Parameters
    ----------
    problem : Problem
    series : Series
        Knows the chunks and how to run them.

    Returns
    -------
    ndarray, shape (p, m)
    """
    start, init = np.empty((problem.n_params, len(problem.rows))), problem.init
    kind, names = problem.kernel.kind, problem.model.param_names
    reference, precision = (1.0, 0.0, 0.0, 0.0), None
    if kind == 'tabulated':
        reference, precision = _measured_table(problem)

    def measure(part):
        moments = _moments(problem, problem.stamps(part), precision)
        start[:, part] = (moments if kind == 'gaussian'
                          else _from_moments(problem, moments, reference))
        for j in widths:
            start[j, part] = _width(names[j], moments[3:6], kind, problem)

    place_is_known = all(name in init for name in position_names(problem.model))
    if place_is_known:
        start[:] = problem.fixed_values[:, np.newaxis]
    moving = set(problem.moving)
    widths = _widths_to_measure(problem, moving)
    if not place_is_known or kind == 'gaussian' or widths:
        series.run(measure, series.parts)
    for j, name in enumerate((*names, 'background')):
        if name in init:
            start[j] = init[name] if np.ndim(init[name]) == 0 else init[name][problem.rows]
        elif j not in moving:
            start[j] = problem.fixed_values[j]
        elif j in problem.shared:
            start[j] = np.median(start[j])
    if place_is_known or kind not in ('gaussian', 'tabulated'):
        _fit_linear(problem, start, series, place_is_known)
    if problem.kernel.lowest < 0 and problem.n_params - 1 in moving:
        # A mean below zero, in negative wings without sky, is no place to start from.
        start[-1] = np.maximum(start[-1], -problem.kernel.lowest * start[0])
    j, limits = problem.moving, series.constraints
    start[j] = np.clip(start[j], limits.lower[j], limits.upper[j])
    start[problem.shared] = np.median(start[problem.shared], axis=1, keepdims=True)
    if kind == 'gaussian':
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


def _moments(problem, rows, precision):
    """Return flux, x, y, a, b, c and background of the stamps ``rows``, (7, m)."""
    counts, weights = problem.pixels(rows)
    measure_background = problem.n_params - 1 in problem.moving
    return starting_values(counts, problem.shape, weights, problem.known_mean(rows),
                           measure_background, precision)


def _from_moments(problem, moments, reference):
    """Return the parameters (p, m) of a model that moments of stamps stand for.

    ``reference`` is what the moments of the model itself would be, at flux 1, position 0 and
    background 0.
    """
    start = np.repeat(problem.fixed_values[:, None], moments.shape[1], axis=1)
    names = problem.model.param_names
    scale, x, y, wings = reference
    for name, values in zip((scale_name(problem.model), *position_names(problem.model)),
                            (moments[0] / scale, moments[1] - x, moments[2] - y), strict=True):
        if name is not None:
            start[names.index(name)] = values
    start[-1] = moments[6] - wings * moments[0] / scale
    return start


def _widths_to_measure(problem, moving):
    """Return the indices of a Gaussian's widths and angle that move and were not given."""
    if problem.kernel.kind not in ('widths', 'integrated'):
        return []
    names = problem.model.param_names
    return [j for j in range(3, len(names)) if j in moving and names[j] not in problem.init]


def _width(name, precision, kind, problem):
    """Return a width, or the angle in degrees, (m,), of Gaussians of precision a, b, c (3, m)."""
    a, b, c = precision
    x_stddev, y_stddev, theta = precision_to_stddev(a, b, c)
    if not problem.moves('theta'):
        # Of the projections on the axes, which do not turn.
        x_stddev, y_stddev = np.sqrt(0.5 * np.array([c, a]) / (a * c - b * b))
    stddev = {'x_fwhm': x_stddev, 'y_fwhm': y_stddev}.get(name, np.sqrt(x_stddev * y_stddev))
    if name == 'theta':
        return np.degrees(theta)
    if kind == 'integrated':
        # The moments have seen the pixels as well.
        stddev = np.sqrt(np.maximum(stddev**2 - 1.0 / 12.0, _NARROWEST**2))
    return stddev if name == 'sigma' else SIGMA_TO_FWHM * stddev


def _measured_table(problem):
    """Return what moments make of a tabulated PRF.

    Its centroid is not its origin, and its wings are not a Gaussian's.

    Returns
    -------
    reference : ndarray, shape (4,)
        Flux, x, y and background for a flux of 1 at 0.
    precision : ndarray, shape (3,)
        a, b, c of the Gaussian that its core is like.
    """
    ny, nx = problem.shape
    phase = (np.arange(_N_PHASES) + 0.5) / _N_PHASES - 0.5
    x, y = (place.ravel() for place in np.meshgrid((nx - 1) // 2 + phase, (ny - 1) // 2 + phase))
    params = np.repeat(problem.fixed_values[:, None], x.size, axis=1)
    params[:3], params[-1] = (np.ones_like(x), x, y), 0.0
    psf, _ = problem.kernel.likelihood(np.ones((x.size, ny * nx))).mean(params, np.arange(x.size))
    is_fitted = problem.n_params - 1 in problem.moving
    # So many photons that what an empty border stands for does not matter.
    moments = partial(starting_values, _MANY * psf, problem.shape, measure_background=is_fitted)
    precision = moments()[3:6].mean(axis=1)
    flux, at_x, at_y, _, _, _, background = moments(precision=precision)
    return np.array([flux / _MANY, at_x - x, at_y - y, background / _MANY]).mean(axis=1), precision


def _fit_linear(problem, start, series, place_is_known):
    """Fit the flux (or amplitude) by least squares, in place; at known places the background, too.

    Only those that move and were not given.
    """
    name = scale_name(problem.model)
    if name is None:
        return
    j, moving = problem.model.param_names.index(name), set(problem.moving)
    is_free = name not in problem.init and j in moving
    with_background = (place_is_known and 'background' not in problem.init
                       and problem.n_params - 1 in moving)
    if not is_free and not with_background:
        return

    def fit(part):
        likelihood = series.objective(part)
        params = start[:, part].copy()
        params[j] = np.where(params[j] == 0, 1.0, params[j])
        if with_background:
            params[-1] = 0.0
        psf, mean = likelihood.mean(params, np.arange(params.shape[1]))
        used = 1.0 if likelihood.weights is None else likelihood.weights
        factor, level = _solve_linear(psf * used, (likelihood.counts - mean + psf) * used,
                                      np.broadcast_to(used, psf.shape).sum(axis=1),
                                      likelihood.counts, is_free, with_background)
        if is_free:
            start[j, part] = params[j] * factor
        if with_background:
            # A level of 0 still stands for a small positive expectation.
            start[-1, part] = np.maximum(level, 0.01 - np.min(mean - psf, axis=1))

    series.run(fit, series.parts)


def _solve_linear(psf, data, n_used, counts, with_factor, with_level):
    """Return the factor of a PSF and the level beside it, (m,) each, least squares.

    A star that the data do not show is given the flux of one standard error:
    one below zero would be driven away from the light.
    """
    square, total = np.vecdot(psf, psf), psf.sum(axis=1)
    overlap, light = np.vecdot(psf, data), data.sum(axis=1)
    factor, level = np.ones(len(psf)), np.zeros(len(psf))
    with np.errstate(all='ignore'):
        if with_factor:
            free = square - total**2 / n_used if with_level else square
            factor = (overlap - total * light / n_used if with_level else overlap) / free
            error = np.sqrt(np.maximum(counts.sum(axis=1), 1.0) / n_used / free)
            factor = np.maximum(factor, error)
            factor = np.where(np.isfinite(factor) & (factor > 0), factor, 1.0)
        if with_level:
            level = np.nan_to_num((light - factor * total) / n_used)
    return factor, level
