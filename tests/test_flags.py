# Licensed under a 3-clause BSD style license - see LICENSE

import numpy as np
import pytest

from kpsf.flags import FLAG_MEANINGS, FitFlag, decode_flags


def test_every_flag_is_one_bit_of_its_own():
    values = [int(flag) for flag in FitFlag]
    assert values == [1 << bit for bit in range(len(values))]


def test_the_bits_do_not_change_because_files_store_them():
    assert {flag.name: int(flag) for flag in FitFlag} == {
        'NOT_CONVERGED': 1,
        'TOO_FEW_PIXELS': 2,
        'AT_BOUND': 4,
        'NO_COVARIANCE': 8,
        'CENTROID_OUTSIDE': 16,
        'FLUX_NOT_POSITIVE': 32,
        'FAR_FROM_TARGET': 64,
        'LITTLE_FLUX_INSIDE': 128,
        'COSMIC_RAY': 256,
        'NOT_SEPARABLE': 512,
    }


def test_every_flag_has_a_sentence_and_every_sentence_a_flag():
    assert list(FLAG_MEANINGS) == [flag.name for flag in FitFlag]
    assert all(meaning[0].isupper() and meaning.endswith('.')
               for meaning in FLAG_MEANINGS.values())


@pytest.mark.parametrize('flags', [5, np.int32(5), np.array(5), FitFlag(5)])
def test_a_scalar_gives_one_tuple_of_names(flags):
    assert decode_flags(flags) == ('NOT_CONVERGED', 'AT_BOUND')


def test_an_array_gives_a_list_of_tuples():
    assert decode_flags(np.array([[0, 2], [48, 1023]])) == [
        (), ('TOO_FEW_PIXELS',), ('CENTROID_OUTSIDE', 'FLUX_NOT_POSITIVE'), tuple(FLAG_MEANINGS)]


def test_no_flags_give_an_empty_list():
    assert decode_flags([]) == []


def test_names_rebuild_the_flags():
    flags = np.arange(1024)
    assert [sum(FitFlag[name] for name in names) for names in decode_flags(flags)] == list(flags)


@pytest.mark.parametrize('flags', [1024, -1, [0, 1, 1024]])
def test_a_bit_without_a_name_is_an_error(flags):
    with pytest.raises(ValueError, match=r'between 0 and 1023, but 1 of \d do'):
        decode_flags(flags)


@pytest.mark.parametrize('flags', [1.0, [np.nan], ['AT_BOUND'], [True]])
def test_flags_that_are_no_integers_are_an_error(flags):
    with pytest.raises(TypeError, match='must be integers'):
        decode_flags(flags)
