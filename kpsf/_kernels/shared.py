# Licensed under a 3-clause BSD style license - see LICENSE
"""Parameters that a whole series shares, and the covariance of all.

The normal equations of a series with shared parameters are an arrow: one
block A per stamp for its own parameters, their coupling C to the shared
ones, and one block for those.  The stamps are fitted for given shared
values (`solver.solve`, as always); the Schur complement
``S - sum C^T A^-1 C`` is then the exact curvature of what is left, the
profile likelihood of the shared parameters, and Newton's method on it is
the joint maximum-likelihood fit.
"""

from dataclasses import dataclass

import numpy as np

from . import solver

__all__ = ['Fits', 'Series', 'solve_series']


@dataclass(frozen=True)
class Series:
    """The stamps of a series and what is known of their parameters.

    Attributes
    ----------
    parts : list of slice
        The chunks in which the stamps are worked on.
    objective : callable
        ``objective(part)`` returns the likelihood of a chunk.
    constraints : solver.Constraints
        Of all stamps; ``free`` names the parameters that each stamp has of
        its own.
    shared : ndarray of int, shape (s,)
        Parameters with one value for the series. Empty for independent
        fits.
    run : callable
        ``run(function, parts, watched=False)`` returns the list of results;
        it may use threads, and show how far a ``watched`` run has come.
    """

    parts: list
    objective: callable
    constraints: solver.Constraints
    shared: np.ndarray
    run: callable

    def limits(self, part):
        """Return the constraints of the stamps of one chunk."""
        return self.constraints.of(part)

    def shared_limits(self):
        """Return the constraints of the shared parameters, arrays (s, 1)."""
        c, s = self.constraints, self.shared
        return solver.Constraints(s, c.lower[s].max(axis=1, keepdims=True),
                                  c.upper[s].min(axis=1, keepdims=True),
                                  c.prior_mean[s][:, :1], c.prior_precision[s][:, :1])


@dataclass
class Fits:
    """What `solve_series` found.

    Attributes
    ----------
    params : ndarray, shape (p, n)
    deviance : ndarray, shape (n,)
        Without the priors' share.
    edm : ndarray, shape (n,)
        Expected distance to the minimum; that of the shared parameters is
        added.
    n_iter : ndarray of int, shape (n,)
        Evaluations, summed over the steps of the shared parameters.
    converged : ndarray of bool, shape (n,)
    covariance : ndarray, shape (n, q (q + 1) / 2)
        Lower triangles of the covariance of each stamp's own parameters,
        then the shared ones. Zero for parameters at a bound, NaN where the
        information is singular.
    """

    params: np.ndarray
    deviance: np.ndarray
    edm: np.ndarray
    n_iter: np.ndarray
    converged: np.ndarray
    covariance: np.ndarray

    @classmethod
    def empty(cls, start, size):
        """Make room for fits of ``size`` parameters; ``start`` (p, n) is taken over."""
        n = start.shape[1]
        return cls(start, np.full(n, np.nan), np.full(n, np.inf),
                   np.zeros(n, dtype=np.int32), np.zeros(n, dtype=bool),
                   np.empty((n, size * (size + 1) // 2)))

    def put(self, part, solution):
        """Take over the `solver.Solution` of one chunk."""
        self.params[:, part] = solution.params
        self.deviance[part] = 2.0 * solution.half_deviance
        self.edm[part] = solution.edm
        self.n_iter[part] += solution.n_iter
        self.converged[part] = solution.converged


@dataclass
class _Profile:
    """What the series says of the shared parameters, each stamp's own at their best."""

    value: float
    gradient: np.ndarray            # (s, 1)
    information: np.ndarray         # (s, s, 1)
    meat: np.ndarray                # (s, s, 1)
    response: np.ndarray            # (l, s, n), A^-1 C


def solve_series(series, start, max_iter=100, covariance='fisher'):
    """Fit a series, shared parameters included.

    Parameters
    ----------
    series : Series
    start : ndarray, shape (p, n)
        Starting values, inside the bounds; the shared rows constant. The
        fits overwrite them.
    max_iter : int
        Largest number of evaluations of a stamp, and of steps of the shared
        parameters.
    covariance : {'fisher', 'observed', 'sandwich'}

    Returns
    -------
    Fits
    """
    fits = Fits.empty(start, len(series.constraints.free) + len(series.shared))
    curvature = 'fisher' if covariance == 'fisher' else 'observed'
    sandwich = covariance == 'sandwich'
    lower = np.tril_indices(len(series.constraints.free) + len(series.shared))
    distance, head = _fit_shared(series, fits, max_iter, curvature, sandwich)

    def fit(part):
        objective, solution = _solve_part(series, fits, part, max_iter, curvature)
        arrow = _Arrow(series.limits(part), series.shared, objective, solution, sandwich)
        fits.covariance[part] = arrow.covariance(*head)[lower].T

    series.run(fit, series.parts, watched=True)
    fits.edm += distance
    fits.converged &= fits.edm < solver.EDM_TOLERANCE
    return fits


def _solve_part(series, fits, part, max_iter, curvature):
    """Fit the stamps of one chunk from where ``fits`` stands, and put them there."""
    objective = series.objective(part)
    solution = solver.solve(objective, fits.params[:, part], series.limits(part), max_iter,
                            curvature)
    fits.put(part, solution)
    return objective, solution


def _fit_shared(series, fits, max_iter, curvature, sandwich):
    """Bring the shared parameters to their maximum likelihood, in place.

    Returns their expected distance (a number) and their covariance and
    inverse information, two (s, s).
    """
    n_shared = len(series.shared)
    if not n_shared:
        return 0.0, (np.zeros((0, 0)), np.zeros((0, 0)))
    limits = series.shared_limits()
    damping = np.zeros(1)
    profile = _sweep(series, fits, max_iter)
    used = np.isfinite(fits.deviance)
    for _ in range(max_iter):
        step, distance = _shared_step(series, fits, profile, limits, damping)
        near = distance < 0.1 * solver.EDM_TOLERANCE and damping[0] <= solver.FIRST_DAMPING
        if near or damping[0] > solver.LARGEST_DAMPING:
            break
        before = fits.params.copy()
        _move(series, fits, profile, step, limits)
        trial = _sweep(series, fits, max_iter, used)
        better = np.array([np.isfinite(distance) and trial.value
                           <= profile.value + 1e-12 * (1 + abs(profile.value))])
        damping = solver.next_damping(damping, better)
        if better[0]:
            profile = trial
        else:
            fits.params[:] = before
    final = _sweep(series, fits, max_iter, used, curvature, sandwich)
    # Where the steps have led, and without the damping that made them small.
    _, distance = _shared_step(series, fits, final, limits, np.zeros(1))
    return distance, _head(series, fits, final, limits, sandwich)


def _head(series, fits, profile, limits, sandwich):
    """Return covariance and inverse information of the shared parameters, two (s, s)."""
    pinned = solver.active_bounds(fits.params[series.shared][:, :1], profile.gradient, limits)
    _, information = solver.pin(profile.gradient, profile.information, pinned)
    with np.errstate(all='ignore'):
        inverse = solver.invert(information)[0]
    inverse = np.where(pinned[:, None] | pinned, 0.0, inverse)[:, :, 0]
    return inverse @ profile.meat[:, :, 0] @ inverse if sandwich else inverse, inverse


def _sweep(series, fits, max_iter, used=None, curvature='newton', sandwich=False):
    """Fit every stamp for the shared values in ``fits`` and sum what is left."""
    n_own, n_shared = len(series.constraints.free), len(series.shared)
    response = np.empty((n_own, n_shared, fits.params.shape[1]))

    def fit(part):
        objective, solution = _solve_part(series, fits, part, max_iter, curvature)
        arrow = _Arrow(series.limits(part), series.shared, objective, solution, sandwich)
        response[:, :, part] = arrow.response
        return arrow.profile(np.isfinite(arrow.value) if used is None else used[part])

    value, gradient, information, meat = (
        sum(terms) for terms in zip(*series.run(fit, series.parts), strict=True))
    shared = fits.params[series.shared][:, :1]
    value = np.array([value])
    limits = series.shared_limits()
    solver.add_priors(shared, value, gradient, information, limits)
    # A prior is one more datum, whose score has its precision for a variance.
    index = np.arange(n_shared)
    meat[index, index] += limits.prior_precision
    return _Profile(value[0], gradient, information, meat, response)


class _Arrow:
    """The blocks of some stamps' normal equations.

    Attributes
    ----------
    value : ndarray, shape (m,)
        Half the deviance with the priors of each stamp's own parameters.
    inverse : ndarray, shape (l, l, m)
        A^-1, with zeros for parameters at their bounds.
    coupling, response : ndarray, shape (l, s, m)
        C and A^-1 C.
    positive : ndarray of bool, shape (m,)
        Where A^-1 exists.
    """

    def __init__(self, limits, shared, objective, solution, with_scores):
        rows = np.arange(solution.params.shape[1])
        free, own = limits.free, limits.take(rows)
        self._free, self._shared = free, shared
        self._solution = solution
        self.value = solution.half_deviance.copy()
        solver.add_prior_values(solution.params[free], self.value, own)
        self.inverse = solution.own_inverse
        self.positive = np.isfinite(self.inverse).all(axis=(0, 1))
        self.response = self.coupling = np.zeros((len(free), 0, len(rows)))
        if len(shared):
            held = np.einsum('iim->im', self.inverse) == 0.0
            self.coupling = np.where(held[:, None], 0.0,
                                     solution.information[np.ix_(free, shared)])
            self.response = np.einsum('ikm,ksm->ism', self.inverse, self.coupling)
        self._score = None
        if with_scores:
            self._score = objective.evaluate(solution.params, rows, 'score')[2]
            # A prior is one more datum, whose score has its precision for a variance.
            self._score[free, free] += own.prior_precision

    def profile(self, used):
        """Return value, gradient, Schur complement and its meat, summed over ``used``."""
        s = self._shared
        if not np.isfinite(self.value[used]).all():
            return np.inf, np.zeros((len(s), 1)), *np.zeros((2, len(s), len(s), 1))
        # A stamp whose own curvature is of no use still has its say in the value.
        clear = used & self.positive
        gradient = self._solution.gradient[s] - np.einsum(
            'lsm,lm->sm', self.response, self._solution.own_gradient)
        schur = self._solution.information[np.ix_(s, s)] - np.einsum(
            'ksm,ktm->stm', self.coupling, self.response)
        meat = schur if self._score is None else self._shared_meat()
        return (self.value[used].sum(), gradient[:, clear].sum(axis=1, keepdims=True),
                schur[:, :, clear].sum(axis=2, keepdims=True),
                meat[:, :, clear].sum(axis=2, keepdims=True))

    def _shared_meat(self):
        """Return the variance of each stamp's score of the shared parameters, (s, s, m)."""
        free, s = self._free, self._shared
        cross = np.einsum('lsm,ltm->stm', self.response, self._score[np.ix_(free, s)])
        return (self._score[np.ix_(s, s)] - cross - cross.transpose(1, 0, 2)
                + np.einsum('lsm,lkm,ktm->stm', self.response,
                            self._score[np.ix_(free, free)], self.response))

    def covariance(self, shared_covariance, shared_inverse):
        """Return the covariance of own and shared parameters, (q, q, m).

        Given the covariance and the inverse information (s, s) of the
        shared ones; NaN where A^-1 does not exist.
        """
        n_own, n_shared = self.response.shape[:2]
        own = self.inverse if self._score is None else self._sandwiched(shared_inverse)
        if not n_shared:
            covariance = own.copy()
        else:
            covariance = np.empty((n_own + n_shared,) * 2 + (len(self.value),))
            cross = -np.einsum('lsm,st->ltm', self.response, shared_covariance)
            covariance[:n_own, :n_own] = own - np.einsum('lsm,ksm->lkm', cross, self.response)
            if self._score is not None:
                cross = cross + np.einsum('ikm,ksm,st->itm', self.inverse,
                                          self._to_shared(), shared_inverse)
            covariance[:n_own, n_own:] = cross
            covariance[n_own:, :n_own] = cross.transpose(1, 0, 2)
            covariance[n_own:, n_own:] = shared_covariance[:, :, None]
        covariance[:, :, ~self.positive] = np.nan
        return covariance

    def _to_shared(self):
        """Return the covariance of own scores with those of the profile, (l, s, m)."""
        own = self._score[np.ix_(self._free, self._free)]
        return (self._score[np.ix_(self._free, self._shared)]
                - np.einsum('lkm,ksm->lsm', own, self.response))

    def _sandwiched(self, shared_inverse):
        """Return A^-1 K A^-1, (l, l, m), with K the variance of the scores.

        A stamp's own scores also have a share in the shared estimate, which
        takes a part of them away.
        """
        free, s = self._free, self._shared
        meat = self._score[np.ix_(free, free)]
        if len(s):
            mixed = np.einsum('lsm,st,ktm->lkm', self._to_shared(), shared_inverse,
                              self.coupling)
            meat = meat - mixed - mixed.transpose(1, 0, 2)
        return np.einsum('ikm,klm,ljm->ijm', self.inverse, meat, self.inverse)


def _shared_step(series, fits, profile, limits, damping):
    """Return the step (s,) of the shared parameters and its distance; infinite if none exists."""
    shared = fits.params[series.shared][:, :1]
    pinned = solver.active_bounds(shared, profile.gradient, limits)
    with np.errstate(all='ignore'):
        step, distance, good = solver.newton_step(
            *solver.pin(profile.gradient, profile.information, pinned), damping)
    return (step[:, 0], float(distance[0])) if good[0] else (np.zeros(len(step)), np.inf)


def _move(series, fits, profile, step, limits):
    """Take a step of the shared parameters, each stamp's own in tow, in place."""
    old = fits.params[series.shared][:, :1]
    new = np.clip(old + step[:, None], limits.lower, limits.upper)
    fits.params[series.shared] = new
    own, c = series.constraints.free, series.constraints
    follow = np.einsum('lsn,s->ln', profile.response, (new - old)[:, 0])
    moved = fits.params[own] - np.where(np.isfinite(follow), follow, 0.0)
    fits.params[own] = np.clip(moved, c.lower[own], c.upper[own])
