# Licensed under a 3-clause BSD style license - see LICENSE
"""Units of the coordinates of a 2-D model, which its position shares."""

from astropy.units import Quantity, UnitsError

__all__ = ['common_unit', 'coordinate_units', 'plain_offsets']


def coordinate_units(model):
    """Return the units of a model's inputs by their names, None if its position has none."""
    if model.x_0.input_unit is None and model.y_0.input_unit is None:
        return None
    return {model.inputs[0]: model.x_0.input_unit, model.inputs[1]: model.y_0.input_unit}


def common_unit(inputs_unit):
    """Return the one unit of x and y; raise if they have two."""
    unit, y_unit = inputs_unit.values()
    if unit != y_unit:
        msg = (f'x and y must have the same unit, but found {unit} and {y_unit}: convert one of '
               'them.')
        raise UnitsError(msg)
    return unit


def plain_offsets(x, y, x_0, y_0):
    """Return the offsets from a position as plain arrays, in the unit of ``x_0`` if it has one."""
    if isinstance(x_0, Quantity):
        return tuple(Quantity(value).to_value(x_0.unit) for value in (x - x_0, y - y_0))
    return x - x_0, y - y_0
