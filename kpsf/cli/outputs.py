# Licensed under a 3-clause BSD style license - see LICENSE
"""What the commands write: endings of names, and figures."""

from .._files import write_whole
from .checks import refuse

__all__ = ['FIGURE_SUFFIXES', 'require_suffix', 'save_figure']

FIGURE_SUFFIXES = ('.png', '.pdf', '.svg')


def require_suffix(options, argument, path, suffixes):
    """Exit unless a name has one of the endings."""
    if not path.name.lower().endswith(suffixes):
        refuse(options, f'{argument} must end in one of {", ".join(suffixes)}, but it is '
               f'{path.name!r}: choose one of these')


def save_figure(figure, path, options):
    """Write a figure, whole or not at all."""
    with write_whole(path, options.overwrite) as temporary:
        figure.savefig(temporary, dpi=150)
