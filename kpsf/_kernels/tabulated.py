# Licensed under a 3-clause BSD style license - see LICENSE
"""An oversampled image as PRF: cubic B-spline, one sub-pixel phase per stamp.

The image P is interpolated by the cubic B-spline through its samples, whose
coefficients are computed once.  A value then takes 4 x 4 of these, "taps",
with weights that depend on the sub-sample phase alone, and the same taps
give all derivatives.  Where samples divide a pixel evenly, all pixels of a
stamp have one phase: with the coefficients sorted by phase, each tap of a
stamp is one run of memory, and one small matrix product gives P and both
gradients in every pixel.  The exact Hessian costs one more: a sum over
pixels of any derivative of P is the same combination of the sums over
pixels of the taps.  Stars in one cell, between the same four samples, have
the same taps: in a series, in which a star hardly moves, they are gathered
once for many stamps, and the products become larger and faster.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from scipy import ndimage

from .poisson import continued_terms

__all__ = ['SplineTable', 'TabulatedLikelihood', 'normalize_phases', 'phase_sums']

# Stamps that are worked on together: their taps stay in the cache.
_BLOCK = 192
# The same for single points.
_BLOCK_POINTS = 4096
# Stars in a cell, on average, from which sharing their taps pays.
_FEWEST_IN_CELL = 3
# Coefficients of the powers of t in the four weights of the cubic B-spline, those of the samples
# at -1, 0, 1, 2; then of their first and second derivatives.
_WEIGHTS = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6.0
_SLOPES = np.array([[-3, 6, -3, 0], [0, -12, 9, 0], [3, 6, -9, 0], [0, 0, 3, 0]]) / 6.0
_BENDS = np.array([[6, -6, 0, 0], [-12, 18, 0, 0], [6, -18, 0, 0], [0, 6, 0, 0]]) / 6.0
_ORDERS = np.array([_WEIGHTS, _SLOPES, _BENDS])
_OBSERVED = ('newton', 'observed')
# Phases, in samples, that only rounding has made different.
_SAME_PHASE = 1e-9
# Samples beyond the first and the last one that taps may need.
_MARGIN = 2
# Nothing depends on the place of less light than this, in electrons.
_SMALLEST_FLUX = 1e-8
# Mean, relative to the average count, under which a pixel's likelihood is continued.
_FLOOR = 1e-10


def phase_sums(data, steps):
    """Sum the pixels of every sub-pixel phase of an oversampled image.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
    steps : tuple of int
        Samples per pixel along x and y.

    Returns
    -------
    ndarray, shape (steps_y, steps_x)
    """
    (ny, nx), (steps_x, steps_y) = data.shape, steps
    whole = np.pad(data, ((0, -ny % steps_y), (0, -nx % steps_x)))
    return whole.reshape(-1, steps_y, whole.shape[1] // steps_x, steps_x).sum(axis=(0, 2))


def normalize_phases(data, steps):
    """Return the image with the pixels of every phase summing to 1, shape (ny, nx)."""
    (ny, nx), (steps_x, steps_y) = data.shape, steps
    sums = phase_sums(data, steps)
    return data / np.tile(sums, (-(-ny // steps_y), -(-nx // steps_x)))[:ny, :nx]


def _stamp_weights(steps):
    """Return what turns monomials of the phase into weights of taps, (16, 96).

    From t_y^i t_x^j to the 4 x 4 weights in P, in its derivatives by x and y
    of the star, and in those of second order, xx, xy and yy.
    """
    n_x, n_y = steps
    orders = ((0, 0, 1.0), (1, 0, -n_x), (0, 1, -n_y),
              (2, 0, n_x * n_x), (1, 1, n_x * n_y), (0, 2, n_y * n_y))
    return np.concatenate([
        factor * np.einsum('ap,bq->pqab', _ORDERS[in_y], _ORDERS[in_x]).reshape(16, 16)
        for in_x, in_y, factor in orders], axis=1)


def _monomials(t_x, t_y):
    """Return the products t_y^i t_x^j, (m, 16), of fractions (m,)."""
    powers_x, powers_y = _powers(t_x), _powers(t_y)
    return (powers_y[:, :, np.newaxis] * powers_x[:, np.newaxis]).reshape(-1, 16)


def _powers(t):
    """Return 1, t, t^2 and t^3, (m, 4)."""
    powers = np.ones((len(t), 4))
    powers[:, 1] = t
    np.multiply(t, t, out=powers[:, 2])
    np.multiply(powers[:, 2], t, out=powers[:, 3])
    return powers


def _are_equal(values):
    """Say whether only rounding makes phases (n,) different."""
    return values.size > 0 and values.max() - values.min() < _SAME_PHASE


class SplineTable:
    """Cubic B-spline through an oversampled image; immutable, so copies share it.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
        Samples of the PRF: the share of the flux in a pixel whose centre is
        there. Its shape is at least (2, 2).
    steps : tuple of int
        Samples per pixel along x and y.
    origin : tuple of float
        x and y of the star in samples, the first sample at 0.

    Notes
    -----
    The image is continued by its mirror image. The support ends half a
    sample beyond the first and the last one, so that it is N samples wide
    and every phase of a whole number of pixels has the same number of them.
    """

    def __init__(self, data, steps, origin):
        self.data = np.array(data, dtype=float)
        self.data.flags.writeable = False
        self.steps = tuple(int(step) for step in steps)
        self.origin = tuple(float(value) for value in origin)
        coefficients = ndimage.spline_filter(self.data, order=3, mode='reflect')
        self._coefficients = np.pad(coefficients, _MARGIN, mode='symmetric')
        self.tap_weights = _stamp_weights(self.steps)
        self._runs = {}

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return SplineTable, (self.data, self.steps, self.origin)

    @property
    def half_width(self):
        """Return how far the support reaches from the star along x and y, in pixels."""
        return tuple(max(origin + 0.5, size - 0.5 - origin) / step for origin, size, step
                     in zip(self.origin, self.data.shape[::-1], self.steps))

    def samples(self, dx, dy):
        """Return where offsets from the star, in pixels, lie among the samples."""
        return (dx * self.steps[0] + self.origin[0], dy * self.steps[1] + self.origin[1])

    def is_inside(self, u, v):
        """Say which places along x and which along y are in the support."""
        ny, nx = self.data.shape
        return (u >= -0.5) & (u < nx - 0.5), (v >= -0.5) & (v < ny - 0.5)

    def evaluate(self, dx, dy, n_outputs=1):
        """Return P, and with 3 outputs dP/dx and dP/dy, at offsets from the star in pixels.

        Parameters
        ----------
        dx, dy : ndarray of one shape
        n_outputs : {1, 3}

        Returns
        -------
        ndarray, shape (n_outputs, *dx.shape)
            Zero outside the support, NaN where the offset is.
        """
        u, v = (np.ravel(place) for place in self.samples(dx, dy))
        inside = np.logical_and(*self.is_inside(u, v))
        if inside.all():
            result = self._at_points(u, v, n_outputs)
        else:
            result = np.zeros((n_outputs, u.size))
            result[:, inside] = self._at_points(u[inside], v[inside], n_outputs)
            result[:, np.isnan(u + v)] = np.nan
        return result.reshape(n_outputs, *np.shape(dx))

    def _at_points(self, u, v, n_outputs):
        """Return P and its derivatives (n_outputs, n) at points (n,) in the support."""
        column, row, t_x, t_y = _locate(u, v)
        if _are_equal(t_x) and _are_equal(t_y):
            # The pixels of one stamp.
            weights = self._weights(t_x[:1], t_y[:1], n_outputs)[0]
            return weights @ self._coefficients.take(self._places(column, row))
        result = np.empty((n_outputs, u.size))
        for start in range(0, u.size, _BLOCK_POINTS):
            part = slice(start, start + _BLOCK_POINTS)
            taps = self._coefficients.take(self._places(column[part], row[part]))
            weights = self._weights(t_x[part], t_y[part], n_outputs)
            np.einsum('nkt,tn->kn', weights, taps, out=result[:, part])
        return result

    def _places(self, column, row):
        """Return where the taps (16, n) of points whose first tap is at (n,) are in memory."""
        stride = self._coefficients.shape[1]
        return (stride * np.arange(4)[:, np.newaxis] + np.arange(4)).reshape(16, 1) + (
            stride * row + column)

    def _weights(self, t_x, t_y, n_outputs):
        """Return the weights (n, n_outputs, 16) of taps in P and its gradient by the offset."""
        weights = (_monomials(t_x, t_y) @ self.tap_weights[:, :16 * n_outputs]).reshape(
            len(t_x), n_outputs, 16)
        # Those of a stamp are for the place of the star.
        weights[:, 1:] *= -1.0
        return weights

    def runs(self, shape):
        """Return the `_PhaseRuns` for stamps of a shape (ny, nx), sorted once for each shape."""
        if shape not in self._runs:
            self._runs[shape] = _PhaseRuns(self._coefficients, self.steps, shape)
        return self._runs[shape]


def _locate(u, v):
    """Return the first of the taps (padded column and row) and the phases at places (m,)."""
    column, row = np.floor(u), np.floor(v)
    return ((column + (_MARGIN - 1)).astype(np.intp), (row + (_MARGIN - 1)).astype(np.intp),
            u - column, v - row)


class _PhaseRuns:
    """Coefficients sorted by sub-pixel phase, so that a tap of a stamp is one run of memory.

    Each phase is a small image with one coefficient per pixel, ``width``
    wide, and a run holds the rows of a stamp, of which the first columns
    count. Pixels that have no coefficient read their neighbours': finite
    values, for the caller to set to zero.
    """

    def __init__(self, coefficients, steps, shape):
        (rows, columns), (self._steps_x, self._steps_y) = coefficients.shape, steps
        height, width = -(-rows // self._steps_y), max(shape[1], -(-columns // self._steps_x))
        self.width, self._size = width, height * width
        whole = np.pad(coefficients, ((0, -rows % self._steps_y),
                                      (0, width * self._steps_x - columns)))
        images = whole.reshape(height, self._steps_y, width, self._steps_x)
        # Room at both ends for stamps that the star is at the edge of.
        self._margin = (shape[0] + height) * width
        flat = np.pad(images.transpose(1, 3, 0, 2).ravel(), self._margin)
        length = shape[0] * width
        self._runs = as_strided(flat, (flat.size - length + 1, length), flat.strides * 2,
                                writeable=False)

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
    runs : _PhaseRuns
    shape : (ny, nx)
    column, row : ndarray of int, shape (m,)
        First taps of the stamps' first pixels.
    """

    def __init__(self, runs, shape, column, row):
        self._shape = (len(column), shape[0], runs.width)
        self._n_columns = shape[1]
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

    def __init__(self, runs, shape, column, row, begin):
        wide = runs.gather(column[begin], row[begin])
        self._taps = wide.reshape(len(begin), 16, shape[0], runs.width)[..., :shape[1]].reshape(
            len(begin), 16, -1)
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
    shape : (ny, nx)
        Shape of a stamp.
    table : SplineTable
    n_params : int
        4 and the number of parameters that do nothing.
    offset : float or ndarray, shape (n_pixels,) or (n, n_pixels)
        What the mean holds besides the star and the background.
    weights : None or ndarray, shape (n, n_pixels)
        1 for pixels in the likelihood, 0 for the others.
    """

    def __init__(self, counts, shape, table, n_params=4, offset=0.0, weights=None):
        self.counts = counts
        self.weights = weights
        self.n_params = n_params
        self.offset = np.asarray(offset, dtype=float)
        self._shape = shape
        self._table = table
        self._runs = table.runs(shape)
        self._floor = _FLOOR * (np.maximum(counts.mean(axis=1, keepdims=True), 0.0) + 1e-3)
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
        (ny, nx), table = self._shape, self._table
        u, v = table.samples(-x, -y)
        column, row, t_x, t_y = _locate(u, v)
        is_new = np.ones(len(u), dtype=bool)
        is_new[1:] = (np.diff(column) != 0) | (np.diff(row) != 0)
        weights = (_monomials(t_x, t_y) @ table.tap_weights).reshape(-1, 6, 16)
        in_x, in_y = table.is_inside(u[:, np.newaxis] + table.steps[0] * np.arange(nx),
                                     v[:, np.newaxis] + table.steps[1] * np.arange(ny))
        is_whole = in_x.all() and in_y.all()
        return _Stars(column, row, is_new, weights[:, :3].copy(), weights[:, 3:],
                      None if is_whole else in_x.astype(float),
                      None if is_whole else in_y.astype(float))

    def _interpolate(self, stars):
        """Return what the table says about at most ``_BLOCK`` stars.

        Returns
        -------
        images : ndarray, shape (m, 3, n_pixels)
            P and its derivatives by x and y of the star. A buffer,
            overwritten by the next call.
        taps : _OwnTaps or _SharedTaps
        inside : None or ndarray, shape (m, n_pixels)
            1 for pixels in the support, 0 for others; None where all are.
        """
        m = len(stars.column)
        begin = np.flatnonzero(stars.is_new)
        if not stars.is_new[0]:
            begin = np.concatenate([[0], begin])
        where = self._runs, self._shape, stars.column, stars.row
        taps = (_SharedTaps(*where, begin) if m > _FEWEST_IN_CELL * len(begin)
                else _OwnTaps(*where))
        images = self._images[:m]
        taps.interpolate(stars.weights, images)
        if stars.in_x is None:
            return images, taps, None
        inside = np.einsum('mr,mc->mrc', stars.in_y, stars.in_x).reshape(m, -1)
        images *= inside[:, np.newaxis]
        return images, taps, inside

    def _sum_block(self, params, rows, curvature, stars, value, products, totals, bends):
        """Write the sums over pixels of at most ``_BLOCK`` rows into the last four arguments.

        Half the deviance (m,); products (m, 3, 5) of P and its gradient with
        these times the information, the information and the slope; totals of
        the latter two (m, 2); and, where it is needed, that of the slope with
        the second derivatives (m, 3).
        """
        images, taps, inside = self._interpolate(stars)
        mean = images[:, 0] * params[0, :, np.newaxis]
        mean += params[-1][:, np.newaxis]
        mean += self._offset_of(rows)
        half_deviance, slope, weight = continued_terms(self.counts[rows], mean, self._floor[rows])
        if curvature != 'fisher':
            weight *= 1.0 - slope                       # counts / mean^2
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
            if inside is not None:
                slope *= inside
            of_taps = taps.sum_pixels(slope)
            np.matmul(stars.bends, of_taps[:, :, np.newaxis], out=bends[:, :, np.newaxis])


class _Stars(NamedTuple):
    """What the pixels of stamps need to know of the places of their stars.

    Attributes
    ----------
    column, row : ndarray of int, shape (m,)
        First taps of their first pixels.
    is_new : ndarray of bool, shape (m,)
        Whether a star is in another cell than the one before.
    weights, bends : ndarray, shape (m, 3, 16)
        Weights of the taps in P and its gradient, and in its second
        derivatives xx, xy and yy.
    in_x, in_y : ndarray, shape (m, nx), (m, ny), or None
        1 for columns and rows in the support, 0 for others; None where all
        are.
    """

    column: np.ndarray
    row: np.ndarray
    is_new: np.ndarray
    weights: np.ndarray
    bends: np.ndarray
    in_x: np.ndarray
    in_y: np.ndarray

    def of(self, part):
        """Return the stars of one block, a slice."""
        return _Stars(*(None if array is None else array[part] for array in self))


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
