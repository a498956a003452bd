# Licensed under a 3-clause BSD style license - see LICENSE
"""Scatter of kpsf's light curves of real stars against the pipeline's aperture.

Reads seven Kepler target pixel files from the folder that the environment variable KPSF_DATA
names. Every light curve is compared with the sum over the pipeline's aperture on the same
cadences; a fit that freezes or smooths would look better than the truth, so the number of
distinct fluxes is checked.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from scipy.signal import savgol_filter

__all__ = ['cdpp', 'main', 'point_to_point_scatter']

TABBY = 'kepler/kplr008462852-q08-first100.fits'
KEPLER_62 = 'kepler/kplr009002278-2010174085026_lpd-targ.fits.gz'
FIVE_STARS = 'kepler_q12_ch04/*.fits*'

CADENCES_IN_SIX_AND_A_HALF_HOURS = 13


def point_to_point_scatter(flux):
    """Scatter from one cadence to the next in ppm, insensitive to trends and outliers.

    Parameters
    ----------
    flux : ndarray, shape (n_cadences,)
        Light curve in any unit.

    Returns
    -------
    float
        1.4826 MAD(differences) / sqrt(2) / median, in parts per million.
    """
    steps = np.diff(flux)
    deviation = np.median(np.abs(steps - np.median(steps)))
    return 1e6 * 1.4826 * deviation / np.sqrt(2.0) / np.median(flux)


def cdpp(flux):
    """Combined differential photometric precision over 6.5 hours of long cadences, in ppm.

    Parameters
    ----------
    flux : ndarray, shape (n_cadences,)
        Light curve in any unit.

    Returns
    -------
    float
        Standard deviation of the 13-cadence running mean after division by a second-order
        Savitzky-Golay trend of 101 cadences (31 for fewer than 150 cadences).

    References
    ----------
    .. [1] Gilliland, R. L. et al. 2011, ApJS, 197, 6.
    """
    window = 101 if len(flux) >= 150 else 31
    flat = flux / savgol_filter(flux, window, 2)
    width = CADENCES_IN_SIX_AND_A_HALF_HOURS
    return 1e6 * np.std(np.convolve(flat, np.full(width, 1.0 / width), mode='valid'))


def compare_file(path, shapes):
    """Print one row per shape; return {shape: (p2p ratio, CDPP ratio)}."""
    from kpsf import extract_light_curve, read_tpf

    pixels = read_tpf(path)
    aperture = np.asarray(pixels.aperture_flux(), float)
    ratios = {}
    for shape in shapes:
        curve = extract_light_curve(pixels, shape=shape)
        flux = np.asarray(curve['flux'].value, float)
        # Aperture and fit are compared on the cadences that both have.
        used = np.isfinite(flux) & np.isfinite(aperture)
        fitted, summed = flux[used], aperture[used]
        if len(np.unique(fitted)) < 0.99 * len(fitted):
            raise ValueError(f'distinct fluxes are required to measure scatter, but {path.name} '
                             f'has {len(np.unique(fitted))} among {len(fitted)} cadences: '
                             'look for fits that never left their start.')
        ratios[shape] = (point_to_point_scatter(fitted) / point_to_point_scatter(summed),
                         cdpp(fitted) / cdpp(summed))
        print(f'| {pixels.target} | {shape} | {used.sum()} '
              f'| {np.sum(np.asarray(curve["converged"], bool)[used])} '
              f'| {point_to_point_scatter(summed):.0f} / {cdpp(summed):.0f} '
              f'| {point_to_point_scatter(fitted):.0f} / {cdpp(fitted):.0f} '
              f'| {ratios[shape][0]:.2f} / {ratios[shape][1]:.2f} |', flush=True)
    return ratios


def main(argv=None):
    """Print the scatter of every star and the medians over the five neighbours.

    Parameters
    ----------
    argv : list of str, optional
        Command-line arguments; those of the process by default.

    Returns
    -------
    int
        0, or 2 where KPSF_DATA is missing.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--shapes', nargs='+', default=['free', 'shared'],
                        choices=('free', 'shared'), help='shape options to compare')
    parser.add_argument('--quick', action='store_true', help="Tabby's star only")
    options = parser.parse_args(argv)
    folder = Path(os.environ.get('KPSF_DATA', ''))
    if 'KPSF_DATA' not in os.environ or not folder.is_dir():
        print('A folder of target pixel files is required, but KPSF_DATA is '
              f'{os.environ.get("KPSF_DATA", "not set")!r}: set it to that folder.',
              file=sys.stderr)
        return 2
    print('| star | shape | cadences | converged | aperture p2p / CDPP (ppm) '
          '| kpsf p2p / CDPP (ppm) | ratio p2p / CDPP |\n|---|---|---:|---:|---:|---:|---:|')
    compare_file(folder / TABBY, options.shapes)
    if options.quick:
        return 0
    compare_file(folder / KEPLER_62, options.shapes)
    neighbours = [compare_file(path, options.shapes) for path in sorted(folder.glob(FIVE_STARS))]
    for shape in options.shapes:
        p2p_ratio, cdpp_ratio = np.median([ratios[shape] for ratios in neighbours], axis=0)
        print(f'\nMedian of the {len(neighbours)} Quarter 12 stars, shape {shape}: p2p '
              f"{p2p_ratio:.2f}, CDPP {cdpp_ratio:.2f} of the aperture's.")
    return 0


if __name__ == '__main__':
    sys.exit(main())
