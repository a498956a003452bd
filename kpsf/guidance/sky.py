# Licensed under a 3-clause BSD style license - see LICENSE
"""Background, noise and spikes of an image, before it is known where the stars are."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve, median_filter
from scipy.special import pdtrc

__all__ = ['Sky', 'clipped_mean', 'estimate_sky', 'find_spikes', 'highest_without_star',
           'largest_plausible', 'smoothed']

# In units of the FWHM: the boxes in which a background is measured, and the smallest image, in
# these boxes, in which it may vary.
BOX_SIZE, LEAST_BOXES = 10.0, 3
# Less would clip single photons.
CLIP_SIGMA, N_CLIPS = 5.0, 10
# Electrons under the PSF that are expected anywhere, and its area, 4 pi sigma**2 of a Gaussian, in
# squares of the FWHM.
LEAST_UNDER_PSF, AREA = 1.0, 2.266
# A scatter above that of the photons counts if it is this many of its own errors above it.
N_SIGMA_SCATTER = 5.0
# A spike exceeds what the PSF allows by a factor, as PSFs are not exact, and by more than chance.
# The background itself is rough where there are many electrons.
MARGIN, CHANCE, N_SIGMA_NEIGHBOURS, ROUGHNESS = 1.5, 1e-7, 3.0, 0.25
# Where the PSF is fainter than this share of its peak, the ratio is not looked at; a larger ratio
# than this is none of a star.
LEAST_LIGHT, LARGEST_RATIO = 0.02, 50.0
# A pixel with fewer neighbours is not judged.
LEAST_NEIGHBOURS = 2
N_ROUNDS = 3

_AROUND = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])


@dataclass(frozen=True)
class Sky:
    """What is expected in each pixel without stars.

    Attributes
    ----------
    level : ndarray, shape (ny, nx)
        Electrons per pixel.
    variance : ndarray, shape (ny, nx)
        Electrons squared: that of the photons and of the read noise, times
        ``excess``.
    excess : float
        Variance over that of photons and read noise where it is larger than
        chance makes it; 1 otherwise.
    """

    level: np.ndarray
    variance: np.ndarray
    excess: float


def estimate_sky(data, mask, fwhm, read_variance, known=None):
    """Return the `Sky` of an image.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
        Electrons with the background in.
    mask : ndarray of bool, shape (ny, nx)
        Pixels to leave out.
    fwhm : float
        Of the PSF in pixels.
    read_variance : float
    known : ndarray, shape () or (ny, nx), optional
        The background, where it is known.
    """
    if known is not None:
        level = np.broadcast_to(known, data.shape)
    elif _is_large(data.shape, fwhm):
        level = np.maximum(_varying_level(data, mask, fwhm), 0.0)
    else:
        level = np.full(data.shape, clipped_mean(data[~mask], read_variance))
    level = np.maximum(level, _least(mask, fwhm))
    photons = level + read_variance
    # In a stamp, what varies is the light of stars.
    excess = _excess(((data - level) / np.sqrt(photons))[~mask], photons[~mask]) if _is_large(
        data.shape, fwhm) else 1.0
    return Sky(level, excess * photons, excess)


def _is_large(shape, fwhm):
    """Say whether an image shows more of the sky than of one star."""
    return min(shape) >= LEAST_BOXES * max(BOX_SIZE * fwhm, 8.0)


def smoothed(data, mask, sky):
    """Return the median of 5 x 5 pixels, (ny, nx), with the sky where pixels are masked."""
    return median_filter(np.where(mask, sky.level, data), 5)


def find_spikes(data, mask, sky, star, read_variance, smooth):
    """Return which pixels are higher than any star can make them, (ny, nx).

    However many stars there are, a pixel has at most a certain multiple of
    the light in its neighbours: that of a star in its middle. Hot pixels and
    cosmic rays exceed it.

    Parameters
    ----------
    data, mask : ndarray, shape (ny, nx)
    sky : Sky
    star : Star
    read_variance : float
    smooth : ndarray, shape (ny, nx)
        What `smoothed` returned.
    """
    spikes = np.zeros(data.shape, dtype=bool)
    for _ in range(N_ROUNDS):
        masked = mask | spikes
        most = largest_plausible(data, masked, sky, star, smooth, N_SIGMA_NEIGHBOURS)
        found = ~masked & (data > most)
        counts, mean = data[found] + read_variance, np.maximum(most[found] + read_variance, 1e-9)
        # An excess of the noise widens the Poisson distribution as a gain would.
        found[found] = pdtrc(np.floor(np.maximum(counts / sky.excess - 1.0, 0.0)),
                             mean / sky.excess) < CHANCE
        if not found.any():
            break
        spikes |= found
    return spikes


def largest_plausible(data, mask, sky, star, smooth, n_sigma=0.0):
    """Return how many electrons stars can put into each pixel beside those around it, (ny, nx).

    Infinite where too few neighbours are known.

    Parameters
    ----------
    data, mask : ndarray, shape (ny, nx)
    sky : Sky
    star : Star
    smooth : ndarray, shape (ny, nx)
        What `smoothed` returned.
    n_sigma : float, optional
        By so many of its standard errors the light around is taken higher,
        and the background to be rough.
    """
    inner, outer = (MARGIN * ratio for ratio in _steepest(star))
    good = ~mask
    # Where the background was taken too high, stars would seem steeper than they are.
    level = np.minimum(sky.level, smooth)
    light = np.where(good, data - level, 0.0)
    number = convolve(good.astype(float), _AROUND, mode='constant')
    share = 8.0 / np.maximum(number, 1.0)
    around = share * convolve(light, _AROUND, mode='constant')
    if n_sigma:
        around += n_sigma * share * np.sqrt(np.maximum(convolve(
            np.where(good, np.maximum(light, 0.0) + sky.variance, 0.0), _AROUND,
            mode='constant'), 0.0))
    ratio = np.where(number == 8, inner, outer)
    roughness = ROUGHNESS if n_sigma else 0.0
    most = (1.0 + roughness) * level + ratio * np.maximum(around, 0.0)
    return np.where(number >= LEAST_NEIGHBOURS, most, np.inf)


def _varying_level(data, mask, fwhm):
    """Return the background around each pixel, without its stars.

    The mean of what is not clipped serves where most pixels have no count,
    and the median would be 0.
    """
    from astropy.stats import SigmaClip
    from photutils.background import Background2D, MeanBackground, StdBackgroundRMS
    box = [min(size, max(round(BOX_SIZE * fwhm), 8)) for size in data.shape]
    clip = SigmaClip(sigma=CLIP_SIGMA, cenfunc='mean', maxiters=N_CLIPS)
    # The filter that takes single boxes out flattens a slope at the edges: it goes before.
    plane = _plane(data, mask)
    return plane + Background2D(
        np.where(mask, 0.0, data - plane), box, mask=mask if mask.any() else None, filter_size=3,
        exclude_percentile=90.0, sigma_clip=clip, bkg_estimator=MeanBackground(sigma_clip=clip),
        bkg_rms_estimator=StdBackgroundRMS(sigma_clip=clip)).background


def _plane(data, mask):
    """Return the plane through the pixels that stars do not raise, (ny, nx)."""
    y, x = (2.0 * grid / max(size - 1, 1) - 1.0
            for grid, size in zip(np.indices(data.shape), data.shape))
    terms = np.array([np.ones(data.size), x.ravel(), y.ravel()])
    values, used = data.ravel(), ~mask.ravel()
    plane = np.full(data.size, np.median(values[used]))
    for _ in range(N_CLIPS):
        rest = values - plane
        width = 1.4826 * np.median(np.abs(rest[used])) + 1.0
        kept = used & (np.abs(rest) < CLIP_SIGMA * width)
        own = terms[:, kept]
        coefficients = np.linalg.solve(own @ own.T, own @ values[kept])
        previous, plane = plane, coefficients @ terms
        if np.max(np.abs(plane - previous)) < 1e-3 * width:
            break
    return plane.reshape(data.shape)


def clipped_mean(values, read_variance):
    """Return the mean of electrons (n,) without those that stars raise, not below 0."""
    level = np.median(values)
    for _ in range(N_CLIPS):
        kept = values[values <= highest_without_star(level, read_variance)]
        previous, level = level, kept.mean() if kept.size else level
        if level == previous:
            break
    return max(level, 0.0)


def highest_without_star(level, read_variance):
    """Return the electrons above which a pixel has light of a star."""
    return level + CLIP_SIGMA * np.sqrt(max(level, 1.0) + read_variance)


def _least(mask, fwhm):
    """Return the electrons per pixel below which nothing is taken to be expected.

    One in all pixels, and so many under the PSF that one photon is no star.
    """
    return max(1.0 / max(np.count_nonzero(~mask), 1), LEAST_UNDER_PSF / (AREA * fwhm**2))


def _excess(scaled, photons):
    """Return by how much residuals in units of their noise vary more than they should."""
    if not scaled.size:
        return 1.0
    # Stars do not change the lower half of the residuals.
    low, middle = np.percentile(scaled, [15.87, 50.0])
    # Percentiles of whole numbers are off by up to one.
    error = N_SIGMA_SCATTER * 1.5 / np.sqrt(scaled.size) + 1.0 / np.sqrt(np.median(photons))
    return float((middle - low)**2) if middle - low > 1.0 + error else 1.0


def _steepest(star):
    """Return the largest ratio of the light in a pixel to that in its neighbours, times 8 of them.

    The first is for pixels with all their neighbours, the second for those at
    an edge, whose star may be beyond it.
    """
    phases = np.concatenate([np.ravel(star.phases()[0]), [0.0]])
    x, y = (grid[np.newaxis] for grid in np.meshgrid(*[np.arange(-1.0, 2.0)] * 2))

    def largest(x_0, y_0, kept):
        x_0, y_0 = (grid.reshape(-1, 1, 1) for grid in np.meshgrid(x_0, y_0))
        image = star.image(x, y, x_0, y_0)
        middle, around = image[:, 1, 1], (image * kept).sum(axis=(1, 2))
        share = 8.0 / kept.sum()
        bright = middle > LEAST_LIGHT * middle.max()
        return float(np.max(middle[bright] / np.maximum(
            share * around[bright], MARGIN / LARGEST_RATIO * middle[bright])))

    beyond = np.concatenate([phases, phases - 1.0])
    inward = np.arange(3) > 0
    return largest(phases, phases, _AROUND), max(
        largest(beyond, phases, _AROUND * inward),
        largest(beyond, beyond, _AROUND * inward * inward[:, np.newaxis]))
