# Licensed under a 3-clause BSD style license - see LICENSE
"""The fitter that astropy and photutils call."""

import warnings
from functools import wraps

import numpy as np

# From the module itself: astropy.modeling has no names yet when it loads this one.
from astropy.modeling.core import Model
from astropy.modeling.fitting import (
    Covariance,
    Fitter,
    StandardDeviations,
    _validate_model,
    fitter_unit_support,
)
from astropy.modeling.optimizers import DEFAULT_ACC, DEFAULT_EPS, DEFAULT_MAXITER
from astropy.units import Quantity
from astropy.utils.exceptions import AstropyUserWarning
from scipy.optimize import OptimizeResult

from .._validation import (
    as_float_array,
    below_read_noise,
    no_model,
    require_choice,
    require_finite,
    require_not_negative,
    require_number,
    require_positive_integer,
)
from .constraints import build_constraints, check_priors
from .engine import estimate_covariance, goodness, minimise
from .groups import SourceGroup
from .mean import ModelMean, check_model
from .pixels import look_up_background, select_pixels

__all__ = ['PoissonLikelihoodFitter']

COVARIANCES = ('fisher', 'observed', 'sandwich')
# What is kept of each fit: callers such as photutils drop the rest.
RECORDED = ('success', 'cstat', 'gof_z', 'edm', 'background', 'background_err')
# What adding a background back may leave of an empty pixel, relative to the brightest.
_ROUNDING = 1e-12
# Background of all pixels together that counts as none: a thousandth of the smallest error that
# a background can have. At exactly 0 the information of an empty pixel would be infinite.
_NO_BACKGROUND = 1e-3
# Goodness of fit from which on the message asks for the background.
_POOR = 5.0
# The one row of a batch of one.
_ROW = np.zeros(1, dtype=int)


def _model_first(call):
    """Decorate a fitter's call to refuse what is no model before anybody asks it for units."""
    @wraps(call)
    def checked(self, model, *args, **kwargs):
        if not isinstance(model, Model):
            raise TypeError('model must be an instance of an astropy model, but '
                            f'{no_model(model, "such as models.Gaussian2D()")}')
        return call(self, model, *args, **kwargs)
    return checked


class PoissonLikelihoodFitter(Fitter):
    """Fit a model to counts by maximum Poisson likelihood.

    For data that are photons or electrons, at any level: the estimate has no
    bias from weights, empty pixels count, and the errors are those of photon
    noise. It is called like every fitter of astropy and can be given to
    photutils. The likelihood needs the background in: pass the one that was
    subtracted as ``background``, or leave it in the data and pass ``'fit'``.

    Parameters
    ----------
    background : float, array_like, callable, 'fit' or 'error', optional
        The background that was subtracted from the data, in their unit, >= 0.
        It is put back for the likelihood. The default, 0, says that there is
        none besides the model: with a PSF alone on data that contain their
        background, fluxes come out too high, of which only ``gof_z`` and
        ``message`` tell. An array has the shape of the
        data, or it is a map that is looked up at ``[y, x]``, the coordinates
        then being pixel indices. A callable is called with the coordinates,
        ``background(x, y)`` or ``background(x)``. With ``'fit'`` the data
        contain the background: a constant >= 0 is fitted beside the model,
        and the errors of the model account for it. With ``'error'`` it
        follows from the weights, which must then be one over the standard
        deviation of the background alone, read noise included, and not of
        the star: photutils' ``error`` usually is the total one.
    gain : float, optional
        Electrons per unit of the data. For rates this is the exposure time.
    read_noise : float, optional
        Standard deviation of the read noise in electrons. Its square is
        added to counts and mean (a shifted Poisson distribution).
    priors : dict, `~kpsf.CentroidPrior` or list of these, optional
        Gaussian priors ``{name: (mean, stddev)}`` of parameters, or of
        ``'background'`` when it is fitted; in the units of the parameters
        during the fit, which are those of the data. A pair may be a
        `~kpsf.priors.GaussianPrior`, and one that is the ``prior`` of a
        parameter of the model is used as well, unless it is given one here.
        In a group of photutils, a name of the PSF stands for that parameter
        of every star. Errors are then those of the posterior. Priors of
        fixed parameters have no effect.
    covariance : {'fisher', 'observed', 'sandwich'}, optional
        Inverse of the expected information, of the observed information, or
        the photon noise propagated through the fit, which also holds when
        the model is not quite right.
    calc_uncertainties : bool, optional
        Whether to set ``cov_matrix`` and ``stds`` on the fitted model.

    Attributes
    ----------
    fit_info : `scipy.optimize.OptimizeResult`
        What the last fit found, a new object each time, and None before the
        first: ``param_cov`` (free
        parameters in the order of the model; None if they are degenerate),
        ``fvec`` (weights times model minus data for every pixel, 0 where
        masked; a fitted background is part of the model), ``status`` and
        ``ierr`` (1 if converged, 5 if not), ``success``, ``message``,
        ``nfev``, ``cstat`` (C-statistic), ``gof_z`` (its distance from the
        expectation in standard deviations), ``edm`` (expected distance to
        the minimum, in units of the log-likelihood), ``background`` and
        ``background_err`` (fitted, in the unit of the data; NaN otherwise).
    history : list of dict
        One record for each fit since the fitter was made or the list was
        cleared, because photutils keeps little of ``fit_info``: ``success``,
        ``cstat``, ``gof_z``, ``edm``, ``background``, ``background_err`` and
        ``n_iter``. ``Table(fitter.history)`` is a table of them; in
        photutils, the fits follow the order of ``group_id``.

    Raises
    ------
    TypeError, ValueError
        If an option is none of the above.

    Notes
    -----
    The deviance is minimised by Fisher scoring (exact for a fitted
    background) with Levenberg's damping and an active set for bounds, until
    the expected distance to the minimum is below 1e-6: each parameter is
    then within 1.5e-3 of its standard error. Where that fails, a likelihood
    raised by a constant, which tends to least squares, finds the way, and
    Newton's method with differences of the gradient ends it.
    The model is compared with the counts of a pixel: where it changes within
    a pixel, use one that integrates over pixels. [1]_ [2]_

    References
    ----------
    .. [1] Cash, W. 1979, ApJ, 228, 939.
    .. [2] Snyder, D. L., Hammoud, A. M. & White, R. L. 1993, JOSA A, 10,
       1014 (read noise).

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.modeling.models import Gaussian1D
    >>> from kpsf import PoissonLikelihoodFitter
    >>> x = np.arange(50.0)
    >>> line = Gaussian1D(amplitude=4.0, mean=24.0, stddev=3.0)
    >>> counts = np.random.default_rng(1).poisson(line(x) + 0.5)
    >>> fitter = PoissonLikelihoodFitter(background='fit', calc_uncertainties=True)
    >>> fitted = fitter(line, x, counts)
    >>> print(f'{fitted.mean.value:.2f} +- {fitted.stds["mean"]:.2f}')
    24.74 +- 0.57
    """

    supported_constraints = ['fixed', 'tied', 'bounds']

    def __init__(self, *, background=0.0, gain=1.0, read_noise=0.0, priors=None,
                 covariance='fisher', calc_uncertainties=False):
        self.background = _check_background(background)
        self.gain = require_number(gain, 'gain', 'pass it in electrons per unit of the data',
                                   positive=True)
        self.read_noise = require_number(read_noise, 'read_noise', 'pass it in electrons')
        self.priors = check_priors(priors)
        require_choice(covariance, COVARIANCES, 'covariance')
        self.covariance = covariance
        self.calc_uncertainties = bool(calc_uncertainties)
        self.fit_info = None
        self.history = []
        self._kinds_seen = set()

    def __repr__(self):
        """Show the options; an array by its shape."""
        background = self.background
        if isinstance(background, np.ndarray):
            background = f'<array of shape {background.shape}>'
        else:
            background = repr(background)
        return (f'{type(self).__name__}(background={background}, gain={self.gain!r}, '
                f'read_noise={self.read_noise!r}, priors={self.priors!r}, '
                f'covariance={self.covariance!r}, '
                f'calc_uncertainties={self.calc_uncertainties!r})')

    @_model_first
    @fitter_unit_support
    def __call__(self, model, x, y, z=None, weights=None, maxiter=DEFAULT_MAXITER,
                 acc=DEFAULT_ACC, epsilon=DEFAULT_EPS, estimate_jacobian=False,
                 filter_non_finite=False, *, verblevel=0, inplace=False):
        """Fit a model to counts.

        Parameters
        ----------
        model : `~astropy.modeling.FittableModel`
            Model with the starting values; one model, not a set. Values
            outside their bounds are moved onto them.
        x, y : array_like, of the shape of the data
            Coordinates, in the unit that the position of the model has
            (pixels for a PSF); for a 1-D model coordinates and data.
        z : array_like, of any shape, optional
            Data of a 2-D model.
        weights : array_like, of the shape of the data, optional
            Pixels with a weight <= 0 or NaN are left out. The size of the
            others does not matter to the fit: they only multiply ``fvec``,
            so that ``1 / error`` gives the residuals that photutils
            expects. An infinite one, as of an error of 0, is an error: the
            likelihood needs no weights, and empty pixels count in it.
        maxiter : int, optional
            Largest number of evaluations of the likelihood.
        acc, epsilon : float, optional
            Accepted for the sake of astropy's other fitters and not used:
            the fit stops at a fixed fraction of the standard errors, and the
            steps of numerical derivatives follow from these.
        estimate_jacobian : bool, optional
            Whether to ignore the analytic derivatives of the model.
        filter_non_finite : bool, optional
            Whether to leave out data that are not finite or have an
            infinite weight, instead of raising. Data without weight may
            always be NaN.
        verblevel : int, optional
            Accepted for the sake of astropy's other fitters and not used.
        inplace : bool, optional
            Whether to change the given model instead of a copy.

        Returns
        -------
        `~astropy.modeling.FittableModel`
            The fitted model.

        Raises
        ------
        TypeError
            If the model takes one coordinate and two are passed, or the other
            way round.
        ValueError
            If the data are negative with the background in, fewer than the
            parameters or of different shapes; if the background does not fit
            the data; or if the model cannot be fitted.
        astropy.modeling.fitting.NonFiniteValueError
            If data that count are NaN or infinite, or a weight is infinite.

        Notes
        -----
        Data may be quantities; ``equivalencies=`` is then accepted as well.
        """
        model = _validated(model, self.supported_constraints, copy=not inplace)
        check_model(model, z is not None)
        self._warn_once_of_flux(model)
        if weights is None and isinstance(self.background, str) and self.background == 'error':
            raise ValueError("background='error' needs weights, one over the standard deviation "
                             'of the background, but there are none: pass error= in photutils.')
        pixels = select_pixels(x, y, z, weights, filter_non_finite)
        require_positive_integer(maxiter, 'maxiter')
        before = model.parameters.copy()
        # Past astropy's own __setattr__, which takes a tenth of a fit to look for units.
        object.__setattr__(model, 'sync_constraints', False)
        try:
            self.fit_info = self._fit(model, pixels, maxiter, estimate_jacobian)
            self.history.append({name: self.fit_info[name] for name in RECORDED}
                                | {'n_iter': self.fit_info.nfev})
        except Exception:
            model.parameters = before
            raise
        finally:
            object.__setattr__(model, 'sync_constraints', True)
        return model

    def _warn_once_of_flux(self, model):
        """Warn if the flux of the first model of a class is not the total flux."""
        if type(model) not in self._kinds_seen:
            # Not at the top: astropy loads the fitter before it has the base classes of models.
            from ..normalization import warn_unless_total_flux
            self._kinds_seen.add(type(model))
            warn_unless_total_flux(model)

    def _fit(self, model, pixels, maxiter, estimate_jacobian):
        """Fit in place and return the new fit_info."""
        once, copies = pixels, slice(None)
        group = None if model.has_tied else SourceGroup.of(model)
        if group is not None:
            once, copies = pixels.distinct()
        counts, offset = self._electrons(once)
        mean = ModelMean(model, once.inputs, counts, self.gain, estimate_jacobian, group)
        constraints = build_constraints(
            model, mean, group, self.priors, self.gain if self._fits_background else 0.0,
            _NO_BACKGROUND / counts.size)
        _check_number_of_pixels(counts.size, constraints)
        start = np.append(mean.start, self._starting_background(mean, counts - offset))
        likelihood, solution = minimise(mean, counts, offset, start, constraints, maxiter)
        psf, whole = likelihood.mean(solution.params, _ROW)
        info = self._describe(likelihood, solution, whole[0], constraints)
        info['fvec'] = self._residuals(psf[0] + solution.params[-1], pixels, copies)
        mean.store(solution.params[:-1, 0])
        if not info['success']:
            warnings.warn(f'The fit may be unsuccessful; check: {info["message"]}',
                          AstropyUserWarning)
        if self.calc_uncertainties:
            _store_uncertainties(model, info['param_cov'], mean.names)
        return info

    @property
    def _fits_background(self):
        """Whether the background is a parameter of the likelihood."""
        return isinstance(self.background, str) and self.background == 'fit'

    def _electrons(self, pixels):
        """Return counts and what the mean holds besides the model, both (n,), shifted."""
        background = self._known_background(pixels)
        counts = self.gain * (pixels.values + background)
        rounding = _ROUNDING * self.gain * np.max(np.abs(pixels.values) + background)
        counts[np.abs(counts) <= rounding] = 0.0
        _check_counts(counts, self.read_noise, has_background=np.any(background))
        shift = self.read_noise**2
        offset = np.broadcast_to(self.gain * background + shift, counts.shape)
        return counts + shift, offset

    def _known_background(self, pixels):
        """Return the background that was subtracted, () or (n,), in the unit of the data."""
        if self._fits_background:
            return 0.0
        if not isinstance(self.background, str):
            return look_up_background(self.background, pixels)
        # Electrons whose variance is their mean and that of the read noise.
        variance = (self.gain / pixels.weights)**2
        return np.maximum(variance - self.read_noise**2, 0.0) / self.gain

    def _starting_background(self, mean, counts):
        """Return a first background per pixel in electrons; 0 if it is not fitted."""
        if not self._fits_background:
            return 0.0
        model = mean(mean.start[:, np.newaxis])[0]
        outside = (counts - model)[model <= np.median(model)]
        return max(np.median(outside), 0.01 * counts.mean(), 1.0 / counts.size)

    def _describe(self, likelihood, solution, whole, constraints):
        """Return fit_info of a solution, without the residuals."""
        params = solution.params
        n_params = len(params) - 1
        covariance = estimate_covariance(likelihood, solution, constraints, self.covariance)
        known = covariance is not None
        variance = covariance[-1, -1] if known and self._fits_background else np.nan
        cstat, gof_z = goodness(likelihood, params, whole, constraints, covariance)
        status, message = _judge(solution, known, cstat)
        if gof_z > _POOR and isinstance(self.background, float) and self.background == 0.0:
            message += (f' But gof_z is {gof_z:.0f}, and background=0 says that the data contain '
                        "none besides the model: if they do, pass 'fit'.")
        background = float(params[-1, 0]) if self._fits_background else np.nan
        background *= background > constraints.lower[-1, 0]
        return OptimizeResult(
            x=params[:-1, 0].copy(),
            param_cov=covariance[:n_params, :n_params] if known else None,
            status=status,
            ierr=status,
            success=status == 1,
            message=message,
            nfev=int(solution.n_iter[0]),
            cstat=cstat,
            gof_z=gof_z,
            edm=float(solution.edm[0]),
            background=background / self.gain,
            background_err=float(np.sqrt(variance)) / self.gain,
        )

    def _residuals(self, mean, pixels, copies):
        """Return weights * (model - data) of all pixels, (n_all,), for the mean of each once."""
        residuals = np.zeros(pixels.used.size)
        residuals[pixels.used] = pixels.weights * (mean[copies] / self.gain - pixels.values)
        return residuals


def _validated(model, constraints, copy):
    """Return the model, or a copy of it, that astropy has checked."""
    if not getattr(model, 'linear', False):
        return _validate_model(model, constraints, copy=copy)
    with warnings.catch_warnings():
        # The linear methods that astropy advises are least squares, which is another question.
        warnings.filterwarnings('ignore', 'Model is linear in parameters', AstropyUserWarning)
        return _validate_model(model, constraints, copy=copy)


def _store_uncertainties(model, covariance, names):
    """Give the model its covariance; NaN, and stds of None, where there is none."""
    if covariance is None:
        covariance = np.full((len(names), len(names)), np.nan)
    model.cov_matrix = Covariance(covariance, names)
    model.stds = StandardDeviations(covariance, names)


def _judge(solution, has_covariance, cstat):
    """Return status and message of a solution in the manner of MINPACK."""
    if not np.isfinite(cstat):
        return 5, ('not converged: the model must be positive where there are counts, but it is '
                   'zero or negative at some of them; start closer.')
    if not solution.converged[0]:
        return 5, (f'not converged after {solution.n_iter[0]} evaluations: the expected distance '
                   f'to the minimum is {solution.edm[0]:.3g}, not below 1e-6; start closer, fix '
                   'parameters that the data do not constrain, or raise maxiter.')
    if not has_covariance:
        return 1, 'converged, but the parameters are degenerate: there is no covariance.'
    return 1, 'converged: the expected distance to the minimum is below 1e-6.'


def _check_counts(counts, read_noise, has_background):
    """Raise if counts are more negative than read noise makes them."""
    n_negative = np.count_nonzero(below_read_noise(counts, read_noise**2))
    if not n_negative:
        return
    remedy = 'pass the background that was subtracted as background='
    if has_background:
        remedy = ('check that background= is what was subtracted and pass the read noise as '
                  'read_noise=')
    required = f'>= 0 but for read noise of {read_noise:.6g}' if read_noise else '>= 0'
    raise ValueError(f'Poisson counts must be {required}, but {n_negative} of {counts.size} '
                     f'pixels are negative (minimum {counts.min():.6g}): {remedy}.')


def _check_number_of_pixels(n_pixels, constraints):
    """Raise if data and priors are fewer than the parameters."""
    n_free = len(constraints.free)
    n_priors = np.count_nonzero(constraints.prior_precision)
    if n_pixels + n_priors < n_free:
        raise ValueError(f'A fit of {n_free} parameters needs as many pixels or priors, but there '
                         f'are {n_pixels} pixels and {n_priors} priors: fix parameters.')


def _check_background(background):
    """Return the background as an array, a function or ``'fit'``."""
    if callable(background):
        return background
    if isinstance(background, str):
        if background not in ('fit', 'error'):
            raise ValueError("background must be a number, an array, a function, 'fit' or "
                             f"'error', but it is {background!r}: pass 'fit' to fit a constant.")
        return background
    if isinstance(background, Quantity):
        raise TypeError(f'background must be a plain number, but it has the unit '
                        f'{background.unit}: pass its value in the unit of the data.')
    background = as_float_array(background, 'background')
    require_not_negative(background, 'background', 'pass the level that was subtracted')
    if background.ndim:
        return background.copy()
    require_finite(background, 'background', "pass a number, an array, a function or 'fit'")
    return float(background)
