# Licensed under a 3-clause BSD style license - see LICENSE
"""The options of the photometry, checked when it is made."""

from functools import wraps

import numpy as np

from .._validation import require_number
from ..priors import CentroidPrior

__all__ = ['check_background', 'check_callable', 'check_prior', 'check_xy_bounds',
           'refuse_others']

# Arguments of photutils' PSFPhotometry that have no place here, and what to do.
_BACKGROUND = ("leave it away, background='fit' fits one around each star, or pass what was "
               'subtracted as background=')
_ELSEWHERE = {
    'fitter': 'leave it away, the likelihood is that of PoissonLikelihoodFitter, or pass that '
              'fitter to photutils.psf.PSFPhotometry',
    'fitter_maxiters': 'leave it away, each fit goes on until it has converged',
    'local_bkg_estimator': _BACKGROUND, 'localbkg_estimator': _BACKGROUND,
    'group_warning_threshold': 'leave it away',
}


def refuse_others(init):
    """Decorate a constructor to say what takes the place of photutils' other arguments."""
    @wraps(init)
    def checked(self, *args, **options):
        for name in _ELSEWHERE.keys() & options.keys():
            raise TypeError(f'{type(self).__name__} must be made without {name}=, but it is '
                            f'given: {_ELSEWHERE[name]}.')
        init(self, *args, **options)
    return checked


def check_callable(value, name):
    """Return an option that can be called, or None."""
    if value is not None and not callable(value):
        raise TypeError(f'{name} must be callable, but it is {type(value).__name__}: pass an '
                        'object of photutils, or a function.')
    return value


def check_background(background):
    """Return the background; what depends on the image is checked with it."""
    if isinstance(background, str) and background not in ('fit', 'error'):
        raise ValueError("background must be 'fit', 'error', or what was subtracted from the data "
                         f"(a number, an image or a function), but it is {background!r}: pass "
                         "'fit' where the data contain their background.")
    if background is None:
        raise TypeError('background must say what became of the background, but it is None: pass '
                        "'fit' where the data contain it, or what was subtracted, 0 for nothing.")
    return background


def check_prior(prior):
    """Return the prior on positions, or None."""
    if prior is None or isinstance(prior, CentroidPrior):
        return prior
    return CentroidPrior(prior)


def check_xy_bounds(xy_bounds):
    """Return the largest distances along x and y, None for no limit; or None."""
    if xy_bounds is None:
        return None
    pair = tuple(np.atleast_1d(np.asarray(xy_bounds, dtype=object)).tolist())
    pair = pair * 2 if len(pair) == 1 else pair
    if len(pair) != 2:
        raise ValueError(f'xy_bounds must be one or two distances, but it is {xy_bounds!r}: pass '
                         'pixels along x and y.')
    return tuple(None if value is None else
                 require_number(value, 'xy_bounds', 'pass pixels', positive=True)
                 for value in pair)
