# Licensed under a 3-clause BSD style license - see LICENSE
"""Times of a series in days, and lengths in words."""

import astropy.units as u
import numpy as np

__all__ = ['cadence_length', 'days_after_first', 'length_in_words']


def days_after_first(time):
    """Return times as days after the first (n,)."""
    return (time - time[0]).to_value(u.day)


def cadence_length(days):
    """Return the time from one cadence to the next in days, 0 for a single one."""
    return float(np.median(np.diff(days))) if len(days) > 1 else 0.0


def length_in_words(days):
    """Return a duration in hours or days, in words."""
    if days < 1.0 / 24.0 * 0.995:
        return f'{1440.0 * days:.3g} min'
    return f'{24.0 * days:.3g} h' if days < 0.995 else f'{days:.3g} d'
