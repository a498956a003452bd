# Licensed under a 3-clause BSD style license - see LICENSE
"""Poisson statistics of counts under a model, and whether a fit is acceptable."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import gammaln, ndtr, xlogy

from ._kernels.poisson import deviance
from ._validation import (
    as_float_array,
    require_broadcast,
    require_finite,
    require_not_negative,
)

__all__ = ['GoodnessOfFit', 'cash', 'cstat', 'cstat_moments', 'goodness_of_fit']

# Between these means the moments come from a table; outside, a few terms are exact enough.
_SMALL_MEAN = 1e-4
_LARGE_MEAN = 1e2
# Expected variance of the statistic under which nothing is expected at all, but for rounding.
_NO_VARIANCE = 1e-12
# Means that are worked on together: their arrays stay in the cache.
_BLOCK = 8192

# Coefficients of mean^0, mean^-1, ...: the deviance as a power series in (k - mean) / mean, with
# the central moments of the Poisson distribution put in.
_LARGE_MEAN_SERIES = (
    (1, 1 / 6, 1 / 6, 19 / 60),
    (2, 2 / 3, 4 / 3, 701 / 180),
)


class GoodnessOfFit(NamedTuple):
    """What `goodness_of_fit` returns; ``z`` and ``p`` are floats, or arrays with ``axis``.

    Attributes
    ----------
    z : float or ndarray, of the shape that the sum leaves
        Distance of the C-statistic from its expectation in standard deviations.
    p : float or ndarray, of the same shape
        Probability of a C-statistic at least as large if the model is right.
    """

    z: float
    p: float


def cash(counts, model, *, axis=None):
    r"""Return the Cash statistic, :math:`2 \sum (\mu - k \ln \mu)`.

    Twice the negative Poisson log-likelihood without the term that depends on the counts alone.
    Its differences mean something, its value does not: to judge a fit, and to minimise without
    losing digits, use `cstat`, which differs by a constant.

    Parameters
    ----------
    counts : array_like, of any shape
        Observed counts :math:`k` (electrons or photons, not rates), background included.
    model : array_like, of a shape that broadcasts against ``counts``
        Expected counts :math:`\mu`, background included.
    axis : int or tuple of int, optional
        Axes to sum over, as for `numpy.sum`; ``(1, 2)`` gives one value per stamp of a stack.
        The default is to sum over all pixels.

    Returns
    -------
    float or ndarray, of the shape that the sum leaves
        The statistic; infinite where the model is 0 under a positive count.

    Raises
    ------
    TypeError
        If counts or model are no numbers or are masked.
    ValueError
        If a count or a model value is negative or not finite, or the shapes do not broadcast.

    See Also
    --------
    cstat : The same with its minimum at 0.

    References
    ----------
    .. [1] Cash, W. 1979, ApJ, 228, 939.

    Examples
    --------
    >>> from kpsf import cash
    >>> print(f'{cash([0, 3, 5], [0.5, 3.0, 4.0]):.6f}')
    -5.454617
    """
    counts, model = _check_counts_and_model(counts, model)
    return 2.0 * np.sum(model - xlogy(counts, model), axis=axis)


def cstat(counts, model, *, axis=None):
    r"""Return the C-statistic, :math:`2 \sum (\mu - k + k \ln (k / \mu))`.

    The Poisson deviance: `cash` plus a constant that makes it 0 for a perfect model and, for many
    counts, distributed like :math:`\chi^2`. The constant is never added as such, so the value
    keeps its digits however many counts there are.

    Parameters
    ----------
    counts : array_like, of any shape
        Observed counts :math:`k` (electrons or photons, not rates), background included.
    model : array_like, of a shape that broadcasts against ``counts``
        Expected counts :math:`\mu`, background included.
    axis : int or tuple of int, optional
        Axes to sum over, as for `numpy.sum`; ``(1, 2)`` gives one value per stamp of a stack.
        The default is to sum over all pixels.

    Returns
    -------
    float or ndarray, of the shape that the sum leaves
        The statistic; infinite where the model is 0 under a positive count.

    Raises
    ------
    TypeError
        If counts or model are no numbers or are masked.
    ValueError
        If a count or a model value is negative or not finite, or the shapes do not broadcast.

    See Also
    --------
    goodness_of_fit : What the value says about the model.

    References
    ----------
    .. [1] Baker, S. & Cousins, R. D. 1984, Nucl. Instrum. Meth. Phys. Res., 221, 437.

    Examples
    --------
    >>> from kpsf import cstat
    >>> print(f'{cstat([0, 3, 5], [0.5, 3.0, 4.0]):.6f}')
    1.231436
    """
    counts, model = _check_counts_and_model(counts, model)
    return np.sum(deviance(counts, model), axis=axis)


def cstat_moments(model):
    r"""Return the expected mean and variance of each pixel's part of the C-statistic.

    They are 1 and 2, as for :math:`\chi^2`, only where many counts are expected: at
    :math:`\mu = 1` they are 1.15 and 1.36, at :math:`\mu = 0.01` 0.09 and 0.52.

    Parameters
    ----------
    model : array_like, of any shape
        Expected counts :math:`\mu` per pixel, background included.

    Returns
    -------
    mean, variance : ndarray, shape of ``model``
        Moments over Poisson-distributed counts of that expectation, right to a millionth.

    Raises
    ------
    TypeError
        If the values are no numbers or are masked.
    ValueError
        If a value is negative or not finite.

    Notes
    -----
    Kaastra [1]_ fits formulae to the sums over all counts. Here those sums are tabulated once and
    interpolated; below and above the table their first terms are enough.

    References
    ----------
    .. [1] Kaastra, J. S. 2017, A&A, 605, A51.

    Examples
    --------
    >>> from kpsf import cstat_moments
    >>> mean, variance = cstat_moments([0.01, 1.0, 100.0])
    >>> print(mean.round(4), variance.round(4))
    [0.0922 1.1468 1.0017] [0.5243 1.3646 2.0068]
    """
    model = _check_model(model)
    flat = model.ravel()
    moments = _interpolated_moments(np.log(np.clip(flat, _SMALL_MEAN, _LARGE_MEAN)))
    # Of most images, most pixels are in the table.
    small, large = np.flatnonzero(flat < _SMALL_MEAN), np.flatnonzero(flat > _LARGE_MEAN)
    if small.size:
        moments[:, small] = _summed_moments(flat[small], n_counts=3)
    if large.size:
        moments[:, large] = [np.polynomial.polynomial.polyval(1.0 / flat[large], series)
                             for series in _LARGE_MEAN_SERIES]
    mean, variance = moments.reshape(2, *model.shape)
    return mean, variance


def goodness_of_fit(counts, model, n_free, *, axis=None):
    """Compare the C-statistic of a fit with what it should be.

    The comparison is with the expectation and variance of `cstat_moments`, not with degrees of
    freedom, so it holds for faint stars too. It needs more counts than free parameters: each of
    them is taken to lower the statistic by 1.

    Parameters
    ----------
    counts : array_like, of any shape
        Observed counts (electrons or photons, not rates), background included.
    model : array_like, of a shape that broadcasts against ``counts``
        Fitted expected counts, background included.
    n_free : int or array_like of int, of the shape that the sum leaves
        Number of free parameters of the fit; with ``axis``, of each fit, or one number per fit.
        0 for a model that was not fitted to these counts.
    axis : int or tuple of int, optional
        Axes to sum over, as for `numpy.sum`; ``(1, 2)`` gives one value per stamp of a stack.
        The default is to sum over all pixels.

    Returns
    -------
    GoodnessOfFit
        The named tuple ``(z, p)``: the distance from the expectation in standard deviations, and
        the probability of a value at least as large under the model, by the normal distribution.

    Raises
    ------
    TypeError
        If counts, model or ``n_free`` are no numbers or are masked.
    ValueError
        If a count or a model value is negative or not finite, the shapes do not broadcast, or
        there are not more pixels than free parameters.

    Notes
    -----
    The variance [1]_ is that of a model that was not fitted. Where most pixels expect less than
    one count, the statistic of a fit scatters by less [2]_, and z stays closer to 0 than it
    would by chance: pass sums of pixels to tell a wrong model.

    References
    ----------
    .. [1] Kaastra, J. S. 2017, A&A, 605, A51.
    .. [2] McCullagh, P. 1986, J. Am. Stat. Assoc., 81, 104.

    Examples
    --------
    >>> import numpy as np
    >>> from kpsf import goodness_of_fit
    >>> model = np.full(100, 4.0)
    >>> counts = np.random.default_rng(1).poisson(model)
    >>> fit = goodness_of_fit(counts, np.full(100, counts.mean()), n_free=1)
    >>> print(f'z = {fit.z:.2f}, p = {fit.p:.2f}')
    z = -1.58, p = 0.94
    """
    counts, model = _check_counts_and_model(counts, model)
    counts, model = np.broadcast_arrays(counts, model)
    n_fits = np.sum(model, axis=axis).size
    n_free = _check_n_free(n_free, counts.size // max(n_fits, 1))
    z = cstat_z(counts, model, n_free, axis=axis)
    return GoodnessOfFit(z, ndtr(-z))


def cstat_z(counts, model, n_free, *, statistic=None, used=True, axis=None):
    """Return ``z`` of `goodness_of_fit` for counts that need no check.

    Parameters
    ----------
    counts : ndarray
        Counts; shifted ones may be below zero.
    model : ndarray
        Expected counts, >= 0.
    n_free : int or ndarray
        Number of free parameters of each fit.
    statistic : float or ndarray, optional
        The C-statistic, where it is known already; the counts are not looked
        at then.
    used : bool or ndarray, optional
        Pixels that count.
    axis : int or tuple of int, optional
        Axes to sum over.

    Returns
    -------
    float or ndarray
        NaN where nothing could vary.
    """
    mean, variance = cstat_moments(model)
    if statistic is None:
        statistic = np.sum(deviance(counts, model), axis=axis, where=used)
    excess = statistic - np.sum(mean, axis=axis, where=used)
    variance = np.sum(variance, axis=axis, where=used)
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.where(variance > _NO_VARIANCE, (excess + n_free) / np.sqrt(variance), np.nan)[()]


def _summed_moments(mean, n_counts):
    """Return mean and variance of the deviance over the counts below n_counts, (2, n_means)."""
    first, second = np.zeros((2, mean.size))
    for k in range(n_counts):
        probability = np.exp(xlogy(k, mean) - mean - gammaln(k + 1))
        value = np.where(probability > 0, deviance(k, mean), 0.0)
        first += probability * value
        second += probability * value**2
    return np.array([first, second - first**2])


def _interpolated_moments(log_mean):
    """Return mean and variance, (2, n), between the means of the table."""
    first, step, coefficients = _tabulated_moments()
    moments = np.empty((2, log_mean.size))
    for start in range(0, log_mean.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        place = (log_mean[part] - first) / step
        index = np.minimum(place.astype(np.intp), coefficients.shape[2] - 1)
        place -= index
        for row, (cubic, square, slope, value) in zip(moments, coefficients):
            result = cubic.take(index)
            for next_ in (square, slope, value):
                result *= place
                result += next_.take(index)
            row[part] = result
    return moments


@lru_cache(maxsize=1)
def _tabulated_moments():
    """Return the spline that takes ln(mean) to mean and variance of the deviance.

    Its first knot, their distance, which is the same everywhere and spares a
    search, and the coefficients of a cubic polynomial in units of it,
    (2, 4, n_intervals).
    """
    log_mean = np.linspace(np.log(_SMALL_MEAN), np.log(_LARGE_MEAN), 400)
    # 15 standard deviations above the largest mean nothing is left to add.
    n_counts = int(_LARGE_MEAN + 15 * np.sqrt(_LARGE_MEAN))
    moments = _summed_moments(np.exp(log_mean), n_counts)
    step = log_mean[1] - log_mean[0]
    powers = step ** np.arange(3, -1, -1)[:, np.newaxis]
    coefficients = [CubicSpline(log_mean, row).c * powers for row in moments]
    return log_mean[0], step, np.ascontiguousarray(coefficients)


def _check_counts_and_model(counts, model):
    """Return both as float64 arrays that are finite, not negative and broadcast."""
    counts = as_float_array(counts, 'Poisson counts')
    model = _check_model(model)
    require_finite(counts, 'Poisson counts', 'pass only the good pixels')
    require_not_negative(counts, 'Poisson counts',
                         'add the background that was subtracted to counts and model')
    require_broadcast(counts, model, ('Poisson counts', 'their model'),
                      'pass one model value per pixel')
    return counts, model


def _check_model(model):
    """Return the expected counts as a float64 array that is finite and not negative."""
    model = as_float_array(model, 'Expected counts')
    require_finite(model, 'Expected counts', 'check the parameters of the model')
    require_not_negative(model, 'Expected counts',
                         'add the background, or keep the flux of the model positive')
    return model


def _check_n_free(n_free, n_pixels):
    """Return the number of free parameters as an array; it must lie in [0, n_pixels)."""
    n_free = as_float_array(n_free, 'n_free')
    if not np.all((n_free >= 0) & (n_free < n_pixels)):
        raise ValueError('n_free must be at least 0 and less than the number of pixels, '
                         f'{n_pixels}, but it is {n_free}: pass the number of parameters that '
                         'were fitted to these pixels.')
    return n_free
