# Licensed under a 3-clause BSD style license - see LICENSE
"""The arguments of `fit_stamps`, checked once and turned into a `Problem`."""

from collections.abc import Iterable, Mapping

import numpy as np
from astropy.modeling import Model

from .._kernels.solver import Constraints
from .._validation import (
    DEEPEST_SIGMA,
    as_float_array,
    below_read_noise,
    instead_of,
    is_array_like,
    no_model,
    require_finite,
    require_known_names,
    require_not_negative,
    require_proper_prior,
    require_room,
    unpack_pair,
)
from .kernels import kernel_of
from .problem import Problem

__all__ = ['check_model', 'pose_problem']


def pose_problem(counts, model, *, background, known_background, read_variance, mask,
                 init, fixed, shared, bounds, priors, origin):
    """Check the arguments of `fit_stamps` and return the `Problem`.

    Raises
    ------
    TypeError, ValueError
        As documented there.
    """
    counts, mask = _check_counts(counts, mask)
    check_model(model)
    fit_background, offset = _check_background(background, known_background, counts.shape)
    read_variance = per_pixel(read_variance, 'read_variance', counts.shape)
    require_not_negative(read_variance, 'read_variance',
                         'pass the square of the read noise in electrons')
    used = _used_pixels(counts, mask)
    _check_negative(counts, used, read_variance)

    names = (*model.param_names, *(['background'] if fit_background else []))
    own, shared = _sort_parameters(model, names, fixed, shared)
    n_pixels = counts.shape[1] * counts.shape[2]
    if n_pixels < len(own):
        raise ValueError(f'A stamp must have at least as many pixels as free parameters, but '
                         f'{counts.shape[1]} x {counts.shape[2]} pixels cannot determine '
                         f'{len(own)}: fix or share some of {", ".join(names)}, or pass larger '
                         'stamps.')
    bounds = _as_dict(bounds, names, shared, 'bounds')
    priors = _as_dict(priors, names, shared, 'priors')
    lower, upper = _limits(model, bounds, _least_background(offset, used), len(counts))
    prior_mean, prior_precision = _priors(model, priors, len(counts))
    rows = _usable_rows(counts, used, len(own))
    init = _check_init(init, names, shared, rows, len(counts))
    origin = _check_origin(origin, len(counts))
    kernel = kernel_of(model, counts.shape[1:], [*own, *shared], init, len(counts), origin)
    if kernel.kind == 'gridded' and origin is None:
        raise ValueError('A GriddedPSFModel depends on the place on the detector, but it is not '
                         'known where the stamps are: pass x and y of their first pixels as '
                         'origin=.')
    values = [float(np.ravel(getattr(model, name).value)[0]) for name in model.param_names]
    return Problem(
        counts=counts, used=used, model=model, kernel=kernel, init=init,
        fixed_values=np.array([*values, 0.0]), offset=offset, read_variance=read_variance,
        constraints=Constraints(own, lower, upper, prior_mean, prior_precision),
        shared=shared, rows=rows, origin=origin)


def _check_counts(counts, mask):
    """Return the counts as they are, a real array of stamps, and the mask with theirs in."""
    if hasattr(counts, 'unit'):
        raise TypeError(f'counts must be a plain array in electrons, but it has the unit '
                        f'{counts.unit}: convert rates with NoiseModel.to_electrons and pass '
                        'the values.')
    if not is_array_like(counts) or hasattr(counts, 'electrons'):
        raise TypeError('counts must be an array of stamps in electrons, but it is '
                        f'{type(counts).__name__}: {instead_of(counts)}.')
    own_mask = np.ma.getmaskarray(counts) if np.ma.is_masked(counts) else None
    counts = np.asarray(np.ma.getdata(counts))
    if counts.dtype.kind not in 'iuf':
        raise TypeError(f'counts must be real numbers, but their type is {counts.dtype}: '
                        'convert them first.')
    if counts.ndim != 3 or counts.size == 0:
        raise ValueError('counts must have the shape (n_stamps, ny, nx), none of them 0, but it '
                         f'is {counts.shape}: for one stamp pass counts[np.newaxis].')
    if mask is not None:
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape not in (counts.shape, counts.shape[1:]):
            raise ValueError(f'mask must be boolean with the shape {counts.shape[1:]} or '
                             f'{counts.shape} of the stamps, True for pixels to leave out, but '
                             f'it is {mask.dtype} of shape {mask.shape}: convert it.')
    if own_mask is not None:
        mask = own_mask if mask is None else own_mask | mask
    return counts, mask


def _check_origin(origin, n):
    """Return where the stamps' first pixels are, (n, 2), or None."""
    if origin is None:
        return None
    origin = as_float_array(origin, 'origin')
    require_finite(origin, 'origin', 'pass x and y of the first pixel')
    if origin.shape not in ((2,), (n, 2)):
        raise ValueError(f'origin must be x and y of the first pixel of each stamp, of shape (2,) '
                         f'or ({n}, 2), but its shape is {origin.shape}: reshape it.')
    return np.broadcast_to(origin, (n, 2))


def check_model(model):
    """Raise unless the model is one 2-D model without units and ties."""
    if not isinstance(model, Model):
        raise TypeError('model must be an instance of an astropy model, but '
                        f'{no_model(model, "for example EllipticalGaussianPSF()")}')
    if (model.n_inputs, model.n_outputs, len(model)) != (2, 1, 1):
        raise ValueError('model must turn x and y into one value and be a single model, but it '
                         f'has {model.n_inputs} inputs, {model.n_outputs} outputs and is a set '
                         f'of {len(model)}: pass one 2-D model.')
    tied = [name for name in model.param_names if model.tied[name]]
    if tied:
        raise ValueError(f'Tied parameters are not supported for stamps, but {", ".join(tied)} '
                         'is tied: fix or share it, or use PoissonLikelihoodFitter.')
    if 'background' in model.param_names:
        raise ValueError('A parameter of the model must not be called background, as the '
                         'constant beside it is, but one of '
                         f'{", ".join(model.param_names)} is: rename it.')
    united = [name for name in model.param_names if getattr(model, name).unit is not None]
    if united:
        raise TypeError(f'The parameters must be plain numbers in pixels and electrons, but '
                        f'{", ".join(united)} has a unit: strip it first.')


def per_pixel(values, name, shape):
    """Return a per-pixel argument in one of three shapes.

    (), (n_pixels,) or (n, n_pixels), from a number, (ny, nx) or (n, ny, nx).
    """
    values = as_float_array(values, name)
    require_finite(values, name, 'mask pixels that have no value and pass 0 there')
    if values.shape == ():
        return values
    if values.shape in (shape[1:], (1, *shape[1:])):
        return values.ravel()
    if values.shape == shape:
        return values.reshape(shape[0], -1)
    if values.shape == (shape[0], 1, 1):
        return np.broadcast_to(values, shape).reshape(shape[0], -1)
    raise ValueError(f'{name} must be a number or have the shape {shape[1:]} or {shape} of the '
                     f'stamps, but its shape is {values.shape}: reshape it.')


def _check_background(background, known_background, shape):
    """Return whether a background is fitted, and the known one."""
    known = per_pixel(known_background, 'known_background', shape)
    if isinstance(background, str):
        if background != 'fit':
            raise ValueError("background must be 'fit', a number or an array, but it is "
                             f"{background!r}: pass 'fit' to fit a constant per stamp.")
        return True, known
    if known.any():
        raise ValueError("known_background goes with background='fit', but background is given "
                         'as well: add the two.')
    known = per_pixel(background, 'background', shape)
    require_not_negative(known, 'A known background', 'pass the background that counts contains')
    return False, known


def _used_pixels(counts, mask):
    """Return where counts are used, or None if that is everywhere."""
    if mask is not None:
        return np.isfinite(counts) & ~mask
    if counts.dtype.kind != 'f':
        return None
    with np.errstate(all='ignore'):
        # The sum is finite if all are, and needs no array of its own.
        all_finite = np.isfinite(counts.sum(dtype=float))
    return None if all_finite else np.isfinite(counts)


def _check_negative(counts, used, read_variance):
    """Raise if pixels lie deeper below zero than read noise explains."""
    if not np.fmin.reduce(counts, axis=None) < 0:
        return
    flat = counts.reshape(len(counts), -1)
    bad = below_read_noise(flat, read_variance)
    if used is not None:
        bad &= used.reshape(flat.shape)
    if bad.any():
        noise = (f' by more than {DEEPEST_SIGMA:g} sigma of the read noise'
                 if read_variance.any() else '')
        raise ValueError(f'Poisson counts must be >= 0, but {bad.sum()} of {bad.size} pixels are '
                         f'negative{noise} (minimum {flat[bad].min():.6g}): add the background '
                         'that was subtracted back to counts and pass it as background=, or '
                         'mask them.')


def _usable_rows(counts, used, n_free):
    """Return the indices of the stamps with at least ``n_free`` pixels, and one."""
    if used is None:
        return np.arange(len(counts))
    n_pixels = used.reshape(len(counts), -1).sum(axis=1)
    return np.flatnonzero(n_pixels >= max(n_free, 1))


def _sort_parameters(model, names, fixed, shared):
    """Return the indices of each stamp's own and of the shared parameters."""
    fixed = _as_names(fixed, 'fixed')
    shared = _as_names(shared, 'shared')
    require_known_names(fixed, names, 'fixed')
    require_known_names(shared, names, 'shared')
    if 'background' in fixed:
        raise ValueError("background cannot be fixed while background='fit': pass its value as "
                         'background=.')
    held = {*fixed, *(name for name in model.param_names if model.fixed[name])}
    both = held & set(shared)
    if both:
        raise ValueError(f'A parameter is either fixed or shared, but {", ".join(sorted(both))} '
                         'is both: leave it out of one, or set model.fixed to False.')
    own = [j for j, name in enumerate(names) if name not in held and name not in shared]
    return np.array(own, dtype=int), np.array(
        [j for j, name in enumerate(names) if name in shared], dtype=int)


def _as_names(names, argument):
    """Return a tuple of names; a single string is one name."""
    if isinstance(names, Iterable):
        names = (names,) if isinstance(names, str) else tuple(names)
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f'{argument} must hold parameter names, but it is {names!r}: pass a tuple '
                        'of strings.')
    return names


def per_stamp(values, name, n):
    """Return a number or one number per stamp as an array, () or (n,)."""
    values = as_float_array(values, name)
    if values.shape not in ((), (n,)):
        raise ValueError(f'{name} must be a number or one per stamp, ({n},), but its shape is '
                         f'{values.shape}: reshape it.')
    return values


def _least_background(offset, used):
    """Return the lowest background at which every mean stays positive, () or (n,).

    Zero, or below it what the known background of the pixels in use allows.
    """
    if not offset.any():
        return np.zeros(())
    if used is None:
        return -offset.min(axis=-1) if offset.ndim else -offset
    used = used.reshape(len(used), -1)
    # A stamp without pixels sets no limit.
    return -np.where(used, offset, np.inf).min(axis=1)


def _as_dict(values, names, shared, argument):
    """Return bounds or priors as a dict of known names, single numbers for shared ones."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise TypeError(f'{argument} must be a dict of pairs by parameter name, but it is '
                        f'{type(values).__name__}: pass, for example, {{"x_0": (4.0, 6.0)}}.')
    require_known_names(values, names, argument)
    for name in (names[j] for j in shared):
        pair = values.get(name, ())
        if isinstance(pair, Iterable) and any(np.ndim(value) for value in pair):
            raise ValueError(f'{argument} of {name} must be two numbers, since it is shared, but '
                             'they are one per stamp: pass one pair.')
    return dict(values)


def _limits(model, bounds, least, n):
    """Return lower and upper bounds of all parameters, (p, 1) or (p, n)."""
    pairs = {name: model.bounds[name] for name in model.param_names}
    pairs['background'] = (least, None)
    pairs.update(bounds)
    columns = []
    for name in (*model.param_names, 'background'):
        low, high = unpack_pair(pairs[name], f'bounds (lower, upper) of {name}')
        if low is None:
            low = least if name == 'background' else -np.inf
        low = per_stamp(low, f'The lower bound of {name}', n)
        high = per_stamp(np.inf if high is None else high, f'The upper bound of {name}', n)
        require_room(low, high, name)
        if name == 'background' and np.any(low < least):
            raise ValueError(f'The background must be bounded at {np.max(least):g} or above, '
                             f'where the mean stays positive, but its lower bound is '
                             f'{np.min(low):g}: raise it.')
        columns.append((low, high))
    return _stack([low for low, _ in columns]), _stack([high for _, high in columns])


def _stack(columns):
    """Return numbers and per-stamp arrays as one array, (p, 1) or (p, n)."""
    n = max(column.size for column in columns)
    return np.array([np.broadcast_to(column, n) for column in columns], dtype=float)


def _priors(model, priors, n):
    """Return means and precisions of all parameters, (p, 1) or (p, n)."""
    means, precisions = [], []
    for name in (*model.param_names, 'background'):
        if name not in priors:
            means.append(np.zeros(()))
            precisions.append(np.zeros(()))
            continue
        mean, stddev = unpack_pair(priors[name], f'The prior (mean, stddev) of {name}')
        mean = per_stamp(mean, f'The prior mean of {name}', n)
        stddev = per_stamp(stddev, f'The prior stddev of {name}', n)
        require_proper_prior(mean, stddev, name)
        means.append(mean)
        precisions.append(stddev ** -2)
    return _stack(means), _stack(precisions)


def _check_init(init, names, shared, rows, n):
    """Return the starting values as arrays, () or (n,), by name."""
    if init is None:
        return {}
    if hasattr(init, 'colnames'):
        # The table of earlier fits, or one with a column for each parameter.
        columns = [name for name in init.colnames if name.removesuffix('_fit') in names]
        columns = columns or init.colnames
        init = {name.removesuffix('_fit'): np.asarray(init[name]) for name in columns}
    if not isinstance(init, Mapping):
        raise TypeError('init must be a dict or a table of values by parameter name, but it is '
                        f'{type(init).__name__}: pass, for example, {{"x_0": 5.0}}.')
    require_known_names(init, names, 'init')
    values = {name: per_stamp(value, f'init of {name}', n)
              for name, value in dict(init).items()}
    for name, value in values.items():
        if value.ndim and names.index(name) in shared:
            raise ValueError(f'init of {name} must be one number, since it is shared, but it is '
                             'one per stamp: pass a number.')
        require_finite(np.atleast_1d(value[rows] if value.ndim else value),
                       f'init of {name}', 'leave the parameter out to have it measured')
    return values
