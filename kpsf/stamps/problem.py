# Licensed under a 3-clause BSD style license - see LICENSE
"""What `fit_stamps` is asked, checked once and turned into arrays and likelihoods."""

from dataclasses import dataclass

import numpy as np
from astropy.modeling import Model

from .._kernels.shared import Series
from .._kernels.solver import Constraints
from .kernels import Kernel
from .threads import run_on_threads

__all__ = ['Problem']


@dataclass(frozen=True)
class Problem:
    """Stamps, the model, and everything that is known beforehand.

    The likelihood always has a constant background as its last parameter;
    where none is fitted it is held at 0.

    Attributes
    ----------
    counts : ndarray, shape (n, ny, nx)
        As the user gave them.
    used : ndarray of bool, shape (n, ny, nx), or None
        Pixels in the likelihood; None where all are.
    model : astropy.modeling.Model
    kernel : Kernel
        What makes the likelihood of some stamps.
    init : dict
        Starting values that the user gave, () or (n,), by name.
    fixed_values : ndarray, shape (p,)
        The model's own values, and 0 for the background.
    offset : ndarray, shape (), (n_pixels,) or (n, n_pixels)
        Known background.
    read_variance : ndarray, shape (), (n_pixels,) or (n, n_pixels)
    constraints : Constraints
        Parameters that each stamp has of its own; limits and priors of all.
    shared : ndarray of int, shape (s,)
        Parameters with one value for the series.
    rows : ndarray of int, shape (m,)
        Stamps with enough pixels to be fitted.
    origin : ndarray, shape (n, 2), or None
        x and y of the stamps' first pixels, where they are known.
    """

    counts: np.ndarray
    used: np.ndarray
    model: Model
    kernel: Kernel
    init: dict
    fixed_values: np.ndarray
    offset: np.ndarray
    read_variance: np.ndarray
    constraints: Constraints
    shared: np.ndarray
    rows: np.ndarray
    origin: np.ndarray | None

    @property
    def shape(self):
        """Return the shape (ny, nx) of a stamp."""
        return self.counts.shape[1:]

    @property
    def n_params(self):
        """Return the number of parameters of the likelihood, background included."""
        return len(self.fixed_values)

    @property
    def moving(self):
        """Return the indices of all fitted parameters, each stamp's own first."""
        return np.concatenate([self.constraints.free, self.shared])

    def moves(self, name):
        """Say whether a parameter is fitted; a model without it does not move it."""
        names = self.model.param_names
        return name in names and names.index(name) in self.moving

    def stamps(self, part):
        """Return what selects the stamps of a chunk of the fitted ones from all.

        A slice where that is possible: it does not copy the user's array.
        """
        return part if len(self.rows) == len(self.counts) else self.rows[part]

    def pixels(self, rows):
        """Return shifted counts and weights of the stamps ``rows``.

        Both (m, n_pixels); the counts are 0 where they are not used, the
        weights None where all are.
        """
        counts = self.counts[rows].astype(float).reshape(-1, self.shape[0] * self.shape[1])
        if self.read_variance.any():
            counts += _of_rows(self.read_variance, rows)
        if self.used is None:
            return counts, None
        used = self.used[rows].reshape(counts.shape)
        if used.all():
            return counts, None
        return np.where(used, counts, 0.0), used.astype(float)

    def known_mean(self, rows):
        """Return what the mean of shifted counts holds besides PSF and background."""
        return _of_rows(self.offset, rows) + _of_rows(self.read_variance, rows)

    def likelihood(self, rows):
        """Return the likelihood of the stamps ``rows`` (a slice or indices)."""
        counts, weights = self.pixels(rows)
        known = {'offset': self.known_mean(rows), 'weights': weights}
        if self.origin is not None and self.kernel.takes_origin:
            known['origin'] = self.origin[rows]
        return self.kernel.likelihood(counts, **known)

    def series(self, n_threads, progress_bar=False):
        """Return the stamps to fit, in chunks, as the solver takes them."""
        n = len(self.rows)
        chunk = max(1, min(self.kernel.chunk, -(-n // n_threads)))
        parts = [slice(start, min(start + chunk, n)) for start in range(0, n, chunk)]

        def objective(part):
            return self.likelihood(self.stamps(part))

        def run(function, parts, watched=False):
            return run_on_threads(function, parts, n_threads, progress_bar and watched)

        return Series(parts, objective, self.constraints.of(self.rows), self.shared, run)


def _of_rows(array, rows):
    """Return the part of a broadcastable array that belongs to ``rows``."""
    return array[rows] if array.ndim == 2 else array
