# Licensed under a 3-clause BSD style license - see LICENSE
"""What the commands write: endings of names, and figures."""

import numpy as np

from .._files import write_whole
from .checks import refuse

__all__ = ['FIGURE_SUFFIXES', 'require_suffix', 'save_figure']

FIGURE_SUFFIXES = ('.png', '.pdf', '.svg')


def require_suffix(options, argument, path, suffixes):
    """Exit unless a name has one of the endings."""
    if not path.name.lower().endswith(suffixes):
        refuse(options, f'{argument} must end in one of {", ".join(suffixes)}, but it is '
               f'{path.name!r}: choose one of these')


def save_figure(draw, path, options):
    """Write the figure of the axes that `draw()` returns, whole or not at all."""
    # Here, because matplotlib takes long to import, and most calls draw nothing.
    from ..plotting.style import figures_for_files
    with figures_for_files(), write_whole(path, options.overwrite) as temporary:
        np.ravel(draw())[0].figure.savefig(temporary, dpi=150)
