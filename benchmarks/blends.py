# Licensed under a 3-clause BSD style license - see LICENSE
"""Blended stars in scenes: whether an eclipse stays with its star, and whether errors are right.

Two simulated stars share the PRF of TESS or Kepler, the fainter is eclipsed. What the scene is
told is wrong as in life: places by up to 0.1 pixel, fluxes by a factor of two or unknown,
POS_CORR by 0.002 pixels, slowly, and some noise. The depth is measured as anybody would, by the
mean fluxes in and out of eclipse; the leak is the difference that the eclipse, added to one and
the same pixels, makes to the brighter star. Where the motion is that of POS_CORR alone, it is
right: what these rows meet and others miss is the error of the motion.
"""

import argparse
import os
import sys
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import clock
import numpy as np
from astropy.table import Table
from scipy.stats import binom
from verdicts import print_verdicts, use_all_cores

from kpsf import (
    KeplerPRF,
    Scene,
    TessPRF,
    extract_light_curve,
    read_tpf,
    simulate_kepler_prf,
    simulate_tpf,
)

__all__ = ['main']

SEPARATIONS, RATIOS, DEPTHS = (0.8, 1.2, 2.0), (1, 5, 20), (0.1, 0.01)
SIDE = 11
# Total fluxes in e-/s, cadences and those in eclipse: 4 days and 6 hours; 10 and 3 hours.
SETTINGS = {
    'Kepler': {'totals': (2e5, 2e4), 'cadences': 200, 'eclipse': slice(120, 132),
               'header': {'CHANNEL': 20, 'MODULE': 7, 'OUTPUT': 4}},
    'TESS': {'totals': (1.5e4, 1.5e3), 'cadences': 300, 'eclipse': slice(150, 240),
             'header': {'CAMERA': 4, 'CCD': 1, 'SECTOR': 1}}}
# Errors of a catalogue and of POS_CORR, the latter slow and from one cadence to the next; pixels.
PLACE_ERROR, SLOW_ERROR, FAST_ERROR = 0.1, 0.002, 0.001
DRIFTS = (0.05, 0.1)
# Required: largest pull of a depth, its probability by chance, largest leak and from where on.
LARGEST_PULL, BY_CHANCE, LARGEST_LEAK, RESOLVED = 3.0, 0.0027, 0.01, 1.2
CALIBRATED = (0.9, 1.1)


@dataclass(frozen=True)
class Case:
    """What is simulated and fitted."""

    mission: str
    separation: float
    ratio: float
    total: float
    kind: str = 'given'
    n_stamps: int = 1
    motion: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What one simulation gave; pairs are the brighter and the fainter star."""

    pull: float
    leak: float
    bias: np.ndarray
    variance: np.ndarray
    scatter: np.ndarray
    correlation: float
    product: float


@cache
def prf_of(mission, folder):
    """Return the PRF that both the simulation and the scene have."""
    if mission == 'TESS':
        return TessPRF.from_files(Path(folder) / 'tess_prf/start_s0001/cam4_ccd1', 1000, 1000)
    path = next(Path(folder).glob('**/kplr07.4*_prf.fits'))
    return KeplerPRF.from_file(path, 500, 500)


def drift_of(rng, n):
    """Return a bent line (n, 2) in some direction."""
    time, angle = np.linspace(-1.0, 1.0, n), rng.uniform(0.0, 2.0 * np.pi)
    along, across = time, 1.5 * (time**2 - 1.0 / 3.0)
    amplitude = rng.uniform(*DRIFTS)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return amplitude * np.column_stack([along, 0.5 * across]) @ turn


def simulate(case, depth, rng, prf, folder):
    """Return stamps, true places (2, 2) and the light curves (2, n)."""
    setting = SETTINGS[case.mission]
    n = setting['cadences']
    faint = case.total / (1.0 + case.ratio)
    # Two stamps meet between the stars.
    angle = 0.0 if case.n_stamps > 1 else rng.uniform(0.0, 2.0 * np.pi)
    middle = (SIDE - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
    half = 0.5 * case.separation * np.array([np.cos(angle), np.sin(angle)])
    places = np.array([middle - half, middle + half])
    factors = np.ones((2, n))
    factors[1, setting['eclipse']] -= depth
    flux = np.array([case.ratio * faint, faint])
    edges = (0, SIDE) if case.n_stamps == 1 else (0, SIDE // 2 + 1, SIDE)
    drift, tpfs = drift_of(rng, n), []
    for number, (left, right) in enumerate(zip(edges, edges[1:])):
        path = simulate_tpf(Path(folder) / f'{number}.fits', prf, mission=case.mission,
                            stars=np.column_stack([flux, places - (left, 0)]),
                            light_curve=factors, drift=drift, shape=(SIDE, right - left),
                            header=setting['header'], column=500 + left, row=500, seed=rng,
                            target=100000001 + number, overwrite=True)
        tpfs.append(read_tpf(path))
    time = np.linspace(0.0, 1.0, n)[:, np.newaxis]
    wrong = (SLOW_ERROR * np.sin(2.0 * np.pi * (time + rng.random(2)))
             + FAST_ERROR * rng.standard_normal((n, 2)))
    if case.motion == 'pos_corr':
        wrong = 0.0
    tpfs = [replace(tpf, pos_corr=(drift + wrong).astype(tpf.pos_corr.dtype)) for tpf in tpfs]
    return tpfs, places, flux[:, np.newaxis] * factors, drift


def without_eclipse(tpf, prf, place, light, drift):
    """Return a stamp with the missing light (n,) of an eclipse put back."""
    y, x = np.mgrid[:tpf.shape[0], :tpf.shape[1]]
    added = np.zeros(tpf.flux.shape)
    for k in np.flatnonzero(light):
        added[k] = prf.evaluate(x, y, light[k], *(place + drift[k]), 1.0, 1.0, 0.0)
    return replace(tpf, flux=tpf.flux + added)


def scene_of(case, places, flux, rng, prf):
    """Return a scene as a catalogue would have it."""
    wrong = rng.uniform(-1.0, 1.0, (2, 2)) * PLACE_ERROR / np.sqrt(2.0)
    if rng.random() < 0.5:
        known = flux * rng.choice([0.5, 2.0], 2)
    else:
        known = np.full(2, np.nan)
    x, y = (places + wrong).T
    stars = Table({'name': ['bright', 'faint'], 'x': x, 'y': y, 'flux': known})
    psf = prf if case.kind == 'given' else case.kind
    return Scene(stars, psf=psf, base=prf, motion=case.motion)


def try_out(job):
    """Simulate and fit one blend."""
    case, depth, seed, data = job
    rng = np.random.default_rng([seed, *case.mission.encode(), int(10 * case.separation),
                                 case.ratio, int(case.total)])
    prf, eclipse = prf_of(case.mission, data), SETTINGS[case.mission]['eclipse']
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        tpfs, places, truth, drift = simulate(case, depth, rng, prf, folder)
        scene = scene_of(case, places, truth[:, 0], rng, prf)
        curves = extract_light_curve(tpfs, scene=scene)
        light = truth[1, 0] - truth[1]
        others = [without_eclipse(tpf, prf, places[1] - (tpf.column - 500, 0), light, drift)
                  for tpf in tpfs]
        flat = extract_light_curve(others, scene=scene)
    flux, error = curves.flux.value.T, curves.flux_err.value.T
    outside = np.ones(flux.shape[1], dtype=bool)
    outside[eclipse] = False
    level, inside = flux[1, outside].mean(), flux[1, eclipse].mean()
    found, found_err = 1.0 - inside / level, np.hypot(
        np.sqrt((error[1, eclipse]**2).sum()) / (~outside).sum(),
        inside / level * np.sqrt((error[1, outside]**2).sum()) / outside.sum()) / level
    change = (flux[0] - flat.flux.value[:, 0])[eclipse].mean() - (
        flux[0] - flat.flux.value[:, 0])[outside].mean()
    factor = flux.sum(axis=1) / truth.sum(axis=1)
    rest = flux - factor[:, np.newaxis] * truth
    return Outcome((found - depth) / found_err, change / (depth * truth[1, 0]), factor - 1.0,
                   (error**2).mean(axis=1), (rest**2).mean(axis=1),
                   curves.covariance[:, 0, 1].mean(), (rest[0] * rest[1]).mean())


def summarize(outcomes):
    """Return the figures of a row."""
    pulls = np.array([outcome.pull for outcome in outcomes])
    leaks = np.array([outcome.leak for outcome in outcomes])
    variance, scatter = (np.mean([getattr(outcome, name) for outcome in outcomes], axis=0)
                         for name in ('variance', 'scatter'))
    n_beyond = int((np.abs(pulls) > LARGEST_PULL).sum())
    return {
        'n': len(pulls), 'rms': np.sqrt(np.mean(pulls**2)), 'largest': np.abs(pulls).max(),
        'n_beyond': n_beyond, 'leak': leaks.mean(), 'most': np.abs(leaks).max(),
        'bias': np.mean([outcome.bias for outcome in outcomes], axis=0),
        'calibration': np.sqrt(variance / scatter),
        'told': np.mean([o.correlation for o in outcomes]) / np.sqrt(variance.prod()),
        'correlation': np.mean([o.product for o in outcomes]) / np.sqrt(scatter.prod())}


def judge(case, row):
    """Return the requirements and whether they are met."""
    label = (f'{case.mission}, {case.separation:g} pixels, ratio {case.ratio:g}, '
             f'{case.total:g} e-/s')
    # As many beyond 3 sigma as right errors would have in less than 0.3 % of all tables.
    is_chance = binom.sf(row['n_beyond'] - 1, row['n'], BY_CHANCE) > BY_CHANCE
    verdicts = [(f'depth: {label}', is_chance)]
    if case.separation >= RESOLVED:
        verdicts.append((f'leak: {label}', row['most'] < LARGEST_LEAK))
    low, high = CALIBRATED
    verdicts += [(f'errors of the {name}: {label}', low <= value <= high)
                 for name, value in zip(('brighter', 'fainter'), row['calibration'])]
    return verdicts


HEAD = ('| PSF | pixels | ratio | e-/s | depth: rms, largest pull | leak: mean, largest (%) | '
        'error / scatter: brighter, fainter | correlation: told, true | bias (%) | verdict |\n'
        '|---|---:|---:|---:|---|---|---|---|---|---|')


def print_row(case, row, verdicts):
    """Print one row of a table."""
    missed = [label.split(':')[0] for label, met in verdicts if not met]
    kind = case.kind if case.n_stamps == 1 else f'{case.kind}, {case.n_stamps} stamps'
    kind += f', motion {case.motion}' if case.motion else ''
    verdict = 'met' if not missed else 'missed: ' + ', '.join(missed)
    bright, faint = row['calibration']
    print(f'| {kind} | {case.separation:g} | {case.ratio:g} | {case.total:g} '
          f'| {row["rms"]:.2f}, {row["largest"]:.2f} '
          f'| {100 * row["leak"]:+.3f}, {100 * row["most"]:.3f} | {bright:.3f}, {faint:.3f} '
          f'| {row["told"]:+.2f}, {row["correlation"]:+.2f} '
          f'| {100 * row["bias"][0]:+.3f}, {100 * row["bias"][1]:+.3f} | {verdict} |', flush=True)


def cases_of(mission):
    """Return what is required, and what is only compared."""
    totals = SETTINGS[mission]['totals']
    required = [Case(mission, separation, ratio, total) for separation in SEPARATIONS
                for ratio in RATIOS for total in totals]
    required += [Case(mission, 1.2, 5, total, n_stamps=2) for total in totals]
    compared = [Case(mission, separation, 5, total, **options) for options in (
        {'motion': 'data'}, {'motion': 'pos_corr'}, {'kind': 'empirical'}, {'kind': 'gaussian'})
        for separation in SEPARATIONS for total in totals]
    return required, compared


def run(mission, data, options, pool):
    """Print the table of a PRF and return the verdicts."""
    print(f'\n## PRF of {mission}: {options.seeds} simulations a row, eclipses of '
          f'{" and ".join(f"{100 * depth:g} %" for depth in DEPTHS)} of the fainter\n{HEAD}')
    required, compared = cases_of(mission)
    jobs = [(case, DEPTHS[seed % len(DEPTHS)], seed, data) for case in required + compared
            for seed in range(options.seeds)]
    results, all_verdicts = pool.map(try_out, jobs, chunksize=2), []
    for case in required + compared:
        row = summarize([next(results) for _ in range(options.seeds)])
        verdicts = judge(case, row)
        print_row(case, row, verdicts)
        if case in required:
            all_verdicts += verdicts
    return all_verdicts


def main(argv=None):
    """Measure, print the tables and say which requirements are met.

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
    parser.add_argument('--data', default=os.environ.get('KPSF_DATA'), help='folder of PRF files')
    parser.add_argument('--seeds', type=int, default=16, help='simulations a row (default: 16)')
    parser.add_argument('--quick', action='store_true', help='4 simulations a row')
    parser.add_argument('--processes', type=int, default=2)
    options = parser.parse_args(argv)
    options.seeds = 4 if options.quick else options.seeds
    # Nothing is timed here: all cores may help.
    use_all_cores()
    clock.describe_machine('numpy', 'scipy', 'astropy', 'kpsf')
    verdicts = []
    with (tempfile.TemporaryDirectory() as folder,
          ProcessPoolExecutor(options.processes) as pool):
        if options.data is None:
            print('Without --data, the PRF of Kepler is simulated, and there is none of TESS.')
            simulate_kepler_prf(Path(folder) / 'kplr07.4_2011265_prf.fits')
        for mission in SETTINGS if options.data else ('Kepler',):
            verdicts += run(mission, options.data or folder, options, pool)
    print_verdicts(verdicts)
    return 0


if __name__ == '__main__':
    sys.exit(main())
