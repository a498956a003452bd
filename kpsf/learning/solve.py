# Licensed under a 3-clause BSD style license - see LICENSE
"""The image that the pixels ask for, as smooth as their scatter has it."""

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
        log_variance = float(np.log(variance[weights > 0]).sum())
        target = residual + self.rows @ self.u
        weighted = self.rows.multiply(weights[:, np.newaxis]).tocsr()
        hessian = (self.rows.T @ weighted + tuning.smoothness * self.grid.penalty).tocsc()
        factor = factorize(hessian)
        # The stars' own parameters, scaled, and the constraints are eliminated.
        inner = self.nuisance.multiply(weights[:, np.newaxis]).tocsc()
        own = (self.nuisance.T @ inner).toarray() + np.diag(self.precision)
        scale = 1.0 / np.sqrt(np.maximum(np.diag(own), np.finfo(float).tiny))
        mixed = (weighted.T @ self.nuisance).toarray() * scale
        gradient = np.column_stack([weighted.T @ target, mixed, self.constraints])
        solved = factor.solve(np.ascontiguousarray(gradient))
        q = len(scale)
        first, of_stars, of_constraints = solved[:, 0], solved[:, 1:1 + q], solved[:, 1 + q:]
        schur = own * np.outer(scale, scale) - mixed.T @ of_stars
        cross = self.constraints.T @ of_stars
        bordered = np.block([[schur, -cross.T],
                             [-cross, -self.constraints.T @ of_constraints]])
        star_gradient = scale * (inner.T @ target + self.precision * self.pulls)
        right = np.concatenate([star_gradient - mixed.T @ first, -self.constraints.T @ first])
        eta = linalg.lstsq(bordered, right)[0]
        u = first - of_stars @ eta[:q] - of_constraints @ eta[q:]
        left = target - self.rows @ u - self.nuisance @ (scale * eta[:q])
        energy = (robust_loss(left, variance) + tuning.smoothness * (u @ (self.grid.penalty @ u))
                  + self.precision @ (self.pulls - scale * eta[:q])**2)
        log_det = log_determinant(factor) + np.linalg.slogdet(bordered)[1]
        evidence = -0.5 * (energy + log_variance + log_det
                           - (u.size - self.constraints.shape[1]) * np.log(tuning.smoothness)
                           - self.grid.log_determinant - 2.0 * np.log(scale).sum())
        return u, float(evidence)


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
