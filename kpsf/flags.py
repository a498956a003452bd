# Licensed under a 3-clause BSD style license - see LICENSE
"""What can be the matter with one fit: bit flags, their meanings, and how to read them."""

from enum import IntFlag

import numpy as np

__all__ = ['DiagnosisFlag', 'FLAG_MEANINGS', 'FitFlag', 'decode_flags']


class FitFlag(IntFlag):
    """Bits of the ``flags`` column of a fit; 0 means that nothing was noticed.

    The bits add up: a fit with ``flags = 5`` did not converge (1) and ended at a bound (4).
    `decode_flags` spells them out and `FLAG_MEANINGS` explains each.
    """

    NOT_CONVERGED = 1
    TOO_FEW_PIXELS = 2
    AT_BOUND = 4
    NO_COVARIANCE = 8
    CENTROID_OUTSIDE = 16
    FLUX_NOT_POSITIVE = 32
    FAR_FROM_TARGET = 64
    LITTLE_FLUX_INSIDE = 128
    COSMIC_RAY = 256
    NOT_SEPARABLE = 512


class DiagnosisFlag(IntFlag):
    """Bits of what `kpsf.guidance.diagnose` finds wrong with a fit; 0 means nothing.

    The bits add up; the sentences of a diagnosis explain those that are set,
    and a table in :doc:`/user_guide/guidance` all.
    """

    WRONG_MINIMUM = 1
    NOT_AT_MAXIMUM = 2
    NO_SOURCE = 4
    FLUX_OUTSIDE = 8
    NOT_TOTAL_FLUX = 16
    PSF_TOO_NARROW = 32
    PSF_TOO_WIDE = 64
    BACKGROUND_SLOPE = 128
    NEIGHBOUR = 256
    SATURATED = 512
    NOT_POISSON = 1024
    FAR_FROM_START = 2048
    MISFIT = 4096
    SPIKES = 8192


FLAG_MEANINGS = {
    'NOT_CONVERGED': 'The fit stopped before its estimated distance to the minimum was small.',
    'TOO_FEW_PIXELS': 'There were fewer usable pixels than free parameters: nothing was fitted.',
    'AT_BOUND': 'A parameter of the PSF ended at one of its bounds.',
    'NO_COVARIANCE': 'The information matrix could not be inverted: there are no errors.',
    'CENTROID_OUTSIDE': 'The fitted position lies outside the stamp.',
    'FLUX_NOT_POSITIVE': 'The fitted flux is zero or negative.',
    'FAR_FROM_TARGET': 'The fitted position is not that of the target: probably another star.',
    'LITTLE_FLUX_INSIDE': 'Less than half of the fitted PSF falls on the pixels of the fit.',
    'COSMIC_RAY': 'Pixels that were too high in this cadence alone were left out.',
    'NOT_SEPARABLE': 'The star blends with others: its error is three times that of a lone star.',
}


def decode_flags(flags):
    """Spell out bit flags.

    Parameters
    ----------
    flags : int or array_like of int, of any shape
        Sums of `FitFlag` bits. Bits without a name raise.

    Returns
    -------
    tuple of str or list of tuple of str
        The names of the bits that are set, lowest first: one tuple for a scalar, else a list of
        one tuple per flag, in the (flattened) order of the input.

    Raises
    ------
    TypeError
        If the flags are not integers.
    ValueError
        If a flag is negative or has a bit that no `FitFlag` names.

    Examples
    --------
    >>> from kpsf import decode_flags
    >>> decode_flags(5)
    ('NOT_CONVERGED', 'AT_BOUND')
    >>> decode_flags([0, 32])
    [(), ('FLUX_NOT_POSITIVE',)]
    """
    values = np.asarray(flags)
    if values.size and values.dtype.kind not in 'iu':
        raise TypeError(f'Flags must be integers, but their type is {values.dtype}: pass the '
                        'flags column of a fit.')
    everything = int(sum(FitFlag))
    strange = [int(value) for value in values.flat if not 0 <= value <= everything]
    if strange:
        raise ValueError(f'Flags must lie between 0 and {everything}, but {len(strange)} of '
                         f'{values.size} do not (first: {strange[0]}): pass the flags column of a '
                         'fit.')
    names = [tuple(flag.name for flag in FitFlag if value & flag) for value in values.flat]
    return names if values.ndim else names[0]
