# Licensed under a 3-clause BSD style license - see LICENSE
"""What the C-statistic of a right model should be, before and after it was fitted.

Of each pixel, over the counts k that its mean mu can give: expectation E(mu)
and variance V(mu) of the deviance d, its covariance with the counts, which is
mu E'(mu), and E''(mu). A fit takes away what the parameters say of the
statistic: see `fit_terms`.
"""

from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import gammaln, xlogy

from .poisson import deviance
from .solver import invert

__all__ = ['FEW_COUNTS', 'cstat_z', 'fit_terms', 'fit_z', 'moments']

# Where all n pixels of a fit expect more than this, p parameters move z by less than
# 0.02 p / sqrt(n), mostly by a few thousandths, and its standard deviation by less than half a per
# cent: mu E'' is -2 at no counts, 0 at 2.1, never more than 0.052 from there on, and 0.005 at 10.
FEW_COUNTS = 2.0
# Between these means the moments come from a table; outside, a few terms are exact enough.
_SMALL_MEAN = 1e-4
_LARGE_MEAN = 1e2
# Expected variance of the statistic under which nothing is expected at all, but for rounding.
_NO_VARIANCE = 1e-12
# The same, as a share of what it would be without a fit.
_NO_SHARE = 1e-6
# Means that are worked on together: their arrays stay in the cache.
_BLOCK = 8192
# Numbers in the Jacobians that are worked on together.
_JACOBIAN_SIZE = 150_000
# A mean of zero has no logarithm.
_TINY = 1e-100
# Added to the scaled diagonal of the information: parameters that only a sum of is known, the
# pixels that are masked or one held at its bound take nothing away.
_RIDGE = 1e-10

# Coefficients of mean^0, mean^-1, ...: the deviance as a power series in (k - mean) / mean, with
# the central moments of the Poisson distribution put in; and mean E', mean^2 E'' from the first.
_LARGE_MEAN_SERIES = (
    (1, 1 / 6, 1 / 6, 19 / 60),
    (2, 2 / 3, 4 / 3, 701 / 180),
    (0, -1 / 6, -1 / 3, -19 / 20),
    (0, 1 / 3, 1, 19 / 5),
)


def moments(mean):
    """Return expectation and variance of the deviance for means of any shape, (2, ...)."""
    return _look_up(mean, 2)


def moments_and_slopes(mean):
    """Return E, V, mu E' and mu^2 E'' for means mu of any shape, (4, ...).

    The third is the covariance of deviance and counts.
    """
    return _look_up(mean, 4)


def fit_terms(mean, jacobian, precision=0.0):
    r"""Return by how much a fit changes the moments of the C-statistic at low counts.

    With the information I of the parameters, b the slope of :math:`\sum E` by them, and h_i the
    variance of the fitted mean of a pixel, the C-statistic of a fit, given its parameters, has

    .. math::

        \sum_i E(\mu_i) - p - \tfrac{1}{2} \sum_i E''(\mu_i) h_i
        \quad\text{and}\quad \sum_i V(\mu_i) - b^T I^{-1} b

    for expectation and variance, to the order of one parameter. The variance is that of
    McCullagh [1]_. The expectation is the function of the fitted parameters whose own
    expectation is that of the statistic, :math:`\sum E - p` at the true ones. What the curvature
    of the mean adds to it is left out: of stars it moves z by 0.02 or less.

    Parameters
    ----------
    mean : ndarray, shape (m, n_pixels)
        Fitted means, >= 0.
    jacobian : ndarray, shape (m, p, n_pixels)
        Their derivatives by the parameters; 0 for those that are held, and for pixels that do
        not count.
    precision : float or ndarray, shape (m, p)
        Of Gaussian priors, which add to the information.

    Returns
    -------
    shift, loss : ndarray, shape (m,)
        What is to be subtracted from :math:`\sum E - p` and from :math:`\sum V`.

    References
    ----------
    .. [1] McCullagh, P. 1986, J. Am. Stat. Assoc., 81, 104.
    """
    _, _, *slopes = moments_and_slopes(mean)
    return _terms(_products(mean, slopes, jacobian), precision)


def _products(mean, slopes, jacobian):
    """Return the sums over pixels that `_terms` needs, (p, 2 p + 1, m).

    Products of the derivatives with themselves over the mean, with themselves times E'', and
    with E'.
    """
    m, p, n_pixels = jacobian.shape
    inverse = 1.0 / np.maximum(mean, _TINY)
    covariance, bend = (slope * inverse for slope in slopes)
    factors = np.empty((m, 2 * p + 1, n_pixels))
    relative = np.multiply(jacobian, inverse[:, np.newaxis], out=factors[:, :p])
    np.multiply(relative, bend[:, np.newaxis], out=factors[:, p:-1])
    factors[:, -1] = covariance
    return np.matmul(jacobian, factors.transpose(0, 2, 1)).transpose(1, 2, 0)


def _terms(products, precision):
    """Return `fit_terms` of what `_products` returns."""
    p, m = len(products), products.shape[-1]
    information, bends, slope = products[:, :p].copy(), products[:, p:-1], products[:, -1]
    diagonal = np.arange(p)
    information[diagonal, diagonal] += np.broadcast_to(precision, (m, p)).T
    information[diagonal, diagonal] *= 1.0 + _RIDGE
    information[diagonal, diagonal] += information[diagonal, diagonal] == 0.0
    inverse, _ = invert(information)
    loss = np.einsum('im,im->m', slope, np.einsum('ijm,jm->im', inverse, slope))
    return 0.5 * np.einsum('ijm,ijm->m', inverse, bends), loss


def cstat_z(counts, model, n_free, *, statistic=None, used=True, axis=None, terms=(0.0, 0.0)):
    """Return the distance of the C-statistic from its expectation in standard deviations.

    Parameters
    ----------
    counts : ndarray
        Counts; shifted ones may be below zero.
    model : ndarray
        Expected counts, >= 0.
    n_free : float or ndarray
        Number of free parameters of each fit.
    statistic : float or ndarray, optional
        The C-statistic, where it is known already; the counts are not looked
        at then.
    used : bool or ndarray, optional
        Pixels that count.
    axis : int or tuple of int, optional
        Axes to sum over.
    terms : (float, float) or (ndarray, ndarray), optional
        `fit_terms` of each fit.

    Returns
    -------
    float or ndarray
        NaN where nothing could vary.
    """
    mean, variance = (np.sum(moment, axis=axis, where=used) for moment in moments(model))
    if statistic is None:
        statistic = np.sum(deviance(counts, model), axis=axis, where=used)
    return _distance(statistic - mean + n_free, variance, *terms)


def _distance(excess, variance, shift, loss):
    """Return the excess of the statistic in standard deviations; NaN where nothing could vary."""
    left = variance - loss
    varies = (variance > _NO_VARIANCE) & (left > _NO_SHARE * variance)
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.where(varies, (excess + shift) / np.sqrt(left), np.nan)[()]


def fit_z(likelihood, params, mean, statistic, free, variances, precision):
    """Return `cstat_z` of fits (m,), of all that the likelihood of a kernel has.

    Parameters
    ----------
    likelihood : object
        Whose ``jacobian`` is called where few counts are expected.
    params : ndarray, shape (p, m)
        Fitted parameters.
    mean : ndarray, shape (m, n_pixels)
        Expected counts there.
    statistic : ndarray, shape (m,)
        The C-statistic there.
    free : ndarray of int, shape (q,)
        Which of them were fitted.
    variances : ndarray, shape (q, m)
        Their variances; 0 for those that are held at a bound, NaN where they
        are not known.
    precision : ndarray, shape (q, 1) or (q, m)
        Of their priors.
    """
    mean = np.where(np.isfinite(mean), np.maximum(mean, 0.0), 0.0)
    used = True if likelihood.weights is None else likelihood.weights > 0
    moves, precision = variances != 0, np.broadcast_to(precision, variances.shape)
    # Of a parameter that its prior determines the counts do not take a degree of freedom.
    n_free = np.sum(moves - np.nan_to_num(np.minimum(precision * variances, 1.0)), axis=0)
    is_faint = np.min(mean, axis=1, where=used, initial=np.inf) < FEW_COUNTS
    sums, terms = np.zeros((2, 2, len(mean)))
    size = max(1, _JACOBIAN_SIZE // max(1, len(free) * mean.shape[1]))
    products = []
    for part, faint in _parts(is_faint, size):
        some = used if used is True else used[part]
        expected, variance, *slopes = (moments_and_slopes if faint else moments)(mean[part])
        sums[:, part] = [np.sum(moment, axis=1, where=some) for moment in (expected, variance)]
        if faint:
            jacobian = likelihood.jacobian(params[:, part], part)[:, free]
            if used is not True:
                jacobian *= some[:, np.newaxis]
            products.append(_products(mean[part], slopes, jacobian))
    if products:
        free_ones = np.where(moves[:, is_faint], 1.0, 0.0)
        products = np.concatenate(products, axis=2) * free_ones[:, np.newaxis]
        products[:, :-1] *= np.tile(free_ones, (2, 1))
        terms[:, is_faint] = _terms(products, precision[:, is_faint].T)
    return _distance(statistic - sums[0] + n_free, sums[1], *terms)


def _parts(is_faint, size):
    """Yield the fits in parts of at most a size, (indices, whether they are faint)."""
    for faint in (False, True):
        rows = np.flatnonzero(is_faint == faint)
        for start in range(0, len(rows), size):
            yield rows[start:start + size], faint


def _look_up(mean, n):
    """Return the first n of four functions of the mean, (n, ...).

    From a table, below it from sums, and above from a series.
    """
    flat = mean.ravel()
    values = _interpolated(np.log(np.clip(flat, _SMALL_MEAN, _LARGE_MEAN)), n)
    # Of most images, most pixels are in the table.
    small, large = np.flatnonzero(flat < _SMALL_MEAN), np.flatnonzero(flat > _LARGE_MEAN)
    if small.size:
        values[:, small] = _summed(flat[small], n_counts=3)[:n]
    if large.size:
        values[:, large] = [np.polynomial.polynomial.polyval(1.0 / flat[large], series)
                            for series in _LARGE_MEAN_SERIES[:n]]
    return values.reshape(n, *mean.shape)


def _summed(mean, n_counts):
    """Return E, V, mu E' and mu^2 E'' by sums over the counts below n_counts, (4, n_means).

    E is 2 (<k ln k> - mu ln mu), and the derivative of the expectation of a function of k that
    of its differences.
    """
    expected, square, slope, bend = sums = np.zeros((4, mean.size))
    number = np.arange(n_counts + 2)
    rise = np.diff(xlogy(number, number))
    for k, (first, second) in enumerate(zip(rise, np.diff(rise))):
        probability = np.exp(xlogy(k, mean) - mean - gammaln(k + 1))
        value = np.where(probability > 0, deviance(k, mean), 0.0)
        for total, term in zip(sums, (value, value**2, first, second)):
            total += probability * term
    return np.array([expected, square - expected**2,
                     2.0 * (mean * (slope - 1.0) - xlogy(mean, mean)),
                     2.0 * mean * (mean * bend - 1.0)])


def _interpolated(log_mean, n):
    """Return the first n functions of the mean, (n, size), between the means of the table."""
    first, step, coefficients = _table()
    values = np.empty((n, log_mean.size))
    for start in range(0, log_mean.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        place = (log_mean[part] - first) / step
        index = np.minimum(place.astype(np.intp), coefficients.shape[2] - 1)
        place -= index
        for row, (cubic, square, slope, value) in zip(values, coefficients):
            result = cubic.take(index)
            for next_ in (square, slope, value):
                result *= place
                result += next_.take(index)
            row[part] = result
    return values


@lru_cache(maxsize=1)
def _table():
    """Return the spline that takes ln(mean) to the four functions of the mean.

    Its first knot, their distance, which is the same everywhere and spares a
    search, and the coefficients of a cubic polynomial in units of it,
    (4, 4, n_intervals).
    """
    log_mean = np.linspace(np.log(_SMALL_MEAN), np.log(_LARGE_MEAN), 400)
    # 15 standard deviations above the largest mean nothing is left to add.
    n_counts = int(_LARGE_MEAN + 15 * np.sqrt(_LARGE_MEAN))
    values = _summed(np.exp(log_mean), n_counts)
    step = log_mean[1] - log_mean[0]
    powers = step ** np.arange(3, -1, -1)[:, np.newaxis]
    coefficients = [CubicSpline(log_mean, row).c * powers for row in values]
    return log_mean[0], step, np.ascontiguousarray(coefficients)
