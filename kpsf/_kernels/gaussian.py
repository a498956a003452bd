# Licensed under a 3-clause BSD style license - see LICENSE
"""The elliptical Gaussian: exact Newton matrices from pixel moments.

The mean of a pixel is ``mu = g + beta`` with ``g = exp(m . eta)``, the
monomials ``m = (1, X, Y, X^2, XY, Y^2)`` of the pixel's offset from the
middle of the stamp, and ``beta`` the fitted background plus whatever else
the mean holds.  In the canonical coordinates ``eta`` the gradient and the
exact Hessian of the Poisson likelihood are products of (stamps x pixels)
arrays with two constant matrices, so that an exact Newton step costs what
Fisher scoring costs.  The chain rule then leads to flux, x, y, a, b, c and
the background, in which parameters can be fixed, shared, bounded or given
a prior, and in which Newton's method needs fewer iterations.
"""

import numpy as np

from .poisson import log_ratio

__all__ = ['GaussianLikelihood']

# Exponents (of X, of Y) of the 15 products of two of the first six.
_EXPONENTS = [(i - j, j) for i in range(5) for j in range(i + 1)]
_PRODUCT = np.array([[_EXPONENTS.index((i + k, j + m)) for k, m in _EXPONENTS[:6]]
                     for i, j in _EXPONENTS[:6]])
_OBSERVED = ('newton', 'observed')
# For each parameter, the canonical coordinates that depend on it.
_NOT_ZERO = ((0,), (0, 1, 2), (0, 1, 2), (0, 1, 3), (0, 1, 2, 4), (0, 2, 5), (6,))
# Stamps that are worked on together: enough to hide the cost of Python in
# each array operation, few enough for their arrays to stay in the cache.
_BLOCK = 512
# Added to beta so that a Gaussian wing that underflows next to a
# background of zero divides without a warning; far below any count.
_TINY = 1e-290
# A flux of zero has no logarithm. In electrons this is nothing, and yet
# enough for the digits that the chain rule needs.
_SMALLEST_FLUX = 1e-8


class GaussianLikelihood:
    """Poisson likelihood of stamps under an elliptical Gaussian.

    The parameters are flux, x, y, a, b, c (of
    ``a dx^2 + 2 b dx dy + c dy^2``) and the background.

    Parameters
    ----------
    counts : ndarray, shape (n, n_pixels)
        Counts in C order, any shift for read noise added, 0 where masked.
    shape : (ny, nx)
        Shape of a stamp.
    offset : float or ndarray, shape (n_pixels,) or (n, n_pixels)
        What the mean holds besides the Gaussian and the background.
    weights : None or ndarray, shape (n, n_pixels)
        1 for pixels in the likelihood, 0 for the others.
    """

    n_params = 7

    def __init__(self, counts, shape, offset=0.0, weights=None):
        ny, nx = shape
        self.counts = counts
        self.weights = weights
        self.offset = np.asarray(offset, dtype=float) + _TINY
        self.centre = (0.5 * (nx - 1), 0.5 * (ny - 1))
        y, x = np.mgrid[:ny, :nx].reshape(2, -1).astype(float)
        x -= self.centre[0]
        y -= self.centre[1]
        products = np.array([x ** i * y ** j for i, j in _EXPONENTS])
        self._monomials = products[:6].copy()
        self._monomials_t = self._monomials.T.copy()
        self._products_t = products.T.copy()
        self._ones = np.ones(nx * ny)
        self._fewest = counts.min(initial=np.inf)
        self._buffers = np.empty((7, min(_BLOCK, len(counts)), nx * ny))

    def is_valid(self, params):
        """Say which columns of ``params`` (7, m) are ellipses not too far from the stamp.

        Further out than the stamp is wide there is nothing left that would lead back.
        """
        _, x, y, a, b, c, _ = params
        x_0, y_0 = self.centre
        near = (np.abs(x - x_0) <= 3 * x_0 + 3) & (np.abs(y - y_0) <= 3 * y_0 + 3)
        return near & (a > 0) & (c > 0) & (a * c > b * b) & np.isfinite(params).all(axis=0)

    def evaluate(self, params, rows, curvature='newton'):
        """Sum half the deviance and its derivatives over the pixels.

        Parameters
        ----------
        params : ndarray, shape (7, m)
        rows : ndarray of int, shape (m,)
            The stamps that they belong to.
        curvature : {'newton', 'observed', 'fisher', 'score'}
            Observed information (by either name), expected information, or
            the variance of the score if the counts are their own variance:
            it holds for a wrong PSF, too.

        Returns
        -------
        half_deviance (m,), gradient (7, m), information (7, 7, m)
        """
        with np.errstate(all='ignore'):
            eta = self._canonical(params)
            value, slope, curve = self._canonical_sums(eta, rows, _sign(params[0]), curvature)
            jacobian = self._jacobian(params, eta)
            gradient = np.einsum('kim,km->im', jacobian, slope)
            information = _chain(curve, jacobian)
            if curvature in _OBSERVED:
                self._add_second_order(information, params, slope)
        nothing = np.abs(params[0]) < _SMALLEST_FLUX
        if nothing.any():
            # Nothing depends on the shape and place of no star; that so little
            # does would make the solver look for it far away.
            gradient[1:6, nothing] = 0.0
            information[1:6, :, nothing] = information[:, 1:6, nothing] = 0.0
        return value, gradient, information

    def mean(self, params, rows):
        """Return the PSF and the whole mean of ``rows``, two (m, n_pixels)."""
        psf = np.empty((len(rows), len(self._ones)))
        mean = np.empty_like(psf)
        with np.errstate(all='ignore'):
            self._mean(self._canonical(params), rows, _sign(params[0]), psf, mean)
        return psf, mean

    def jacobian(self, params, rows):
        """Return the derivatives of the mean of ``rows`` by all parameters, (m, 7, n_pixels)."""
        psf, _ = self.mean(params, rows)
        with np.errstate(all='ignore'):
            by_eta = self._jacobian(params, self._canonical(params))
        jacobian = np.matmul(by_eta[:6].transpose(2, 1, 0), self._monomials)
        jacobian *= psf[:, np.newaxis]
        jacobian[:, 6] = 1.0
        return jacobian

    def _canonical(self, params):
        """Return (eta, background), (7, m); the sign of the flux is lost."""
        flux, x, y, a, b, c, background = params
        x = x - self.centre[0]
        y = y - self.centre[1]
        amplitude = np.abs(_away_from_zero(flux)) * np.sqrt(a * c - b * b) / np.pi
        return np.array([np.log(amplitude) - (a * x * x + 2 * b * x * y + c * y * y),
                         2 * (a * x + b * y), 2 * (b * x + c * y), -a, -2 * b, -c,
                         background])

    def _canonical_sums(self, eta, rows, sign, curvature):
        """Return value (m,), gradient (7, m) and matrix (7, 7, m) in eta."""
        m = len(rows)
        value = np.empty(m)
        gradient = np.empty((7, m))
        information = np.empty((7, 7, m))
        for start in range(0, m, _BLOCK):
            part = slice(start, min(start + _BLOCK, m))
            self._block(eta[:, part], rows[part], curvature,
                        None if sign is None else sign[part], value[part],
                        gradient[:, part], information[:, :, part])
        return value, gradient, information

    def _block(self, eta, rows, curvature, sign, value, gradient, information):
        """Write the sums of at most ``_BLOCK`` rows into the last three arguments."""
        counts, g, mu, delta, t, w, work = self._buffers[:, :len(rows)]
        np.take(self.counts, rows, axis=0, out=counts, mode='clip')
        weights = None if self.weights is None else self.weights[rows]
        self._mean(eta, rows, sign, g, mu)

        np.subtract(counts, mu, out=work)               # residual
        if weights is not None:
            work *= weights
        np.divide(1.0, mu, out=w)
        np.multiply(work, w, out=delta)                 # counts / mean - 1
        np.vecdot(counts, log_ratio(delta, self._fewest, t), out=value)
        value -= work @ self._ones
        if sign is not None:
            # A mean below zero has no likelihood: refuse the step to it.
            refused = mu <= 0
            if weights is not None:
                refused &= weights > 0
            value[refused.any(axis=1)] = np.inf

        if curvature != 'fisher':
            w *= np.add(delta, 1.0, out=t)              # counts / mean
        if weights is not None:
            w *= weights
        delta_g = np.multiply(g, delta, out=mu)
        w_g = np.multiply(g, w, out=t)
        np.multiply(g, w_g, out=work)
        if curvature in _OBSERVED:
            work -= delta_g

        gradient[:6] = -(delta_g @ self._monomials_t).T
        gradient[6] = -(delta @ self._ones)
        information[:6, :6] = (work @ self._products_t).T[_PRODUCT]
        information[:6, 6] = information[6, :6] = (w_g @ self._monomials_t).T
        information[6, 6] = w @ self._ones

    def _mean(self, eta, rows, sign, g, mu):
        """Write the Gaussian ``g`` and the mean ``mu``, both (m, n_pixels)."""
        np.matmul(eta[:6].T, self._monomials, out=g)
        np.exp(g, out=g)
        if sign is not None:
            g *= sign[:, None]
        if self.offset.ndim == 0:
            np.add(g, (eta[6] + self.offset)[:, None], out=mu)
        else:
            np.add(g, eta[6][:, None], out=mu)
            mu += self.offset[rows] if self.offset.ndim == 2 else self.offset

    def _jacobian(self, params, eta):
        """Return d eta_k / d theta_i, shape (7, 7, m)."""
        flux, x, y, a, b, c, _ = params
        x = x - self.centre[0]
        y = y - self.centre[1]
        det = a * c - b * b
        jacobian = np.zeros((7, 7, params.shape[1]))
        jacobian[0, :6] = (1 / _away_from_zero(flux), -eta[1], -eta[2],
                           0.5 * c / det - x * x, -b / det - 2 * x * y,
                           0.5 * a / det - y * y)
        jacobian[1, 1:5] = 2 * a, 2 * b, 2 * x, 2 * y
        jacobian[2, 1:3] = 2 * b, 2 * c
        jacobian[2, 4:6] = 2 * x, 2 * y
        jacobian[3, 3], jacobian[4, 4], jacobian[5, 5], jacobian[6, 6] = -1, -2, -1, 1
        return jacobian

    def _add_second_order(self, information, params, slope):
        """Add sum_k slope_k d2 eta_k / d theta_i d theta_j in place."""
        flux, x, y, a, b, c, _ = params
        x = x - self.centre[0]
        y = y - self.centre[1]
        s0, s1, s2 = slope[:3]
        det = a * c - b * b
        scale = s0 / det ** 2
        information[0, 0] -= s0 / _away_from_zero(flux) ** 2
        information[1, 1] -= 2 * a * s0
        information[2, 2] -= 2 * c * s0
        information[3, 3] -= 0.5 * c * c * scale
        information[4, 4] -= (a * c + b * b) * scale
        information[5, 5] -= 0.5 * a * a * scale
        for i, j, term in ((1, 2, -2 * b * s0),
                           (1, 3, 2 * (s1 - x * s0)), (1, 4, 2 * (s2 - y * s0)),
                           (2, 4, 2 * (s1 - x * s0)), (2, 5, 2 * (s2 - y * s0)),
                           (3, 4, b * c * scale), (3, 5, -0.5 * b * b * scale),
                           (4, 5, a * b * scale)):
            information[i, j] += term
            information[j, i] += term


def _chain(curve, jacobian):
    """Return J^T curve J, (7, 7, m), from the elements of J that are not zero."""
    half = np.empty_like(curve)
    for i, rows in enumerate(_NOT_ZERO):
        half[:, i] = sum(curve[:, k] * jacobian[k, i] for k in rows)
    for i, rows in enumerate(_NOT_ZERO):
        curve[i, i:] = sum(half[k, i:] * jacobian[k, i] for k in rows)
        curve[i:, i] = curve[i, i:]
    return curve


def _sign(flux):
    """Return -1 where ``flux`` is negative beyond doubt, else 1; None if none is."""
    negative = flux <= -_SMALLEST_FLUX
    return np.where(negative, -1.0, 1.0) if negative.any() else None


def _away_from_zero(flux):
    """Return ``flux`` with its zeros replaced by a flux too small to matter."""
    return np.where(np.abs(flux) < _SMALLEST_FLUX, _SMALLEST_FLUX, flux)
