# Licensed under a 3-clause BSD style license - see LICENSE
"""Numbers in the sentences of the guidance, and their lines."""

import textwrap

__all__ = ['counted', 'percent', 'pixels', 'wrapped']

# Characters in a line without its margin, and by how many the rest of a long one is indented.
WIDTH, HANGING = 97, 2


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


def wrapped(text, margin=0):
    """Return lines moved to the right, and broken where they are long."""
    lines = []
    for line in text.splitlines():
        indent = ' ' * (margin + len(line) - len(line.lstrip()))
        lines += textwrap.wrap(line.lstrip(), WIDTH + margin, initial_indent=indent,
                               subsequent_indent=indent + ' ' * HANGING)
    return '\n'.join(lines)
