# Licensed under a 3-clause BSD style license - see LICENSE
"""PRF files fetched before they are needed, into the cache or into a folder."""

import shutil
from pathlib import Path
from typing import NamedTuple

from .._files import write_whole
from .archive import find_local
from .download import download, find_cached, keep_in_cache, without_advice

__all__ = ['FetchedFile', 'fetch_prf']


class FetchedFile(NamedTuple):
    """What `fetch_prf` did.

    Parameters
    ----------
    path : Path
        The file.
    is_new : bool
        Whether it was put there now.
    is_cached : bool
        Whether it is in the cache.
    """

    path: Path
    is_new: bool
    is_cached: bool


def fetch_prf(file, *, outdir=None, overwrite=False):
    """Fetch a PRF file into the cache, or into a folder laid out like the archive.

    Parameters
    ----------
    file : PRFFile
        The file, as `kepler_prf_file`, `tess_prf_files` or `prf_files_of`
        describe it.
    outdir : path-like, optional
        Folder, which can be listed in ``kpsf.conf.prf_path`` afterwards. By
        default the file goes to the cache, unless it is in one of the
        folders listed there already.
    overwrite : bool, optional
        Whether to download the file even if it is there.

    Returns
    -------
    FetchedFile
        Where it is, and whether it was put there now.

    Raises
    ------
    ArchiveError
        If it cannot be downloaded.
    OSError
        If it cannot be written.
    ValueError
        If it is there, but damaged.
    TypeError
        If ``kpsf.conf.prf_path`` lists something else than names of folders.

    Examples
    --------
    >>> from kpsf.prf import fetch_prf, kepler_prf_file
    >>> fetched = fetch_prf(kepler_prf_file(20), outdir='prf')  # doctest: +SKIP
    """
    if outdir is not None:
        return _fetch_into(Path(outdir).expanduser(), file, overwrite)
    if not overwrite:
        found = find_local(file) or find_cached(file)
        if found is not None:
            return FetchedFile(found.path, is_new=False, is_cached=found.location is not None)
    return FetchedFile(keep_in_cache(file, download(file)).path, is_new=True, is_cached=True)


def _fetch_into(outdir, file, overwrite):
    """Put a file into a folder; return `FetchedFile`."""
    present = file.find_in(outdir)
    if present is not None and not overwrite:
        _require_good(file, present)
        return FetchedFile(present, is_new=False, is_cached=False)
    cached = None if overwrite else find_cached(file)
    source = cached or download(file)
    target = present or outdir / source.location
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(target, overwrite) as temporary:
            shutil.copyfile(source.path, temporary)
    finally:
        if cached is None:
            source.path.unlink()
    return FetchedFile(target, is_new=True, is_cached=False)


def _require_good(file, path):
    """Raise ValueError unless a file that is in the folder already is good."""
    try:
        file.read(path)
    except ValueError as error:
        msg = f'{without_advice(error)}: replace it with overwrite (--overwrite in a shell).'
        raise ValueError(msg) from error
