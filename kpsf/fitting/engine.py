# Licensed under a 3-clause BSD style license - see LICENSE
"""One fit with the solver of all fits, its covariance and its goodness."""

from dataclasses import replace

import numpy as np

from .._kernels.broadcast import SingleLikelihood
from .._kernels.goodness import fit_z
from .._kernels.poisson import deviance
from .._kernels.solver import active_bounds, add_priors, invert, pin, solve

__all__ = ['estimate_covariance', 'goodness', 'minimise']

# The one row of a batch of one.
_ROW = np.zeros(1, dtype=int)
# Width of the prior of a first approach: its precision in those of the parameters themselves.
_HOLD = 3.0


def minimise(mean, counts, offset, start, constraints, max_iter):
    """Minimise the deviance from ``start`` (q + 1,).

    Most fits need the first attempt only. Where it fails, or ends where the data say nothing of
    some parameters, the minimum is far away or behind empty pixels.

    Returns the likelihood and the `Solution`.
    """
    def raised(shift):
        """Return the likelihood with counts and means raised by a constant."""
        return SingleLikelihood((counts + shift)[np.newaxis], mean, len(start),
                                derivative=mean.derivative, offset=offset + shift,
                                n_terms=mean.n_alike, largest_step=mean.largest_steps)

    likelihood = raised(0.0)
    start = start[:, np.newaxis]
    # What is left below the tolerance, a last step takes away.
    first = solve(likelihood, start, constraints, max_iter // 2 if max_iter > 20 else max_iter,
                  sure=1.0)
    left = max_iter - int(first.n_iter[0])
    if _is_regular(first) or left <= 0:
        return likelihood, _polished(first, constraints)
    # With a large constant the likelihood tends to least squares, in which no pixel that is
    # almost empty outweighs the others.
    smooth = _approach(raised(counts.max() + 1.0), start, constraints, max(left // 2, 2))
    left -= int(smooth.n_iter[0])
    places = sorted((first.params, smooth.params), key=lambda params: _value(likelihood, params))
    last = solve(likelihood, places[0], constraints, max(left, 1))
    n_iter = last.n_iter + first.n_iter + smooth.n_iter
    if first.converged[0] and not _value(likelihood, last.params) < first.half_deviance[0]:
        last = first
    return likelihood, _polished(replace(last, n_iter=n_iter), constraints)


def _is_regular(solution):
    """Say whether a solution has converged where all parameters are determined."""
    return solution.converged[0] and np.isfinite(solution.own_inverse).all()


def _approach(likelihood, start, constraints, max_iter):
    """Minimise in two stages: first under a prior that keeps the parameters near their start."""
    information = np.einsum('iim->im', likelihood.evaluate(start, _ROW, 'fisher')[2])
    information = np.where(np.isfinite(information), information, 0.0)
    near = replace(constraints, prior_mean=start.copy(), prior_precision=_HOLD * information)
    first = solve(likelihood, start, near, max(max_iter // 2, 1))
    second = solve(likelihood, first.params, constraints, max(max_iter - int(first.n_iter[0]), 1))
    return replace(second, n_iter=first.n_iter + second.n_iter)


def _value(likelihood, params):
    """Return half the deviance at ``params`` (p, 1); infinite where it does not exist."""
    value = likelihood.evaluate(params, _ROW)[0][0]
    return value if np.isfinite(value) else np.inf


def _polished(solution, constraints):
    """Return the solution one step further, which costs nothing.

    Its own distance says how far that is, at most. It makes noise-free data come out to the last
    digits, also where they are so few counts that their errors are large.
    """
    step = -np.einsum('ikm,km->im', solution.own_inverse, solution.own_gradient)
    if not (solution.converged[0] and np.isfinite(step).all()):
        return solution
    limits, params = constraints.take(_ROW), solution.params.copy()
    params[limits.free] = np.clip(params[limits.free] + step, limits.lower, limits.upper)
    return replace(solution, params=params)


def estimate_covariance(likelihood, solution, constraints, kind):
    """Return the covariance (q, q) of the free parameters; None if it does not exist.

    Zero for parameters that rest on a bound.
    """
    if kind == 'fisher':
        inverse = solution.own_inverse[:, :, 0]
        return None if np.isnan(inverse).any() else inverse
    params = solution.params
    free, limits = constraints.free, constraints.take(_ROW)

    def derivatives(curvature):
        """Return gradient (q, 1) and information (q, q, 1) of the free parameters."""
        _, gradient, information = likelihood.evaluate(params, _ROW, curvature)
        gradient, information = gradient[free], information[np.ix_(free, free)]
        # A prior is one more datum: it adds its precision to every kind of information.
        add_priors(params[free], np.zeros(1), gradient, information, limits)
        return gradient, information

    gradient, information = derivatives('observed')
    held = active_bounds(params[free], gradient, limits)
    with np.errstate(all='ignore'):
        inverse, exists = invert(pin(gradient, information, held)[1])
    if not exists[0]:
        return None
    inverse = np.where(held | held.T, 0.0, inverse[:, :, 0])
    return inverse @ derivatives('score')[1][:, :, 0] @ inverse if kind == 'sandwich' else inverse


def goodness(likelihood, params, mean, constraints, covariance):
    """Return the C-statistic and its distance from the expectation in standard deviations.

    Parameters
    ----------
    likelihood : SingleLikelihood
    params : ndarray, shape (p, 1)
        Where the fit ended.
    mean : ndarray, shape (n,)
        Expected counts there.
    constraints : Constraints
    covariance : ndarray, shape (q, q), or None
        Of the free parameters, where it exists.
    """
    # Where the best mean of an empty pixel is 0, the solver ends within its tolerance of it.
    mean = np.maximum(mean, 0.0)
    if not np.isfinite(mean).all():
        return np.nan, np.nan
    cstat = float(np.sum(deviance(likelihood.counts[0], mean)))
    free = constraints.free
    variances = np.full(len(free), np.nan) if covariance is None else np.diag(covariance)
    if mean.size <= np.count_nonzero(variances):
        return cstat, np.nan
    z = fit_z(likelihood, params, mean[np.newaxis], np.array([cstat]), free,
              variances[:, np.newaxis], constraints.prior_precision[free])
    return cstat, float(z[0])
