# Licensed under a 3-clause BSD style license - see LICENSE
"""Images of the stars of a scene in every cadence: those of a given PSF, or learned ones."""

import numpy as np

from .._kernels.linear import fit_amplitudes
from .modes import learn_changes

__all__ = ['EmpiricalImages', 'GivenImages']

# What a base PSF lacks far out, as a share of the star and a power of the distance: it decides
# whose the light is where the base has almost none, and how it changes there with the motion.
_HALO, _HALO_POWER = 0.01, 1.5
# A pixel whose stars are fainter than this share of their mean tells nothing of changes.
_FAINTEST = 0.05


class GivenImages:
    """Images of a PSF that is taken as it is, moved.

    Parameters
    ----------
    reference : Reference
    images : ndarray, shape (n, k, p)
        The stars under its PSF at a flux of 1, moved.
    n_free : int
        Stars with light curves; the first.
    backgrounds : ndarray, shape (b, p)
    """

    def __init__(self, reference, images, n_free, backgrounds):
        self.changes = np.zeros((0, images.shape[2]))
        self._design = _with_backgrounds(images[:, :n_free], backgrounds)
        self._known = np.einsum('k,nkp->np', reference.flux[n_free:], images[:, n_free:])

    def images(self, used):
        """Return the design (n, k + b, p), and what is known besides, (n, p)."""
        return self._design, self._known


class EmpiricalImages:
    """Images that are learned from the series, see `Scene`.

    Every pixel of the mean image is shared among the stars in proportion to
    the light that the base PSF puts there, and follows it when the stars
    move. Residuals, divided by how bright their stars are, tell how the
    images change besides. A change moves light, but neither makes nor loses
    any: what a star has on the pixels stays what the base PSF says, so that
    changes can take away what moves with the image and cannot make a star
    fainter or brighter.

    Parameters
    ----------
    pixels : ScenePixels
    reference, images, n_free, backgrounds
        As for `GivenImages`.
    breaks : ndarray of bool, shape (n,)
        Where smoothing begins anew.
    n_modes : int, optional
        By default as many as the data support.
    """

    def __init__(self, pixels, reference, images, n_free, backgrounds, breaks, n_modes):
        self._pixels, self._n_free, self._backgrounds = pixels, n_free, backgrounds
        self._reference, self._breaks, self._n_wanted = reference, breaks, n_modes
        self._on_pixels = np.clip(images.sum(axis=2), 1e-6, None)
        # Stars that the mean image does not show get what nobody else wants.
        self._flux = np.maximum(reference.flux, 1e-3 * np.max(reference.flux))
        # A sum would give the halo of one star a share of the core of another.
        self._images = np.hypot(images, _halo(reference, pixels))
        self.changes = np.zeros((0, pixels.x.size))

    def images(self, used):
        """Return the design (n, k + b, p), and what is known besides, (n, p)."""
        pixels, n_free = self._pixels, self._n_free
        mean = pixels.mean(pixels.net, used) - self._reference.background
        total = self._flux @ self._images
        # Every pixel of the base's mean image is brought to that of the data.
        scale = mean / pixels.mean(total, used)
        raw = self._images @ scale
        flux = self._flux * (raw / self._on_pixels).mean(axis=0)
        unit = self._on_pixels / raw
        changes = self._learn(used, scale, unit, flux, total) / total
        # Light is moved, not made; of the stars without a light curve, parts may leave the stamp.
        moved = (self._images @ changes[:, :, np.newaxis])[:, :, 0] * (self._flux / flux)
        moved[:, n_free:] = 0.0
        unit = unit * (1.0 - moved / self._on_pixels)
        images = changes[:, np.newaxis] * (self._flux / flux)[:, np.newaxis]
        images += unit[:, :, np.newaxis] * scale
        images *= self._images
        known = np.einsum('k,nkp->np', flux[n_free:], images[:, n_free:])
        return _with_backgrounds(images[:, :n_free], self._backgrounds), known

    def _learn(self, used, scale, unit, flux, total):
        """Return the smooth changes (n, p) of the light of all stars, at their mean fluxes."""
        pixels, n_free = self._pixels, self._n_free
        images = self._images * scale
        images *= unit[:, :, np.newaxis]
        constant = np.einsum('k,nkp->np', flux[n_free:], images[:, n_free:])
        fits = fit_amplitudes(pixels.rate, _with_backgrounds(images[:, :n_free],
                                                             self._backgrounds),
                              pixels.background + constant, pixels.slope, pixels.floor, used=used)
        relative = np.ones(self._on_pixels.shape)
        relative[:, :n_free] = fits.amplitudes[:, :n_free] / flux[:n_free]
        brightness = ((relative * self._flux)[:, np.newaxis] @ self._images)[:, 0] / total
        sigma = np.sqrt(pixels.mean(fits.variance, used))
        known = used & np.isfinite(fits.amplitudes).all(axis=1)[:, np.newaxis]
        residual = np.where(known, (pixels.rate - fits.mean)
                            / (np.maximum(brightness, _FAINTEST) * sigma), np.nan)
        modes, series = learn_changes(residual, self._breaks, self._n_wanted)
        self.changes = modes * sigma
        return series @ self.changes


def _with_backgrounds(images, backgrounds):
    """Return images of stars (n, k, p) and of the background as one design (n, k + b, p)."""
    if not len(backgrounds):
        return images
    return np.concatenate([images, np.broadcast_to(backgrounds, (
        len(images), *backgrounds.shape))], axis=1)


def _halo(reference, pixels):
    """Return a faint halo (k, p) around each star of flux 1."""
    width = reference.star.fwhm
    distance = ((pixels.x - reference.x[:, np.newaxis])**2
                + (pixels.y - reference.y[:, np.newaxis])**2) / width**2
    return _HALO / (1.0 + distance)**_HALO_POWER / width**2
