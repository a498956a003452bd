# Licensed under a 3-clause BSD style license - see LICENSE
"""The command `kpsf`: light curves, stars of images, guidance, checks, PRF files, a demo."""

import argparse
import os
import sys

from .. import __version__
from . import advise, check_signal, demo, fetch, lightcurve, photometry
from .terminal import report

__all__ = ['main']


def main(argv=None):
    """Run the command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit status: 0; 1 if something failed; 2 if the call was wrong; 130
        after Ctrl-C.
    """
    options = None
    try:
        options = _parser().parse_args(argv)
        return options.run(options)
    except SystemExit as error:
        return error.code or 0
    except KeyboardInterrupt:
        print('kpsf: interrupted', file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone; Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        report(error, options)
        return 1


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message):
        """Exit with status 2."""
        self.exit(2, f'{self.prog}: {message} (see {self.prog} --help)\n')


def _parser():
    """Return the parser of all commands."""
    parser = _Parser(prog='kpsf', description='PSF photometry with the Poisson likelihood.')
    parser.add_argument('--version', action='version', version=f'kpsf {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    lightcurve.add(commands)
    photometry.add(commands)
    advise.add(commands)
    check_signal.add(commands)
    fetch.add(commands)
    demo.add(commands)
    return parser
