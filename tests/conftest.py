# Licensed under a 3-clause BSD style license - see LICENSE
"""The folder of real data that tests may ask for."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def kpsf_data():
    """Return the folder of real Kepler, K2 and TESS files that KPSF_DATA names; skip without."""
    folder = os.environ.get('KPSF_DATA')
    if not folder:
        pytest.skip('KPSF_DATA does not name a folder of real data')
    return Path(folder)
