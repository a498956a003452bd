# Licensed under a 3-clause BSD style license - see LICENSE
"""Files are opened complete or not at all, and written whole or not at all."""

import gzip
import os

import numpy as np
import pytest
from astropy.io import fits

from kpsf._files import damaged, header_value, open_fits, write_whole


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'image.fits'
    primary = fits.PrimaryHDU()
    primary.header['NEXTEND'] = 1
    fits.HDUList([primary, fits.ImageHDU(np.arange(9.0))]).writeto(path)
    return path


def test_a_complete_file_is_open_inside_and_closed_after(image):
    with open_fits(image, 'An image') as hdulist:
        assert hdulist[1].data.sum() == 36.0
    assert hdulist._file.closed


def test_the_home_folder_can_be_abbreviated(image, monkeypatch):
    monkeypatch.setenv('HOME', str(image.parent))
    with open_fits('~/image.fits', 'An image') as hdulist:
        assert len(hdulist) == 2


@pytest.mark.parametrize('size', [10, 3000, 5760, 6000])
def test_a_file_that_ends_early_is_named_damaged(image, size):
    image.write_bytes(image.read_bytes()[:size])
    with pytest.raises(ValueError, match=r'image\.fits must be a complete FITS file.*download'):
        with open_fits(image, 'An image'):
            pass


def test_a_missing_file_says_what_was_wanted(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'^An image is needed, but there is no file'):
        with open_fits(tmp_path / 'none.fits', 'An image'):
            pass


@pytest.mark.parametrize(('content', 'found'), [(b'', 'is empty'), (b'hello there', 'begins')])
def test_another_kind_of_file_says_what_was_found(tmp_path, content, found):
    path = tmp_path / 'file.fits'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'An image is needed, but .*file.fits {found}'):
        with open_fits(path, 'An image'):
            pass


def test_other_compressed_content_is_no_fits_file(tmp_path):
    path = tmp_path / 'file.fits.gz'
    with gzip.open(path, 'wb') as file:
        file.write(b'hello there')
    with pytest.raises(ValueError, match='must be a complete FITS file'):
        with open_fits(path, 'An image'):
            pass


def test_damage_names_file_and_cause():
    assert 'b.fits must be' in str(damaged('b.fits', 'cause'))
    assert '(cause)' in str(damaged('b.fits', 'cause'))


@pytest.mark.parametrize(('value', 'kind', 'expected'), [
    (5, float, 5.0), (5.0, int, 5), ('', float, None), ('', str, None), ('  ', str, None),
    (' a ', str, 'a'), (5, str, None), ('name', int, None), ('name', float, None),
    (fits.card.Undefined(), float, None), (None, str, None), (True, bool, True),
])
def test_header_values_are_of_their_kind_or_none(value, kind, expected):
    found = header_value({'KEY': value}, 'KEY', kind)
    assert found == expected
    assert expected is None or type(found) is kind


def test_an_absent_keyword_is_none():
    assert header_value(fits.Header(), 'KEY', float) is None


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_none(value):
    assert header_value({'KEY': value}, 'KEY', float) is None


@pytest.mark.parametrize('name', ['a.fits', 'a.fits.gz', 'a.b.c.csv'])
def test_the_temporary_name_has_the_same_ending_and_folder(tmp_path, name):
    with write_whole(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(name)
        assert not (tmp_path / name).exists()
        temporary.write_text('text')
    assert (tmp_path / name).read_text() == 'text'
    assert os.listdir(tmp_path) == [name]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('before')
    with pytest.raises(RuntimeError):
        with write_whole(path, overwrite=True) as temporary:
            temporary.write_text('half')
            raise RuntimeError
    assert path.read_text() == 'before'
    assert os.listdir(tmp_path) == ['a.txt']


def test_an_existing_file_is_replaced_only_when_asked(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('before')
    with pytest.raises(FileExistsError, match=r'a\.txt exists already.*overwrite=True'):
        with write_whole(path):
            pass
    with write_whole(path, overwrite=True) as temporary:
        temporary.write_text('after')
    assert path.read_text() == 'after'


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OSError, match='there is no folder .*none'):
        with write_whole(tmp_path / 'none' / 'a.txt'):
            pass


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(OSError, match='is a folder'):
        with write_whole(tmp_path, overwrite=True):
            pass


def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    with pytest.raises(PermissionError, match='is read-only: choose another'):
        with write_whole(tmp_path / 'a.txt'):
            pass
    assert os.listdir(tmp_path) == []
