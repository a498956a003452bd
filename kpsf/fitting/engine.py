# Licensed under a 3-clause BSD style license - see LICENSE
"""One fit with the solver of all fits, its covariance and its goodness."""

from dataclasses import replace

import numpy as np

from .._kernels.broadcast import BroadcastLikelihood
from .._kernels.poisson import deviance
from .._kernels.solver import invert, solve
from ..statistics import goodness_of_fit

__all__ = ['estimate_covariance', 'goodness', 'minimise']

# The one row of a batch of one.
_ROW = np.zeros(1, dtype=int)
# Relative addition to the diagonal of an information that may be singular.
_RIDGE = 1e-10
# Step of the observed information in standard errors.
_STEP = 1e-3
# Mean that counts as 0, relative to the average count.
_NOTHING = 1e-8


class _Objective:
    """What the solver minimises: the likelihood of one fit.

    Parameters
    ----------
    likelihood : BroadcastLikelihood
        The likelihood, whose own information is the expected one.
    constraints : Constraints
        Free parameters and bounds.
    exact : bool
        Whether to give the solver the observed information, which costs two
        more evaluations for each parameter.
    """

    def __init__(self, likelihood, constraints, exact):
        self._likelihood = likelihood
        self._constraints = constraints
        self._exact = exact
        self.is_valid = likelihood.is_valid

    def evaluate(self, params, rows, curvature):
        """Return half the deviance, its gradient and its information."""
        value, gradient, information = self._likelihood.evaluate(params, rows, curvature)
        index = np.arange(len(params))
        diagonal = information[index, index]
        # Parameters that the data do not tell apart must not stop the others.
        information[index, index] = np.where(diagonal > 0, (1.0 + _RIDGE) * diagonal, 1.0)
        if self._exact and curvature == 'newton':
            block = np.ix_(self._constraints.free, self._constraints.free)
            information[block] = _observed_information(self._likelihood, params,
                                                       information[block], self._constraints)
        return value, gradient, information


def minimise(mean, counts, offset, start, constraints, max_iter):
    """Minimise the deviance from ``start`` (q + 1,).

    Most fits need the first attempt only. Where it fails, the minimum is far away behind empty
    pixels or too flat for expected curvatures.

    Returns the likelihood and the `Solution`.
    """
    def raised(shift):
        """Return the likelihood with counts and means raised by a constant."""
        return BroadcastLikelihood((counts + shift)[np.newaxis], mean, len(start),
                                   derivative=mean.derivative, offset=offset + shift)

    def attempt(likelihood, params, n_evaluations, exact=False):
        """Solve with a limited number of evaluations."""
        # The solver goes on once more, with as many, where a fit has not converged.
        return solve(_Objective(likelihood, constraints, exact), params, constraints,
                     max(n_evaluations // 2, 1))

    likelihood = raised(0.0)
    start = start[:, np.newaxis]
    first = attempt(likelihood, start, max_iter // 2 if max_iter > 20 else max_iter)
    left = max_iter - int(first.n_iter[0])
    if first.converged[0] or left <= 0:
        return likelihood, first
    # With a large constant the likelihood tends to least squares, in which no pixel that is
    # almost empty outweighs the others.
    smooth = attempt(raised(counts.max() + 1.0), start, left // 3)
    left -= int(smooth.n_iter[0])
    best = min((first.params, smooth.params),
               key=lambda params: likelihood.evaluate(params, _ROW)[0][0])
    last = attempt(likelihood, best, left, exact=True)
    return likelihood, replace(last, n_iter=last.n_iter + first.n_iter + smooth.n_iter)


def estimate_covariance(likelihood, params, constraints, kind):
    """Return the covariance (q, q) of the free parameters; None if it does not exist."""
    free = constraints.free
    # A prior is one more datum: it adds its precision to every kind of information.
    prior = np.diag(constraints.prior_precision[free, 0])[:, :, np.newaxis]

    def information(curvature):
        """Return the information of the free parameters, (q, q, 1)."""
        return likelihood.evaluate(params, _ROW, curvature)[2][np.ix_(free, free)] + prior

    with np.errstate(all='ignore'):
        matrix = information('fisher')
        if kind != 'fisher':
            matrix = prior + _observed_information(likelihood, params, matrix, constraints)
        inverse, exists = invert(matrix)
    if not exists[0]:
        return None
    inverse = inverse[:, :, 0]
    return inverse @ information('score')[:, :, 0] @ inverse if kind == 'sandwich' else inverse


def _observed_information(likelihood, params, expected, constraints):
    """Return the second derivatives of half the deviance by differences of its gradient."""
    free = constraints.free
    observed = np.empty_like(expected)
    for row, j in enumerate(free):
        step = _STEP / np.sqrt(expected[row, row, 0])
        low, high = params.copy(), params.copy()
        low[j] = np.maximum(params[j] - step, constraints.lower[j])
        high[j] = np.minimum(params[j] + step, constraints.upper[j])
        slopes = [likelihood.evaluate(side, _ROW)[1][free] for side in (low, high)]
        observed[row] = (slopes[1] - slopes[0]) / (high[j] - low[j])
    return 0.5 * (observed + observed.transpose(1, 0, 2))


def goodness(likelihood, params, n_free):
    """Return the C-statistic and its distance from the expectation, NaN without a likelihood."""
    counts = likelihood.counts[0]
    mean = likelihood.mean(params, _ROW)[1][0]
    # Where the best mean of an empty pixel is 0, the solver ends within its tolerance of it.
    mean[(counts == 0) & (np.abs(mean) < _NOTHING * counts.mean())] = 0.0
    cstat = float(np.sum(deviance(counts, mean)))
    if counts.size <= n_free or not np.all(np.isfinite(mean) & (mean >= 0)):
        return cstat, np.nan
    return cstat, float(goodness_of_fit(counts, mean, n_free).z)
