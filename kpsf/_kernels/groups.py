# Licensed under a 3-clause BSD style license - see LICENSE
"""Groups of stars that are fitted jointly, on lists of pixels."""

import numpy as np

from .broadcast import BroadcastLikelihood

__all__ = ['GroupLikelihood']

# Largest step, in pixels, of differences of derivatives by a star's place.
_LARGEST_STEP = 0.05


class GroupLikelihood(BroadcastLikelihood):
    """Poisson likelihood of groups of stars, each group with a background.

    All groups have the same number of stars. The parameters are those that
    are fitted, star by star, and the background; positions are counted from
    where the stars start.

    Parameters
    ----------
    counts : ndarray, shape (n, n_pixels)
        Counts, any shift for read noise added, 0 where masked.
    x, y : ndarray, shape (n, n_pixels)
        Whole coordinates of the pixels.
    profile : object
        See `profiles`.
    stars : ndarray, shape (k, n_stars, n)
        All parameters of the stars' PSF, flux, x, y and shape: where positions
        start, and what the others are unless they are fitted.
    moving : sequence of int
        Which are fitted, the same for each star.
    reach : (float, float)
        How far along x and y from where it starts a star may be.
    offset : float or ndarray, shape (n, n_pixels)
        What the mean holds besides the stars and the background.
    weights : None or ndarray, shape (n, n_pixels)
        1 for pixels in the likelihood, 0 for the others.
    """

    def __init__(self, counts, x, y, profile, stars, moving, reach, offset=0.0, weights=None):
        n_stars, self._fitted = stars.shape[1], list(moving)
        q = len(self._fitted)
        largest = [_LARGEST_STEP if j in (1, 2) else np.inf for j in self._fitted]
        linear = ([star * q + self._fitted.index(0) for star in range(n_stars)]
                  if 0 in self._fitted else [])
        super().__init__(counts, self._sum, n_stars * q + 1, linear=linear, n_terms=n_stars,
                         offset=offset, weights=weights, largest_step=np.tile(largest, n_stars))
        self._x, self._y, self._profile = x, y, profile
        self._stars, self._reach = stars, reach
        self._wanted = [j for j in self._fitted if j > 0]

    def is_valid(self, params):
        """Say which columns of ``params`` are finite, and no star too far away.

        Further out than a star's own pixels there is nothing that would lead back.
        """
        valid = np.isfinite(params).all(axis=0)
        for j, reach in zip((1, 2), self._reach):
            if j in self._fitted:
                own = params[self._fitted.index(j):-1:len(self._fitted)]
                valid &= (np.abs(own) <= reach).all(axis=0)
        return valid

    def _all_params(self, params, rows):
        """Return all parameters of the stars, (k, n_stars, m)."""
        stars = self._stars[:, :, rows]
        for k, j in enumerate(self._fitted):
            own = params[k::len(self._fitted)]
            stars[j] = stars[j] + own if j in (1, 2) else own
        return stars

    def starting_images(self):
        """Return the images of the stars where they start, and the counts without what is known.

        (n, n_stars, n_pixels) and (n, n_pixels), both 0 where pixels do not count.
        """
        images = np.empty((len(self.counts), self._stars.shape[1], self.counts.shape[1]))
        for part in self._blocks(len(images)):
            images[part] = self._psf(self._stars[:, :, part], part).transpose(1, 0, 2)
        light = self.counts - self.offset
        if self.weights is None:
            return images, light
        return images * self.weights[:, np.newaxis], light * self.weights

    def _sum(self, params, rows):
        """Return the sum of the stars, (m, n_pixels)."""
        total = np.empty((len(rows), self.counts.shape[1]))
        for part in self._blocks(len(rows)):
            stars = self._all_params(params[:, part], rows[part])
            np.einsum('sm,smp->mp', stars[0], self._psf(stars, rows[part]), out=total[part])
        return total

    def _psf(self, stars, rows):
        """Return the images of stars (k, n_stars, m) at unit flux, (n_stars, m, n_pixels)."""
        return self._profile.images(stars, self._x[rows], self._y[rows], [])[0]

    def _blocks(self, m):
        """Yield slices of m groups whose images stay in the cache."""
        return (slice(start, min(start + self._block_rows, m))
                for start in range(0, m, self._block_rows))

    def _images(self, params, rows):
        """Return the sum of the stars, and its derivatives by all parameters, (m, p, n_pixels)."""
        stars = self._all_params(params, rows)
        images = self._profile.images(stars, self._x[rows], self._y[rows], self._wanted)
        flux = stars[0][:, :, np.newaxis]
        (_, n_stars, m, n_pixels), q = images.shape, len(self._fitted)
        jacobian = np.empty((m, self.n_params, n_pixels))
        jacobian[:, -1] = 1.0
        by_star = jacobian[:, :-1].reshape(m, n_stars, q, n_pixels)
        for k, j in enumerate(self._fitted):
            image = images[0] if j == 0 else flux * images[1 + self._wanted.index(j)]
            by_star[:, :, k] = image.transpose(1, 0, 2)
        return np.einsum('sm,smp->mp', stars[0], images[0]), jacobian
