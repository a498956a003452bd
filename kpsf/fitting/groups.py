# Licensed under a 3-clause BSD style license - see LICENSE
"""Groups of stars in one model, as photutils fits those that are close to each other."""

import numpy as np
from astropy.modeling.core import Model

__all__ = ['SourceGroup']


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

    def star_of(self, index):
        """Return the star that a parameter of the group belongs to."""
        return index // self._n_params

    def evaluate(self, inputs, parameters, star):
        """Return the contribution of one star, shape (n,)."""
        return np.ravel(self.psf.evaluate(*inputs, *self._own(parameters, star)))

    def derivatives(self, inputs, parameters, free):
        """Return the derivatives (q, n) by the ``free`` parameters; None if the PSF has none."""
        if self.psf.fit_deriv is None:
            return None
        columns = {}
        for star in {self.star_of(index) for index in free}:
            columns[star] = self.psf.fit_deriv(*inputs, *self._own(parameters, star))
        return np.array([
            np.broadcast_to(np.ravel(columns[self.star_of(index)][index % self._n_params]),
                            np.size(inputs[0]))
            for index in free])

    def _own(self, parameters, star):
        """Return the parameters of one star."""
        return parameters[star * self._n_params:(star + 1) * self._n_params]
