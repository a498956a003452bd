# Licensed under a 3-clause BSD style license - see LICENSE
"""Images of unit flux on lists of pixels: what a joint fit needs to know of its stars.

A *profile* has ``images(params, x, y, wanted)`` for parameters (k, n_stars,
m), the flux first and not looked at, then x and y and the shape, and pixels
at x, y (m, n), whole numbers.  It returns P and its derivatives by the
parameters ``wanted``, (1 + len(wanted), n_stars, m, n).  Its ``lowest`` is the
lowest value of P, below 0 for negative wings.
"""

import numpy as np

from .integrated import line_integrals
from .spline import monomials

__all__ = ['GaussianProfile', 'IntegratedProfile', 'TableProfile']


class GaussianProfile:
    """An elliptical Gaussian.

    Parameters
    ----------
    shape_of : callable or None
        Takes the parameters of the shape to a, b, c and their derivatives, as
        `widths.shape_of_widths`; None if they are a, b and c.
    """

    lowest = 0.0

    def __init__(self, shape_of=None):
        self._shape_of = shape_of

    def images(self, params, x, y, wanted):
        """Return P and its derivatives, see the module."""
        a, b, c, first = self._shape(params[3:])
        dx, dy = x - params[1][..., np.newaxis], y - params[2][..., np.newaxis]
        half_x, half_y = a * dx + b * dy, b * dx + c * dy
        det = a * c - b * b
        images = np.empty((1 + len(wanted), *dx.shape))
        psf = np.exp(-dx * half_x - dy * half_y, out=images[0])
        psf *= np.sqrt(det) / np.pi
        for image, j in zip(images[1:], wanted):
            if j < 3:
                np.multiply(psf, (None, half_x, half_y)[j], out=image)
                image *= 2.0
                continue
            by_a, by_b, by_c = (first[:, j - 3, ..., np.newaxis] if first is not None
                                else np.eye(3)[j - 3])
            np.multiply(psf, by_a * (0.5 * c / det - dx * dx)
                        - by_b * (b / det + 2.0 * dx * dy)
                        + by_c * (0.5 * a / det - dy * dy), out=image)
        return images

    def _shape(self, params):
        """Return a, b, c (n_stars, m, 1), and their derivatives (3, s, n_stars, m) or None."""
        if self._shape_of is None:
            return *params[..., np.newaxis], None
        size = params.shape[1:]
        shape, first, _ = self._shape_of(params.reshape(len(params), -1))
        return *shape.reshape(3, *size, 1), first.reshape(3, -1, *size)


class IntegratedProfile:
    """A Gaussian integrated over pixels, its axes along x and y.

    Parameters
    ----------
    n_widths : {1, 2}
        Number of widths among the parameters.
    width_per_stddev : float
        What the width is in standard deviations: 2.3548 for a full width at
        half maximum.
    """

    lowest = 0.0

    def __init__(self, n_widths, width_per_stddev):
        self._n_widths, self._scale = n_widths, 1.0 / width_per_stddev

    def images(self, params, x, y, wanted):
        """Return P and its derivatives, see the module."""
        last = 2 + self._n_widths
        with_widths = any(j > 2 for j in wanted)
        along_x, along_y = (
            self._along(places, params[1 + axis], params[width], with_widths)
            for axis, (places, width) in enumerate(((x, 3), (y, last))))
        images = np.empty((1 + len(wanted), *along_x.shape[1:]))
        np.multiply(along_x[0], along_y[0], out=images[0])
        for image, j in zip(images[1:], wanted):
            if j == 1 or (j == 3 and self._n_widths == 2):
                np.multiply(along_x[1 if j == 1 else 2], along_y[0], out=image)
            elif j in (2, 4):
                np.multiply(along_x[0], along_y[1 if j == 2 else 2], out=image)
            elif j == 3:
                np.multiply(along_x[2], along_y[0], out=image)
                image += along_x[0] * along_y[2]
            else:
                image[:] = 0.0
        return images

    def _along(self, places, position, width, with_widths):
        """Return value and derivatives by place and width along an axis, (2 or 3, ..., n)."""
        first = places.min(axis=1, keepdims=True)
        index = (places - first).astype(np.intp)
        edges = np.arange(index.max(initial=0) + 2) - 0.5
        offsets = first + edges - position[..., np.newaxis]
        functions = line_integrals(offsets, self._scale * width[..., np.newaxis], with_widths)
        functions = functions[[0, 1, 3]] if with_widths else functions[:2]
        functions[2:] *= self._scale
        return np.take_along_axis(functions, np.broadcast_to(
            index, (*functions.shape[:-1], index.shape[1])), axis=-1)


class TableProfile:
    """An oversampled image, or several on a grid of positions.

    Parameters
    ----------
    tables : sequence of SplineTable
        Their splines; of one shape.
    grid : NodeGrid, optional
        Where on the detector they hold; pixels are counted there, too.
    """

    def __init__(self, tables, grid=None):
        self._table, self._grid = tables[0], grid
        self.lowest = min(0.0, *(table.data.min() for table in tables))
        self._coefficients = np.array([table.coefficients for table in tables])

    def images(self, params, x, y, wanted):
        """Return P and its derivatives, see the module."""
        images = np.empty((1 + len(wanted), params.shape[1], *x.shape))
        chosen = [0, *(j for j in wanted if j < 3)]
        images[len(chosen):] = 0.0
        for star, (x_0, y_0) in enumerate(zip(params[1], params[2])):
            own = self._star(x_0, y_0, x, y)
            images[:len(chosen), star] = own.transpose(1, 0, 2)[chosen]
        return images

    def _star(self, x_0, y_0, x, y):
        """Return P and its derivatives by x and y, (m, 3, n), of stars at (m,)."""
        u, v = self._table.samples(x - x_0[:, np.newaxis], y - y_0[:, np.newaxis])
        in_x, in_y = self._table.fade(u, 0), self._table.fade(v, 1)
        inside = in_x * in_y
        images = np.zeros((len(x_0), 3, x.shape[1]))
        # Most pixels of a large group are far from a star.
        near = np.flatnonzero((inside > 0).any(axis=0))
        own = self._interpolate(x_0, y_0, x[:, near], y[:, near])
        in_x, in_y, inside = in_x[:, near], in_y[:, near], inside[:, near]
        if inside.min(initial=1.0) < 1.0:
            slope_x, slope_y = (self._table.fade_slopes(places[:, near], axis)[0]
                                for axis, places in enumerate((u, v)))
            psf = own[:, 0].copy()
            own *= inside[:, np.newaxis]
            # By the star's place: among the samples, pixels move against it.
            own[:, 1] -= psf * slope_x * in_y
            own[:, 2] -= psf * slope_y * in_x
        images[:, :, near] = own
        return images

    def _interpolate(self, x_0, y_0, x, y):
        """Return P and its derivatives by x and y, (m, 3, n), as if they did not end."""
        table, (_, height, width) = self._table, self._coefficients.shape
        column, row, t_x, t_y = table.locate(*table.samples(-x_0, -y_0))
        column, row = (np.clip(first[:, np.newaxis] + steps * places.astype(np.intp), 0, size - 4)
                       for first, steps, places, size in ((column, table.steps[0], x, width),
                                                          (row, table.steps[1], y, height)))
        places = (row * width + column)[:, np.newaxis] + (
            width * np.arange(4)[:, np.newaxis] + np.arange(4)).reshape(16, 1)
        weights = (monomials(t_x, t_y) @ table.tap_weights[:, :48]).reshape(-1, 3, 16)
        if self._grid is None:
            return np.matmul(weights, self._coefficients.take(places))
        which, shares = self._grid.mix(x_0, y_0)
        images = 0.0
        for node, (share, by_x, by_y, _) in zip(which.T, shares.transpose(2, 0, 1)):
            mixed = share[:, np.newaxis, np.newaxis] * weights
            mixed[:, 1] += by_x[:, np.newaxis] * weights[:, 0]
            mixed[:, 2] += by_y[:, np.newaxis] * weights[:, 0]
            taps = self._coefficients.take(places + height * width * node[:, np.newaxis,
                                                                          np.newaxis])
            images = images + np.matmul(mixed, taps)
        return images
