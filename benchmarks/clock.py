# Licensed under a 3-clause BSD style license - see LICENSE
"""The clock of the benchmarks: one process on one core, competitors taking turns.

Import this module before NumPy: it tells the thread pools to stay on one thread, which they read
when their libraries are loaded.
"""

import os
import platform
import sys

for variable in ('OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS',
                 'NUMEXPR_NUM_THREADS', 'NUMBA_NUM_THREADS'):
    os.environ[variable] = '1'
if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import time  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from importlib.metadata import PackageNotFoundError, version  # noqa: E402

import numpy as np  # noqa: E402

__all__ = ['SQUARE', 'STAMP', 'Peer', 'describe_machine', 'installed', 'print_table',
           'time_competitors', 'time_turns']

STAMP, SQUARE = (10, 11), (11, 11)


@dataclass(frozen=True)
class Peer:
    """A competitor: its label, its function, stamps per repeat, the ratio that kpsf must reach.

    ``square`` marks tools that only take square stamps; kpsf is then timed on the same ones.
    """

    label: str
    fit: object
    n_stamps: int
    required_ratio: float | None = None
    square: bool = False

    @property
    def shape(self):
        """Rows and columns of the stamps that this competitor gets."""
        return SQUARE if self.square else STAMP


def describe_machine(*packages):
    """Print the processor and the versions of the packages."""
    processor = platform.processor() or platform.machine()
    if os.path.exists('/proc/cpuinfo'):
        with open('/proc/cpuinfo') as lines:
            processor = next((line.split(':')[1].strip() for line in lines
                              if line.startswith('model name')), processor)
    versions = []
    for name in packages:
        try:
            versions.append(f'{name} {version(name)}')
        except PackageNotFoundError:
            versions.append(f'{name} not installed')
    print(f'{processor}, one core; Python {platform.python_version()}, {", ".join(versions)}')


def installed(competitors, try_out):
    """Competitors for which try_out(entry) runs; those that lack a package are named, left out."""
    present = []
    for entry in competitors:
        try:
            try_out(entry)
        except ImportError as error:
            print(f'{entry.label}: left out ({error})', file=sys.stderr)
        else:
            present.append(entry)
    return present


def time_turns(turns, repeats):
    """CPU seconds of each turn of each competitor.

    Parameters
    ----------
    turns : dict
        Label to turn(repeat), which returns a function without arguments: what happens before
        is outside the clock.
    repeats : int
        Rounds in which every competitor has one turn.

    Returns
    -------
    dict
        Label to the seconds (n_repeats,) and the list of what the functions returned.
    """
    results = {label: ([], []) for label in turns}
    for repeat in range(repeats):
        for label, turn in turns.items():
            function = turn(repeat)
            begin = time.process_time()
            answer = function()
            elapsed = time.process_time() - begin
            results[label][0].append(elapsed)
            results[label][1].append(answer)
    return {label: (np.array(seconds), answers) for label, (seconds, answers) in results.items()}


def time_competitors(competitors, pools, judge, repeats, n_factor):
    """Time fits of many stamps and judge their answers.

    Parameters
    ----------
    competitors : sequence of Peer
    pools : dict
        Shape of a stamp to counts (n, ny, nx), starting values (n, p) and the third argument of
        ``Peer.fit``.
    judge : callable
        ``judge(params, counts)`` returns the distance to the minimum (n,).
    repeats : int
        Rounds.
    n_factor : float
        Stamps per turn, relative to ``Peer.n_stamps``.

    Returns
    -------
    dict
        Label to CPU seconds per fit (n_repeats,), distances and verdicts (all stamps).
    """
    rows = {}

    def turn_of(entry):
        counts, start, setting = pools[entry.shape]
        n_stamps = max(int(n_factor * entry.n_stamps), 2)

        def turn(repeat):
            # Slow tools see few stamps per turn, so every turn brings them others.
            first = repeat * n_stamps % max(len(counts) - n_stamps + 1, 1)
            part = slice(first, first + n_stamps)
            rows.setdefault(entry.label, []).append(part)
            return lambda: entry.fit(counts[part], start[part], setting)

        return turn

    timed = time_turns({entry.label: turn_of(entry) for entry in competitors}, repeats)
    results = {}
    for entry in competitors:
        (seconds, answers), parts = timed[entry.label], rows[entry.label]
        counts = pools[entry.shape][0]
        distance = [judge(params, counts[part])
                    for (params, _), part in zip(answers, parts, strict=True)]
        n_stamps = parts[0].stop - parts[0].start
        results[entry.label] = (seconds / n_stamps, np.concatenate(distance),
                                np.concatenate([verdict for _, verdict in answers]))
    return results


def print_table(title, competitors, results, yardsticks):
    """Print one Markdown table; yardsticks maps an entry to the labels it is compared with."""
    print(f'\n### {title}\n')
    print('| fitter | fits/s | kpsf is faster by | required | EDM < 1e-4 | EDM < 0.1 '
          '| calls itself converged |\n|---|---:|---:|---:|---:|---:|---:|')
    for entry in competitors:
        seconds, distance, verdict = results[entry.label]
        labels = [label for label in yardsticks(entry) if label in results]
        ratios = [np.median(seconds / results[label][0]) for label in labels]
        if entry.label.startswith('kpsf'):
            ratios = []
        print(f'| {entry.label} | {1.0 / np.median(seconds):,.0f} '
              f'| {" / ".join(f"{ratio:,.1f}" for ratio in ratios)} '
              f'| {requirement(entry.required_ratio, ratios)} '
              f'| {np.mean(distance < 1e-4):.2%} | {np.mean(distance < 0.1):.2%} '
              f'| {np.mean(verdict):.2%} |')


def requirement(required_ratio, ratios):
    """The required ratio and whether it was met, as text; empty where there is none."""
    if not required_ratio or not ratios:
        return ''
    return f'{required_ratio:g} ({"met" if min(ratios) >= required_ratio else "missed"})'
