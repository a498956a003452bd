# Licensed under a 3-clause BSD style license - see LICENSE
"""Checks shared by the public functions, so that each error is worded once."""

import operator
from collections.abc import Sequence
from os import PathLike

import numpy as np

__all__ = ['DEEPEST_SIGMA', 'as_box', 'as_float_array', 'below_read_noise', 'instead_of',
           'is_array_like', 'no_image', 'no_model', 'require_broadcast', 'require_choice',
           'require_finite', 'require_known_names', 'require_not_negative', 'require_number',
           'require_positive_integer', 'require_proper_prior', 'require_room', 'unpack_pair']


DEEPEST_SIGMA = 8.0


def as_float_array(values, name):
    """Return values as a float64 ndarray; raise if they are no numbers or carry a mask."""
    if np.ma.is_masked(values):
        raise TypeError(f'{name} must be a plain array, but {np.ma.count_masked(values)} of '
                        f'{np.size(values)} pixels are masked: pass only the others.')
    error = None
    if is_array_like(values):
        try:
            return np.asarray(values, dtype=float)
        except (TypeError, ValueError) as cause:
            error = cause
    raise TypeError(f'{name} must be an array of numbers, but it is {_describe(values)}: '
                    f'{instead_of(values)}.') from error


def is_array_like(values):
    """Tell whether NumPy may look for numbers in an object.

    It would index any object that has items, and in those of others, such as
    lightkurve's files, of which each item is another file, never come to an end.
    """
    if isinstance(values, (str, bytes)) or any(hasattr(values, name) for name in (
            '__array__', '__array_interface__', '__array_struct__', '__buffer__')):
        return True
    if isinstance(values, Sequence):
        return not len(values) or is_array_like(values[0])
    return not (hasattr(values, '__getitem__') and hasattr(values, '__len__'))


def instead_of(values):
    """Say what to pass instead of an object that is no array of counts."""
    if hasattr(values, 'electrons'):
        return 'pass its electrons'
    if hasattr(values, 'flux'):
        return ('pass its flux as a plain array in electrons, or a target pixel file to '
                'extract_light_curve')
    return 'convert it first'


def _describe(values):
    """Say in a few words what a wrong argument is."""
    dtype = getattr(values, 'dtype', None)
    return type(values).__name__ if dtype is None else f'{type(values).__name__} of {dtype}'


def as_box(fit_shape, least=1):
    """Return the height and width of a fit box; raise unless they are odd and not too small."""
    sides = np.asarray(fit_shape)
    if sides.shape not in ((), (1,), (2,)) or sides.dtype.kind not in 'iu' or np.any(
            (sides < least) | (sides % 2 == 0)):
        raise ValueError(f'fit_shape must be an odd whole number of pixels, at least {least}, or '
                         f'two of them (ny, nx), but it is {fit_shape!r}: pass 11, for example.')
    return tuple(np.broadcast_to(sides, 2).tolist())


def no_model(found, remedy):
    """Say what is there in the place of a model, and what to do: `remedy` where nothing is better.

    An image of a PSF is what is passed most often.
    """
    if isinstance(found, type):
        return f'it is the class {found.__name__}: create one, with its starting values, {remedy}.'
    if np.ndim(found) in (2, 3):
        return (f'it is an image of shape {np.shape(found)}: make a model of it, '
                'photutils.psf.ImagePSF(image, oversampling=1) or kpsf.TabulatedPRF(image, '
                'spacing=1), with its samples per pixel or their spacing in pixels.')
    words = f'the string {found!r}' if isinstance(found, str) else type(found).__name__
    return f'it is {words}: {remedy}.'


def no_image(found):
    """Say what is there in the place of an array of real numbers, and what to do."""
    if isinstance(found, (str, PathLike)):
        return f'it is the path {str(found)!r}: pass what astropy.io.fits.getdata reads there.'
    if hasattr(found, 'header') and hasattr(found, 'data'):
        return f'it is the {type(found).__name__} of a FITS file: pass its data, hdu.data.'
    if hasattr(found, 'fileinfo'):
        return 'it is a whole FITS file: pass the data of an extension, hdulist[0].data.'
    if np.iscomplexobj(found):
        return 'they are complex: pass the part that is meant.'
    return f'it is {_describe(found)}: convert it first.'


def require_finite(values, name, remedy):
    """Raise if any of the values is NaN or infinite."""
    n_bad = values.size - np.count_nonzero(np.isfinite(values))
    if n_bad:
        raise ValueError(f'{name} must be finite, but {n_bad} of {values.size} values are NaN or '
                         f'infinite: {remedy}.')


def require_not_negative(values, name, remedy):
    """Raise if any of the values is below zero."""
    n_bad = np.count_nonzero(values < 0)
    if n_bad:
        raise ValueError(f'{name} must be >= 0, but {n_bad} of {values.size} values are negative '
                         f'(minimum {values.min():.6g}): {remedy}.')


def require_broadcast(first, second, names, remedy):
    """Return the common shape of two arrays; raise if there is none."""
    try:
        return np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        raise ValueError(f'{names[0]} and {names[1]} must have shapes that broadcast, but they '
                         f'are {first.shape} and {second.shape}: {remedy}.') from None


def below_read_noise(counts, read_variance):
    """Say which counts lie further below zero than read noise takes them.

    Something was subtracted from such a pixel: they are not Poisson any more.

    Parameters
    ----------
    counts : ndarray
        Electrons with the background in.
    read_variance : float or ndarray
        Variance of the read noise in electrons squared.

    Returns
    -------
    ndarray of bool
        True for pixels below -8 standard deviations.
    """
    with np.errstate(invalid='ignore'):
        return counts < -DEEPEST_SIGMA * np.sqrt(read_variance)


def require_room(lower, upper, name):
    """Raise unless every lower bound is below the upper one."""
    if not np.all(np.less(lower, upper)):
        raise ValueError(f'The lower bound of {name} must be below the upper one, but they are '
                         f'{lower} and {upper}: widen them, or fix the parameter.')


def require_proper_prior(mean, stddev, name):
    """Raise unless a Gaussian prior has finite means and finite, positive widths."""
    if not (np.all(np.isfinite(mean) & np.isfinite(stddev)) and np.all(np.greater(stddev, 0))):
        raise ValueError(f'The prior of {name} must have a finite mean and a finite stddev > 0, '
                         f'but it is ({mean}, {stddev}): leave the parameter out of priors where '
                         'nothing is known.')


def unpack_pair(pair, what):
    """Return the two elements of a pair; ``what`` it is serves the error."""
    try:
        first, second = pair
    except (TypeError, ValueError):
        raise TypeError(f'{what} must be a pair, but it is {pair!r}: pass two values.') from None
    return first, second


def require_choice(value, choices, name):
    """Raise unless the value is one of the choices."""
    if value not in choices:
        listed = ', '.join(repr(choice) for choice in choices)
        raise ValueError(f'{name} must be one of {listed}, but it is {value!r}: choose one.')


def require_known_names(names, known, argument):
    """Raise if any of the names is not among the known ones."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f'{argument} must name parameters among {", ".join(known)}, but it '
                         f'names {", ".join(map(str, unknown))}: correct the spelling.')


def require_positive_integer(value, name):
    """Return the value as an int; raise unless it is a whole number of at least 1."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f'{name} must be a whole number of at least 1, but it is {value!r}: '
                         'pass one.')
    return number


def require_number(value, name, remedy, *, positive=False):
    """Return an option as a float; raise unless it is a plain finite number >= 0, or > 0."""
    if hasattr(value, 'unit'):
        raise TypeError(f'{name} must be a plain number, but it has the unit {value.unit}: '
                        f'{remedy}.')
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f'{name} must be a number, but it is {value!r}: {remedy}.') from None
    if not (np.isfinite(number) and (number > 0 or (number == 0 and not positive))):
        raise ValueError(f'{name} must be a finite number {">" if positive else ">="} 0, but it '
                         f'is {number}: {remedy}.')
    return number
