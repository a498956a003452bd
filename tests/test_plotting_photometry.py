# Licensed under a 3-clause BSD style license - see LICENSE
"""The figure of a photometry shows the stars where they are, and residuals in their noise."""

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import NDData
from astropy.table import QTable
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from photutils.psf import CircularGaussianPRF

from kpsf import PoissonPSFPhotometry
from kpsf.plotting import plot_photometry
from kpsf.plotting.style import VERMILLION

PSF = CircularGaussianPRF(fwhm=2.5)
X, Y, FLUX = np.array([12.0, 30.4, 47.0]), np.array([11.0, 25.2, 38.1]), 3000.0


def simulate(shape=(50, 60), background=30.0, gain=1.0, read_noise=0.0, flux=FLUX, seed=1):
    """Return an image of three stars, in electrons over the gain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:shape[0], :shape[1]]
    mean = background + sum(PSF.evaluate(x, y, flux, *place, 2.5) for place in zip(X, Y))
    return (rng.poisson(mean) + rng.normal(0.0, read_noise, shape)) / gain


def measure(data, x=X, y=Y, mask=None, **options):
    photometry = PoissonPSFPhotometry(PSF, 11, **options)
    photometry(data, mask=mask, init_params=QTable({'x': x, 'y': y}))
    return photometry


def draw(axes, tmp_path):
    """Save the figure, which finds what drawing would raise, and check that nothing is cut off."""
    figure = axes[0].figure
    figure.savefig(tmp_path / 'figure.png')
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= 0
    assert drawn.x1 <= width
    assert drawn.y1 <= height


def values(ax):
    """Return the image of some axes, NaN where nothing is drawn."""
    return np.ma.filled(np.ma.asarray(ax.images[0].get_array(), dtype=float), np.nan)


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_stars_are_circled_in_the_image_and_gone_from_the_residual(tmp_path):
    data = simulate()
    axes = plot_photometry(photometry := measure(data), data)
    draw(axes, tmp_path)
    circles, = axes[0].collections
    np.testing.assert_allclose(circles.get_offsets(), np.column_stack(
        [photometry.results['x_fit'], photometry.results['y_fit']]))
    assert legend_texts(axes[0]) == ['fitted (3)']
    assert axes[0].get_title() == '3 stars, 0 flagged'
    norm = axes[0].images[0].norm
    np.testing.assert_array_equal(values(axes[0]), np.maximum(data, norm.vmin))
    residual = values(axes[1])
    assert abs(residual.mean()) < 0.1
    assert 0.9 < residual.std() < 1.1
    assert np.abs(residual).max() < 5.5
    assert '(Data $-$ model) / noise\nstandard deviation ' in axes[1].get_title()


def test_white_names_stand_on_a_dark_ground_in_the_style_without_frames():
    data = simulate()
    with pyplot.style.context('kpsf.plotting.style'):
        legend = plot_photometry(measure(data), data)[0].get_legend()
    assert legend.get_frame_on()
    assert to_hex(legend.get_texts()[0].get_color()) == '#ffffff'


def test_residuals_are_in_units_of_their_noise_in_any_unit_of_the_data():
    data = simulate(gain=4.0, read_noise=6.0)
    residual = values(plot_photometry(measure(data, gain=4.0, read_noise=6.0), data)[1])
    assert 0.9 < residual.std() < 1.1
    in_electrons = simulate(read_noise=6.0)
    other = values(plot_photometry(measure(in_electrons, read_noise=6.0), in_electrons)[1])
    np.testing.assert_allclose(residual, other, atol=1e-4)


def test_a_known_background_is_part_of_the_noise():
    data = simulate()
    photometry = measure(data - 30.0, background=30.0)
    residual = values(plot_photometry(photometry, data - 30.0)[1])
    assert 0.9 < residual.std() < 1.1
    image = np.full(data.shape, 30.0)
    same = values(plot_photometry(measure(data - 30.0, background=image), data - 30.0)[1])
    np.testing.assert_allclose(same, residual, atol=1e-6)


def test_a_star_that_was_not_fitted_stands_out():
    data = simulate()
    residual = values(plot_photometry(measure(data, X[:2], Y[:2]), data)[1])
    assert np.unravel_index(np.argmax(residual), residual.shape) == (38, 47)
    assert residual.max() > 20
    # It does not pull up the background around it.
    around = residual[30:46, 40:58][np.hypot(*(np.mgrid[30:46, 40:58] - [[[38]], [[47]]])) > 5]
    assert abs(around.mean()) < 0.3


def test_the_scale_of_residuals_is_symmetric_and_named(tmp_path):
    data = simulate()
    axes = plot_photometry(measure(data, X[:2], Y[:2]), data, unit='adu')
    low, high = axes[1].images[0].get_clim()
    assert high == -low
    assert high >= 4.0
    assert axes[0].images[0].colorbar.ax.get_ylabel() == 'adu per pixel'
    assert axes[1].images[0].colorbar.ax.get_ylabel() == r'Standard deviations ($\sigma$)'
    for ax in axes:
        assert (ax.get_xlabel(), ax.get_ylabel()) == ('x, column (pixels)', 'y, row (pixels)')


def test_stars_with_a_flag_are_crosses_also_without_a_fit(tmp_path):
    data = simulate()
    x, y = np.append(X, [58.5, 20.0]), np.append(Y, [5.0, 200.0])
    photometry = measure(data, x, y)
    axes = plot_photometry(photometry, data)
    draw(axes, tmp_path)
    circles, crosses = axes[0].collections
    assert len(circles.get_offsets()) == 3
    assert to_hex(crosses.get_facecolor()).upper() == VERMILLION or to_hex(
        crosses.get_edgecolor()).upper() == VERMILLION
    # No fit: it is where it was expected, beyond the axes, which stay.
    np.testing.assert_allclose(crosses.get_offsets()[1], [20.0, 200.0])
    assert axes[0].get_ylim() == (-0.5, 49.5)
    first, second = legend_texts(axes[0])
    assert first == 'fitted (3)'
    assert second.startswith('flagged (2)\n')
    assert second.endswith(', ...')
    assert axes[0].get_title() == '5 stars, 2 flagged'


def test_masked_pixels_have_no_colour(tmp_path):
    data = simulate()
    mask = np.zeros(data.shape, dtype=bool)
    mask[24:27, 29:32] = True
    data[5, 5] = np.nan
    with pytest.warns(UserWarning, match='non-finite'):
        photometry = measure(data, mask=mask)
    axes = plot_photometry(photometry, data, mask=mask)
    draw(axes, tmp_path)
    for ax in axes:
        np.testing.assert_array_equal(np.isnan(values(ax)), mask | np.isnan(data))


def test_units_and_nddata_are_drawn():
    data = simulate() * u.electron
    axes = plot_photometry(photometry := measure(data), data)
    assert axes[0].images[0].colorbar.ax.get_ylabel() == 'electron per pixel'
    same = plot_photometry(photometry, NDData(data))
    np.testing.assert_array_equal(values(same[1]), values(axes[1]))


def test_groups_with_one_background_are_drawn():
    data = simulate()
    photometry = PoissonPSFPhotometry(PSF, 11, grouper=lambda x, y: np.ones(len(x), dtype=int))
    photometry(data, init_params=QTable({'x': X, 'y': Y}))
    residual = values(plot_photometry(photometry, data)[1])
    assert 0.9 < residual.std() < 1.1


def test_few_counts_and_none_at_all_are_drawn(tmp_path):
    data = simulate(background=0.05, flux=40.0)
    draw(plot_photometry(measure(data), data), tmp_path)
    dark = np.zeros((30, 30))
    axes = plot_photometry(measure(dark, [15.0], [15.0]), dark)
    draw(axes, tmp_path)


def test_many_stars_in_a_wide_image_are_small_circles(tmp_path):
    rng = np.random.default_rng(4)
    data = rng.poisson(20.0, (100, 700)).astype(float)
    x, y = rng.uniform(8, 690, 400), rng.uniform(8, 90, 400)
    photometry = measure(data, x, y, xy_bounds=2.0)
    axes = plot_photometry(photometry, data)
    draw(axes, tmp_path)
    assert axes[0].collections[0].get_sizes()[0] < 30
    assert axes[0].images[0].get_interpolation_stage() == 'data'
    assert '400 stars' in axes[0].get_title()


@pytest.mark.parametrize('shape', [(45, 160), (60, 60), (100, 60), (300, 60)])
def test_nothing_is_cut_off_in_images_of_any_shape(tmp_path, shape):
    data = simulate(shape=shape)
    x, y = np.append(X, [1.0, 58.5, 20.0]), np.append(Y, [1.0, 5.0, -200.0])
    draw(plot_photometry(measure(data, x, y, xy_bounds=3.0), data), tmp_path)


def test_axes_may_be_given(tmp_path):
    data = simulate()
    given = Figure(layout='constrained').subplots(1, 2)
    assert (plot_photometry(measure(data), data, given) == given).all()


def test_a_photometry_without_results_or_model_is_refused():
    data = simulate()
    with pytest.raises(ValueError, match='with results is needed, but there are none: call it'):
        plot_photometry(PoissonPSFPhotometry(PSF, 11), data)
    photometry = PoissonPSFPhotometry(PSF, 11, background='error')
    photometry(data - 30.0, error=np.full(data.shape, 30.0**0.5),
               init_params=QTable({'x': X, 'y': Y}))
    with pytest.raises(ValueError, match="with background='error' there is none"):
        plot_photometry(photometry, data)
