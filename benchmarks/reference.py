# Licensed under a 3-clause BSD style license - see LICENSE
"""The fitted model, its starting values and the judge of every answer, independent of kpsf.

All competitors fit ``mu = flux * sqrt(ac - b^2) / pi * exp(-(a dx^2 + 2 b dx dy + c dy^2)) +
background`` to the same pixels, and their answers are judged here by the estimated distance to
the minimum (EDM) of the Poisson likelihood of the counts: the one measure that neither the
units nor a fitter's own idea of convergence can flatter.
"""

import numpy as np

__all__ = ['estimated_distance', 'gaussian_mean', 'gaussian_mean_and_jacobian',
           'poisson_deviance', 'starting_values']

SYMMETRIC_PAIRS = tuple((i, j) for i in range(6) for j in range(i, 6))


def gaussian_mean(params, x, y):
    """Mean counts of one stamp, (n_pixels,); NaN where the shape is not positive definite."""
    flux, x_0, y_0, a, b, c, background = params
    determinant = a * c - b * b
    if not (determinant > 0.0 and a > 0.0):
        return np.full(x.shape, np.nan)
    dx, dy = x - x_0, y - y_0
    exponent = dx * (a * dx + 2.0 * b * dy) + c * dy * dy
    return flux * np.sqrt(determinant) / np.pi * np.exp(-exponent) + background


def gaussian_mean_and_jacobian(params, x, y):
    """Mean counts of one stamp, (n_pixels,), and its derivatives, (7, n_pixels)."""
    flux, x_0, y_0, a, b, c, background = params
    determinant = a * c - b * b
    jacobian = np.empty((7, x.size))
    if not (determinant > 0.0 and a > 0.0):
        jacobian.fill(np.nan)
        return jacobian[0], jacobian
    dx, dy = x - x_0, y - y_0
    slope_x, slope_y = a * dx + b * dy, b * dx + c * dy
    jacobian[0] = np.sqrt(determinant) / np.pi * np.exp(-(dx * slope_x + dy * slope_y))
    star = flux * jacobian[0]
    jacobian[1] = 2.0 * star * slope_x
    jacobian[2] = 2.0 * star * slope_y
    jacobian[3] = star * (0.5 * c / determinant - dx * dx)
    jacobian[4] = -star * (b / determinant + 2.0 * dx * dy)
    jacobian[5] = star * (0.5 * a / determinant - dy * dy)
    jacobian[6] = 1.0
    return star + background, jacobian


def poisson_deviance(counts, mean):
    """Deviance per pixel (C-stat, Baker & Cousins 1984) in a form that keeps its digits."""
    positive = counts > 0.0
    safe = np.where(positive, counts, 1.0)
    ratio = (mean - safe) / safe
    return np.where(positive, 2.0 * safe * (ratio - np.log1p(ratio)), 2.0 * mean)


def starting_values(counts):
    """Border background and three passes of Gaussian-weighted moments.

    Parameters
    ----------
    counts : ndarray, shape (n_stamps, ny, nx)
        Observed electrons, background included.

    Returns
    -------
    ndarray, shape (n_stamps, 7)
        Flux, x, y, a, b, c, background: the gift that every competitor without a start of its
        own receives outside the clock.
    """
    n_stamps, ny, nx = counts.shape
    border = np.ones((ny, nx), bool)
    border[1:-1, 1:-1] = False
    background = np.maximum(np.median(counts[:, border], axis=1), 0.1)
    star = (counts - background[:, None, None]).reshape(n_stamps, -1)
    y, x = (grid.ravel().astype(float) for grid in np.mgrid[:ny, :nx])
    x_0, y_0 = np.full(n_stamps, (nx - 1) / 2.0), np.full(n_stamps, (ny - 1) / 2.0)
    weight_shape = np.tile([0.15, 0.0, 0.15], (n_stamps, 1))
    for _ in range(3):
        centre_x, centre_y, a, b, c = _weighted_moments(star, x, y, x_0, y_0, weight_shape)
        x_0, y_0 = np.clip(centre_x, 0.0, nx - 1.0), np.clip(centre_y, 0.0, ny - 1.0)
        # A weight narrower than a pixel would make the moments depend on the sub-pixel phase.
        narrow = np.maximum(1.0, np.maximum(a, c) / 0.4)
        weight_shape = np.column_stack([a, b, c]) / narrow[:, None]
    flux = star.sum(axis=1)
    flux = np.where(flux > 0.0, flux, np.maximum(star.max(axis=1), 1.0))
    return np.column_stack([flux, x_0, y_0, a, b, c, background])


def _weighted_moments(star, x, y, x_0, y_0, weight_shape):
    """Centre and shape x, y, a, b, c (each (n,)) of star (n, n_pixels) seen through a Gaussian."""
    weight_a, weight_b, weight_c = weight_shape.T
    dx, dy = x - x_0[:, None], y - y_0[:, None]
    weighted = star * np.exp(-(weight_a[:, None] * dx * dx + 2.0 * weight_b[:, None] * dx * dy
                               + weight_c[:, None] * dy * dy))
    total = np.maximum(weighted.sum(axis=1), 1e-3 * np.abs(weighted).sum(axis=1))
    mean_x, mean_y, xx, xy, yy = ((weighted * product).sum(axis=1) / total
                                  for product in (dx, dy, dx * dx, dx * dy, dy * dy))
    xx, xy, yy = xx - mean_x**2, xy - mean_x * mean_y, yy - mean_y**2
    determinant = xx * yy - xy * xy
    spread = (determinant > 1e-3) & (xx > 0.0)
    determinant = np.where(spread, determinant, 1.0)
    a, b, c = (0.5 * yy / determinant - weight_a, -0.5 * xy / determinant - weight_b,
               0.5 * xx / determinant - weight_c)
    # Beyond these limits the weight has taken over the moments: a round star is safer.
    usable = spread & (a > 0.05) & (c > 0.05) & (a < 4.0) & (c < 4.0) & (b * b < 0.8 * a * c)
    a, b, c = np.where(usable, a, 0.5), np.where(usable, b, 0.0), np.where(usable, c, 0.5)
    pull = 1.0 + np.stack([weight_a / a, weight_c / c])
    return x_0 + pull[0] * mean_x, y_0 + pull[1] * mean_y, a, b, c


def estimated_distance(params, counts, *, chunk_size=2000):
    """EDM = g H^-1 g / 2 of -ln L of the counts, with its exact Hessian.

    A background on its bound (zero or below, the likelihood falling towards the inside) is held.

    Parameters
    ----------
    params : ndarray, shape (n_stamps, 7)
        Flux, x, y, a, b, c, background in electrons and pixels.
    counts : ndarray, shape (n_stamps, ny, nx)
        Observed electrons, background included.
    chunk_size : int, optional
        Stamps treated at once.

    Returns
    -------
    ndarray, shape (n_stamps,)
        Distance in units of ln L: an error of s standard deviations gives s^2 / 2. Infinite
        where the point is not a number, the mean not positive or the Hessian not positive
        definite, none of which is a minimum.

    References
    ----------
    .. [1] James, F. & Roos, M. 1975, Comput. Phys. Commun., 10, 343 (MINUIT's EDM).
    """
    distance = np.full(len(params), np.inf)
    for start in range(0, len(params), chunk_size):
        rows = slice(start, start + chunk_size)
        distance[rows] = _chunk_distance(np.asarray(params[rows], float), counts[rows])
    return distance


def _chunk_distance(params, counts):
    """EDM of each row of params (n, 7) given counts (n, ny, nx)."""
    n_stamps, ny, nx = counts.shape
    distance = np.full(n_stamps, np.inf)
    a, b, c = params[:, 3:6].T
    usable = np.isfinite(params).all(axis=1) & (a * c - b * b > 0.0) & (a > 0.0)
    usable &= params[:, 0] != 0.0
    if not usable.any():
        return distance
    mean, gradient, hessian = _likelihood_derivatives(params[usable], counts[usable])
    # Parameters span ten decades: only the scaled matrix can be inverted to full precision.
    scale = np.sqrt(np.abs(np.diagonal(hessian, axis1=1, axis2=2)))
    scale[scale == 0.0] = 1.0
    gradient, hessian = gradient / scale, hessian / scale[:, :, None] / scale[:, None, :]
    held = (params[usable, 6] <= 0.0) & (gradient[:, 6] > 0.0)
    gradient[held, 6] = 0.0
    hessian[held, 6, :] = hessian[held, :, 6] = 0.0
    hessian[held, 6, 6] = 1.0
    minimum = (mean > 0.0).all(axis=1) & np.isfinite(hessian).all(axis=(1, 2))
    hessian[~minimum] = np.eye(7)
    minimum &= np.linalg.eigvalsh(hessian)[:, 0] > 1e-12
    step = np.linalg.solve(hessian[minimum], gradient[minimum, :, None])[..., 0]
    distance[np.flatnonzero(usable)[minimum]] = 0.5 * (gradient[minimum] * step).sum(axis=1)
    return distance


def _likelihood_derivatives(params, counts):
    """Mean (n, n_pixels), gradient (n, 7) and Hessian (n, 7, 7) of -ln L of the counts."""
    n_stamps, ny, nx = counts.shape
    y, x = (grid.ravel().astype(float) for grid in np.mgrid[:ny, :nx])
    flux, x_0, y_0, a, b, c, background = params.T[:, :, None]
    determinant = a * c - b * b
    dx, dy = x - x_0, y - y_0
    slope_x, slope_y = a * dx + b * dy, b * dx + c * dy
    star = flux * np.sqrt(determinant) / np.pi * np.exp(-(dx * slope_x + dy * slope_y))
    mean = star + background
    residual = 1.0 - counts.reshape(n_stamps, -1) / mean
    curvature = counts.reshape(n_stamps, -1) / mean**2
    # ln(star) has simple derivatives; those of star follow by the product rule.
    slope = np.stack(np.broadcast_arrays(
        np.ones_like(star) / flux, 2.0 * slope_x, 2.0 * slope_y, 0.5 * c / determinant - dx * dx,
        -b / determinant - 2.0 * dx * dy, 0.5 * a / determinant - dy * dy))
    second = {
        (0, 0): -1.0 / flux**2, (1, 1): -2.0 * a, (1, 2): -2.0 * b, (2, 2): -2.0 * c,
        (1, 3): 2.0 * dx, (1, 4): 2.0 * dy, (2, 4): 2.0 * dx, (2, 5): 2.0 * dy,
        (3, 3): -0.5 * c**2 / determinant**2, (5, 5): -0.5 * a**2 / determinant**2,
        (4, 4): -1.0 / determinant - 2.0 * b**2 / determinant**2,
        (3, 4): b * c / determinant**2, (4, 5): a * b / determinant**2,
        (3, 5): -0.5 * b**2 / determinant**2,
    }
    gradient, hessian = np.empty((n_stamps, 7)), np.empty((n_stamps, 7, 7))
    gradient[:, 6], hessian[:, 6, 6] = residual.sum(axis=1), curvature.sum(axis=1)
    for i in range(6):
        gradient[:, i] = (residual * star * slope[i]).sum(axis=1)
        hessian[:, i, 6] = hessian[:, 6, i] = (curvature * star * slope[i]).sum(axis=1)
    for i, j in SYMMETRIC_PAIRS:
        product = slope[i] * slope[j]
        curved = product + second.get((i, j), 0.0)
        term = curvature * star**2 * product + residual * star * curved
        hessian[:, i, j] = hessian[:, j, i] = term.sum(axis=1)
    return mean, gradient, hessian
