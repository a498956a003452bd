# Licensed under a 3-clause BSD style license - see LICENSE
"""All of the guidance at once, for an image of one's own."""

from dataclasses import dataclass

import numpy as np
from astropy.modeling import Model
from astropy.table import QTable

from .._validation import require_number
from ..normalization import (
    Normalization,
    as_psf_model,
    describe_normalization,
    normalize_psf,
)
from .arguments import as_place, read_counts, require_inside
from .centroid import CentroidAdvice, advise_centroid
from .diagnosis import Diagnosis, diagnose
from .fit_box import FitBoxAdvice, suggest_fit_shape
from .information import default_largest
from .locate import RIVAL_SHARE, locate_source, reach_of
from .own_fit import fit_place, fit_star
from .width import gaussian_of_brightest
from .words import number, pixels, with_error, wrapped

__all__ = ['Advice', 'advise']

# Sources in the text, and those whose light a box is judged by.
N_SHOWN, N_NEIGHBOURS = 10, 20
# Characters by which the text is to the right of its titles.
MARGIN = 3
# Standard deviations of an upper limit.
N_LIMIT = 3.0
# Side in units of the FWHM of the box of a first fit.
FIRST_BOX = 5.0
# A star is not so much wider than the brightest of the same image.
MUCH_WIDER = 3.0


@dataclass(frozen=True)
class Advice:
    """All of the guidance for a star in an image, made by `advise`; ``print`` shows it.

    Attributes
    ----------
    psf : `~astropy.modeling.Model`
        The PSF, as a model whose flux is the total flux.
    psf_is_fitted : bool
        Whether none was given, and this is a Gaussian fitted to the star.
    normalization : Normalization
        What the flux of the PSF that was given means.
    sources : `~astropy.table.QTable`
        What `locate_source` found in the image, the star first if it is there.
    centroid : CentroidAdvice or None
        What to do with the position. None where there is no source, or none
        that is near enough to the place that is meant; and so are the next
        two.
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
    flux, flux_err : float
        The answer: total flux in electrons with its standard error, of the
        star, or, if none is there, at the place that is meant. NaN without
        either.
    fit_shape : (int, int) or None
        The box in which it was fitted.
    near : (float, float) or None
        The place (x, y) that is meant, in pixels.
    within : float or None
        How far from it the star may be, in pixels.
    n_held : int
        Number of other sources whose light was held as it was found, where
        they allow no fit of the star alone.
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
    flux: float = np.nan
    flux_err: float = np.nan
    fit_shape: tuple | None = None
    near: tuple | None = None
    within: float | None = None
    n_held: int = 0

    @property
    def is_trusted(self):
        """Whether there is a star, and nothing wrong was found with its fit."""
        return self.diagnosis is not None and self.diagnosis.is_trusted

    @property
    def answer(self):
        """Return the flux, its error, and whether to trust it, in words."""
        flux = with_error(self.flux, self.flux_err)
        if self.diagnosis is not None:
            names = ', '.join(problem.flag.name for problem in self.diagnosis.problems)
            text = f'total flux {flux} e- at {pixels(self.diagnosis.x, self.diagnosis.y)}'
            if self.n_held:
                text += (f', with the light of {self.n_held} other '
                         f'source{"s" * (self.n_held > 1)} subtracted as it was found: fit them '
                         'jointly for the final value')
            return f'{text}; {f"not trusted: {names}" if names else "trusted"}'
        if self.near is None:
            return 'no flux'
        if not np.isfinite(self.flux):
            return f'no flux, as there are too few pixels around {pixels(*self.near)}'
        limit, _, _ = with_error(max(self.flux, 0.0) + N_LIMIT * self.flux_err,
                                 self.flux_err).partition(' ')
        height, width = self.fit_shape
        return (f'no source; a star exactly at {pixels(*self.near)} has {flux} e- (position held, '
                f'{height} x {width} pixels), less than {limit} e- at {N_LIMIT:g} sigma')

    @property
    def place(self):
        """Return how far sources are from the place that is meant, in words; empty without."""
        if self.near is None:
            return ''
        place, within = pixels(*self.near), f'{self.within:.1f}' if self.within else ''
        if not len(self.sources):
            return f'nothing is above 5 sigma, neither at {place} nor elsewhere'
        away = np.hypot(self.sources['x'] - self.near[0], self.sources['y'] - self.near[1])
        if self.box is None:
            return (f'nothing is above 5 sigma within {within} pixels of {place}; the nearest '
                    f'source is {away[0]:.1f} pixels away')
        text = f'the first is meant, {away[0]:.1f} pixels from {place}'
        strength = self.sources['significance']
        rivals = (away <= (self.within or np.inf)) & (strength >= RIVAL_SHARE * strength[0])
        if self.within and rivals[1:].any():
            text += f'; {_plural(rivals[1:].sum(), "other")} within {within} pixels'
        return text

    def __str__(self):
        """Return all of it, in five parts, and the answer."""
        parts = [('What the flux means', self._normalization()),
                 ('Where the star is', self._sources())]
        if self.box is not None:
            parts += [('What to do with its position', str(self.centroid)),
                      ('How large a box to fit', str(self.box)),
                      ('Whether the fit can be trusted', str(self.diagnosis))]
        lines = [f'{place}. {title}\n{wrapped(text, MARGIN)}'
                 for place, (title, text) in enumerate(parts, 1)]
        if self.near is not None or self.box is not None:
            lines.append(wrapped(f'Answer: {self.answer}.'))
        return '\n'.join(lines)

    def _normalization(self):
        """Return what the flux means in words."""
        lines = [str(self.normalization)]
        if self.psf_is_fitted:
            which = 'the star' if self.box is not None else 'the brightest star'
            lines.insert(0, f'no PSF was given: a Gaussian is fitted to {which}')
        elif not self.normalization.is_total_flux:
            lines.append('all fluxes below are total fluxes: the PSF is normalised here '
                         '(normalize_psf; in kpsf photometry, --normalize)')
        return '\n'.join(lines)

    def _sources(self):
        """Return the sources in words."""
        if not len(self.sources):
            lines = ['no source is significant: pass electrons, the PSF, or the position of the '
                     'star']
            if self.near is not None:
                lines = [self.place]
            return '\n'.join(lines)
        spikes, excess = (self.sources.meta[name] for name in ('spikes', 'excess_variance'))
        lines = [f'{_plural(len(self.sources), "source")} above 5 sigma of the background, '
                 f'{_plural(spikes, "hot pixel")} or cosmic ray{"s" * (spikes != 1)} left out']
        if excess > 1.0:
            lines[0] += f'; the background varies {excess:.3g} times as much as electrons do'
        if self.near is not None:
            lines.append(self.place + ':')
        lines += [f'  {_source(row)}' for row in self.sources[:N_SHOWN]]
        if len(self.sources) > N_SHOWN:
            lines.append(f'  and {len(self.sources) - N_SHOWN} more')
        if self.near is None and self.sources['has_rival'][0]:
            lines.append('a second source competes: say which is meant by its position')
        return '\n'.join(lines)


def _plural(n, what):
    """Return how many there are."""
    return f'{n} {what}{"" if n == 1 else "s"}'


def _source(row):
    """Return a source in words."""
    place, flux = f'+- {max(row["x_err"], row["y_err"]):.2g}', (
        f'{row["flux"]:.4g} +- {row["flux_err"]:.2g}')
    if row['at_edge']:
        place, flux = 'at the edge', f'{row["flux"]:.4g}'
    return (f'{pixels(row["x"], row["y"])} {place}: flux {flux} e- on '
            f'{number(row["background"], 1e-9)} e- per pixel, {row["significance"]:.3g} sigma')


def advise(data, psf=None, *, background=None, mask=None, near=None, within='auto',
           read_variance=0.0, known_to=0.1, oversampling=None):
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
        significant. If none is there, the answer is the flux at that place,
        with its error and an upper limit.
    within : float or None, optional
        How far from ``near`` the star may be, see `locate_source`.
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
        The answers of the functions below, and the flux of a fit of the star;
        ``print`` shows them.

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
    >>> print(advice.answer)
    total flux 5002 +- 76 e- at (23.4, 11.8); trusted
    """
    near = as_place(near, 'near')
    known_to = require_number(known_to, 'known_to', 'pass pixels', positive=True)
    read_variance = require_number(read_variance, 'read_variance', 'pass electrons squared')
    counts, used, known = read_counts(data, mask, background, read_variance)
    options = {'background': known, 'mask': ~used, 'read_variance': read_variance}
    require_inside(near, counts.shape)
    is_fitted = psf is None
    if is_fitted:
        psf = _fitted_psf(counts, near, within, options)
    model, _ = as_psf_model(psf, oversampling)
    normalization = describe_normalization(psf, oversampling)
    if isinstance(psf, Model) and not normalization.is_total_flux:
        model = normalize_psf(model)
    sources = locate_source(counts, model, n=None, near=near, within=None, **options)
    reach = reach_of(within, sources.meta['fwhm'])
    place = {} if near is None else {
        'near': tuple(near.tolist()), 'within': reach if np.isfinite(reach) else None}
    largest = min(default_largest(normalization.fwhm), max(min(counts.shape), 3))
    known_of_all = counts, used, known, model
    if not len(sources) or (near is not None and sources.meta['nearest'][2] > reach):
        fit = None if near is None else fit_place(
            *known_of_all, place['near'], sources, largest, read_variance)
        if fit is not None:
            place |= {'flux': fit.flux, 'flux_err': fit.flux_err, 'fit_shape': fit.fit_shape}
        return Advice(model, is_fitted, normalization, sources, None, None, None, counts, ~used,
                      _residual(counts, used, fit, read_variance), **place)
    star = _refined(sources[0], known_of_all, normalization.fwhm, read_variance)
    flux, level = max(float(star['flux']), 1e-9), max(float(star['background']), 0.0)
    there = {'position': (float(star['x']), float(star['y'])), 'mask': ~used}
    neighbours = _neighbours(sources, largest, normalization.fwhm)
    box, centroid = _boxes_and_position(
        model, flux, level, there, largest, read_variance=read_variance, known_to=known_to,
        background_known=known is not None,
        neighbours=[sources[name][neighbours] - star[name] * (name != 'flux')
                    for name in ('x', 'y', 'flux')])
    held = sources[neighbours] if box.is_joint else ()
    fit = fit_star(*known_of_all, star, box.fit_shape, read_variance, held)
    diagnosis = diagnose(counts, fit.rows, psf=model, background=known, mask=~used,
                         read_variance=read_variance, fit_shape=box.fit_shape)
    return Advice(model, is_fitted, normalization, sources, centroid, box, diagnosis, counts,
                  ~used, _residual(counts, used, fit, read_variance), flux=fit.flux,
                  flux_err=fit.flux_err, fit_shape=box.fit_shape, n_held=len(held), **place)


def _fitted_psf(counts, near, within, options):
    """Return a Gaussian as wide as the star, or as the brightest where it is too faint."""
    brightest = gaussian_of_brightest(counts, **options)
    if near is None or not len(locate_source(counts, brightest, near=near, within=within,
                                             **options)):
        return brightest
    try:
        own = gaussian_of_brightest(counts, near=near, within=within, **options)
    except ValueError:
        return brightest
    # A much wider one is made of the light of other stars.
    return own if own.fwhm.value < MUCH_WIDER * brightest.fwhm.value else brightest


def _residual(counts, used, fit, read_variance):
    """Return data minus fit in standard deviations, NaN where there is none."""
    if fit is None:
        return np.full(counts.shape, np.nan)
    noise = np.sqrt(np.maximum(fit.mean + read_variance, 1e-9))
    return np.where(used, (counts - fit.mean) / noise, np.nan)


def _refined(source, known_of_all, fwhm, read_variance):
    """Return a source; one at the edge with the position of a fit, which may be beyond it."""
    star = {name: float(source[name]) for name in ('x', 'y', 'flux', 'flux_err', 'background')}
    if not source['at_edge']:
        return star
    side = 2 * max(int(np.ceil(0.5 * (FIRST_BOX * fwhm - 1.0))), 1) + 1
    fit = fit_star(*known_of_all, star, (side, side), read_variance)
    row = fit.rows[0]
    if not fit.flux > 0:
        return star
    return star | {'x': float(row['x_fit']), 'y': float(row['y_fit']), 'flux': fit.flux,
                   'flux_err': fit.flux_err}


def _boxes_and_position(model, flux, level, there, largest, *, read_variance, known_to,
                        background_known, neighbours):
    """Return the advice on box and position, of the pixels that exist, if they are enough."""
    known = {'read_variance': read_variance, 'background_known': background_known}
    for pixels_there in (there, {}):
        try:
            box = suggest_fit_shape(model, flux, level, largest=largest, **known, **pixels_there,
                                    neighbours=np.column_stack(neighbours))
            return box, advise_centroid(model, flux, level, known_to=known_to, **known,
                                        fit_shape=box.fit_shape, **pixels_there)
        except ValueError:
            if not pixels_there:
                raise


def _neighbours(sources, largest, fwhm):
    """Return which sources beside the first reach into a box, as indices."""
    offsets = np.column_stack([sources[name] - sources[name][0] for name in 'xy'])
    near = np.abs(offsets).max(axis=1) < 0.5 * largest + 3.0 * fwhm
    near &= np.asarray(sources['flux']) > 0
    return np.flatnonzero(near[1:1 + N_NEIGHBOURS]) + 1
