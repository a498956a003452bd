# Licensed under a 3-clause BSD style license - see LICENSE
"""The one solver: damped Newton for a batch of independent fits.

An *objective* has ``evaluate(params, rows, curvature)`` that returns half
the deviance (m,), its gradient (p, m) and its curvature (p, p, m) for the
parameters (p, m) of the stamps ``rows``, and ``is_valid(params)`` that says
which columns may be evaluated at all.  Everything here has the stamps as
the last axis, so that the small dense algebra of thousands of fits is a
handful of array operations.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri

__all__ = ['EDM_TOLERANCE', 'FIRST_DAMPING', 'LARGEST_DAMPING', 'Constraints', 'Solution',
           'active_bounds', 'add_prior_values', 'add_priors', 'cholesky', 'invert',
           'newton_step', 'next_damping', 'pin', 'solve']

# Expected distance to the minimum, 0.5 g H^-1 g, at which a fit has
# converged: every parameter within 1.5e-3 of its standard error.
EDM_TOLERANCE = 1e-6
FIRST_DAMPING = 1e-3
LARGEST_DAMPING = 1e12
# Share of that from which on a fit whose end was predicted goes on: one more
# step, and every parameter is within 1e-3 of its standard error.
_SURE = 0.25
# Share of the predicted gain from which a damped step promises a longer one.
_GOOD_SHARE = 0.5
# Pivot of a scaled matrix below which it is singular.
_SMALLEST_PIVOT = 1e-13
# Batches up to this size, and matrices from that size on, are solved one by
# one: LAPACK then beats loops over the elements.
_FEW = 8
_LARGE = 11
# Evaluations after which a fit goes on with the exact Newton matrix, where a
# kernel has a cheaper one.
_PATIENCE = 20
# Added to the scaled diagonal of a singular matrix.
_RIDGE = 1e-9


@dataclass(frozen=True)
class Constraints:
    """What limits the parameters of a batch.

    Attributes
    ----------
    free : ndarray of int, shape (q,)
        Indices of the parameters that the solver moves.
    lower, upper : ndarray, shape (p, 1) or (p, n)
        Bounds, infinite where there are none.
    prior_mean, prior_precision : ndarray, shape (p, 1) or (p, n)
        Gaussian priors; precision 0 means no prior.
    """

    free: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    prior_mean: np.ndarray
    prior_precision: np.ndarray

    def of(self, rows):
        """Return the constraints of the fits ``rows``, a slice or indices."""
        return Constraints(self.free, *(
            array if array.shape[1] == 1 else array[:, rows]
            for array in (self.lower, self.upper, self.prior_mean, self.prior_precision)))

    def take(self, rows):
        """Return the constraints of the free parameters alone, of the fits ``rows``."""
        some = self.of(rows)
        return Constraints(self.free, *(array[self.free] for array in (
            some.lower, some.upper, some.prior_mean, some.prior_precision)))


@dataclass(frozen=True)
class Solution:
    """What `solve` found, one column or element for each fit.

    Attributes
    ----------
    params : ndarray, shape (p, n)
        Parameters.
    half_deviance : ndarray, shape (n,)
        Without the priors' share.
    gradient, information : ndarray, shape (p, n), (p, p, n)
        Derivatives of the same.
    own_gradient : ndarray, shape (q, n)
        Of the free parameters, priors in; zero for those at a bound.
    own_inverse : ndarray, shape (q, q, n)
        Their inverse information, priors in; zero for those at a bound, NaN
        where it is singular.
    edm : ndarray, shape (n,)
        Expected distance to the minimum there, bounds and priors respected.
    n_iter : ndarray of int, shape (n,)
        Number of evaluations.
    converged : ndarray of bool, shape (n,)
        Whether ``edm`` is below the tolerance.
    """

    params: np.ndarray
    half_deviance: np.ndarray
    gradient: np.ndarray
    information: np.ndarray
    own_gradient: np.ndarray
    own_inverse: np.ndarray
    edm: np.ndarray
    n_iter: np.ndarray
    converged: np.ndarray


def cholesky(matrix):
    """Factor a batch of symmetric matrices.

    Parameters
    ----------
    matrix : ndarray, shape (p, p, m)
        Symmetric matrices with diagonals near 1.

    Returns
    -------
    factor : ndarray, shape (p, p, m)
        Lower triangles; meaningless where ``positive`` is False.
    positive : ndarray of bool, shape (m,)
        Whether all pivots exceeded the noise of the matrix itself.
    """
    p, _, m = matrix.shape
    factor = np.zeros((p, p, m))
    positive = np.ones(m, dtype=bool)
    for j in range(p):
        column = matrix[j:, j]
        if j:
            column = column - np.einsum('ikm,km->im', factor[j:, :j], factor[j, :j])
        pivot = column[0]
        good = pivot > _SMALLEST_PIVOT          # False for NaN as well
        positive &= good
        factor[j:, j] = column / np.sqrt(np.where(good, pivot, 1.0))
    return factor, positive


def _forward(factor, rhs, first=0):
    """Solve ``factor y = rhs`` for ``rhs`` (p, m) that is zero before row ``first``."""
    y = np.array(rhs)
    for j in range(first, len(y)):
        if j > first:
            y[j] -= np.einsum('km,km->m', factor[j, first:j], y[first:j])
        y[j] /= factor[j, j]
    return y


def _backward(factor, y):
    """Solve ``factor^T x = y`` for ``y`` (p, m)."""
    x = np.array(y)
    for j in range(len(x) - 1, -1, -1):
        if j < len(x) - 1:
            x[j] -= np.einsum('km,km->m', factor[j + 1:, j], x[j + 1:])
        x[j] /= factor[j, j]
    return x


def invert(matrix):
    """Invert a batch of information matrices.

    Parameters
    ----------
    matrix : ndarray, shape (p, p, m)
        Symmetric matrices of any scale.

    Returns
    -------
    inverse : ndarray, shape (p, p, m)
        NaN where the matrix is not positive definite.
    positive : ndarray of bool, shape (m,)
    """
    scale = _scale(matrix)
    p, _, m = matrix.shape
    scaled = matrix * scale[:, None] * scale
    if _suits_lapack(p, m):
        inverse, positive = _invert_few(scaled)
    else:
        factor, positive = cholesky(scaled)
        inverse = np.empty_like(matrix)
        for j in range(p):
            unit = np.zeros((p, m))
            unit[j] = 1.0
            inverse[:, j] = _backward(factor, _forward(factor, unit, first=j))
    inverse *= scale[:, None] * scale
    inverse[:, :, ~positive] = np.nan
    return inverse, positive


def _invert_few(matrix):
    """Do the work of `invert` one scaled matrix after the other, with LAPACK."""
    inverse = np.zeros_like(matrix)
    positive = np.zeros(matrix.shape[2], dtype=bool)
    if not len(matrix):
        return inverse, ~positive
    upper = np.triu_indices(len(matrix), 1)
    for k in range(matrix.shape[2]):
        # NaN must not reach LAPACK; a sum knows of all of them.
        if not np.isfinite(matrix[:, :, k].sum()):
            continue
        factor, failed = dpotrf(matrix[:, :, k], lower=1)
        if not failed and factor.diagonal().min() ** 2 > _SMALLEST_PIVOT:
            own, _ = dpotri(factor, lower=1)
            own[upper] = own.T[upper]
            inverse[:, :, k] = own
            positive[k] = True
    return inverse, positive


def _suits_lapack(p, m):
    """Say whether m matrices (p, p) are better solved one after the other."""
    return m <= _FEW or p >= _LARGE


def _scale(matrix):
    """Return 1 / sqrt(diagonal), (p, m); 1 where that does not exist."""
    diagonal = np.einsum('iim->im', matrix)
    good = (diagonal > 0) & np.isfinite(diagonal)
    return 1.0 / np.sqrt(np.where(good, diagonal, 1.0))


def add_prior_values(params, value, limits):
    """Add the Gaussian priors of ``params`` (q, m) to half the deviance (m,), in place."""
    if limits.prior_precision.any():
        offset = params - limits.prior_mean
        value += 0.5 * (limits.prior_precision * offset * offset).sum(axis=0)


def add_priors(params, value, gradient, information, limits):
    """Add Gaussian priors to half the deviance and its derivatives, in place."""
    precision = limits.prior_precision
    if not precision.any():
        return
    add_prior_values(params, value, limits)
    gradient += precision * (params - limits.prior_mean)
    index = np.arange(len(params))
    information[index, index] += precision


def active_bounds(params, gradient, limits):
    """Say which parameters (q, m) rest on a bound that holds them back."""
    return (((params <= limits.lower) & (gradient > 0))
            | ((params >= limits.upper) & (gradient < 0)))


def pin(gradient, information, pinned):
    """Return the derivatives with the ``pinned`` (q, m) parameters at rest."""
    if not pinned.any():
        return gradient, information
    moving = ~pinned
    # Not a product: at a background of zero the information can be infinite.
    information = np.where(moving[:, None] & moving, information, 0.0)
    index = np.arange(len(gradient))
    information[index, index] += pinned
    return np.where(moving, gradient, 0.0), information


def newton_step(gradient, information, damping):
    """Return the damped step, the expected distance and where both exist.

    The matrices are scaled by their diagonals first; the damping is
    Levenberg's on the scaled matrix, that is Marquardt's.
    """
    scale = _scale(information)
    matrix = information * scale[:, None] * scale
    index = np.arange(len(gradient))
    matrix[index, index] += damping
    slope = gradient * scale
    if _suits_lapack(*gradient.shape):
        inverse, positive = _invert_few(matrix)
        direction = np.einsum('ikm,km->im', inverse, slope)
        edm = 0.5 * np.einsum('im,im->m', slope, direction)
    else:
        factor, positive = cholesky(matrix)
        y = _forward(factor, slope)
        edm = 0.5 * np.einsum('im,im->m', y, y)
        direction = _backward(factor, y)
    return -scale * direction, edm, positive & np.isfinite(edm)


def next_damping(damping, better, as_predicted=True):
    """Relax the damping (m,) after a step that was ``better``, else raise it.

    It stays where the step was better, but not ``as_predicted``: a longer one
    would be refused.
    """
    relaxed = np.where(damping > FIRST_DAMPING, 0.1 * damping, 0.0)
    return np.where(better, np.where(as_predicted, relaxed, damping),
                    np.maximum(10 * damping, FIRST_DAMPING))


class _Batch:
    """The fits that are still running: their state, compacted as they finish."""

    def __init__(self, objective, start, rows, constraints):
        self.objective = objective
        self.constraints = constraints
        self.rows, self.limits = rows, constraints.take(rows)
        self.params = start
        self.damping = np.zeros(len(rows))
        self.previous = np.zeros(len(rows))
        self.observed = np.ones(len(rows), dtype=bool)
        self.curvature = 'newton'
        self.value, self.gradient, self.information = self.evaluate(start, rows)

    def evaluate(self, params, rows, curvature=None):
        """Evaluate the free parameters, priors included; inf where invalid."""
        free = self.constraints.free
        value, gradient, information = self.objective.evaluate(params, rows,
                                                               curvature or self.curvature)
        limits = self.limits if rows is self.rows else self.constraints.take(rows)
        value[~(self.objective.is_valid(params) & np.isfinite(value))] = np.inf
        if len(free) < len(params):
            gradient = gradient[free]
            information = information[np.ix_(free, free)]
        add_priors(params[free], value, gradient, information, limits)
        return value, gradient, information

    def steps(self):
        """Return step (q, m), expected distance (m,) of the running fits."""
        pinned = active_bounds(self.params[self.constraints.free], self.gradient, self.limits)
        step, edm, good = self._step(pinned)
        if not good.all():
            self._use_expected_information(np.flatnonzero(~good))
            step, edm, good = self._step(pinned)
        if not good.all():
            # Singular even so: nothing depends on a parameter, at least here.
            self.damping = np.where(good, self.damping, next_damping(self.damping, good))
            step, edm, good = self._step(pinned)
            step[:, ~good] = 0.0
            edm[~good] = np.inf
            self.damping[~good] = np.inf
        return step, edm

    def _step(self, pinned):
        """Return what `newton_step` does with the ``pinned`` (q, m) parameters at rest."""
        return newton_step(*pin(self.gradient, self.information, pinned), self.damping)

    def _use_expected_information(self, bad):
        """Replace an observed information that is not positive definite."""
        information = self.evaluate(self.params[:, bad], self.rows[bad], 'fisher')[2]
        self.information[:, :, bad] = information
        self.observed[bad] = False

    def gain(self, step):
        """Return by how much a ``step`` (q, m) should lower the value, (m,)."""
        half = 0.5 * np.einsum('ikm,km->im', self.information, step)
        return -np.einsum('im,im->m', self.gradient + half, step)

    def moved(self, step):
        """Return the parameters after ``step``, held inside the bounds."""
        free, limits = self.constraints.free, self.limits
        params = self.params.copy()
        params[free] = np.clip(params[free] + step, limits.lower, limits.upper)
        return params

    def distance_after(self, distance):
        """Predict the expected distance (m,) after the next step.

        Newton's errors go as d' = c d^2, with c from the step before; infinite
        without one.
        """
        ratio = distance / self.previous
        return np.where(self.damping == 0, distance * ratio * ratio, np.inf)

    def advance(self, trial, distance):
        """Accept the trial parameters, a step (q, m) away, where they are better.

        Elsewhere take the expected information, which has the right scale also where the
        observed one is close to singular; if that has failed too, damp.
        """
        value, gradient, information = self.evaluate(trial, self.rows)
        better = value <= self.value + 1e-12 * (1.0 + np.abs(self.value))
        as_predicted = True
        if self.damping.any():
            free = self.constraints.free
            gain = self.gain(trial[free] - self.params[free])
            as_predicted = self.value - value > _GOOD_SHARE * gain
        self.previous = np.where(better & (self.damping == 0), distance, 0.0)
        expected = ~better & self.observed
        self.damping = np.where(expected, self.damping,
                                next_damping(self.damping, better, as_predicted))
        if better.all():
            self.params, self.value = trial, value
            self.gradient, self.information = gradient, information
            self.observed[:] = True
            return
        self.params = np.where(better, trial, self.params)
        self.value[better] = value[better]
        self.gradient[:, better] = gradient[:, better]
        self.information[:, :, better] = information[:, :, better]
        self.observed[better] = True
        if expected.any():
            self._use_expected_information(np.flatnonzero(expected))

    def keep(self, running):
        """Drop the fits that are not ``running``."""
        self.rows, self.damping = self.rows[running], self.damping[running]
        self.limits = self.constraints.take(self.rows)
        self.previous, self.observed = self.previous[running], self.observed[running]
        self.params, self.value = self.params[:, running], self.value[running]
        self.gradient = self.gradient[:, running]
        self.information = self.information[:, :, running]


def solve(objective, start, constraints, max_iter=100, curvature='fisher', sure=_SURE):
    """Minimise half the deviance of many fits at once.

    Newton steps with Levenberg's damping where a step is refused, the
    expected information where the observed one is not positive definite,
    and an active set for the bounds.  A kernel whose Newton matrix is an
    approximation gives the exact one to fits that take long.  A fit stops when a Newton step is
    sure to end at the minimum; whether it did is then seen there, and fits
    that did not go on, at most three times.

    Parameters
    ----------
    objective : object
        See the module's docstring.
    start : ndarray, shape (p, n)
        Starting values, inside the bounds and valid.
    constraints : Constraints
    max_iter : int
        Largest number of evaluations of a fit.
    curvature : {'fisher', 'observed', 'newton'}
        Which information to return.
    sure : float
        Share of the tolerance from which on a fit whose end was predicted
        goes on.

    Returns
    -------
    Solution
    """
    rows = np.arange(start.shape[1])
    limits = constraints.take(rows)
    budget = np.full(len(rows), max(max_iter - 1, 1))
    with np.errstate(all='ignore'):
        params, state, n_iter = _descend_and_look(objective, start, rows, constraints, budget,
                                                  curvature, True)
        own = _own_block(params, state, limits)
        for tolerance in (sure * EDM_TOLERANCE, EDM_TOLERANCE, EDM_TOLERANCE):
            late = rows[~(own[2] < tolerance) & (n_iter < max_iter - 1)]
            if not len(late):
                break
            params[:, late], again, more = _descend_and_look(
                objective, params[:, late], late, constraints, max_iter - 1 - n_iter[late],
                curvature, False)
            n_iter[late] += more
            for old, new in zip(state, again, strict=True):
                old[..., late] = new
            own = _own_block(params, state, limits)
        converged = ((own[2] < EDM_TOLERANCE) & objective.is_valid(params)
                     & np.isfinite(state[0]))
    return Solution(params, *state, *own, n_iter, converged)


def _descend_and_look(objective, start, rows, constraints, budget, curvature, predict):
    """Return parameters (p, m) of `_descend`, the objective there, and the evaluations (m,)."""
    params, before, n_iter = _descend(objective, start, rows, constraints, budget, predict)
    state = objective.evaluate(params, rows, curvature)
    lost = np.flatnonzero(~(np.isfinite(state[0]) & objective.is_valid(params)))
    if len(lost):
        # The last step, at which nobody looked, has left the domain of the model.
        params[:, lost] = before[:, lost]
        for old, new in zip(state, objective.evaluate(params[:, lost], rows[lost], curvature),
                            strict=True):
            old[..., lost] = new
    return params, state, n_iter + 1


def _own_block(params, state, limits):
    """Return gradient (q, n), inverse information (q, q, n) and distance (n,) at the end."""
    free = limits.free
    _, gradient, information = state
    gradient, information = gradient[free], information[np.ix_(free, free)]
    add_priors(params[free], np.zeros(params.shape[1]), gradient, information, limits)
    pinned = active_bounds(params[free], gradient, limits)
    gradient, information = pin(gradient, information, pinned)
    inverse, positive = invert(information)
    if pinned.any():
        inverse[pinned[:, None] | pinned] = 0.0
    half = np.einsum('ikm,km->im', inverse, gradient)
    edm = 0.5 * np.einsum('im,im->m', gradient, half)
    if not positive.all():
        # A parameter that nothing depends on is no reason to distrust the others.
        edm[~positive] = newton_step(gradient[:, ~positive], information[:, :, ~positive],
                                     np.full(np.count_nonzero(~positive), _RIDGE))[1]
    return gradient, inverse, edm


def _descend(objective, start, rows, constraints, budget, predict):
    """Return parameters (p, m) after and before the last step, and the evaluations (m,).

    A fit ends below the tolerance, or, with ``predict``, where its next
    step is predicted to lead far below it, or after ``budget`` (m,)
    evaluations.
    """
    params, before = np.array(start), np.array(start)
    n_iter = np.zeros(len(rows), dtype=int)
    place = np.arange(len(rows))
    if not len(rows):
        return params, before, n_iter
    batch = _Batch(objective, np.array(start), rows, constraints)
    for iteration in range(1, budget.max() + 1):
        if iteration == _PATIENCE:
            batch.curvature = 'observed'
        step, distance = batch.steps()
        trial = batch.moved(step)
        done = (distance < EDM_TOLERANCE) & (batch.damping <= FIRST_DAMPING)
        if predict:
            done |= batch.distance_after(distance) < 0.01 * EDM_TOLERANCE
        stuck = (batch.damping > LARGEST_DAMPING) | ~np.isfinite(batch.value)
        last = done | stuck | (iteration >= budget[place])
        if last.any():
            params[:, place[last]] = np.where(done, trial, batch.params)[:, last]
            before[:, place[last]] = batch.params[:, last]
            n_iter[place[last]] = iteration
            if last.all():
                break
            batch.keep(~last)
            place, trial, distance = place[~last], trial[:, ~last], distance[~last]
        batch.advance(trial, distance)
    return params, before, n_iter
