# Licensed under a 3-clause BSD style license - see LICENSE
"""Downloads from the archive of PRF files, and the cache of those that came whole."""

import urllib.error
import warnings
from http.client import HTTPException
from pathlib import Path

from astropy.utils import data
from astropy.utils.exceptions import AstropyUserWarning

from .._configuration import conf

__all__ = ['ArchiveError', 'download', 'find_cached', 'keep_in_cache', 'without_advice']

NOT_FOUND = 404


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
        super().__init__(f'{name} cannot be downloaded from {url} ({reason}): try again later, '
                         'or see whether kpsf.conf.archive_url is right.')
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
    place : str or None
        Where in the archive it was; None if it is not in the cache.
    path : Path or None
        Where it is; it was read and is good.
    """
    for place in file.places:
        try:
            path = Path(data.download_file(_url(place), cache=True, sources=[], pkgname='kpsf'))
        except KeyError:
            continue
        try:
            file.check(path)
        except (OSError, ValueError) as error:
            msg = f'{without_advice(error)}, in the cache: {file.name} is downloaded again.'
            warnings.warn(msg, AstropyUserWarning)
        else:
            return place, path
    return None, None


def download(file):
    """Download a file.

    Parameters
    ----------
    file : PRFFile
        The file.

    Returns
    -------
    place : str
        Where in the archive it was.
    path : Path
        Where it is, under a temporary name; it was read and is good.

    Raises
    ------
    ArchiveError
        If it did not come, or not whole, or if it is not what it should be.
    """
    if not data.conf.allow_internet:
        raise _failure(file, 'astropy.utils.data.conf.allow_internet is False', True)
    for place in file.places:
        url = _url(place)
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
            is_unreachable = (isinstance(reason, OSError)
                              and not isinstance(reason, FileNotFoundError))
            raise _failure(file, reason, is_unreachable) from error
        else:
            _check_download(file, path)
            return place, path
    raise _failure(file, refusal) from refusal


def _check_download(file, path):
    """Raise ArchiveError, and remove the file, unless it is what it should be."""
    try:
        file.check(path)
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
    return ArchiveError(file.name, _url(file.places[0]), str(reason), is_unreachable)


def keep_in_cache(file, place, path):
    """Move a downloaded file to the cache.

    Parameters
    ----------
    file : PRFFile
        The file.
    place : str
        Where in the archive it was.
    path : Path
        Where it is.

    Returns
    -------
    Path
        Where it is in the cache.

    Raises
    ------
    OSError
        If the cache cannot be written to.
    """
    try:
        return Path(data.import_file_to_cache(_url(place), str(path), remove_original=True,
                                              pkgname='kpsf'))
    except OSError as error:
        msg = (f'{file.name} cannot be kept in the cache ({error}): run `kpsf fetch-prf '
               f'{file.arguments} --outdir DIR` and add DIR to kpsf.conf.prf_path')
        raise OSError(msg) from error


def _url(place):
    """Return the address of a file in the archive."""
    base = conf.archive_url
    if not data.is_url(base):
        msg = ('kpsf.conf.archive_url must be an address such as https://archive.stsci.edu/'
               f'missions, but it is {base!r}: correct it, or list local folders in '
               'kpsf.conf.prf_path.')
        raise ValueError(msg)
    return f'{base.rstrip("/")}/{place}'
