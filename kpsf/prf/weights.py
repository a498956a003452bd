# Licensed under a 3-clause BSD style license - see LICENSE
"""Weights that interpolate between the detector positions of a PRF calibration."""

import numpy as np

__all__ = ['barycentric_weights', 'bilinear_weights', 'clamp_position', 'find_centre',
           'inverse_distance_weights', 'missing_positions', 'nearest_weights']

# How far corners may be from a rectangle, as a part of its size.
CORNER_TOLERANCE = 0.01


def clamp_position(columns, rows, column, row):
    """Move a position into the box that some positions span.

    Parameters
    ----------
    columns, rows : ndarray, shape (k,)
        Positions.
    column, row : float
        Position to move.

    Returns
    -------
    column, row : float
        The nearest position in the box; unchanged inside.
    """
    return (float(np.clip(column, columns.min(), columns.max())),
            float(np.clip(row, rows.min(), rows.max())))


def find_centre(columns, rows):
    """Find which of five positions is no corner of the box that they span.

    Parameters
    ----------
    columns, rows : ndarray, shape (5,)
        Positions in any order: four corners of a rectangle and one inside.

    Returns
    -------
    int
        Index of the one inside.

    Raises
    ------
    ValueError
        If there are not five positions or if they lie in another way.
    """
    if columns.shape == rows.shape == (5,):
        is_corner = _near_an_end(columns) & _near_an_end(rows)
        ends = {(column, row) for column, row
                in zip(columns[is_corner] > columns.mean(), rows[is_corner] > rows.mean())}
        if np.count_nonzero(is_corner) == 4 and len(ends) == 4:
            return int(np.argmin(is_corner))
    found = ', '.join(f'({column:g}, {row:g})' for column, row in zip(columns, rows))
    msg = ('Barycentric interpolation needs five positions, four corners of a rectangle and one '
           f'inside, but found {found}: use another interpolation, or other positions.')
    raise ValueError(msg)


def _near_an_end(values):
    """Say which values (k,) are next to the smallest or the largest one."""
    distance = np.minimum(values - values.min(), values.max() - values)
    return distance <= CORNER_TOLERANCE * np.ptp(values)


def barycentric_weights(columns, rows, column, row):
    """Interpolate linearly in the triangles between a centre and four corners.

    Each side of the box and the centre make a triangle; in it, the weights
    are the only ones that reproduce a linear field. This is how the
    mission's own pipeline does it. Outside of the box the nearest position in
    it counts.

    Parameters
    ----------
    columns, rows : ndarray, shape (5,)
        Positions in any order: four corners of a rectangle and one inside.
    column, row : float
        Where the weights are wanted.

    Returns
    -------
    ndarray, shape (5,)
        Weights, >= 0 and with the sum 1; zero for two of the positions.

    Raises
    ------
    ValueError
        If the positions lie in another way.
    """
    columns, rows = np.asarray(columns, float), np.asarray(rows, float)
    centre = find_centre(columns, rows)
    column, row = clamp_position(columns, rows, column, row)
    x, y = columns - columns[centre], rows - rows[centre]
    point = column - columns[centre], row - rows[centre]
    corners = np.delete(np.arange(5), centre)
    corners = corners[np.argsort(np.arctan2(y[corners], x[corners]))]
    best = np.full(3, -np.inf)
    for first, second in zip(corners, np.roll(corners, -1)):
        a, b = (x[first], y[first]), (x[second], y[second])
        area = _cross(a, b)
        if area <= 0:
            continue
        along = _cross(point, b) / area, _cross(a, point) / area
        coordinates = np.array([*along, 1.0 - sum(along)])
        if coordinates.min() > best.min():
            best, triangle = coordinates, [first, second, centre]
    weights = np.zeros(5)
    # Rounding, and corners that are not quite a rectangle, may leave a little below zero.
    weights[triangle] = np.maximum(best, 0.0) / np.maximum(best, 0.0).sum()
    return weights


def _cross(a, b):
    """Return the cross product of two vectors in the plane."""
    return a[0] * b[1] - a[1] * b[0]


def bilinear_weights(columns, rows, column, row):
    """Interpolate bilinearly in the cells of a rectangular grid of positions.

    Outside of the grid the nearest position in it counts.

    Parameters
    ----------
    columns, rows : ndarray, shape (k,)
        Positions in any order: all nodes of a rectangular grid, which may be
        uneven and may have a single column or row.
    column, row : float
        Where the weights are wanted.

    Returns
    -------
    ndarray, shape (k,)
        Weights, >= 0 and with the sum 1; zero for all but the cell's corners.

    Raises
    ------
    ValueError
        If the positions are no full grid.
    """
    columns, rows = np.asarray(columns, float), np.asarray(rows, float)
    missing = missing_positions(columns, rows)
    if missing or len(set(zip(columns, rows))) < columns.size:
        found = (f'{len(missing)} nodes are missing' if missing
                 else 'some are there more than once')
        msg = ('Bilinear interpolation needs each node of a rectangular grid of positions once, '
               f'but {found}: pass all positions.')
        raise ValueError(msg)
    return _along_axis(columns, column) * _along_axis(rows, row)


def missing_positions(columns, rows):
    """Return the nodes that positions lack to be a full rectangular grid.

    Parameters
    ----------
    columns, rows : ndarray, shape (k,)
        Positions.

    Returns
    -------
    list of tuple
        Column and row of each missing node.
    """
    there = set(zip(columns.tolist(), rows.tolist()))
    return [(column, row) for row in np.unique(rows).tolist()
            for column in np.unique(columns).tolist() if (column, row) not in there]


def _along_axis(nodes, value):
    """Return the factor (k,) that one axis contributes to bilinear weights."""
    grid = np.unique(nodes)
    if grid.size == 1:
        return np.ones_like(nodes)
    cell = np.clip(np.searchsorted(grid, value, side='right') - 1, 0, grid.size - 2)
    lower, upper = grid[cell], grid[cell + 1]
    fraction = np.clip((value - lower) / (upper - lower), 0.0, 1.0)
    return np.where(nodes == lower, 1.0 - fraction, np.where(nodes == upper, fraction, 0.0))


def inverse_distance_weights(columns, rows, column, row):
    """Weight all positions by the inverse of their distance.

    For comparison with old work: a linear change over the detector is not
    reproduced, because far positions count everywhere.

    Parameters
    ----------
    columns, rows : ndarray, shape (k,)
        Positions.
    column, row : float
        Where the weights are wanted, not moved into the box.

    Returns
    -------
    ndarray, shape (k,)
        Weights, >= 0 and with the sum 1.
    """
    distance = np.hypot(np.asarray(columns) - column, np.asarray(rows) - row)
    if not distance.all():
        return (distance == 0) / np.count_nonzero(distance == 0)
    # Relative to the nearest one, so that nothing overflows right beside a position.
    closeness = distance.min() / distance
    return closeness / closeness.sum()


def nearest_weights(columns, rows, column, row):
    """Give all weight to the nearest position, to the first of several.

    Parameters
    ----------
    columns, rows : ndarray, shape (k,)
        Positions.
    column, row : float
        Where the weights are wanted.

    Returns
    -------
    ndarray, shape (k,)
        One 1, else 0.
    """
    distance = np.hypot(np.asarray(columns) - column, np.asarray(rows) - row)
    weights = np.zeros(distance.shape)
    weights[np.argmin(distance)] = 1.0
    return weights
