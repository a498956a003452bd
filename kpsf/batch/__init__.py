# Licensed under a 3-clause BSD style license - see LICENSE
"""Many target pixel files on many processes or machines: `extract_many`."""

from .extract import extract_many

__all__ = ['extract_many']
