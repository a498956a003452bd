# Licensed under a 3-clause BSD style license - see LICENSE
"""The figure of a scene shows all pixels, its stars, and what the model lacks."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from kpsf import Scene, SceneLightCurves, extract_light_curve, read_tpf, simulate_tpf
from kpsf.plotting import plot_scene

N_CADENCES = 40
FIRST, SECOND = (2e5, 4.0, 4.0), (5e4, 6.2, 5.0)
NAMES = ['target', 'Gaia DR3 2081900940499099136']


@pytest.fixture(scope='module')
def tpf(tmp_path_factory):
    """Return two stars, of which the second varies; a pixel has no data."""
    varied = np.ones((2, N_CADENCES))
    varied[1] += 0.2 * np.sin(np.arange(N_CADENCES))
    path = simulate_tpf(tmp_path_factory.mktemp('pixels') / 'a.fits', stars=[FIRST, SECOND],
                        light_curve=varied, shape=(9, 11), seed=4)
    tpf = read_tpf(path)
    good = tpf.good_pixels.copy()
    good[:, 8, 0] = False
    return replace(tpf, good_pixels=good)


def scene_of(*stars, names=NAMES):
    return Scene({'name': names[:len(stars)], 'x': [star[1] for star in stars],
                  'y': [star[2] for star in stars]}, psf='gaussian')


@pytest.fixture(scope='module')
def curves(tpf):
    return extract_light_curve(tpf, scene=scene_of(FIRST, SECOND))


def image_of(ax):
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def test_data_and_model_are_the_means_of_the_pixels(tpf, curves):
    axes = plot_scene(tpf, curves)
    mean = tpf.total_rate.mean(axis=0)
    data, model = map(image_of, axes[:2])
    seen = np.isfinite(data)
    np.testing.assert_array_equal(np.argwhere(~seen), [[8, 0]])
    np.testing.assert_allclose(data[seen], mean[seen], rtol=1e-5)
    np.testing.assert_allclose(model[seen], mean[seen], rtol=0.02)
    assert axes[0].images[0].get_extent() == [-0.5, 10.5, -0.5, 8.5]


def test_residuals_of_a_right_model_are_noise(tpf, curves):
    left, scatter = map(image_of, plot_scene(tpf, curves)[2:])
    # The mean of 40 cadences, in units of the noise of one.
    assert np.nanstd(left) * np.sqrt(N_CADENCES) == pytest.approx(1.0, abs=0.3)
    assert np.nanmedian(scatter) == pytest.approx(1.0, abs=0.05)


def test_a_star_that_is_missing_shows_in_both_residuals(tpf):
    alone = extract_light_curve(tpf, scene=scene_of(FIRST))
    left, scatter = map(image_of, plot_scene(tpf, alone)[2:])
    for image in (left, scatter):
        assert np.hypot(*(np.argwhere(image == np.nanmax(image))[0] - (5, 6))) <= 1.0
    assert np.nanmax(scatter) > 10


def test_stars_are_marked_and_long_names_cut_to_their_end(tpf, curves):
    axes = plot_scene(tpf, curves)
    x, y = axes[2].lines[0].get_data()
    np.testing.assert_allclose(x, [FIRST[1], SECOND[1]], atol=0.05)
    np.testing.assert_allclose(y, [FIRST[2], SECOND[2]], atol=0.05)
    assert [text.get_text() for text in axes[1].texts] == ['target', '…499099136']


def test_stars_that_are_taken_to_be_constant_are_circles(tmp_path):
    path = simulate_tpf(tmp_path / 'a.fits', stars=[(2e5, 5.0, 5.0), (5e4, 8.3, 7.1)], seed=1)
    free, constant = plot_scene(path, extract_light_curve(path, psf='empirical'))[0].lines
    np.testing.assert_allclose(free.get_data(), [[5.0], [5.0]], atol=0.1)
    np.testing.assert_allclose(constant.get_data(), [[8.3], [7.1]], atol=0.1)


def test_stamps_beside_each_other_are_one_image(tmp_path):
    paths = [simulate_tpf(tmp_path / f'{column}.fits', stars=[(1e5, 505.0 - column, 3.0)],
                          shape=(7, 6), column=column, n_cadences=20, seed=column)
             for column in (500, 508)]
    curves = extract_light_curve(paths, scene=Scene({'column': [505.0], 'row': [503.0]},
                                                    psf='gaussian'))
    data = image_of(plot_scene(paths, curves)[0])
    assert data.shape == (7, 14)
    np.testing.assert_array_equal(np.isnan(data).all(axis=0), [False] * 6 + [True] * 2
                                  + [False] * 6)


def test_nothing_is_clipped(tpf, curves, tmp_path):
    figure = plot_scene(tpf, curves)[0].figure
    figure.savefig(tmp_path / 'scene.png')
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= 0
    assert drawn.x1 <= width
    assert drawn.y1 <= height


def test_axes_may_be_given(tpf, curves):
    given = Figure().subplots(2, 2)
    assert [*plot_scene(tpf, curves, given)] == [*given.ravel()]


def test_other_pixels_say_what_to_do(tpf, curves):
    part = {name: getattr(tpf, name)[:10] for name in (
        'time', 'cadenceno', 'flux', 'flux_err', 'background', 'quality', 'good_pixels',
        'pos_corr')}
    with pytest.raises(ValueError, match=r'of these pixels, .*\(10 cadences\), but .*\(40 '):
        plot_scene(replace(tpf, **part), curves)


def test_only_what_was_returned_has_the_fit(tpf, curves, tmp_path):
    light_curve = extract_light_curve(tpf, psf='empirical')
    assert len(light_curve.scene_fit[0].flux) == len(light_curve)
    curves.write(tmp_path / 'scene.fits')
    for without in (light_curve[:10], extract_light_curve(tpf),
                    SceneLightCurves.read(tmp_path / 'scene.fits')):
        with pytest.raises(ValueError, match='extract_light_curve returned'):
            plot_scene(tpf, without)
