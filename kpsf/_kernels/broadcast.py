# Licensed under a 3-clause BSD style license - see LICENSE
"""Any model that evaluates arrays of parameters: analytic or numerical derivatives."""

import numpy as np

from .poisson import continued_terms

__all__ = ['BroadcastLikelihood', 'SingleLikelihood']

# Numbers in the largest array, (rows x parameters x pixels), that one
# block makes: a quarter of a second-level cache.
_BLOCK_SIZE = 40_000
# Step of a numerical derivative in standard errors of its parameter: the
# curvature over it is negligible and the rounding of the mean as well.
_STEP = 1e-4
_FIRST_STEP = 1e-6
# The same for differences of derivatives.
_SECOND_STEP = 1e-2
# Mean, relative to the average count, under which a pixel's likelihood is
# continued by a parabola.
_FLOOR = 1e-10


class BroadcastLikelihood:
    """Poisson likelihood of stamps under a function of parameters and pixels.

    The parameters are the function's own and, last, a constant background.

    Parameters
    ----------
    counts : ndarray, shape (n, n_pixels)
        Counts, any shift for read noise added, 0 where masked.
    function : callable
        ``function(params, rows)`` with ``params`` (q, m) returns the mean
        of the stamps ``rows`` (m,) without background, (m, n_pixels).
    n_params : int
        q + 1: the background is the last parameter.
    derivative : callable, optional
        ``derivative(params, rows)`` returns d mean / d params,
        (q, m, n_pixels); forward differences when None.
    n_terms : int, optional
        The function is a sum of so many terms of the same form, whose
        parameters follow each other term by term, as the stars of a group:
        second derivatives by those of two terms vanish.
    linear : sequence of int, optional
        Parameters that the function is proportional to: it needs no
        differences for their derivatives.
    moving : sequence of int, optional
        Parameters of the function whose derivatives are needed; the
        others' are zero. All when None.
    offset : float or ndarray, shape (n_pixels,) or (n, n_pixels)
        What the mean holds besides the function and the background.
    weights : None or ndarray, shape (n, n_pixels)
        1 for pixels in the likelihood, 0 for the others.
    largest_step : float or ndarray, shape (q,), optional
        Limit to the steps that second derivatives are differences over, for
        parameters whose errors may be larger than the function is smooth:
        those of a star without light.
    """

    def __init__(self, counts, function, n_params, *, derivative=None, linear=(), n_terms=1,
                 moving=None, offset=0.0, weights=None, largest_step=np.inf):
        self.counts = counts
        self.n_params = n_params
        self.weights = weights
        self.offset = np.asarray(offset, dtype=float)
        self._function = function
        self._derivative = derivative
        self._linear, self._n_terms = set(linear), n_terms
        self._largest_step = np.broadcast_to(largest_step, n_params - 1)[:, np.newaxis]
        self._moving = range(n_params - 1) if moving is None else moving
        self._bent = {*self._moving} - self._linear
        self._errors = np.full((n_params - 1, len(counts)), np.nan)
        # Read noise can make an average negative; the floor must not be.
        self._floor = _FLOOR * (np.maximum(counts.mean(axis=1, keepdims=True), 0.0) + 1e-3)
        self._block_rows = max(1, _BLOCK_SIZE // (n_params * max(counts.shape[1], 1)))

    def is_valid(self, params):
        """Say which columns of ``params`` are finite."""
        return np.isfinite(params).all(axis=0)

    def evaluate(self, params, rows, curvature='newton'):
        """Sum half the deviance and its derivatives over the pixels.

        As `GaussianLikelihood.evaluate`, but ``'newton'`` is without second
        derivatives of the function: exact for the background alone, on
        which the mean depends linearly. ``'observed'`` costs two more
        Jacobians for each parameter of a term.
        """
        p, m = params.shape
        value, gradient = np.empty(m), np.empty((p, m))
        information = np.empty((p, p, m))
        with np.errstate(all='ignore'):
            for start in range(0, m, self._block_rows):
                part = slice(start, start + self._block_rows)
                value[part], gradient[:, part], information[:, :, part] = self._block(
                    params[:, part], rows[part], curvature)
        return value, gradient, information

    def mean(self, params, rows):
        """Return the function and the whole mean of ``rows``, two (m, n_pixels)."""
        with np.errstate(all='ignore'):
            psf = self._function(params[:-1], rows)
        return psf, self._with_background(psf, params[-1], rows)

    def jacobian(self, params, rows):
        """Return the derivatives of the mean of ``rows`` by all parameters, (m, p, n_pixels)."""
        with np.errstate(all='ignore'):
            return self._images(params[:-1], rows)[1]

    def _with_background(self, psf, background, rows):
        """Return the whole mean, (m, n_pixels)."""
        offset = self.offset[rows] if self.offset.ndim == 2 else self.offset
        return psf + background[:, None] + offset

    def _block(self, params, rows, curvature):
        """Return value (m,), gradient (p, m) and information (p, p, m)."""
        psf, jacobian = self._images(params[:-1], rows)
        mean = self._with_background(psf, params[-1], rows)
        half_deviance, slope, expected, observed = continued_terms(
            self.counts[rows], mean, self._floor[rows])
        if self.weights is not None:
            used = self.weights[rows]
            half_deviance, slope, expected, observed = (
                np.where(used > 0, term, 0.0)
                for term in (half_deviance, slope, expected, observed))
        weight = observed if curvature in ('score', 'observed') else expected
        gradient = np.matmul(jacobian, slope[:, :, None])[:, :, 0].T
        information = _weighted_products(jacobian, weight)
        if curvature in ('newton', 'fisher'):
            self._remember_errors(information, rows)
        if curvature == 'newton':
            # Expected curvatures of a background near zero grow without limit,
            # and would take any slope for a small distance.
            information[-1] = information[:, -1] = np.matmul(
                jacobian, observed[:, :, None])[:, :, 0].T
        if curvature == 'observed':
            information[:-1, :-1] += self._second_order(params[:-1], rows, slope)
        return half_deviance.sum(axis=1), gradient, information

    def _second_order(self, params, rows, slope):
        """Return the sums over pixels of the slope times the second derivatives, (q, q, m).

        Differences of the Jacobian, for all terms at once: a parameter of
        one says nothing of another's.
        """
        q, m = params.shape
        size = q // self._n_terms
        second, linear = np.zeros((q, q, m)), sorted(self._linear)
        steps = np.minimum(self._largest_step, _SECOND_STEP / _STEP * np.array(
            [self._step(j, params[j], rows) for j in range(q)]))
        for j in range(size):
            columns = [i for i in range(j, q, size) if i in self._bent]
            if not columns:
                continue
            shift = np.zeros_like(params)
            shift[columns] = steps[columns]
            up, down = (np.matmul(self._images(place, rows)[1], slope[:, :, None])[:, :-1, 0].T
                        for place in (params + shift, params - shift))
            for i in columns:
                term = slice(i - j, i - j + size)
                second[term, i] = (up[term] - down[term]) / (2 * steps[i])
        second[:, linear] = second[linear].transpose(1, 0, 2)
        return 0.5 * (second + second.transpose(1, 0, 2))

    def _images(self, params, rows):
        """Return the function (m, n_pixels), and its Jacobian as `_jacobian` does."""
        linear = sorted(self._linear)
        if self._derivative is not None and len(linear) == self._n_terms:
            # What is proportional to its fluxes follows from the derivatives by them.
            jacobian = self._jacobian(params, rows, None)
            psf = np.einsum('qm,mqp->mp', params[linear], jacobian[:, linear])
            return psf, jacobian
        psf = self._function(params, rows)
        return psf, self._jacobian(params, rows, psf)

    def _jacobian(self, params, rows, psf):
        """Return d mean / d (params, background), shape (m, p, n_pixels)."""
        m, n_pixels = params.shape[1], self.counts.shape[1]
        jacobian = np.zeros((m, self.n_params, n_pixels))
        jacobian[:, -1] = 1.0
        if self._derivative is not None:
            jacobian[:, :-1] = np.moveaxis(self._derivative(params, rows), 0, 1)
            return jacobian
        for j in self._moving:
            if j in self._linear and params[j].all():
                np.divide(psf, params[j][:, None], out=jacobian[:, j])
                continue
            step = self._step(j, params[j], rows)
            shifted = params.copy()
            shifted[j] += step
            step = shifted[j] - params[j]           # as it was rounded
            np.subtract(self._function(shifted, rows), psf, out=jacobian[:, j])
            jacobian[:, j] /= step[:, None]
        return jacobian

    def _step(self, j, value, rows):
        """Return the step of parameter ``j``, (m,)."""
        first = _FIRST_STEP * np.where(value == 0, 1.0, np.abs(value))
        step = _STEP * self._errors[j, rows]
        # A parameter that nothing depends on has no error; and no step may
        # exceed what the size of the value makes plausible.
        step = np.clip(step, 1e-14 * np.abs(value), 1e4 * first)
        return np.where(np.isfinite(step), step, first)

    def _remember_errors(self, information, rows):
        """Keep each parameter's own error for the next numerical derivative."""
        diagonal = np.einsum('iim->im', information)[:-1]
        self._errors[:, rows] = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, np.nan))


class SingleLikelihood(BroadcastLikelihood):
    """The likelihood of one data set, without what arrays of many cost a single one.

    As `BroadcastLikelihood`, with a derivative, all parameters moving and no
    weights.
    """

    _expected = None

    def evaluate(self, params, rows, curvature='newton'):
        """Return half the deviance (1,), its gradient (p, 1) and its information (p, p, 1)."""
        if curvature == 'observed':
            # Its differences are over steps that follow from the errors.
            if self._expected is not None:
                self._remember_errors(self._expected, rows)
            return super().evaluate(params, rows, curvature)
        with np.errstate(all='ignore'):
            mean = self._function(params[:-1], rows) + (params[-1] + self.offset)
            half_deviance, slope, expected, observed = continued_terms(self.counts, mean,
                                                                       self._floor)
            jacobian = np.empty((len(params), mean.size))
            jacobian[:-1] = self._derivative(params[:-1], rows)[:, 0]
            jacobian[-1] = 1.0
            gradient = jacobian @ slope[0]
            weight = observed if curvature == 'score' else expected
            information = ((jacobian * weight) @ jacobian.T)[:, :, np.newaxis]
            if curvature != 'score':
                self._expected = information
            if curvature == 'newton':
                # As for many: the background's expected curvature grows without limit.
                information[-1, :, 0] = information[:, -1, 0] = jacobian @ observed[0]
        return half_deviance.sum(axis=1), gradient[:, np.newaxis], information


def _weighted_products(jacobian, weight):
    """Return J diag(weight) J^T, (p, p, m), of Jacobians (m, p, n_pixels)."""
    return np.matmul(jacobian * weight[:, None], jacobian.transpose(0, 2, 1)).transpose(1, 2, 0)
