# Licensed under a 3-clause BSD style license - see LICENSE
"""How many cadences per second scenes fit on one core, and psfmachine where it is installed.

psfmachine wants older versions of its dependencies: run this file with --peer in an environment of
its own, in which kpsf is not needed, on the files that a run without it has written.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

__all__ = ['main']

N_CADENCES, SIDE, N_STARS = 4500, 15, 10
REQUIRED = {'one star': 5000.0, 'ten stars': 1500.0}


def make_files(folder):
    """Write a series of one star and one of ten; return the paths and the places of the ten."""
    from kpsf import simulate_tpf
    rng = np.random.default_rng(1)
    places = rng.uniform(1.0, SIDE - 2.0, (N_STARS, 2))
    flux = 10 ** rng.uniform(3.5, 5.3, N_STARS)
    one = simulate_tpf(folder / 'one.fits', n_cadences=N_CADENCES, drift=0.1, seed=1,
                       overwrite=True)
    ten = simulate_tpf(folder / 'ten.fits', n_cadences=N_CADENCES, shape=(SIDE, SIDE), drift=0.1,
                       seed=1, stars=np.column_stack([flux, places]), overwrite=True)
    return one, ten, places


def rate(work, repeats=3):
    """Return the best number of cadences per second of processor and of wall time."""
    best = [0.0, 0.0]
    for _ in range(repeats):
        clocks = time.process_time(), time.perf_counter()
        work()
        spent = time.process_time() - clocks[0], time.perf_counter() - clocks[1]
        best = [max(value, N_CADENCES / seconds) for value, seconds in zip(best, spent)]
    return best


def measure(folder):
    """Print the rates of kpsf; return whether they are as required."""
    # Not above: the environment of the peer has its own NumPy to time.
    import clock

    from kpsf import Scene, extract_light_curve, read_tpf
    clock.describe_machine('numpy', 'scipy', 'astropy', 'kpsf')
    one, ten, places = make_files(folder)
    one, ten = read_tpf(one), read_tpf(ten)
    stars = {'x': places[:, 0], 'y': places[:, 1]}
    cases = [
        ('one star', 'empirical', lambda: extract_light_curve(one, 'empirical')),
        ('one star', 'a Gaussian per cadence', lambda: extract_light_curve(one)),
        ('ten stars', 'Gaussian',
         lambda: extract_light_curve(ten, scene=Scene(stars, psf='gaussian'))),
        ('ten stars', 'empirical', lambda: extract_light_curve(ten, scene=Scene(stars))),
    ]
    print('| scene | PSF | cadences/s, processor | wall | required |\n|---|---|---:|---:|---:|')
    met = True
    for scene, psf, work in cases:
        processor, wall = rate(work)
        required = REQUIRED[scene] if psf == 'empirical' else np.nan
        met &= not processor < required
        print(f'| {scene} | {psf} | {processor:.0f} | {wall:.0f} '
              f'| {"" if np.isnan(required) else f"{required:.0f}"} |', flush=True)
    return met


def measure_peer(folder):
    """Print the rate of psfmachine on the file of ten stars."""
    import lightkurve as lk
    import pandas as pd
    import psfmachine as pm
    tpf = lk.read(folder / 'ten.fits')
    from astropy.io import fits
    truth = fits.getdata(folder / 'ten.fits', 'TRUTH')
    x, y = np.median(truth['X'], axis=0), np.median(truth['Y'], axis=0)
    ra, dec = tpf.wcs.all_pix2world(x, y, 0)
    sources = pd.DataFrame({'ra': ra, 'dec': dec, 'phot_g_mean_flux': np.median(
        truth['FLUX'], axis=0), 'phot_g_mean_mag': 12.0 - 2.5 * np.log10(
        np.median(truth['FLUX'], axis=0) / 2.141e5)})
    start = time.perf_counter()
    machine = pm.TPFMachine.from_TPFs(lk.TargetPixelFileCollection([tpf]), sources=sources)
    machine.build_shape_model()
    machine.fit_model()
    print(f'psfmachine {pm.__version__}, ten stars: '
          f'{N_CADENCES / (time.perf_counter() - start):.0f} cadences/s, wall')


def main(argv=None):
    """Print rates.

    Parameters
    ----------
    argv : list of str, optional
        Command-line arguments; those of the process by default.

    Returns
    -------
    int
        0 if kpsf is as fast as required.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='where the simulated files are or go')
    parser.add_argument('--peer', action='store_true', help='time psfmachine on them instead')
    options = parser.parse_args(argv)
    if options.peer:
        measure_peer(options.folder)
        return 0
    return 0 if measure(options.folder) else 1


if __name__ == '__main__':
    sys.exit(main())
