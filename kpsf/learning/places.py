# Licensed under a 3-clause BSD style license - see LICENSE
"""Which stars are in which stamps, from what the caller says or the headers do."""

import numpy as np
from astropy.table import Table

from .stars import StarFits

__all__ = ['hold_at_home', 'places_in', 'stars_of_stamps']

# How far beside a stamp, in pixels, a star is that still shines into it.
MARGIN = 4.0
# Two stars nearer than this are one, in pixels.
SAME = 0.3


def stars_of_stamps(stars, tpfs, stamps):
    """Return the stars of each stamp, a list of `StarFits`, with fluxes of zero.

    Parameters
    ----------
    stars : None or table
        As of `learn_psf`.
    tpfs : list of TargetPixels
    stamps : list of Stamp

    Raises
    ------
    ValueError
        If the table lacks columns, a star is in no stamp, or two are at the same place.
    """
    places, homes = _targets(tpfs) if stars is None else _listed(stars, stamps)
    for number, (place, home) in enumerate(zip(places, homes)):
        _require_inside(number, place, stamps if home is None else [stamps[home]])
    return [_in_stamp(k, stamps, places, homes) for k in range(len(stamps))]


def places_in(stars, tpfs, k):
    """Return x and y (n, 2) of the stars in one file, before anything is checked."""
    tpf = tpfs[k]
    if stars is None:
        return _targets([tpf])[0] - (tpf.column, tpf.row)
    table = stars if isinstance(stars, Table) else Table(stars)
    known = set(table.colnames)
    if {'column', 'row'} <= known:
        places = np.column_stack([table['column'], table['row']]) - (tpf.column, tpf.row)
    elif {'x', 'y'} <= known:
        places = np.column_stack([table['x'], table['y']])
        if 'tpf' in known:
            places = places[np.asarray(table['tpf']) == k]
    else:
        return np.zeros((0, 2))
    ny, nx = tpf.shape
    places = np.asarray(places, dtype=float)
    return places[(np.abs(places - ((nx - 1) / 2, (ny - 1) / 2)) <= (nx / 2, ny / 2)).all(axis=1)]


def _targets(tpfs):
    """Return places (n, 2) on the detector of the targets, and which file each is of."""
    places = [[corner + np.median(place) for corner, place
               in zip((tpf.column, tpf.row), tpf.expected_positions())] for tpf in tpfs]
    return np.array(places), list(range(len(tpfs)))


def _listed(stars, stamps):
    """Return places (n, 2) on the detector, and which file each is of, None for any."""
    stars = stars if isinstance(stars, Table) else Table(stars)
    names = next((pair for pair in (('column', 'row'), ('x', 'y'))
                  if set(pair) <= set(stars.colnames)), None)
    if names is None or not len(stars):
        msg = ('stars must be a table of at least one star with the columns x and y (pixels of '
               f'the stamp), or column and row (of the detector), but it has {len(stars)} rows '
               f'and the columns {", ".join(stars.colnames)}: rename them.')
        raise ValueError(msg)
    places = np.column_stack([np.asarray(stars[name], dtype=float) for name in names])
    if not np.isfinite(places).all():
        raise ValueError(f'The places of stars must be finite, but some of {" and ".join(names)} '
                         'are not: leave these stars out.')
    if names == ('column', 'row'):
        return places, [None] * len(places)
    if 'tpf' not in stars.colnames and len(stamps) > 1:
        raise ValueError(f'Stars with x and y need a column tpf, the number of their file from 0, '
                         f'as there are {len(stamps)} files: add it, or pass column and row.')
    homes = [int(home) for home in stars['tpf']] if 'tpf' in stars.colnames else [0] * len(places)
    if not all(0 <= home < len(stamps) for home in homes):
        raise ValueError(f'The column tpf must have numbers of files, 0 to {len(stamps) - 1}, but '
                         f'they are {min(homes)} to {max(homes)}: correct them.')
    return places + [stamps[home].corner for home in homes], homes


def _require_inside(number, place, stamps):
    """Raise unless a star is in one of some stamps."""
    if not any(stamp.has(*place) for stamp in stamps):
        where = (f'not in one of {stamps[0].name}' if len(stamps) == 1
                 else f'in none of the {len(stamps)} stamps')
        msg = (f'Each star must be in a pixel of its stamp, but star {number} at column '
               f'{place[0]:.2f}, row {place[1]:.2f} is {where}: leave it out, or '
               'correct its place (counted from 0 for x and y).')
        raise ValueError(msg)


def _in_stamp(k, stamps, places, homes):
    """Return the stars in or near one stamp that may be seen in it."""
    stamp = stamps[k]
    seen = [number for number, (place, home) in enumerate(zip(places, homes))
            if (home in (None, k) or _overlap(stamp, stamps[home]))
            and (stamp.has(*place) or stamp.distance(*place) < MARGIN)]
    expected = places[seen].reshape(-1, 2)
    for i, place in enumerate(expected):
        near = np.hypot(*(expected[:i] - place).T) < SAME
        if near.any():
            first = seen[int(np.argmax(near))]
            msg = (f'Stars must be at different places, but stars {first} and {seen[i]} are both '
                   f'at column {place[0]:.2f}, row {place[1]:.2f} of '
                   f'{stamp.name}: pass each file and each star once.')
            raise ValueError(msg)
    is_fitted = np.array([stamp.has(*place) for place in expected], dtype=bool)
    return StarFits(np.array(seen, dtype=int), is_fitted, expected,
                    expected + stamp.motion[:, np.newaxis], np.zeros((stamp.n_images, len(seen))),
                    np.zeros(stamp.n_images))


def _overlap(stamp, other):
    """Say whether two stamps were observed at the same time."""
    return stamp.span[0] <= other.span[1] and other.span[0] <= stamp.span[1]


def hold_at_home(stamps, stars):
    """Give stars beside a stamp the place and flux that they have where they are inside."""
    known = {}
    for k, (stamp, fits) in enumerate(zip(stamps, stars)):
        for j in np.flatnonzero(fits.is_fitted):
            place = (fits.places[:, j] - stamp.motion).mean(axis=0)
            known.setdefault(fits.numbers[j], []).append(
                (k, place, fits.fluxes[:, j].mean() / stamp.exposure))
    for stamp, fits in zip(stamps, stars):
        for j in np.flatnonzero(~fits.is_fitted):
            homes = known[fits.numbers[j]]
            # A star varies: what it is at the same time is best.
            _, place, rate = next((home for home in homes if _overlap(stamp, stamps[home[0]])),
                                  homes[0])
            fits.places[:, j] = place + stamp.motion
            fits.fluxes[:, j] = rate * stamp.exposure
