# Licensed under a 3-clause BSD style license - see LICENSE
"""The pixels around each star that are fitted: a box, cut off at the edge of the image."""

from dataclasses import dataclass

import numpy as np

__all__ = ['Boxes']


@dataclass(frozen=True)
class Boxes:
    """Boxes of one shape around stars, in an image that they may leave.

    Attributes
    ----------
    shape : (ny, nx)
        Shape of a box, odd.
    first : ndarray of int, shape (n, 2)
        x and y of the first pixels; in the image's corner where a star has no place.
    overlaps : ndarray of bool, shape (n,)
        Whether a box has pixels in the image.
    image_shape : (ny, nx)
    """

    shape: tuple
    first: np.ndarray
    overlaps: np.ndarray
    image_shape: tuple

    @classmethod
    def around(cls, x, y, shape, image_shape):
        """Return the boxes whose middle pixels contain x and y, (n,) each."""
        places = np.column_stack([x, y])
        (ny, nx), known = image_shape, np.isfinite(places).all(axis=1)
        sizes = np.array(shape[::-1])
        # So far away from the image an integer need not tell how far.
        near = np.clip(np.where(known[:, np.newaxis], places, 0.0), -1e9, 1e9)
        first = np.ceil(near - 0.5).astype(np.intp) - sizes // 2
        overlaps = known & (first > -sizes).all(axis=1) & (first < [nx, ny]).all(axis=1)
        return cls(tuple(shape), np.where(overlaps[:, np.newaxis], first, 0), overlaps,
                   tuple(image_shape))

    @property
    def are_inside(self):
        """Say which boxes are whole in the image, (n,)."""
        last = self.first + self.shape[::-1]
        return ((self.first >= 0) & (last <= self.image_shape[::-1])).all(axis=1)

    def take(self, rows):
        """Return some of the boxes."""
        return Boxes(self.shape, self.first[rows], self.overlaps[rows], self.image_shape)

    def places(self):
        """Return x and y of all pixels, two (n, ny * nx), also outside of the image."""
        y, x = np.mgrid[:self.shape[0], :self.shape[1]].reshape(2, -1)
        return self.first[:, :1] + x, self.first[:, 1:] + y

    def union(self):
        """Say which pixels of the image are in any of the boxes, an array of its shape."""
        (ny, nx), far = self.image_shape, self.first + self.shape[::-1]
        # How many more boxes there are in a pixel than in those to the left and above.
        steps = np.zeros((ny + 1, nx + 1), dtype=int)
        for sign_x, x in ((1, self.first[:, 0]), (-1, far[:, 0])):
            for sign_y, y in ((1, self.first[:, 1]), (-1, far[:, 1])):
                np.add.at(steps, (np.clip(y, 0, ny), np.clip(x, 0, nx)), sign_x * sign_y)
        return steps.cumsum(axis=0).cumsum(axis=1)[:ny, :nx] > 0

    def cut(self, array, fill):
        """Return an array of the image's shape in the boxes, (n, ny, nx), filled outside."""
        first, (ny, nx) = self.first, self.shape
        # Without stars, too, the array must be as large as a box.
        if not len(first) or not self.are_inside.all():
            array = np.pad(array, ((ny, ny), (nx, nx)), constant_values=fill)
            first = first + [nx, ny]
        windows = np.lib.stride_tricks.sliding_window_view(array, self.shape)
        return windows[first[:, 1], first[:, 0]]
