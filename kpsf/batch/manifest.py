# Licensed under a 3-clause BSD style license - see LICENSE
"""The manifest of a batch, a table, and its journal, which holds the rows until the end."""

import json
from contextlib import contextmanager
from importlib.util import find_spec

from astropy.table import Table

from .._files import write_whole
from .rows import as_row, as_table

try:
    import fcntl
except ImportError:
    # Windows: two runs at once are not noticed there.
    fcntl = None

__all__ = ['MANIFEST_SUFFIXES', 'Journal', 'journal_of', 'opened_journal', 'read_records',
           'require_manifest_suffix', 'write_manifest']

MANIFEST_SUFFIXES = {'.ecsv': 'ascii.ecsv', '.parquet': 'parquet'}


def require_manifest_suffix(path):
    """Raise unless a manifest of this name can be written."""
    if path.suffix not in MANIFEST_SUFFIXES:
        msg = (f'The name of a manifest must end in {" or ".join(MANIFEST_SUFFIXES)}, but it is '
               f'{path.name!r}: choose one of these.')
        raise ValueError(msg)
    if path.suffix == '.parquet' and find_spec('pyarrow') is None:
        msg = (f'A manifest in Parquet needs pyarrow, but it is not installed and the name is '
               f"{path.name!r}: pip install 'kpsf[parquet]', or end the name in .ecsv.")
        raise ImportError(msg)


def journal_of(manifest):
    """Return where the journal of a manifest is."""
    return manifest.with_name(f'{manifest.name}.journal')


def write_manifest(rows, manifest, meta):
    """Write rows as a table, whole or not at all, in the place of what was there."""
    with write_whole(manifest, overwrite=True) as temporary:
        as_table(rows, meta).write(temporary, format=MANIFEST_SUFFIXES[manifest.suffix])


def read_records(manifest):
    """Return all rows of a manifest and its journal, by output; the last one counts."""
    rows = [*_read_manifest(manifest), *_read_journal(journal_of(manifest))]
    return {row['output']: row for row in rows}


def _read_manifest(manifest):
    """Return the rows of a manifest; none if there is no such file."""
    if not manifest.exists():
        return []
    try:
        table = Table.read(manifest, format=MANIFEST_SUFFIXES[manifest.suffix])
        return [as_row(row) for row in table.filled('')]
    except Exception as error:
        msg = (f'resume needs the manifest of an earlier run, but {manifest} is none ({error}): '
               'choose another name, or remove it.')
        raise ValueError(msg) from error


def _read_journal(path):
    """Return the rows of a journal; lines that were not finished are left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_bytes().split(b'\n'):
        try:
            rows.append(as_row(json.loads(line)))
        except (KeyError, TypeError, ValueError):
            continue
    return rows


class Journal:
    """Rows in a file, one line of JSON each, that outlive the process."""

    def __init__(self, path):
        self._path = path
        # Unbuffered: a row is in the hands of the system when append returns.
        self._file = open(path, 'ab', buffering=0)

    def require_alone(self):
        """Raise if another process has this journal open; it is closed when a process dies."""
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = (f'A manifest is written by one run at a time, but another one has {self._path} '
                   'open: wait for it, or choose another manifest.')
            raise OSError(msg) from None
        except OSError:
            # A file system without locks.
            return

    def clear(self):
        """Forget all rows."""
        self._file.truncate(0)

    def append(self, row):
        """Add a row."""
        # It begins a line of its own, whatever a killed run left before it.
        self._file.write(f'\n{json.dumps(row)}\n'.encode())

    def remove(self):
        """Remove the file."""
        if fcntl is None:
            # Windows does not remove open files.
            self.close()
        self._path.unlink(missing_ok=True)

    def remove_if_empty(self):
        """Remove the file unless there are rows in it."""
        if self._path.exists() and not self._path.stat().st_size:
            self.remove()

    def close(self):
        """Close the file."""
        self._file.close()


@contextmanager
def opened_journal(manifest):
    """Yield the journal of a manifest, which no other run has."""
    journal = Journal(journal_of(manifest))
    try:
        journal.require_alone()
        try:
            yield journal
        finally:
            journal.remove_if_empty()
    finally:
        journal.close()
