# Licensed under a 3-clause BSD style license - see LICENSE
"""Settings: what they are at first, what they take, and that a file can set them."""

from pathlib import Path

import pytest

import kpsf
from kpsf import conf


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """Return a function that makes the text of a configuration file count."""
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path))
    folder = tmp_path / 'kpsf'
    folder.mkdir()

    def write(text):
        (folder / 'kpsf.cfg').write_text(text)
        conf.reload()

    yield write
    monkeypatch.undo()
    conf.reload()


def test_the_archive_is_that_of_the_missions_and_no_folder_is_known_at_first(configured):
    configured('')
    assert conf.archive_url == 'https://archive.stsci.edu/missions'
    assert conf.prf_path == []


def test_the_settings_are_an_attribute_of_the_package():
    assert kpsf.conf is conf
    assert 'conf' in kpsf.__all__
    assert list(conf) == ['archive_url', 'prf_path']


def test_a_setting_holds_inside_a_with_statement():
    before = conf.prf_path
    with conf.set_temp('prf_path', ['/a', Path('/b')]):
        assert conf.prf_path == ['/a', Path('/b')]
    assert conf.prf_path == before


def test_one_folder_needs_no_list():
    for folder in ('/a', Path('/a')):
        with conf.set_temp('prf_path', folder):
            assert conf.prf_path == [folder]


@pytest.mark.parametrize(('text', 'folders'), [
    ('prf_path = /a', ['/a']),
    ('prf_path = /a, /b', ['/a', '/b']),
    ('prf_path = ,', []),
])
def test_a_file_sets_folders(configured, text, folders):
    configured(f'{text}\narchive_url = http://localhost/mirror\n')
    assert conf.prf_path == folders
    assert conf.archive_url == 'http://localhost/mirror'


def test_an_address_that_is_no_text_is_refused():
    with pytest.raises(TypeError, match='archive_url not valid'):
        conf.archive_url = 80
