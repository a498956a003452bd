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

__all__ = ['report', 'run_jobs']


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
    n_done = n_failed = 0
    hopeless = set()
    # A bar of one step would tell nothing.
    steps = sys.stderr if len(jobs) > 1 else StringIO()
    with _Bar(len(jobs), steps) as bar:
        for name, group, job in jobs:
            if group in hopeless:
                continue
            try:
                with _warnings_named(name, bar):
                    line = job()
            except Exception as error:
                n_failed += 1
                bar.make_room()
                report(error, options, name)
                if isinstance(error, ArchiveError):
                    hopeless.add(group)
                    if error.is_unreachable:
                        break
            else:
                n_done += 1
                bar.make_room()
                print(line, flush=True)
            bar.update()
    if n_failed and len(jobs) > 1:
        n_left = len(jobs) - n_done - n_failed
        rest = f', {n_left} were not tried' if n_left else ''
        print(f'{options.prog}: {n_failed} of {len(jobs)} files failed{rest}', file=sys.stderr)
    return len(jobs) - n_done


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
def _warnings_named(path, bar):
    """Turn warnings into lines that name the file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always', AstropyUserWarning)
        try:
            yield
        finally:
            if caught:
                bar.make_room()
            for warning in caught:
                print(f'kpsf: warning: {_with_name(path, warning.message)}', file=sys.stderr)


def report(error, options, path=None):
    """Say in one line what went wrong; with --debug, also where."""
    if getattr(options, 'debug', False):
        traceback.print_exception(error)
    text = str(error)
    if not isinstance(error, (OSError, ValueError)) or not text:
        text = f'{type(error).__name__}: {text} (run with --debug to see where)'
    print(f'{getattr(options, "prog", "kpsf")}: error: {_with_name(path, text)}', file=sys.stderr)


def _with_name(path, message):
    """Return a message in one line that names the file."""
    text = ' '.join(str(message).split())
    return text if path is None or str(path) in text else f'{path}: {text}'
