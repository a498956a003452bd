# Licensed under a 3-clause BSD style license - see LICENSE
"""Numbers of detectors: which there are, and how they are written."""

import ast
from pathlib import Path

import numpy as np
import pytest

from kpsf import prf
from kpsf.prf.channels import channel_to_module_output, first_sector_of, module_output_to_channel
from kpsf.prf.files import tess_prf_files


def test_every_channel_has_its_module_and_output():
    pairs = [channel_to_module_output(channel) for channel in range(1, 85)]
    assert [module_output_to_channel(*pair) for pair in pairs] == list(range(1, 85))
    assert (pairs[0], pairs[19], pairs[55], pairs[83]) == ((2, 1), (7, 4), (16, 4), (24, 4))
    assert {module for module, _ in pairs} == {*range(2, 25)} - {5, 21}


@pytest.mark.parametrize(('function', 'arguments', 'message'), [
    (channel_to_module_output, (0,), 'channel must be a whole number, 1 to 84, but it is 0: take'),
    (channel_to_module_output, (85,), 'channel .* 85'),
    (channel_to_module_output, (20.5,), 'channel must be a whole number'),
    (channel_to_module_output, (None,), 'channel must be a whole number, .* None'),
    (module_output_to_channel, (5, 1), 'module must be .*, 2 to 4, 6 to 20 and 22 to 24, but it'),
    (module_output_to_channel, (7, 5), 'output must be a whole number, 1 to 4, but it is 5'),
    (tess_prf_files, (5, 1, 1), 'camera must be a whole number, 1 to 4, but it is 5'),
    (tess_prf_files, (1, 0, 1), 'ccd must be'),
    (tess_prf_files, (1, 1, 0), 'sector must be a whole number, 1 and more, but it is 0'),
    (tess_prf_files, (1, 1, 1, 100), 'must be given together, but they are 100 and None: pass'),
    (tess_prf_files, (1, 1, 1, 100, float('nan')), 'on the detector of TESS, .* row nan'),
])
def test_a_detector_that_does_not_exist_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.parametrize('sector', [None, '1', 1.5, float('nan'), float('inf'), [1], -1.0])
def test_what_is_no_whole_number_is_refused_at_once_where_there_is_no_upper_limit(sector):
    with pytest.raises(ValueError, match='sector must be a whole number, 1 and more, but it is'):
        tess_prf_files(4, 1, sector)


@pytest.mark.parametrize('number', [float, np.float32, np.int16, np.array])
def test_headers_may_have_whole_numbers_as_floats(number):
    assert channel_to_module_output(number(20)) == (7, 4)
    assert module_output_to_channel(number(7), number(4)) == 20
    assert tess_prf_files(number(4), number(1), number(1)) == tess_prf_files(4, 1, 1)


def test_the_modules_of_prf_need_no_imports_inside_functions():
    for path in Path(prf.__file__).parent.glob('*.py'):
        tree = ast.parse(path.read_text())
        inner = [node.lineno for node in ast.walk(tree)
                 if isinstance(node, ast.ImportFrom) and node.level and node not in tree.body]
        assert not inner, path.name


def test_the_second_set_of_tess_files_begins_with_sector_4():
    assert [first_sector_of(sector) for sector in (1, 3, 4, 5, 90)] == [1, 1, 4, 4, 4]
