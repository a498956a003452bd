# Licensed under a 3-clause BSD style license - see LICENSE
"""Numbers of detectors: module, output, channel of Kepler; camera, CCD, sector of TESS."""

import operator
import sys

import numpy as np

__all__ = ['channel_to_module_output', 'first_sector_of', 'module_output_to_channel',
           'require_one_of', 'tess_detector']

# The modules at the corners of the focal plane hold the fine guidance sensors, channels 85 to 88.
MODULES = (*range(2, 5), *range(6, 21), *range(22, 25))
OUTPUTS = range(1, 5)
CHANNELS = range(1, len(MODULES) * len(OUTPUTS) + 1)
CAMERAS = CCDS = range(1, 5)
SECTORS = range(1, sys.maxsize)
# There is a set of PRF files for sectors 1 to 3, and one for all later ones.
FIRST_SECTORS = (1, 4)


def channel_to_module_output(channel):
    """Return the module and output of a Kepler channel.

    Parameters
    ----------
    channel : int
        Channel, 1 to 84.

    Returns
    -------
    module, output : int
        Module and output.

    Raises
    ------
    ValueError
        If there is no such channel.

    Examples
    --------
    >>> from kpsf.prf.channels import channel_to_module_output
    >>> channel_to_module_output(20)
    (7, 4)
    """
    number = require_one_of(channel, CHANNELS, 'channel', '1 to 84') - 1
    return MODULES[number // len(OUTPUTS)], OUTPUTS[number % len(OUTPUTS)]


def module_output_to_channel(module, output):
    """Return the Kepler channel of a module and an output.

    Parameters
    ----------
    module : int
        Module, 2 to 24 without 5 and 21.
    output : int
        Output, 1 to 4.

    Returns
    -------
    int
        Channel.

    Raises
    ------
    ValueError
        If there is no such module or output.
    """
    module = require_one_of(module, MODULES, 'module', '2 to 4, 6 to 20 and 22 to 24')
    output = require_one_of(output, OUTPUTS, 'output', '1 to 4')
    return len(OUTPUTS) * MODULES.index(module) + output


def first_sector_of(sector):
    """Return the first sector, 1 or 4, of the set of PRF files that serves a sector."""
    return max((first for first in FIRST_SECTORS if first <= sector), default=FIRST_SECTORS[0])


def tess_detector(camera, ccd, sector):
    """Return the identity of a TESS detector, as a `PRFCalibration` has it.

    Parameters
    ----------
    camera, ccd : int
        Camera and CCD, 1 to 4.
    sector : int
        Sector.

    Returns
    -------
    dict
        ``camera``, ``ccd`` and ``first_sector``.

    Raises
    ------
    ValueError
        If there is no such camera, CCD or sector.
    """
    sector = require_one_of(sector, SECTORS, 'sector', '1 and more')
    return {'camera': require_one_of(camera, CAMERAS, 'camera', '1 to 4'),
            'ccd': require_one_of(ccd, CCDS, 'ccd', '1 to 4'),
            'first_sector': first_sector_of(sector)}


def require_one_of(value, allowed, name, described):
    """Return a value as an int; raise unless it is one of those allowed."""
    number = _whole_number(value)
    # A range without end is searched number by number for what is no integer.
    if number is None or number not in allowed:
        msg = (f'{name} must be a whole number, {described}, but it is {value!r}: take it from '
               'the header of the target pixel file.')
        raise ValueError(msg)
    return number


def _whole_number(value):
    """Return a value as an int, None if it is none; headers also have whole numbers as floats."""
    if isinstance(value, (float, np.floating)):
        return int(value) if value.is_integer() else None
    try:
        return operator.index(value)
    except TypeError:
        return None
