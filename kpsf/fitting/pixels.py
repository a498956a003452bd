# Licensed under a 3-clause BSD style license - see LICENSE
"""The pixels of one fit, and the background that was subtracted from them."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from astropy.modeling.fitting import NonFiniteValueError, _convert_input
from astropy.utils.exceptions import AstropyUserWarning

from .._validation import as_float_array, require_finite, require_not_negative

__all__ = ['Pixels', 'look_up_background', 'select_pixels']


@dataclass(frozen=True)
class Pixels:
    """The pixels of one data set that are in its likelihood.

    Attributes
    ----------
    inputs : tuple of ndarray
        Coordinates, one or two arrays; of any shape with n elements.
    values : ndarray, shape (n,)
        The data.
    weights : ndarray, shape (n,)
        Their weights.
    used : ndarray of bool, shape (n_all,)
        Which of all pixels these are.
    shape : tuple of int
        Shape of the data, n_all pixels.
    """

    inputs: tuple
    values: np.ndarray
    weights: np.ndarray
    used: np.ndarray
    shape: tuple

    def distinct(self):
        """Return the pixels without repetitions, and which of them each pixel is, (n,).

        photutils joins the boxes around the stars of a group: what overlaps
        comes twice, but was measured once.
        """
        x, y = (np.ravel(array) for array in self.inputs)
        # A pair as one number is sorted ten times faster than columns of an array.
        _, first, copies = np.unique(x + 1j * y, return_index=True, return_inverse=True)
        used = np.zeros_like(self.used)
        used[np.flatnonzero(self.used)[first]] = True
        # In the order of the data again, as everything that is looked up for them.
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        first = first[order]
        once = replace(self, inputs=(x[first], y[first]),
                       values=self.values[first], weights=self.weights[first], used=used)
        return once, place[copies]


def select_pixels(x, y, z, weights, filter_non_finite):
    """Return the `Pixels` that have weight and finite data.

    The arguments are those of the fitter.

    Raises
    ------
    NonFiniteValueError
        If pixels with weight are not finite, or their weight is infinite, and
        they are not to be filtered.
    ValueError
        If no pixel is left or shapes differ.
    """
    *inputs, data = _convert_input(x, y, z)
    used = ~np.ravel(np.ma.getmaskarray(data))
    inputs = [np.ma.getdata(array) for array in inputs]
    data = np.ma.getdata(data)
    scale = np.ones(data.shape) if weights is None else _check_weights(weights, data.shape)
    finite = np.ravel(np.logical_and.reduce([np.isfinite(array) for array in (*inputs, data)]))
    if not filter_non_finite:
        _check_infinite(np.ravel(np.isposinf(scale)) & used & finite)
    with np.errstate(invalid='ignore'):
        used &= np.ravel(np.isfinite(scale) & (scale > 0))
    n_bad = np.count_nonzero(used & ~finite)
    if n_bad and not filter_non_finite:
        raise NonFiniteValueError(
            'Objective function has encountered a non-finite value: data and coordinates must be '
            f'finite, but {n_bad} of {data.size} pixels are not; give these pixels weight 0, or '
            'pass filter_non_finite=True.')
    if filter_non_finite and not np.all(finite & np.ravel(np.isfinite(scale))):
        warnings.warn('Non-Finite input data has been removed by the fitter.',
                      AstropyUserWarning)
    used &= finite
    if not used.any():
        raise ValueError('All input data or weights are non-finite or weights are not > 0, but '
                         f'at least one of the {data.size} pixels must count: check the data and '
                         'the weights.')
    if not used.all():
        inputs = [array.ravel()[used] for array in inputs]
    return Pixels(tuple(inputs), data.ravel()[used], scale.ravel()[used], used, data.shape)


def look_up_background(background, pixels):
    """Return the known background of each pixel.

    Parameters
    ----------
    background : float, ndarray or callable
        As the fitter takes it, but not ``'fit'``.
    pixels : Pixels
        The pixels of the fit.

    Returns
    -------
    float or ndarray, shape (n,)
        The background in the unit of the data.

    Raises
    ------
    ValueError
        If it does not fit the data, or is negative or not finite.
    """
    if callable(background):
        values = as_float_array(background(*pixels.inputs), 'The background')
        if values.size not in {1, pixels.values.size}:
            raise ValueError('A background function must return one value per pixel, but it '
                             f'returned {values.size} for {pixels.values.size}: check it.')
        values = np.broadcast_to(values.ravel(), pixels.values.shape)
    elif np.ndim(background) == 0:
        values = np.asarray(background)
    elif background.shape == pixels.shape:
        values = background.ravel()[pixels.used]
    else:
        values = _look_up_map(background, pixels)
    require_finite(values, 'The background', 'give the pixels without one weight 0')
    require_not_negative(values, 'The background', 'pass the level that was subtracted from the '
                                                   'data, not its difference from another')
    return values


def _look_up_map(background, pixels):
    """Return the values of a map at the coordinates of the pixels, shape (n,)."""
    if background.ndim != 2 or len(pixels.inputs) != 2:
        raise ValueError('A background array must have the shape of the data, '
                         f'{pixels.shape}, but it has {background.shape}: pass one value per '
                         'pixel, a number or a function.')
    x, y = (array.ravel() for array in pixels.inputs)
    ny, nx = background.shape
    inside = (x >= 0) & (x <= nx - 1) & (y >= 0) & (y <= ny - 1)
    if not np.all(inside & (x == np.round(x)) & (y == np.round(y))):
        raise ValueError(
            f'A background map of shape {background.shape} is looked up at pixel indices, but the '
            f'coordinates are not integers within it (x from {x.min():.6g} to {x.max():.6g}, y '
            f'from {y.min():.6g} to {y.max():.6g}): pass an array of the shape of the data, '
            f'{pixels.shape}, or a function.')
    return background[y.astype(int), x.astype(int)]


def _check_weights(weights, shape):
    """Return the weights as an array of the shape of the data."""
    weights = as_float_array(weights, 'weights')
    try:
        return np.broadcast_to(weights, shape)
    except ValueError:
        raise ValueError(f'weights must have the shape of the data, {shape}, but they have '
                         f'{weights.shape}: pass one weight per pixel.') from None


def _check_infinite(infinite):
    """Raise if pixels that could count, (n_all,), have an infinite weight.

    One over the root of the counts is infinite where there are none, and a
    fit without the empty pixels is too high.
    """
    n_infinite = np.count_nonzero(infinite)
    if n_infinite:
        raise NonFiniteValueError(
            f'weights must be finite, but {n_infinite} of {infinite.size} pixels have an infinite '
            'weight, as of an error of 0: the likelihood needs no weights and counts empty '
            'pixels, leave weights= away; a weight of 0 leaves a pixel out.')
