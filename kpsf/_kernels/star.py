# Licensed under a 3-clause BSD style license - see LICENSE
"""One star per stamp: what all kernels share whose mean is flux times an image, and a background.

With the image P of unit flux, its derivatives by the star's place (and
shape), and the sums over pixels of a slope times its second derivatives, the
exact Hessian is a few small matrix products of each stamp.  A kernel only
has to know its images.
"""

import numpy as np

from .poisson import continued_terms

__all__ = ['StarLikelihood']

# Stamps that are worked on together: enough to hide the cost of Python in each array operation,
# few enough for most of their arrays to stay in the cache.
_BLOCK = 192
_OBSERVED = ('newton', 'observed')
# Nothing depends on the place of less light than this, in electrons.
_SMALLEST_FLUX = 1e-8
# Mean in electrons under which a pixel's likelihood is continued: it tells nothing down there, and
# a PRF with wings below zero, where there is no sky, finds its way.
_FLOOR = 1e-3


class StarLikelihood:
    """Poisson likelihood of stamps under flux times an image, and a background.

    The first parameters are the flux and those that the image has
    derivatives by, the place first; the last is the background. Others in
    between do nothing.

    A subclass has ``is_valid(params)``, as the solver asks for it, and

    ``_stars_at(params, rows)``
        what is to be known of the stars, with a method ``of(part)``;
    ``_images(stars)``
        P and its derivatives (m, k, n_pixels) for at most one block of
        stars, in a buffer of which the next call may make use, and what
        ``_bends`` takes;
    ``_psf(stars)``
        P alone, (m, n_pixels);
    ``_bends(slope, of_images)``
        the sums over pixels of the slope (m, n_pixels) times the second
        derivatives of P, (m, k (k - 1) / 2), in the order xx, xy, ..., yy, ...

    Parameters
    ----------
    counts : ndarray, shape (n, n_pixels)
        Counts in C order, any shift for read noise added, 0 where masked.
    n_images : int
        k, P and the number of its derivatives.
    n_params : int
        1 + k and the number of parameters that do nothing.
    offset : float or ndarray, shape (n_pixels,) or (n, n_pixels)
        What the mean holds besides the star and the background.
    weights : None or ndarray, shape (n, n_pixels)
        1 for pixels in the likelihood, 0 for the others.
    """

    def __init__(self, counts, n_images, n_params, offset=0.0, weights=None):
        self.counts = counts
        self.weights = weights
        self.n_params = n_params
        self.offset = np.asarray(offset, dtype=float)
        self._n_images = n_images
        self._pairs = np.triu_indices(n_images - 1)
        self._ones = np.ones(counts.shape[1])
        size = min(_BLOCK, len(counts))
        # The images, and what they are multiplied with.
        self._buffer = np.empty((size, n_images, counts.shape[1]))
        self._factors = np.empty((size, n_images + 2, counts.shape[1]))

    def evaluate(self, params, rows, curvature='newton'):
        """Sum half the deviance and its derivatives over the pixels.

        As `GaussianLikelihood.evaluate`.
        """
        (p, m), k = params.shape, self._n_images
        value, totals = np.empty(m), np.empty((m, 2))
        products, bends = np.empty((m, k, k + 2)), np.zeros((m, len(self._pairs[0])))
        with np.errstate(all='ignore'):
            stars = self._stars_at(params, rows)
            for part in _blocks(m):
                self._sum_block(params[:, part], rows[part], curvature, stars.of(part),
                                value[part], products[part], totals[part], bends[part])
            slope, curve = self._in_parameters(
                params[0], products.transpose(1, 2, 0), totals.T,
                bends.T if curvature in _OBSERVED else None)
        gradient, information = np.zeros((p, m)), np.zeros((p, p, m))
        gradient[:k], gradient[-1] = slope[:k], slope[k]
        information[:k, :k], information[-1, -1] = curve[:k, :k], curve[k, k]
        information[:k, -1] = information[-1, :k] = curve[:k, k]
        return value, gradient, information

    def mean(self, params, rows):
        """Return the PSF and the whole mean of ``rows``, two (m, n_pixels)."""
        psf = np.empty((len(rows), self.counts.shape[1]))
        with np.errstate(all='ignore'):
            stars = self._stars_at(params, rows)
            for part in _blocks(len(rows)):
                psf[part] = self._psf(stars.of(part))
            psf *= params[0][:, np.newaxis]
        return psf, psf + params[-1][:, np.newaxis] + self._offset_of(rows)

    def jacobian(self, params, rows):
        """Return the derivatives of the mean of ``rows`` by all parameters, (m, p, n_pixels)."""
        k = self._n_images
        jacobian = np.zeros((len(rows), self.n_params, self.counts.shape[1]))
        jacobian[:, -1] = 1.0
        with np.errstate(all='ignore'):
            stars = self._stars_at(params, rows)
            for part in _blocks(len(rows)):
                jacobian[part, :k] = self._images(stars.of(part))[0]
        jacobian[:, 1:k] *= params[0][:, np.newaxis, np.newaxis]
        return jacobian

    def _offset_of(self, rows):
        """Return the part of the offset that belongs to ``rows``."""
        return self.offset[rows] if self.offset.ndim == 2 else self.offset

    def _sum_block(self, params, rows, curvature, stars, value, products, totals, bends):
        """Write the sums over pixels of at most ``_BLOCK`` rows into the last four arguments.

        Half the deviance (m,); products (m, k, k + 2) of the images with
        these times the information, the information and the slope; totals of
        the latter two (m, 2); and, where it is needed, that of the slope with
        the second derivatives.
        """
        images, of_images = self._images(stars)
        mean = images[:, 0] * params[0, :, np.newaxis]
        mean += params[-1][:, np.newaxis]
        mean += self._offset_of(rows)
        half_deviance, slope, expected, observed = continued_terms(self.counts[rows], mean, _FLOOR)
        weight = expected if curvature == 'fisher' else observed
        if self.weights is not None:
            used = self.weights[rows] > 0
            half_deviance, slope, weight = (np.where(used, term, 0.0)
                                            for term in (half_deviance, slope, weight))
        k = self._n_images
        factors = self._factors[:len(rows)]
        factors[:, k], factors[:, k + 1] = weight, slope
        np.multiply(images, weight[:, np.newaxis], out=factors[:, :k])
        np.matmul(half_deviance, self._ones, out=value)
        np.matmul(factors[:, k:], self._ones, out=totals)
        np.matmul(images, factors.transpose(0, 2, 1), out=products)
        if curvature in _OBSERVED:
            bends[:] = self._bends(slope, of_images)

    def _in_parameters(self, flux, products, totals, bends):
        """Return gradient (k + 1, m) and information in flux, place, shape and background.

        ``products`` (k, k + 2, m), ``totals`` (2, m) and ``bends`` are the sums
        over pixels; without ``bends`` the information is that of first
        derivatives.
        """
        k = self._n_images
        information = np.empty((k + 1, k + 1, len(flux)))
        information[:k, :k] = products[:, :k]
        information[:k, k] = information[k, :k] = products[:, k]
        information[k, k] = totals[0]
        information[1:k] *= flux
        information[:, 1:k] *= flux
        gradient = np.concatenate([products[:, k + 1], totals[1:]])
        if bends is not None:
            information[0, 1:k] += gradient[1:k]
            information[1:k, 0] += gradient[1:k]
            for i, j, bend in zip(*self._pairs, flux * bends):
                information[1 + i, 1 + j] += bend
                if i != j:
                    information[1 + j, 1 + i] += bend
        gradient[1:k] *= flux
        nothing = np.abs(flux) < _SMALLEST_FLUX
        if nothing.any():
            gradient[1:k, nothing] = 0.0
            information[1:k, :, nothing] = information[:, 1:k, nothing] = 0.0
        return gradient, information


def _blocks(m):
    """Yield the slices of at most ``_BLOCK`` of m stars."""
    return (slice(start, min(start + _BLOCK, m)) for start in range(0, m, _BLOCK))
