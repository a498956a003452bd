# Licensed under a 3-clause BSD style license - see LICENSE
"""The arguments of the guidance, checked once: counts, places, boxes."""

import astropy.units as u
import numpy as np
from astropy.nddata import NDData

from .._validation import (
    as_float_array,
    below_read_noise,
    require_finite,
    require_not_negative,
)
from .information import Surroundings

__all__ = ['as_place', 'as_surroundings', 'read_counts', 'require_inside']


def read_counts(data, mask, background, read_variance):
    """Return electrons (ny, nx), which of them are used, and the known background or None.

    Raises
    ------
    TypeError
        If the data are not plain real numbers.
    ValueError
        If shapes differ, electrons or the background are negative, or nothing is left.
    """
    values_in = _in_electrons(data, 'data')
    values = np.ma.getdata(values_in)
    if np.iscomplexobj(values) or np.asarray(values).dtype.kind not in 'biuf':
        raise TypeError('data must be an array of real numbers, but it is '
                        f'{np.asarray(values).dtype}: convert it.')
    masked, values = np.ma.getmaskarray(values_in), np.array(values, dtype=float)
    if values.ndim != 2 or min(values.shape) < 3:
        raise ValueError(f'data must be one image of at least 3 x 3 pixels, but its shape is '
                         f'{values.shape}: pass images one by one.')
    masked = masked | ~np.isfinite(values)
    if mask is not None:
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != values.shape:
            raise ValueError(f'mask must have the shape of the data, {values.shape}, but its '
                             f'shape is {mask.shape}: pass one value per pixel.')
        masked = masked | mask
    if masked.all():
        raise ValueError(f'An image with pixels that count is needed, but all {masked.size} are '
                         'masked or not finite: pass another.')
    values[masked] = 0.0
    bad = below_read_noise(values, read_variance)
    if bad.any():
        raise ValueError(f'Electrons must be >= 0 up to read noise, but {bad.sum()} of {bad.size} '
                         f'pixels are not (minimum {values.min():.6g}): add the background that '
                         'was subtracted and pass it as background=, or pass read_variance=.')
    if background is not None:
        background = as_float_array(_in_electrons(background, 'background'), 'background')
        if background.shape not in ((), values.shape):
            raise ValueError(f'background must be a number or have the shape of the data, '
                             f'{values.shape}, but its shape is {background.shape}: pass one.')
        background = np.where(masked, 0.0, background) if background.ndim else background
        require_finite(background, 'background', 'mask the pixels without one')
        require_not_negative(background, 'background', 'pass the level that the data contain')
    return values, ~masked, background


def _in_electrons(values, name):
    """Return numbers or a masked array of Quantity or NDData in electrons; raise for others."""
    unit, plain = getattr(values, 'unit', None), values
    if isinstance(values, NDData):
        plain = np.ma.masked_array(values.data, values.mask if values.mask is not None else False)
    elif unit is not None:
        plain = values.value
    if unit not in (None, u.electron, u.ph, u.dimensionless_unscaled):
        raise TypeError(f'{name} must be electrons, but the unit is {unit}: multiply with the '
                        'gain.')
    return plain


def as_place(value, name):
    """Return x and y as an array, None if there are none; raise unless they are two numbers."""
    if value is None:
        return None
    place = as_float_array(value, name)
    if place.shape != (2,) or not np.isfinite(place).all():
        raise ValueError(f'{name} must be two finite numbers (x, y), but it is {value!r}: pass a '
                         'position in pixels.')
    return place


def as_surroundings(mask, position):
    """Return the `Surroundings` of a star, None where no position is given; raise for others."""
    if mask is None and position is None:
        return None
    if mask is None or position is None:
        raise ValueError('mask and position must be given together, but one of them is missing: '
                         'pass the pixels to leave out, and where in them the star is.')
    mask, (x, y) = np.asarray(mask, dtype=bool), as_place(position, 'position').tolist()
    if mask.ndim != 2 or mask.all():
        raise ValueError('mask must be an image with pixels that are not masked, but '
                         f'{mask.sum()} of {mask.shape} pixels are: pass another.')
    return Surroundings(~mask, x, y)


def require_inside(near, shape):
    """Raise unless a place, if there is one, is in an image."""
    if near is not None and not all(-0.5 <= place <= size - 0.5
                                    for place, size in zip(near, shape[::-1])):
        raise ValueError(f'near must be in the image of {shape[1]} x {shape[0]} pixels, but it is '
                         f'({near[0]:g}, {near[1]:g}): pass x and y, counted from 0.')
