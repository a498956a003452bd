# Licensed under a 3-clause BSD style license - see LICENSE
"""`inject_signal`: pixels in which one star varies more than it did."""

from dataclasses import replace

import numpy as np

__all__ = ['inject_signal']


def inject_signal(tpf, relative_flux, light, *, seed=None):
    """Scale the light of one star in the pixels, and nothing else.

    Parameters
    ----------
    tpf : TargetPixels
        The pixels.
    relative_flux : ndarray, shape (n_cadences,)
        Factor on the star's light, as `Signal.relative_flux` gives it.
    light : ndarray, shape (n_cadences, ny, nx)
        Light of the star in e-/s.
    seed : int or `~numpy.random.Generator`, optional
        For the photon noise that added light has. By default it has none.

    Returns
    -------
    TargetPixels
        New pixels. Noise model and uncertainties are those of the old ones.
    """
    change = (np.asarray(relative_flux, dtype=float)[:, np.newaxis, np.newaxis] - 1.0) * light
    if seed is not None:
        mean = np.maximum(tpf.noise.to_electrons(change), 0.0)
        noise = np.random.default_rng(seed).poisson(mean) - mean
        change = change + tpf.noise.to_rate(noise)
    return replace(tpf, flux=np.add(tpf.flux, change, dtype=np.float64))
