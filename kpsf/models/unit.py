# Licensed under a 3-clause BSD style license - see LICENSE
"""`UnitPSF`: any model of a star as a function of offsets, at a flux of 1."""

from functools import cached_property

import numpy as np
from astropy.modeling import Model

from .names import position_names, scale_name
from .tabulated import TabulatedPRF

__all__ = ['UnitPSF']

# Steps of the grid on which a core is measured, in its width, and its half width in the same.
_FINENESS, _REACH = 24, 1.5
# Distances in pixels at which the half maximum is looked for.
_RADII = np.geomspace(0.02, 2000.0, 240)


class UnitPSF:
    """A star under a PSF, with the scale (flux or amplitude) 1, at offsets from its position.

    Parameters
    ----------
    model : `~astropy.modeling.Model`
        The PSF: two inputs, one output, with a position and a flux or
        amplitude. Its other parameters are taken as they are.
    place : (float, float), optional
        Where on the detector the star is, for models that change over it. By
        default the middle of what the model knows.

    Attributes
    ----------
    model : `~astropy.modeling.Model`
    scale, x, y : str
        Names of its parameters.
    images : ndarray, shape (n, ny, nx), or None
        The samples of a model that is made of images: one, or one for each
        place of a grid.
    steps : (int, int)
        Samples per pixel along x and y; 1 for models without images.
    origin : (float, float)
        x and y of the star among the samples.

    Raises
    ------
    TypeError
        If it is no model.
    ValueError
        If it is a set of models, or has no position, flux or amplitude.
    """

    def __init__(self, model, place=None):
        _require_psf(model)
        self.model, self.scale = model, scale_name(model)
        self.x, self.y = position_names(model)
        self.images, self.steps, self.origin = _samples(model)
        self.place = _middle(model) if place is None else tuple(map(float, place))
        # Arrays, as astropy passes them: some models change theirs.
        self._params = [np.array(np.ravel(getattr(model, name).value)[:1], dtype=float)
                        for name in model.param_names]
        self._params[model.param_names.index(self.scale)] = np.ones(1)

    def __call__(self, x, y, x_0=0.0, y_0=0.0):
        """Return the values at x and y for a star at x_0, y_0, all counted from ``place``.

        Everything broadcasts; the result has the broadcast shape.
        """
        x, y, x_0, y_0 = np.broadcast_arrays(x, y, x_0, y_0)
        params, names = list(self._params), self.model.param_names
        # Only what differs from the place moves the model over the detector.
        params[names.index(self.x)], params[names.index(self.y)] = (
            np.array([middle]) for middle in self.place)
        # Some models take no more than two axes.
        values = self.model.evaluate(((x - x_0) + self.place[0]).ravel(),
                                     ((y - y_0) + self.place[1]).ravel(), *params)
        values = np.asarray(getattr(values, 'value', values), dtype=float)
        return np.broadcast_to(values.ravel(), x.size).reshape(x.shape)

    @property
    def shape_names(self):
        """Return the names of the parameters besides scale and position."""
        return [name for name in self.model.param_names
                if name not in (self.scale, self.x, self.y)]

    @property
    def is_grid(self):
        """Say whether the model changes over the detector."""
        return self.images is not None and len(self.images) > 1

    @property
    def is_image(self):
        """Say whether the model is made of images."""
        return self.images is not None

    @cached_property
    def peak(self):
        """Largest value of the core."""
        return float(self._core[2].max())

    @cached_property
    def fwhm(self):
        """Full width at half maximum in pixels.

        That of the circle whose area is the one in which the PSF exceeds half
        of its maximum.
        """
        x, _, values = self._core
        step = x[0, 1] - x[0, 0]
        # A pixel at the edge of the area counts by as much as it is above the half.
        excess = np.clip(0.5 + (values / values.max() - 0.5) * _FINENESS / 2.8, 0.0, 1.0)
        return float(np.sqrt(4.0 * excess.sum() / np.pi) * step)

    @cached_property
    def centroid(self):
        """Offset (x, y) in pixels of the core's centre of light from the star's position.

        The core is where the PSF exceeds half of its maximum.
        """
        x, y, values = self._core
        weights = np.where(values > 0.5 * values.max(), values, 0.0)
        return tuple(float((axis * weights).sum() / weights.sum()) for axis in (x, y))

    @cached_property
    def _core(self):
        """Offsets x, y and values on a fine grid around the peak, (n, n) each."""
        (x, y), radius = self._rough_core()
        steps = np.arange(-_REACH * _FINENESS, _REACH * _FINENESS + 1) / _FINENESS
        x, y = np.meshgrid(x + 2.0 * radius * steps, y + 2.0 * radius * steps)
        with np.errstate(all='ignore'):
            return x, y, np.nan_to_num(self(x, y))

    def _rough_core(self):
        """Return about where the peak is, and the largest distance of its half maximum."""
        if self.is_image:
            return self._core_of_samples()
        angles = np.arange(8) * (np.pi / 4)
        with np.errstate(all='ignore'):
            peak = float(self(0.0, 0.0))
            values = self(np.outer(np.cos(angles), _RADII), np.outer(np.sin(angles), _RADII))
        below = ~(values >= 0.5 * peak)
        if not peak > 0 or not below.any(axis=1).all():
            raise ValueError(
                f'A PSF must have its maximum at its position and fall to half of it, but '
                f'{type(self.model).__name__} is {peak:.6g} there where its {self.scale} is 1: '
                'correct its parameters, or pass an image of the star.')
        return (0.0, 0.0), _RADII[below.argmax(axis=1).max()]

    def _core_of_samples(self):
        """Return the place of the highest sample, and how far samples above its half are."""
        image = _nearest_image(self)
        row, column = np.unravel_index(image.argmax(), image.shape)
        rows, columns = np.nonzero(image > 0.5 * image.max())
        along_x, along_y = ((places - middle) / steps for places, middle, steps in (
            (columns, column, self.steps[0]), (rows, row, self.steps[1])))
        # Of a hot sample far away, nothing but the core is measured.
        distance = np.hypot(along_x, along_y)
        typical = max(np.sqrt(len(rows) / np.prod(self.steps) / np.pi), 1.0 / min(self.steps))
        radius = min(distance.max(), 2.0 * typical) + 0.5 / min(self.steps)
        return ((column - self.origin[0]) / self.steps[0],
                (row - self.origin[1]) / self.steps[1]), radius


def _require_psf(model):
    """Raise unless the model is a single PSF."""
    if not isinstance(model, Model):
        raise TypeError('A PSF must be an astropy model or an image, but it is '
                        f'{type(model).__name__}: pass for example '
                        'photutils.psf.CircularGaussianPRF(fwhm=2).')
    if len(model) != 1 or (model.n_inputs, model.n_outputs) != (2, 1):
        found = (f'a set of {len(model)}' if len(model) != 1 else
                 f'one of {model.n_inputs} inputs and {model.n_outputs} outputs')
        raise ValueError('A PSF must be one model of two inputs and one output, but it is '
                         f'{found}: pass another.')
    if scale_name(model) is None or None in position_names(model):
        raise ValueError('A PSF needs parameters x_0, y_0 and flux (or amplitude), or attributes '
                         'x_name, y_name and flux_name that say which they are, but the '
                         f'parameters are {", ".join(model.param_names)}: see '
                         'photutils.psf.make_psf_model.')


def _samples(model):
    """Return images (n, ny, nx) or None, samples per pixel along x and y, and the origin."""
    if isinstance(model, TabulatedPRF):
        return model.data[np.newaxis], model.table.steps, model.origin
    if type(model).__module__.startswith('photutils.'):
        from photutils import psf
        if isinstance(model, (psf.ImagePSF, psf.GriddedPSFModel)):
            images = model.data if model.data.ndim == 3 else model.data[np.newaxis]
            steps = tuple(int(factor) for factor in model.oversampling[::-1])
            return images, steps, tuple(map(float, model.origin[:2]))
    return None, (1, 1), (0.0, 0.0)


def _middle(model):
    """Return a place on the detector that the model knows, near the middle of them."""
    places = getattr(model, 'grid_xypos', None)
    if places is None:
        return 0.0, 0.0
    places = np.array(places, dtype=float)
    nearest = np.argmin(np.sum((places - places.mean(axis=0))**2, axis=1))
    return tuple(map(float, places[nearest]))


def _nearest_image(unit):
    """Return the image that is nearest to the place."""
    if len(unit.images) == 1:
        return unit.images[0]
    places = np.array(unit.model.grid_xypos, dtype=float)
    return unit.images[np.argmin(np.sum((places - unit.place)**2, axis=1))]
