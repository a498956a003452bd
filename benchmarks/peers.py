# Licensed under a 3-clause BSD style license - see LICENSE
"""The competitors: one function each, a loop over stamps with the tool as its users call it.

Every function takes counts (n, ny, nx) in electrons, starting values (n, 7) and the exposure in
seconds, and returns parameters (n, 7) in the order flux, x, y, a, b, c, background with the
tool's own verdict "converged" (n,). They receive analytic derivatives, scaled parameters and
good starting values wherever the tool can use them: what is compared is the tool at its best,
except for the published recipe, which stands as published.
"""

import warnings
from functools import lru_cache

import numpy as np
from clock import Peer
from reference import gaussian_mean, gaussian_mean_and_jacobian, poisson_deviance
from scipy.optimize import least_squares, minimize

__all__ = ['PEERS']


def _pixel_grid(counts):
    """Column and row of each pixel of a stamp, both (n_pixels,)."""
    y, x = np.mgrid[:counts.shape[1], :counts.shape[2]]
    return x.ravel().astype(float), y.ravel().astype(float)


def _loop(fit_one, counts, start):
    """Apply fit_one(pixels, start) -> (params, success) to every stamp."""
    params, success = np.empty((len(counts), 7)), np.empty(len(counts), bool)
    with np.errstate(all='ignore'):
        for index, pixels in enumerate(counts.reshape(len(counts), -1)):
            params[index], success[index] = fit_one(pixels, start[index])
    return params, success


def _deviance(pixels):
    """Deviance of one stamp as a function of its mean, with what depends on the data prepared."""
    positive = pixels > 0.0
    observed = pixels[positive]
    empty = ~positive if not positive.all() else None

    def deviance(mean):
        ratio = mean[positive] / observed - 1.0 if empty is not None else mean / observed - 1.0
        total = observed @ (ratio - np.log1p(ratio))
        return 2.0 * (total if empty is None else total + mean[empty].sum())

    return deviance


def _scaled_deviance(pixels, start, x, y):
    """Deviance alone, and with its gradient, of (params - start) / sigma; sigma (7,) at start."""
    mean, jacobian = gaussian_mean_and_jacobian(start, x, y)
    stddev = 1.0 / np.sqrt(np.sum(jacobian**2 / mean, axis=1))
    deviance = _deviance(pixels)

    def value(step):
        mean = gaussian_mean(start + stddev * step, x, y)
        # Finite, because not every line search survives an infinity.
        return deviance(mean) if mean.min() > 0.0 else 1e30

    def value_and_gradient(step):
        mean, jacobian = gaussian_mean_and_jacobian(start + stddev * step, x, y)
        if not mean.min() > 0.0:
            return 1e30, np.zeros(7)
        return deviance(mean), 2.0 * stddev * (jacobian @ (1.0 - pixels / mean))

    return value, value_and_gradient, stddev


def bfgs_published_recipe(counts, start, exposure):
    """BFGS with numerical gradient on -ln L of the rates, the PSF normalised over the stamp."""
    x, y = _pixel_grid(counts)

    def shape(params):
        _, x_0, y_0, a, b, c, _ = params
        dx, dy = x - x_0, y - y_0
        return np.exp(-(a * dx * dx + 2.0 * b * dx * dy + c * dy * dy))

    def fit_one(pixels, begin):
        rates = pixels / exposure

        def negative_log_likelihood(params):
            image = shape(params)
            mean = params[0] * image / image.sum() + params[6]
            return np.sum(mean - rates * np.log(mean))

        begin = begin * np.array([1.0 / exposure, 1, 1, 1, 1, 1, 1.0 / exposure])
        result = minimize(negative_log_likelihood, begin, method='BFGS')
        params = result.x.copy()
        determinant = params[3] * params[5] - params[4]**2
        params[0] *= exposure * np.pi / np.sqrt(determinant) / shape(params).sum()
        params[6] *= exposure
        return params, result.success

    return _loop(fit_one, counts, start)


def bfgs_scaled_deviance(counts, start, exposure):
    """BFGS with analytic gradient on the deviance of the counts, parameters in units of sigma."""
    return _minimize_scaled(counts, start, 'BFGS', {'gtol': 1e-3})


def lbfgsb_scaled_deviance(counts, start, exposure):
    """L-BFGS-B with analytic gradient on the deviance, parameters in units of sigma."""
    return _minimize_scaled(counts, start, 'L-BFGS-B', {'gtol': 1e-3, 'ftol': 1e-15})


def _minimize_scaled(counts, start, method, options):
    """Minimise every stamp's scaled deviance with scipy."""
    x, y = _pixel_grid(counts)

    def fit_one(pixels, begin):
        _, function, stddev = _scaled_deviance(pixels, begin, x, y)
        result = minimize(function, np.zeros(7), jac=True, method=method, options=options)
        return begin + stddev * result.x, result.success

    return _loop(fit_one, counts, start)


def least_squares_deviance(counts, start, exposure):
    """scipy.optimize.least_squares on signed roots of the deviance, analytic Jacobian."""
    x, y = _pixel_grid(counts)

    def fit_one(pixels, begin):
        def roots(params):
            mean = gaussian_mean(params, x, y)
            if not mean.min() > 0.0:
                # A NaN would end the fit; a finite wall makes the trust region shrink instead.
                return np.full(pixels.shape, 1e10)
            return np.copysign(np.sqrt(np.maximum(poisson_deviance(pixels, mean), 0.0)),
                               mean - pixels)

        def root_jacobian(params):
            mean, jacobian = gaussian_mean_and_jacobian(params, x, y)
            root = roots(params)
            difference = mean - pixels
            # d(root)/d(mean) = (mean - k) / (mean root), a 0/0 where model and pixel agree.
            near = np.abs(difference) < 1e-6 * mean
            slope = np.where(near, 1.0 / np.sqrt(mean),
                             difference / np.where(near, 1.0, mean * root))
            return (slope * jacobian).T

        result = least_squares(roots, begin, root_jacobian, x_scale='jac')
        return result.x, result.success

    return _loop(fit_one, counts, start)


def iminuit_migrad(counts, start, exposure, *, strategy=1):
    """Migrad with analytic gradient on the deviance of the counts, first steps of one sigma."""
    from iminuit import Minuit

    x, y = _pixel_grid(counts)

    def fit_one(pixels, begin):
        value, value_and_gradient, stddev = _scaled_deviance(pixels, begin, x, y)
        minuit = Minuit(value, np.zeros(7), grad=lambda step: value_and_gradient(step)[1])
        minuit.errordef = Minuit.LEAST_SQUARES
        minuit.errors = 1.0
        minuit.strategy = strategy
        minuit.migrad()
        return begin + stddev * np.array(minuit.values), minuit.valid

    return _loop(fit_one, counts, start)


def iminuit_migrad_fast(counts, start, exposure):
    """Migrad as above with strategy 0, which does without second derivatives."""
    return iminuit_migrad(counts, start, exposure, strategy=0)


def astropy_trf(counts, start, exposure):
    """A loop over TRFLSQFitter on PSF + Const2D, weights 1 / sqrt(counts), as users write it.

    Weights from the data make this Neyman's chi-square, a different minimum: its EDM of the
    Poisson likelihood cannot be small and measures the bias.
    """
    from astropy.modeling.models import Const2D

    psf_class, _ = _astropy_models()
    return _trf(counts, start, lambda begin: psf_class(*begin[:6]) + Const2D(begin[6]))


def astropy_trf_analytic(counts, start, exposure):
    """TRFLSQFitter as above on a hand-written seven-parameter model with its derivatives.

    A compound model loses its parts' derivatives; whoever needs speed writes one class.
    """
    _, model_class = _astropy_models()
    return _trf(counts, start, lambda begin: model_class(*begin))


def _trf(counts, start, build_model):
    """Fit every stamp with one TRFLSQFitter and the model that build_model(start) returns."""
    from astropy.modeling.fitting import TRFLSQFitter

    y, x = np.mgrid[:counts.shape[1], :counts.shape[2]].astype(float)
    fitter = TRFLSQFitter()

    def fit_one(pixels, begin):
        stamp = pixels.reshape(x.shape)
        weights = 1.0 / np.sqrt(np.maximum(stamp, 1.0))
        fitted = fitter(build_model(begin), x, y, stamp, weights=weights, maxiter=200)
        return fitted.parameters, fitter.fit_info['status'] > 0

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return _loop(fit_one, counts, start)


@lru_cache
def _astropy_models():
    """Two astropy model classes: the PSF, and the PSF with background and derivatives."""
    from astropy.modeling import Fittable2DModel, Parameter

    class EllipticalGaussian(Fittable2DModel):
        flux, x_0, y_0 = Parameter(), Parameter(), Parameter()
        a, b, c = Parameter(), Parameter(), Parameter()

        @staticmethod
        def evaluate(x, y, flux, x_0, y_0, a, b, c):
            dx, dy = x - x_0, y - y_0
            normalization = np.sqrt(np.maximum(a * c - b * b, 1e-12)) / np.pi
            exponent = dx * (a * dx + 2.0 * b * dy) + c * dy * dy
            return flux * normalization * np.exp(-np.maximum(exponent, -50.0))

    class GaussianPlusConstant(Fittable2DModel):
        flux, x_0, y_0 = Parameter(), Parameter(), Parameter()
        a, b, c, background = Parameter(), Parameter(), Parameter(), Parameter()

        @staticmethod
        def evaluate(x, y, flux, x_0, y_0, a, b, c, background):
            return EllipticalGaussian.evaluate(x, y, flux, x_0, y_0, a, b, c) + background

        @staticmethod
        def fit_deriv(x, y, *params):
            _, jacobian = gaussian_mean_and_jacobian(params, x.ravel(), y.ravel())
            return list(jacobian.reshape((7,) + x.shape))

    return EllipticalGaussian, GaussianPlusConstant


def picasso_lm_mle(counts, start, exposure):
    """picassosr's Levenberg-Marquardt MLE of the rotated Gaussian, tolerance 1e-10, own seed.

    Compiled by numba, serial. It takes square spots only, so it is timed on taller stamps.
    """
    return _picasso(counts, 1e-10, 100)


def picasso_lm_mle_default(counts, start, exposure):
    """picassosr's fit as above with its default tolerance (1e-2) and 20 iterations."""
    return _picasso(counts, None, None)


def _picasso(counts, tolerance, max_iterations):
    """Fit all spots and turn peak, widths and angle into flux, a, b, c."""
    from picasso.fitting import gaussfit, seeds

    spots = counts.astype(np.float32)
    first = seeds.initial_parameters_gauss(spots, counts.shape[1], rotated=True)
    fits, _, states, _ = gaussfit.fit_spots(gaussfit.ROTATED, spots, first, mle=True,
                                            tolerance=tolerance, max_iterations=max_iterations)
    peak, x_0, y_0, x_stddev, y_stddev, background, angle = fits.T
    cosine, sine = np.cos(angle), np.sin(angle)
    x_precision, y_precision = 0.5 / x_stddev**2, 0.5 / y_stddev**2
    a = cosine**2 * x_precision + sine**2 * y_precision
    b = cosine * sine * (y_precision - x_precision)
    c = sine**2 * x_precision + cosine**2 * y_precision
    flux = peak * np.pi * 2.0 * np.abs(x_stddev * y_stddev)
    return (np.column_stack([flux, x_0, y_0, a, b, c, background]),
            states == gaussfit.FIT_STATE_CONVERGED)


PEERS = (
    Peer('scipy BFGS, numerical gradient, -ln L of rates (published recipe)',
         bfgs_published_recipe, 10, 1000),
    Peer('scipy BFGS, analytic gradient, scaled deviance', bfgs_scaled_deviance, 200),
    Peer('scipy L-BFGS-B, analytic gradient, scaled deviance', lbfgsb_scaled_deviance, 200),
    Peer('scipy least_squares, analytic Jacobian, deviance roots', least_squares_deviance, 100),
    Peer('astropy TRFLSQFitter, PSF + Const2D', astropy_trf, 40, 300),
    Peer('astropy TRFLSQFitter, one class with fit_deriv', astropy_trf_analytic, 60),
    Peer('iminuit Migrad with gradient', iminuit_migrad, 200, 100),
    Peer('iminuit Migrad with gradient, strategy 0', iminuit_migrad_fast, 200, 100),
    Peer('picassosr LM-MLE, tolerance 1e-10, square stamps', picasso_lm_mle, 5000, 4, True),
    Peer('picassosr LM-MLE, default tolerance, square stamps', picasso_lm_mle_default, 5000,
         None, True),
)
