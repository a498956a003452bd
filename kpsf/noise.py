# Licensed under a 3-clause BSD style license - see LICENSE
"""Noise of archive pixels: from calibrated rates to electrons that are Poisson."""

import warnings
from dataclasses import dataclass

import numpy as np
from astropy.utils.exceptions import AstropyUserWarning

__all__ = ['NoiseModel']

# More pixels than this tell nothing new about two numbers.
MAX_PIXELS = 200_000
CLIP_SIGMA = 5.0
MIN_CLIP = 1e-3
N_ITERATIONS = 10


@dataclass(frozen=True)
class NoiseModel:
    r"""Relation between calibrated pixel rates and the electrons behind them.

    Calibrated rates are not electrons over exposure time: the pipelines
    divide by a flat field and requantise the data, so that the variance per
    rate is a factor ``variance_slope`` above that of counted electrons, and
    read noise adds a constant. With the *effective* exposure
    ``exposure / variance_slope`` the rates become electrons whose variance
    is their mean plus ``read_variance``, which is what the shifted Poisson
    likelihood [1]_ wants.

    Parameters
    ----------
    exposure : float
        Live time per cadence in seconds, dead time and rejected frames
        excluded.
    variance_slope : float, optional
        Slope of the variance with the rate, in units of 1 / exposure. 1 for
        uncalibrated electrons.
    read_variance_rate : float, optional
        Variance at zero rate in (e-/s)**2: read noise and quantisation.

    Raises
    ------
    ValueError
        If the exposure or the slope is not finite and > 0, or the read
        variance not finite and >= 0.

    Notes
    -----
    With the rate :math:`r` (background included), the exposure :math:`T`,
    the slope :math:`\alpha` and the read variance :math:`v_0`:

    .. math::

        \mathrm{var}(r) = \alpha\,r / T + v_0, \qquad
        T_\mathrm{eff} = T / \alpha, \qquad
        n = r\,T_\mathrm{eff}, \qquad
        \mathrm{var}(n) = n + v_0\,T_\mathrm{eff}^2

    References
    ----------
    .. [1] Snyder, D. L., Hammoud, A. M. & White, R. L. 1993, JOSA A, 10, 1014.

    Examples
    --------
    >>> from kpsf import NoiseModel
    >>> noise = NoiseModel(exposure=1625.35, variance_slope=1.25, read_variance_rate=2.0)
    >>> print(f'{noise.effective_exposure:.2f} s, {noise.read_variance**0.5:.0f} e-')
    1300.28 s, 1839 e-
    """

    exposure: float
    variance_slope: float = 1.0
    read_variance_rate: float = 0.0

    def __post_init__(self):
        for name in ('exposure', 'variance_slope', 'read_variance_rate'):
            value = getattr(self, name)
            at_bound = name == 'read_variance_rate' and value == 0
            if not np.isscalar(value) or not np.isfinite(value) or (value <= 0 and not at_bound):
                bound = '>= 0' if name == 'read_variance_rate' else '> 0'
                msg = (f'NoiseModel needs a finite number {bound} as {name}, but found {value!r}: '
                       'pass exposures in seconds and variances in (e-/s)**2.')
                raise ValueError(msg)
            object.__setattr__(self, name, float(value))

    @classmethod
    def fit(cls, rate, rate_err, exposure, *, fallback_read_variance_rate=0.0):
        """Fit slope and read variance to the uncertainties that come with the data.

        The fit is robust and weights all brightnesses alike: pixels that are
        NaN or have no positive uncertainty are ignored and outliers clipped.
        Where no meaningful fit exists, the noise is that of counted
        electrons, with a warning.

        Parameters
        ----------
        rate : ndarray, of any shape
            Rates in e-/s, background included.
        rate_err : ndarray, of the same shape
            Standard deviations of the rates in e-/s.
        exposure : float
            Live time per cadence in seconds.
        fallback_read_variance_rate : float, optional
            Read variance in (e-/s)**2 to assume where the uncertainties tell
            nothing, for example from the detector's nominal read noise.

        Returns
        -------
        NoiseModel
            The fitted noise.

        Raises
        ------
        ValueError
            If the shapes differ or the exposure is not finite and > 0.
        """
        default = cls(exposure, 1.0, fallback_read_variance_rate)
        poisson, variance = _usable_pixels(rate, rate_err, default.exposure)
        if poisson.size < 2 or np.ptp(poisson) == 0:
            _warn(f'found {poisson.size} usable pixels with '
                  f'{np.unique(poisson).size} distinct rates',
                  'Poisson noise and the nominal read noise are assumed')
            return default
        slope, read_variance = _fit_line(poisson, variance, default.exposure)
        if slope > 0 and read_variance >= 0:
            return cls(exposure, slope, read_variance)
        if slope <= 0:
            level = max(float(np.median(variance - poisson)), 0.0)
            _warn(f'found a slope of {slope:.3g}', 'a slope of 1 is assumed')
            return cls(exposure, 1.0, level)
        # Noise-free zero points happen in simulated files, at the level of rounding.
        ratio = float(np.median(variance[poisson > 0] / poisson[poisson > 0]))
        if -read_variance > 0.01 * np.median(variance):
            _warn(f'found a read variance of {read_variance:.3g} (e-/s)**2', 'zero is assumed')
        return cls(exposure, ratio, 0.0)

    @classmethod
    def from_tpf(cls, tpf):
        """Fit the noise of a target pixel file.

        Parameters
        ----------
        tpf : TargetPixels
            The pixels; `read_tpf` has done this fit already, its result is
            ``tpf.noise``.

        Returns
        -------
        NoiseModel
            The fitted noise.

        Raises
        ------
        ValueError
            If the exposure of the pixels is not finite and > 0.
        """
        return fit_pixel_noise(tpf.flux, tpf.background, tpf.flux_err, tpf.good_pixels, tpf.meta)

    @property
    def effective_exposure(self):
        """Exposure in seconds with which rates become Poisson electrons."""
        return self.exposure / self.variance_slope

    @property
    def read_variance(self):
        """Variance of the read noise in effective electrons squared."""
        return self.read_variance_rate * self.effective_exposure**2

    def to_electrons(self, rate):
        """Turn rates into effective electrons.

        Parameters
        ----------
        rate : float or ndarray, of any shape
            Rates in e-/s.

        Returns
        -------
        float or ndarray, of the same shape
            Electrons per cadence, float64.
        """
        return np.multiply(rate, self.effective_exposure, dtype=np.float64)

    def to_rate(self, electrons):
        """Turn effective electrons into rates.

        Parameters
        ----------
        electrons : float or ndarray, of any shape
            Electrons per cadence.

        Returns
        -------
        float or ndarray, of the same shape
            Rates in e-/s, float64.
        """
        return np.divide(electrons, self.effective_exposure, dtype=np.float64)


def fit_pixel_noise(flux, background, flux_err, good_pixels, meta):
    """Fit the noise of the pixels of a file, from as many cadences as tell it.

    Parameters
    ----------
    flux, background, flux_err : ndarray, shape (n, ny, nx)
        Rates in e-/s and their standard deviations.
    good_pixels : ndarray of bool, shape (n, ny, nx)
        Pixels to use.
    meta : dict
        Exposure and nominal read noise, see `~kpsf.TargetPixels`.

    Returns
    -------
    NoiseModel
        The fitted noise.
    """
    some = slice(None, None, max(1, flux.size // (5 * MAX_PIXELS)))
    return NoiseModel.fit(np.add(flux[some], background[some], dtype=np.float64),
                          np.where(good_pixels[some], flux_err[some], np.nan), meta['exposure'],
                          fallback_read_variance_rate=_nominal_read_variance_rate(meta))


def _nominal_read_variance_rate(meta):
    """Return the read variance in (e-/s)**2 that a file's header implies, 0 if it says nothing.

    It leaves out quantisation and the flat field, so it is 10 to 40 % low.
    """
    read_noise, n_reads = meta.get('read_noise'), meta.get('n_reads')
    if not read_noise or not n_reads:
        return 0.0
    return float(n_reads * read_noise**2 / meta['exposure']**2)


def _usable_pixels(rate, rate_err, exposure):
    """Return Poisson variance and given variance of the usable pixels, each (n,)."""
    rate, rate_err = np.asarray(rate), np.asarray(rate_err)
    if rate.shape != rate_err.shape:
        msg = (f'Rates and their uncertainties need one shape, but found {rate.shape} and '
               f'{rate_err.shape}: pass one uncertainty per pixel.')
        raise ValueError(msg)
    rate, rate_err = rate.ravel(), rate_err.ravel()
    usable = np.flatnonzero(np.isfinite(rate) & np.isfinite(rate_err) & (rate_err > 0))
    if usable.size > MAX_PIXELS:
        # Evenly spaced picks of a flattened cube could hit the same few pixels of the stamp in
        # every cadence; a fixed random choice cannot.
        usable = np.random.default_rng(0).choice(usable, MAX_PIXELS, replace=False)
    return (rate[usable].astype(np.float64) / exposure,
            np.square(rate_err[usable].astype(np.float64)))


def _fit_line(poisson, variance, exposure):
    """Return slope and intercept of a line with constant relative scatter.

    Pixels span a factor 100 in variance: without weights the brightest would
    leave the intercept, on which faint stars depend, undetermined.
    """
    design = np.stack([poisson, np.ones_like(poisson)], axis=1)
    slope, intercept = np.linalg.lstsq(design, variance, rcond=None)[0]
    # A variance below one electron squared has no meaning; it keeps the weights finite.
    floor = exposure**-2
    for _ in range(N_ITERATIONS):
        expected = np.maximum(slope * poisson + intercept, 0) + floor
        relative = (variance - slope * poisson - intercept) / expected
        deviation = np.abs(relative - np.median(relative))
        # Simulated uncertainties can be exact, up to rounding.
        keep = deviation <= max(CLIP_SIGMA * 1.4826 * np.median(deviation), MIN_CLIP)
        weight = keep / expected
        previous = slope, intercept
        slope, intercept = np.linalg.lstsq(design * weight[:, None], variance * weight,
                                           rcond=None)[0]
        if np.allclose((slope, intercept), previous, rtol=1e-6, atol=0):
            break
    return float(slope), float(intercept)


def _warn(found, action):
    """Warn that the noise could not be fitted as it should be."""
    msg = ('The noise model needs uncertainties (FLUX_ERR) that grow with the rate, but '
           f'{found}: {action}; build a NoiseModel by hand if you know better.')
    warnings.warn(msg, AstropyUserWarning)
