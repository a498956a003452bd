# Licensed under a 3-clause BSD style license - see LICENSE
"""What a finished light curve is warned of, whichever way it was made."""

import warnings

import numpy as np
from astropy.utils.exceptions import AstropyUserWarning

from .._validation import below_read_noise
from ..flags import DiagnosisFlag
from ..guidance import advise
from ..guidance.diagnosis import LEAST_PLATEAU, PLATEAU
from ..scenes.noise import scatter
from ..tpf.pixels import median_image

__all__ = ['is_constant', 'warn_if_constant', 'warn_if_saturated']

# Of a measurement, no two cadences are as much alike.
ROUNDING = 1e-12
# More cadences than this do not make a median image better, and fewer standard deviations no star.
MAX_MEDIAN_CADENCES, N_SIGMA = 100, 20.0


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


def warn_if_saturated(tpf):
    """Warn if the pixels of the target are full, as `kpsf.guidance.diagnose` finds."""
    some = slice(None, None, -(-tpf.n_cadences // MAX_MEDIAN_CADENCES))
    electrons = tpf.noise.to_electrons(
        np.add(tpf.flux[some], tpf.background[some], dtype=np.float64))
    image = median_image(electrons, tpf.good_pixels[some])
    if np.isnan(image).all():
        return
    image[below_read_noise(image, tpf.read_variance)] = np.nan
    if not _has_plateau(image[np.isfinite(image)], tpf.read_variance):
        return
    place = np.clip([np.median(axis) for axis in tpf.expected_positions()], 0.0,
                    np.subtract(tpf.shape[::-1], 1.0))
    # What goes wrong here is said by the fit itself.
    try:
        diagnosis = advise(image, near=tuple(place), read_variance=tpf.read_variance).diagnosis
    except (ArithmeticError, ValueError):
        return
    for problem in diagnosis.problems if diagnosis else ():
        if problem.flag == DiagnosisFlag.SATURATED:
            warnings.warn('A PSF needs pixels that are not full, but in the median image of '
                          f'{tpf.target}, {problem.text}', AstropyUserWarning)


def _has_plateau(values, read_variance):
    """Tell in no time whether an image (n,) may have a saturated star."""
    highest = values.max(initial=0.0)
    return (np.count_nonzero(values >= PLATEAU * highest) >= LEAST_PLATEAU
            and highest - np.median(values) > N_SIGMA * np.sqrt(highest + read_variance))
