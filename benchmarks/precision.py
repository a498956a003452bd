# Licensed under a 3-clause BSD style license - see LICENSE
"""Scatter of kpsf's light curves of real stars against the pipeline's aperture.

Reads eight target pixel files of Kepler and K2 from the folder that the environment variable
KPSF_DATA names. Every light curve is compared with the sum over the pipeline's aperture on the
same cadences; a fit that freezes, smooths or eats what the star does would look better than the
truth, so distinct fluxes are counted and signals are put into the pixels and recovered.
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
K2_BULGE = 'k2/ktwo221312395-c91_lpd-targ.fits.gz'
# A neighbour in the corner of the stamp of KIC 12644822 that has no file of its own.
UNNAMED = {'name': 'unnamed', 'column': 852.6, 'row': 271.74}

CADENCES_IN_SIX_AND_A_HALF_HOURS = 13
METHODS = ('free', 'shared', 'alone', 'empirical')


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


def light_curve_by(method, pixels):
    """Return the light curve of one method.

    'free' and 'shared' are Gaussians, by cadence and with one shape; 'alone' is the empirical PSF
    of all light in the stamp, as if it were one star's; 'empirical' is that of the target, its
    neighbours held.
    """
    from kpsf import Scene, extract_light_curve
    if method == 'empirical':
        return extract_light_curve(pixels, 'empirical')
    if method == 'alone':
        x, y = (float(np.median(place)) for place in pixels.expected_positions())
        return extract_light_curve(pixels, scene=Scene({'x': [x], 'y': [y]}))[0]
    return extract_light_curve(pixels, shape=method)


def photon_limit(curve):
    """Return the error of one cadence by photon and read noise alone, in ppm of the flux."""
    flux, error = (curve[name].value for name in ('flux', 'flux_err'))
    excess = curve.meta.get('noise_excess', 0.0) * np.nanmedian(flux)
    return 1e6 * np.sqrt(max(np.nanmedian(error)**2 - excess**2, 0.0)) / np.nanmedian(flux)


def compare_file(path, methods):
    """Print one row per method; return {method: (p2p ratio, CDPP ratio, limit ratio)}."""
    from kpsf import read_tpf
    pixels = read_tpf(path)
    aperture = np.asarray(pixels.aperture_flux(), float)
    ratios = {}
    for method in methods:
        curve = light_curve_by(method, pixels)
        flux = np.asarray(curve['flux'].value, float)
        # Aperture and fit are compared on the cadences that both have.
        used = np.isfinite(flux) & np.isfinite(aperture)
        fitted, summed = flux[used], aperture[used]
        if len(np.unique(fitted)) < 0.99 * len(fitted):
            raise ValueError(f'distinct fluxes are required to measure scatter, but {path.name} '
                             f'has {len(np.unique(fitted))} among {len(fitted)} cadences: '
                             'look for fits that never left their start.')
        scatter = point_to_point_scatter(fitted)
        of_aperture = point_to_point_scatter(summed)
        limit = photon_limit(curve)
        error = 1e6 * np.nanmedian(curve['flux_err'].value) / np.median(fitted)
        ratios[method] = scatter / of_aperture, cdpp(fitted) / cdpp(summed), limit / of_aperture
        print(f'| {pixels.target} | {method} | {used.sum()} | {of_aperture:.0f} / '
              f'{cdpp(summed):.0f} | {scatter:.0f} / {cdpp(fitted):.0f} | {ratios[method][0]:.2f} '
              f'/ {ratios[method][1]:.2f} | {limit:.0f} | {error / scatter:.2f} |', flush=True)
    return ratios


def signals(path, method):
    """Print how much of the signals put into the pixels comes back."""
    from kpsf import read_tpf, signal_transfer
    pixels = read_tpf(path)
    options = {'psf': 'empirical'} if method == 'empirical' else {'shape': method}
    table = signal_transfer(pixels, **options)
    print(f'| {pixels.target} | {len(table)} | {100 * table["transfer"].min():.2f} to '
          f'{100 * table["transfer"].max():.2f} % | {np.sum(table["passed"])} |', flush=True)


def neighbours(paths):
    """Print what a scene of the neighbouring stamps makes of their stars."""
    from kpsf import Scene, extract_light_curve, learn_psf, read_tpf
    tpfs = [read_tpf(path) for path in paths]
    stars = {'name': [], 'column': [], 'row': []}
    for pixels in tpfs:
        x, y = (float(np.median(place)) for place in pixels.expected_positions())
        stars['name'].append(pixels.target)
        stars['column'].append(pixels.column + x)
        stars['row'].append(pixels.row + y)
    every = {name: [*values, UNNAMED[name]] for name, values in stars.items()}
    learned = learn_psf(tpfs, {name: every[name] for name in ('column', 'row')}, oversampling=2)
    print(f'\nLearned PSF of {len(every["row"])} stars in {len(tpfs)} stamps: absolute residuals '
          f'{100 * learned.residual:.1f} % of the light (a Gaussian leaves '
          f'{100 * learned.start_residual:.1f} %).')
    blend = [i for i, row in enumerate(stars['row']) if 243 < row < 249]
    table = {name: [values[i] for i in blend] for name, values in stars.items()}
    curves = extract_light_curve([tpfs[i] for i in blend],
                                 scene=Scene(table, base=learned.model))
    print('\n| star | aperture p2p / CDPP (ppm) | its own share of that light | scene p2p / CDPP '
          "(ppm) | limit p2p (ppm) | ratio p2p / CDPP | with the aperture's light its own |\n"
          '|---|---:|---:|---:|---:|---:|---:|')
    for i, name in zip(blend, table['name']):
        curve, pixels = curves[name], tpfs[i]
        flux, aperture = curve['flux'].value, pixels.aperture_flux()
        share = own_share(pixels, learned.model, curve, curves)
        ratio = (point_to_point_scatter(flux) / point_to_point_scatter(aperture),
                 cdpp(flux) / cdpp(aperture))
        print(f'| {name} | {point_to_point_scatter(aperture):.0f} / {cdpp(aperture):.0f} '
              f'| {share:.2f} | {point_to_point_scatter(flux):.0f} / {cdpp(flux):.0f} '
              f'| {photon_limit(curve):.0f} | {ratio[0]:.2f} / {ratio[1]:.2f} '
              f'| {ratio[0] * share:.2f} / {ratio[1] * share:.2f} |')


def own_share(pixels, model, curve, curves):
    """Return the share of a star in the light of its own aperture."""
    inside = pixels.pipeline_aperture
    y, x = np.nonzero(inside)
    light = []
    for other in curves:
        star = model.copy()
        star.flux = np.median(other['flux'].value)
        star.x_0 = np.median(other['column'].value) - pixels.column
        star.y_0 = np.median(other['row'].value) - pixels.row
        light.append(star(x.astype(float), y.astype(float)).sum())
    own = [i for i, other in enumerate(curves) if other is curve]
    return light[own[0]] / sum(light)


def bulge(path):
    """Print what a scene of the crowded K2 stamp leaves, and how its light curves scatter."""
    from kpsf import Scene, extract_light_curve, find_stars, learn_psf, read_tpf
    pixels = read_tpf(path)
    stars = find_stars(pixels)
    curves = extract_light_curve(pixels, scene=Scene(stars, psf='gaussian'))
    ratios = []
    for curve in curves:
        flux = curve['flux'].value[np.isfinite(curve['flux'].value)]
        ratios.append(point_to_point_scatter(flux) / photon_limit(curve))
    print(f'\nK2 C9 bulge, {len(stars)} stars with a Gaussian, the roll modelled: scatter over '
          f'photon noise {", ".join(f"{ratio:.1f}" for ratio in sorted(ratios))}; '
          f'{sum(ratio < 2 for ratio in ratios)} within 2.')
    learned = learn_psf(pixels, {'x': np.clip(stars['x'], -0.49, pixels.shape[1] - 0.51),
                                 'y': np.clip(stars['y'], -0.49, pixels.shape[0] - 0.51)},
                        oversampling=2, n_pixels=11)
    for label, scene in (('learned PSF', Scene(stars, psf=learned.model)),
                         ('learned PSF and modes', Scene(stars, base=learned.model))):
        share = residual_share(pixels, extract_light_curve(pixels, scene=scene))
        print(f'{label}: absolute residuals {100 * share:.1f} % of the light of the stars.')


def residual_share(pixels, curves):
    """Return the sum of the absolute residuals over that of the model's light."""
    fit, scene_pixels = curves.scene_fit
    rest = np.abs(scene_pixels.rate - fit.mean)[fit.used]
    light = (fit.mean - scene_pixels.background - fit.background[:, np.newaxis])[fit.used]
    return rest.sum() / light.sum()


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
    parser.add_argument('--methods', nargs='+', default=METHODS, choices=METHODS,
                        help='what to compare')
    parser.add_argument('--quick', action='store_true', help="Tabby's star only")
    options = parser.parse_args(argv)
    folder = Path(os.environ.get('KPSF_DATA', ''))
    if 'KPSF_DATA' not in os.environ or not folder.is_dir():
        print('A folder of target pixel files is required, but KPSF_DATA is '
              f'{os.environ.get("KPSF_DATA", "not set")!r}: set it to that folder.',
              file=sys.stderr)
        return 2
    print('| star | method | cadences | aperture p2p / CDPP (ppm) | kpsf p2p / CDPP (ppm) '
          '| ratio p2p / CDPP | limit p2p (ppm) | error over scatter |\n'
          '|---|---|---:|---:|---:|---:|---:|---:|')
    compare_file(folder / TABBY, options.methods)
    if options.quick:
        return 0
    compare_file(folder / KEPLER_62, options.methods)
    five = sorted(folder.glob(FIVE_STARS))
    found = [compare_file(path, options.methods) for path in five]
    print()
    for method in options.methods:
        p2p_ratio, cdpp_ratio, limit = np.median([ratios[method] for ratios in found], axis=0)
        print(f'Median of the {len(found)} Quarter 12 stars, {method}: p2p {p2p_ratio:.3f}, CDPP '
              f"{cdpp_ratio:.3f}, limit {limit:.3f} of the aperture's p2p.")
    print('\n| star | signals | recovered | passed |\n|---|---:|---:|---:|')
    for path in (folder / TABBY, folder / KEPLER_62, *five):
        signals(path, 'empirical')
    neighbours(five)
    bulge(folder / K2_BULGE)
    return 0


if __name__ == '__main__':
    sys.exit(main())
