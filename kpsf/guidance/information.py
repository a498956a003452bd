# Licensed under a 3-clause BSD style license - see LICENSE
"""What the pixels of a box tell about a star: expected information and Cramer-Rao errors."""

from dataclasses import dataclass

import numpy as np

from ..models.unit import UnitPSF
from ..normalization import as_psf_model

__all__ = ['MOST_PIXELS', 'BoxInformation', 'Surroundings', 'Star', 'box_information',
           'default_largest']

# The largest box that is looked at, in units of the FWHM, and in pixels.
LARGEST = 10.0
MOST_PIXELS = 301

# Sub-pixel positions along each axis over which errors are averaged.
N_PHASES = 4
# Step of the numerical derivatives, in units of the FWHM.
_STEP = 1e-3
# Above this FWHM in pixels the place in a pixel does not matter.
_SMOOTH = 8.0


class Star:
    """A star of total flux 1 under a PSF of any normalisation.

    Parameters
    ----------
    psf : array_like or `~astropy.modeling.Model`
    oversampling : int or (int, int), optional
        Of an image.
    place : (float, float), optional
        On the detector, for models that change over it.

    Attributes
    ----------
    model : `~astropy.modeling.Model`
    integral : float
        Total flux over the scale of the model.
    unit : UnitPSF
    """

    def __init__(self, psf, oversampling=None, place=None):
        self.model, self.integral = as_psf_model(psf, oversampling)
        self.unit = UnitPSF(self.model, place)

    @property
    def fwhm(self):
        """Return the full width at half maximum in pixels."""
        return self.unit.fwhm

    def image(self, x, y, x_0=0.0, y_0=0.0):
        """Return the share of the flux in pixels at x, y of a star at x_0, y_0; all broadcast."""
        with np.errstate(all='ignore'):
            return np.nan_to_num(self.unit(x, y, x_0, y_0) / self.integral)

    def slopes(self, x, y, x_0=0.0, y_0=0.0):
        """Return the derivatives of `image` by x_0 and y_0."""
        step = _STEP * self.fwhm
        return tuple((self.image(x, y, x_0 + dx, y_0 + dy) - self.image(x, y, x_0 - dx, y_0 - dy))
                     / (2.0 * step) for dx, dy in ((step, 0.0), (0.0, step)))

    @property
    def shape(self):
        """Return the parameters besides scale and position by name."""
        return {name: float(np.ravel(getattr(self.model, name).value)[0])
                for name in self.unit.shape_names}

    def with_shape(self, shape):
        """Return a star with other values of some parameters of its shape, by name."""
        model = self.model.copy()
        for name, value in shape.items():
            setattr(model, name, value)
        return Star(model, place=self.unit.place)

    def origin_of(self, side):
        """Return x and y on the detector of the first pixel of a box around the place, (2,)."""
        return np.asarray(self.unit.place) - side // 2

    def phases(self):
        """Return sub-pixel positions x, y that stand for all, (n, 1, 1) each."""
        n = N_PHASES if self.fwhm < _SMOOTH else 2
        phase = (np.arange(n) + 0.5) / n - 0.5
        return tuple(grid.reshape(-1, 1, 1) for grid in np.meshgrid(phase, phase))


@dataclass(frozen=True)
class Surroundings:
    """Which pixels around a star there are.

    Attributes
    ----------
    used : ndarray of bool, shape (ny, nx)
        Pixels of the image that count.
    x, y : float
        Of the star.
    """

    used: np.ndarray
    x: float
    y: float

    @property
    def middle(self):
        """Return x and y of the pixel that the star is in."""
        return tuple(int(np.ceil(place - 0.5)) for place in (self.x, self.y))

    @property
    def offset(self):
        """Return x and y of the star in that pixel, (1,) each."""
        return tuple(np.array([place - middle])
                     for place, middle in zip((self.x, self.y), self.middle))

    def box(self, shape):
        """Return which pixels of a box around that pixel count, (height, width)."""
        x, y = self.middle
        lines, columns = (first + np.arange(size) - size // 2
                          for first, size in zip((y, x), shape))
        inside = ((lines >= 0) & (lines < self.used.shape[0]))[:, np.newaxis] & (
            (columns >= 0) & (columns < self.used.shape[1]))
        ny, nx = self.used.shape
        return inside & self.used[np.ix_(np.clip(lines, 0, ny - 1), np.clip(columns, 0, nx - 1))]


@dataclass(frozen=True)
class BoxInformation:
    """Expected information about flux, x, y and background in boxes around a star.

    Attributes
    ----------
    sides : ndarray of int, shape (n,)
        Odd sides of the boxes in pixels.
    information : ndarray, shape (n_phases, n, 4, 4)
        For each place in the middle pixel.
    inside : ndarray, shape (n,)
        Mean share of the flux in the box.
    """

    sides: np.ndarray
    information: np.ndarray
    inside: np.ndarray

    def covariance(self, *, background_known=False, position_known=False, prior=None):
        """Return the Cramer-Rao covariance of the free parameters, (n_phases, n, k, k).

        Flux is the first; then x and y unless they are known, and the
        background unless it is. A prior is a standard deviation of x and y.
        """
        information, free = self.information.copy(), self._free(background_known, position_known)
        if prior is not None:
            information[..., [1, 2], [1, 2]] += np.asarray(prior, dtype=float)**-2.0
        part = information[..., free, :][..., free]
        scale = np.sqrt(np.diagonal(part, axis1=-2, axis2=-1))
        scale = np.where(scale > 0, scale, 1.0)
        scaled = part / scale[..., :, np.newaxis] / scale[..., np.newaxis, :]
        # What a box does not determine has an error beyond measure.
        lost = np.linalg.cond(scaled) > 1e12
        scaled[lost] = np.eye(len(free))
        inverse = np.linalg.inv(scaled)
        inverse[lost] = np.inf
        return inverse / scale[..., :, np.newaxis] / scale[..., np.newaxis, :]

    def flux_errors(self, **known):
        """Return the standard error of the flux in each box, (n,), as `covariance`."""
        return np.sqrt(self.covariance(**known)[..., 0, 0].mean(axis=0))

    @staticmethod
    def _free(background_known, position_known):
        """Return the indices of the free parameters."""
        return [0, *([] if position_known else [1, 2]), *([] if background_known else [3])]


def default_largest(fwhm):
    """Return the side of the largest box that is looked at, in pixels."""
    return min(max(LARGEST * fwhm, 5.0), MOST_PIXELS)


def box_information(star, flux, background, read_variance, largest, neighbours=(), shape=None,
                    around=None):
    """Return the `BoxInformation` of all odd boxes from 3 pixels up to the largest.

    Parameters
    ----------
    star : Star
    flux, background, read_variance : float
        Electrons, electrons per pixel, electrons squared per pixel.
    largest : int
        Side of the largest box, odd.
    neighbours : sequence of (dx, dy, flux)
        Stars beside it that the fit does not know of: their light is noise.
    shape : (ny, nx), optional
        What the boxes are cut to, odd, where that is no square.
    around : Surroundings, optional
        The place of the star, and which pixels there are. By default all, and
        the mean over places in a pixel.

    Returns
    -------
    BoxInformation
    """
    half = largest // 2
    x, y = (grid[np.newaxis] for grid in np.meshgrid(*[np.arange(-half, half + 1.0)] * 2))
    x_0, y_0 = star.phases() if around is None else (
        place.reshape(-1, 1, 1) for place in around.offset)
    image = star.image(x, y, x_0, y_0)
    by_x, by_y = (flux * slope for slope in star.slopes(x, y, x_0, y_0))
    others = sum((strength * star.image(x, y, x_0 + dx, y_0 + dy)
                  for dx, dy, strength in neighbours), np.zeros_like(image))
    variance = np.maximum(flux * image, 0.0) + np.maximum(others, 0.0) + background + read_variance
    # Where nothing is expected, one photon in a million cells keeps the division finite.
    variance = np.maximum(variance, 1e-6 * max(flux, 1e-6))
    derivatives = [image, by_x, by_y, np.ones_like(image)]
    if shape is not None:
        inside = (np.abs(x) <= shape[1] // 2) & (np.abs(y) <= shape[0] // 2)
        derivatives = [values * inside for values in derivatives]
    if around is not None:
        derivatives = [values * around.box((largest, largest)) for values in derivatives]
    rings = np.maximum(np.abs(x), np.abs(y)).astype(int)[0].ravel()

    def nested(values):
        """Sum values (n_phases, ny, nx) over all boxes, (n_phases, half)."""
        sums = [np.bincount(rings, row, half + 1) for row in values.reshape(len(values), -1)]
        return np.cumsum(sums, axis=1)[:, 1:]

    information = np.empty((len(image), half, 4, 4))
    for i, first in enumerate(derivatives):
        weighted = first / variance
        for j in range(i + 1):
            information[..., i, j] = information[..., j, i] = nested(weighted * derivatives[j])
    return BoxInformation(np.arange(3, largest + 1, 2), information,
                          nested(derivatives[0]).mean(axis=0))
