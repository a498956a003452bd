# Licensed under a 3-clause BSD style license - see LICENSE
"""Images of moving stars: exact at the nodes of a fine grid of shifts, a parabola in between."""

import numpy as np

__all__ = ['moving_images']

# Distance of the nodes in pixels. The parabola goes through nine images at and between nodes.
_SPACING = 0.1


def moving_images(reference, pixels, shift, slopes=False):
    """Return the images of stars at a flux of 1 at every shift, and their slopes.

    Parameters
    ----------
    reference : Reference
        The stars.
    pixels : ScenePixels
    shift : ndarray, shape (n, k, 2)
        Of every star in every cadence, in pixels.
    slopes : bool, optional
        Whether to return the derivatives by x and y as well.

    Returns
    -------
    ndarray, shape (n, k, p), or three of these
    """
    n, k, _ = shift.shape
    found = np.empty((3 if slopes else 1, n, k, pixels.x.size))
    for j in range(k):
        nodes = np.round(shift[:, j] / _SPACING).astype(int)
        places, which = np.unique(nodes, axis=0, return_inverse=True)
        for i, place in enumerate(places):
            rows = np.flatnonzero(which.ravel() == i)
            middle = _SPACING * place
            terms = _parabola(reference, pixels, j, middle)
            dx, dy = (shift[rows, j] - middle).T
            powers = _powers(dx, dy)
            for target, power in zip(found, powers):
                target[rows, j] = power @ terms
    return found if slopes else found[0]


def _parabola(reference, pixels, j, middle):
    """Return the terms (6, p) of the image of one star around a shift."""
    h = 0.5 * _SPACING
    steps = h * np.arange(-1.0, 2.0)
    x = reference.x[j] + middle[0] + steps
    y = reference.y[j] + middle[1] + steps
    images = np.array([[reference.star.image(pixels.x, pixels.y, a, b) for a in x] for b in y])
    centre = images[1, 1]
    by_x, by_y = (images[1, 2] - images[1, 0]) / (2 * h), (images[2, 1] - images[0, 1]) / (2 * h)
    by_xx = (images[1, 2] + images[1, 0] - 2 * centre) / (2 * h * h)
    by_yy = (images[2, 1] + images[0, 1] - 2 * centre) / (2 * h * h)
    by_xy = (images[2, 2] + images[0, 0] - images[0, 2] - images[2, 0]) / (4 * h * h)
    return np.stack([centre, by_x, by_y, by_xx, by_xy, by_yy])


def _powers(dx, dy):
    """Return what the terms are multiplied by (3, m, 6): for the value and both derivatives."""
    one, zero = np.ones_like(dx), np.zeros_like(dx)
    return np.stack([np.stack([one, dx, dy, dx * dx, dx * dy, dy * dy], axis=1),
                     np.stack([zero, one, zero, 2 * dx, dy, zero], axis=1),
                     np.stack([zero, zero, one, zero, dx, 2 * dy], axis=1)])
