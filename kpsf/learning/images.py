# Licensed under a 3-clause BSD style license - see LICENSE
"""Mean images of stamps: the cadences in which the stars are at the same place, as one image."""

from dataclasses import dataclass

import numpy as np

from ..scenes.shifts import measure_motion

__all__ = ['Stamp', 'mean_images']

# Size in pixels of the cells in which places count as the same, and how many cells a stamp has.
CELL, FEWEST_CELLS, MAX_CELLS = 0.05, 12, 48
# Stars in all images of a stamp together: each of them adds to the equations.
MAX_STARS = 250
# Relative error of the backgrounds in files.
BACKGROUND_ERROR = 0.1
# Fewer cadences are no series to measure a motion in.
FEWEST_CADENCES = 5
# From this rate in e-/s on a pixel is saturated: the wells of Kepler hold about 1e6 electrons in
# 6 s, those of TESS 2e5 in 2 s.
SATURATION = {'Kepler': 1.6e5, 'K2': 1.6e5, 'TESS': 9e4}


@dataclass(frozen=True, eq=False)
class Stamp:
    """Mean images of one target pixel file, as lists of its usable pixels.

    Parameters
    ----------
    values : ndarray, shape (n_images, n_pixels)
        Mean electrons per cadence without the known background.
    known : ndarray, shape (n_images, n_pixels)
        Mean of that background.
    n_cadences : ndarray, shape (n_images, n_pixels)
        How many cadences a mean is of; 0 where a pixel has no value.
    x, y : ndarray, shape (n_pixels,)
        Places of the pixels on the detector.
    motion : ndarray, shape (n_images, 2)
        Where the stars are, relative to their median place.
    read_variance, exposure : float
        Of the noise, in electrons squared and seconds.
    span : (float, float)
        First and last time.
    name : str
        What to call the file.
    corner : (int, int)
        Column and row of the first pixel.
    collected : ndarray, shape (n_collected, 2)
        Column and row of all pixels that have values, saturated ones too.
    has_background : bool
        Whether the known background is one: what is fitted besides is a correction then.
    """

    values: np.ndarray
    known: np.ndarray
    n_cadences: np.ndarray
    x: np.ndarray
    y: np.ndarray
    motion: np.ndarray
    read_variance: float
    exposure: float
    span: tuple
    name: str
    corner: tuple
    collected: np.ndarray
    has_background: bool

    @property
    def n_images(self):
        """Number of images."""
        return len(self.values)

    def has(self, column, row):
        """Say whether a place on the detector is in a pixel of the stamp."""
        return bool((np.abs(self.collected - (column, row)) <= 0.5).all(axis=1).any())

    def distance(self, column, row):
        """Return how far a place is from the nearest pixel of the stamp, in pixels."""
        return float(np.hypot(self.x - column, self.y - row).min())

    def level_precision(self, image):
        """Return how well it is known that there is no background but the known one.

        Without that, a background and the wings of a star are hard to tell apart.
        """
        seen = self.n_cadences[image] > 0
        if not self.has_background or not seen.any():
            return 0.0
        known = np.median(self.known[image, seen])
        return 1.0 / (BACKGROUND_ERROR * known)**2 if known > 0 else 0.0

    def variance(self, floor):
        """Return the variances (n_images, n_pixels), infinite where a pixel has no value.

        What is wrong with a PRF grows with the flux, and is a larger share of its wings than
        of its core: its variance is as that of photons, times a factor. Both are taken from
        the pixels, not from a model of them: a model cannot make itself right by them then.
        """
        expected = np.maximum(self.values + self.known + self.read_variance, 1.0)
        seen = self.n_cadences > 0
        light = np.where(seen, np.maximum(self.values, 0.0), 0.0)
        systematic = floor**2 * light.sum(axis=1, keepdims=True) * light
        photons = expected / np.maximum(self.n_cadences, 1)
        return np.where(seen, photons + systematic, np.inf)


def mean_images(tpf, name, places, saturation=None):
    """Return the `Stamp` of a target pixel file with stars at places (k, 2) in it.

    Saturated pixels, and those beside them in a column into which their charge flows, are left
    out.

    Raises
    ------
    ValueError
        If no pixel is usable.
    """
    limit = SATURATION[tpf.mission] if saturation is None else saturation
    usable = tpf.good_pixels & ~_bled(np.nan_to_num(tpf.total_rate), limit)
    ever = usable.any(axis=0)
    if not ever.any():
        msg = (f'A stamp needs pixels that are neither saturated nor NaN, but {name} has none '
               f'below {limit:g} e-/s: leave it out, or pass saturation=.')
        raise ValueError(msg)
    motion = _motion(tpf, places)
    most = np.clip(MAX_STARS // max(len(places), 1), FEWEST_CELLS, MAX_CELLS)
    cells, n_cells = _cells(motion, most)
    values, known = (np.where(usable, part, 0.0)[:, ever] for part in (
        tpf.noise.to_electrons(tpf.flux), tpf.background_electrons))
    members = np.arange(n_cells)[:, np.newaxis] == cells
    number = members @ usable[:, ever].astype(float)
    divisor = np.maximum(number, 1.0)
    collected = np.argwhere(tpf.good_pixels.any(axis=0))[:, ::-1] + (tpf.column, tpf.row)
    row, column = np.nonzero(ever)
    moved = members @ motion / members.sum(axis=1, keepdims=True)
    time = tpf.time.jd
    return Stamp(members @ values / divisor, members @ known / divisor, number,
                 column + float(tpf.column), row + float(tpf.row), moved, tpf.read_variance,
                 tpf.noise.effective_exposure, (time.min(), time.max()), name,
                 (tpf.column, tpf.row), collected.astype(float), tpf.has_background)


def _bled(rate, limit):
    """Return which pixels are saturated or next to one that is, along their column."""
    full = rate >= limit
    bled = full.copy()
    bled[:, 1:] |= full[:, :-1]
    bled[:, :-1] |= full[:, 1:]
    return bled


def _motion(tpf, places):
    """Return the motion (n_cadences, 2) of the stars; zero where it cannot be known."""
    if tpf.has_pos_corr:
        return np.nan_to_num(tpf.pos_corr)
    if tpf.n_cadences < FEWEST_CADENCES or not len(places):
        return np.zeros((tpf.n_cadences, 2))
    motion = measure_motion(tpf, *places.T)
    return motion - np.median(motion, axis=0)


def _cells(motion, most):
    """Return the number (n_cadences,) of the cell that each place is in, and how many there are.

    The cells are as large as it takes for them not to be too many.
    """
    size = CELL
    while True:
        _, cells = np.unique(np.round(motion / size), axis=0, return_inverse=True)
        n_cells = int(cells.max()) + 1
        if n_cells <= most:
            return cells.ravel(), n_cells
        size *= 1.25
