# Licensed under a 3-clause BSD style license - see LICENSE
"""`fit_stamps`: the Poisson engine for thousands of stamps."""

import numpy as np

from .._kernels.poisson import is_impossible
from .._kernels.shared import Fits, solve_series
from .._validation import require_choice, require_positive_integer
from ..flags import FitFlag
from ..models import position_names, scale_name
from .approach import approach
from .arguments import pose_problem
from .results import StampFits
from .start import starting_params

__all__ = ['fit_stamps']


def fit_stamps(counts, model, *, background='fit', known_background=0.0, read_variance=0.0,
               mask=None, init=None, fixed=(), shared=(), bounds=None, priors=None,
               origin=None, covariance='fisher', max_iter=100, n_threads=None,
               progress_bar=False):
    """Fit a PSF to many stamps at once by Poisson maximum likelihood.

    The stamps are independent, except for parameters named in ``shared``.
    Every fit either converged (its expected distance to the minimum is
    below 1e-6, each parameter within 1.5e-3 of its error) or has a flag.

    Parameters
    ----------
    counts : array_like, shape (n, ny, nx)
        Electrons (not rates), with the background in. Pixels that are not
        finite are left out.
    model : astropy.modeling.Model
        The PSF: two inputs, one output. Its ``fixed`` and ``bounds`` are
        respected; its values are those of fixed parameters, and starting
        values of those that cannot be measured.
        `~kpsf.EllipticalGaussianPSF` has a kernel of its own, and so have
        `~kpsf.TabulatedPRF`, `~kpsf.KeplerPRF` and `~kpsf.TessPRF` unless
        they are scaled, rotated or filled outside, and photutils' Gaussians
        (integrated ones unless they are turned), `~photutils.psf.ImagePSF`
        and `~photutils.psf.GriddedPSFModel`, which fade over a quarter of a
        pixel where photutils cuts them off at the edge of their images;
        others of fixed shape are tabulated where there are many stamps and
        that is right to 1e-7 of the peak, and the rest is evaluated by
        broadcasting, with ``fit_deriv`` where it serves.
    background : 'fit', float or array_like, shape (ny, nx) or (n, ny, nx), optional
        ``'fit'``: one constant >= 0 per stamp, in electrons per pixel. Else
        the known background that ``counts`` contains.
    known_background : float or array_like, shape (ny, nx) or (n, ny, nx), optional
        A known background in electrons besides a fitted constant, which may
        then be negative as long as their sum is not.
    read_variance : float or array_like, shape (ny, nx) or (n, ny, nx), optional
        Variance of the read noise in electrons squared, which enters as a
        shifted Poisson distribution [1]_.
    mask : array_like of bool, shape (ny, nx) or (n, ny, nx), optional
        True for pixels to leave out, besides those that a masked array of
        counts leaves out.
    init : dict or `~astropy.table.Table`, optional
        Starting values by parameter name, numbers or one per stamp, or the
        ``table`` of earlier fits. Parameters that are not named are
        measured.
    fixed : sequence of str, optional
        Parameters that keep ``init``'s value, else the model's: a position
        that is fixed without being given is the model's, often (0, 0).
    shared : sequence of str, optional
        Parameters (``'background'`` is one) with one value for all stamps,
        fitted jointly with the rest.
    bounds : dict, optional
        Name to (lower, upper); numbers, arrays of shape (n,), or None for
        no bound. Overrides the model's.
    priors : dict, optional
        Name to (mean, stddev) of a Gaussian prior; numbers or one per
        stamp. Errors are posterior errors then.
    origin : array_like, shape (2,) or (n, 2), optional
        Place (x, y) on the detector of each stamp's first pixel, for models
        that change over it. Positions are counted from that pixel with and
        without.
    covariance : {'fisher', 'observed', 'sandwich'}, optional
        Inverse expected information; inverse observed information; or the
        sandwich [2]_ of the observed information and the scores' variance,
        with the counts as their own variance. It is the scatter that photon
        noise causes even under a wrong PSF.
    max_iter : int, optional
        Largest number of evaluations of a fit, at least 2; with shared parameters, of
        each fit for each of their steps.
    n_threads : int, optional
        Threads; one by default. Two gain a factor of 1.1 to 1.7 with the
        Gaussian's kernel, most for large stamps, where NumPy's own threads
        are switched off (``OPENBLAS_NUM_THREADS=1``); other models lose.
        For many files, processes are better.
    progress_bar : bool, optional
        Whether to show one of the fits on a terminal; shared parameters are
        found before.

    Returns
    -------
    StampFits
        Parameters, errors, goodness of fit and flags, one row per stamp;
        ``table`` has all of them.

    Raises
    ------
    TypeError
        If counts are not plain real numbers, the model is not a model, or a
        bound or prior is no pair.
    ValueError
        If shapes do not match, counts are negative beyond the read noise, a
        name is unknown, a bound is empty, a prior is not finite, or a stamp
        has fewer pixels than free parameters.

    See Also
    --------
    PoissonLikelihoodFitter : The same solver for one fit of any dimension.

    References
    ----------
    .. [1] Snyder, D. L. et al. 1993, J. Opt. Soc. Am. A, 10, 1014.
    .. [2] White, H. 1982, Econometrica, 50, 1.

    Examples
    --------
    >>> import numpy as np
    >>> from kpsf import EllipticalGaussianPSF, fit_stamps
    >>> y, x = np.mgrid[:11, :11]
    >>> star = EllipticalGaussianPSF.from_stddev(1e4, 5.2, 4.9, 1.0, 1.2, 0.3)
    >>> counts = np.random.default_rng(1).poisson(star(x, y) + 20, (500, 11, 11))
    >>> fits = fit_stamps(counts, EllipticalGaussianPSF())
    >>> print(f'{fits.params[:, 0].mean():.0f} +- {fits.errors[0, 0]:.0f}')
    9997 +- 106
    """
    require_choice(covariance, ('fisher', 'observed', 'sandwich'), 'covariance')
    max_iter = require_positive_integer(max_iter, 'max_iter')
    n_threads = 1 if n_threads is None else require_positive_integer(n_threads, 'n_threads')
    problem = pose_problem(counts, model, background=background,
                           known_background=known_background, read_variance=read_variance,
                           mask=mask, init=init, fixed=fixed, shared=shared, bounds=bounds,
                           priors=priors, origin=origin)
    names = (*model.param_names, *(['background'] if isinstance(background, str) else []))

    series = problem.series(n_threads, progress_bar)
    if len(problem.rows):
        start = starting_params(problem, series)
        approach(problem, start)
        fits = solve_series(series, start, max_iter, covariance)
        fits.converged &= _are_possible(problem, fits, series)
    else:
        fits = Fits.empty(np.empty((problem.n_params, 0)), len(problem.moving))
    flags = _flags(problem, fits)
    return StampFits(param_names=names, _problem=problem,
                     **_on_all_rows(problem, fits, len(names), flags))


def _are_possible(problem, fits, series):
    """Say which fits (m,) expect something wherever there are counts, and nothing negative.

    A PRF with wings below zero may not, beside a known background: the kernels go on
    below zero to find back, and what they find there is no maximum of a likelihood.
    """
    possible = np.ones(len(problem.rows), dtype=bool)
    if problem.kernel.lowest >= 0 or problem.n_params - 1 in problem.moving:
        return possible

    def look(part):
        likelihood = series.objective(part)
        _, mean = likelihood.mean(fits.params[:, part], np.arange(part.stop - part.start))
        hopeless = is_impossible(likelihood.counts, mean)
        if likelihood.weights is not None:
            hopeless &= likelihood.weights > 0
        possible[part] = ~hopeless.any(axis=1)

    series.run(look, series.parts)
    return possible


def _flags(problem, fits):
    """Return the bit flags of the fitted stamps, (m,)."""
    params = fits.params
    positive = np.isfinite(fits.covariance).all(axis=1)
    flags = np.where(fits.converged, 0, int(FitFlag.NOT_CONVERGED))
    flags |= np.where(positive, 0, int(FitFlag.NO_COVARIANCE))
    # A background at its limit is what many faint stamps have, and no trouble.
    moving = problem.moving[problem.moving < problem.n_params - 1]
    limits = problem.constraints.of(problem.rows)
    at_bound = ((params[moving] <= limits.lower[moving])
                | (params[moving] >= limits.upper[moving]))
    flags |= np.where(at_bound.any(axis=0), int(FitFlag.AT_BOUND), 0)
    names = problem.model.param_names
    for name, size in zip(position_names(problem.model), problem.shape[::-1], strict=True):
        if name is not None:
            position = params[names.index(name)]
            inside = (position >= -0.5) & (position <= size - 0.5)
            flags |= np.where(inside, 0, int(FitFlag.CENTROID_OUTSIDE))
    name = scale_name(problem.model)
    if name is not None:
        positive_flux = params[names.index(name)] > 0
        flags |= np.where(positive_flux, 0, int(FitFlag.FLUX_NOT_POSITIVE))
    return flags


def _on_all_rows(problem, fits, n_params, flags):
    """Return the results of all stamps by name; NaN and a flag where nothing was fitted."""
    n, rows = len(problem.counts), problem.rows

    def spread(values, missing):
        if len(rows) == n:
            return values
        everywhere = np.full((n, *values.shape[1:]), missing, dtype=values.dtype)
        everywhere[rows] = values
        return everywhere

    return {'params': spread(np.ascontiguousarray(fits.params[:n_params].T), np.nan),
            'triangles': spread(fits.covariance, np.nan),
            'deviance': spread(fits.deviance, np.nan), 'edm': spread(fits.edm, np.nan),
            'n_iter': spread(fits.n_iter, 0), 'converged': spread(fits.converged, False),
            'flags': spread(flags, int(FitFlag.TOO_FEW_PIXELS))}
