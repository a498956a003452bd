# Licensed under a 3-clause BSD style license - see LICENSE
"""Numbers in the sentences of the guidance."""

__all__ = ['counted', 'percent', 'pixels']


def counted(number, what):
    """Return how many there are, with the verb."""
    return f'{number} {what} is' if number == 1 else f'{number} {what}s are'


def percent(share, signed=False):
    """Return a share as a percentage with two digits, and none that mean nothing."""
    value = 100.0 * share
    if abs(value) < 0.005:
        return '0 %'
    digits = 0 if abs(value) >= 9.95 else 1 if abs(value) >= 1 else 2
    return f'{value:{"+" if signed else ""}.{digits}f} %'


def pixels(x, y):
    """Return a place in the image."""
    return f'({x:.1f}, {y:.1f})'
