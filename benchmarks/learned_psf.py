# Licensed under a 3-clause BSD style license - see LICENSE
"""How well a PRF is learned from stamps, by kpsf's joint fit and by photutils' EPSFBuilder.

Simulated stars have a known PRF, whose image is compared, the zero point aside. All stars are
judged on cadences that were not learned from: one fit per stamp of all its stars and a background,
by weighted least squares, under each PRF, without kpsf's fitters.
"""

import argparse
import os
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares, minimize

__all__ = ['main']

N_CADENCES, SHAPE = 40, (11, 11)
OVERSAMPLINGS = (2, 3, 4, 6)


def simulate(prf, n_stamps, folder, *, mission, drift, seed=0):
    """Return simulated stamps of one star each."""
    from kpsf import read_tpf, simulate_tpf

    rng = np.random.default_rng(seed)
    header = ({'CAMERA': 4, 'CCD': 1, 'SECTOR': 1} if mission == 'TESS'
              else {'CHANNEL': 20, 'MODULE': 7, 'OUTPUT': 4})
    tpfs = []
    for number in range(n_stamps):
        star = (10**rng.uniform(3.3, 4.5), *(5 + rng.uniform(-0.5, 0.5, 2)))
        path = simulate_tpf(Path(folder) / f'{number}.fits', prf, mission=mission, stars=[star],
                            n_cadences=N_CADENCES, shape=SHAPE, drift=drift, header=header,
                            seed=seed + number, column=500 + 20 * number, overwrite=True)
        tpfs.append(read_tpf(path))
    return tpfs


def part_of(tpf, cadences):
    """Return some cadences of a stamp."""
    names = ('time', 'cadenceno', 'flux', 'flux_err', 'background', 'quality', 'good_pixels',
             'pos_corr')
    return replace(tpf, **{name: getattr(tpf, name)[cadences] for name in names})


def images_of(tpf):
    """Return the images to learn from or to judge by: the mean, or all where the star moves."""
    images = np.where(tpf.good_pixels, tpf.flux.astype(float), np.nan)
    x, y = tpf.expected_positions()
    if np.nanstd(tpf.pos_corr) < 0.05:
        images, x, y = images.mean(axis=0)[np.newaxis], [np.median(x)], [np.median(y)]
    return list(zip(images, x, y))


def by_epsf_builder(tpfs, oversampling):
    """Return photutils' ePSF, or None if it fails."""
    from photutils.psf import EPSFBuilder, EPSFStar, EPSFStars

    from kpsf import TabulatedPRF

    stars = []
    for tpf in tpfs:
        for image, x, y in images_of(tpf):
            seen = np.isfinite(image)
            # It has no background of its own.
            data = np.where(seen, image - np.nanpercentile(image, 5), 0.0)
            stars.append(EPSFStar(data, weights=seen.astype(float), cutout_center=(x, y),
                                  id_label=len(stars) + 1))
    builder = EPSFBuilder(oversampling=oversampling, maxiters=15, progress_bar=False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            psf = builder(EPSFStars(stars))[0]
            return TabulatedPRF.from_image_psf(psf, normalize='mean')
        except (ValueError, RuntimeError) as error:
            print(f'  EPSFBuilder with {oversampling} samples: {error}', file=sys.stderr)
            return None


def judge(model, tpfs, places):
    """Return the residual share of each stamp, sum |data - model| / sum data."""
    return np.array([np.median([share_of(model, image, places[k] + (x, y) - at)
                                for image, x, y in images_of(tpf)])
                     for k, tpf in enumerate(tpfs)
                     for at in [np.array([np.median(p) for p in tpf.expected_positions()])]])


def share_of(model, image, places):
    """Return sum |data - model| / sum data of an image with stars near some places."""
    seen = np.isfinite(image)
    y, x = np.nonzero(seen)
    data = image[seen]
    weight = 1.0 / np.sqrt(np.maximum(data, 0.01 * data.max()))

    def left(params):
        columns = [model.evaluate(x, y, 1.0, *place, 1.0, 1.0, 0.0)
                   for place in params.reshape(-1, 2)]
        design = np.column_stack([*columns, np.ones(len(x))])
        values = np.linalg.lstsq(design * weight[:, np.newaxis], data * weight)[0]
        return data - design @ values

    best = min((least_squares(lambda p: left(p) * weight, (places + offset).ravel())
                for offset in ((0.0, 0.0), (0.2, 0.2), (-0.2, -0.2))), key=lambda fit: fit.cost)
    return np.abs(left(best.x)).sum() / data.sum()


def error_of(model, truth, reach=5.0):
    """Return the sum of absolute errors within the stamps, as share of the light there."""
    offset = np.arange(-reach, reach + 1e-9, 0.1)
    x, y = np.meshgrid(offset, offset)
    values = model.evaluate(x, y, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0)

    def error(params):
        there = truth.evaluate(x, y, 1.0, *params, 1.0, 1.0, 0.0)
        return np.abs(values / values.sum() - there / there.sum()).sum()

    simplex = [[0.0, 0.0], [0.2, 0.0], [0.0, 0.2]]
    return minimize(error, [0.0, 0.0], method='Nelder-Mead',
                    options={'initial_simplex': simplex}).fun


def compare(label, tpfs, truth=None, other=None):
    """Print one row per method; return whether kpsf's is the best of those without the truth."""
    from kpsf import learn_psf

    halves = [[part_of(tpf, np.s_[first::2]) for tpf in tpfs] for first in (0, 1)]
    learned = learn_psf(halves[0])
    inside = learned.table[learned.table['is_fitted']]
    places = [np.array([[row['x'], row['y']] for row in inside if row['tpf'] == k])
              for k in range(len(tpfs))]
    models = {'Gaussian': learned.start, 'calibration of another channel': other,
              f'kpsf, {learned.oversampling} samples': learned.model}
    for oversampling in OVERSAMPLINGS:
        models[f'EPSFBuilder, {oversampling} samples'] = by_epsf_builder(halves[0], oversampling)
    models['the true PRF'] = truth
    shares = {}
    for name, model in models.items():
        if model is None:
            continue
        share = judge(model, halves[1], places)
        shares[name] = np.median(share)
        error = '' if truth is None else f'{error_of(model, truth):.2%}'
        print(f'| {label} | {name} | {np.median(share):.2%} | {share.min():.2%} to '
              f'{share.max():.2%} | {error} |', flush=True)
    shares.pop('the true PRF', None)
    return min(shares, key=shares.get).startswith('kpsf')


def main(argv=None):
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', default=os.environ.get('KPSF_DATA'), help='folder of real data')
    options = parser.parse_args(argv)
    from kpsf import KeplerPRF, TessPRF, read_tpf, simulate_kepler_prf

    print('| stars | PRF | residual, median | residual of stamps | error of the image |\n'
          '|---|---|---:|---:|---:|')
    with tempfile.TemporaryDirectory() as folder:
        if options.data:
            path = Path(options.data) / 'kepler_prf/kplr07.4_2011265_prf.fits'
        else:
            path = simulate_kepler_prf(Path(folder) / 'prf.fits')
        kepler = KeplerPRF.from_file(path, 500, 500)
        cases = [('5 of Kepler', 5, kepler, 'Kepler', 0.02),
                 ('20 of Kepler', 20, kepler, 'Kepler', 0.02),
                 ('2 of K2, 1 pixel of drift', 2, kepler, 'K2', 1.0)]
        if options.data:
            tess = Path(options.data) / 'tess_prf/start_s0001/cam4_ccd1'
            cases.append(('12 of TESS', 12, TessPRF.from_files(tess, 1000, 1000), 'TESS', 0.02))
        is_best = [compare(label, simulate(prf, n, folder, mission=mission, drift=drift), prf)
                   for label, n, prf, mission, drift in cases]
    if options.data:
        paths = sorted((Path(options.data) / 'kepler_q12_ch04').glob('*.fits'))
        is_best.append(compare('5 of Q12, channel 4', [read_tpf(path) for path in paths],
                               other=kepler))
    return 0 if all(is_best) else 1


if __name__ == '__main__':
    sys.exit(main())
