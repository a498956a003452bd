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

from .poisson import continued_terms
from .spline import monomials

__all__ = ['PhaseRuns', 'TabulatedLikelihood']

# Stamps that are worked on together: enough to hide the cost of Python in each array operation,
# few enough for most of their arrays to stay in the cache.
_BLOCK = 192
# Stars in a cell, on average, from which sharing their taps pays.
_FEWEST_IN_CELL = 3
_OBSERVED = ('newton', 'observed')
# Nothing depends on the place of less light than this, in electrons.
_SMALLEST_FLUX = 1e-8
# Mean in electrons under which a pixel's likelihood is continued: it tells nothing down there, and
# a PRF with wings below zero, where there is no sky, finds its way.
_FLOOR = 1e-3


class PhaseRuns:
    """Coefficients of a table sorted by phase, so that a tap of a stamp is one run of memory.

    Each phase is a small image with one coefficient per pixel, ``width``
    wide, and a run holds the rows of a stamp, of which the first columns
    count. Pixels that have no coefficient read their neighbours': finite
    values, for the caller to set to zero.

    Parameters
    ----------
    table : SplineTable
    shape : (ny, nx)
        Shape of a stamp.
    """

    def __init__(self, table, shape):
        self.table, self.shape = table, tuple(shape)
        (rows, columns), (self._steps_x, self._steps_y) = table.coefficients.shape, table.steps
        height, width = -(-rows // self._steps_y), max(shape[1], -(-columns // self._steps_x))
        self.width, self._size = width, height * width
        whole = np.pad(table.coefficients, ((0, -rows % self._steps_y),
                                            (0, width * self._steps_x - columns)))
        images = whole.reshape(height, self._steps_y, width, self._steps_x)
        # Room at both ends for stamps that the star is at the edge of.
        self._margin = (shape[0] + height) * width
        flat = np.pad(images.transpose(1, 3, 0, 2).ravel(), self._margin)
        length = shape[0] * width
        self._runs = as_strided(flat, (flat.size - length + 1, length), flat.strides * 2,
                                writeable=False)

    def __reduce__(self):
        # The runs overlap: a copy of them would be a hundred times as large.
        return PhaseRuns, (self.table, self.shape)

    def __deepcopy__(self, memo):
        return self

    def gather(self, column, row):
        """Return the 16 taps (m, 16, ny * width) of stamps whose first pixel is at (m,)."""
        tap = np.arange(4)
        place_y, phase_y = np.divmod(row[:, np.newaxis] + tap, self._steps_y)
        place_x, phase_x = np.divmod(column[:, np.newaxis] + tap, self._steps_x)
        in_y = phase_y * (self._steps_x * self._size) + place_y * self.width + self._margin
        in_x = phase_x * self._size + place_x
        first = (in_y[:, :, np.newaxis] + in_x[:, np.newaxis]).reshape(-1, 16)
        return self._runs[np.clip(first, 0, len(self._runs) - 1)]


class _OwnTaps:
    """Taps of stamps in different cells, each gathered.

    Parameters
    ----------
    runs : PhaseRuns
    column, row : ndarray of int, shape (m,)
        First taps of the stamps' first pixels.
    """

    def __init__(self, runs, column, row):
        n_rows, self._n_columns = runs.shape
        self._shape = (len(column), n_rows, runs.width)
        self._taps = runs.gather(column, row)

    def interpolate(self, weights, out):
        """Write combinations of the taps, weights (m, k, 16), to ``out`` (m, k, n_pixels)."""
        m, n_rows, width = self._shape
        found = np.matmul(weights, self._taps).reshape(m, -1, n_rows, width)
        np.copyto(out.reshape(m, -1, n_rows, self._n_columns), found[..., :self._n_columns])

    def sum_pixels(self, slope):
        """Return the sums over pixels of the taps times ``slope`` (m, n_pixels), (m, 16)."""
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


class TabulatedLikelihood:
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
        self.counts = counts
        self.weights = weights
        self.n_params = n_params
        self.offset = np.asarray(offset, dtype=float)
        self._runs, self._table, self._shape = runs, runs.table, runs.shape
        self._ones = np.ones(counts.shape[1])
        size = min(_BLOCK, len(counts))
        # P and its gradient, and what they are multiplied with.
        self._images = np.empty((size, 3, counts.shape[1]))
        self._factors = np.empty((size, 5, counts.shape[1]))

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
        order = self._order_by_cell(params)
        if order is None:
            return self._evaluate(params, rows, curvature)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return tuple(term[..., back] for term in
                     self._evaluate(params[:, order], rows[order], curvature))

    def _order_by_cell(self, params):
        """Return what sorts the stars by cell, (m,); None where few have one in common."""
        u, v = (np.floor(place) for place in self._table.samples(-params[1], -params[2]))
        order = np.lexsort((u, v))
        u, v = u[order], v[order]
        n_cells = 1 + np.count_nonzero((u[1:] != u[:-1]) | (v[1:] != v[:-1]))
        return order if len(order) > _FEWEST_IN_CELL * n_cells else None

    def _evaluate(self, params, rows, curvature):
        """Do the work of `evaluate` for stars in any order."""
        p, m = params.shape
        value, totals = np.empty(m), np.empty((m, 2))
        products, bends = np.empty((m, 3, 5)), np.zeros((m, 3))
        with np.errstate(all='ignore'):
            stars = self._place(params[1], params[2])
            for start in range(0, m, _BLOCK):
                part = slice(start, min(start + _BLOCK, m))
                self._sum_block(params[:, part], rows[part], curvature, stars.of(part),
                                value[part], products[part], totals[part], bends[part])
            slope, curve = _in_parameters(params[0], products.transpose(1, 2, 0), totals.T,
                                          bends.T if curvature in _OBSERVED else None)
        gradient, information = np.zeros((p, m)), np.zeros((p, p, m))
        gradient[:3], gradient[-1] = slope[:3], slope[3]
        information[:3, :3], information[-1, -1] = curve[:3, :3], curve[3, 3]
        information[:3, -1] = information[-1, :3] = curve[:3, 3]
        return value, gradient, information

    def mean(self, params, rows):
        """Return the PSF and the whole mean of ``rows``, two (m, n_pixels)."""
        psf = np.empty((len(rows), self.counts.shape[1]))
        with np.errstate(all='ignore'):
            stars = self._place(params[1], params[2])
            for start in range(0, len(rows), _BLOCK):
                part = slice(start, min(start + _BLOCK, len(rows)))
                psf[part] = self._interpolate(stars.of(part))[0][:, 0]
            psf *= params[0][:, np.newaxis]
        return psf, psf + params[-1][:, np.newaxis] + self._offset_of(rows)

    def _offset_of(self, rows):
        """Return the part of the offset that belongs to ``rows``."""
        return self.offset[rows] if self.offset.ndim == 2 else self.offset

    def _place(self, x, y):
        """Return what is needed to know of stars at x and y, (m,) each: `_Stars`."""
        table = self._table
        u, v = table.samples(-x, -y)
        column, row, t_x, t_y = table.locate(u, v)
        is_new = np.ones(len(u), dtype=bool)
        is_new[1:] = (np.diff(column) != 0) | (np.diff(row) != 0)
        weights = (monomials(t_x, t_y) @ table.tap_weights).reshape(-1, 6, 16)
        in_x, in_y = (table.fade(places, axis) for axis, places in enumerate(self._samples(u, v)))
        if (in_x == 1.0).all() and (in_y == 1.0).all():
            in_x = in_y = None
        return _Stars(u, v, column, row, is_new, weights[:, :3].copy(), weights[:, 3:], in_x, in_y)

    def _samples(self, u, v):
        """Return where columns (m, nx) and rows (m, ny) are among the samples."""
        (ny, nx), steps = self._shape, self._table.steps
        return (u[:, np.newaxis] + steps[0] * np.arange(nx),
                v[:, np.newaxis] + steps[1] * np.arange(ny))

    def _interpolate(self, stars):
        """Return what the table says about at most ``_BLOCK`` stars.

        Returns
        -------
        images : ndarray, shape (m, 3, n_pixels)
            P and its derivatives by x and y of the star. A buffer,
            overwritten by the next call.
        taps : _OwnTaps or _SharedTaps
        inside : None or ndarray, shape (m, n_pixels)
            1 for pixels in the support, 0 for others, between where they
            fade; None where all are inside.
        fading : None or (ndarray of int, ndarray)
            Stars of which pixels fade, and what that adds to their second
            derivatives, (k, 3, n_pixels).
        """
        m = len(stars.column)
        begin = np.flatnonzero(stars.is_new)
        if not stars.is_new[0]:
            begin = np.concatenate([[0], begin])
        where = self._runs, stars.column, stars.row
        taps = (_SharedTaps(*where, begin) if m > _FEWEST_IN_CELL * len(begin)
                else _OwnTaps(*where))
        images = self._images[:m]
        taps.interpolate(stars.weights, images)
        if stars.in_x is None:
            return images, taps, None, None
        inside = _outer(stars.in_y, stars.in_x)
        near = np.flatnonzero(_any_between(stars.in_x) | _any_between(stars.in_y))
        if not near.size:
            images *= inside[:, np.newaxis]
            return images, taps, inside, None
        slopes, bends = self._fading(images[near], stars.of(near))
        images *= inside[:, np.newaxis]
        images[near, 1:] += slopes
        return images, taps, inside, (near, bends)

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

    def _sum_block(self, params, rows, curvature, stars, value, products, totals, bends):
        """Write the sums over pixels of at most ``_BLOCK`` rows into the last four arguments.

        Half the deviance (m,); products (m, 3, 5) of P and its gradient with
        these times the information, the information and the slope; totals of
        the latter two (m, 2); and, where it is needed, that of the slope with
        the second derivatives (m, 3).
        """
        images, taps, inside, fading = self._interpolate(stars)
        mean = images[:, 0] * params[0, :, np.newaxis]
        mean += params[-1][:, np.newaxis]
        mean += self._offset_of(rows)
        half_deviance, slope, expected, observed = continued_terms(self.counts[rows], mean, _FLOOR)
        weight = expected if curvature == 'fisher' else observed
        if self.weights is not None:
            used = self.weights[rows] > 0
            half_deviance, slope, weight = (np.where(used, term, 0.0)
                                            for term in (half_deviance, slope, weight))
        factors = self._factors[:len(rows)]
        factors[:, 3], factors[:, 4] = weight, slope
        np.multiply(images, weight[:, np.newaxis], out=factors[:, :3])
        np.matmul(half_deviance, self._ones, out=value)
        np.matmul(factors[:, 3:], self._ones, out=totals)
        np.matmul(images, factors.transpose(0, 2, 1), out=products)
        if curvature in _OBSERVED:
            seen = slope if inside is None else slope * inside
            of_taps = taps.sum_pixels(seen)
            np.matmul(stars.bends, of_taps[:, :, np.newaxis], out=bends[:, :, np.newaxis])
            if fading is not None:
                near, of_fading = fading
                bends[near] += np.matmul(of_fading, slope[near][:, :, np.newaxis])[:, :, 0]


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
    weights, bends : ndarray, shape (m, 3, 16)
        Weights of the taps in P and its gradient, and in its second
        derivatives xx, xy and yy.
    in_x, in_y : ndarray, shape (m, nx), (m, ny), or None
        1 for columns and rows in the support, 0 for others, between where
        they fade; None where all are inside.
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


def _in_parameters(flux, products, totals, bends):
    """Return gradient (4, m) and information (4, 4, m) in flux, x, y and background.

    ``products`` (3, 5, m), ``totals`` (2, m) and ``bends`` (3, m) are the sums
    over pixels of `TabulatedLikelihood`; without ``bends`` the information is
    that of first derivatives.
    """
    information = np.empty((4, 4, len(flux)))
    information[:3, :3] = products[:, :3]
    information[:3, 3] = information[3, :3] = products[:, 3]
    information[3, 3] = totals[0]
    information[1:3] *= flux
    information[:, 1:3] *= flux
    gradient = np.concatenate([products[:, 4], totals[1:]])
    if bends is not None:
        information[0, 1:3] += gradient[1:3]
        information[1:3, 0] += gradient[1:3]
        xx, xy, yy = flux * bends
        information[1, 1] += xx
        information[1, 2] += xy
        information[2, 1] += xy
        information[2, 2] += yy
    gradient[1:3] *= flux
    nothing = np.abs(flux) < _SMALLEST_FLUX
    if nothing.any():
        gradient[1:3, nothing] = 0.0
        information[1:3, :, nothing] = information[:, 1:3, nothing] = 0.0
    return gradient, information
