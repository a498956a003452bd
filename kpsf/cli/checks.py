# Licensed under a 3-clause BSD style license - see LICENSE
"""Checks of arguments, before any work is done."""

import argparse
import math
import os
import sys
from pathlib import Path

__all__ = ['as_path', 'not_negative_number', 'odd', 'positive', 'positive_number', 'refuse',
           'require_absent', 'require_folder', 'require_outdir']


def as_path(text):
    """Return a path whose ``~``, which shells leave in ``--outdir=~/x``, is the home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f'{text!r} cannot be used ({error})') from None


def positive(text):
    """Return an integer of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f'an integer >= 1 is needed, but it is {text!r}')
    return number


def odd(text):
    """Return an odd integer of at least 1."""
    number = positive(text)
    if number % 2 == 0:
        raise argparse.ArgumentTypeError(f'an odd integer is needed, but it is {text!r}')
    return number


def positive_number(text):
    """Return a finite number above 0."""
    number = not_negative_number(text, '> 0')
    if number == 0:
        raise argparse.ArgumentTypeError(f'a number > 0 is needed, but it is {text!r}')
    return number


def not_negative_number(text, bound='>= 0'):
    """Return a finite number of at least 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f'a number {bound} is needed, but it is {text!r}')
    return number


def require_outdir(options):
    """Exit unless the folder of --outdir, or else the one to create it in, can be used."""
    folder = options.outdir
    require_folder(options, folder if folder.exists() else folder.parent)


def require_folder(options, folder):
    """Exit unless a folder exists and can be written to."""
    if folder.is_file():
        refuse(options, f'{folder} is a file: choose a folder')
    if not folder.is_dir():
        refuse(options, f'there is no folder {folder}: create it, or choose another')
    if not os.access(folder, os.W_OK):
        refuse(options, f'the folder {folder} is read-only: choose another')


def require_absent(path, options):
    """Raise if a file is there that may not be replaced."""
    if path.exists() and not options.overwrite:
        raise FileExistsError(f'{path} exists already: choose another name or pass --overwrite.')


def refuse(options, message):
    """Exit with status 2, before any work is done."""
    print(f'{options.prog}: {message}', file=sys.stderr)
    raise SystemExit(2)
