# Licensed under a 3-clause BSD style license - see LICENSE
"""The image of one call: pixels, which of them count, and what was subtracted."""

import warnings
from dataclasses import dataclass

import numpy as np
from astropy.nddata import NDData, StdDevUncertainty
from astropy.units import (
    Quantity,
    Unit,
    UnitConversionError,
    count,
    dimensionless_unscaled,
    electron,
    photon,
    pixel,
)
from astropy.utils.exceptions import AstropyUserWarning

from .._validation import as_float_array, no_image, require_finite, require_not_negative

__all__ = ['Image', 'read_image', 'warn_unless_counts']

# Units of which one is one electron.
_COUNTED = (dimensionless_unscaled, electron, photon, count)


@dataclass(frozen=True)
class Image:
    """Pixels as plain arrays, and their unit.

    Attributes
    ----------
    data : ndarray, shape (ny, nx)
        As the user gave them, NaN where masked.
    mask : ndarray of bool, shape (ny, nx)
        Pixels that do not count.
    error : ndarray, shape (ny, nx), or None
        The user's errors.
    subtracted : ndarray, shape () or (ny, nx)
        Background that is no longer in the data.
    unit : `~astropy.units.UnitBase` or None
        Unit of all of these.
    """

    data: np.ndarray
    mask: np.ndarray
    error: np.ndarray | None
    subtracted: np.ndarray
    unit: object

    def with_unit(self, values):
        """Return values in the unit of the data."""
        return values if self.unit is None else values << self.unit

    def without_unit(self, values, name):
        """Return values as a plain array in the unit of the data.

        Raises
        ------
        ValueError
            If they have another kind of unit, or one where the data have none.
        """
        if isinstance(values, Quantity):
            if self.unit is None:
                raise ValueError(f'{name} must be plain numbers, as the data are, but the unit is '
                                 f'{values.unit}: give the data their unit, too.')
            try:
                return values.to_value(self.unit)
            except UnitConversionError:
                raise ValueError(f'{name} must have the unit of the data, {self.unit}, but it is '
                                 f'{values.unit}: convert it.') from None
        if self.unit is not None:
            raise ValueError(f'{name} must have the unit of the data, {self.unit}, but it has '
                             'none: multiply it with the unit.')
        return values


def read_image(data, mask, error, background, gain, read_noise):
    """Check the arrays of a call and return the `Image`.

    Parameters
    ----------
    data, mask, error
        As `PoissonPSFPhotometry` is called.
    background, gain, read_noise
        Its attributes.

    Raises
    ------
    TypeError
        If the data are not real numbers.
    ValueError
        If shapes or units differ, or the background is negative or not finite.
    """
    if isinstance(data, NDData):
        if mask is not None or error is not None:
            raise ValueError('NDData bring their own mask and uncertainty, but mask or error are '
                             'given as well: set those of the NDData.')
        data, mask, error = _unpack(data)
    unit = _common_unit(data, error)
    values = _real_array(data, 'data')
    if values.ndim != 2:
        raise ValueError(f'data must be one image, a 2D array, but its shape is {values.shape}: '
                         'pass images one by one.')
    mask = _combined_mask(data, values, mask)
    if error is not None:
        error = _of_shape(_real_array(error, 'error'), 'error', values.shape)
    if mask.any():
        values = np.where(mask, np.nan, values)
    image = Image(values, mask, error, np.zeros(()), unit)
    subtracted = _subtracted(background, image, gain, read_noise)
    return Image(image.data, mask, error, subtracted, unit)


def warn_unless_counts(unit):
    """Warn if data of a unit, which may be None, are not electrons for certain."""
    if unit is None or unit in _COUNTED or unit * pixel in _COUNTED:
        return
    name = _named(unit)
    warnings.warn(f'The likelihood is that of electrons, but the data are in {name} and gain= is '
                  f'not given: pass the electrons per {name}, for rates with the exposure time '
                  'in it. It is taken to be 1; if it is not, errors and gof_z are wrong.',
                  AstropyUserWarning)


def _unpack(nddata):
    """Return data, mask and error of NDData."""
    data = nddata.data if nddata.unit is None else nddata.data << nddata.unit
    error = None
    if nddata.uncertainty is not None:
        error = nddata.uncertainty.represent_as(StdDevUncertainty).quantity
        error = error.value if nddata.unit is None else error.to(nddata.unit)
    return data, nddata.mask, error


def _common_unit(data, error):
    """Return the unit of the data; raise unless the error has the same."""
    unit = getattr(data, 'unit', None)
    error_unit = getattr(error, 'unit', None)
    if error is not None and error_unit != unit:
        raise ValueError('data and error must have the same unit, but they have '
                         f'{_named(unit)} and {_named(error_unit)}: convert one of them.')
    return None if unit is None else Unit(unit)


def _named(unit):
    """Return a unit in words."""
    return 'none' if unit is None else unit.to_string() or dimensionless_unscaled.name or '1'


def _real_array(values, name):
    """Return values as float64, without unit and mask; raise unless they are real numbers."""
    plain = np.asarray(np.ma.getdata(getattr(values, 'value', values)))
    if plain.dtype.kind not in 'biuf':
        raise TypeError(f'{name} must be an array of real numbers, but {no_image(values)}')
    return as_float_array(plain, name)


def _of_shape(values, name, shape):
    """Return an array; raise unless it has the shape of the data."""
    if values.shape != shape:
        raise ValueError(f'{name} must have the shape of the data, {shape}, but its shape is '
                         f'{values.shape}: pass one value per pixel.')
    return values


def _combined_mask(data, values, mask):
    """Return which pixels do not count: masked, or not finite, which is warned of."""
    combined = np.ma.getmaskarray(data).copy()
    if mask is not None and mask is not np.ma.nomask:
        mask = np.asarray(mask)
        if mask.dtype.kind not in 'biu':
            raise TypeError(f'mask must be an array of booleans, but it is {mask.dtype}: convert '
                            'it, True for pixels to leave out.')
        combined |= _of_shape(mask.astype(bool), 'mask', values.shape)
    bad = ~np.isfinite(values)
    if np.any(bad & ~combined):
        warnings.warn('Input data contains unmasked non-finite values (NaN or inf), which were '
                      'automatically ignored.', AstropyUserWarning)
    return combined | bad


def _subtracted(background, image, gain, read_noise):
    """Return the background that is no longer in the data, () or (ny, nx)."""
    if isinstance(background, str):
        if background == 'fit':
            return np.zeros(())
        if image.error is None:
            raise ValueError("background='error' needs error=, the standard deviation of the "
                             'background alone, but there is none: pass it.')
        # Electrons whose variance is their mean and that of the read noise.
        variance = (gain * image.error)**2 - read_noise**2
        return np.where(image.mask, 0.0, np.maximum(variance, 0.0) / gain)
    if callable(background):
        y, x = np.mgrid[:image.data.shape[0], :image.data.shape[1]]
        background = background(x, y)
    is_number = np.ndim(background) == 0
    # Nothing needs no unit.
    if not is_number or hasattr(background, 'unit') or np.any(background):
        background = image.without_unit(background, 'The background')
    values = as_float_array(background, 'The background')
    if not is_number:
        values = np.where(image.mask, 0.0, _of_shape(values, 'The background', image.data.shape))
    require_finite(values, 'The background', 'mask the pixels without one')
    require_not_negative(values, 'The background', 'pass the level that was subtracted from the '
                                                   'data, not its difference from another')
    return values
