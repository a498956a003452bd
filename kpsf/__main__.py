# Licensed under a 3-clause BSD style license - see LICENSE
"""`python -m kpsf` is the command `kpsf`."""

import sys

from .cli import main

__all__ = []

if __name__ == '__main__':
    sys.exit(main())
