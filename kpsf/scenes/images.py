# Licensed under a 3-clause BSD style license - see LICENSE
"""Images of moving stars: exact at the nodes of a fine grid of shifts, a parabola in between."""

import numpy as np

__all__ = ['MovingImages']

# Distance of the nodes in pixels. The parabola goes through nine images at and between nodes.
_SPACING = 0.1


class MovingImages:
    """Images of stars at a flux of 1, at any shifts.

    What is needed of an image around a node is made once.

    Parameters
    ----------
    reference : Reference
        The stars.
    pixels : ScenePixels
    """

    def __init__(self, reference, pixels):
        self._reference, self._pixels = reference, pixels
        self._known = [{} for _ in reference.x]

    def __call__(self, shift, slopes=False):
        """Return the images, and if asked for their derivatives by x and y.

        Parameters
        ----------
        shift : ndarray, shape (n, k, 2)
            Of every star in every cadence, in pixels.
        slopes : bool, optional

        Returns
        -------
        ndarray, shape (n, k, p), or (3, n, k, p) with slopes
        """
        n, k, _ = shift.shape
        found = np.empty((3 if slopes else 1, n, k, self._pixels.x.size))
        for j in range(k):
            nodes, which = np.unique(np.round(shift[:, j] / _SPACING).astype(int), axis=0,
                                     return_inverse=True)
            self._prepare(j, nodes)
            order = np.argsort(which.ravel(), kind='stable')
            ends = np.cumsum(np.bincount(which.ravel(), minlength=len(nodes)))
            for node, rows in zip(nodes, np.split(order, ends[:-1])):
                dx, dy = (shift[rows, j] - _SPACING * node).T
                terms = self._known[j][tuple(node.tolist())]
                for target, power in zip(found, _powers(dx, dy)):
                    target[rows, j] = power @ terms
        return found if slopes else found[0]

    def _prepare(self, j, nodes):
        """Make the terms (6, p) of one star around nodes that are not known yet."""
        new = [node for node in map(tuple, nodes.tolist()) if node not in self._known[j]]
        if not new:
            return
        steps = 0.5 * _SPACING * np.arange(-1.0, 2.0)
        middle = _SPACING * np.array(new)
        x = self._reference.x[j] + middle[:, 0, np.newaxis, np.newaxis] + steps
        y = self._reference.y[j] + middle[:, 1, np.newaxis, np.newaxis] + steps[:, np.newaxis]
        images = self._reference.star.image(self._pixels.x, self._pixels.y,
                                            *(np.broadcast_arrays(x[..., np.newaxis],
                                                                  y[..., np.newaxis])))
        self._known[j] |= dict(zip(new, _parabola(images)))


def _parabola(images):
    """Return the terms (m, 6, p) through images (m, 3, 3, p), at steps in y and x."""
    h = 0.5 * _SPACING
    centre, left, right = images[:, 1, 1], images[:, 1, 0], images[:, 1, 2]
    below, above = images[:, 0, 1], images[:, 2, 1]
    corners = images[:, 2, 2] + images[:, 0, 0] - images[:, 0, 2] - images[:, 2, 0]
    return np.stack([centre, (right - left) / (2 * h), (above - below) / (2 * h),
                     (right + left - 2 * centre) / (2 * h * h),
                     corners / (4 * h * h), (above + below - 2 * centre) / (2 * h * h)], axis=1)


def _powers(dx, dy):
    """Return what the terms are multiplied by (3, m, 6): for the value and both derivatives."""
    one, zero = np.ones_like(dx), np.zeros_like(dx)
    return np.stack([np.stack([one, dx, dy, dx * dx, dx * dy, dy * dy], axis=1),
                     np.stack([zero, one, zero, 2 * dx, dy, zero], axis=1),
                     np.stack([zero, zero, one, zero, dx, 2 * dy], axis=1)])
