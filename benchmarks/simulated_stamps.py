# Licensed under a 3-clause BSD style license - see LICENSE
"""Seeded stamps with known truth, drawn without any of kpsf's code.

Four sets span what the fitters meet: Tabby's star as Kepler sees it in a long cadence, the same
flux under a PSF that the fitted model cannot reproduce, and two faint regimes where pixels hold
a few tens of electrons and a few.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

__all__ = ['DATA_SETS', 'PARAM_NAMES', 'SimulatedStamps', 'simulate_stamps']

PARAM_NAMES = ('flux', 'x', 'y', 'a', 'b', 'c', 'background')

LONG_CADENCE = 1766.0
DRIFT = 0.15
# The shape of the published fit of Tabby's star: sigma 0.63 by 0.96 pixels, tilted.
SHAPE = (1.2, -0.15, 0.6)

# name: total flux (electrons), background (electrons per pixel), exposure (s), true PSF
DATA_SETS = {
    'tabby': (2.7e5 * LONG_CADENCE, 60.0 * LONG_CADENCE, LONG_CADENCE, 'gaussian'),
    'tabby_mis': (2.7e5 * LONG_CADENCE, 60.0 * LONG_CADENCE, LONG_CADENCE, 'mixture'),
    'mid': (1e4, 20.0, 1.0, 'gaussian'),
    'low': (200.0, 2.0, 1.0, 'gaussian'),
}

# weight, offset in x and y, sigma in x and y (pixels): a core, a coma to the lower right, a halo
# to the upper left and a spike. A Gaussian fitted to it at Tabby's flux leaves a deviance of
# 2.5e5 per degree of freedom, which is what it leaves on real Kepler pixels.
MIXTURE = (
    (0.56, -0.05, 0.03, 0.50, 0.58),
    (0.30, 0.18, -0.14, 0.85, 0.72),
    (0.10, -0.30, 0.45, 1.35, 1.20),
    (0.04, 0.80, 0.60, 2.30, 1.60),
)


@dataclass(frozen=True)
class SimulatedStamps:
    """Counts and the truth behind them.

    ``counts`` has the shape (n, ny, nx), in electrons with the background in; ``truth`` has the
    shape (n, 7) in the order of `PARAM_NAMES`, its shape columns NaN where the true PSF is not
    the elliptical Gaussian; ``exposure`` (s) turns counts into rates.
    """

    name: str
    counts: np.ndarray
    truth: np.ndarray
    exposure: float


def gaussian_pixels(x_0, y_0, shape):
    """Elliptical Gaussian of unit flux sampled at the pixel centres, (n, ny, nx)."""
    a, b, c = SHAPE
    dx = np.arange(shape[1]) - x_0[:, None, None]
    dy = np.arange(shape[0])[:, None] - y_0[:, None, None]
    normalization = np.sqrt(a * c - b * b) / np.pi
    return normalization * np.exp(-(a * dx * dx + 2.0 * b * dx * dy + c * dy * dy))


def mixture_pixels(x_0, y_0, shape):
    """Four-Gaussian mixture of unit flux integrated over the pixels, (n, ny, nx)."""
    x_edges = np.arange(shape[1] + 1) - 0.5
    y_edges = np.arange(shape[0] + 1) - 0.5
    image = np.zeros((len(x_0),) + shape)
    for weight, x_offset, y_offset, x_stddev, y_stddev in MIXTURE:
        in_columns = np.diff(ndtr((x_edges - (x_0 + x_offset)[:, None]) / x_stddev), axis=1)
        in_rows = np.diff(ndtr((y_edges - (y_0 + y_offset)[:, None]) / y_stddev), axis=1)
        image += weight * in_rows[:, :, None] * in_columns[:, None, :]
    return image


def simulate_stamps(name, n_stamps, *, shape=(10, 11), seed=8462852):
    """Draw a series of stamps of one of the four sets.

    Parameters
    ----------
    name : str
        A key of `DATA_SETS`.
    n_stamps : int
        Number of stamps.
    shape : tuple of int, optional
        Rows and columns of a stamp. The star stays near pixel (5, 4.5), so a taller stamp only
        adds rows.
    seed : int, optional
        Seed of the positions and of the Poisson noise.

    Returns
    -------
    SimulatedStamps
        Counts, truth and exposure.
    """
    flux, background, exposure, psf = DATA_SETS[name]
    rng = np.random.default_rng([seed, list(DATA_SETS).index(name)])
    x_0 = 5.0 + rng.uniform(-DRIFT, DRIFT, n_stamps)
    y_0 = 4.5 + rng.uniform(-DRIFT, DRIFT, n_stamps)
    pixels = {'gaussian': gaussian_pixels, 'mixture': mixture_pixels}[psf](x_0, y_0, shape)
    counts = rng.poisson(flux * pixels + background).astype(float)
    truth = np.empty((n_stamps, len(PARAM_NAMES)))
    truth[:, 0], truth[:, 1], truth[:, 2] = flux, x_0, y_0
    truth[:, 3:6] = SHAPE if psf == 'gaussian' else np.nan
    truth[:, 6] = background
    return SimulatedStamps(name, counts, truth, exposure)
