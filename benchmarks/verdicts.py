# Licensed under a 3-clause BSD style license - see LICENSE
"""What benchmarks that time nothing have in common: all cores, and requirements at the end."""

import os

__all__ = ['print_verdicts', 'use_all_cores']


def use_all_cores():
    """Undo that `clock` keeps the process on one core."""
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, range(os.cpu_count()))


def print_verdicts(verdicts):
    """Print how many requirements are met, and which are not.

    Parameters
    ----------
    verdicts : list of (str, bool)
    """
    print(f'\n## {sum(bool(met) for _, met in verdicts)} of {len(verdicts)} requirements met')
    for label, met in verdicts:
        if not met:
            print(f'  not met: {label}')
