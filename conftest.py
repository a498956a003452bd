# Licensed under a 3-clause BSD style license - see LICENSE
"""What tests and doctests share: drawing without a screen, and a folder to write to."""

import os
import sys

import pytest

try:
    from pytest_astropy_header.display import PYTEST_HEADER_MODULES
except ImportError:
    PYTEST_HEADER_MODULES = {}

os.environ['MPLBACKEND'] = 'Agg'


def pytest_configure(config):
    """Name the packages whose versions matter in the header of the report."""
    PYTEST_HEADER_MODULES.clear()
    for name in ('numpy', 'scipy', 'astropy', 'photutils', 'matplotlib'):
        PYTEST_HEADER_MODULES[name] = name


@pytest.fixture(autouse=True)
def no_figures_left():
    """Close the figures that a test or a page has made."""
    yield
    if 'matplotlib.pyplot' in sys.modules:
        sys.modules['matplotlib.pyplot'].close('all')


@pytest.fixture(autouse=True)
def folder_of_its_own(request):
    """Run every doctest in a temporary folder, so that an example may write files."""
    if isinstance(request.node, pytest.DoctestItem):
        tmp_path, monkeypatch = map(request.getfixturevalue, ('tmp_path', 'monkeypatch'))
        monkeypatch.chdir(tmp_path)
