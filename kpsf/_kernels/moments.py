# Licensed under a 3-clause BSD style license - see LICENSE
"""Starting values of a stamp: background, flux, centroid and shape."""

import numpy as np

__all__ = ['starting_values']

_PASSES = 2
_BLOCK = 192
# Narrowest standard deviation in pixels of a starting shape.
_NARROWEST = 0.45
# Narrowest one of a weight: narrower ones are undersampled by the pixels,
# and the moments of a Kepler star come out twice too narrow.
_WEIGHT_WIDTH = 1.2


def starting_values(counts, shape, weights=None, known=0.0, measure_background=True):
    """
    Estimate an elliptical Gaussian and its background from moments.

    The background is the median of the border, the first centroid the
    brightest 3 x 3 pixels; then two passes of Gaussian-weighted moments
    whose weight adapts to the shape (the weight is taken out of the
    measured moments again).

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

    Returns
    -------
    ndarray, shape (7, n)
        flux, x, y, a, b, c, measured background.
    """
    ny, nx = shape
    y, x = np.mgrid[:ny, :nx].reshape(2, -1).astype(float)
    data = counts - known
    level = np.zeros(len(data))
    if measure_background:
        level = _border_level(data, shape, weights)
        data -= level[:, None]
        # A median of 0 counts still stands for a small positive expectation.
        level = np.maximum(level, 0.01 - np.min(known))
    if weights is not None:
        data *= weights
    x_0, y_0 = _brightest(data.reshape(-1, ny, nx))
    widest = 0.5 * max(ny, nx, 3)
    monomials = np.array([np.ones_like(x), x, y, x * x, x * y, y * y])
    level_of_weight = 0.5 / _WEIGHT_WIDTH ** 2
    weight = np.repeat([[level_of_weight], [0.0], [level_of_weight]], len(data), axis=1)
    precision = weight
    with np.errstate(all='ignore'):
        for _ in range(_PASSES):
            sums = _weighted_sums(data, monomials, x_0, y_0, weight)
            last_weight = weight
            x_0, y_0, precision = _matched(sums, x_0, y_0, weight, precision, shape, widest)
            weight = np.array(_bounded(*precision, _WEIGHT_WIDTH, widest))
    a, b, c = precision
    # The integral of the product of the Gaussian with its weight, undone.
    whole = precision + last_weight
    ratio = (whole[0] * whole[2] - whole[1] ** 2) / (a * c - b * b)
    flux = np.where(sums[0] > 0, sums[0], 1.0) * np.sqrt(ratio)
    return np.array([flux, x_0, y_0, a, b, c, level])


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


def _weighted_sums(data, monomials, x_0, y_0, weight):
    """Return the sums of data x Gaussian weight x monomials, shape (6, n)."""
    a, b, c = weight
    exponents = np.array([-(a * x_0 ** 2 + 2 * b * x_0 * y_0 + c * y_0 ** 2),
                          2 * (a * x_0 + b * y_0), 2 * (b * x_0 + c * y_0),
                          -a, -2 * b, -c]).T
    columns = monomials.T.copy()
    sums = np.empty((len(data), 6))
    for start in range(0, len(data), _BLOCK):
        part = slice(start, start + _BLOCK)
        weighted = np.exp(exponents[part] @ monomials)
        weighted *= data[part]
        np.matmul(weighted, columns, out=sums[part])
    return sums.T


def _matched(sums, x_0, y_0, weight, precision, shape, widest):
    """
    Return centroid and precision (3, n) from weighted sums.

    The product of two Gaussians has the sum of their precisions, so the
    weight's own is subtracted, and a centre between theirs, so the
    centroid's offset is stretched.  Unusable moments leave what was there.
    """
    total = sums[0]
    usable = total > 0
    total = np.where(usable, total, 1.0)
    mean_x, mean_y = sums[1] / total, sums[2] / total
    xx = sums[3] / total - mean_x ** 2
    xy = sums[4] / total - mean_x * mean_y
    yy = sums[5] / total - mean_y ** 2
    det = xx * yy - xy * xy
    usable &= (xx > 0) & (yy > 0) & (det > 0)
    det = np.where(usable, det, 1.0)
    product = np.array([0.5 * yy / det, -0.5 * xy / det, 0.5 * xx / det])
    matched = np.array(_bounded(*(product - weight), _NARROWEST, widest))
    usable &= np.isfinite(matched).all(axis=0)
    x_new, y_new = _stretched(mean_x - x_0, mean_y - y_0, weight, matched)
    ny, nx = shape
    return (np.where(usable, np.clip(x_0 + x_new, 0, nx - 1), x_0),
            np.where(usable, np.clip(y_0 + y_new, 0, ny - 1), y_0),
            np.where(usable, matched, precision))


def _stretched(dx, dy, weight, precision):
    """Return the offset of a Gaussian whose product with the weight is offset by dx, dy."""
    a, b, c = precision
    det = a * c - b * b
    along_x = weight[0] * dx + weight[1] * dy
    along_y = weight[1] * dx + weight[2] * dy
    return (dx + (c * along_x - b * along_y) / det,
            dy + (a * along_y - b * along_x) / det)


def _bounded(a, b, c, narrowest, widest):
    """Hold the standard deviations of precision matrices within limits."""
    least, most = 0.5 / widest ** 2, 0.5 / narrowest ** 2
    mean, difference = 0.5 * (a + c), 0.5 * (a - c)
    radius = np.hypot(difference, b)
    low = np.clip(mean - radius, least, most)
    high = np.clip(mean + radius, least, most)
    ratio = 0.5 * (high - low) / np.where(radius > 0, radius, 1.0)
    mean = 0.5 * (high + low)
    return mean + ratio * difference, ratio * b, mean - ratio * difference
