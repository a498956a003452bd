# Licensed under a 3-clause BSD style license - see LICENSE
"""The image that the pixels ask for, as smooth as their scatter has it."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from .grid import factorize, log_determinant
from .stars import (
    columns_of,
    prior_of,
    residual_of,
    robust_loss,
    robust_weights,
    starlight,
)

__all__ = ['Equations', 'Tuning', 'solve_image']

# Factors by which smoothness and floor are tried around what they were.
FACTORS = {'smoothness': 4.0, 'floor': 1.5}
SMOOTHNESS_RANGE, FLOOR_RANGE = (1e-3, 1e7), (1e-5, 0.05)
# A gain of the logarithm of the evidence that is worth a move.
LEAST_GAIN = 0.5


@dataclass(frozen=True)
class Tuning:
    """How smooth the image is, and how exact it can be.

    Parameters
    ----------
    smoothness : float
        Precision of the bends of its relative corrections.
    floor : float
        Share of the stars' light to which the model can be right.
    """

    smoothness: float = 1.0
    floor: float = 0.01

    def neighbours(self):
        """Yield what to try next."""
        for name, limits in (('smoothness', SMOOTHNESS_RANGE), ('floor', FLOOR_RANGE)):
            for power in (-1, 1):
                value = np.clip(getattr(self, name) * FACTORS[name]**power, *limits)
                yield Tuning(**{**self.__dict__, name: float(value)})


class Equations:
    """Linear equations of the pixels for the image, and for all that the stars may do meanwhile.

    Parameters
    ----------
    grid : PRFGrid
    table : SplineTable
        The present image.
    u : ndarray, shape (n n,)
        Its unknowns.
    stamps, stars : list of Stamp, list of StarFits
    """

    def __init__(self, grid, table, u, stamps, stars):
        self.grid, self.u = grid, u
        self.table, self.stamps, self.stars = table, stamps, stars
        self.images = [(k, image) for k, stamp in enumerate(stamps)
                       for image in range(stamp.n_images)]
        self.light = [starlight(table, stamps[k], stars[k], image) for k, image in self.images]
        self.rows = sparse.vstack([self._rows(stamps[k], stars[k], image)
                                   for k, image in self.images]).tocsr()
        self.nuisance = sparse.block_diag(
            [columns_of(parts, stars[k].is_fitted)
             for (k, _), parts in zip(self.images, self.light)]).tocsc()
        pulls, precision = zip(*(prior_of(stamps[k], stars[k], image)
                                 for k, image in self.images))
        self.pulls, self.precision = np.concatenate(pulls), np.concatenate(precision)
        self.constraints = grid.constraints

    def _rows(self, stamp, stars, image):
        """Return the derivatives of one image by the unknowns."""
        parts = [self.grid.rows(stamp.x - column, stamp.y - row, flux)
                 for (column, row), flux in zip(stars.places[image], stars.fluxes[image])]
        return sum(parts[1:], parts[0])

    def weigh(self, floor):
        """Return residuals and variances of all pixels."""
        residual = [residual_of(self.stamps[k], self.stars[k], image, light)
                    for (k, image), light in zip(self.images, self.light)]
        variance = [stamp.variance(floor).ravel() for stamp in self.stamps]
        return np.concatenate(residual), np.concatenate(variance)

    def solve(self, tuning):
        """Return the unknowns and the logarithm of the evidence for the tuning."""
        residual, variance = self.weigh(tuning.floor)
        weights = robust_weights(residual, variance)
        # As if all unknowns were zero, those of the stars what they are.
        target = residual + self.rows @ self.u
        weighted = self.rows.multiply(weights[:, np.newaxis]).tocsr()
        factor = factorize(self.rows.T @ weighted + tuning.smoothness * self.grid.penalty)
        u, changes, log_det = self._eliminate(factor, weighted, weights, target)

        left = target - self.rows @ u - self.nuisance @ changes
        energy = (robust_loss(left, variance)
                  + tuning.smoothness * (u @ (self.grid.penalty @ u))
                  + self.precision @ (self.pulls - changes)**2)
        log_variance = np.log(variance[np.isfinite(variance)]).sum()
        n_free = u.size - self.constraints.shape[1]
        log_prior = n_free * np.log(tuning.smoothness) + self.grid.log_determinant
        return u, float(-0.5 * (energy + log_variance + log_det - log_prior))

    def _eliminate(self, factor, weighted, weights, target):
        """Solve for the image, the changes of the stars and the multipliers of the constraints.

        The Hessian of the image is sparse and decomposed in ``factor``; the others are a few
        dense columns, of which the Schur complement is solved.

        Returns
        -------
        u, changes : ndarray
            Unknowns of the image, and changes of fluxes, places and backgrounds.
        log_det : float
            Logarithm of the determinant of all.
        """
        inner = self.nuisance.multiply(weights[:, np.newaxis]).tocsc()
        own = (self.nuisance.T @ inner).toarray() + np.diag(self.precision)
        # Scaled: fluxes and places differ by many orders of magnitude.
        scale = 1.0 / np.sqrt(np.maximum(np.diag(own), np.finfo(float).tiny))
        mixed = (weighted.T @ self.nuisance).toarray() * scale
        border = np.column_stack([mixed, self.constraints])
        solved = factor.solve(np.column_stack([weighted.T @ target, border]))
        first, rest, q = solved[:, 0], solved[:, 1:], len(scale)
        schur = -border.T @ rest
        schur[:q, :q] += own * np.outer(scale, scale)
        right = -border.T @ first
        right[:q] += scale * (inner.T @ target + self.precision * self.pulls)
        solution = _solve_symmetric(schur, right)
        log_det = (log_determinant(factor) + np.linalg.slogdet(schur)[1]
                   - 2.0 * np.log(scale).sum())
        return first - rest @ solution, scale * solution[:q], log_det


def solve_image(equations, tuning, n_moves):
    """Return the unknowns and the tuning, after at most `n_moves` to better ones."""
    best = equations.solve(tuning)
    for _ in range(n_moves):
        tried = {}
        for other in tuning.neighbours():
            tried[other] = equations.solve(other)
        other = max(tried, key=lambda key: tried[key][1])
        if tried[other][1] <= best[1] + LEAST_GAIN:
            break
        best, tuning = tried[other], other
    return *best, tuning


def _solve_symmetric(matrix, right):
    """Return the solution of a symmetric system, the shortest one where there are many."""
    with warnings.catch_warnings():
        warnings.simplefilter('error', linalg.LinAlgWarning)
        try:
            return linalg.solve(matrix, right, assume_a='sym')
        except (linalg.LinAlgError, linalg.LinAlgWarning):
            # Slow, but indifferent to what is not determined.
            return linalg.lstsq(matrix, right)[0]
