# Licensed under a 3-clause BSD style license - see LICENSE
"""What a finished light curve is warned of, whichever way it was made."""

import warnings

import numpy as np
from astropy.utils.exceptions import AstropyUserWarning

from ..scenes.noise import scatter

__all__ = ['is_constant', 'warn_if_constant']

# Of a measurement, no two cadences are as much alike.
ROUNDING = 1e-12


def is_constant(flux):
    """Tell whether most fluxes (n,) are the one before, as those of no observation are."""
    flux = flux[np.isfinite(flux)]
    return flux.size > 2 and bool(scatter(flux) <= ROUNDING * np.abs(np.median(flux)))


def warn_if_constant(flux, target):
    """Warn of fluxes that have no noise."""
    if is_constant(flux):
        warnings.warn(f'Fluxes should scatter from cadence to cadence, but those of {target} are '
                      'constant: the pixels are no observation, or repeat one; look at them.',
                      AstropyUserWarning)
