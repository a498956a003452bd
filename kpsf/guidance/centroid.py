# Licensed under a 3-clause BSD style license - see LICENSE
"""Whether the position of a star should be fitted, held, or given a prior."""

from dataclasses import dataclass

import numpy as np
from astropy.table import QTable

from .._validation import as_box, require_number, require_positive_integer
from ..stamps import fit_stamps
from .arguments import as_surroundings
from .fit_box import suggest_fit_shape
from .information import Star, box_information
from .words import percent, wrapped

__all__ = ['CentroidAdvice', 'advise_centroid']

# How much worse than the best way a simpler one may be.
TOLERANCE = 0.02
# The largest bias of the flux that does not matter, in units of its scatter.
LARGEST_BIAS = 0.05
# Simulated pixels, stars, and the share of these that must converge.
MOST_PIXELS, LEAST_SIMULATED, LEAST_USED = 2_000_000, 100, 0.5
MODES = ('free', 'prior', 'fixed')


@dataclass(frozen=True)
class CentroidAdvice:
    """What becomes of a position, made by `advise_centroid`; ``print`` shows it.

    Attributes
    ----------
    recommendation : {'free', 'prior', 'fixed'}
        What to do with the position.
    table : `~astropy.table.QTable`
        One row per way: ``position`` (free, prior or fixed), ``x_err`` the
        standard deviation of the fitted position along an axis in pixels,
        ``flux_bias`` the mean error of the flux, ``flux_bias_err`` how well
        the simulation knows it, ``flux_err`` the standard deviation of the
        flux, ``rms`` of both, in electrons, and ``flux_err_bound``, the
        Cramer-Rao bound.
    position_error : float
        Cramer-Rao bound of a free position along an axis in pixels.
    known_to : float
        Standard deviation along an axis in pixels of what is known
        beforehand.
    signal_to_noise : float
        Flux over the Cramer-Rao bound of its error with a free position.
    flux : float
        Electrons.
    fit_shape : (int, int)
        The box.
    """

    recommendation: str
    table: QTable
    position_error: float
    known_to: float
    signal_to_noise: float
    flux: float
    fit_shape: tuple

    @property
    def sentence(self):
        """Return the recommendation in one sentence."""
        what = {'free': 'Leave the position free',
                'prior': f'Give the position a prior, CentroidPrior({self.known_to:.3g})',
                'fixed': 'Hold the position fixed'}[self.recommendation]
        row = self.table[MODES.index(self.recommendation)]
        free = self.table[0]
        text = (f'{what}: at S/N {self.signal_to_noise:.1f} the pixels tell it to '
                f'{self.position_error:.2g} pixels, and {self.known_to:.2g} are known beforehand; '
                f'the flux is then off by {percent(row["flux_bias"] / self.flux, signed=True)} '
                f'on average and scatters by {percent(row["flux_err"] / self.flux)}')
        if self.recommendation != 'free':
            text += (f' (free: {percent(free["flux_bias"] / self.flux, signed=True)} and '
                     f'{percent(free["flux_err"] / self.flux)})')
        return f'{text}.'

    def __str__(self):
        """Return the sentence and all ways."""
        lines = [wrapped(self.sentence), '  position  x error (pixels)  flux bias  flux scatter']
        for row in self.table:
            mark = '*' if row['position'] == self.recommendation else ' '
            lines.append(f'{mark} {row["position"]:8s}  {row["x_err"]:16.3g}  '
                         f'{percent(row["flux_bias"] / self.flux, signed=True):>9}  '
                         f'{percent(row["flux_err"] / self.flux):>12}')
        return '\n'.join(lines)


def advise_centroid(psf, flux, background, *, known_to=0.1, read_variance=0.0, fit_shape=None,
                    background_known=False, n_simulated=4000, seed=1, position=None, mask=None,
                    oversampling=None):
    """Advise whether to fit the position of a star, to hold it, or to give it a prior.

    A free position follows the noise to where it happens to be highest: the
    flux of a faint star comes out too high. A position that is held where
    the star is not loses flux. A prior does neither, if it is as wide as the
    position is uncertain.

    Parameters
    ----------
    psf : array_like, shape (ny, nx), or `~astropy.modeling.Model`
        The PSF, an image or a model of any normalisation.
    flux : float
        Total flux of the star in electrons.
    background : float
        Electrons per pixel.
    known_to : float, optional
        Standard deviation along each axis of what is known of the position
        beforehand, in pixels: the error of the catalogue and of its
        transformation to the image.
    read_variance : float, optional
        Variance of the read noise in electrons squared.
    fit_shape : int or (int, int), optional
        Height and width of the box, odd. By default that of
        `suggest_fit_shape`.
    background_known : bool, optional
        Whether the background is known, or fitted, too.
    n_simulated : int, optional
        How many stars are simulated and fitted in each way, at least 100;
        fewer than that in boxes of more than 500 pixels, so that it does not take
        long.
    seed : int, optional
        Of the simulation.
    position, mask : optional
        Place of the star in an image, and pixels that are left out, as for
        `suggest_fit_shape`. By default the box is whole, and the star
        anywhere in its middle pixel.
    oversampling : int or (int, int), optional
        Samples per pixel of an image, 1 by default.

    Returns
    -------
    CentroidAdvice
        What to do, the expected errors, and the bias and scatter of the flux
        with free, prior and fixed positions.

    Raises
    ------
    TypeError
        If the PSF is neither an image nor a model, or a number is none.
    ValueError
        If a number is negative or not finite, flux or ``known_to`` not
        positive, ``known_to`` larger than half of the box, ``fit_shape`` not
        odd, ``n_simulated`` below 100, or the simulated fits do not converge.

    Notes
    -----
    The bias of maximum likelihood has no usable formula at low signal: the
    second order [1]_ is too small below a signal-to-noise ratio of 2. So the
    stars are simulated, at random places in a pixel, with known positions off
    by ``known_to``, and fitted as `~kpsf.PoissonPSFPhotometry` does, within
    the box.

    References
    ----------
    .. [1] Cox, D. R. & Snell, E. J. 1968, J. R. Stat. Soc. B, 30, 248.

    Examples
    --------
    >>> from photutils.psf import CircularGaussianPRF
    >>> from kpsf.guidance import advise_centroid
    >>> psf = CircularGaussianPRF(fwhm=2.0)
    >>> print(advise_centroid(psf, 20.0, 1.0, known_to=0.4).recommendation)
    prior
    >>> print(advise_centroid(psf, 1e5, 1.0).recommendation)
    free
    """
    star = Star(psf, oversampling)
    flux = require_number(flux, 'flux', 'pass electrons', positive=True)
    background = require_number(background, 'background', 'pass electrons per pixel')
    read_variance = require_number(read_variance, 'read_variance', 'pass electrons squared')
    known_to = require_number(known_to, 'known_to', 'pass pixels', positive=True)
    n_simulated, seed = _check_simulation(n_simulated, seed)
    shape = as_box(fit_shape, least=3) if fit_shape is not None else suggest_fit_shape(
        star.model, flux, background, read_variance=read_variance,
        background_known=background_known, position=position, mask=mask).fit_shape
    around = as_surroundings(mask, position)
    if known_to > 0.5 * min(shape):
        raise ValueError(f'known_to must not exceed half of the box, {min(shape)} pixels, but it '
                         f'is {known_to:g}: pass a larger fit_shape, or find the star first.')
    n_simulated = min(n_simulated, max(MOST_PIXELS // np.prod(shape), LEAST_SIMULATED))
    boxes = box_information(star, flux, background, read_variance, max(shape), shape=shape,
                            around=around)
    bounds = [boxes.covariance(background_known=background_known, **known)[:, -1] for known in (
        {}, {'prior': known_to}, {'position_known': True})]
    stars = _Simulated(star, flux, background, read_variance, shape, known_to, n_simulated, seed,
                       around)
    rows = [stars.measure(mode, background_known) for mode in MODES]
    table = QTable({'position': MODES, **{
        name: [row[name] for row in rows] for name in rows[0]},
        'flux_err_bound': [np.sqrt(bound[..., 0, 0].mean()) for bound in bounds]})
    position_error = np.sqrt(0.5 * (bounds[0][..., 1, 1] + bounds[0][..., 2, 2]).mean())
    return CentroidAdvice(_recommend(table), table, float(position_error), known_to,
                          float(flux / table['flux_err_bound'][0]), flux, shape)


def _check_simulation(n_simulated, seed):
    """Return number and seed of a simulation; raise unless they are whole numbers."""
    n_simulated = require_positive_integer(n_simulated, 'n_simulated')
    if n_simulated < LEAST_SIMULATED:
        raise ValueError(f'n_simulated must be at least {LEAST_SIMULATED}, but it is '
                         f'{n_simulated}: fewer tell nothing.')
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f'seed must be a whole number >= 0, but it is {seed!r}: pass one.')
    return n_simulated, seed


def _recommend(table):
    """Return the simplest way without a bias that shows, and hardly worse than the best of those.

    A bias does not average out over many stars or cadences, so it counts before the scatter.
    """
    bias = np.maximum(np.abs(table['flux_bias']) - 2.0 * table['flux_bias_err'], 0.0)
    fair = bias <= bias.min() + LARGEST_BIAS * table['flux_err']
    good = fair & (table['rms'] <= (1.0 + TOLERANCE) * table['rms'][fair].min())
    return next(mode for mode in ('free', 'fixed', 'prior') if good[MODES.index(mode)])


class _Simulated:
    """Stars of one flux in boxes, and what is known of their positions."""

    def __init__(self, star, flux, background, read_variance, shape, known_to, n, seed,
                 around=None):
        rng = np.random.default_rng(seed)
        self.star, self.flux, self.background = star, flux, background
        self.read_variance, self.shape, self.known_to = read_variance, shape, known_to
        middle = np.array([[shape[1] // 2], [shape[0] // 2]])
        # A box is around where a star is thought to be; it is as far off as that is wrong.
        self.known = middle + (rng.uniform(-0.5, 0.5, (2, n)) if around is None else
                               np.broadcast_to(around.offset, (2, n)))
        self.place = self.known + rng.normal(0.0, known_to, (2, n))
        y, x = np.mgrid[:shape[0], :shape[1]]
        image = star.image(x, y, *self.place[:, :, np.newaxis, np.newaxis])
        mean = np.maximum(flux * image, 0.0) + background
        self.counts = rng.poisson(mean) + rng.normal(0.0, np.sqrt(read_variance), mean.shape)
        if around is not None:
            self.counts[:, ~around.box(shape)] = np.nan

    def measure(self, mode, background_known):
        """Return bias, scatter and rms of the flux with a position free, prior or fixed."""
        unit, model = self.star.unit, self.star.model
        names = unit.x, unit.y
        # The rest of the model is known: this is about positions.
        options = {'fixed': unit.shape_names + (list(names) if mode == 'fixed' else [])}
        if mode != 'fixed':
            options['bounds'] = {name: (known - size / 2, known + size / 2)
                                 for name, known, size in zip(names, self.known, self.shape[::-1])}
        if mode == 'prior':
            options['priors'] = {name: (known, self.known_to)
                                 for name, known in zip(names, self.known)}
        origin = np.asarray(unit.place) - np.array(self.shape[::-1]) // 2 if unit.is_grid else None
        fits = fit_stamps(self.counts, model, read_variance=self.read_variance,
                          background=self.background if background_known else 'fit',
                          init=dict(zip(names, self.known)), origin=origin, **options)
        used = fits.converged & np.isfinite(fits.params).all(axis=1)
        if used.sum() < LEAST_USED * len(used):
            raise ValueError(f'Fits must converge to be judged, but {len(used) - used.sum()} of '
                             f'{len(used)} simulated ones did not: pass more flux, or a box that '
                             'the star fits in.')
        flux, x, y = (fits.params[used, fits.param_names.index(name)]
                      for name in (unit.scale, *names))
        flux = flux * self.star.integral
        off = np.hypot(*(place[used] - fitted for place, fitted in zip(self.place, (x, y))))
        bias, scatter = flux.mean() - self.flux, flux.std()
        return {'x_err': np.sqrt(0.5 * np.mean(off**2)), 'flux_bias': bias,
                'flux_bias_err': scatter / np.sqrt(len(flux)), 'flux_err': scatter,
                'rms': np.hypot(bias, scatter)}
