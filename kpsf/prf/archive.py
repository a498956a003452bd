# Licensed under a 3-clause BSD style license - see LICENSE
"""Where PRF files are found: in local folders, in the cache, in the archive."""

import os
import warnings
from pathlib import Path

from astropy.utils.exceptions import AstropyUserWarning

from .._configuration import conf
from .calibration import detector_name
from .download import ArchiveError, FoundPRF, download, find_cached, keep_in_cache

__all__ = ['PRFNotFoundError', 'find_local', 'find_prf', 'require_local_folders']


class PRFNotFoundError(FileNotFoundError):
    """A PRF file that is nowhere to be found.

    Parameters
    ----------
    message : str
        What is missing, where it was looked for and what to do.
    is_unreachable : bool, optional
        Whether the archive did not answer, so that other files will fail
        as well.
    """

    def __init__(self, message, is_unreachable=False):
        super().__init__(message)
        self.is_unreachable = is_unreachable


def find_prf(file):
    """Find a PRF file: in local folders, in the cache, in the archive.

    The folders of ``kpsf.conf.prf_path`` are searched in their order. What
    is downloaded from ``kpsf.conf.archive_url`` enters astropy's cache for
    kpsf only after it was read as the file that it should be.

    Parameters
    ----------
    file : PRFFile
        The file.

    Returns
    -------
    FoundPRF
        A file that was read and is good, and what is in it.

    Raises
    ------
    PRFNotFoundError
        If there is none and it cannot be downloaded.
    FileNotFoundError
        If one of the folders does not exist.
    ValueError
        If a file in the folders is damaged.
    """
    found = find_local(file) or find_cached(file)
    if found is not None:
        return found
    try:
        found = download(file)
    except ArchiveError as error:
        # The text has all of the reason; a chain of astropy's and urllib's would bury it.
        raise PRFNotFoundError(_not_found(file, error), error.is_unreachable) from None
    try:
        return keep_in_cache(file, found)
    except OSError as error:
        warnings.warn(f'{error}; until then it is downloaded in every session.',
                      AstropyUserWarning)
        return found


def find_local(file):
    """Find a PRF file in the local folders.

    Parameters
    ----------
    file : PRFFile
        The file.

    Returns
    -------
    FoundPRF or None
        The file in the first folder of ``kpsf.conf.prf_path`` that has it,
        which was read and is good.

    Raises
    ------
    FileNotFoundError
        If one of the folders does not exist.
    ValueError
        If that file is damaged.
    """
    for folder in _folders():
        path = file.find_in(folder)
        if path is not None:
            return FoundPRF(path, file.read(path))
    return None


def require_local_folders():
    """Raise unless all folders of ``kpsf.conf.prf_path`` exist.

    Raises
    ------
    FileNotFoundError
        If one of them does not exist.
    TypeError
        If it is no name of a folder.
    """
    list(_folders())


def _folders():
    """Yield the folders of ``kpsf.conf.prf_path``, up to one that does not exist."""
    for entry in filter(None, conf.prf_path or []):
        if not isinstance(entry, (str, os.PathLike)):
            msg = (f'kpsf.conf.prf_path must list folders, but it has {entry!r}: list their '
                   'names.')
            raise TypeError(msg)
        folder = Path(entry).expanduser()
        if not folder.is_dir():
            found = f'{folder} is a file' if folder.exists() else f'there is no folder {folder}'
            msg = (f'kpsf.conf.prf_path must list folders, but {found}: create the folder, or '
                   'take that off the list.')
            raise FileNotFoundError(msg)
        yield folder


def _not_found(file, error):
    """Say what was missing, where it was looked for and what to do."""
    folders = ', '.join(map(str, _folders())) or 'which lists none'
    return (f'The PRF of {detector_name(file.detector)} needs {file.name}, but it is neither in '
            f'the folders of kpsf.conf.prf_path ({folders}) nor in the cache, and it cannot be '
            f'downloaded from {error.url} ({error.reason}): run `kpsf fetch-prf {file.arguments}` '
            'where there is a network, with --outdir DIR if that is another machine, and name DIR '
            'in kpsf.conf.prf_path, or with --prf-path DIR on the command line.')
