# Licensed under a 3-clause BSD style license - see LICENSE
"""Figures of the guidance: fit boxes, what to do with positions, and all of it on one page."""

import textwrap

import numpy as np
from matplotlib.colors import AsinhNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from .style import BLUE, GREY, VERMILLION, draw_image, new_figure

__all__ = ['plot_advice', 'plot_centroid_advice', 'plot_fit_box']

# Pixels around the star, in units of the FWHM, that a large image is cut to.
SHOWN = 25.0

# Numbers beside the colours of an image.
N_TICKS = 6

# Characters in a line of text.
N_CHARACTERS, N_PROBLEMS = 50, 5


def plot_fit_box(advice, ax=None):
    """Plot the error of the flux against the size of the fit box.

    Parameters
    ----------
    advice : FitBoxAdvice
        What `~kpsf.suggest_fit_shape` returned.
    ax : `~matplotlib.axes.Axes`, optional
        Where; by default in a new figure.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Relative error of the flux, the bias by neighbours, and the total.

    Examples
    --------
    >>> from photutils.psf import CircularGaussianPRF
    >>> from kpsf import suggest_fit_shape
    >>> from kpsf.plotting import plot_fit_box
    >>> ax = plot_fit_box(suggest_fit_shape(CircularGaussianPRF(fwhm=2.5), 1000.0, 50.0))
    >>> ax.figure.savefig('box.png')
    """
    ax = new_figure((6.0, 4.2)).subplots() if ax is None else ax
    table, chosen = advice.table, advice.fit_shape[0]
    side, percent = np.asarray(table['side']), 100.0 / advice.flux
    ax.plot(side, percent * table['total'], color=BLUE, label='error and bias')
    bias = np.abs(np.asarray(table['neighbour_bias']))
    if np.any(bias > 1e-3 * np.asarray(table['flux_err'])):
        ax.plot(side, percent * table['flux_err'], color=BLUE, ls='--', label='error')
        ax.plot(side, percent * bias, color=VERMILLION, ls=':', label='bias by neighbours')
    judged = table['flux_err' if advice.is_joint else 'total']
    best, least = (percent * np.min(values) for values in (judged, table['flux_err']))
    ax.axhspan(best, (1.0 + advice.loss) * best, color=GREY, alpha=0.4, lw=0,
               label=f'within {100 * advice.loss:g} % of the best')
    what = ', fitted jointly' if advice.is_joint else ''
    ax.axvline(chosen, color=VERMILLION, label=f'{chosen} x {chosen} pixels{what}')
    ax.set_yscale('log')
    # The curve must not leave the axes where the box is chosen.
    highest = percent * table['total'][np.isin(side, (side[0], chosen))]
    ax.set_ylim(least / 1.3, max(*highest[np.isfinite(highest)], 3.0 * best, 3.0 * least))
    for axis in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        axis('{x:g}')
    ax.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    background = 'known' if advice.background_known else 'fitted'
    ax.set(title=f'Fit box, background {background}', xlabel='Side of the box (pixels)',
           ylabel='Error of the flux (%)')
    # The line of the box may go through it.
    ax.legend(fontsize='small', frameon=True, framealpha=1.0, edgecolor='none')
    return ax


def plot_centroid_advice(advice, ax=None):
    """Plot bias and scatter of the flux with a position free, prior or fixed.

    Parameters
    ----------
    advice : CentroidAdvice
        What `~kpsf.advise_centroid` returned.
    ax : `~matplotlib.axes.Axes`, optional
        Where; by default in a new figure.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Points are biases, bars the scatter.

    Examples
    --------
    >>> from photutils.psf import CircularGaussianPRF
    >>> from kpsf import advise_centroid
    >>> from kpsf.plotting import plot_centroid_advice
    >>> ax = plot_centroid_advice(advise_centroid(CircularGaussianPRF(fwhm=2.0), 40.0, 1.0))
    >>> ax.figure.savefig('centroid.png')
    """
    ax = new_figure((5.0, 4.2)).subplots() if ax is None else ax
    percent = 100.0 / advice.flux
    for place, row in enumerate(advice.table):
        chosen = row['position'] == advice.recommendation
        ax.errorbar(place, percent * row['flux_bias'], percent * row['flux_err'], fmt='o',
                    color=VERMILLION if chosen else BLUE, capsize=4,
                    label='recommended' if chosen else None)
    ax.axhline(0.0, color=GREY, lw=1)
    ax.set_xticks(range(len(advice.table)), list(advice.table['position']))
    ax.set(title=f'Position, S/N {advice.signal_to_noise:.3g}', xlabel='Position in the fit',
           ylabel='Bias and scatter of the flux (%)', xlim=(-0.5, len(advice.table) - 0.5))
    ax.legend(fontsize='small')
    return ax


def plot_advice(advice):
    """Plot all of the guidance on one page.

    Parameters
    ----------
    advice : Advice
        What `~kpsf.guidance.advise` returned.

    Returns
    -------
    ndarray of `~matplotlib.axes.Axes`, shape (6,)
        Image with sources and the recommended box, residual of the fit,
        profile of the star and the PSF, fit boxes, position, and text; where
        there is no star, image and text alone, shape (2,). Their figure is
        ``axes[0].figure``.

    Examples
    --------
    >>> import numpy as np
    >>> from photutils.psf import CircularGaussianPRF
    >>> from kpsf.guidance import advise
    >>> from kpsf.plotting import plot_advice
    >>> psf = CircularGaussianPRF(fwhm=2.5)
    >>> y, x = np.mgrid[:41, :41]
    >>> mean = psf.evaluate(x, y, 5000.0, 23.4, 11.8, 2.5) + 20.0
    >>> axes = plot_advice(advise(np.random.default_rng(1).poisson(mean), psf))
    >>> axes[0].figure.savefig('advice.png')
    """
    has_star = advice.box is not None
    figure = new_figure((14.5, 8.6) if has_star else (9.7, 4.3))
    # Images are narrower than what is laid out for them, and would let labels out of the page.
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    axes = figure.subplots(*((2, 3) if has_star else (1, 2))).ravel()
    window = _window(advice)
    _draw_sources(axes[0], advice, window)
    if has_star:
        _draw_residual(axes[1], advice, window)
        _draw_profile(axes[2], advice)
        plot_fit_box(advice.box, axes[3])
        plot_centroid_advice(advice.centroid, axes[4])
    _draw_text(axes[-1], advice)
    return axes


def _window(advice):
    """Return limits of x and y around the star in a large image, of the whole of a small one."""
    ny, nx = advice.data.shape
    if advice.diagnosis is not None:
        places = advice.diagnosis.x, advice.diagnosis.y
    elif advice.near is not None:
        places = advice.near
    else:
        return (-0.5, nx - 0.5), (-0.5, ny - 0.5)
    reach = SHOWN * advice.normalization.fwhm
    # What is meant, and what was found far away, are both shown.
    if advice.diagnosis is None and len(advice.sources):
        away = max(abs(advice.sources[name][0] - place) for name, place in zip('xy', places))
        reach = max(reach, 1.2 * away)
    return tuple((max(place - reach, -0.5), min(place + reach, size - 0.5))
                 for place, size in zip(places, (nx, ny)))


def _draw_sources(ax, advice, window):
    """Draw the image, its sources, and the recommended box."""
    image = np.where(advice.mask, np.nan, advice.data)
    (left, right), (bottom, top) = window
    part = image[int(bottom + 0.5):int(top + 0.5), int(left + 0.5):int(right + 0.5)]
    low, middle, high = np.nanpercentile(part, [1.0, 50.0, 99.8])
    width = max(middle - low, 0.01 * (high - low), 1e-3)
    norm = AsinhNorm(width, vmin=low, vmax=max(high, low + 1.0))
    draw_image(ax, image, 'Sources', 'Electrons per pixel', {'cmap': 'viridis', 'norm': norm})
    ticks = norm.inverse(np.linspace(0.0, 1.0, N_TICKS))
    ax.images[0].colorbar.set_ticks(ticks, labels=[f'{float(f"{tick:.3g}"):g}' for tick in ticks])
    sources, n_meant = advice.sources, 0 if advice.box is None else 1
    ax.plot(sources['x'][n_meant:], sources['y'][n_meant:], 'o', ms=9, mfc='none', mec='white')
    if advice.near is not None:
        ax.plot(*advice.near, '+', ms=13, mew=1.5, color='white', label='place that is meant')
        ax.legend(fontsize='small', labelcolor='white', facecolor='0.25', edgecolor='none')
    if advice.box is not None:
        ax.plot(sources['x'][0], sources['y'][0], 'x', ms=9, mew=2, color=VERMILLION)
        ny, nx = advice.box.fit_shape
        corner = (round(advice.diagnosis.x) - nx / 2, round(advice.diagnosis.y) - ny / 2)
        ax.add_patch(Rectangle(corner, nx, ny, fill=False, ec=VERMILLION, lw=1.5))
    ax.set(xlim=window[0], ylim=window[1],
           title=f'{len(sources)} source{"s" * (len(sources) != 1)} above 5 $\\sigma$')


def _draw_residual(ax, advice, window):
    """Draw data minus fit in standard deviations."""
    (left, right), (bottom, top) = window
    part = advice.residual[int(bottom + 0.5):int(top + 0.5), int(left + 0.5):int(right + 0.5)]
    largest = max(min(np.nanpercentile(np.abs(part), 99.5), 1e9), 4.0)
    draw_image(ax, advice.residual, 'Data $-$ fit of one star', r'Standard deviations ($\sigma$)',
               {'cmap': 'RdBu_r', 'vmin': -largest, 'vmax': largest})
    ax.set(xlim=window[0], ylim=window[1])


def _draw_profile(ax, advice):
    """Draw the pixels around the star against their distance, and the PSF."""
    from ..guidance.information import Star
    found, star = advice.diagnosis, Star(advice.psf)
    level = float(advice.sources['background'][0])
    y, x = np.indices(advice.data.shape)
    distance = np.hypot(x - found.x, y - found.y)
    near = (distance < 3.0 * star.fwhm) & ~advice.mask
    peak = max(found.flux * star.unit.peak / star.integral, 1e-9)
    ax.plot(distance[near], (advice.data[near] - level) / peak, '.', color=BLUE, ms=4,
            label='pixels')
    model = found.flux * star.image(x[near], y[near], found.x, found.y) / peak
    order = np.argsort(distance[near])
    ax.plot(distance[near][order], model[order], '.', color=VERMILLION, ms=3, label='fit')
    ax.axvline(0.5 * star.fwhm, color=GREY, ls=':', label=f'half of FWHM {star.fwhm:.3g}')
    ax.set(title='Profile of the star and the PSF', xlabel='Distance from the star (pixels)',
           ylabel='Above background / peak of the PSF')
    ax.legend(fontsize='small')


def _draw_text(ax, advice):
    """Write the sentences."""
    meaning = f'Flux of the PSF: {advice.normalization.meaning}.'
    lines = ['No source is significant.'] if advice.near is None else []
    if advice.box is not None:
        lines = [advice.box.sentence, advice.centroid.sentence]
    elif advice.near is not None:
        lines = [f'{advice.place}.']
    if advice.box is not None or advice.near is not None:
        lines.append(f'{advice.answer}.')
    if advice.diagnosis is not None:
        lines += [f'{problem.flag.name.replace("_", " ").lower()}: {problem.text.split(":")[0]}'
                  for problem in advice.diagnosis.problems[:N_PROBLEMS]]
    lines = [f'{line[0].upper()}{line[1:]}' for line in (meaning, *lines)]
    text = '\n\n'.join('\n'.join(textwrap.wrap(line, N_CHARACTERS)) for line in lines)
    ax.set_axis_off()
    ax.text(0.0, 1.0, text, transform=ax.transAxes, va='top', fontsize=9.5, parse_math=False)
