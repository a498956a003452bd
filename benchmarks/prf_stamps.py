# Licensed under a 3-clause BSD style license - see LICENSE
"""Stamps of an analytic, pixel-integrated PRF, its table, and the judge of flux, x, y, background.

The PRF is the mixture of four Gaussians of `simulated_stamps`. Its integrals over the pixels and
all their derivatives are known in closed form: the judge of a fit to the table needs no table, no
spline and none of kpsf's code.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from simulated_stamps import DATA_SETS, DRIFT, MIXTURE

__all__ = ['PRFStamps', 'estimated_prf_distance', 'mixture_derivatives', 'mixture_table',
           'simulate_prf_stamps']

ORDERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
WEIGHT, X_OFFSET, Y_OFFSET, X_STDDEV, Y_STDDEV = np.array(MIXTURE).T


@dataclass(frozen=True)
class PRFStamps:
    """Counts, the truth behind them and the table to fit.

    ``counts`` (n, ny, nx) are electrons with the background in, ``truth`` (n, 4) flux, x, y,
    background; ``table`` holds the PRF at ``oversampling`` samples per pixel, the star between
    or on its middle samples.
    """

    counts: np.ndarray
    truth: np.ndarray
    table: np.ndarray
    oversampling: int

    @property
    def background(self):
        """The background in electrons per pixel, the same in all stamps."""
        return self.truth[0, 3]


def _line_integrals(places, stddev):
    """Unit Gaussians integrated over one pixel and two derivatives by the star's place.

    ``places`` (..., m) are the offsets of pixel centres from four Gaussians on one axis; the
    result is (3, ..., m).
    """
    stddev = stddev[:, None]
    right, left = (places + 0.5) / stddev, (places - 0.5) / stddev
    right_density, left_density = (np.exp(-0.5 * edge**2) / np.sqrt(2.0 * np.pi)
                                   for edge in (right, left))
    # Differences of the smaller tail keep their digits on both sides.
    mirrored = places > 0.0
    integral = np.where(mirrored, ndtr(-left) - ndtr(-right), ndtr(right) - ndtr(left))
    return np.array([integral, -(right_density - left_density) / stddev,
                     -(right * right_density - left * left_density) / stddev**2])


def mixture_derivatives(x_0, y_0, shape):
    """PRF of unit flux and its derivatives by the star's place.

    Parameters
    ----------
    x_0, y_0 : ndarray, shape (n,)
        Positions in pixels.
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    ndarray, shape (6, n, ny, nx)
        P, P_x, P_y, P_xx, P_xy, P_yy.
    """
    along_x = _line_integrals(np.arange(shape[1]) - (x_0[:, None] + X_OFFSET)[:, :, None],
                              X_STDDEV)
    along_y = _line_integrals(np.arange(shape[0]) - (y_0[:, None] + Y_OFFSET)[:, :, None],
                              Y_STDDEV)
    return np.array([np.einsum('k,nki,nkj->nij', WEIGHT, along_y[in_y], along_x[in_x])
                     for in_x, in_y in ORDERS])


def mixture_table(oversampling, n_pixels=11):
    """The mixture on a grid of samples, the star in its middle.

    Parameters
    ----------
    oversampling : int
        Samples per pixel.
    n_pixels : int, optional
        Size of the support in pixels.

    Returns
    -------
    ndarray, shape (n_pixels * oversampling, n_pixels * oversampling)
        The share of the flux in a pixel that is centred on each sample.
    """
    size = n_pixels * oversampling
    places = (np.arange(size) - 0.5 * (size - 1)) / oversampling
    along_x = _line_integrals(places - X_OFFSET[:, None], X_STDDEV)[0]
    along_y = _line_integrals(places - Y_OFFSET[:, None], Y_STDDEV)[0]
    return np.einsum('k,ki,kj->ij', WEIGHT, along_y, along_x)


def simulate_prf_stamps(name, n_stamps, *, shape=(11, 11), drift=DRIFT, oversampling=50,
                        n_pixels=11, noise=True, seed=8462852):
    """Draw stamps at the flux and background of a data set, the star near the middle.

    Parameters
    ----------
    name : str
        A key of `simulated_stamps.DATA_SETS`.
    n_stamps : int
        Number of stamps.
    shape : tuple of int, optional
        Rows and columns of a stamp.
    drift : float, optional
        Largest offset from the middle in x and in y, in pixels. As long as it is small enough
        all pixels lie in the table's support.
    oversampling, n_pixels : int, optional
        Of the table.
    noise : bool, optional
        Whether to draw counts, or to return their expectation.
    seed : int, optional
        Seed of the positions and of the Poisson noise.

    Returns
    -------
    PRFStamps
    """
    flux, background, _, _ = DATA_SETS[name]
    rng = np.random.default_rng([seed, list(DATA_SETS).index(name)])
    middle = 0.5 * (np.array(shape) - 1.0)
    x_0 = middle[1] + rng.uniform(-drift, drift, n_stamps)
    y_0 = middle[0] + rng.uniform(-drift, drift, n_stamps)
    mean = np.empty((n_stamps, *shape))
    for start in range(0, n_stamps, 2000):
        part = slice(start, start + 2000)
        mean[part] = flux * mixture_derivatives(x_0[part], y_0[part], shape)[0] + background
    truth = np.column_stack([np.full(n_stamps, flux), x_0, y_0, np.full(n_stamps, background)])
    counts = rng.poisson(mean).astype(float) if noise else mean
    return PRFStamps(counts, truth, mixture_table(oversampling, n_pixels), oversampling)


def estimated_prf_distance(params, counts, background=None, *, chunk_size=1000):
    """EDM = g H^-1 g / 2 of -ln L of the counts, with its exact Hessian.

    Parameters
    ----------
    params : ndarray, shape (n, 4) or (n, 3)
        Flux, x, y and background; three columns where the background was known, to be judged
        as a fit of three parameters.
    counts : ndarray, shape (n, ny, nx)
        Observed electrons, background included.
    background : float, optional
        The known background, for three columns.
    chunk_size : int, optional
        Stamps treated at once.

    Returns
    -------
    ndarray, shape (n,)
        As `reference.estimated_distance`: infinite where there is no minimum; a background on
        its bound is held.
    """
    distance = np.full(len(params), np.inf)
    n_free = params.shape[1]
    if n_free == 3:
        params = np.column_stack([params, np.full(len(params), background)])
    for start in range(0, len(params), chunk_size):
        part = slice(start, start + chunk_size)
        distance[part] = _chunk_distance(np.asarray(params[part], float), counts[part], n_free)
    return distance


def _chunk_distance(params, counts, n_free):
    """EDM in the first n_free of flux, x, y, background; params (n, 4), counts (n, ny, nx)."""
    distance = np.full(len(params), np.inf)
    usable = np.isfinite(params).all(axis=1) & (np.abs(params[:, 1:3]) < 100.0).all(axis=1)
    if not usable.any():
        return distance
    mean, gradient, hessian = _likelihood_derivatives(params[usable], counts[usable])
    if n_free == 4:
        held = (params[usable, 3] <= 0.0) & (gradient[:, 3] > 0.0)
        gradient[held, 3] = 0.0
        hessian[held, 3, :] = hessian[held, :, 3] = 0.0
        hessian[held, 3, 3] = 1.0
    gradient, hessian = gradient[:, :n_free], hessian[:, :n_free, :n_free]
    # Parameters span ten decades: only the scaled matrix can be inverted to full precision.
    scale = np.sqrt(np.abs(np.diagonal(hessian, axis1=1, axis2=2)))
    scale[scale == 0.0] = 1.0
    gradient, hessian = gradient / scale, hessian / scale[:, :, None] / scale[:, None, :]
    minimum = (mean > 0.0).all(axis=(1, 2)) & np.isfinite(hessian).all(axis=(1, 2))
    hessian[~minimum] = np.eye(n_free)
    minimum &= np.linalg.eigvalsh(hessian)[:, 0] > 1e-12
    step = np.linalg.solve(hessian[minimum], gradient[minimum, :, None])[..., 0]
    distance[np.flatnonzero(usable)[minimum]] = 0.5 * (gradient[minimum] * step).sum(axis=1)
    return distance


def _likelihood_derivatives(params, counts):
    """Mean (n, ny, nx), gradient (n, 4) and Hessian (n, 4, 4) of -ln L of the counts."""
    flux, x_0, y_0, background = params.T
    images = mixture_derivatives(x_0, y_0, counts.shape[1:])
    flux = flux[:, None, None]
    mean = flux * images[0] + background[:, None, None]
    residual, curvature = 1.0 - counts / mean, counts / mean**2
    slope = np.array([images[0], flux * images[1], flux * images[2], np.ones_like(mean)])
    gradient = np.einsum('inyx,nyx->ni', slope, residual)
    hessian = np.einsum('inyx,jnyx,nyx->nij', slope, slope, curvature, optimize=True)
    second = np.einsum('inyx,nyx->ni', images[1:], residual)
    for column, (i, j) in enumerate(((0, 1), (0, 2), (1, 1), (1, 2), (2, 2))):
        term = second[:, column] * (1.0 if i == 0 else flux[:, 0, 0])
        hessian[:, i, j] += term
        if i != j:
            hessian[:, j, i] += term
    return mean, gradient, hessian
