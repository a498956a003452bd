# Licensed under a 3-clause BSD style license - see LICENSE
"""What the commands say: lines of text, errors and warnings among them, and a progress bar."""

import sys
import traceback
import warnings
from contextlib import contextmanager
from io import StringIO

from astropy.utils.console import ProgressBar
from astropy.utils.exceptions import AstropyUserWarning

from ..prf.download import ArchiveError

__all__ = ['Report', 'report', 'run_jobs', 'tell_error']


def run_jobs(options, jobs):
    """Do one job after the other, with a line or an error for each.

    After an `ArchiveError` the rest of the group would fail alike and is not
    tried; if the archive cannot be reached, nothing more is.

    Parameters
    ----------
    options : argparse.Namespace
        Options of the command.
    jobs : list of tuple
        Name of a file for messages, group, and a function that does the job
        and returns a line to print.

    Returns
    -------
    int
        How many were not done.
    """
    hopeless = set()
    with Report(options, len(jobs)) as told:
        for name, group, job in jobs:
            if group in hopeless:
                continue
            try:
                with _warnings_named(name, told):
                    line = job()
            except Exception as error:
                with told.step(failed=True):
                    report(error, options, name)
                if isinstance(error, ArchiveError):
                    hopeless.add(group)
                    if error.is_unreachable:
                        break
            else:
                with told.step():
                    print(line, flush=True)
    return told.n_left


class Report:
    """Lines about many jobs beside a progress bar, and at the end how many failed.

    Parameters
    ----------
    options : argparse.Namespace
        Options of the command.
    n_jobs : int
        How many jobs there are.
    """

    def __init__(self, options, n_jobs):
        self._prog = options.prog
        self._n_jobs = n_jobs
        self._n_done = self._n_failed = 0
        # A bar of one step would tell nothing.
        self._bar = _Bar(n_jobs, sys.stderr if n_jobs > 1 else StringIO())

    @property
    def n_left(self):
        """How many jobs are not done."""
        return self._n_jobs - self._n_done

    def __enter__(self):
        self._bar.__enter__()
        return self

    def __exit__(self, kind, *error):
        self._bar.__exit__(kind, *error)
        if kind is None and self._n_failed and self._n_jobs > 1:
            n_left = self.n_left - self._n_failed
            rest = f', {n_left} were not tried' if n_left else ''
            print(f'{self._prog}: {self._n_failed} of {self._n_jobs} files failed{rest}',
                  file=sys.stderr)

    @contextmanager
    def step(self, failed=False):
        """Count a job that is done or has failed; lines about it are printed within."""
        self._bar.make_room()
        yield
        self._n_failed += failed
        self._n_done += not failed
        self._bar.update()

    def warn(self, path, message):
        """Print a warning that names the file."""
        self._bar.make_room()
        print(f'kpsf: warning: {_with_name(path, message)}', file=sys.stderr)


class _Bar(ProgressBar):
    """A progress bar on standard error that lets lines of text pass."""

    def __init__(self, n_steps, stream):
        super().__init__(n_steps, file=stream)
        self._stream = stream

    def make_room(self):
        """Clear the line of the bar; the next update draws it again."""
        if self._stream.isatty():
            self._stream.write('\r\x1b[2K')
            self._stream.flush()


@contextmanager
def _warnings_named(path, told):
    """Turn warnings into lines that name the file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always', AstropyUserWarning)
        try:
            yield
        finally:
            for warning in caught:
                told.warn(path, warning.message)


def report(error, options, path=None):
    """Say in one line what went wrong; with --debug, also where."""
    if getattr(options, 'debug', False):
        traceback.print_exception(error)
    text = str(error)
    if not isinstance(error, (OSError, ValueError)) or not text:
        text = f'{type(error).__name__}: {text} (run with --debug to see where)'
    tell_error(text, options, path)


def tell_error(text, options, path=None):
    """Print an error that names the file."""
    print(f'{getattr(options, "prog", "kpsf")}: error: {_with_name(path, text)}', file=sys.stderr)


def _with_name(path, message):
    """Return a message in one line that names the file."""
    text = ' '.join(str(message).split())
    return text if path is None or str(path) in text else f'{path}: {text}'
