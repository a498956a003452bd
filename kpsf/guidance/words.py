# Licensed under a 3-clause BSD style license - see LICENSE
"""Numbers in the sentences of the guidance, and their lines."""

import textwrap

import numpy as np

__all__ = ['counted', 'number', 'percent', 'pixels', 'with_error', 'wrapped']

# Characters in a line without its margin, and by how many the rest of a long one is indented.
WIDTH, HANGING = 97, 2
# From this number on, powers of ten are written.
LARGE = 1e6


def counted(number, what):
    """Return how many there are, with the verb."""
    return f'{number} {what} is' if number == 1 else f'{number} {what}s are'


def number(value, least=0.0):
    """Return a number with four digits; 0 for what is smaller than another."""
    return '0' if abs(value) <= least else f'{value:.4g}'


def with_error(value, error):
    """Return a number and its error, both as far as the error has two digits."""
    if not (np.isfinite(error) and error > 0):
        return f'{value:.5g}'
    first = int(np.floor(np.log10(error)))
    if first < -4:
        return f'{value:.6g} +- {error:.2g}'
    if max(abs(value), error) >= LARGE:
        digits = max(int(np.floor(np.log10(max(abs(value), error)))) - first + 1, 1)
        return f'{value:.{digits}e} +- {error:.1e}'
    digits = max(1 - first, 0)
    # A sum with 0 is never -0.
    return f'{round(float(value), digits) + 0.0:.{digits}f} +- {error:.{digits}f}'


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


def wrapped(text, margin=0):
    """Return lines moved to the right, and broken where they are long."""
    lines = []
    for line in text.splitlines():
        indent = ' ' * (margin + len(line) - len(line.lstrip()))
        lines += textwrap.wrap(line.lstrip(), WIDTH + margin, initial_indent=indent,
                               subsequent_indent=indent + ' ' * HANGING)
    return '\n'.join(lines)
