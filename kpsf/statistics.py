# Licensed under a 3-clause BSD style license - see LICENSE
"""Poisson statistics of counts under a model, and whether a fit is acceptable."""

from typing import NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from scipy.special import ndtr, xlogy

from ._kernels.goodness import cstat_z, fit_terms, moments
from ._kernels.poisson import deviance
from ._validation import (
    as_float_array,
    require_broadcast,
    require_finite,
    require_not_negative,
)

__all__ = ['GoodnessOfFit', 'cash', 'cstat', 'cstat_moments', 'goodness_of_fit']


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
    mean, variance = moments(_check_model(model))
    return mean, variance


def goodness_of_fit(counts, model, n_free, *, axis=None, jacobian=None):
    r"""Compare the C-statistic of a fit with what it should be.

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
    jacobian : array_like, shape (n_params, ...), optional
        Derivatives of the model by its fitted parameters, each of a shape that broadcasts against
        ``model``: needed where a fitted model expects less than about 2 counts per pixel.

    Returns
    -------
    GoodnessOfFit
        The named tuple ``(z, p)``: the distance from the expectation in standard deviations, and
        the probability of a value at least as large under the model, by the normal distribution.

    Raises
    ------
    TypeError
        If counts, model, ``n_free`` or ``jacobian`` are no numbers or are masked.
    ValueError
        If a count or a model value is negative or not finite, a derivative is not finite, the
        shapes do not broadcast, or there are not more pixels than free parameters.

    Notes
    -----
    The statistic is compared with that of counts that would have led to the same parameters,

    .. math::

        z = \frac{C - \sum_i E(\mu_i) + n_\mathrm{free} + \frac{1}{2} \sum_i E''(\mu_i) h_i}
            {\sqrt{\sum_i V(\mu_i) - b^T I^{-1} b}}\,, \qquad
        b_j = \sum_i E'(\mu_i) \frac{\partial \mu_i}{\partial \theta_j}\,,

    with the expectation E and the variance V of a pixel [1]_, the expected information I, and
    the variance :math:`h_i` of a fitted mean that follows from it; :math:`\mu E'` is the
    covariance of a pixel's part of the statistic with its counts [2]_. Without ``jacobian``, the
    terms with derivatives are left out. From 2 counts per pixel on they move z by about a
    hundredth or less. Where most pixels expect less than one, the statistic follows almost from
    the fitted parameters, and without these terms z stays far closer to 0 than it should.

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

    A constant that was fitted to pixels of two levels, most of them empty:

    >>> counts = np.random.default_rng(1).poisson(np.repeat([0.02, 0.4], 1250))
    >>> model = np.full(2500, counts.mean())
    >>> for jacobian in (None, np.ones((1, 2500))):
    ...     print(f'z = {goodness_of_fit(counts, model, n_free=1, jacobian=jacobian).z:.1f}')
    z = 2.3
    z = 5.7
    """
    counts, model = _check_counts_and_model(counts, model)
    counts, model = np.broadcast_arrays(counts, model)
    n_fits = np.sum(model, axis=axis).size
    n_free = _check_n_free(n_free, counts.size // max(n_fits, 1))
    terms = 0.0, 0.0
    if jacobian is not None:
        terms = _terms_of_fits(model, _check_jacobian(jacobian, model), axis)
    z = cstat_z(counts, model, n_free, axis=axis, terms=terms)
    return GoodnessOfFit(z, ndtr(-z))


def _terms_of_fits(model, jacobian, axis):
    """Return `fit_terms` in the shape that a sum over ``axis`` of the model leaves."""
    axes = range(model.ndim) if axis is None else normalize_axis_tuple(axis, model.ndim)
    last = [number - model.ndim for number in axes]

    def by_fit(array):
        """Return an array with the pixels of a fit as its last axis."""
        moved = np.moveaxis(array, last, range(-len(last), 0))
        return moved.reshape(*moved.shape[:moved.ndim - len(last)], -1)

    mean, jacobian = by_fit(model), by_fit(jacobian)
    n_params, n_pixels = len(jacobian), mean.shape[-1]
    terms = fit_terms(mean.reshape(-1, n_pixels),
                      jacobian.reshape(n_params, -1, n_pixels).transpose(1, 0, 2))
    return [term.reshape(mean.shape[:-1]) for term in terms]


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


def _check_jacobian(jacobian, model):
    """Return the derivatives as an array (n_params, *model.shape) of finite numbers."""
    jacobian = as_float_array(jacobian, 'jacobian')
    require_finite(jacobian, 'jacobian', 'check the parameters of the model')
    if 1 < jacobian.ndim <= model.ndim + 1:
        # Each is like a model: axes that it lacks are the first.
        missing = (1,) * (model.ndim + 1 - jacobian.ndim)
        rows = jacobian.reshape(len(jacobian), *missing, *jacobian.shape[1:])
        if all(own in (1, of_model) for own, of_model in zip(rows.shape[1:], model.shape)):
            return np.broadcast_to(rows, (len(rows), *model.shape))
    raise ValueError('jacobian must have one row for each parameter, of a shape that broadcasts '
                     f'against the model, {model.shape}, but its shape is {jacobian.shape}: pass '
                     'the derivatives of the model by its parameters.')
