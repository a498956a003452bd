# Licensed under a 3-clause BSD style license - see LICENSE
"""`StampFits`: what `fit_stamps` found."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from astropy.table import QTable

from .._kernels.goodness import fit_z
from ..models import total_flux_name

__all__ = ['StampFits']


@dataclass(frozen=True, eq=False, repr=False)
class StampFits:
    """Fits of many stamps, made by `fit_stamps`.

    Parameters
    ----------
    param_names : tuple of str
        The model's parameters and, if it was fitted, ``'background'``.
    params : ndarray, shape (n, p)
        Fitted (or fixed) values in electrons and pixels; NaN where there
        were too few pixels.
    deviance : ndarray, shape (n,)
        C-statistic, without the priors' share.
    edm : ndarray, shape (n,)
        Expected distance to the minimum of half the deviance.
    n_iter : ndarray of int, shape (n,)
        Number of evaluations of the likelihood.
    converged : ndarray of bool, shape (n,)
        Whether ``edm`` is below 1e-6.
    flags : ndarray of int, shape (n,)
        See `~kpsf.flags.FitFlag` and `~kpsf.decode_flags`.
    triangles : ndarray, shape (n, q (q + 1) / 2)
        Lower triangles of the covariances; `covariance` unpacks them.
    _problem : object
        The stamps and all that was known of them. `gof_z`, `flux_fraction`
        and `model_images` are computed from the arrays that were passed to
        `fit_stamps`, when they are first asked for: do not change these before.
    """

    param_names: tuple
    params: np.ndarray
    deviance: np.ndarray
    edm: np.ndarray
    n_iter: np.ndarray
    converged: np.ndarray
    flags: np.ndarray
    triangles: np.ndarray
    _problem: object

    def __len__(self):
        """Return the number of stamps."""
        return len(self.params)

    def __repr__(self):
        """Say how many fits there are, of what, and how they went."""
        return (f'<StampFits: {len(self)} stamps, {", ".join(self.param_names)}; '
                f'{self.converged.sum()} converged, {np.count_nonzero(self.flags)} flagged>')

    @property
    def covariance(self):
        """Covariance of all parameters, ndarray of shape (n, p, p).

        Zero for fixed parameters and those at a bound; NaN where it does
        not exist. Made anew at each access: 8 p^2 bytes per stamp.
        """
        moving = self._problem.moving
        p = len(self.param_names)
        covariance = np.zeros((len(self), p, p))
        covariance[np.isnan(self.params[:, 0])] = np.nan
        for k, (i, j) in enumerate(zip(*np.tril_indices(len(moving)), strict=True)):
            covariance[:, moving[i], moving[j]] = self.triangles[:, k]
            covariance[:, moving[j], moving[i]] = self.triangles[:, k]
        return covariance

    @cached_property
    def errors(self):
        """Standard errors of all parameters, ndarray of shape (n, p)."""
        moving = self._problem.moving
        errors = np.zeros_like(self.params)
        errors[np.isnan(self.params)] = np.nan
        i, j = np.tril_indices(len(moving))
        with np.errstate(invalid='ignore'):
            errors[:, moving] = np.sqrt(self.triangles[:, i == j])
        return errors

    @cached_property
    def flux_fraction(self):
        """Share of the PSF that falls on the pixels in the fit, ndarray of shape (n,).

        NaN for models without a total flux: a parameter ``flux``, or the
        one that their attribute ``flux_name`` names.
        """
        problem = self._problem
        name = total_flux_name(problem.model)
        fraction = np.full(len(self), np.nan)
        if name is None:
            return fraction
        j = problem.model.param_names.index(name)
        for rows in self._chunks():
            params = self._all_params(rows)
            params[j] = 1.0
            likelihood = problem.likelihood(rows)
            psf, _ = likelihood.mean(params, np.arange(len(rows)))
            if likelihood.weights is not None:
                psf = psf * likelihood.weights
            fraction[rows] = psf.sum(axis=1)
        return fraction

    @cached_property
    def gof_z(self):
        """Goodness of fit, ndarray of shape (n,).

        The C-statistic's distance from its expectation in standard
        deviations (see `~kpsf.goodness_of_fit`); NaN where nothing was
        fitted, or so few counts that the fit leaves nothing to vary. Above
        about 5 the model is not the whole story and formal errors are too
        small.
        """
        problem, z = self._problem, np.full(len(self), np.nan)
        free = problem.constraints.free
        variances = self.errors[:, free].T**2
        for rows in self._chunks():
            likelihood, params = problem.likelihood(rows), self._all_params(rows)
            _, mean = likelihood.mean(params, np.arange(len(rows)))
            z[rows] = fit_z(likelihood, params, mean, self.deviance[rows], free,
                            variances[:, rows],
                            problem.constraints.of(rows).prior_precision[free])
        return z

    @cached_property
    def table(self):
        """All results as a `~astropy.table.QTable`, one row per stamp.

        Columns ``<name>_fit`` and ``<name>_err`` for each parameter,
        ``flux_fraction``, ``cstat``, ``gof_z``, ``edm``, ``n_iter``,
        ``converged`` and ``flags``.
        """
        table = QTable()
        for j, name in enumerate(self.param_names):
            table[f'{name}_fit'] = self.params[:, j]
            table[f'{name}_err'] = self.errors[:, j]
        table['flux_fraction'] = self.flux_fraction
        table['cstat'] = self.deviance
        for name in ('gof_z', 'edm', 'n_iter', 'converged', 'flags'):
            table[name] = getattr(self, name)
        return table

    def model_images(self, index=slice(None)):
        """Return the fitted mean of some stamps, background included.

        Parameters
        ----------
        index : int, slice or array of int or bool, shape (m,) or (n,), optional
            Which stamps; by default all.

        Returns
        -------
        ndarray, shape (ny, nx) for an int, else (m, ny, nx)
            Electrons; NaN where nothing was fitted.

        Raises
        ------
        IndexError
            If a stamp does not exist.
        """
        rows = np.arange(len(self))[index]
        flat = np.atleast_1d(rows)
        likelihood = self._problem.likelihood(flat)
        _, mean = likelihood.mean(self._all_params(flat), np.arange(len(flat)))
        shift = self._problem.read_variance
        mean = mean - (shift[flat] if shift.ndim == 2 else shift)
        return mean.reshape(*np.shape(rows), *self._problem.shape)

    def _all_params(self, rows):
        """Return the likelihood's parameters of ``rows``, (p, m), as a copy."""
        params = np.zeros((self._problem.n_params, len(rows)))
        params[:len(self.param_names)] = self.params[rows].T
        return params

    def _chunks(self, size=2048):
        """Yield the indices of the fitted stamps, some at a time."""
        rows = self._problem.rows
        for start in range(0, len(rows), size):
            yield rows[start:start + size]
