# Licensed under a 3-clause BSD style license - see LICENSE
"""Groups of stars in one model, as photutils fits those that are close to each other."""

import numpy as np
from astropy.modeling.core import Model

__all__ = ['SourceGroup', 'positions_of']


class SourceGroup:
    """A model that is the sum of one PSF at several places.

    photutils makes such models, without derivatives: what each star
    contributes follows from its own PSF and its own parameters alone.

    Parameters
    ----------
    psf : `~astropy.modeling.Model`
        The PSF of one star.
    n_sources : int
        Number of stars; the parameters of the group are star by star.
    """

    def __init__(self, psf, n_sources):
        self.psf, self._n_params, self.n_sources = psf, len(psf.param_names), n_sources

    @classmethod
    def of(cls, model):
        """Return the group that a model is, None if it is none.

        The names that photutils gives tell: a PSF, ``base_psf_model``, and parameters
        ``flux_0``, ``x_0_0``, ..., ``flux_1``, ... in its order.
        """
        psf, n_sources = (getattr(model, name, None) for name in ('base_psf_model', 'n_sources'))
        if not isinstance(psf, Model) or not isinstance(n_sources, int):
            return None
        names = tuple(f'{name}_{star}' for star in range(n_sources) for name in psf.param_names)
        return cls(psf, n_sources) if names == model.param_names else None

    def names_of(self, name):
        """Return the names that a parameter of the PSF has in the group, star by star."""
        return [f'{name}_{star}' for star in range(self.n_sources)]

    def positions(self):
        """Return the names of the positions of all stars."""
        return {each for name in positions_of(self.psf) for each in self.names_of(name)}

    def n_alike(self, free):
        """Return the number of stars if they have the same ``free`` parameters each, else 1."""
        if len(free) % self.n_sources:
            return 1
        own = np.reshape(free, (self.n_sources, -1))
        own = own - self._n_params * np.arange(self.n_sources)[:, np.newaxis]
        alike = np.all((own == own[0]) & (own >= 0) & (own < self._n_params))
        return self.n_sources if alike else 1

    def star_of(self, index):
        """Return the star that a parameter of the group belongs to."""
        return index // self._n_params

    def parameters_of(self, star):
        """Return where the parameters of a star are, a slice."""
        return slice(star * self._n_params, (star + 1) * self._n_params)

    def derivatives(self, inputs, parameters, free):
        """Return the derivatives (q, n) by the ``free`` parameters; None if the PSF has none."""
        if self.psf.fit_deriv is None:
            return None
        columns = {}
        for star in {self.star_of(index) for index in free}:
            columns[star] = self.psf.fit_deriv(*inputs, *parameters[self.parameters_of(star)])
        return np.array([
            np.broadcast_to(np.ravel(columns[self.star_of(index)][index % self._n_params]),
                            np.size(inputs[0]))
            for index in free])


def positions_of(psf):
    """Return the names of the position of a two-dimensional PSF, as photutils finds them."""
    if psf.n_inputs != 2:
        return set()
    return {getattr(psf, f'{axis}_name', f'{axis}_0') for axis in 'xy'} & set(psf.param_names)
