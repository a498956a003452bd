# Licensed under a 3-clause BSD style license - see LICENSE
"""All of the guidance at once, for an image of one's own."""

from dataclasses import dataclass

import numpy as np
from astropy.modeling import Model
from astropy.table import QTable

from .._validation import require_number
from ..normalization import Normalization, as_psf_model, describe_normalization
from ..stamps import fit_stamps
from ..stamps.boxes import Boxes
from .arguments import as_place, read_counts, require_inside
from .centroid import CentroidAdvice, advise_centroid
from .diagnosis import Diagnosis, diagnose
from .fit_box import FitBoxAdvice, suggest_fit_shape
from .information import Star, default_largest
from .locate import locate_source
from .width import gaussian_of_brightest
from .words import pixels, wrapped

__all__ = ['Advice', 'advise']

# Sources in the text, and those whose light a box is judged by.
N_SHOWN, N_NEIGHBOURS = 10, 20
# Characters by which the text is to the right of its titles.
MARGIN = 3


@dataclass(frozen=True)
class Advice:
    """All of the guidance for a star in an image, made by `advise`; ``print`` shows it.

    Attributes
    ----------
    psf : `~astropy.modeling.Model`
        The PSF, as a model.
    psf_is_fitted : bool
        Whether none was given, and this is a Gaussian fitted to the star.
    normalization : Normalization
        What the flux of the PSF means.
    sources : `~astropy.table.QTable`
        What `locate_source` found, the star first.
    centroid : CentroidAdvice or None
        What to do with the position. None where there is no source, and so
        are the next two.
    box : FitBoxAdvice or None
        How large a fit box should be.
    diagnosis : Diagnosis or None
        What is wrong with the fit in that box.
    data : ndarray, shape (ny, nx)
        Electrons, 0 where masked.
    mask : ndarray of bool, shape (ny, nx)
        True for pixels that were left out.
    residual : ndarray, shape (ny, nx)
        Data minus fit in standard deviations; NaN where masked.
    """

    psf: Model
    psf_is_fitted: bool
    normalization: Normalization
    sources: QTable
    centroid: CentroidAdvice | None
    box: FitBoxAdvice | None
    diagnosis: Diagnosis | None
    data: np.ndarray
    mask: np.ndarray
    residual: np.ndarray

    def __str__(self):
        """Return all of it, in five parts."""
        parts = [('What the flux means', self._normalization()),
                 ('Where the star is', self._sources())]
        if self.box is not None:
            parts += [('What to do with its position', str(self.centroid)),
                      ('How large a box to fit', str(self.box)),
                      ('Whether the fit can be trusted', str(self.diagnosis))]
        return '\n'.join(f'{number}. {title}\n{wrapped(text, MARGIN)}'
                         for number, (title, text) in enumerate(parts, 1))

    def _normalization(self):
        """Return what the flux means in words."""
        text = str(self.normalization)
        return text if not self.psf_is_fitted else (
            f'no PSF was given: a Gaussian is fitted to the star\n{text}')

    def _sources(self):
        """Return the sources in words."""
        if not len(self.sources):
            return ('no source is significant: pass electrons, the PSF, or the position of the '
                    'star')
        lines = [f'{len(self.sources)} source{"s" * (len(self.sources) > 1)} above 5 sigma of the '
                 'background']
        lines[0] += f', {self.sources.meta["spikes"]} hot pixels or cosmic rays left out'
        if self.sources.meta['excess_variance'] > 1.0:
            lines[0] += (f'; the background varies {self.sources.meta["excess_variance"]:.3g} '
                         'times as much as electrons do')
        for row in self.sources[:N_SHOWN]:
            error = max(row['x_err'], row['y_err'])
            place = 'at the edge' if row['at_edge'] else f'+- {error:.2g}'
            flux_error = '' if row['at_edge'] else f' +- {row["flux_err"]:.2g}'
            lines.append(
                f'  {pixels(row["x"], row["y"])} {place}: flux '
                f'{row["flux"]:.4g}{flux_error} e- on {row["background"]:.4g} e- per pixel, '
                f'{row["significance"]:.3g} sigma')
        if len(self.sources) > N_SHOWN:
            lines.append(f'  and {len(self.sources) - N_SHOWN} more')
        if self.sources['has_rival'][0]:
            lines.append('a second source competes: say which is meant by its position')
        return '\n'.join(lines)


def advise(data, psf=None, *, background=None, mask=None, near=None, read_variance=0.0,
           known_to=0.1, oversampling=None):
    """Give all of the guidance for the star of an image.

    Parameters
    ----------
    data : array_like, shape (ny, nx)
        Electrons with the background in.
    psf : array_like, shape (ny, nx), or `~astropy.modeling.Model`, optional
        The PSF, an image or a model of any normalisation. By default a
        Gaussian that is fitted to the star.
    background : float or array_like, shape (ny, nx), optional
        The background that ``data`` contain, in electrons per pixel, where it
        is known.
    mask : array_like of bool, shape (ny, nx), optional
        True for pixels to leave out.
    near : (float, float), optional
        Place (x, y) in pixels of the star that is meant; by default the most
        significant.
    read_variance : float, optional
        Variance of the read noise in electrons squared.
    known_to : float, optional
        Standard deviation along each axis to which the position is known
        beforehand, in pixels.
    oversampling : int or (int, int), optional
        Samples per pixel of a PSF image, 1 by default.

    Returns
    -------
    Advice
        The answers of the functions below; ``print`` shows them.

    Raises
    ------
    TypeError, ValueError
        As for `locate_source`.

    See Also
    --------
    describe_normalization : What the flux of the PSF means.
    locate_source : Where the star is.
    advise_centroid : What to do with its position.
    suggest_fit_shape : How large the fit box should be.
    diagnose : What is wrong with the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from photutils.psf import CircularGaussianPRF
    >>> from kpsf.guidance import advise
    >>> psf = CircularGaussianPRF(fwhm=2.5)
    >>> y, x = np.mgrid[:41, :41]
    >>> mean = psf.evaluate(x, y, 5000.0, 23.4, 11.8, 2.5) + 20.0
    >>> advice = advise(np.random.default_rng(1).poisson(mean), psf)
    >>> print(advice.box.fit_shape, advice.centroid.recommendation, advice.diagnosis.is_trusted)
    (11, 11) free True
    """
    near = as_place(near, 'near')
    known_to = require_number(known_to, 'known_to', 'pass pixels', positive=True)
    read_variance = require_number(read_variance, 'read_variance', 'pass electrons squared')
    counts, used, known = read_counts(data, mask, background, read_variance)
    options = {'background': known, 'mask': ~used, 'read_variance': read_variance}
    require_inside(near, counts.shape)
    is_fitted = psf is None
    if is_fitted:
        psf = gaussian_of_brightest(counts, near=near, **options)
    model, _ = as_psf_model(psf, oversampling)
    normalization = describe_normalization(psf, oversampling)
    sources = locate_source(counts, model, n=None, near=near, **options)
    if not len(sources):
        return Advice(model, is_fitted, normalization, sources, None, None, None, counts, ~used,
                      np.full(counts.shape, np.nan))
    star = sources[0]
    flux, level = max(float(star['flux']), 1e-9), max(float(star['background']), 0.0)
    largest = min(default_largest(normalization.fwhm), max(min(counts.shape), 3))
    box = suggest_fit_shape(model, flux, level, read_variance=read_variance,
                            neighbours=_neighbours(sources, largest, normalization.fwhm),
                            background_known=known is not None, largest=largest)
    centroid = advise_centroid(model, flux, level, known_to=known_to, fit_shape=box.fit_shape,
                               read_variance=read_variance, background_known=known is not None)
    row, mean = _fit(counts, used, known, model, star, box.fit_shape, read_variance)
    diagnosis = diagnose(counts, row, psf=model, background=known, mask=~used,
                         read_variance=read_variance, fit_shape=box.fit_shape)
    noise = np.sqrt(np.maximum(mean + read_variance, 1e-9))
    residual = np.where(used, (counts - mean) / noise, np.nan)
    return Advice(model, is_fitted, normalization, sources, centroid, box, diagnosis, counts,
                  ~used, residual)


def _neighbours(sources, largest, fwhm):
    """Return the sources beside the first that reach into a box as rows (dx, dy, flux)."""
    rows = [np.asarray(sources[name][1:1 + N_NEIGHBOURS], dtype=float)
            for name in ('x', 'y', 'flux')]
    place = np.array([sources['x'][0], sources['y'][0], 0.0])
    offsets = np.maximum(np.column_stack(rows) - place, [-np.inf, -np.inf, 0.0])
    near = np.abs(offsets[:, :2]).max(axis=1, initial=0.0) < 0.5 * largest + 3.0 * fwhm
    return offsets[near]


def _fit(counts, used, known, model, source, shape, read_variance):
    """Return a row with the fit of the star in its box, and what is expected of the image."""
    star = Star(model, place=(source['x'], source['y']))
    unit = star.unit
    boxes = Boxes.around(*(np.atleast_1d(float(source[axis])) for axis in 'xy'), shape,
                         counts.shape)
    stamps = boxes.cut(np.where(used, counts, np.nan), np.nan)
    level = 'fit' if known is None else boxes.cut(np.broadcast_to(known, counts.shape), 0.0)
    first = boxes.first[0]
    fits = fit_stamps(stamps, model, background=level, read_variance=read_variance,
                      fixed=unit.shape_names,
                      init={unit.x: source['x'] - first[0], unit.y: source['y'] - first[1]},
                      origin=boxes.first if unit.is_grid else None)
    values = dict(zip(fits.param_names, fits.params[0]))
    if not np.isfinite(fits.params[0]).all():
        values = {unit.x: source['x'] - first[0], unit.y: source['y'] - first[1],
                  unit.scale: source['flux'] / star.integral, 'background': source['background']}
    row = {'x_fit': values[unit.x] + first[0], 'y_fit': values[unit.y] + first[1],
           'flux_fit': values[unit.scale]}
    y, x = np.indices(counts.shape)
    mean = row['flux_fit'] * star.integral * star.image(x, y, row['x_fit'], row['y_fit'])
    if known is None:
        row['background_fit'] = values['background']
    return row, np.maximum(mean + (values['background'] if known is None else known), 0.0)
