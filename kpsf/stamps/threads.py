# Licensed under a 3-clause BSD style license - see LICENSE
"""Chunks of stamps on threads."""

import sys
from concurrent.futures import ThreadPoolExecutor

from astropy.utils.console import ProgressBar

__all__ = ['run_on_threads']


def run_on_threads(function, parts, n_threads, progress_bar=False):
    """Return ``[function(part) for part in parts]``.

    NumPy lets go of the interpreter in array operations, so that threads
    help as far as these are long.
    """
    if n_threads == 1 or len(parts) == 1:
        return _collect(map(function, parts), len(parts), progress_bar)
    with ThreadPoolExecutor(n_threads) as pool:
        return _collect(pool.map(function, parts), len(parts), progress_bar)


def _collect(results, n, progress_bar):
    """Return the results as a list, with a bar on the terminal if wanted."""
    if not progress_bar:
        return list(results)
    with ProgressBar(n, file=sys.stderr) as bar:
        collected = []
        for result in results:
            collected.append(result)
            bar.update()
    return collected
