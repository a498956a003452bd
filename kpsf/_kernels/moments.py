# Licensed under a 3-clause BSD style license - see LICENSE
"""Starting values of a stamp: background, flux, centroid and shape."""

import numpy as np

__all__ = ['starting_values']

# Stamps that are worked on together: their arrays stay in the cache.
_BLOCK = 1024
# Narrowest standard deviation in pixels of a starting shape.
_NARROWEST = 0.45
# Precision of the weight, of a standard deviation of 1.2 pixels. A narrower
# one would be undersampled by the pixels, a wider one lets noise in.
_WEIGHT = 0.5 / 1.2 ** 2


def starting_values(counts, shape, weights=None, known=0.0, measure_background=True,
                    precision=None):
    """Estimate an elliptical Gaussian and its background from moments.

    The background is the median of the border, the first centroid the
    brightest 3 x 3 pixels; the rest comes from moments under a Gaussian
    weight there, with the weight and the sampling taken out again.

    Parameters
    ----------
    counts : ndarray, shape (n, n_pixels)
        Counts in C order, 0 where ``weights`` is 0.
    shape : (ny, nx)
        Shape of a stamp.
    weights : None or ndarray, shape (n, n_pixels)
        0 for pixels to leave out.
    known : ndarray, shape (), (n_pixels,) or (n, n_pixels)
        Known part of the background.
    measure_background : bool
        Whether to measure the rest.
    precision : None or ndarray, shape (3,)
        a, b, c where the shape is known, which leaves faint stars less to
        get wrong; None to measure them.

    Returns
    -------
    ndarray, shape (7, n)
        flux, x, y, a, b, c, measured background.
    """
    values = np.empty((7, len(counts)))
    for start in range(0, len(counts), _BLOCK):
        part = slice(start, start + _BLOCK)
        values[:, part] = _starting_block(
            counts[part], shape, None if weights is None else weights[part],
            known[part] if np.ndim(known) == 2 else known, measure_background, precision)
    return values


def _starting_block(counts, shape, weights, known, measure_background, precision):
    """Do the work of `starting_values` for at most ``_BLOCK`` stamps."""
    ny, nx = shape
    data = counts - known
    level = np.zeros(len(data))
    if measure_background:
        level = _border_level(data, shape, weights)
        data -= level[:, None]
        # A median of 0 counts still stands for a small positive expectation.
        level = np.maximum(level, 0.01 - np.min(known))
    if weights is not None:
        data *= weights
    with np.errstate(all='ignore'):
        star = _weighted_moments(data, shape, *_brightest(data.reshape(-1, ny, nx)), precision)
    return np.array([*star, level])


def _border_level(counts, shape, weights):
    """Return the median of the border pixels in use, (n,)."""
    border = np.ones(shape, dtype=bool)
    border[1:-1, 1:-1] = False
    border = border.ravel()
    if weights is None:
        middle = border.sum() // 2
        level = np.partition(counts[:, border], middle, axis=1)[:, middle]
    else:
        used = weights[:, border] > 0
        ordered = np.sort(np.where(used, counts[:, border], np.inf), axis=1)
        middle = np.maximum(used.sum(axis=1) - 1, 0) // 2
        level = ordered[np.arange(len(counts)), middle]
        level[~used.any(axis=1)] = 0.0
    return level


def _brightest(data):
    """Return the (x, y) of the middle of the brightest 3 x 3 pixels, (n,) each."""
    ny, nx = data.shape[1:]
    box = data
    if ny > 2:
        box = box[:, :-2] + box[:, 1:-1] + box[:, 2:]
    if nx > 2:
        box = box[:, :, :-2] + box[:, :, 1:-1] + box[:, :, 2:]
    width = box.shape[2]
    index = box.reshape(len(data), -1).argmax(axis=1)
    return index % width + float(nx > 2), index // width + float(ny > 2)


def _weighted_moments(data, shape, x_0, y_0, known_precision):
    """Return flux, x, y, a, b, c, shape (6, n), from moments under a Gaussian weight at x_0, y_0.

    The product of two Gaussians has the sum of their precisions, so the
    weight's is subtracted, a centre between theirs, so the offset is
    stretched, and an integral that gives the flux.  Moments that are no
    star's (of noise alone) leave a round one of the weight's width.
    """
    ny, nx = shape
    sums = _sums(data, shape, x_0, y_0)
    if known_precision is None:
        total, mean_x, mean_y, xx, xy, yy = _unaliased(*sums)
        usable, (a, b, c) = _measured_precision(total, xx, xy, yy, 0.5 * max(ny, nx, 3))
    else:
        # Noise must not pull the centroid out of the 3 x 3 pixels that were the brightest.
        total, a, b, c = sums[0], *known_precision
        mean_x, mean_y = (np.clip(mean, place - 0.5, place + 0.5)
                          for mean, place in zip(sums[1:3], (x_0, y_0)))
        usable = total > 0
    det = a * c - b * b
    # The centroid among the pixels of the stamp, the rest among all others.
    dx = np.where(usable, mean_x - x_0, 0.0)
    dy = np.where(usable, mean_y - y_0, 0.0)
    x_offset = dx + _WEIGHT * (c * dx - b * dy) / det
    y_offset = dy + _WEIGHT * (a * dy - b * dx) / det
    whole = (a + _WEIGHT) * (c + _WEIGHT) - b * b
    # Further out than a star could pull the moments, it is noise that pulls.
    loss = np.minimum(_WEIGHT * (x_offset * dx + y_offset * dy), 1.0)
    flux = np.where(total > 0, total, 1.0) * np.sqrt(whole / det) * np.exp(loss)
    return np.array([flux, np.clip(x_0 + x_offset, 0, nx - 1), np.clip(y_0 + y_offset, 0, ny - 1),
                     *np.broadcast_arrays(a, b, c, flux)[:3]])


def _measured_precision(total, xx, xy, yy, widest):
    """Return which stamps have a shape (n,), and a, b, c (3, n) with the weight taken out."""
    det = xx * yy - xy * xy
    usable = (total > 0) & (xx > 0) & (yy > 0) & (det > 0)
    precision = _bounded(0.5 * yy / det - _WEIGHT, -0.5 * xy / det, 0.5 * xx / det - _WEIGHT,
                         widest)
    usable &= np.isfinite(precision).all(axis=0)
    return usable, np.where(usable, precision, [[_WEIGHT], [0.0], [_WEIGHT]])


def _sums(data, shape, x_0, y_0):
    """Return total, mean x and y, covariances xx, xy and yy, (n,) each, under the weight."""
    y, x = np.mgrid[:shape[0], :shape[1]].reshape(2, -1).astype(float)
    monomials = np.array([np.ones_like(x), x, y, x * x + y * y])
    exponents = np.array([x_0 ** 2 + y_0 ** 2, -2 * x_0, -2 * y_0, np.ones_like(x_0)])
    weighted = np.exp(-_WEIGHT * exponents.T @ monomials)
    weighted *= data
    columns = np.array([np.ones_like(x), x, y, x * x, x * y, y * y]).T
    total, sum_x, sum_y, sum_xx, sum_xy, sum_yy = (weighted @ columns.copy()).T
    safe = np.where(total > 0, total, 1.0)
    mean_x, mean_y = sum_x / safe, sum_y / safe
    return (total, mean_x, mean_y, sum_xx / safe - mean_x ** 2, sum_xy / safe - mean_x * mean_y,
            sum_yy / safe - mean_y ** 2)


def _unaliased(total, mean_x, mean_y, xx, xy, yy):
    """Correct the moments, (n,) each, of a narrow Gaussian for its sampling.

    The first terms of Poisson's summation formula: samples one pixel apart
    see exp(-2 pi^2 variance) of the Gaussian's next harmonic, which makes
    the star of a Kepler stamp 5 % too narrow or too wide.  Twice, since the
    correction depends on what it corrects.
    """
    wave = 2 * np.pi
    sin_x, cos_x = np.sin(wave * mean_x), np.cos(wave * mean_x)
    sin_y, cos_y = np.sin(wave * mean_y), np.cos(wave * mean_y)
    at_x, at_y, var_x, cov, var_y = mean_x, mean_y, xx, xy, yy
    for _ in range(2):
        alias_x = 2 * np.exp(-0.5 * wave ** 2 * var_x)
        alias_y = 2 * np.exp(-0.5 * wave ** 2 * var_y)
        to_x, to_y = wave * alias_x * sin_x, wave * alias_y * sin_y
        bend_x, bend_y = wave ** 2 * alias_x * cos_x, wave ** 2 * alias_y * cos_y
        at_x, at_y = mean_x + var_x * to_x + cov * to_y, mean_y + var_y * to_y + cov * to_x
        var_x, cov, var_y = (xx + var_x ** 2 * bend_x + cov ** 2 * bend_y,
                             xy + cov * (var_x * bend_x + var_y * bend_y),
                             yy + var_y ** 2 * bend_y + cov ** 2 * bend_x)
    return total / (1 + alias_x * cos_x + alias_y * cos_y), at_x, at_y, var_x, cov, var_y


def _bounded(a, b, c, widest):
    """Hold the standard deviations of precision matrices within limits."""
    least, most = 0.5 / widest ** 2, 0.5 / _NARROWEST ** 2
    mean, difference = 0.5 * (a + c), 0.5 * (a - c)
    radius = np.hypot(difference, b)
    low = np.clip(mean - radius, least, most)
    high = np.clip(mean + radius, least, most)
    ratio = 0.5 * (high - low) / np.where(radius > 0, radius, 1.0)
    mean = 0.5 * (high + low)
    return np.array([mean + ratio * difference, ratio * b, mean - ratio * difference])
