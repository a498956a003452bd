# Licensed under a 3-clause BSD style license - see LICENSE
"""The oversampled image as unknown: what pixels tell about it, and how smooth it should be."""

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

from .._kernels.spline import SplineTable, monomials, normalize_phases

__all__ = ['PRFGrid', 'factorize', 'log_determinant']

# Wings that instruments have at least, as a Moffat profile of the core's width and of this
# share: it is by these that the image may differ where the start has nothing.
WING_SHARE, WING_POWER = 0.3, 2.0
# Length in pixels over which what was learned is continued.
REACH = 1.0
# Zero is reached over this distance from the edge, in pixels.
TAPER = 1.5


class PRFGrid:
    """Corrections to the image of a PRF.

    The unknowns u multiply a scale, the value of the starting image and of typical wings:
    the coefficients of the spline are those of the start plus ``scale * u``, so that
    smoothness is asked of relative corrections.

    Parameters
    ----------
    start : ndarray, shape (n, n)
        Starting image, normalised, the star in its middle.
    steps : int
        Samples per pixel.
    """

    def __init__(self, start, steps):
        self.steps, self.size = steps, len(start)
        self.start = self._table(start)
        self.scale = self._scale(self.start.data)
        self.penalty = self._penalty()
        self.constraints = self._constraints()
        self.log_determinant = self._log_determinant()

    def _table(self, data):
        """Return the spline through an image, every phase of which is normalised."""
        middle = (self.size - 1) / 2
        return SplineTable(normalize_phases(data, (self.steps, self.steps)),
                           (self.steps, self.steps), (middle, middle))

    def table(self, u):
        """Return the spline that unknowns (n n,) stand for."""
        return self._table(self.start.data + self.samples(u))

    def samples(self, u):
        """Return what unknowns add to the image, (n, n)."""
        return _spread(self.scale * u.reshape(self.size, self.size))

    def transposed(self, image):
        """Return the derivative (n n,) by the unknowns of the samples' product with an image."""
        return (self.scale * _spread(image)).ravel()

    def _scale(self, start):
        """Return how large corrections may be, (n, n): zero at the edge."""
        offset = np.abs(np.arange(self.size) - (self.size - 1) / 2) / self.steps
        area = np.count_nonzero(start >= 0.5 * start.max()) / self.steps**2
        # A Moffat profile of the power 2 with the same area above half of its peak.
        width = np.sqrt(area / np.pi) / np.sqrt(np.sqrt(2.0) - 1.0)
        squares = (offset / width)**2
        wings = start.max() * (1.0 + squares[:, np.newaxis] + squares)**-WING_POWER
        inside = np.clip((self.size / self.steps / 2 - offset) / TAPER, 0.0, 1.0)
        fade = inside**2 * (3.0 - 2.0 * inside)
        return np.maximum(start, WING_SHARE * wings) * np.outer(fade, fade)

    def _penalty(self):
        """Return the matrix of the squared bends per area, plus a little of the values."""
        n = self.size
        bend = sparse.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(n - 2, n))
        slope = sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n - 1, n))
        one = sparse.eye_array(n)
        parts = [sparse.kron(one, bend), sparse.kron(bend, one),
                 np.sqrt(2.0) * sparse.kron(slope, slope)]
        bends = sum(part.T @ part for part in parts)
        values = sparse.eye_array(n * n) / (REACH**4 * self.steps**2)
        return (self.steps**2 * bends + values).tocsc()

    def _constraints(self):
        """Return what corrections must not be, (n n, 2 + steps^2): a shift, or flux at a phase."""
        phases = np.arange(self.size) % self.steps
        masks = [np.outer(phases == row, phases == column).astype(float)
                 for row in range(self.steps) for column in range(self.steps)]
        columns = [self.transposed(image)
                   for image in (*np.gradient(self.start.data), *masks)]
        return np.column_stack([column / np.linalg.norm(column) for column in columns])

    def _log_determinant(self):
        """Return the logarithm of the penalty's determinant where the constraints hold."""
        factor = factorize(self.penalty)
        inverse = self.constraints.T @ factor.solve(self.constraints)
        return log_determinant(factor) + np.linalg.slogdet(inverse)[1]

    def rows(self, dx, dy, flux):
        """Return the derivatives of pixels by the unknowns, sparse, shape (n_pixels, n n).

        Parameters
        ----------
        dx, dy : ndarray, shape (n_pixels,)
            Offsets of the pixels from a star.
        flux : float
            Its flux.
        """
        u, v = self.start.samples(dx, dy)
        first_u, first_v = np.floor(u), np.floor(v)
        weights = monomials(u - first_u, v - first_v) @ self.start.tap_weights[:, :16]
        weights = weights * (flux * self.start.fade(u, 0) * self.start.fade(v, 1))[:, np.newaxis]
        taps = np.arange(-1, 3)
        columns = (first_u[:, np.newaxis, np.newaxis] + taps).astype(int)
        rows = (first_v[:, np.newaxis, np.newaxis] + taps[:, np.newaxis]).astype(int)
        columns, rows = (part.reshape(-1, 16) for part in np.broadcast_arrays(columns, rows))
        inside = ((columns >= 0) & (columns < self.size) & (rows >= 0) & (rows < self.size))
        pixels = np.broadcast_to(np.arange(len(dx))[:, np.newaxis], columns.shape)
        place = (rows * self.size + columns)[inside]
        return sparse.csr_array(
            ((weights[inside] * self.scale.ravel()[place]), (pixels[inside], place)),
            shape=(len(dx), self.size**2))


def _spread(coefficients):
    """Return the samples of a spline without its margin: a symmetric matrix."""
    for axis in (0, 1):
        coefficients = ndimage.convolve1d(coefficients, np.array([1.0, 4.0, 1.0]) / 6.0,
                                          axis=axis, mode='constant')
    return coefficients


def factorize(matrix):
    """Return the LU decomposition of a sparse, positive definite matrix."""
    return splu(matrix.tocsc(), permc_spec='MMD_AT_PLUS_A', diag_pivot_thresh=0.0,
                options={'SymmetricMode': True})


def log_determinant(factor):
    """Return the logarithm of the determinant of a matrix that was decomposed."""
    return float(np.log(np.abs(factor.U.diagonal())).sum())
