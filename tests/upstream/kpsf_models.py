# Licensed under a 3-clause BSD style license - see LICENSE
r"""A pytest plugin: astropy's own tests of two-dimensional models run on those of kpsf.

With this folder on PYTHONPATH::

    pytest -p kpsf_models --pyargs astropy.modeling.tests.test_models \
        -k "Elliptical or Positional"

The tests make a model from positional parameters. Models that are made from
an image have a subclass here that knows its image and takes the parameters.
"""

import tempfile
from pathlib import Path

import numpy as np
from astropy.modeling.tests import example_models
from scipy.stats import multivariate_normal

from kpsf import (
    EllipticalGaussianPRF,
    EllipticalGaussianPSF,
    KeplerPRF,
    TabulatedPRF,
    TessPRF,
)
from kpsf.prf import read_kepler_prf, read_tess_prf
from kpsf.simulate import simulate_kepler_prf, simulate_tess_prf

# The tests need bounding boxes that are the same along x and y: the position is on the diagonal,
# and the Gaussian models, whose box follows their width, are as wide along x as along y.
POSITION = np.array([0.125, 0.125])
DIAGONAL = np.array([[1.0, 0.3], [0.3, 1.0]])
TILTED = np.array([[0.8, 0.2], [0.2, 0.5]])
PLACES = np.array([[0.0, 0.0], [1.0, 0.0], [0.3, -1.2], [-1.0, 2.0], [-2.4, -2.5], [0.125, 0.125]])


def precision(covariance):
    """Return the coefficients of the exponent, in the order of the parameters."""
    return np.linalg.inv(2.0 * covariance)[[0, 0, 1], [0, 1, 1]]


def density(places, covariance):
    """Return a Gaussian at places relative to its peak, as scipy has it."""
    return multivariate_normal([0.0, 0.0], covariance).pdf(places)


def share(places, covariance):
    """Return a Gaussian's share of the pixels around places, as scipy has it."""
    below = multivariate_normal([0.0, 0.0], covariance).cdf
    return sum(x * y * below(places + [0.5 * x, 0.5 * y]) for x in (1, -1) for y in (1, -1))


def table():
    """Return shares 1/20 pixel apart over 11 x 11 pixels, the middle one at the star."""
    y, x = (np.mgrid[:221, :221] - 110) / 20
    return share(np.stack([x, y], axis=-1), TILTED)


def calibrations():
    """Return what the readers make of simulated files of both missions."""
    gaussian = EllipticalGaussianPRF(1.0, 0.0, 0.0, *precision(TILTED))
    with tempfile.TemporaryDirectory() as folder:
        kepler = simulate_kepler_prf(Path(folder) / 'kplr07.4_2011265_prf.fits', gaussian,
                                     oversampling=20)
        tess = simulate_tess_prf(folder, gaussian)
        return read_kepler_prf(kepler), read_tess_prf(tess)


KEPLER, TESS = calibrations()
TABLE = table()


class PositionalTabulatedPRF(TabulatedPRF):
    """A table with positional parameters."""

    def __init__(self, flux=1.0, x_0=0.0, y_0=0.0, **kwargs):
        super().__init__(TABLE, 0.05, flux=flux, x_0=x_0, y_0=y_0, **kwargs)


class PositionalKeplerPRF(KeplerPRF):
    """A channel's PRF with positional parameters."""

    def __init__(self, flux=1.0, x_0=0.0, y_0=0.0, **kwargs):
        super().__init__(KEPLER, 300.0, 700.0, flux=flux, x_0=x_0, y_0=y_0, **kwargs)


class PositionalTessPRF(TessPRF):
    """A CCD's PRF with positional parameters."""

    def __init__(self, flux=1.0, x_0=0.0, y_0=0.0, **kwargs):
        super().__init__(TESS, 300.0, 700.0, flux=flux, x_0=x_0, y_0=y_0, **kwargs)


def example(truth, covariance, shape=(), other_shape=()):
    """Return what astropy wants to know of a model; ``truth`` is an independent function."""
    return {'parameters': [1.0, *POSITION, *shape],
            'x_values': PLACES[:, 0], 'y_values': PLACES[:, 1],
            'z_values': truth(PLACES - POSITION, covariance),
            'x_lim': [-3, 3], 'y_lim': [-3, 3], 'integral': 1.0,
            'deriv_initial': [5.0, 0.4, -0.5, *other_shape], 'deriv_atol': 1e-4,
            'bbox_peak': True}


MODELS = {
    EllipticalGaussianPSF: example(density, DIAGONAL, precision(DIAGONAL), [0.4, -0.1, 0.5]),
    EllipticalGaussianPRF: example(share, DIAGONAL, precision(DIAGONAL), [0.4, -0.1, 0.5]),
    PositionalTabulatedPRF: example(share, TILTED),
    PositionalKeplerPRF: example(share, TILTED),
    PositionalTessPRF: example(share, TILTED),
}

example_models.models_2D.update(MODELS)
