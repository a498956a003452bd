# Licensed under a 3-clause BSD style license - see LICENSE
"""The figures of the guidance show the numbers that it gives."""

import re
from functools import cache

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from photutils.psf import CircularGaussianPRF

from kpsf import advise_centroid, suggest_fit_shape
from kpsf.guidance import advise
from kpsf.plotting import plot_advice, plot_centroid_advice, plot_fit_box
from kpsf.plotting.style import BLUE, VERMILLION

FWHM = 2.5
PSF = CircularGaussianPRF(fwhm=FWHM)
STAR = (5000.0, 23.4, 11.8)


def simulate(*rows, shape=(41, 41), background=20.0, seed=1):
    """Return counts of stars (flux, x, y) on a background."""
    y, x = np.mgrid[:shape[0], :shape[1]]
    mean = sum((PSF.evaluate(x, y, *row, FWHM) for row in rows), np.full(shape, float(background)))
    return np.random.default_rng(seed).poisson(mean).astype(float)


@cache
def advice_of(kind):
    if kind == 'empty':
        return advise(simulate(), PSF)
    if kind == 'two':
        return advise(simulate(STAR, (2500.0, 29.1, 14.9)), PSF)
    if kind == 'masked':
        mask = np.zeros((41, 41), dtype=bool)
        mask[20:24, 3:9] = mask[11, 25] = True
        return advise(simulate(STAR), PSF, mask=mask)
    return advise(simulate(STAR), PSF)


def draw(axes, tmp_path):
    """Save the figure, which finds what drawing would raise, and check that nothing is cut off."""
    figure = np.ravel(axes)[0].figure
    figure.savefig(tmp_path / 'figure.png')
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    # Less than a point is no letter.
    assert min(drawn.x0, drawn.y0) > -0.01
    assert drawn.x1 < width + 0.01
    assert drawn.y1 < height + 0.01


def values(ax):
    """Return the image of some axes, NaN where nothing is drawn."""
    return np.ma.filled(np.ma.asarray(ax.images[0].get_array(), dtype=float), np.nan)


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def lines_of(ax):
    return {line.get_label(): line.get_xydata() for line in ax.lines}


def test_the_errors_of_boxes_are_drawn_in_per_cent(tmp_path):
    advice = suggest_fit_shape(PSF, 1000.0, 50.0)
    ax = plot_fit_box(advice)
    draw(ax, tmp_path)
    lines = lines_of(ax)
    np.testing.assert_allclose(lines['error and bias'], np.column_stack(
        [advice.table['side'], advice.table['total'] / 10.0]))
    np.testing.assert_allclose(lines['15 x 15 pixels'][:, 0], 15.0)
    assert legend_texts(ax) == ['error and bias', 'within 2 % of the best', '15 x 15 pixels']
    assert ax.get_title() == 'Fit box, background fitted'
    assert (ax.get_xlabel(), ax.get_ylabel()) == ('Side of the box (pixels)',
                                                  'Error of the flux (%)')
    low, high = ax.get_ylim()
    best = advice.table['total'].min() / 10.0
    assert low < best < high


def test_the_band_is_what_may_be_lost(tmp_path):
    advice = suggest_fit_shape(PSF, 1000.0, 50.0, loss=0.1, background_known=True)
    ax = plot_fit_box(advice)
    draw(ax, tmp_path)
    assert ax.get_title() == 'Fit box, background known'
    assert 'within 10 % of the best' in legend_texts(ax)
    band, = ax.patches
    best = advice.table['total'].min() / 10.0
    y = band.get_bbox().get_points()[:, 1]
    np.testing.assert_allclose(sorted(y), [best, 1.1 * best])
    # The box that is recommended is the first within it.
    row = advice.table[advice.table['side'] == advice.fit_shape[0]]
    assert row['total'][0] / 10.0 <= max(y)


def test_the_bias_by_neighbours_is_a_line_if_there_are_any(tmp_path):
    advice = suggest_fit_shape(PSF, 1000.0, 50.0, neighbours=[(6.0, 0.0, 500.0)])
    ax = plot_fit_box(advice)
    draw(ax, tmp_path)
    lines = lines_of(ax)
    np.testing.assert_allclose(lines['bias by neighbours'][:, 1],
                               np.abs(advice.table['neighbour_bias']) / 10.0)
    np.testing.assert_allclose(lines['error'][:, 1], advice.table['flux_err'] / 10.0)
    assert 'bias by neighbours' in legend_texts(ax)


@pytest.mark.parametrize('plot', [
    lambda ax: plot_fit_box(suggest_fit_shape(PSF, 1000.0, 50.0), ax),
    lambda ax: plot_centroid_advice(advise_centroid(PSF, 100.0, 5.0, n_simulated=100), ax)])
def test_axes_may_be_given(plot):
    given = Figure().subplots()
    assert plot(given) is given
    assert given.get_title()


def test_bias_and_scatter_of_each_way_are_drawn_and_one_is_recommended(tmp_path):
    advice = advise_centroid(PSF, 60.0, 5.0, known_to=0.1)
    ax = plot_centroid_advice(advice)
    draw(ax, tmp_path)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ['free', 'prior', 'fixed']
    points = [container.lines[0] for container in ax.containers]
    np.testing.assert_allclose([point.get_ydata()[0] for point in points],
                               advice.table['flux_bias'] / 0.6)
    bars = [container.lines[2][0].get_segments()[0][:, 1] for container in ax.containers]
    np.testing.assert_allclose(np.ptp(bars, axis=1), 2.0 * advice.table['flux_err'] / 0.6)
    colours = [to_hex(point.get_color()).upper() for point in points]
    chosen = list(advice.table['position']).index(advice.recommendation)
    assert colours[chosen] == to_hex(VERMILLION).upper()
    assert colours.count(to_hex(BLUE).upper()) == 2
    assert legend_texts(ax) == ['recommended']
    assert ax.get_title() == f'Position, S/N {advice.signal_to_noise:.3g}'


def test_all_of_the_guidance_is_on_one_page(tmp_path):
    advice = advice_of('one')
    axes = plot_advice(advice)
    assert axes.shape == (6,)
    draw(axes, tmp_path)
    assert axes[0].get_title() == '1 source above 5 $\\sigma$'
    assert axes[1].get_title() == 'Data $-$ fit of one star'
    assert axes[2].get_title() == 'Profile of the star and the PSF'
    assert axes[3].get_title() == 'Fit box, background fitted'
    assert axes[4].get_title().startswith('Position, S/N ')
    (star,) = (line.get_xydata()[0] for line in axes[0].lines if line.get_marker() == 'x')
    np.testing.assert_allclose(star, [advice.sources['x'][0], advice.sources['y'][0]])


def test_the_box_is_around_the_pixel_of_the_star():
    advice = advice_of('one')
    box, = plot_advice(advice)[0].patches
    ny, nx = advice.box.fit_shape
    assert (box.get_width(), box.get_height()) == (nx, ny)
    # Its edges are those of pixels.
    assert box.get_xy() == (23 - nx / 2, 12 - ny / 2)


def test_the_residual_is_that_of_the_advice():
    advice = advice_of('one')
    axes = plot_advice(advice)
    np.testing.assert_array_equal(values(axes[1]), advice.residual)
    low, high = axes[1].images[0].get_clim()
    assert high == -low
    assert high >= 4.0


def test_the_profile_of_pixels_follows_the_psf():
    advice = advice_of('one')
    lines = lines_of(plot_advice(advice)[2])
    distance, height = lines['pixels'].T
    assert distance.max() < 3.0 * advice.normalization.fwhm
    _, fit = lines['fit'][np.argsort(lines['fit'][:, 0])].T
    height = height[np.argsort(distance)]
    # The noise of the background, over the height of the star.
    assert np.std(height - fit) < 0.06
    assert 0.85 < fit.max() <= 1.0
    half = lines[f'half of FWHM {advice.normalization.fwhm:.3g}']
    np.testing.assert_allclose(half[:, 0], advice.normalization.fwhm / 2, rtol=1e-6)


def test_other_sources_are_circles_and_named_as_a_problem(tmp_path):
    advice = advice_of('two')
    axes = plot_advice(advice)
    draw(axes, tmp_path)
    (circles,) = (line.get_xydata() for line in axes[0].lines if line.get_marker() == 'o')
    np.testing.assert_allclose(circles, np.column_stack(
        [advice.sources['x'][1:], advice.sources['y'][1:]]))
    assert axes[0].get_title() == '2 sources above 5 $\\sigma$'
    text = ' '.join(axes[5].texts[0].get_text().split())
    assert 'Neighbour: another source of' in text


def test_the_text_has_the_sentences():
    advice = advice_of('one')
    text = ' '.join(plot_advice(advice)[5].texts[0].get_text().split())
    for sentence in (advice.box.sentence, advice.centroid.sentence,
                     f'{advice.answer[1:]}.', 'Flux of the PSF: total flux.'):
        assert ' '.join(sentence.split()) in text


def test_masked_pixels_have_no_colour(tmp_path):
    advice = advice_of('masked')
    axes = plot_advice(advice)
    draw(axes, tmp_path)
    for ax in axes[:2]:
        np.testing.assert_array_equal(np.isnan(values(ax)), advice.mask)
    y, x = np.indices((41, 41))
    distance = np.hypot(x - advice.diagnosis.x, y - advice.diagnosis.y)
    n_near = np.sum(distance < 3.0 * advice.normalization.fwhm)
    assert len(lines_of(axes[2])['pixels']) == n_near - 1


def test_the_place_that_is_meant_is_marked(tmp_path):
    advice = advise(simulate((20000.0, 10.0, 30.0)), PSF, near=(30.0, 10.0))
    axes = plot_advice(advice)
    draw(axes, tmp_path)
    marks = {line.get_label(): line.get_xydata().tolist() for line in axes[0].lines}
    assert marks['place that is meant'] == [[30.0, 10.0]]
    # Neither star nor place is out of sight.
    assert axes[0].get_xlim()[0] < 10.0 < 30.0 < axes[0].get_xlim()[1]
    text = ' '.join(axes[-1].texts[0].get_text().split())
    assert 'Nothing is above 5 sigma within' in text
    assert 'No source; a star exactly at (30.0, 10.0) has' in text


def test_the_scale_of_the_image_has_plain_numbers():
    bar = plot_advice(advice_of('one'))[0].images[0].colorbar
    labels = [label.get_text() for label in bar.ax.get_yticklabels()]
    assert len(labels) == 6
    assert all(re.fullmatch(r'[\d.e+]+', label) for label in labels)


def test_where_no_box_is_good_the_box_of_a_joint_fit_is_named():
    ax = plot_fit_box(suggest_fit_shape(PSF, 4000.0, 20.0, neighbours=[(5.0, 3.0, 6e4)]))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[-1].endswith('pixels, fitted jointly')


def test_without_a_source_the_image_is_drawn_and_the_rest_is_left_out(tmp_path):
    axes = plot_advice(advice_of('empty'))
    draw(axes, tmp_path)
    assert axes[0].get_title() == '0 sources above 5 $\\sigma$'
    assert not axes[0].patches
    # No empty panels.
    assert len(axes) == 2
    assert not axes[1].axison
    assert axes[1].texts[0].get_text().endswith('No source is significant.')


def test_an_image_of_nothing_is_drawn(tmp_path):
    draw(plot_advice(advise(np.zeros((30, 30)), PSF)), tmp_path)


def test_a_large_image_is_cut_to_the_surroundings_of_the_star(tmp_path):
    advice = advise(simulate((8000.0, 120.2, 60.4), shape=(160, 220)), PSF)
    axes = plot_advice(advice)
    draw(axes, tmp_path)
    reach = 25.0 * advice.normalization.fwhm
    for ax in axes[:2]:
        np.testing.assert_allclose(ax.get_xlim(), (advice.diagnosis.x - reach,
                                                   advice.diagnosis.x + reach))
        assert ax.get_ylim()[0] == -0.5
        np.testing.assert_allclose(ax.get_ylim()[1], advice.diagnosis.y + reach)


@pytest.mark.parametrize(('shape', 'place'), [((9, 30), (14.0, 4.0)), ((40, 11), (5.0, 20.0)),
                                              ((30, 30), (0.2, 29.1))])
def test_nothing_is_cut_off_in_images_of_any_shape(tmp_path, shape, place):
    draw(plot_advice(advise(simulate((9000.0, *place), shape=shape), PSF)), tmp_path)


def test_words_with_dollars_are_no_formulas(tmp_path):
    advice = advice_of('one')
    figure = plot_advice(advice)[5]
    assert not figure.texts[0].get_parse_math()
