# Licensed under a 3-clause BSD style license - see LICENSE
"""A PRF that changes over the detector: images on a grid of positions, mixed for each star.

Between four nodes of the grid the mix is bilinear in the star's place, and
linear in the taps of the four tables: a star has 64 taps instead of 16, whose
weights are products, and everything else is as for one table.
"""

import numpy as np

from .tabulated import TabulatedLikelihood, _OwnTaps

__all__ = ['GriddedLikelihood', 'NodeGrid']

# The three derivatives of second order, as pairs of those of first order.
_SECOND = ((0, 0), (0, 1), (1, 1))


class NodeGrid:
    """Where a rectangular grid has its nodes, counted row by row.

    Parameters
    ----------
    x, y : ndarray, shape (n_x,), (n_y,)
        Increasing coordinates of columns and rows of nodes.
    """

    def __init__(self, x, y):
        self._x, self._y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)

    def mix(self, x, y):
        """Return how the tables of four nodes make that of a star.

        Outside of the grid it is that of the nearest place inside.

        Parameters
        ----------
        x, y : ndarray, shape (m,)

        Returns
        -------
        nodes : ndarray of int, shape (m, 4)
        shares : ndarray, shape (4, m, 4)
            Shares of the nodes, and their derivatives by x, y, and x and y.
        """
        (left, share_x, slope_x), (low, share_y, slope_y) = (
            _between(places, value) for places, value in ((self._x, x), (self._y, y)))
        right, high = (np.minimum(first + 1, places.size - 1)
                       for first, places in ((left, self._x), (low, self._y)))
        nodes = np.column_stack([low * self._x.size + left, low * self._x.size + right,
                                 high * self._x.size + left, high * self._x.size + right])
        shares = np.array([share_y[:, :, np.newaxis] * share_x[:, np.newaxis],
                           share_y[:, :, np.newaxis] * slope_x[:, np.newaxis],
                           slope_y[:, :, np.newaxis] * share_x[:, np.newaxis],
                           slope_y[:, :, np.newaxis] * slope_x[:, np.newaxis]])
        return nodes, shares.reshape(4, -1, 4)


def _between(places, value):
    """Return the node before (m,), the shares of it and the next (m, 2), and their slopes."""
    if places.size == 1:
        first = np.zeros(len(value), dtype=int)
        return first, np.tile([1.0, 0.0], (len(value), 1)), np.zeros((len(value), 2))
    first = np.clip(np.searchsorted(places, value) - 1, 0, places.size - 2)
    step = places[first + 1] - places[first]
    fraction = (value - places[first]) / step
    inside = (fraction >= 0) & (fraction <= 1)
    fraction = np.clip(fraction, 0.0, 1.0)
    slope = np.where(inside, 1.0 / step, 0.0)
    return (first, np.column_stack([1.0 - fraction, fraction]), np.column_stack([-slope, slope]))


class GriddedLikelihood(TabulatedLikelihood):
    """Poisson likelihood of stamps under a PRF that changes over the detector.

    The parameters and the arguments are those of `TabulatedLikelihood` and

    Parameters
    ----------
    grid : NodeGrid
        Where the tables of ``runs`` hold.
    origin : ndarray, shape (n, 2)
        x and y of the first pixels of the stamps on the detector.
    """

    def __init__(self, counts, runs, grid, origin, n_params=4, offset=0.0, weights=None):
        super().__init__(counts, runs, n_params, offset, weights)
        self._grid, self._origin = grid, origin

    def _order_by_cell(self, params):
        """Return None: stars share no taps."""

    def _taps_of(self, stars):
        """Return the taps of stars, of all their tables."""
        return _OwnTaps(self._runs, stars.column, stars.row, stars.which)

    def _stars_at(self, params, rows):
        """Return what is needed to know of stars: `_Stars`."""
        stars = super()._stars_at(params, rows)
        which, shares = self._grid.mix(*(params[1:3] + self._origin[rows].T))
        value, *slopes, mixed = shares[..., np.newaxis]
        # Bilinear: of second order, shares have a derivative by x and y alone.
        nothing = np.zeros_like(mixed)
        second_of_shares = (nothing, mixed), (mixed, nothing)
        images, bends = stars.weights[:, :, np.newaxis], stars.bends[:, :, np.newaxis]
        weights = value[:, np.newaxis] * images
        seconds = value[:, np.newaxis] * bends
        for i in range(2):
            weights[:, 1 + i] += slopes[i] * images[:, 0]
        for k, (i, j) in enumerate(_SECOND):
            seconds[:, k] += (slopes[i] * images[:, 1 + j] + slopes[j] * images[:, 1 + i]
                              + second_of_shares[i][j] * images[:, 0])
        m = len(which)
        return stars._replace(which=which, weights=weights.reshape(m, 3, -1),
                              bends=seconds.reshape(m, 3, -1))
