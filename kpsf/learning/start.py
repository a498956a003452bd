# Licensed under a 3-clause BSD style license - see LICENSE
"""What is known of the PRF before: a Gaussian of the stars' width, or a model."""

import numpy as np

from ..models import EllipticalGaussianPRF, position_names, total_flux_name
from ..stamps import fit_stamps

__all__ = ['gaussian_start', 'sample_start']

# Half of the box, in pixels, in which the width of a star is measured.
HALF_BOX = 3.5
TYPICAL_STDDEV = {'Kepler': 0.6, 'K2': 0.6, 'TESS': 0.75}
LEAST_STDDEV, LARGEST_STDDEV = 0.2, 3.0


def gaussian_start(stamps, stars, mission):
    """Return the Gaussian, integrated over pixels, that is typical of the stars.

    It has the mean of the covariances of all stars, each with the weight of the square
    root of its flux.
    """
    stddev = TYPICAL_STDDEV[mission]
    typical = EllipticalGaussianPRF.from_stddev(1.0, 0.0, 0.0, stddev, stddev, 0.0)
    found = [fit for stamp, fits in zip(stamps, stars)
             for place in fits.expected[fits.is_fitted]
             for fit in _covariance_of(stamp, place, typical)]
    if not found:
        return typical
    covariances, fluxes = (np.array(part) for part in zip(*found))
    middle = np.median(covariances, axis=0)
    # A blend or a crowded stamp is not the PSF.
    near = np.abs(covariances - middle).max(axis=(1, 2)) <= 0.5 * np.trace(middle) / 2
    weights = np.sqrt(fluxes) * near
    mean = np.tensordot(weights / weights.sum(), covariances, axes=1) if near.any() else middle
    shape = 0.5 * np.linalg.inv(mean)
    return EllipticalGaussianPRF(1.0, 0.0, 0.0, shape[0, 0], shape[0, 1], shape[1, 1])


def _covariance_of(stamp, place, typical):
    """Return a list of covariance and flux of one star in an image, empty if it has none."""
    box = (np.abs(stamp.x - place[0]) <= HALF_BOX) & (np.abs(stamp.y - place[1]) <= HALF_BOX)
    corner = np.floor(np.subtract(place, HALF_BOX)).astype(int)
    side = int(2 * HALF_BOX) + 2
    image = np.full((side, side), np.nan)
    # The mean of all images is wider where the star moves.
    best = int(np.argmax(stamp.n_cadences.sum(axis=1)))
    place = place + stamp.motion[best]
    values = np.where(stamp.n_cadences[best] > 0, stamp.values[best] + stamp.known[best], np.nan)
    image[(stamp.y[box] - corner[1]).astype(int),
          (stamp.x[box] - corner[0]).astype(int)] = values[box]
    if np.count_nonzero(np.isfinite(image)) < 9:
        return []
    model = typical.copy()
    fits = fit_stamps(image[np.newaxis], model, read_variance=stamp.read_variance,
                      init={'x_0': place[0] - corner[0], 'y_0': place[1] - corner[1]})
    flux, x, y, a, b, c = fits.params[0, :6]
    if fits.flags[0] or np.hypot(*(np.array([x, y]) + corner - place)) > 1.0:
        return []
    covariance = 0.5 * np.linalg.inv([[a, b], [b, c]])
    widths = np.sqrt(np.linalg.eigvalsh(covariance))
    if not LEAST_STDDEV <= widths[0] <= widths[1] <= LARGEST_STDDEV:
        return []
    return [(covariance, flux / stamp.exposure)]


def sample_start(model, n_samples, steps):
    """Return the image (n, n) of a model, the star in its middle."""
    model = model.copy()
    known = dict(zip((total_flux_name(model), *position_names(model)), (1.0, 0.0, 0.0)))
    for name, value in known.items():
        setattr(model, name, value)
    offset = (np.arange(n_samples) - (n_samples - 1) / 2) / steps
    y, x = np.meshgrid(offset, offset, indexing='ij')
    return np.asarray(model(x, y), dtype=float)
