# Licensed under a 3-clause BSD style license - see LICENSE
"""The elliptical Gaussian by its widths and angle, or by one width.

The sums over pixels are those of `GaussianLikelihood`; the chain rule leads
from a, b, c of its exponent to full widths at half maximum and an angle.
"""

import numpy as np

from .gaussian import GaussianLikelihood

__all__ = ['WidthsLikelihood', 'shape_of_widths']

_RADIANS = np.pi / 180.0
_LN_16 = 4.0 * np.log(2.0)
_OBSERVED = ('newton', 'observed')


def shape_of_widths(widths):
    """Return a, b, c and their derivatives by the widths.

    Parameters
    ----------
    widths : ndarray, shape (1, m) or (3, m)
        One full width at half maximum; or those along two axes, and the
        angle of the first from the x axis, counterclockwise in degrees.

    Returns
    -------
    shape : ndarray, shape (3, m)
        Coefficients a, b, c of ``a dx^2 + 2 b dx dy + c dy^2``.
    first : ndarray, shape (3, s, m)
    second : ndarray, shape (3, s, s, m)
    """
    if len(widths) == 1:
        a = _LN_16 / widths[0]**2
        round_ = np.array([1.0, 0.0, 1.0])[:, np.newaxis]
        first, second = -2.0 * a / widths[0], 6.0 * a / widths[0]**2
        return (round_ * a, (round_ * first)[:, np.newaxis],
                (round_ * second)[:, np.newaxis, np.newaxis])
    along, across = _LN_16 / widths[:2]**2
    cosine, sine = np.cos(_RADIANS * widths[2]), np.sin(_RADIANS * widths[2])
    # a, b and c are the same combinations of the precisions along the axes, and of their
    # derivatives; those of the combinations by the angle repeat themselves.
    of_along = np.array([cosine**2, sine * cosine, sine**2])
    of_across = np.array([sine**2, -sine * cosine, cosine**2])
    turned = _RADIANS * np.array([-2 * sine * cosine, cosine**2 - sine**2, 2 * sine * cosine])
    a, b, c = shape = along * of_along + across * of_across
    first = np.array([-2 * along / widths[0] * of_along, -2 * across / widths[1] * of_across,
                      (along - across) * turned]).transpose(1, 0, 2)
    second = np.zeros((3, 3, 3, widths.shape[1]))
    second[:, 0, 0] = 6 * along / widths[0]**2 * of_along
    second[:, 1, 1] = 6 * across / widths[1]**2 * of_across
    second[:, 0, 2] = second[:, 2, 0] = -2 * along / widths[0] * turned
    second[:, 1, 2] = second[:, 2, 1] = 2 * across / widths[1] * turned
    second[:, 2, 2] = _RADIANS**2 * np.array([-2 * (a - c), -4 * b, 2 * (a - c)])
    return shape, first, second


class WidthsLikelihood:
    """Poisson likelihood of stamps under a Gaussian given by widths.

    The parameters are flux, x, y, the widths that `shape_of_widths` takes,
    and the background; the arguments those of `GaussianLikelihood` and

    Parameters
    ----------
    n_widths : {1, 3}
        Number of widths, the angle included.
    """

    def __init__(self, counts, shape, n_widths, offset=0.0, weights=None):
        self._gaussian = GaussianLikelihood(counts, shape, offset, weights)
        self.counts, self.weights = self._gaussian.counts, self._gaussian.weights
        self._widths = slice(3, 3 + n_widths)
        self.n_params = 4 + n_widths

    def is_valid(self, params):
        """Say which columns of ``params`` are Gaussians not too far from the stamp."""
        with np.errstate(all='ignore'):
            valid = self._gaussian.is_valid(self._inner(params)[0])
        # The angle may be any.
        return valid & (params[3:3 + min(self.n_params - 4, 2)] > 0).all(axis=0)

    def evaluate(self, params, rows, curvature='newton'):
        """Sum half the deviance and its derivatives over the pixels.

        As `GaussianLikelihood.evaluate`.
        """
        with np.errstate(all='ignore'):
            inner, first, second = self._inner(params)
            value, slope, curve = self._gaussian.evaluate(inner, rows, curvature)
            return value, *self._chain(slope, curve, first, second, curvature in _OBSERVED)

    def mean(self, params, rows):
        """Return the PSF and the whole mean of ``rows``, two (m, n_pixels)."""
        return self._gaussian.mean(self._inner(params)[0], rows)

    def jacobian(self, params, rows):
        """Return the derivatives of the mean of ``rows`` by all parameters, (m, p, n_pixels)."""
        inner, first, _ = self._inner(params)
        of_gaussian = self._gaussian.jacobian(inner, rows)
        by_widths = np.matmul(first.transpose(2, 1, 0), of_gaussian[:, 3:6])
        return np.concatenate([of_gaussian[:, :3], by_widths, of_gaussian[:, -1:]], axis=1)

    def _inner(self, params):
        """Return flux, x, y, a, b, c and background (7, m), and derivatives of a, b, c."""
        shape, first, second = shape_of_widths(params[self._widths])
        return np.concatenate([params[:3], shape, params[-1:]]), first, second

    def _chain(self, slope, curve, first, second, is_observed):
        """Return gradient (p, m) and information (p, p, m) in the parameters."""
        p, widths = self.n_params, self._widths
        place = np.array([0, 1, 2, p - 1])
        rest = [0, 1, 2, 6]
        gradient, information = np.empty((p, slope.shape[1])), np.empty((p, p, slope.shape[1]))
        gradient[place] = slope[rest]
        gradient[widths] = np.einsum('ksm,km->sm', first, slope[3:6])
        information[np.ix_(place, place)] = curve[np.ix_(rest, rest)]
        mixed = np.einsum('ksm,kim->sim', first, curve[3:6][:, rest])
        information[widths, place] = mixed
        information[place, widths] = mixed.transpose(1, 0, 2)
        own = np.einsum('ksm,klm,ltm->stm', first, curve[3:6, 3:6], first, optimize=True)
        if is_observed:
            own += np.einsum('kstm,km->stm', second, slope[3:6])
        information[widths, widths] = own
        return gradient, information
