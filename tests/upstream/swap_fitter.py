# Licensed under a 3-clause BSD style license - see LICENSE
"""A pytest plugin: the fitter of kpsf in the place of astropy's and photutils' default.

With this folder on PYTHONPATH::

    pytest -p swap_fitter --pyargs photutils.psf astropy.modeling.tests.test_fitters

Tests that assert what least squares is, and not what a fitter has to do, are named in
``swap_failures``. They must fail: one that passes, and any other that fails, is an error.
"""

import warnings
from functools import wraps

import numpy as np
import pytest
from astropy.modeling import fitting
from astropy.utils.exceptions import AstropyUserWarning
from swap_failures import FAILURES

from kpsf import PoissonLikelihoodFitter


class TRFLSQFitter(PoissonLikelihoodFitter):
    """The fitter under the name, and with the first arguments, of the one that it replaces.

    Many tests fit Gaussian noise around zero. As the fitter's own error advises, it is then told
    of a background, ten times as high as the data are deep. Data that are not negative, and
    with them all else that could fail, are left to the fitter as they are.
    """

    def __init__(self, calc_uncertainties=False, use_min_max_bounds=False):
        super().__init__(calc_uncertainties=calc_uncertainties)

    @wraps(PoissonLikelihoodFitter.__call__)
    def __call__(self, model, x, y, z=None, *args, **kwargs):
        data = y if z is None else z
        data = np.ma.getdata(np.asanyarray(getattr(data, 'value', data), dtype=float))
        self.background = -10.0 * np.min(data, initial=0.0, where=np.isfinite(data))
        if model.linear:
            warnings.warn('Model is linear in parameters', AstropyUserWarning)
        return super().__call__(model, x, y, z, *args, **kwargs)


# Before any module of tests, or of photutils, takes it from there.
fitting.TRFLSQFitter = TRFLSQFitter


def pytest_runtest_setup():
    """Seed the generator that some tests draw from without seeding it."""
    np.random.seed(20)  # noqa: NPY002


def name_of(item):
    """Return the name of a test, the same wherever it runs."""
    return f'{item.module.__name__}::{item.nodeid.partition("::")[2]}'


def pytest_collection_modifyitems(items):
    """Expect the failures that are listed, and no others; refuse names that are not there."""
    reasons = {name: reason for reason, names in FAILURES.items() for name in names}
    for item in items:
        reason = reasons.get(name_of(item))
        if reason:
            item.add_marker(pytest.mark.xfail(strict=True, reason=reason))
    found, modules = {name_of(item) for item in items}, {item.module.__name__ for item in items}
    stale = [name for name in reasons if name.partition('::')[0] in modules and name not in found]
    if stale:
        raise pytest.UsageError('swap_failures must name tests that exist, but it names '
                                f'{", ".join(stale)}: correct or remove them.')
