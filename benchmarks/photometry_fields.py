# Licensed under a 3-clause BSD style license - see LICENSE
"""Images of simulated stars on a grid of cells, and the judge of fits to them.

A cell holds one star or one group of stars; the fitted boxes of different cells do not meet, so
that one call can fit an image of thousands. The judge knows the model by its ``evaluate`` alone.
None of this uses kpsf's code.
"""

from dataclasses import dataclass, replace

import numpy as np
from astropy.table import Table

__all__ = ['BOX', 'StarField', 'box_corner', 'distance_to_maximum', 'grow_groups', 'place_stars']

BOX = 11
SMALLEST_SEPARATION, LARGEST_SEPARATION = 2.0, 3.0
COLUMNS = {'x_0': 'x_fit', 'y_0': 'y_fit'}


@dataclass(frozen=True)
class StarField:
    """An image of stars, one or several in each square cell, and what a fit starts from.

    ``flux``, ``x``, ``y`` and their ``start_`` namesakes have the shape (n_cells, n_stars);
    ``counts`` (ny, nx) hold the background (electrons per pixel); cells go row by row.
    """

    flux: np.ndarray
    x: np.ndarray
    y: np.ndarray
    start_flux: np.ndarray
    start_x: np.ndarray
    start_y: np.ndarray
    background: float
    side: int
    n_columns: int
    counts: np.ndarray | None = None

    @property
    def n_cells(self):
        """Number of cells."""
        return len(self.flux)

    def corners(self):
        """Column and row of the first pixel of each cell, both (n_cells, 1)."""
        row, column = np.divmod(np.arange(self.n_cells)[:, None], self.n_columns)
        return column * self.side, row * self.side

    def rows(self, first, n_rows):
        """Some rows of cells as an image of their own: tools that are slow fit a part."""
        cells = slice(first * self.n_columns, (first + n_rows) * self.n_columns)
        part = {name: getattr(self, name)[cells] for name in
                ('flux', 'x', 'y', 'start_flux', 'start_x', 'start_y')}
        bottom = first * self.side
        part['y'], part['start_y'] = part['y'] - bottom, part['start_y'] - bottom
        pixels = slice(bottom, (first + n_rows) * self.side)
        return replace(self, **part, counts=self.counts[pixels, :self.n_columns * self.side])

    def init_params(self):
        """The table of starting values that photutils and kpsf take; groups are cells."""
        table = Table({'x': self.start_x.ravel(), 'y': self.start_y.ravel(),
                       'flux': self.start_flux.ravel()})
        if self.flux.shape[1] > 1:
            table['group_id'] = np.repeat(np.arange(self.n_cells) + 1, self.flux.shape[1])
        return table

    def used_pixels(self):
        """Which pixels of each cell a box of its stars holds, (n_cells, side, side)."""
        left, bottom = self.corners()
        used = np.zeros((self.n_cells, self.side, self.side), bool)
        places = np.arange(self.side)
        for star in range(self.flux.shape[1]):
            x_first = (box_corner(self.start_x) - left)[:, star, None]
            y_first = (box_corner(self.start_y) - bottom)[:, star, None]
            in_x = (places >= x_first) & (places < x_first + BOX)
            in_y = (places >= y_first) & (places < y_first + BOX)
            used |= in_y[:, :, None] & in_x[:, None, :]
        return used


def box_corner(place):
    """First pixel along one axis of the box around a place."""
    return np.ceil(place - 0.5 * BOX).astype(int)


def place_stars(offsets, flux, background, side, n_columns, rng, *, start_offset=0.1):
    """A field without counts: stars at offsets from a random place near the middles of cells.

    Parameters
    ----------
    offsets : ndarray, shape (n_cells, n_stars, 2)
        Offsets in x and y, to which every cell adds up to half a pixel.
    flux : ndarray, broadcast to (n_cells, n_stars)
        Electrons.
    background : float
        Electrons per pixel.
    side, n_columns : int
        Side of a cell in pixels, cells in a row.
    rng : `numpy.random.Generator`
        Source of places and starting values.
    start_offset : float, optional
        Standard deviation of the starting places from the true ones, per axis, in pixels; the
        starting fluxes are off by 10 %.

    Returns
    -------
    StarField
    """
    n_cells, n_stars, _ = offsets.shape
    row, column = np.divmod(np.arange(n_cells), n_columns)
    middle = np.stack([column, row], axis=1) * side + side // 2
    places = (middle + rng.uniform(-0.5, 0.5, (n_cells, 2)))[:, None] + offsets
    start = places + rng.normal(0.0, start_offset, places.shape)
    flux = np.broadcast_to(flux, (n_cells, n_stars)).astype(float)
    return StarField(flux, places[..., 0], places[..., 1],
                     flux * np.exp(rng.normal(0.0, 0.1, flux.shape)),
                     start[..., 0], start[..., 1], background, side, n_columns)


def grow_groups(n_cells, n_stars, rng, *, radius=8.0):
    """Offsets (n_cells, n_stars, 2) of crowded stars, each 2 to 3 pixels from its nearest."""
    offsets = np.zeros((n_cells, n_stars, 2))
    for group in offsets:
        n_placed = 1
        while n_placed < n_stars:
            angle, step = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(
                SMALLEST_SEPARATION, LARGEST_SEPARATION)
            place = group[rng.integers(n_placed)] + step * np.array([np.cos(angle), np.sin(angle)])
            distance = np.hypot(*(group[:n_placed] - place).T)
            if distance.min() >= SMALLEST_SEPARATION and np.hypot(*place) < radius:
                group[n_placed] = place
                n_placed += 1
        group -= 0.5 * (group.max(axis=0) + group.min(axis=0))
    return offsets


def distance_to_maximum(field, table, model, cells, *, fits_background):
    """How far answers are from the maximum of the Poisson likelihood, in standard errors.

    From each answer Fisher scoring, with derivatives of the model by central differences,
    climbs to the maximum.

    Parameters
    ----------
    field : StarField
        Image and starting values: these say which pixels belong to a fit.
    table : `~astropy.table.Table`
        Results, one row for each star, cell by cell.
    model : `~astropy.modeling.Model`
        The PSF, with the values of its fixed parameters.
    cells : iterable of int
        Cells to judge.
    fits_background : bool
        Whether a constant was fitted for each cell, or the true background was known.

    Returns
    -------
    ndarray, shape (n_cells,)
        The largest difference among the parameters of a cell; infinite if no maximum was found.
    """
    n_stars = field.flux.shape[1]
    names = [name for name in model.param_names if not model.fixed[name]]
    columns = [COLUMNS.get(name, f'{name}_fit') for name in names]
    distances = []
    for cell in cells:
        rows = table[cell * n_stars:(cell + 1) * n_stars]
        values = np.array([np.asarray(rows[column], float) for column in columns]).T
        background = float(rows['background_fit'][0]) if fits_background else field.background
        x, y = _pixels_of_cell(field, cell)
        images = _StarImages(model, names, x, y, n_stars, fits_background)
        answer = np.append(values.ravel(), background)
        distances.append(_climb(images, answer, field.counts[y, x]))
    return np.array(distances)


def _pixels_of_cell(field, cell):
    """Columns and rows of the pixels that the fit of one cell uses, each once."""
    pixels = set()
    for x, y in zip(field.start_x[cell], field.start_y[cell], strict=True):
        left, bottom = box_corner(x), box_corner(y)
        pixels.update((column, row) for row in range(bottom, bottom + BOX)
                      for column in range(left, left + BOX))
    return np.array(sorted(pixels)).T


class _StarImages:
    """Mean of the pixels as a function of the free parameters of all stars and the background."""

    def __init__(self, model, names, x, y, n_stars, fits_background):
        self.model, self.names, self.n_stars = model, names, n_stars
        self.x, self.y = x.astype(float), y.astype(float)
        self.fits_background = fits_background
        self.fixed = {name: float(getattr(model, name).value) for name in model.param_names}

    def star(self, values):
        """Image of one star, (n_pixels,)."""
        params = self.fixed | dict(zip(self.names, values, strict=True))
        # photutils' models want the parameters as arrays, as astropy hands them over.
        return self.model.evaluate(self.x, self.y, *(np.array([value])
                                                     for value in params.values()))

    def mean(self, params):
        """Mean (n_pixels,)."""
        stars = params[:-1].reshape(self.n_stars, -1)
        return sum(self.star(values) for values in stars) + params[-1]

    def jacobian(self, params):
        """Derivatives (n_params, n_pixels) by central differences."""
        columns = []
        for values in params[:-1].reshape(self.n_stars, -1):
            for index, name in enumerate(self.names):
                # Places are large numbers, of which a fraction would be no small step.
                step = 1e-4 if name in COLUMNS else 1e-4 * max(abs(values[index]), 0.1)
                shift = step * (np.arange(len(values)) == index)
                columns.append((self.star(values + shift) - self.star(values - shift))
                               / (2.0 * step))
        if self.fits_background:
            columns.append(np.ones(self.x.size))
        return np.array(columns)


def _climb(images, answer, counts, *, n_steps=200, tolerance=1e-6):
    """Largest difference between an answer and the maximum that it leads to, in sigma."""
    params, free = answer.copy(), slice(None if images.fits_background else -1)
    mean = images.mean(params)
    if not (np.isfinite(params).all() and mean.min() > 0.0):
        return np.inf
    for _ in range(n_steps):
        jacobian = images.jacobian(params)
        information = (jacobian / mean) @ jacobian.T
        scale = np.sqrt(np.diag(information))
        try:
            scaled = np.linalg.inv(information / scale / scale[:, None])
        except np.linalg.LinAlgError:
            return np.inf
        covariance = scaled / scale / scale[:, None]
        sigma = np.sqrt(np.diag(covariance))
        step = covariance @ (jacobian @ (counts / mean - 1.0))
        if not np.isfinite(step / sigma).all():
            return np.inf
        if np.max(np.abs(step) / sigma) <= tolerance:
            return np.max(np.abs(params - answer)[free] / sigma)
        full_step = np.zeros_like(params)
        full_step[free] = step
        params, mean = _improve(images, params, mean, full_step, counts)
    return np.inf


def _improve(images, params, mean, step, counts, *, n_halvings=50):
    """Take the largest fraction of a step that does not lower the likelihood, if there is one."""
    likelihood = _log_likelihood(counts, mean)
    for fraction in 0.5**np.arange(n_halvings):
        trial = params + fraction * step
        trial_mean = images.mean(trial)
        # Rounding must not stop the last step.
        if trial_mean.min() > 0.0 and (_log_likelihood(counts, trial_mean) > likelihood - 1e-9):
            return trial, trial_mean
    return params, mean


def _log_likelihood(counts, mean):
    """Return ln L but for a constant."""
    return np.sum(counts * np.log(mean) - mean)
