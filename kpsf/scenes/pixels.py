# Licensed under a 3-clause BSD style license - see LICENSE
"""`ScenePixels`: the pixels of one or several stamps as one list, each detector pixel once."""

from dataclasses import dataclass

import numpy as np

from .._validation import DEEPEST_SIGMA
from ..tpf import TargetPixels, read_tpf

__all__ = ['ScenePixels', 'as_target_pixels', 'gather_pixels']

# Share of the cadences in which a pixel must be good to be in the scene.
_LEAST_SHARE = 0.5


@dataclass(frozen=True, eq=False, repr=False)
class ScenePixels:
    """Pixels of a part of the detector over time, as rates with the background in.

    Parameters
    ----------
    x, y : ndarray, shape (p,)
        Places of the pixels, counted from the first pixel of the first stamp.
    rate : ndarray, shape (n, p)
        Rates in e-/s; 0 where not used.
    background : ndarray, shape (n, p)
        Known part in e-/s.
    used : ndarray of bool, shape (n, p)
    slope, floor : ndarray, shape (p,)
        The variance of a rate is ``slope * rate + floor``.
    tpfs : tuple of TargetPixels
        Where they are from.
    rows : tuple of ndarray
        Which cadences of each.
    """

    x: np.ndarray
    y: np.ndarray
    rate: np.ndarray
    background: np.ndarray
    used: np.ndarray
    slope: np.ndarray
    floor: np.ndarray
    tpfs: tuple
    rows: tuple

    @property
    def n_cadences(self):
        """Number of cadences."""
        return len(self.rate)

    @property
    def first(self):
        """The stamp that positions are counted from."""
        return self.tpfs[0]

    @property
    def has_background(self):
        """Whether all files know their background."""
        return all(tpf.has_background for tpf in self.tpfs)

    @property
    def net(self):
        """Rates without the known background, 0 where not used, (n, p)."""
        return np.where(self.used, self.rate - self.background, 0.0)

    def variance_of(self, rate):
        """Return the variance of pixels with a mean rate, at least that of one electron."""
        return self.slope * np.maximum(rate, self.slope) + self.floor

    def mean(self, values, used=None):
        """Return the mean over the used cadences, (p,)."""
        used = self.used if used is None else used
        return values.sum(axis=0, where=used) / np.maximum(used.sum(axis=0), 1)

    def motion(self):
        """Return the motion that the files tell, (n, 2), NaN where none does."""
        known = [tpf.pos_corr[rows] for tpf, rows in zip(self.tpfs, self.rows)]
        motion = np.stack(known)
        count = np.isfinite(motion).sum(axis=0)
        total = np.nansum(motion, axis=0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def as_target_pixels(tpfs):
    """Return a list of `TargetPixels` of one or several files or their pixels."""
    if isinstance(tpfs, (list, tuple)) and not hasattr(tpfs, 'filename'):
        if not tpfs:
            raise ValueError('A scene needs the pixels of at least one file, but the list is '
                             'empty: pass a target pixel file.')
        return [tpf if isinstance(tpf, TargetPixels) else read_tpf(tpf) for tpf in tpfs]
    return [tpfs if isinstance(tpfs, TargetPixels) else read_tpf(tpfs)]


def gather_pixels(tpfs):
    """Return the `ScenePixels` of stamps on one detector, of the cadences that all have.

    Parameters
    ----------
    tpfs : list of TargetPixels

    Raises
    ------
    ValueError
        If the stamps are of different detectors or times, or no pixel is good.
    """
    _require_one_detector(tpfs)
    rows = _common_cadences(tpfs)
    first, parts, seen = tpfs[0], [], set()
    for tpf, chosen in zip(tpfs, rows):
        parts.append(_pixels_of(tpf, chosen, first, seen))
    x, y, rate, background, used, slope, floor = (
        np.concatenate(arrays, axis=-1) for arrays in zip(*parts))
    keep = used.mean(axis=0) >= _LEAST_SHARE
    if not keep.any():
        raise ValueError(f'A scene needs pixels that are good in half of the cadences, but those '
                         f'of {first.target} have none: pass other pixels.')
    used = used[:, keep]
    return ScenePixels(x[keep], y[keep], np.where(used, rate[:, keep], 0.0),
                       np.where(used, background[:, keep], 0.0), used, slope[keep], floor[keep],
                       tuple(tpfs), tuple(rows))


def _require_one_detector(tpfs):
    """Raise unless all stamps are of one detector in one season."""
    keys = ('quarter', 'campaign', 'sector', 'channel', 'camera', 'ccd')
    places = [(tpf.mission, *(tpf.meta.get(key) for key in keys)) for tpf in tpfs]
    for tpf, place in zip(tpfs, places):
        if place != places[0]:
            raise ValueError(
                'The stamps of a scene must be of one detector and season, but '
                f'{tpfs[0].target} is from {_in_words(places[0])} and {tpf.target} from '
                f'{_in_words(place)}: make a scene of each.')


def _in_words(place):
    """Return what is known of a detector and a season, in words."""
    return ' '.join(str(part) for part in place if part is not None)


def _common_cadences(tpfs):
    """Return which rows of each have a cadence number that all have."""
    if len(tpfs) == 1:
        return [np.arange(tpfs[0].n_cadences)]
    common = tpfs[0].cadenceno
    for tpf in tpfs[1:]:
        common = np.intersect1d(common, tpf.cadenceno)
    if not len(common):
        raise ValueError('The stamps of a scene must have cadences in common, but '
                         f'{", ".join(tpf.target for tpf in tpfs)} have none: pass files of the '
                         'same season.')
    return [np.flatnonzero(np.isin(tpf.cadenceno, common)) for tpf in tpfs]


def _pixels_of(tpf, rows, first, seen):
    """Return what a stamp adds: places (p,), rates and their kin (n, p), noise (p,)."""
    line, column = np.nonzero(tpf.good_pixels.any(axis=0))
    places = [(int(c) + tpf.column, int(r) + tpf.row) for c, r in zip(column, line)]
    # Stamps of neighbours overlap; what is in two files is one measurement.
    new = [place not in seen for place in places]
    seen.update(places)
    line, column = line[new], column[new]
    rate = tpf.total_rate[rows][:, line, column]
    used = tpf.good_pixels[rows][:, line, column]
    floor = tpf.noise.read_variance_rate
    with np.errstate(invalid='ignore'):
        used = used & ~(rate < -DEEPEST_SIGMA * np.sqrt(floor))
    ones = np.ones(len(line))
    return (column + (tpf.column - first.column) + 0.0, line + (tpf.row - first.row) + 0.0, rate,
            np.asarray(tpf.background[rows][:, line, column], dtype=float), used,
            ones / tpf.noise.effective_exposure, ones * floor)
