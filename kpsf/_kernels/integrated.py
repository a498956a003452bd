# Licensed under a 3-clause BSD style license - see LICENSE
"""Gaussians integrated over pixels, their axes along x and y.

The image is a product of a function of the column and one of the row, so
that a stamp of n by n pixels takes 2 (n + 1) error functions, and a sum over
pixels of any derivative is two small matrix products.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from .star import StarLikelihood

__all__ = ['IntegratedLikelihood', 'line_integrals']

_DENSITY = 1.0 / np.sqrt(2.0 * np.pi)
# Functions of one axis, by the order of their derivatives in place and width.
_VALUE, _X, _XX, _W, _XW, _WW = range(6)
# For each pair of derivatives of the image, what is summed: functions of the row and the column.
_BENDS_OF_PLACE = (((_VALUE, _XX),), ((_X, _X),), ((_XX, _VALUE),))
_BENDS_OF_ONE_WIDTH = (
    _BENDS_OF_PLACE[0], _BENDS_OF_PLACE[1], ((_VALUE, _XW), (_W, _X)), _BENDS_OF_PLACE[2],
    ((_X, _W), (_XW, _VALUE)), ((_VALUE, _WW), (_W, _W), (_W, _W), (_WW, _VALUE)))
_BENDS_OF_TWO_WIDTHS = (
    _BENDS_OF_PLACE[0], _BENDS_OF_PLACE[1], ((_VALUE, _XW),), ((_W, _X),),
    _BENDS_OF_PLACE[2], ((_X, _W),), ((_XW, _VALUE),),
    ((_VALUE, _WW),), ((_W, _W),), ((_WW, _VALUE),))
# The images themselves.
_IMAGES_OF_PLACE = (((_VALUE, _VALUE),), ((_VALUE, _X),), ((_X, _VALUE),))
_IMAGES_OF_ONE_WIDTH = (*_IMAGES_OF_PLACE, ((_VALUE, _W), (_W, _VALUE)))
_IMAGES_OF_TWO_WIDTHS = (*_IMAGES_OF_PLACE, ((_VALUE, _W),), ((_W, _VALUE),))


def line_integrals(offsets, stddev, with_widths):
    """Integrate unit Gaussians over pixels of a line.

    Parameters
    ----------
    offsets : ndarray, shape (m, n + 1)
        Where the edges of n pixels are from the star, in pixels.
    stddev : ndarray, shape (m, 1)
        Standard deviations in pixels.
    with_widths : bool
        Whether derivatives by the standard deviation are wanted.

    Returns
    -------
    ndarray, shape (3 or 6, m, n)
        The integral and its derivatives by the place of the star x and the
        standard deviation w: none, x, xx, and w, xw, ww.
    """
    edges = offsets / stddev
    density = _DENSITY * np.exp(-0.5 * edges * edges)
    # Differences of the smaller tail keep their digits on both sides of the star.
    side = np.where(edges < 0, -1.0, 1.0)
    tail = side * ndtr(-np.abs(edges))
    slope = density / stddev
    bend = edges * slope / stddev
    integrals = [0.5 * np.diff(side) - np.diff(tail), -np.diff(slope), -np.diff(bend)]
    if with_widths:
        square = edges * edges
        integrals += [-np.diff(edges * slope), np.diff(slope / stddev * (1.0 - square)),
                      np.diff(bend * (2.0 - square))]
    return np.array(integrals)


class IntegratedLikelihood(StarLikelihood):
    """Poisson likelihood of stamps under a Gaussian that is integrated over pixels.

    The parameters are flux, x, y, the widths along x and y or one for both,
    parameters that do nothing, and the background.

    Parameters
    ----------
    counts : ndarray, shape (n, n_pixels)
        Counts in C order, any shift for read noise added, 0 where masked.
    shape : (ny, nx)
        Shape of a stamp.
    n_widths : {1, 2}
        Number of widths among the parameters.
    width_per_stddev : float
        What the width is in standard deviations: 2.3548 for a full width at
        half maximum.
    free_widths : bool
        Whether widths move; if not, nothing depends on them.
    n_params : int
        Number of all parameters.
    offset : float or ndarray, shape (n_pixels,) or (n, n_pixels)
        What the mean holds besides the star and the background.
    weights : None or ndarray, shape (n, n_pixels)
        1 for pixels in the likelihood, 0 for the others.
    """

    def __init__(self, counts, shape, n_widths, width_per_stddev, free_widths, n_params,
                 offset=0.0, weights=None):
        self._shape, self._n_widths = shape, n_widths
        self._scale, self._free_widths = 1.0 / width_per_stddev, free_widths
        self._terms, bends = {
            (False, 1): (_IMAGES_OF_PLACE, _BENDS_OF_PLACE),
            (False, 2): (_IMAGES_OF_PLACE, _BENDS_OF_PLACE),
            (True, 1): (_IMAGES_OF_ONE_WIDTH, _BENDS_OF_ONE_WIDTH),
            (True, 2): (_IMAGES_OF_TWO_WIDTHS, _BENDS_OF_TWO_WIDTHS)}[free_widths, n_widths]
        super().__init__(counts, len(self._terms), n_params, offset, weights)
        n_functions = 6 if free_widths else 3
        self._bend_sums = np.zeros((n_functions**2, len(bends)))
        for column, pairs in enumerate(bends):
            for row, along in pairs:
                self._bend_sums[row * n_functions + along, column] += 1.0

    def is_valid(self, params):
        """Say which columns of ``params`` have a width, and a star not too far from the stamp."""
        valid = np.isfinite(params).all(axis=0)
        for place, size in zip(params[1:3], self._shape[::-1]):
            middle = 0.5 * (size - 1)
            valid &= np.abs(place - middle) <= 3 * middle + 3
        return valid & (params[3:3 + self._n_widths] > 0).all(axis=0)

    def _stars_at(self, params, rows):
        """Return the functions of the columns and rows of the pixels."""
        widths = self._scale * params[3:3 + self._n_widths]
        along_x, along_y = (
            line_integrals(np.arange(size + 1) - 0.5 - place[:, np.newaxis], width[:, np.newaxis],
                           self._free_widths)
            for size, place, width in zip(self._shape[::-1], params[1:3], (widths[0], widths[-1])))
        # By the widths that the parameters are, not by the standard deviation; ww twice.
        for functions in (along_x, along_y):
            functions[3:] *= self._scale
            functions[5:] *= self._scale
        return _Lines(along_x, along_y)

    def _images(self, stars):
        """Return P and its derivatives (m, k, n_pixels), and the stars."""
        along_x, along_y = stars
        (m, nx), ny = along_x.shape[1:], along_y.shape[2]
        images = self._buffer[:m]
        outer = partial(np.einsum, 'mr,mc->mrc')
        for j, pairs in enumerate(self._terms):
            image = images[:, j].reshape(m, ny, nx)
            outer(along_y[pairs[0][0]], along_x[pairs[0][1]], out=image)
            for row, column in pairs[1:]:
                image += outer(along_y[row], along_x[column])
        return images, stars

    def _psf(self, stars):
        """Return P, (m, n_pixels)."""
        along_x, along_y = stars
        return np.einsum('mr,mc->mrc', along_y[_VALUE], along_x[_VALUE]).reshape(
            along_x.shape[1], -1)

    def _bends(self, slope, stars):
        """Return the sums of the slope times the second derivatives, (m, k (k - 1) / 2)."""
        along_x, along_y = stars
        m = len(slope)
        sums = np.matmul(np.matmul(along_y.transpose(1, 0, 2), slope.reshape(m, *self._shape)),
                         along_x.transpose(1, 2, 0))
        return sums.reshape(m, -1) @ self._bend_sums


class _Lines(NamedTuple):
    """Functions of columns and rows, (3 or 6, m, nx) and (3 or 6, m, ny)."""

    along_x: np.ndarray
    along_y: np.ndarray

    def of(self, part):
        """Return those of some stars."""
        return _Lines(self.along_x[:, part], self.along_y[:, part])
