# Licensed under a 3-clause BSD style license - see LICENSE
"""What a photometry is set to, as both kinds of fits need it: in electrons."""

from dataclasses import dataclass

import numpy as np
from astropy.modeling import Model

from .._validation import below_read_noise
from ..priors import CentroidPrior, GaussianPrior
from .sources import ModelNames

__all__ = ['Settings']

# What adding a background back may leave of an empty pixel.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Settings:
    """A PSF model and how it is fitted.

    Attributes
    ----------
    model : `~astropy.modeling.Model`
    names : ModelNames
    fits_background : bool
        Whether the data contain a background that is fitted.
    gain : float
        Electrons per unit of the data.
    read_noise : float
        Standard deviation in electrons.
    prior : CentroidPrior or None
    xy_bounds : (float, float)
        Largest distance from the start along x and y.
    n_threads : int or None
    progress_bar : bool
    """

    model: Model
    names: ModelNames
    fits_background: bool
    gain: float
    read_noise: float
    prior: CentroidPrior | None
    xy_bounds: tuple
    n_threads: int | None
    progress_bar: bool

    @property
    def n_free(self):
        """Return the number of fitted parameters of a single star, background included."""
        return len(self.names.free) + self.fits_background

    def scale_of(self, name):
        """Return what turns a parameter into that of a fit of electrons."""
        return self.gain if name == self.names.flux else 1.0

    def electrons(self, data, subtracted):
        """Return counts with what was subtracted, NaN where data are; not below read noise.

        Raises
        ------
        ValueError
            If counts are further below zero than read noise explains.
        """
        counts = data + subtracted
        counts *= self.gain
        if not np.fmin.reduce(counts, axis=None, initial=0.0) < 0:
            return counts
        with np.errstate(invalid='ignore'):
            rounding = _ROUNDING * self.gain * (np.abs(data) + subtracted)
            counts[np.abs(counts) <= rounding] = 0.0
        bad = below_read_noise(counts, self.read_noise**2)
        if bad.any():
            raise ValueError(self._advice(counts, np.count_nonzero(bad), np.any(subtracted)))
        return counts

    def _advice(self, counts, n_bad, has_background):
        """Return what to do about negative counts."""
        noise = f' but for read noise of {self.read_noise:.6g}' if self.read_noise else ''
        remedy = ('pass the background that was subtracted as background=, so that it is put back '
                  'for the likelihood')
        if has_background:
            remedy = ('check that background= is what was subtracted, and pass the read noise as '
                      'read_noise=')
        return (f'Poisson counts must be >= 0{noise}, but {n_bad} of {counts.size} pixels around '
                f'the stars are negative (minimum {np.nanmin(counts):.6g} electrons): {remedy}; '
                'or mask them.')

    def known(self, subtracted, local_bkg, counts):
        """Return the electrons beside the stars that are known, as far as a background is.

        Raises
        ------
        ValueError
            If they are negative where there are counts, and nothing is fitted that could
            make up for it.
        """
        level = subtracted + local_bkg
        if not self.fits_background and np.any(local_bkg < 0):
            level = np.where(np.isfinite(counts), level, 0.0)
            if np.any(level < 0):
                raise ValueError('The background and local_bkg must not be negative together, '
                                 f'but they are {level.min():.6g} somewhere: have the rest of '
                                 "the background fitted by background='fit', or set local_bkg "
                                 'to 0 there.')
        return self.gain * level

    def bounds(self, params):
        """Return lower and upper bounds of all parameters, (n, k) each, in units of the data.

        Those of the model, and on positions ``xy_bounds`` around the start.
        """
        limits = [self.model.bounds[name] for name in self.names.params]
        lower, upper = (np.tile([[fill if pair[side] is None else pair[side] for pair in limits]],
                                (len(params), 1)).astype(float)
                        for side, fill in ((0, -np.inf), (1, np.inf)))
        for name, reach in zip((self.names.x, self.names.y), self.xy_bounds):
            j = self.names.params.index(name)
            lower[:, j] = np.maximum(lower[:, j], params[:, j] - reach)
            upper[:, j] = np.minimum(upper[:, j], params[:, j] + reach)
        return lower, upper

    def priors(self, params):
        """Return means and standard deviations by parameter, (n,) each, in units of the data."""
        priors = {}
        for name in self.names.free:
            prior = getattr(self.model, name).prior
            if isinstance(prior, GaussianPrior):
                priors[name] = np.full(len(params), prior.mean), prior.stddev
        if self.prior is not None:
            x, y = (params[:, self.names.params.index(name)]
                    for name in (self.names.x, self.names.y))
            of_place = self.prior.as_priors(self.model, x, y)
            priors |= {name: pair for name, pair in of_place.items() if name in self.names.free}
        return priors
