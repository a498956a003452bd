# Licensed under a 3-clause BSD style license - see LICENSE
"""Stars that are fitted jointly: groups of the same size in one batch, pixels counted once."""

import numpy as np

from .._kernels.goodness import fit_z
from .._kernels.groups import GroupLikelihood
from .._kernels.poisson import is_impossible
from .._kernels.shared import Series, solve_series
from .._kernels.solver import Constraints
from ..stamps.kernels import profile_of
from ..stamps.threads import run_on_threads
from .pixel_lists import list_pixels

__all__ = ['fit_groups']

# Numbers in the Jacobians of the groups that one thread works on at a time.
_CHUNK_SIZE = 4_000_000
_MAX_ITER = 100
# Added to the scaled diagonal of the normal equations of a start.
_RIDGE = 1e-6


def fit_groups(rows, image, sources, boxes, settings, found):
    """Fit the stars ``rows`` (n,) jointly with the others of their groups.

    Parameters
    ----------
    rows : ndarray of int, shape (n,)
        Of each group at least two stars.
    image : Image
    sources : Sources
    boxes : Boxes
        Of all stars.
    settings : Settings
    found : Found
        Takes what was found.
    """
    if not len(rows):
        return
    group_id = np.asarray(sources.table['group_id'])[rows]
    rows = rows[np.argsort(group_id, kind='stable')]
    _, begin, sizes = np.unique(np.sort(group_id), return_index=True, return_counts=True)
    for size in np.unique(sizes):
        members = rows[begin[sizes == size][:, np.newaxis] + np.arange(size)]
        lists = list_pixels(members, boxes, image.mask)
        _Batch(lists, boxes.shape, image, sources, settings).fit(found)


class _Batch:
    """Groups of the same number of stars.

    Parameters
    ----------
    lists : PixelLists
    fit_shape : (ny, nx)
        Shape of a star's box.
    image : Image
    sources : Sources
    settings : Settings
    """

    def __init__(self, lists, fit_shape, image, sources, settings):
        self._lists, self._settings, self._sources = lists, settings, sources
        self._reach = fit_shape[::-1]
        names, members = settings.names, lists.members
        moving = [names.params.index(name) for name in names.free]
        self._profile, self._order = profile_of(settings.model, moving)
        self._fitted = [k for k, j in enumerate(self._order) if j in moving]
        self._scale = np.array([settings.scale_of(names.params[j]) for j in self._order])
        # All parameters (k, n_stars, n_groups), the flux first, in electrons.
        self._stars = (sources.params[members][..., self._order] * self._scale).transpose(2, 1, 0)
        # Beside a fitted background, both are a linear fit.
        self._fits_flux = 0 in self._fitted and (
            settings.fits_background or names.flux not in sources.given)
        if self._fits_flux:
            self._stars[0] = 1.0
        data = image.data.ravel()[lists.flat]
        subtracted = image.subtracted
        if subtracted.ndim:
            subtracted = subtracted.ravel()[lists.flat]
        self._counts = settings.electrons(data, subtracted)
        group = np.repeat(np.arange(len(members)), lists.sizes)
        local_bkg = sources.local_bkg[members].mean(axis=1)
        self._known = settings.known(subtracted, local_bkg[group], self._counts)
        self._error = None if image.error is None else image.error.ravel()[lists.flat]

    @property
    def _n_params(self):
        """Return the number of parameters of the likelihood, the background included."""
        return self._lists.members.shape[1] * len(self._fitted) + 1

    def likelihood(self, part):
        """Return the likelihood of some groups, a slice."""
        lists, shift = self._lists, self._settings.read_noise**2
        index, used = lists.table(part)
        y, x = np.divmod(lists.flat[index], lists.width)
        counts = np.where(used, self._counts[index] + shift, 0.0)
        return GroupLikelihood(counts, x, y, self._profile, self._stars[:, :, part], self._fitted,
                               self._reach, offset=self._known[index] + shift,
                               weights=None if used.all() else used.astype(float))

    def fit(self, found):
        """Fit all groups, and put what was found into ``found``."""
        series = Series(self._parts(), self.likelihood, self._constraints(),
                        np.zeros(0, dtype=int), self._run)
        start = np.zeros((self._n_params, len(self._lists.members)))
        self._run(lambda part: self._start(part, start), series.parts)
        limits = series.constraints
        start = np.clip(start, limits.lower, limits.upper)
        fits = solve_series(series, start, _MAX_ITER)
        errors = _errors(fits, limits.free)
        results = self._results(fits, errors, limits) | self._compare(fits, errors, series)
        found.put(self._lists.members.ravel(), **results)

    def _run(self, function, parts, watched=False):
        """Return the results of a function of the parts."""
        settings = self._settings
        return run_on_threads(function, parts, settings.n_threads or 1,
                              settings.progress_bar and watched)

    def _parts(self):
        """Return the groups in slices whose Jacobians do not need too much memory."""
        sizes, parts, start = self._lists.sizes, [], 0
        while start < len(sizes):
            stop = start + 1
            while stop < len(sizes) and (stop + 1 - start) * sizes[stop] * self._n_params < (
                    _CHUNK_SIZE):
                stop += 1
            parts.append(slice(start, stop))
            start = stop
        return parts

    def _constraints(self):
        """Return bounds and priors of what is fitted."""
        settings, names, members = self._settings, self._settings.names, self._lists.members
        limits = settings.bounds(self._sources.params[members.ravel()])
        priors = settings.priors(self._sources.params)
        q, shape = len(self._fitted), (self._n_params, len(members))
        lower, upper = np.full(shape, -np.inf), np.full(shape, np.inf)
        mean, precision = np.zeros(shape), np.zeros(shape)
        for place, k in enumerate(self._fitted):
            j, scale = self._order[k], self._scale[k]
            # Positions are counted from where the stars start.
            shift = self._stars[k] if k in (1, 2) else 0.0
            for bound, limit in zip((lower, upper), limits):
                bound[place:-1:q] = scale * limit[:, j].reshape(members.shape).T - shift
            if names.params[j] in priors:
                centre, stddev = priors[names.params[j]]
                mean[place:-1:q] = scale * centre[members].T - shift
                precision[place:-1:q] = (scale * stddev)**-2
        n_free = shape[0] - (not settings.fits_background)
        if settings.fits_background:
            lower[-1] = -np.minimum.reduceat(self._known, self._lists.begin[:-1])
        return Constraints(np.arange(n_free), lower, upper, mean, precision)

    def _start(self, part, start):
        """Write starting values of some groups: what was given, and a linear fit of the rest."""
        q, stars = len(self._fitted), self._stars[:, :, part]
        for place, k in enumerate(self._fitted):
            start[place:-1:q, part] = 0.0 if k in (1, 2) else stars[k]
        if not self._fits_flux and not self._settings.fits_background:
            return
        likelihood = self.likelihood(part)
        images, light = likelihood.starting_images()
        if not self._fits_flux:
            light = light - np.einsum('sm,msp->mp', stars[0], images)
            images = images[:, :0]
        flux, level = _solve_linear(images, light, likelihood.weights,
                                    self._settings.fits_background)
        if self._fits_flux:
            start[self._fitted.index(0):-1:q, part] = flux.T
        if self._settings.fits_background:
            known = np.minimum.reduceat(self._known, self._lists.begin[:-1])[part]
            # A level of 0 still stands for a small positive expectation.
            start[-1, part] = np.maximum(level, 0.01 - known)

    def _results(self, fits, errors, limits):
        """Return parameters, errors and verdicts as `Found` has them, star by star."""
        n_groups, n_stars = self._lists.members.shape
        at_bound = (fits.params <= limits.lower) | (fits.params >= limits.upper)
        params, errs = self._stars.copy(), np.full_like(self._stars, np.nan)
        held = np.zeros((n_stars, n_groups), dtype=bool)
        for place, k in enumerate(self._fitted):
            rows = slice(place, -1, len(self._fitted))
            params[k] = fits.params[rows] + (self._stars[k] if k in (1, 2) else 0.0)
            errs[k] = errors[rows]
            held |= at_bound[rows]
        results = {
            'cstat': fits.deviance,
            'has_covariance': np.isfinite(fits.covariance).all(axis=1)}
        if self._settings.fits_background:
            results['background'] = fits.params[-1] / self._settings.gain
            results['background_err'] = errors[-1] / self._settings.gain
        return {'params': self._in_model_order(params), 'errors': self._in_model_order(errs),
                'at_bound': held.T.ravel(),
                **{name: np.repeat(values, n_stars) for name, values in results.items()}}

    def _in_model_order(self, values):
        """Return parameters (k, n_stars, n_groups) star by star, in units of the data."""
        values = values.transpose(2, 1, 0).reshape(-1, len(self._order)) / self._scale
        return values[:, np.argsort(self._order)]

    def _compare(self, fits, errors, series):
        """Return how the fits compare with the counts, as `Found` has it, star by star."""
        free = series.constraints.free
        lists, n = self._lists, self._lists.members.size
        residual, gof_z = np.empty(len(lists.flat)), np.empty(len(lists.members))
        possible = np.ones(len(lists.members), dtype=bool)
        for part in series.parts:
            likelihood, (_, used) = self.likelihood(part), lists.table(part)
            _, mean = likelihood.mean(fits.params[:, part], np.arange(len(used)))
            if self._profile.lowest < 0 and not self._settings.fits_background:
                # As of single stars: where counts below zero are expected there is no likelihood.
                hopeless = is_impossible(likelihood.counts, mean)
                possible[part] = ~(hopeless & used).any(axis=1)
            pixels = slice(lists.begin[part.start], lists.begin[part.stop])
            residual[pixels] = (likelihood.counts - mean)[used] / self._settings.gain
            gof_z[part] = fit_z(
                likelihood, fits.params[:, part], mean, fits.deviance[part], free,
                errors[free, part]**2, series.limits(part).prior_precision[free])
        own, owner = residual[lists.place], lists.owner
        centre = np.full(n, np.nan)
        centre[owner[lists.is_centre]] = own[lists.is_centre]
        results = {name: np.repeat(values, lists.members.shape[1]) for name, values in
                   (('gof_z', gof_z), ('converged', fits.converged & possible))}
        results |= {'centre_residual': centre, 'abs_residual': np.bincount(owner, np.abs(own), n)}
        if self._error is not None:
            results['chi2'] = np.bincount(owner, (own / self._error[lists.place])**2, n)
        return results


def _errors(fits, free):
    """Return the errors of all parameters, (p, n_groups), 0 where they do not move."""
    i, j = np.tril_indices(len(free))
    errors = np.zeros_like(fits.params)
    with np.errstate(invalid='ignore'):
        errors[free] = np.sqrt(fits.covariance[:, i == j]).T
    return errors


def _solve_linear(images, light, weights, with_level):
    """Return fluxes (m, n_stars) and level (m,) of a least-squares fit of images to the light.

    A star that the data do not show is given the flux of one standard error:
    one below zero would be driven away from the light.
    """
    if with_level:
        ones = np.ones_like(light) if weights is None else weights
        images = np.concatenate([images, ones[:, np.newaxis]], axis=1)
    products = np.matmul(images, images.transpose(0, 2, 1))
    scale = 1.0 / np.sqrt(np.maximum(np.einsum('mii->mi', products), 1e-300))
    # Stars at one place share their light.
    scaled = products * scale[:, np.newaxis] * scale[:, :, np.newaxis] + (
        _RIDGE * np.eye(images.shape[1]))
    rhs = scale * np.matmul(images, light[:, :, np.newaxis])[:, :, 0]
    solution = scale * np.linalg.solve(scaled, rhs[:, :, np.newaxis])[:, :, 0]
    level = solution[:, -1] if with_level else np.zeros(len(light))
    flux = solution[:, :-1] if with_level else solution
    error = np.sqrt(np.maximum(np.abs(light).mean(axis=1), 1e-3))[:, np.newaxis] * (
        scale[:, :flux.shape[1]])
    return np.maximum(flux, error), level
