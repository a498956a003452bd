# Licensed under a 3-clause BSD style license - see LICENSE
"""What light of neighbours that a fit does not know of does to the flux of a star."""

import numpy as np

from ..stamps import fit_stamps

__all__ = ['bias_by_neighbours']

# Places in the pixel, along each axis, over which a bias is averaged.
N_PLACES = 2


def bias_by_neighbours(star, flux, background, read_variance, sides, neighbours, *,
                       background_known, position_known, around=None):
    """Return by how much neighbours raise the fitted flux in boxes, (n,).

    The expected counts are fitted: what comes out is the bias, however large.

    Parameters
    ----------
    star : Star
    flux, background, read_variance : float
        Of the star, in electrons.
    sides : ndarray of int, shape (n,)
        Odd sides of the boxes.
    neighbours : ndarray, shape (m, 3)
        dx, dy and flux of each.
    background_known, position_known : bool
    around : Surroundings, optional
        The place of the star, and which pixels there are; by default all.
    """
    half, unit = int(max(sides)) // 2, star.unit
    offset = (np.arange(N_PLACES) + 0.5) / N_PLACES - 0.5
    x_0, y_0 = (grid.reshape(-1, 1, 1) for grid in (
        np.meshgrid(offset, offset) if around is None else around.offset))
    x, y = (grid[np.newaxis] for grid in np.meshgrid(*[np.arange(-half, half + 1.0)] * 2))
    mean = background + sum(
        (strength * star.image(x, y, x_0 + dx, y_0 + dy) for dx, dy, strength in neighbours),
        flux * star.image(x, y, x_0, y_0))
    mean = np.maximum(mean, 0.0)
    if around is not None:
        mean = np.where(around.box(mean.shape[1:]), mean, np.nan)
    bias = np.empty(len(sides))
    for k, side in enumerate(sides):
        part = slice(half - side // 2, half + side // 2 + 1)
        start = {unit.x: x_0.ravel() + side // 2, unit.y: y_0.ravel() + side // 2}
        fits = fit_stamps(
            mean[:, part, part], star.model, read_variance=read_variance,
            background=background if background_known else 'fit', init=start,
            fixed=[*unit.shape_names, *(start if position_known else ())],
            bounds={name: (value - 0.5 * side, value + 0.5 * side)
                    for name, value in start.items()},
            origin=star.origin_of(side) if unit.is_grid else None)
        found = fits.params[:, fits.param_names.index(unit.scale)] * star.integral
        bias[k] = np.mean(found) - flux if np.isfinite(found).all() else np.inf
    return bias
