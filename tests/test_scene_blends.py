# Licensed under a 3-clause BSD style license - see LICENSE
"""An eclipse of the fainter of two blended stars stays with it; benchmarks/blends.py has more."""

from dataclasses import replace

import numpy as np
import pytest

from kpsf import (
    EllipticalGaussianPRF,
    KeplerPRF,
    Scene,
    TessPRF,
    extract_light_curve,
    read_tpf,
    simulate_tpf,
)

N, ECLIPSE, DEPTH = 400, slice(160, 220), 0.1
HEADERS = {'Kepler': {'CHANNEL': 20, 'MODULE': 7, 'OUTPUT': 4},
           'TESS': {'CAMERA': 4, 'CCD': 1, 'SECTOR': 1}}
# Total fluxes in e-/s.
TOTAL = {'Kepler': 2e4, 'TESS': 1.5e4}


def gaussian_prf():
    """Return a Gaussian of Kepler's width whose shape is known."""
    prf = EllipticalGaussianPRF.from_stddev(1.0, 0.0, 0.0, 0.65, 0.6, 0.3)
    prf.fixed.update(a=True, b=True, c=True)
    return prf


@pytest.fixture(scope='module', params=['Gaussian', 'Kepler', 'TESS'])
def prf(request):
    """Return the mission and the PRF of the stars."""
    if request.param == 'Gaussian':
        return 'Kepler', gaussian_prf()
    data = request.getfixturevalue('kpsf_data')
    if request.param == 'Kepler':
        path = data / 'kepler_prf/kplr07.4_2011265_prf.fits'
        return 'Kepler', KeplerPRF.from_file(path, 500, 500)
    return 'TESS', TessPRF.from_files(data / 'tess_prf/start_s0001/cam4_ccd1', 1000, 1000)


def simulate(folder, mission, psf, places, flux, drift=0.1, first=0, width=11, seed=1):
    """Return a stamp of two stars that begins at column ``first`` and the light curves (n, 2)."""
    factors = np.ones((2, N))
    factors[1, ECLIPSE] -= DEPTH
    path = simulate_tpf(folder / f'{first}.fits', psf, mission=mission, light_curve=factors,
                        stars=np.column_stack([flux, np.subtract(places, (first, 0))]),
                        drift=drift, shape=(11, width), header=HEADERS[mission],
                        column=500 + first, row=500, seed=seed, overwrite=True,
                        target=100000001 + first)
    return read_tpf(path), (np.asarray(flux)[:, np.newaxis] * factors).T


def scene_of(psf, places, flux=(np.nan, np.nan), **options):
    """Return a scene whose places are wrong by 0.07 pixels, towards each other."""
    x, y = np.transpose(places) + [[0.05, -0.05], [-0.05, 0.05]]
    return Scene({'x': x, 'y': y, 'flux': flux}, psf=psf, **options)


def with_light(tpf, psf, place, light):
    """Return a stamp with more light (n,) of a star that drifts as POS_CORR says."""
    y, x = np.mgrid[:tpf.shape[0], :tpf.shape[1]]
    star, flux = psf.copy(), np.array(tpf.flux, dtype=float)
    for k in np.flatnonzero(light):
        shift = tpf.pos_corr[k] + tpf.meta['pos_corr_median']
        star.flux, star.x_0, star.y_0 = light[k], *(place + shift)
        flux[k] += star(x, y)
    return replace(tpf, flux=flux)


def depth_of(curve):
    """Return the depth of the eclipse and its error."""
    flux, error = curve['flux'].value, curve['flux_err'].value
    outside = np.ones(N, dtype=bool)
    outside[ECLIPSE] = False
    level, inside = flux[outside].mean(), flux[ECLIPSE].mean()
    inside_err, level_err = (np.sqrt((error[part]**2).sum()) / error[part].size
                             for part in (ECLIPSE, outside))
    return 1.0 - inside / level, np.hypot(inside_err, inside / level * level_err) / level


@pytest.mark.parametrize('separation', [0.8, 1.2, 2.0])
def test_an_eclipse_of_the_fainter_star_stays_with_it(tmp_path, prf, separation):
    mission, psf = prf
    places = np.array([[4.8, 5.1], [4.8 + 0.8 * separation, 5.1 + 0.6 * separation]])
    flux = TOTAL[mission] / 6.0 * np.array([5.0, 1.0])
    tpf, truth = simulate(tmp_path, mission, psf, places, flux)
    curves = extract_light_curve(tpf, scene=scene_of(psf, places))
    depth, depth_err = depth_of(curves[1])
    assert abs(depth - DEPTH) < 3.0 * depth_err
    assert depth_err < 0.1 * DEPTH
    rest = curves.flux.value - truth
    ratio = np.sqrt((curves.flux_err.value**2).mean(axis=0)) / rest.std(axis=0)
    assert np.all((ratio > 0.9) & (ratio < 1.1))
    correlation = np.corrcoef(rest.T)[0, 1]
    assert curves.correlation()[:, 0, 1].mean() == pytest.approx(correlation, abs=0.15)


@pytest.mark.parametrize('separation', [1.2, 2.0])
def test_less_than_a_hundredth_of_an_eclipse_leaks_into_a_star_20_times_as_bright(
        tmp_path, prf, separation):
    mission, psf = prf
    places = np.array([[4.8, 5.1], [4.8 + 0.8 * separation, 5.1 + 0.6 * separation]])
    flux = TOTAL[mission] / 21.0 * np.array([20.0, 1.0])
    tpf, truth = simulate(tmp_path, mission, psf, places, flux)
    scene = scene_of(psf, places)
    missing = flux[1] - truth[:, 1]
    curves, flat = (extract_light_curve(pixels, scene=scene)
                    for pixels in (tpf, with_light(tpf, psf, places[1], missing)))
    difference = (curves.flux - flat.flux).value
    change = difference[ECLIPSE].mean(axis=0) - difference[:ECLIPSE.start].mean(axis=0)
    assert abs(change[0]) < 0.01 * DEPTH * flux[1]
    assert change[1] == pytest.approx(-DEPTH * flux[1], rel=0.01)


@pytest.mark.parametrize('factors', [(0.5, 2.0), (2.0, 0.5), (1.0, np.nan)])
def test_fluxes_that_a_catalogue_has_wrong_do_not_matter(tmp_path, factors):
    psf, places, flux = gaussian_prf(), [[4.8, 5.1], [6.0, 5.1]], np.array([1.5e4, 3e3])
    tpf, _ = simulate(tmp_path, 'Kepler', psf, places, flux)
    curves, others = (extract_light_curve(tpf, scene=scene_of(psf, places, known))
                      for known in ((np.nan, np.nan), flux * factors))
    np.testing.assert_allclose(others.flux.value, curves.flux.value,
                               atol=0.01 * curves.flux_err.value.min())


def test_stars_on_either_side_of_an_edge_between_stamps_are_told_apart(tmp_path):
    psf, places, flux = gaussian_prf(), [[4.9, 5.1], [6.1, 5.1]], np.array([1e4, 5e3])
    drift = np.column_stack([np.linspace(-0.1, 0.1, N), np.linspace(0.05, -0.05, N)])
    scene, variance, scatter = scene_of(psf, places), 0.0, 0.0
    for seed in range(4):
        stamps, truths = zip(*[simulate(tmp_path, 'Kepler', psf, places, flux, drift, first,
                                        width, seed=10 * first + seed)
                               for first, width in ((0, 6), (6, 5))])
        curves = extract_light_curve(list(stamps), scene=scene)
        depth, depth_err = depth_of(curves[1])
        assert abs(depth - DEPTH) < 3.0 * depth_err
        variance += (curves.flux_err.value**2).mean(axis=0)
        scatter += (curves.flux.value - truths[0]).var(axis=0)
    ratio = np.sqrt(variance / scatter)
    assert np.all((ratio > 0.9) & (ratio < 1.1))
