# Licensed under a 3-clause BSD style license - see LICENSE
"""Many files: what two processes gain over one, and what a kill costs a run that is resumed.

Two processes are compared with two that only count, so that the ratio can be judged on a machine
that has less than two idle cores.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from verdicts import print_verdicts, use_all_cores

__all__ = ['main']

# Two workers must be faster than one by this factor, where two that only count are.
REQUIRED, TWO_CORES = 1.8, 1.9
ROOT = Path(__file__).resolve().parents[1]


def simulate(folder, n_files, n_cadences):
    """Simulated target pixel files, each of its own star."""
    from kpsf import simulate_tpf
    folder.mkdir()
    return [simulate_tpf(folder / f'star{k:03d}.fits', n_cadences=n_cadences, drift=0.1, seed=k,
                         target=k + 1) for k in range(n_files)]


def count_up(n_steps):
    """Seconds of a loop that needs nothing but a core."""
    begin = time.perf_counter()
    for _ in range(n_steps):
        pass
    return time.perf_counter() - begin


def gain_of_counting(n_steps=50_000_000):
    """By how much two processes that count are faster than one."""
    with ProcessPoolExecutor(2, mp_context=get_context('spawn')) as pool:
        # Both have started before anything is timed.
        list(pool.map(count_up, [n_steps // 10] * 4))
        alone = pool.submit(count_up, n_steps).result()
        both = max(pool.map(count_up, [n_steps] * 2))
    return 2.0 * alone / both


def cpu_seconds():
    """CPU seconds of this process and of those it started that have ended."""
    return sum(os.times()[:4])


def run_workers(options, folder):
    """Files per second on one and on two workers, in turns, each into an empty folder."""
    from kpsf import extract_many
    print(f'\n## {options.files} files of {options.cadences} cadences of 11 x 11 pixels, '
          f'{options.repeats} rounds')
    paths = simulate(folder / 'pixels', options.files, options.cadences)
    seconds, cpu, gains = {1: [], 2: []}, {1: [], 2: []}, []
    for repeat in range(options.repeats):
        for n_workers in seconds:
            gains.append(gain_of_counting())
            begin, cpu_begin = time.perf_counter(), cpu_seconds()
            table = extract_many(paths, folder / f'{n_workers}-{repeat}', n_workers=n_workers)
            seconds[n_workers].append(time.perf_counter() - begin)
            cpu[n_workers].append(cpu_seconds() - cpu_begin)
            last, n_done = seconds[n_workers][-1], sum(table['status'] == 'done')
            print(f'  {n_workers} worker{"s" if n_workers > 1 else " "}: {last:.1f} s, '
                  f'{len(paths) / last:.1f} files/s, {n_done} done; on '
                  f'{cpu[n_workers][-1] / last:.2f} cores')
    gains.append(gain_of_counting())
    ratios = [one / two for one, two in zip(seconds[1], seconds[2])]
    print(f'Two workers are faster than one by {" / ".join(f"{ratio:.2f}" for ratio in ratios)}, '
          'the start of the processes included; two that only count by '
          f'{" / ".join(f"{gain:.2f}" for gain in gains)}. By CPU time alone, which other work on '
          f'the machine hardly changes, it would be {2.0 * min(cpu[1]) / min(cpu[2]):.2f}')
    if min(gains) < TWO_CORES:
        print(f'  {REQUIRED} is required of two idle cores, which were not there')
        return []
    return [('two workers against one', max(ratios) >= REQUIRED)]


def light_curves(folder):
    """Which files the light curves in a folder are, by name."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in folder.glob('[!.]*-lightcurve.fits')}


def run_kill(options, folder):
    """Kill a run and all its processes at a third of the way, and go on."""
    from kpsf import extract_many
    paths = simulate(folder / 'to-kill', options.files // 4, options.cadences)
    outdir = folder / 'killed'
    print(f'\n## Killed (-9, with its workers) after a third of {len(paths)} files, and resumed')
    process = subprocess.Popen(
        [sys.executable, '-m', 'kpsf', 'lightcurve', '--workers', '2', '--outdir', outdir, *paths],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)})
    while len(light_curves(outdir)) < len(paths) // 3 and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = light_curves(outdir)
    n_half = len(list(outdir.glob('.*-lightcurve.fits')))
    journal = (outdir / 'manifest.ecsv.journal').read_bytes()
    n_rows = sum(map(bool, journal.splitlines()))
    print(f'  after the kill: {len(before)} light curves, {n_rows} rows in the journal, {n_half} '
          'half-written files')
    table = extract_many(paths, outdir, resume=True)
    after = light_curves(outdir)
    kept = sum(after.get(name) == state for name, state in before.items())
    others = {path.name for path in outdir.iterdir()} - {*after, 'manifest.ecsv'}
    print(f'  after resume=True: {len(after)} light curves, of which {kept} are the same files, '
          f'{sum(table["status"] == "done")} rows that are done, {len(others)} other files')
    return [('nothing lost', len(after) == len(paths) == sum(table['status'] == 'done')),
            ('nothing done twice', kept == len(before)), ('nothing left over', not others)]


PARTS = {'workers': run_workers, 'kill': run_kill}


def main(argv=None):
    """Measure, print the results and say which requirements are met.

    Parameters
    ----------
    argv : list of str, optional
        Command-line arguments; those of the process by default.

    Returns
    -------
    int
        Exit status, 0.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--parts', nargs='+', choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument('--files', type=int, default=200, help='of one round (default: 200)')
    parser.add_argument('--cadences', type=int, default=1500, help='of a file (default: 1500)')
    parser.add_argument('--repeats', type=int, default=1, help='rounds (default: 1)')
    options = parser.parse_args(argv)
    # Not imported above: every process would be pinned to the same core.
    import clock
    use_all_cores()
    clock.describe_machine('numpy', 'scipy', 'astropy', 'kpsf')
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            verdicts += PARTS[part](options, Path(folder))
    print_verdicts(verdicts)
    return 0


if __name__ == '__main__':
    sys.exit(main())
