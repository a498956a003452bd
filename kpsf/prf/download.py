# Licensed under a 3-clause BSD style license - see LICENSE
"""Downloads from the archive of PRF files, and the cache of those that came whole."""

import urllib.error
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from astropy.utils import data
from astropy.utils.exceptions import AstropyUserWarning

from .._configuration import conf
from .calibration import PRFCalibration

__all__ = ['ArchiveError', 'FoundPRF', 'asking_once', 'download', 'find_cached', 'keep_in_cache',
           'without_advice']

NOT_FOUND = 404
# Why archives did not answer, by their address; None where each download asks again.
_unanswered = ContextVar('unanswered', default=None)


class FoundPRF(NamedTuple):
    """A PRF file that was found.

    Parameters
    ----------
    path : Path
        Where it is.
    calibration : PRFCalibration
        What is in it.
    location : str, optional
        Where in the archive it was; None for a file in a local folder.
    """

    path: Path
    calibration: PRFCalibration
    location: str | None = None


class ArchiveError(OSError):
    """A file that the archive did not deliver.

    Parameters
    ----------
    name : str
        Name of the file.
    url : str
        Its address.
    reason : str
        Why it did not come.
    is_unreachable : bool
        Whether the archive itself did not answer, so that other files will
        fail as well.
    """

    def __init__(self, name, url, reason, is_unreachable):
        advice = ('is there a network? If there is, see' if is_unreachable
                  else 'try again later, or see')
        super().__init__(f'{name} cannot be downloaded from {url} ({reason}): {advice} whether '
                         'kpsf.conf.archive_url is right.')
        self.url = url
        self.reason = reason
        self.is_unreachable = is_unreachable


def find_cached(file):
    """Find a file in the cache.

    Parameters
    ----------
    file : PRFFile
        The file.

    Returns
    -------
    FoundPRF or None
        A file that was read and is good.
    """
    for location in file.locations:
        # Without sources astropy looks into the cache alone, and a KeyError says that the file
        # is not there. is_url_in_cache does not tell where it is.
        try:
            path = Path(data.download_file(_url(location), cache=True, sources=[],
                                           pkgname='kpsf'))
        except KeyError:
            continue
        try:
            # Files in the cache have lost their names.
            calibration = file.read(path, file.name)
        except (OSError, ValueError) as error:
            msg = f'{without_advice(error)}, in the cache: {file.name} is downloaded again.'
            warnings.warn(msg, AstropyUserWarning)
        else:
            return FoundPRF(path, calibration, location)
    return None


@contextmanager
def asking_once():
    """Within it, an archive that did not answer is not asked again.

    Each question takes until the time limit of astropy, which is too long
    to wait for every one of many files.
    """
    token = _unanswered.set({})
    try:
        yield
    finally:
        _unanswered.reset(token)


def download(file):
    """Download a file.

    Parameters
    ----------
    file : PRFFile
        The file.

    Returns
    -------
    FoundPRF
        A file under a temporary name that was read and is good.

    Raises
    ------
    ArchiveError
        If it did not come, or not whole, or if it is not what it should be.
    """
    if not data.conf.allow_internet:
        raise _failure(file, 'astropy.utils.data.conf.allow_internet is False', True)
    unanswered = _unanswered.get()
    if unanswered and conf.archive_url in unanswered:
        raise _failure(file, f'not tried again after: {unanswered[conf.archive_url]}', True)
    for location in file.locations:
        url = _url(location)
        try:
            path = Path(data.download_file(url, show_progress=False, pkgname='kpsf'))
        except urllib.error.HTTPError as error:
            error.close()
            refusal = error
            if error.code != NOT_FOUND:
                break
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, 'reason', None) or str(error) or type(error).__name__
            # A server that answers gives a reason in words; a folder can be the archive, too.
            is_unreachable = isinstance(error, TimeoutError) or (
                isinstance(reason, OSError) and not isinstance(reason, FileNotFoundError))
            if is_unreachable and unanswered is not None:
                unanswered[conf.archive_url] = reason
            raise _failure(file, reason, is_unreachable) from error
        else:
            return FoundPRF(path, _read_download(file, path), location)
    raise _failure(file, refusal) from refusal


def _read_download(file, path):
    """Return what is in a file; remove it and raise ArchiveError if it is not as it should be."""
    try:
        return file.read(path, file.name)
    except (OSError, ValueError) as error:
        path.unlink()
        reason = without_advice(error).replace(str(path), 'what came')
        raise _failure(file, reason) from error


def without_advice(error):
    """Return what an error found, for another one to quote.

    Parameters
    ----------
    error : Exception
        Error whose text ends with a colon and what to do.

    Returns
    -------
    str
        The text before that.
    """
    return str(error).rpartition(': ')[0] or str(error)


def _failure(file, reason, is_unreachable=False):
    """Return the exception that tells why a file was not downloaded."""
    return ArchiveError(file.name, _url(file.locations[0]), str(reason), is_unreachable)


def keep_in_cache(file, found):
    """Move a downloaded file to the cache.

    Parameters
    ----------
    file : PRFFile
        The file.
    found : FoundPRF
        What `download` returned.

    Returns
    -------
    FoundPRF
        The same with the path in the cache.

    Raises
    ------
    OSError
        If the cache cannot be written to.
    """
    try:
        path = data.import_file_to_cache(_url(found.location), str(found.path),
                                         remove_original=True, pkgname='kpsf')
    except OSError as error:
        msg = (f'{file.name} cannot be kept in the cache ({error}): run `kpsf fetch-prf '
               f'{file.arguments} --outdir DIR` and add DIR to kpsf.conf.prf_path')
        raise OSError(msg) from error
    return found._replace(path=Path(path))


def _url(location):
    """Return the address of a file in the archive."""
    base = conf.archive_url
    if not data.is_url(base):
        msg = ('kpsf.conf.archive_url must be an address such as https://archive.stsci.edu/'
               f'missions, but it is {base!r}: correct it, or list local folders in '
               'kpsf.conf.prf_path.')
        raise ValueError(msg)
    return f'{base.rstrip("/")}/{location}'
