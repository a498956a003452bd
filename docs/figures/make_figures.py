# Licensed under a 3-clause BSD style license - see LICENSE
"""Make the figures of the README and the user guide.

``python docs/figures/make_figures.py`` draws the simulated ones; with ``KPSF_DATA`` set to a
folder of real files it also draws those of Tabby's star, Kepler-62, a PRF of TESS and photon
counts.
"""

import os
from pathlib import Path
from runpy import run_path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from astropy.io import fits
from matplotlib.figure import Figure

from kpsf import Scene, TessPRF, extract_light_curve, read_tpf, simulate_tpf
from kpsf.cli import main
from kpsf.plotting import (
    plot_blends,
    plot_cadence,
    plot_light_curve,
    plot_prf,
    plot_recovery,
    plot_scene,
)
from kpsf.simulate import tabby_like_dips

HERE = Path(__file__).parent
DPI = 110


def draw_demo():
    """Draw dips that were put into simulated pixels, as `kpsf demo` does."""
    with TemporaryDirectory() as folder:
        path = simulate_tpf(Path(folder) / 'demo.fits', drift=0.05, seed=1,
                            light_curve=tabby_like_dips(np.arange(1000)))
        truth = np.ravel(fits.getdata(path, 'TRUTH')['FLUX'])
        axes = plot_recovery(extract_light_curve(path), truth)
    axes[0].figure.savefig(HERE / 'demo.png', dpi=DPI)


def draw_blend():
    """Draw the scene of two blended stars and their light curves."""
    cadence = np.arange(300)
    factors = np.array([1 + 0.001 * np.sin(2 * np.pi * cadence / 120),
                        1 - 0.4 * np.exp(-((cadence - 180) / 12) ** 2)])
    with TemporaryDirectory() as folder:
        path = simulate_tpf(Path(folder) / 'blend.fits', light_curve=factors, drift=0.03, seed=7,
                            stars=[(160000.0, 5.2, 4.8), (20000.0, 6.6, 5.6)])
        stars = {'name': ['bright', 'eclipsing'], 'x': [5.2, 6.6], 'y': [4.8, 5.6]}
        curves = extract_light_curve(path, scene=Scene(stars, psf='gaussian'))
        figure = Figure(figsize=(9.0, 11.0), layout='constrained')
        top, bottom = figure.subfigures(2, 1, height_ratios=(7.0, 4.0))
        plot_scene(path, curves, top.subplots(2, 2))
        plot_blends(curves, bottom.subplots(2, 1, sharex=True))
    figure.savefig(HERE / 'blend.png', dpi=DPI)


def draw_real(folder):
    """Draw light curves of real pixels, and one cadence of them."""
    for name, pattern in (('tabby', 'kplr008462852*'), ('kepler62', 'kplr009002278*')):
        pixels = read_tpf(next((folder / 'kepler').glob(pattern)))
        light_curve = extract_light_curve(pixels)
        plot_light_curve(light_curve).figure.savefig(HERE / f'{name}.png', dpi=DPI)
        if name == 'tabby':
            axes = plot_cadence(pixels, light_curve, 0)
            axes[0].figure.savefig(HERE / 'tabby_cadence.png', dpi=DPI)


def draw_tabby_star():
    """Draw what the first tutorial finds: real light curves, and dips put in and recovered."""
    with plt.rc_context():
        found = run_path(str(HERE.parent / 'tutorials' / '1_tabbys_star.py'))
        plt.close('all')
        figure = Figure(figsize=(9.6, 6.8))
        left, right = figure.subfigures(1, 2)
        draw_real_rows(left, found)
        draw_recovered_dips(right, found)
        figure.savefig(HERE / 'tabby_star.png', dpi=DPI)


def draw_real_rows(figure, found):
    """Draw the light curves of the real star."""
    figure.suptitle('Real pixels: KIC 8462852, Kepler Quarter 8', weight='bold')
    axes = figure.subplots(5, 1, sharex=True, sharey=True)
    found['draw_rows'](axes, found['real_days'], found['real_fluxes'],
                       found['point_to_point_scatter'])
    axes[0].set_ylim(-5000.0, 2000.0)
    axes[2].set_ylabel('Change of the flux (ppm)')
    axes[-1].set_xlabel('Time (d)')


def draw_recovered_dips(figure, found):
    """Draw the simulated dips, and what three methods make of them."""
    figure.suptitle('Simulated dips: put in and recovered', weight='bold')
    top, *rows = figure.subplots(4, 1, sharex=True, height_ratios=(2.3, 1.0, 1.0, 1.0))
    days, truth, ratios = found['days'], found['truth'], found['ratios']
    recovered = truth * ratios['Learned PSF'] / np.median(ratios['Learned PSF'])
    top.plot(days, 100 * truth, color='#999999', lw=4.0, label='put in')
    top.plot(days, 100 * recovered, '.', ms=3.0, color='C1',
             label='recovered with the learned PSF')
    top.set(ylabel='Flux (%)')
    top.legend(loc='lower left')
    found['draw_rows'](rows, days, dict(list(ratios.items())[-3:]), np.std)
    for ax in rows:
        ax.set_ylim(-5000.0, 2000.0)
    rows[1].set_ylabel('Recovered $-$ put in (ppm)')
    rows[-1].set_xlabel('Time (d)')


def draw_prf(folder):
    """Draw the PRF of TESS at a place on a CCD."""
    prf = TessPRF.from_files(folder / 'tess_prf' / 'start_s0001' / 'cam4_ccd1', 300, 400)
    plot_prf(prf)[0].figure.savefig(HERE / 'tess_prf.png', dpi=DPI)


def draw_counts(folder):
    """Draw an image of gamma rays with its sources, as `kpsf photometry --plot` does."""
    with TemporaryDirectory() as results:
        status = main(['photometry', str(folder / 'counts' / 'fermi_counts.fits.gz'),
                       '--psf', 'gaussian:2.7', '--gain', '1', '--centroid-prior', '1',
                       '-o', str(Path(results) / 'counts.ecsv'),
                       '--plot', str(HERE / 'counts.png'), '--overwrite'])
    if status:
        raise SystemExit(status)


def draw_advice(folder):
    """Draw the guidance for Tabby's star, as `kpsf advise --plot` does."""
    pixels = next((folder / 'kepler').glob('kplr008462852*'))
    status = main(['advise', str(pixels), '--plot', str(HERE / 'advice.png'), '--overwrite'])
    if status:
        raise SystemExit(status)


if __name__ == '__main__':
    draw_demo()
    draw_blend()
    if 'KPSF_DATA' in os.environ:
        draw_real(Path(os.environ['KPSF_DATA']))
        draw_tabby_star()
        draw_prf(Path(os.environ['KPSF_DATA']))
        draw_counts(Path(os.environ['KPSF_DATA']))
        draw_advice(Path(os.environ['KPSF_DATA']))
