# Licensed under a 3-clause BSD style license - see LICENSE
"""The pixels of groups of stars: those of all boxes, each once."""

from dataclasses import dataclass

import numpy as np

__all__ = ['PixelLists', 'list_pixels']


@dataclass(frozen=True)
class PixelLists:
    """Pixels of groups of equally many stars.

    Attributes
    ----------
    members : ndarray of int, shape (n_groups, n_stars)
        The stars of each group.
    flat : ndarray of int, shape (n_pixels,)
        Indices in the flattened image, group by group.
    begin : ndarray of int, shape (n_groups + 1,)
        Where the groups begin among them.
    owner : ndarray of int, shape (n_in_boxes,)
        For each pixel of each box, the place of its star in the flattened ``members``.
    place : ndarray of int, shape (n_in_boxes,)
        And its own place in ``flat``.
    is_centre : ndarray of bool, shape (n_in_boxes,)
        Whether it is the middle of the box.
    width : int
        Columns of the image.
    """

    members: np.ndarray
    flat: np.ndarray
    begin: np.ndarray
    owner: np.ndarray
    place: np.ndarray
    is_centre: np.ndarray
    width: int

    @property
    def sizes(self):
        """Return the number of pixels of each group."""
        return np.diff(self.begin)

    def table(self, part):
        """Return the pixels of some groups as a table.

        Parameters
        ----------
        part : slice
            Which groups.

        Returns
        -------
        index : ndarray of int, shape (m, n)
            Places in ``flat``; where a group has fewer pixels, that of its first.
        used : ndarray of bool, shape (m, n)
            Which of them are pixels of the group.
        """
        begin, size = self.begin[:-1][part], self.sizes[part]
        number = np.arange(size.max(initial=0))
        used = number < size[:, np.newaxis]
        return np.where(used, begin[:, np.newaxis] + number, begin[:, np.newaxis]), used


def list_pixels(members, boxes, mask):
    """Return the `PixelLists` of groups, ordered by their number of pixels.

    Parameters
    ----------
    members : ndarray of int, shape (n_groups, n_stars)
    boxes : Boxes
        Of all stars.
    mask : ndarray of bool, shape (ny, nx)
        Pixels that do not count.
    """
    own = boxes.take(members.ravel())
    (height, width), (n_groups, n_stars) = boxes.image_shape, members.shape
    x, y = own.places()
    used = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    used[used] = ~mask[y[used], x[used]]
    group = np.repeat(np.arange(n_groups), n_stars)[:, np.newaxis]
    keys = (group * (height * width) + y * width + x)[used]
    unique, place = np.unique(keys, return_inverse=True)
    begin = np.searchsorted(unique, np.arange(n_groups + 1) * (height * width))
    owner, number = np.nonzero(used)
    is_centre = number == x.shape[1] // 2
    lists = PixelLists(members, unique % (height * width), begin, owner, place, is_centre, width)
    return _ordered(lists)


def _ordered(lists):
    """Return the same groups, those of few pixels first, so that tables have few gaps."""
    order = np.argsort(lists.sizes, kind='stable')
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    sizes = lists.sizes[order]
    begin = np.concatenate([[0], np.cumsum(sizes)])
    group = np.repeat(np.arange(len(order)), lists.sizes)
    moved = begin[back[group]] + np.arange(len(lists.flat)) - lists.begin[group]
    flat = np.empty_like(lists.flat)
    flat[moved] = lists.flat
    n_stars = lists.members.shape[1]
    owner = back[lists.owner // n_stars] * n_stars + lists.owner % n_stars
    return PixelLists(lists.members[order], flat, begin, owner, moved[lists.place],
                      lists.is_centre, lists.width)
