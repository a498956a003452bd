# Licensed under a 3-clause BSD style license - see LICENSE
"""How large the box around a star should be that is fitted."""

from dataclasses import dataclass

import numpy as np
from astropy.table import QTable, Table

from .._validation import require_number
from .arguments import as_surroundings
from .bias import bias_by_neighbours
from .information import MOST_PIXELS, Star, box_information, default_largest
from .words import percent, wrapped

__all__ = ['FitBoxAdvice', 'suggest_fit_shape']

# Share of the light that a recommended box holds.
LEAST_INSIDE = 0.9
# Total of error and bias, as a share of the flux and in units of the error, from which on no box
# is good for one star alone.
HOPELESS, MUCH = 0.2, 3.0


@dataclass(frozen=True)
class FitBoxAdvice:
    """How large a fit box should be, made by `suggest_fit_shape`; ``print`` shows it.

    Attributes
    ----------
    fit_shape : (int, int)
        The recommended box.
    table : `~astropy.table.QTable`
        One row per box: ``side`` in pixels, ``flux_err`` the Cramer-Rao error
        of the flux in electrons, ``outside`` the share of the flux outside of
        the box, ``neighbour_bias`` in electrons, ``total`` of error and bias
        (the largest bias of this and the next boxes, as it may change its sign),
        and ``relative``, the total over the smallest of all boxes.
    fwhm : float
        Of the PSF, in pixels.
    flux : float
        Electrons.
    background_known : bool
        Whether the background is known, or fitted, too.
    loss : float
        Which total was allowed, relative to the smallest.
    is_joint : bool
        Whether no box is good for the star alone, as its neighbours change the
        flux by a fifth or more in each; the box is then for a joint fit with
        them.
    """

    fit_shape: tuple
    table: QTable
    fwhm: float
    flux: float
    background_known: bool
    loss: float
    is_joint: bool = False

    @property
    def sentence(self):
        """Return the recommendation in one sentence."""
        side = self.fit_shape[0]
        row = self.table[self.table['side'] == side][0]
        background = 'a known' if self.background_known else 'a fitted'
        if self.is_joint:
            return (f'No box works for this star alone: its neighbours change the flux by '
                    f'{percent(HOPELESS)} or more. Fit them jointly, as a group, in {side} x '
                    f'{side} pixels ({side / self.fwhm:.1f} FWHM): the flux is then good to about '
                    f'{row["flux_err"]:.4g} e- ({percent(row["flux_err"] / self.flux)}).')
        bias = ''
        if _bias(row) != '0':
            bias = f', of which neighbours {row["neighbour_bias"]:+.3g} e-'
            if abs(row['neighbour_bias']) > row['flux_err']:
                bias += ' (fit them jointly)'
        total = row['total'] / self.flux
        good = f'good to {row["total"]:.4g} e- ({percent(total)})' if total < 3.0 else (
            'not measurable')
        return (f'Fit {side} x {side} pixels ({side / self.fwhm:.1f} FWHM) with {background} '
                f'background: the flux is {good}{bias}, '
                f'{percent(row["relative"] - 1)} more than in the best box; '
                f'{percent(row["outside"])} of the light is outside.')

    def __str__(self):
        """Return the sentence, and the boxes around the recommended one."""
        if self.is_joint:
            return wrapped(self.sentence)
        chosen = int(np.flatnonzero(self.table['side'] == self.fit_shape[0])[0])
        rows = sorted({0, *range(max(0, chosen - 2), min(len(self.table), chosen + 3)),
                       int(np.argmin(self.table['total'])), len(self.table) - 1})
        lines = [wrapped(self.sentence), '  box  error (e-)  outside  neighbours (e-)  total (e-)']
        for k in rows:
            row = self.table[k]
            mark = '*' if k == chosen else ' '
            lines.append(f'{mark} {row["side"]:3d}  {row["flux_err"]:10.4g}  '
                         f'{100 * row["outside"]:5.1f} %  {_bias(row):>15}  '
                         f'{row["total"]:10.4g}')
        if any(_bias(row) != '0' for row in self.table):
            lines.append(wrapped(
                '  total: of the error and the largest bias in this box, the next smaller and the '
                'next larger one, as it is zero by chance where it changes its sign'))
        return '\n'.join(lines)


def _bias(row):
    """Return the bias by neighbours in words, 0 where it does not matter."""
    bias = row['neighbour_bias']
    return f'{bias:.3g}' if abs(bias) > 1e-3 * row['flux_err'] else '0'


def suggest_fit_shape(psf, flux, background, *, read_variance=0.0, neighbours=None,
                      background_known=False, position_known=False, loss=0.02,
                      largest=None, position=None, mask=None, oversampling=None):
    """Advise on the box around a star that should be fitted.

    A box that is too small throws light away, and where the background is
    fitted, cannot tell it from the star's wings; one that is too large takes
    in neighbours and structure of the background.

    Parameters
    ----------
    psf : array_like, shape (ny, nx), or `~astropy.modeling.Model`
        The PSF, an image or a model of any normalisation.
    flux : float
        Total flux of the star in electrons.
    background : float
        Electrons per pixel.
    read_variance : float, optional
        Variance of the read noise in electrons squared.
    neighbours : `~astropy.table.Table` or sequence of (dx, dy, flux), optional
        Stars that the fit will not know of: offsets in pixels and total flux
        in electrons. A table has the columns ``dx``, ``dy``, ``flux``.
    background_known : bool, optional
        Whether the background is known, or fitted together with the star.
    position_known : bool, optional
        Whether the position is known, or fitted, too.
    loss : float, optional
        How much worse than the best box the recommended one may be.
    largest : int, optional
        Side of the largest box in pixels, at most 301. By default ten times
        the FWHM.
    position : (float, float), optional
        Place (x, y) of the star in the pixels of ``mask``. By default boxes
        are whole, and errors the mean over places in a pixel.
    mask : array_like of bool, shape (ny, nx), optional
        With ``position``: True for pixels that are left out. A star at the
        edge of the image, or beside bad pixels, has fewer of them.
    oversampling : int or (int, int), optional
        Samples per pixel of an image, 1 by default.

    Returns
    -------
    FitBoxAdvice
        The smallest box whose total of error and bias is within ``loss`` of
        the best, and the numbers of all.

    Raises
    ------
    TypeError
        If the PSF is neither an image nor a model, or a number is none.
    ValueError
        If a number is negative or not finite, the flux not positive, a
        neighbour not three numbers, or the PSF no PSF.

    Notes
    -----
    The error is the Cramer-Rao bound, the square root of the inverse expected
    information [1]_, averaged in the square over positions in the pixel.
    Maximum likelihood reaches it but for stars of a signal-to-noise ratio
    below about 5, see `advise_centroid`. The bias by neighbours is that of
    fits to the expected counts. Boxes that leave more than 10 per cent of the
    light outside are recommended only if there are no others.

    References
    ----------
    .. [1] Mendez, R. A. et al. 2013, PASP, 125, 580.

    Examples
    --------
    >>> from photutils.psf import CircularGaussianPRF
    >>> from kpsf.guidance import suggest_fit_shape
    >>> psf = CircularGaussianPRF(fwhm=2.5)
    >>> print(suggest_fit_shape(psf, 1000.0, 50.0, background_known=True).fit_shape)
    (5, 5)
    >>> print(suggest_fit_shape(psf, 1000.0, 50.0).fit_shape)
    (15, 15)
    """
    star = Star(psf, oversampling)
    flux = require_number(flux, 'flux', 'pass electrons', positive=True)
    background = require_number(background, 'background', 'pass electrons per pixel')
    read_variance = require_number(read_variance, 'read_variance', 'pass electrons squared')
    loss = require_number(loss, 'loss', 'pass for example 0.02')
    known = {'background_known': bool(background_known), 'position_known': bool(position_known)}
    others = _as_offsets(neighbours)
    around = as_surroundings(mask, position)
    boxes = box_information(star, flux, background, read_variance,
                            _largest(largest, star.fwhm), others, around=around)
    error = boxes.flux_errors(**known)
    bias = np.zeros(len(error)) if not len(others) else bias_by_neighbours(
        star, flux, background, read_variance, boxes.sides, others, around=around, **known)
    total = np.hypot(error, _around(bias))
    if not np.isfinite(total).any():
        raise ValueError(f'No box up to {boxes.sides[-1]} pixels determines the flux: pass a '
                         'larger one as largest, or know position or background.')
    table = QTable({'side': boxes.sides, 'flux_err': error,
                    'outside': np.maximum(1.0 - boxes.inside, 0.0), 'neighbour_bias': bias,
                    'total': total, 'relative': total / np.nanmin(total)})
    enough = boxes.inside >= LEAST_INSIDE
    if not np.any(enough & np.isfinite(total)):
        enough = np.ones_like(enough)
    least = total[enough].min()
    is_joint = bool(least > HOPELESS * flux and least > MUCH * error[enough].min())
    # With the neighbours fitted, too, there is no bias.
    judged = error if is_joint else total
    side = int(boxes.sides[np.argmax(enough & (judged <= (1.0 + loss) * judged[enough].min()))])
    return FitBoxAdvice((side, side), table, star.fwhm, flux, known['background_known'], loss,
                        is_joint)


def _around(bias):
    """Return the largest bias among each box and the next smaller and larger, (n,).

    Where it changes its sign, it is zero by chance.
    """
    padded = np.pad(np.abs(bias), 1, mode='edge')
    # A box that allows no fit says nothing of the next.
    before, after = (np.where(np.isfinite(part), part, 0.0) for part in (padded[:-2], padded[2:]))
    return np.maximum.reduce([before, padded[1:-1], after])


def _largest(largest, fwhm):
    """Return the side of the largest box, odd and at least 3."""
    if largest is None:
        largest = default_largest(fwhm)
    largest = min(require_number(largest, 'largest', 'pass pixels', positive=True), MOST_PIXELS)
    return max(2 * int((largest - 1.0) / 2.0) + 1, 3)


def _as_offsets(neighbours):
    """Return neighbours as rows (dx, dy, flux)."""
    if neighbours is None:
        return np.zeros((0, 3))
    if isinstance(neighbours, Table):
        missing = {'dx', 'dy', 'flux'} - set(neighbours.colnames)
        if missing:
            raise ValueError('A table of neighbours needs the columns dx, dy and flux, but it has '
                             f'{", ".join(neighbours.colnames)}: rename them.')
        neighbours = np.column_stack([np.asarray(neighbours[name], dtype=float)
                                      for name in ('dx', 'dy', 'flux')])
    try:
        rows = np.asarray(neighbours, dtype=float)
    except (TypeError, ValueError):
        rows = np.full(1, np.nan)
    rows = rows.reshape(-1, 3) if rows.size == 0 else np.atleast_2d(rows)
    if rows.ndim != 2 or rows.shape[1] != 3 or not np.isfinite(rows).all():
        raise ValueError('neighbours must be three finite numbers (dx, dy, flux) each, but they '
                         f'are {neighbours!r}: pass a table or rows of these.')
    return rows
