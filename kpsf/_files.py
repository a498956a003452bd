# Licensed under a 3-clause BSD style license - see LICENSE
"""Files: opened complete or not at all, written whole or not at all."""

import os
import re
import secrets
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

__all__ = ['DAMAGE', 'damaged', 'header_value', 'open_fits', 'remove_temporaries', 'stem_of',
           'write_whole']

# What astropy and the decompressors raise when bytes are missing or wrong.
DAMAGE = (OSError, EOFError, IndexError, TypeError, ValueError, zlib.error)
COMPRESSED = (b'\x1f\x8b', b'BZh', b'PK\x03\x04', b'\xfd7zXZ')
FITS_SUFFIXES = ('.fits.gz', '.fit.gz', '.fits.fz', '.fits', '.fit')
# What write_whole calls a file until it is whole.
TEMPORARY = re.compile(r'\.[0-9a-f]{8}-(?P<name>.+)', re.DOTALL)


@contextmanager
def open_fits(path, wanted, check=None):
    """Open a FITS file that is complete, compressed or not, and close it afterwards.

    ``wanted`` says in an error what was required, for example 'A target
    pixel file'; ``check`` raises if the primary header is that of another file,
    of which it does not matter whether it is complete. Damage in compressed
    data shows only when they are read: see `damaged`.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise IsADirectoryError(f'{wanted} is needed, but {path} is a folder: pass a file in it.')
    is_plain = _starts_as_fits(path, wanted)
    if check is not None:
        with _opened(path) as hdulist:
            check(hdulist[0].header)
    with _opened(path, path.stat().st_size if is_plain else np.inf) as hdulist:
        yield hdulist


@contextmanager
def _opened(path, size=None):
    """Open a FITS file, and close it; with a size, only if it is complete."""
    hdulist = None
    # Damage is named below; astropy's warnings about the same would only come first.
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', AstropyUserWarning)
        try:
            hdulist = fits.open(path)
            if size is not None:
                _require_all_extensions(hdulist, size)
        except DAMAGE as error:
            if hdulist is not None:
                hdulist.close()
            raise damaged(path, error) from error
    with hdulist:
        yield hdulist


def damaged(name, error):
    """Return the exception that tells of a damaged file."""
    return ValueError(f'{name} must be a complete FITS file, but it is truncated or damaged '
                      f'({error}): download it again.')


def header_value(header, key, kind):
    """Return a header value as ``kind``, None where it is empty, undefined or something else."""
    value = header.get(key)
    if value is None or isinstance(value, fits.card.Undefined):
        return None
    try:
        value = value.strip() or None if kind is str else kind(value)
    except (AttributeError, TypeError, ValueError):
        return None
    return None if isinstance(value, float) and not np.isfinite(value) else value


@contextmanager
def write_whole(path, overwrite=False):
    """Yield a temporary name to write to, and move that file to ``path`` at the end.

    Under ``path`` there is either the whole file or what was there before,
    also when writing fails or the process dies. The temporary name has the
    same ending, because writers choose the format by it.
    """
    path = Path(path).expanduser()
    if path.exists() and not overwrite:
        msg = (f'A new file is needed for the output, but {path} exists already: choose another '
               'name or pass overwrite=True.')
        raise FileExistsError(msg)
    if path.is_dir() or not path.parent.is_dir():
        found = f'{path} is a folder' if path.is_dir() else f'there is no folder {path.parent}'
        msg = (f'The output needs a file name in an existing folder, but {found}: choose another '
               'name or create the folder.')
        raise OSError(msg)
    if not os.access(path.parent, os.W_OK):
        msg = (f'The output needs a folder where you may write, but {path.parent} is read-only: '
               'choose another one.')
        raise PermissionError(msg)
    temporary = path.with_name(f'.{secrets.token_hex(4)}-{path.name}')
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(paths):
    """Remove what `write_whole` left behind of files when the process was killed.

    Nothing else may be writing these files.
    """
    names = {}
    for path in paths:
        names.setdefault(Path(path).parent, set()).add(Path(path).name)
    for folder, wanted in names.items():
        for found in os.listdir(folder) if folder.is_dir() else ():
            temporary = TEMPORARY.fullmatch(found)
            if temporary and temporary['name'] in wanted:
                (folder / found).unlink(missing_ok=True)


def stem_of(path):
    """Return the name of a FITS file without its ending."""
    for suffix in FITS_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[:-len(suffix)]
    return path.name


def _starts_as_fits(path, wanted):
    """Raise unless a file begins as FITS does; return whether it is uncompressed."""
    if not path.exists():
        msg = f'{wanted} is needed, but there is no file {path}: check the name and the folder.'
        raise FileNotFoundError(msg)
    with open(path, 'rb') as file:
        start = file.read(9)
    if start == b'SIMPLE  =':
        return True
    if start.startswith(COMPRESSED):
        return False
    found = f'begins with {start!r}' if start else 'is empty'
    msg = f'{wanted} is needed, but {path} {found} and is no FITS file: pass another file.'
    raise ValueError(msg)


def _require_all_extensions(hdulist, size):
    """Raise EOFError if extensions are missing or data end beyond the size of the file."""
    n_extensions = len(hdulist) - 1
    promised = header_value(hdulist[0].header, 'NEXTEND', int) or 0
    if n_extensions < promised:
        msg = f'{n_extensions} of {promised} extensions are there'
        raise EOFError(msg)
    info = hdulist[-1].fileinfo()
    end = info['datLoc'] + info['datSpan']
    if end > size:
        msg = f'{size} of at least {end} bytes are there'
        raise EOFError(msg)
