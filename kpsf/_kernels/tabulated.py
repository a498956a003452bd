# Licensed under a 3-clause BSD style license - see LICENSE
"""An oversampled image as PRF: one sub-pixel phase per stamp.

Where samples divide a pixel evenly, all pixels of a stamp have the same
place between samples, the phase of its star.  With the coefficients of the
spline sorted by phase, each of the 16 taps of a stamp is one run of memory,
and one small matrix product gives the image P and both gradients in every
pixel.  The exact Hessian costs one more: a sum over pixels of any derivative
of P is the same combination of the sums over pixels of the taps.  Stars in
one cell, between the same four samples, have the same taps: in a series, in
which a star hardly moves, they are gathered once for many stamps, and the
products become larger and faster.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .spline import monomials
from .star import StarLikelihood

__all__ = ['PhaseRuns', 'TabulatedLikelihood']

# Stars in a cell, on average, from which sharing their taps pays.
_FEWEST_IN_CELL = 3


class PhaseRuns:
    """Coefficients of a table sorted by phase, so that a tap of a stamp is one run of memory.

    Each phase is a small image with one coefficient per pixel, ``width``
    wide, and a run holds the rows of a stamp, of which the first columns
    count. Pixels that have no coefficient read their neighbours': finite
    values, for the caller to set to zero.

    Parameters
    ----------
    tables : sequence of SplineTable
        One table, or several that differ in their samples alone.
    shape : (ny, nx)
        Shape of a stamp.
    """

    def __init__(self, tables, shape):
        self.tables, self.shape = tuple(tables), tuple(shape)
        self.table = table = self.tables[0]
        (rows, columns), (self._steps_x, self._steps_y) = table.coefficients.shape, table.steps
        height, width = -(-rows // self._steps_y), max(shape[1], -(-columns // self._steps_x))
        self.width, self._size = width, height * width
        whole = np.pad([table.coefficients for table in self.tables],
                       ((0, 0), (0, -rows % self._steps_y), (0, width * self._steps_x - columns)))
        images = whole.reshape(-1, height, self._steps_y, width, self._steps_x)
        # Room at both ends for stamps that the star is at the edge of.
        self._margin = (shape[0] + height) * width
        flat = np.pad(images.transpose(0, 2, 4, 1, 3).ravel(), self._margin)
        length = shape[0] * width
        self._runs = as_strided(flat, (flat.size - length + 1, length), flat.strides * 2,
                                writeable=False)

    def __reduce__(self):
        # The runs overlap: a copy of them would be a hundred times as large.
        return PhaseRuns, (self.tables, self.shape)

    def __deepcopy__(self, memo):
        return self

    def gather(self, column, row, which=None):
        """Return the 16 taps (m, 16, ny * width) of stamps whose first pixel is at (m,).

        With several tables, those of the tables ``which`` (m, k), (m, 16 k, ny * width).
        """
        tap = np.arange(4)
        place_y, phase_y = np.divmod(row[:, np.newaxis] + tap, self._steps_y)
        place_x, phase_x = np.divmod(column[:, np.newaxis] + tap, self._steps_x)
        in_y = phase_y * (self._steps_x * self._size) + place_y * self.width + self._margin
        in_x = phase_x * self._size + place_x
        first = (in_y[:, :, np.newaxis] + in_x[:, np.newaxis]).reshape(-1, 16)
        if which is not None:
            size = self._steps_x * self._steps_y * self._size
            first = (first[:, np.newaxis] + size * which[:, :, np.newaxis]).reshape(len(which), -1)
        return self._runs[np.clip(first, 0, len(self._runs) - 1)]


class _OwnTaps:
    """Taps of stamps in different cells, each gathered.

    Parameters
    ----------
    runs : PhaseRuns
    column, row : ndarray of int, shape (m,)
        First taps of the stamps' first pixels.
    which : ndarray of int, shape (m, n_tables), optional
        Tables to take them from, one after the other.
    """

    def __init__(self, runs, column, row, which=None):
        n_rows, self._n_columns = runs.shape
        self._shape = (len(column), n_rows, runs.width)
        self._taps = runs.gather(column, row, which)

    def interpolate(self, weights, out):
        """Write combinations of the taps, weights (m, k, n_taps), to ``out`` (m, k, n_pixels)."""
        m, n_rows, width = self._shape
        found = np.matmul(weights, self._taps).reshape(m, -1, n_rows, width)
        np.copyto(out.reshape(m, -1, n_rows, self._n_columns), found[..., :self._n_columns])

    def sum_pixels(self, slope):
        """Return the sums over pixels of the taps times ``slope`` (m, n_pixels), (m, n_taps)."""
        m, n_rows, _ = self._shape
        wide = np.zeros(self._shape)
        wide[:, :, :self._n_columns] = slope.reshape(m, n_rows, self._n_columns)
        return np.matmul(self._taps, wide.reshape(m, -1, 1))[:, :, 0]


class _SharedTaps:
    """The same for stamps of which many are in one cell, these one after the other.

    ``begin`` (n_cells,) are the first stamps of the cells.
    """

    def __init__(self, runs, column, row, begin):
        n_rows, n_columns = runs.shape
        wide = runs.gather(column[begin], row[begin]).reshape(-1, 16, n_rows, runs.width)
        self._taps = wide[..., :n_columns].reshape(len(begin), 16, -1)
        edges = [*begin.tolist(), len(column)]
        self._cells = [slice(*pair) for pair in zip(edges[:-1], edges[1:])]

    def interpolate(self, weights, out):
        """Write combinations of the taps, weights (m, k, 16), to ``out`` (m, k, n_pixels)."""
        k = weights.shape[1]
        for cell, taps in zip(self._cells, self._taps):
            np.matmul(weights[cell].reshape(-1, 16), taps,
                      out=out[cell].reshape(k * (cell.stop - cell.start), -1))

    def sum_pixels(self, slope):
        """Return the sums over pixels of the taps times ``slope`` (m, n_pixels), (m, 16)."""
        sums = np.empty((len(slope), 16))
        for cell, taps in zip(self._cells, self._taps):
            np.matmul(slope[cell], taps.T, out=sums[cell])
        return sums


class TabulatedLikelihood(StarLikelihood):
    """Poisson likelihood of stamps under a tabulated PRF.

    The first parameters are flux, x and y, the last is the background;
    others in between do nothing.

    Parameters
    ----------
    counts : ndarray, shape (n, n_pixels)
        Counts in C order, any shift for read noise added, 0 where masked.
    runs : PhaseRuns
        The table, sorted for stamps of this shape.
    n_params : int
        4 and the number of parameters that do nothing.
    offset : float or ndarray, shape (n_pixels,) or (n, n_pixels)
        What the mean holds besides the star and the background.
    weights : None or ndarray, shape (n, n_pixels)
        1 for pixels in the likelihood, 0 for the others.
    """

    def __init__(self, counts, runs, n_params=4, offset=0.0, weights=None):
        super().__init__(counts, 3, n_params, offset, weights)
        self._runs, self._table, self._shape = runs, runs.table, runs.shape

    def is_valid(self, params):
        """Say for which columns of ``params`` the star's support touches the stamp."""
        valid = np.isfinite(params).all(axis=0)
        for place, size, reach in zip(params[1:3], self._shape[::-1], self._table.half_width):
            valid &= (place > -reach) & (place < size - 1 + reach)
        return valid

    def evaluate(self, params, rows, curvature='newton'):
        """Sum half the deviance and its derivatives over the pixels.

        As `GaussianLikelihood.evaluate`.
        """
        order, evaluate = self._order_by_cell(params), super().evaluate
        if order is None:
            return evaluate(params, rows, curvature)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return tuple(term[..., back]
                     for term in evaluate(params[:, order], rows[order], curvature))

    def mean(self, params, rows):
        """Return the PSF and the whole mean of ``rows``, two (m, n_pixels)."""
        order, mean = self._order_by_cell(params), super().mean
        if order is None:
            return mean(params, rows)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return tuple(images[back] for images in mean(params[:, order], rows[order]))

    def _order_by_cell(self, params):
        """Return what sorts the stars by cell, (m,); None where few have one in common."""
        u, v = (np.floor(place) for place in self._table.samples(-params[1], -params[2]))
        order = np.lexsort((u, v))
        u, v = u[order], v[order]
        n_cells = 1 + np.count_nonzero((u[1:] != u[:-1]) | (v[1:] != v[:-1]))
        return order if len(order) > _FEWEST_IN_CELL * n_cells else None

    def _stars_at(self, params, rows):
        """Return what is needed to know of stars: `_Stars`."""
        table = self._table
        u, v = table.samples(-params[1], -params[2])
        column, row, t_x, t_y = table.locate(u, v)
        is_new = np.ones(len(u), dtype=bool)
        is_new[1:] = (np.diff(column) != 0) | (np.diff(row) != 0)
        weights = (monomials(t_x, t_y) @ table.tap_weights).reshape(-1, 6, 16)
        in_x, in_y = (table.fade(places, axis) for axis, places in enumerate(self._samples(u, v)))
        if (in_x == 1.0).all() and (in_y == 1.0).all():
            in_x = in_y = None
        return _Stars(u, v, column, row, is_new, weights[:, :3].copy(), weights[:, 3:], in_x, in_y,
                      None)

    def _samples(self, u, v):
        """Return where columns (m, nx) and rows (m, ny) are among the samples."""
        (ny, nx), steps = self._shape, self._table.steps
        return (u[:, np.newaxis] + steps[0] * np.arange(nx),
                v[:, np.newaxis] + steps[1] * np.arange(ny))

    def _images(self, stars):
        """Return what the table says about at most one block of stars.

        Returns
        -------
        images : ndarray, shape (m, 3, n_pixels)
            P and its derivatives by x and y of the star. A buffer,
            overwritten by the next call.
        interpolated : _Interpolated
            What second derivatives need.
        """
        taps = self._taps_of(stars)
        images = self._buffer[:len(stars.column)]
        taps.interpolate(stars.weights, images)
        if stars.in_x is None:
            return images, _Interpolated(stars, taps, None, None)
        inside = _outer(stars.in_y, stars.in_x)
        near = np.flatnonzero(_any_between(stars.in_x) | _any_between(stars.in_y))
        if not near.size:
            images *= inside[:, np.newaxis]
            return images, _Interpolated(stars, taps, inside, None)
        slopes, bends = self._fading(images[near], stars.of(near))
        images *= inside[:, np.newaxis]
        images[near, 1:] += slopes
        return images, _Interpolated(stars, taps, inside, (near, bends))

    def _psf(self, stars):
        """Return P, (m, n_pixels)."""
        psf = self._buffer[:len(stars.column), :1]
        self._taps_of(stars).interpolate(stars.weights[:, :1], psf)
        if stars.in_x is not None:
            psf[:, 0] *= _outer(stars.in_y, stars.in_x)
        return psf[:, 0]

    def _bends(self, slope, interpolated):
        """Return the sums of the slope (m, n_pixels) times xx, xy and yy of P, (m, 3)."""
        stars, taps, inside, fading = interpolated
        of_taps = taps.sum_pixels(slope if inside is None else slope * inside)
        bends = np.matmul(stars.bends, of_taps[:, :, np.newaxis])[:, :, 0]
        if fading is not None:
            near, of_fading = fading
            bends[near] += np.matmul(of_fading, slope[near][:, :, np.newaxis])[:, :, 0]
        return bends

    def _taps_of(self, stars):
        """Return the taps of stars, shared if many are in one cell."""
        begin = np.flatnonzero(stars.is_new)
        if not stars.is_new[0]:
            begin = np.concatenate([[0], begin])
        where = self._runs, stars.column, stars.row
        is_shared = len(stars.column) > _FEWEST_IN_CELL * len(begin)
        return _SharedTaps(*where, begin) if is_shared else _OwnTaps(*where)

    def _fading(self, images, stars):
        """Return what the fading at the edge adds to the derivatives of P times its weight.

        From P and its gradient (m, 3, n_pixels) to the gradient
        (m, 2, n_pixels) and the second derivatives xx, xy, yy (m, 3, n_pixels).
        """
        (slope_x, bend_x), (slope_y, bend_y) = (
            self._table.fade_slopes(places, axis)
            for axis, places in enumerate(self._samples(stars.u, stars.v)))
        # By the star's place: among the samples, pixels move against it.
        by_x, by_y = _outer(stars.in_y, -slope_x), _outer(-slope_y, stars.in_x)
        value, x, y = images.transpose(1, 0, 2)
        slopes = np.stack([value * by_x, value * by_y], axis=1)
        bends = np.stack([2 * x * by_x + value * _outer(stars.in_y, bend_x),
                          x * by_y + y * by_x + value * _outer(slope_y, slope_x),
                          2 * y * by_y + value * _outer(bend_y, stars.in_x)], axis=1)
        return slopes, bends


class _Interpolated(NamedTuple):
    """What is known of the stars of a block once they are interpolated.

    Attributes
    ----------
    stars : _Stars
    taps : _OwnTaps or _SharedTaps
    inside : None or ndarray, shape (m, n_pixels)
        1 for pixels in the support, 0 for others, between where they
        fade; None where all are inside.
    fading : None or (ndarray of int, ndarray)
        Stars of which pixels fade, and what that adds to their second
        derivatives, (k, 3, n_pixels).
    """

    stars: '_Stars'
    taps: object
    inside: np.ndarray
    fading: tuple


class _Stars(NamedTuple):
    """What the pixels of stamps need to know of the places of their stars.

    Attributes
    ----------
    u, v : ndarray, shape (m,)
        Where their first pixels are among the samples.
    column, row : ndarray of int, shape (m,)
        First taps of these.
    is_new : ndarray of bool, shape (m,)
        Whether a star is in another cell than the one before.
    weights, bends : ndarray, shape (m, 3, n_taps)
        Weights of the taps in P and its gradient, and in its second
        derivatives xx, xy and yy.
    in_x, in_y : ndarray, shape (m, nx), (m, ny), or None
        1 for columns and rows in the support, 0 for others, between where
        they fade; None where all are inside.
    which : ndarray of int, shape (m, n_tables), or None
        The tables that the star's is mixed from, where there are several.
    """

    u: np.ndarray
    v: np.ndarray
    column: np.ndarray
    row: np.ndarray
    is_new: np.ndarray
    weights: np.ndarray
    bends: np.ndarray
    in_x: np.ndarray
    in_y: np.ndarray
    which: np.ndarray

    def of(self, part):
        """Return some of the stars, a slice or indices."""
        return _Stars(*(None if array is None else array[part] for array in self))


def _any_between(weights):
    """Say in which rows (m,) some of the weights (m, n) are neither 0 nor 1."""
    return ((weights > 0.0) & (weights < 1.0)).any(axis=1)


def _outer(rows, columns):
    """Return the products of rows (m, ny) and columns (m, nx), (m, n_pixels)."""
    m, n_pixels = len(rows), rows.shape[1] * columns.shape[1]
    return np.einsum('mr,mc->mrc', rows, columns).reshape(m, n_pixels)
