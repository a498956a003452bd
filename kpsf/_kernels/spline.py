# Licensed under a 3-clause BSD style license - see LICENSE
"""The cubic B-spline through an oversampled image of a star.

Its coefficients are computed once.  A value takes 4 x 4 of these, "taps",
with weights that depend on the phase alone, the place between four samples,
and the same taps give all derivatives (Unser, M. 1999, IEEE Signal
Processing Magazine, 16, 22).
"""

import numpy as np
from scipy import ndimage
from scipy.interpolate import CubicSpline

__all__ = ['RAMP', 'SplineTable', 'monomials', 'normalize_phases', 'phase_sums']

# Points that are worked on together: their taps stay in the cache.
_BLOCK_POINTS = 4096
# Coefficients of the powers of t in the four weights of the cubic B-spline, those of the samples
# at -1, 0, 1, 2; then of their first and second derivatives.
_WEIGHTS = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6.0
_SLOPES = np.array([[-3, 6, -3, 0], [0, -12, 9, 0], [3, 6, -9, 0], [0, 0, 3, 0]]) / 6.0
_BENDS = np.array([[6, -6, 0, 0], [-12, 18, 0, 0], [6, -18, 0, 0], [0, 6, 0, 0]]) / 6.0
_ORDERS = np.array([_WEIGHTS, _SLOPES, _BENDS])
# Phases, in samples, that only rounding has made different.
_SAME_PHASE = 1e-9
# Samples beyond the first and the last one that the taps of a point among them may need.
_MARGIN = 2
# How far on both sides of the edge of the support, in pixels, the image fades: a pixel that drifts
# out of it leaves no step in the likelihood, and what it loses the one at the other edge gains.
RAMP = 0.125


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


def monomials(t_x, t_y):
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


def _not_a_knot(data):
    """Return the coefficients (n + 2, m) of the splines through columns (n, m), n >= 4.

    At the knots of a uniform cubic B-spline, value minus a sixth of the second
    derivative is the coefficient, and the latter their second difference.
    """
    bends = CubicSpline(np.arange(len(data)), data, bc_type='not-a-knot')(np.arange(len(data)), 2)
    inner = data - bends / 6.0
    first, last = (2.0 * inner[end] - inner[beside] + bends[end]
                   for end, beside in ((0, 1), (-1, -2)))
    return np.concatenate([first[np.newaxis], inner, last[np.newaxis]])


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
    is_cell : bool, optional
        Whether samples are cells: the image is continued by its mirror image,
        and its edge is half a sample beyond the first and the last one, so
        that it is N samples wide. If not, they are points, of which the
        first and the last are the edge, and the spline is that of FITPACK
        ("not a knot"), as photutils has both.

    Notes
    -----
    At its edge the image fades to zero between ``RAMP`` within and ``RAMP``
    beyond, such that two pixels at opposite edges have the weight of one: the
    pixels of any phase of a whole number of pixels keep their sum.
    """

    def __init__(self, data, steps, origin, is_cell=True):
        self.data = np.array(data, dtype=float)
        self.data.flags.writeable = False
        self.steps = tuple(int(step) for step in steps)
        self.origin = tuple(float(value) for value in origin)
        self.is_cell = is_cell
        self._edge = 0.5 if is_cell else 0.0
        self._margin = _MARGIN + int(np.ceil(RAMP * max(self.steps)))
        if is_cell:
            coefficients = ndimage.spline_filter(self.data, order=3, mode='reflect')
            self.coefficients = np.pad(coefficients, self._margin, mode='symmetric')
        else:
            self.coefficients = np.pad(_not_a_knot(_not_a_knot(self.data).T).T, self._margin - 1,
                                       mode='edge')
        self.tap_weights = _stamp_weights(self.steps)

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return SplineTable, (self.data, self.steps, self.origin, self.is_cell)

    @property
    def half_width(self):
        """Return how far the support reaches from the star along x and y, in pixels."""
        return tuple(max(origin, size - 1 - origin) / step + self._edge / step + RAMP
                     for origin, size, step
                     in zip(self.origin, self.data.shape[::-1], self.steps))

    def samples(self, dx, dy):
        """Return where offsets from the star, in pixels, lie among the samples."""
        return (dx * self.steps[0] + self.origin[0], dy * self.steps[1] + self.origin[1])

    def fade(self, places, axis):
        """Return the weight of samples along an axis (0 is x).

        1 in the support, 0 outside, and a cubic step between at its edge.
        """
        inside = np.minimum(*self._inside(places, axis))
        if np.abs(inside).min(initial=np.inf) >= RAMP:
            return (inside > 0).astype(float)
        s = np.clip(0.5 + inside / (2 * RAMP), 0.0, 1.0)
        return s * s * (3 - 2 * s)

    def fade_slopes(self, places, axis):
        """Return the slope and the bend of that weight, per pixel."""
        left, right = (0.5 + distance / (2 * RAMP) for distance in self._inside(places, axis))
        s = np.clip(np.minimum(left, right), 0.0, 1.0)
        bend = np.where((s > 0) & (s < 1), 1.5 * (1 - 2 * s) / RAMP ** 2, 0.0)
        return np.where(left < right, 3.0, -3.0) * s * (1 - s) / RAMP, bend

    def _inside(self, places, axis):
        """Return how far inside of the left and of the right edge samples are, in pixels."""
        steps, size = self.steps[axis], self.data.shape[1 - axis]
        return (places + self._edge) / steps, (size - 1 + self._edge - places) / steps

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
        near = self._is_near(u, 0) & self._is_near(v, 1)
        if near.all():
            result = self._faded(u, v, n_outputs)
        else:
            result = np.zeros((n_outputs, u.size))
            result[:, near] = self._faded(u[near], v[near], n_outputs)
            result[:, np.isnan(u + v)] = np.nan
        return result.reshape(n_outputs, *np.shape(dx))

    def _is_near(self, places, axis):
        """Say which samples are in the support along an axis, or where it fades."""
        steps, size = self.steps[axis], self.data.shape[1 - axis]
        reach = self._edge + RAMP * steps
        return (places > -reach) & (places < size - 1 + reach)

    def _faded(self, u, v, n_outputs):
        """Return P and its derivatives (n_outputs, n) at points (n,) near the support."""
        result = self._at_points(u, v, n_outputs)
        in_x, in_y = self.fade(u, 0), self.fade(v, 1)
        weight = in_x * in_y
        if weight.min(initial=1.0) == 1.0:
            return result
        if n_outputs == 3:
            slopes = self.fade_slopes(u, 0)[0] * in_y, in_x * self.fade_slopes(v, 1)[0]
            result[1:] = result[1:] * weight + result[0] * slopes
        result[0] *= weight
        return result

    def _at_points(self, u, v, n_outputs):
        """Return P and its derivatives (n_outputs, n) at points (n,) in the support."""
        column, row, t_x, t_y = self.locate(u, v)
        if _are_equal(t_x) and _are_equal(t_y):
            # The pixels of one stamp.
            weights = self._weights(t_x[:1], t_y[:1], n_outputs)[0]
            return weights @ self.coefficients.take(self._places(column, row))
        result = np.empty((n_outputs, u.size))
        for start in range(0, u.size, _BLOCK_POINTS):
            part = slice(start, start + _BLOCK_POINTS)
            taps = self.coefficients.take(self._places(column[part], row[part]))
            weights = self._weights(t_x[part], t_y[part], n_outputs)
            np.einsum('nkt,tn->kn', weights, taps, out=result[:, part])
        return result

    def locate(self, u, v):
        """Return the first of the taps (padded column and row) and the phases at places (m,)."""
        column, row = np.floor(u), np.floor(v)
        first = self._margin - 1
        return ((column + first).astype(np.intp), (row + first).astype(np.intp),
                u - column, v - row)

    def _places(self, column, row):
        """Return where the taps (16, n) of points whose first tap is at (n,) are in memory."""
        stride = self.coefficients.shape[1]
        return (stride * np.arange(4)[:, np.newaxis] + np.arange(4)).reshape(16, 1) + (
            stride * row + column)

    def _weights(self, t_x, t_y, n_outputs):
        """Return the weights (n, n_outputs, 16) of taps in P and its gradient by the offset."""
        weights = (monomials(t_x, t_y) @ self.tap_weights[:, :16 * n_outputs]).reshape(
            len(t_x), n_outputs, 16)
        # Those of a stamp are for the place of the star.
        weights[:, 1:] *= -1.0
        return weights
