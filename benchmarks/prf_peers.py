# Licensed under a 3-clause BSD style license - see LICENSE
"""The competitors of the tabulated PRF: one function each, the tool as its users call it.

Every function takes counts (n, ny, nx) in electrons, starting values (n, 4) of flux, x, y and
background, and a `prf_stamps.PRFStamps`, of which it may use the table and, as a gift, the true
background. It returns parameters (n, 4) with the tool's own verdict "converged" (n,); (n, 3)
where the tool cannot fit a background and was given the true one.
"""

import warnings
from functools import lru_cache, partial

import numpy as np
from clock import Peer
from reference import poisson_deviance
from scipy.interpolate import RectBivariateSpline
from scipy.optimize import curve_fit, least_squares

__all__ = ['PRF_PEERS', 'SplinePRF']

# Bit of the flags of PSFPhotometry.
PHOTUTILS_NOT_CONVERGED = 8


class SplinePRF:
    """scipy's bicubic spline through a table, with its derivatives by the star's place.

    Three ways to call it, from the plainest to the fastest: ``ev`` is what its name says, with
    ``dx`` and ``dy``, which differentiate all coefficients in every call; ``points`` has splines
    of the derivatives built beforehand; ``grid`` makes use of the pixels' regular grid as well.
    """

    def __init__(self, table, oversampling):
        places = [(np.arange(size) - 0.5 * (size - 1)) / oversampling for size in table.shape]
        self.spline = RectBivariateSpline(*places, table)
        self._by_x = self.spline.partial_derivative(0, 1)
        self._by_y = self.spline.partial_derivative(1, 0)

    def ev(self, dx, dy, n_images=3):
        """P, P_x and P_y (or P alone) at offsets (n_pixels,), shape (n_images, n_pixels)."""
        value = self.spline.ev(dy, dx)
        if n_images == 1:
            return value[None]
        return np.array([value, -self.spline.ev(dy, dx, dy=1), -self.spline.ev(dy, dx, dx=1)])

    def points(self, dx, dy, n_images=3):
        """P, P_x and P_y (or P alone) at offsets (n_pixels,), shape (n_images, n_pixels)."""
        value = self.spline.ev(dy, dx)
        if n_images == 1:
            return value[None]
        return np.array([value, -self._by_x(dy, dx, grid=False), -self._by_y(dy, dx, grid=False)])

    def grid(self, dx, dy, n_images=3):
        """P, P_x and P_y (or P alone) at columns (nx,) and rows (ny,), (n_images, ny * nx)."""
        value = self.spline(dy, dx).ravel()
        if n_images == 1:
            return value[None]
        return np.array([value, -self._by_x(dy, dx).ravel(), -self._by_y(dy, dx).ravel()])

    def on_stamp(self, way, shape, corner=(0.0, 0.0)):
        """The function images(x_0, y_0, n_images=3) on a stamp whose first pixel is at corner."""
        x, y = np.arange(shape[1]) + corner[0], np.arange(shape[0]) + corner[1]
        if way != 'grid':
            x, y = (place.ravel() for place in np.meshgrid(x, y))
        call = getattr(self, way)
        return lambda x_0, y_0, n_images=3: call(x - x_0, y - y_0, n_images)


@lru_cache(maxsize=4)
def _cached_spline(table_bytes, shape, oversampling):
    """Build the spline of a table once: building is nobody's share of a fit."""
    return SplinePRF(np.frombuffer(table_bytes).reshape(shape), oversampling)


def _spline_of(stamps):
    return _cached_spline(stamps.table.tobytes(), stamps.table.shape, stamps.oversampling)


def _images(stamps, shape, way):
    """The function images(x_0, y_0, n_images) on the pixels of a stamp."""
    return _spline_of(stamps).on_stamp(way, shape)


def _loop(fit_one, counts, start):
    """Apply fit_one(pixels, start) -> (params, success) to every stamp."""
    params, success = np.empty((len(counts), 4)), np.empty(len(counts), bool)
    with np.errstate(all='ignore'), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for index, pixels in enumerate(counts.reshape(len(counts), -1)):
            params[index], success[index] = fit_one(pixels, start[index])
    return params, success


def _mean_and_jacobian(images, params):
    """Mean counts (n_pixels,) and their derivatives (4, n_pixels)."""
    flux, x_0, y_0, background = params
    jacobian = np.ones((4, images.shape[1]))
    jacobian[0] = images[0]
    np.multiply(images[1:], flux, out=jacobian[1:3])
    return flux * images[0] + background, jacobian


def curve_fit_ev(counts, start, stamps):
    """curve_fit (MINPACK's LM, numerical derivatives), errors sqrt(counts), over ev."""
    images = _images(stamps, counts.shape[1:], 'ev')

    def model(_, flux, x_0, y_0, background):
        return flux * images(x_0, y_0, 1)[0] + background

    def fit_one(pixels, begin):
        params, _ = curve_fit(model, None, pixels, begin,
                              sigma=np.sqrt(np.maximum(pixels, 1.0)))
        return params, True

    return _loop(fit_one, counts, start)


def least_squares_lm(counts, start, stamps, *, way='ev', analytic=True):
    """least_squares, method 'lm', on signed roots of the Poisson deviance."""
    images = _images(stamps, counts.shape[1:], way)

    def fit_one(pixels, begin):
        def roots_at(mean):
            if not mean.min() > 0.0:
                # A NaN would end the fit; a finite wall makes the steps shrink instead.
                return np.full(pixels.shape, 1e10)
            return np.copysign(np.sqrt(np.maximum(poisson_deviance(pixels, mean), 0.0)),
                               mean - pixels)

        def roots(params):
            return roots_at(params[0] * images(params[1], params[2], 1)[0] + params[3])

        def root_jacobian(params):
            mean, jacobian = _mean_and_jacobian(images(params[1], params[2]), params)
            root, difference = roots_at(mean), mean - pixels
            # d(root)/d(mean) = (mean - k) / (mean root), a 0/0 where model and pixel agree.
            near = np.abs(difference) < 1e-6 * mean
            slope = np.where(near, 1.0 / np.sqrt(mean),
                             difference / np.where(near, 1.0, mean * root))
            return (slope * jacobian).T

        scale = 'jac' if analytic else np.array([np.sqrt(max(begin[0], 1.0)), 0.01, 0.01,
                                                 np.sqrt(max(begin[3], 1.0))])
        result = least_squares(roots, begin, root_jacobian if analytic else '2-point',
                               method='lm', x_scale=scale)
        return result.x, result.success

    return _loop(fit_one, counts, start)


def hand_written_lm(counts, start, stamps, *, way='ev'):
    """Levenberg-Marquardt for the Poisson likelihood, in 25 lines of NumPy as experts write it.

    Expected information, Marquardt's damping, an end at an EDM of 1e-8.
    """
    images = _images(stamps, counts.shape[1:], way)
    diagonal = np.arange(4)

    def fit_one(pixels, begin):
        def look(params):
            mean, jacobian = _mean_and_jacobian(images(params[1], params[2]), params)
            if not mean.min() > 0.0:
                return np.inf, None, None
            value = poisson_deviance(pixels, mean).sum()
            return value, jacobian @ (1.0 - pixels / mean), (jacobian / mean) @ jacobian.T

        params, damping = begin, 0.0
        value, gradient, information = look(params)
        for _ in range(50):
            matrix = information.copy()
            matrix[diagonal, diagonal] *= 1.0 + damping
            step = np.linalg.solve(matrix, -gradient)
            trial = params + step
            if -0.5 * gradient @ step < 1e-8:
                return trial, True
            new = look(trial)
            if new[0] <= value:
                params, damping = trial, 0.1 * damping
                value, gradient, information = new
            else:
                damping = max(10.0 * damping, 1e-3)
        return params, False

    return _loop(fit_one, counts, start)


def photutils_photometry(counts, start, stamps, *, is_kind=False, fitter_name=None):
    """PSFPhotometry with an ImagePSF of the table on a mosaic of all stamps, in one call.

    It fits no background: the true one is subtracted. Starting fluxes and positions are given,
    so that it measures no apertures. ``is_kind`` builds the spline before the fits, whose
    copies of the model then share it; by itself it is built again for every star.
    """
    from astropy.modeling import fitting
    from astropy.table import QTable
    from photutils.psf import ImagePSF, PSFPhotometry

    mosaic, corner = _mosaic(counts, stamps.background)
    guess = QTable({'x': start[:, 1] + corner[0], 'y': start[:, 2] + corner[1],
                    'flux': start[:, 0]})
    model = ImagePSF(stamps.table, oversampling=stamps.oversampling)
    if is_kind:
        model.interpolator = _photutils_spline(stamps.table.tobytes(), stamps.oversampling)
    fitter = None if fitter_name is None else getattr(fitting, fitter_name)()
    photometry = PSFPhotometry(model, counts.shape[1:], fitter=fitter)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        found = photometry(mosaic - stamps.background, init_params=guess,
                           error=np.sqrt(np.maximum(mosaic, 1.0)))
    params = np.column_stack([found['flux_fit'], found['x_fit'] - corner[0],
                              found['y_fit'] - corner[1]])
    return params, (np.asarray(found['flags']) & PHOTUTILS_NOT_CONVERGED) == 0


def _mosaic(counts, background):
    """One image of all stamps, and the columns and rows (2, n) of their first pixels."""
    n_stamps, ny, nx = counts.shape
    n_columns = int(np.ceil(np.sqrt(n_stamps)))
    n_rows = -(-n_stamps // n_columns)
    tiles = np.full((n_rows * n_columns, ny, nx), background)
    tiles[:n_stamps] = counts
    image = tiles.reshape(n_rows, n_columns, ny, nx).swapaxes(1, 2).reshape(n_rows * ny, -1)
    row, column = np.divmod(np.arange(n_stamps), n_columns)
    return image, np.array([column * nx, row * ny])


@lru_cache(maxsize=4)
def _photutils_spline(table_bytes, oversampling):
    """The spline that an ImagePSF of a square table builds when it is first evaluated."""
    from photutils.psf import ImagePSF

    table = np.frombuffer(table_bytes)
    size = round(np.sqrt(table.size))
    return ImagePSF(table.reshape(size, size), oversampling=oversampling).interpolator


PRF_PEERS = (
    Peer('photutils PSFPhotometry, ImagePSF', photutils_photometry, 50, 200, True),
    Peer('photutils PSFPhotometry, ImagePSF, spline built beforehand',
         partial(photutils_photometry, is_kind=True), 100, 200, True),
    Peer('photutils PSFPhotometry, ImagePSF, spline built beforehand, LMLSQFitter',
         partial(photutils_photometry, is_kind=True, fitter_name='LMLSQFitter'), 100, 200, True),
    Peer('curve_fit over RectBivariateSpline.ev', curve_fit_ev, 100, 150, True),
    Peer("least_squares 'lm' over ev, numerical derivatives",
         partial(least_squares_lm, analytic=False), 50, 150, True),
    Peer("least_squares 'lm' over ev with dx, dy", least_squares_lm, 50, 150, True),
    Peer('hand-written Poisson LM over ev with dx, dy', hand_written_lm, 50, 150, True),
    Peer("least_squares 'lm', splines of the derivatives, points",
         partial(least_squares_lm, way='points'), 50, None, True),
    Peer('hand-written Poisson LM, splines of the derivatives, points',
         partial(hand_written_lm, way='points'), 100, None, True),
    Peer('hand-written Poisson LM, splines of the derivatives, grid',
         partial(hand_written_lm, way='grid'), 200, None, True),
)
