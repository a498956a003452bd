# Licensed under a 3-clause BSD style license - see LICENSE
"""Options of `extract_light_curve` for many files: checked once, and with a digest."""

import hashlib
import inspect
import json
import pickle

import numpy as np
from astropy.modeling import Model

from ..lightcurve import extract_light_curve
from ..models import position_names

__all__ = ['complete', 'describe', 'digest', 'require_picklable']

# They do not change what comes out.
WITHOUT_EFFECT = ('n_threads', 'progress_bar')
# Values of a model are compared to this many digits of their peak.
DIGITS = 8


def complete(options):
    """Return options with the defaults of `extract_light_curve`; raise if it has no such one."""
    names = inspect.signature(extract_light_curve).parameters
    known = {name: parameter.default for name, parameter in names.items()
             if parameter.default is not inspect.Parameter.empty and name != 'progress_bar'}
    unknown = [name for name in options if name not in known]
    if unknown:
        msg = (f'extract_many takes the options of extract_light_curve, {", ".join(known)}, but '
               f'found {", ".join(unknown)}: correct the name.')
        raise TypeError(msg)
    return {**known, **options}


def require_picklable(options):
    """Raise TypeError if an option cannot be sent to another process."""
    for name, value in options.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            msg = (f'Options must be picklable to reach other processes, but {name} is not '
                   f'({error}): use functions with a name in a module, or n_workers=1.')
            raise TypeError(msg) from error


def digest(quality, options):
    """Return 16 hexadecimal digits that differ where the light curves could."""
    text = json.dumps(describe(quality, options), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe(quality, options):
    """Return what matters of the options, by name, as JSON has it."""
    return {'quality': _plain(quality), **{name: _plain(value) for name, value in options.items()
                                           if name not in WITHOUT_EFFECT}}


def _plain(value):
    """Return a value in types of JSON; equal values give the same, in any process."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (float, np.number, np.bool_)):
        return repr(value.item() if isinstance(value, np.generic) else value)
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, Model):
        return _plain_model(value)
    if isinstance(value, np.ndarray):
        return _plain_array(value)
    name = f'{type(value).__module__}.{type(value).__qualname__}'
    if callable(value):
        return [name, getattr(value, '__module__', ''), getattr(value, '__qualname__', '')]
    return [name, _plain(getattr(value, '__dict__', {}))]


def _plain_array(values):
    """Return type, shape, unit and checksum of an array."""
    content = np.ascontiguousarray(values).tobytes()
    return [values.dtype.str, list(values.shape), str(getattr(values, 'unit', '')),
            hashlib.sha256(content).hexdigest()]


def _plain_model(model):
    """Return parameters, constraints and values of a model.

    What else a model holds depends on what has been computed with it, and
    its values do not.
    """
    parameters = {name: [_plain(np.asarray(getattr(model, name).value)),
                         str(getattr(model, name).unit or '')] for name in model.param_names}
    return [f'{type(model).__module__}.{type(model).__qualname__}', parameters,
            *(_plain(dict(constraint)) for constraint in (model.fixed, model.bounds, model.tied)),
            _values(model)]


def _values(model):
    """Return the checksum of a model's values around its position; None with units."""
    if any(getattr(model, name).unit is not None for name in model.param_names):
        return None
    x_0, y_0 = (float(np.ravel(getattr(model, name).value)[0]) for name in position_names(model))
    y, x = np.mgrid[-6:7, -6:7] + 0.3
    # A copy: some models keep what they compute.
    values = np.asarray(model.copy()(x + x_0, y + y_0), dtype=float)
    return _plain_array(np.round(values / (np.max(np.abs(values)) or 1.0), DIGITS) + 0.0)
