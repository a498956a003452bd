# Licensed under a 3-clause BSD style license - see LICENSE
"""Where the stars of an image are, before anything is fitted: starting values with errors."""


import numpy as np
from astropy.table import QTable
from scipy.spatial import KDTree

from .._kernels.poisson import deviance
from .._validation import (
    require_number,
    require_positive_integer,
)
from ..flags import FitFlag
from ..stamps import fit_stamps
from ..stamps.boxes import Boxes
from .arguments import as_place, read_counts, require_inside
from .detection import (
    false_alarm_probability,
    find_peaks,
    score_significance,
    significance_map,
)
from .image import CountsImage
from .information import Star
from .sky import largest_plausible

__all__ = ['locate_source', 'reach_of']

# In units of the FWHM: the box that is fitted, how far a position may move from its pixel, and
# how near two sources are one.
BOX, REACH, SAME = 5.0, 1.0, 0.5
# Significance of the peaks that are looked at, below the limit; of all, without one.
MARGIN, LEAST = 1.0, 1.0
# Peaks that are fitted for each source that is asked for.
N_TRIED = 4
# Share of the deviance from which on a pixel is tried as a spike; what a fit without it must gain;
# and how far above what that fit expects it must be, as PSFs are not exact.
LEAST_PART, SPIKE_GAIN, SPIKE_MARGIN = 6.0, 12.0, 1.5
N_ROUNDS, N_PASSES = 5, 4
# How high a source must be in the light of another, as its share.
LEAST_CONTRAST = 0.3
# Significance of a source that counts, where the number of sources is open.
THRESHOLD = 5.0
# A second source competes from this share of the significance on.
RIVAL_SHARE = 0.5
# How far from a given place its source may be, in units of the FWHM, and at least in pixels.
WITHIN, LEAST_WITHIN = 2.0, 3.0
COLUMNS = ('x', 'y', 'flux', 'background', 'x_err', 'y_err', 'flux_err', 'background_err')


def locate_source(data, psf, *, background=None, mask=None, near=None, within='auto', n=1,
                  threshold=None, read_variance=0.0, oversampling=None):
    """Find where stars are in an image, as starting values of a fit.

    Pixels higher than any star can make them, hot ones and those of cosmic
    rays, are left out; there are no limits on sharpness or roundness to be
    set.

    Parameters
    ----------
    data : array_like, shape (ny, nx)
        Electrons with the background in. Pixels that are not finite are left
        out.
    psf : array_like, shape (ny, nx), or `~astropy.modeling.Model`
        The PSF, an image or a model of any normalisation. Parameters besides
        flux and position are held.
    background : float or array_like, shape (ny, nx), optional
        The background that ``data`` contain, in electrons per pixel, where it
        is known. By default it is measured, and fitted once more around each
        star.
    mask : array_like of bool, shape (ny, nx), optional
        True for pixels to leave out.
    near : (float, float), optional
        Return the significant sources that are nearest to this x and y, in
        pixels, not the most significant of all. Nothing is returned where
        none is near: see ``within``, and ``meta`` for the nearest.
    within : float or None, optional
        Largest distance from ``near`` in pixels. By default twice the FWHM of
        the PSF, and at least 3 pixels: farther away, another star is as likely
        as the one that is meant. A place that is known less well needs more.
        None: as far as the image goes.
    n : int or None, optional
        Largest number of sources; None for all above the threshold.
    threshold : float, optional
        Least significance in standard deviations. Default: 5 for ``near`` and
        where ``n`` is None, otherwise none: the best place is returned
        whatever it is worth.
    read_variance : float, optional
        Variance of the read noise in electrons squared.
    oversampling : int or (int, int), optional
        Samples per pixel of a PSF image, 1 by default.

    Returns
    -------
    `~astropy.table.QTable`
        One row per source, the most significant (or nearest) first, empty if
        there is none: ``id``; ``x``, ``y``, ``flux`` (total, in electrons) and
        ``background`` per pixel with ``x_err``, ``y_err``, ``flux_err`` and
        ``background_err``; ``significance`` above the background alone in
        standard deviations; ``at_edge``, whether the star may lie beyond the
        edge of the image or between others, with errors of NaN then;
        ``false_alarm_probability``, how probable one as significant is
        somewhere in an image without sources; ``rival_significance``, that of
        the strongest other source (with ``near``, of those within the
        distance), and ``has_rival``, whether it is at least half as
        significant and above 5. ``meta`` has the ``fwhm``, the number of
        pixels taken for ``spikes``, ``excess_variance``, 1 unless the pixels
        scatter more than photons do, and with ``near`` the distance ``within``
        and ``nearest``, x, y and distance of the nearest source, also of one
        beyond; None if the image has none.

    Raises
    ------
    TypeError
        If data are not real numbers, or the PSF is neither image nor model.
    ValueError
        If shapes do not match, data are further below zero than read noise
        takes them, all pixels are masked, or an option is out of range.

    See Also
    --------
    suggest_fit_shape : How large a box to fit around it.
    diagnose : Whether the fit can be trusted.

    Notes
    -----
    The significance is that of the score of the flux in the Poisson
    likelihood, with the tail of weighted Poisson counts [1]_, so that it means
    the same in images of few counts. Positions and fluxes are then fitted. The
    probability of a false alarm is the expected Euler characteristic of a
    Gaussian field above a level [2]_.

    References
    ----------
    .. [1] Lugannani, R. & Rice, S. 1980, Adv. Appl. Prob., 12, 475.
    .. [2] Adler, R. J. & Taylor, J. E. 2007, Random Fields and Geometry,
       Springer, chapter 12.

    Examples
    --------
    >>> import numpy as np
    >>> from photutils.psf import CircularGaussianPRF
    >>> from kpsf.guidance import locate_source
    >>> psf = CircularGaussianPRF(fwhm=2.5)
    >>> y, x = np.mgrid[:41, :41]
    >>> mean = psf.evaluate(x, y, 500.0, 23.4, 11.8, 2.5) + 20.0
    >>> counts = np.random.default_rng(1).poisson(mean)
    >>> counts[30, 5] = 1000
    >>> source = locate_source(counts, psf)[0]
    >>> print(f'({source["x"]:.1f}, {source["y"]:.1f}), {source["significance"]:.0f} sigma')
    (23.5, 11.7), 22 sigma
    """
    star = Star(psf, oversampling)
    read_variance = require_number(read_variance, 'read_variance', 'pass electrons squared')
    n = n if n is None else require_positive_integer(n, 'n')
    if threshold is not None:
        threshold = require_number(threshold, 'threshold', 'pass standard deviations')
    elif n is None or near is not None:
        threshold = THRESHOLD
    near = as_place(near, 'near')
    within = reach_of(within, star.fwhm)
    counts, used, known = read_counts(data, mask, background, read_variance)
    require_inside(near, counts.shape)
    image = CountsImage(counts, ~used, known, read_variance).without_spikes(star)
    found, image = _search(image, star, n, threshold, near)
    return _as_table(found, image, star, n, threshold, near, within)


def reach_of(within, fwhm):
    """Return how far from a place its source may be, in pixels; infinite for None."""
    if isinstance(within, str) and within == 'auto':
        return max(WITHIN * fwhm, LEAST_WITHIN)
    return np.inf if within is None else require_number(
        within, 'within', "pass pixels, None for all of the image, or 'auto'", positive=True)


def _search(image, star, n, threshold, near):
    """Return the sources, and the image without the spikes that were taken for some.

    What is found is added to what is expected, and the rest looked at once more: a bright
    star hides others in the background around it.
    """
    found, empty = None, image
    # One more look tells whether the best has a rival.
    for _ in range(N_PASSES if n is None or n > 1 else 2):
        for _ in range(N_ROUNDS):
            peaks = _choose_peaks(image, star, n, threshold, near)
            new, spikes = _fit_peaks(image, star, *peaks)
            if not spikes.any():
                break
            image, empty = image.without(spikes), empty.without(spikes)
        kept = _are_new(new, found, star)
        new = {name: values[kept] for name, values in new.items()}
        found = new if found is None else {name: np.concatenate([found[name], new[name]])
                                           for name in found}
        # All that may be real: what is added here is not found again.
        real = {name: values[new['significance'] > THRESHOLD] for name, values in new.items()}
        if not len(real['x']):
            break
        image = image.with_stars(star, real)
    return found, empty


def _are_new(new, found, star):
    """Say which sources are stars of their own, not what is left of those found before."""
    kept = ~_are_copies(new, np.argsort(-new['significance'], kind='stable'), SAME * star.fwhm)
    if found is None or not len(found['x']):
        return kept
    x, y = new['x'][:, np.newaxis], new['y'][:, np.newaxis]
    light = found['flux'] * star.image(x, y, found['x'], found['y'])
    apart = np.hypot(x - found['x'], y - found['y']) > max(star.fwhm, 1.0)
    height = new['flux'] * star.unit.peak / star.integral
    # What a PSF that is not exact leaves is a small share of the star at that place.
    return kept & apart.all(axis=1) & (height > LEAST_CONTRAST * light.max(axis=1))


def _choose_peaks(image, star, n, threshold, near):
    """Return x and y of the pixels at which stars are looked for, (m,) each."""
    significance = significance_map(image.data, image.mask, image.sky, star,
                                    background_known=image.known is not None)
    least = LEAST if threshold is None else max(threshold - MARGIN, LEAST)
    x, y = find_peaks(significance, least)
    # More than those asked for: one that seems second may be first once it is fitted.
    if n is not None and near is None:
        return x[:N_TRIED * n + N_TRIED], y[:N_TRIED * n + N_TRIED]
    return x, y


def _fit_peaks(image, star, x, y):
    """Return the fits of stars at peaks as a dict of arrays (m,), and which pixels are spikes."""
    if not len(x):
        return ({name: np.zeros(0) for name in (*COLUMNS, 'significance', 'at_edge')},
                np.zeros(image.data.shape, dtype=bool))
    side = 2 * max(int(np.ceil(0.5 * (BOX * star.fwhm - 1.0))), 1) + 1
    boxes = Boxes.around(x.astype(float), y.astype(float), (side, side), image.data.shape)
    counts = boxes.cut(np.where(image.mask, np.nan, image.data), np.nan)
    used = np.isfinite(counts)
    fits = _fit_boxes(image, star, boxes, counts, x, y)
    values = _values(image, star, boxes, x, y, fits)
    level = boxes.cut(image.sky.level, 0.0)
    places = boxes.places()
    shape = star.image(*places, values['x'][:, np.newaxis], values['y'][:, np.newaxis])
    m, shift = len(x), image.read_variance
    values['significance'] = score_significance(
        np.where(used, counts, 0.0).reshape(m, -1) + shift, shape,
        level.reshape(m, -1) + shift, image.sky.excess,
        background_known=image.known is not None, used=used.reshape(m, -1))
    return values, _spikes_among(image, star, boxes, counts, x, y, fits)


def _spikes_among(image, star, boxes, counts, x, y, fits):
    """Return pixels (ny, nx) that one star cannot explain together with those around them.

    A fit without the pixel then gains much, and expects much less there than it has.
    """
    spikes = np.zeros(image.data.shape, dtype=bool)
    m, rows, shift = len(x), np.arange(len(x)), image.read_variance
    columns, lines = (place.reshape(counts.shape) for place in boxes.places())
    reach = max(star.fwhm, 1.0)
    core = np.isfinite(counts) & (abs(columns - x[:, np.newaxis, np.newaxis]) <= reach) & (
        abs(lines - y[:, np.newaxis, np.newaxis]) <= reach)
    mean = np.maximum(fits.model_images(), 0.0)
    excess = np.where(core, np.nan_to_num(counts) - mean, -np.inf).reshape(m, -1)
    highest = excess.argmax(axis=1)
    value, expected = (np.nan_to_num(array.reshape(m, -1)[rows, highest])
                       for array in (counts, mean))
    part = deviance(np.maximum(value + shift, 0.0), np.maximum(expected + shift, 1e-9))
    line, column = (place.reshape(m, -1)[rows, highest] for place in (lines, columns))
    tried = np.flatnonzero((excess[rows, highest] > 0) & (part > LEAST_PART))
    if len(tried):
        most = largest_plausible(image.data, image.mask, image.sky, star, image.smooth)
        tried = tried[value[tried] > most[line[tried], column[tried]]]
    if not len(tried):
        return spikes
    without = counts[tried].copy()
    without.reshape(len(tried), -1)[np.arange(len(tried)), highest[tried]] = np.nan
    again = _fit_boxes(image, star, boxes.take(tried), without, x[tried], y[tried])
    own = again.model_images().reshape(len(tried), -1)[np.arange(len(tried)), highest[tried]]
    level = image.sky.level[y, x][tried]
    with np.errstate(invalid='ignore'):
        found = (fits.deviance[tried] - again.deviance > SPIKE_GAIN) & (
            value[tried] - level > SPIKE_MARGIN * np.maximum(own - level, 0.0))
    spikes[line[tried][found], column[tried][found]] = True
    return spikes


def _fit_boxes(image, star, boxes, counts, x, y):
    """Return the `StampFits` of stars in boxes that start at the pixels x and y."""
    unit, first = star.unit, boxes.first
    start = {unit.x: x - first[:, 0], unit.y: y - first[:, 1]}
    # Stars that were found before are known, besides a background.
    stars = boxes.cut(np.broadcast_to(image.stars, image.data.shape), 0.0)
    background = ({'background': 'fit', 'known_background': stars} if image.known is None else
                  {'background': stars + boxes.cut(
                      np.broadcast_to(image.known, image.data.shape), 0.0)})
    bounds = _bounds(start, boxes, image.data.shape, max(REACH * star.fwhm, 1.0))
    origin = first if unit.is_grid else None
    return fit_stamps(counts, star.model, **background, read_variance=image.read_variance,
                      init=start, fixed=unit.shape_names, bounds=bounds, origin=origin)


def _values(image, star, boxes, x, y, fits):
    """Return positions, fluxes and backgrounds, and their errors, of fits as arrays (m,)."""
    unit, first, values = star.unit, boxes.first, {}
    for label, name in {'x': unit.x, 'y': unit.y, 'flux': unit.scale,
                        'background': 'background'}.items():
        if name not in fits.param_names:
            values[label] = image.sky.level[y, x]
            values[f'{label}_err'] = np.zeros(len(x))
            continue
        j = fits.param_names.index(name)
        values[label], values[f'{label}_err'] = fits.params[:, j], fits.errors[:, j]
    for name in ('flux', 'flux_err'):
        values[name] = values[name] * star.integral
    # Where nothing could be fitted, there is at least the pixel.
    for axis, name in enumerate('xy'):
        place = values[name] + first[:, axis]
        values[name] = np.where(np.isfinite(place), place, (x, y)[axis])
    # A position held at a limit has no error of its own.
    held = (fits.flags & int(FitFlag.AT_BOUND)) > 0
    values['at_edge'] = held.astype(float)
    for name in ('x_err', 'y_err', 'flux_err'):
        values[name] = np.where(held, np.nan, values[name])
    return values


def _bounds(start, boxes, shape, reach):
    """Return bounds on positions: near the peaks, and within the image."""
    bounds = {}
    for axis, (name, value) in enumerate(start.items()):
        lowest = -0.5 - boxes.first[:, axis]
        highest = shape[1 - axis] - 0.5 - boxes.first[:, axis]
        bounds[name] = np.maximum(value - reach, lowest), np.minimum(value + reach, highest)
    return bounds


def _as_table(found, image, star, n, threshold, near, within):
    """Return the sources that are asked for."""
    strength = np.nan_to_num(found['significance'])
    order = np.argsort(-strength, kind='stable')
    order = order[(strength[order] > 0) & ~_are_copies(found, order, SAME * star.fwhm)]
    about = {}
    if near is not None:
        distance = np.hypot(found['x'] - near[0], found['y'] - near[1])
        real = order[strength[order] >= threshold]
        first = real[np.argsort(distance[real], kind='stable')][:1]
        about = {'within': within if np.isfinite(within) else None, 'nearest': next(
            ((float(found['x'][k]), float(found['y'][k]), float(distance[k])) for k in first),
            None)}
        order = order[distance[order] <= within]
    rivals = np.full(len(order), strength[order[1]] if len(order) > 1 else 0.0)
    if len(order) > 1:
        rivals[1:] = strength[order[0]]
    kept = np.ones(len(order), bool) if threshold is None else strength[order] >= threshold
    order, rivals = order[kept], rivals[kept]
    if near is not None:
        nearest = np.argsort(distance[order], kind='stable')
        order, rivals = order[nearest], rivals[nearest]
    order, rivals = order[:n], rivals[:n]
    table = QTable({'id': np.arange(1, len(order) + 1)})
    for name in (*COLUMNS, 'significance'):
        table[name] = found[name][order]
    table['at_edge'] = found['at_edge'][order] > 0
    table['false_alarm_probability'] = false_alarm_probability(
        strength[order], star, image.data.shape, background_known=image.known is not None)
    table['rival_significance'] = rivals
    table['has_rival'] = (rivals >= THRESHOLD) & (rivals >= RIVAL_SHARE * strength[order])
    table.meta.update(fwhm=star.fwhm, spikes=image.n_spikes,
                      excess_variance=image.sky.excess, **about)
    return table


def _are_copies(found, order, distance):
    """Say which sources, in an order, are another earlier in it once more."""
    places = np.column_stack([found['x'], found['y']])[order]
    copies = np.zeros(len(order), dtype=bool)
    if len(order) < 2:
        return copies
    pairs = KDTree(places).query_pairs(distance, output_type='ndarray')
    for first, second in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]:
        if not copies[first]:
            copies[second] = True
    return copies
