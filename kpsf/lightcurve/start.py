# Licensed under a 3-clause BSD style license - see LICENSE
"""Where the fits of a series start: at the star in the median image."""

import numpy as np

from .._validation import below_read_noise
from ..flags import FitFlag
from ..guidance import locate_source
from ..models import EllipticalGaussianPSF
from ..scenes.stars import FAR_FROM_TARGET, typical_psf
from ..stamps import fit_stamps
from ..tpf.pixels import median_image

__all__ = ['LEAST_FRACTION', 'UNUSABLE', 'median_start']

UNUSABLE = (FitFlag.NOT_CONVERGED | FitFlag.TOO_FEW_PIXELS | FitFlag.NO_COVARIANCE
            | FitFlag.CENTROID_OUTSIDE | FitFlag.FLUX_NOT_POSITIVE | FitFlag.LITTLE_FLUX_INSIDE)
# A total flux of which less is seen is the shape's invention.
LEAST_FRACTION = 0.5
# More cadences than this do not make a median image better.
MAX_MEDIAN_CADENCES = 500


def median_start(tpf, plan, electrons, used, known):
    """Return position and shape of the median image as starting values by name.

    Parameters
    ----------
    tpf : TargetPixels
    plan : FitPlan
    electrons : ndarray, shape (n, ny, nx)
    used : ndarray of bool, shape (n, ny, nx)
    known : ndarray, shape () or (n, ny, nx)
        Known background in electrons.
    """
    some = slice(None, None, -(-len(used) // MAX_MEDIAN_CADENCES))
    electrons, used = electrons[some], used[some]
    ever = used.any(axis=0)
    if ever.sum() < len(plan.free_names):
        return {}
    image = median_image(electrons, used)
    known = (np.where(ever, median_image(known[some], used), 0.0)[np.newaxis]
             if known.ndim else known)
    held = {name: np.median(values) for name, values in plan.position.items()}
    target = [np.median(place) for place in tpf.expected_positions()]

    def fit(start):
        # With nothing shared: a single stamp reaches its minimum more surely that way.
        return fit_stamps(image[np.newaxis], plan.model, read_variance=tpf.read_variance,
                          init={**held, **start}, fixed=plan.fixed, n_threads=1,
                          **plan.background_arguments(known, ever[np.newaxis]))

    fits = [fit({})]
    if not held:
        fits += [fit(start) for start in _located_start(tpf, plan, image, target)]
    best = _choose(fits, plan, target)
    if best is None:
        return {}
    return {name: best.params[0, best.param_names.index(name)]
            for name in (plan.x, plan.y, *plan.shape_names) if name in plan.free_names}


def _located_start(tpf, plan, image, target):
    """Return a list of one start, the source next to the target, or of none."""
    psf, shape = plan.model, {}
    if type(psf) is EllipticalGaussianPSF and not any(psf.fixed[name] for name in 'abc'):
        psf = typical_psf(tpf.mission)
        shape = {name: getattr(psf, name).value for name in plan.shape_names}
    deep = below_read_noise(image, tpf.read_variance)
    # What goes wrong here, a target out of the stamp for example, is said by the fit itself, and
    # how far away it is by `_choose` and a flag.
    try:
        found = locate_source(np.where(deep, np.nan, image), psf, near=target,
                              within=None, read_variance=tpf.read_variance)
    except (ArithmeticError, ValueError):
        return []
    return [{plan.x: row['x'], plan.y: row['y']} | shape for row in found]


def _choose(fits, plan, target):
    """Return the fit that is at the target, or has the best likelihood; None if all failed."""
    usable = [fit for fit in fits if not fit.flags[0] & UNUSABLE]
    places = [[fit.params[0, fit.param_names.index(name)] for name in (plan.x, plan.y)]
              for fit in usable]
    near = [fit for fit, place in zip(usable, places)
            if np.hypot(*np.subtract(place, target)) <= FAR_FROM_TARGET]
    return min(near or usable, key=lambda fit: fit.deviance[0], default=None)
