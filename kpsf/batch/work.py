# Licensed under a 3-clause BSD style license - see LICENSE
"""What is done for one file, wherever that is: its light curve is written, a row comes back."""

import os
import time
import warnings
from pathlib import Path
from typing import NamedTuple

from astropy.utils.exceptions import AstropyUserWarning

from .. import __version__
from .._configuration import conf
from .._files import header_value, open_fits
from ..lightcurve import LightCurve, SceneLightCurves, extract_light_curve
from ..lightcurve.files import SCENE_CREATOR
from ..tpf import read_tpf
from .rows import describe_error, new_row, summarize

__all__ = ['Job', 'Settings', 'is_output_of', 'make_row']


class Job(NamedTuple):
    """One file to work on, and what may be done with an output that is there.

    It may be adopted if it is what would be made, because an attempt that was
    killed may have come that far.
    """

    index: int
    path: str
    output: str
    may_adopt: bool
    may_replace: bool


class Settings(NamedTuple):
    """What all files have in common; ``configuration`` is for other processes."""

    quality: object
    options: dict
    digest: str
    configuration: dict | None


def make_row(job, settings):
    """Make and write the light curve of one file; return its row, whatever happens."""
    begin = time.perf_counter()
    row = new_row(job.path, job.output, settings.digest)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always', AstropyUserWarning)
        try:
            _configure(settings.configuration)
            _fill(row, job, settings)
        except Exception as error:
            row |= {'status': 'failed', 'error': describe_error(error)}
    row['warnings'] = '; '.join(' '.join(str(warning.message).split()) for warning in caught)
    row['seconds'] = time.perf_counter() - begin
    return row


def is_output_of(output, sha256, digest):
    """Tell whether a file is whole and the light curve of these pixels with these options."""
    try:
        with open_fits(output, 'A light curve of kpsf') as hdulist:
            header = hdulist[0].header
            return (header_value(header, 'TPFSHA', str) == sha256
                    and header_value(header, 'OPTDIGES', str) == digest)
    except (OSError, ValueError):
        return False


def _configure(configuration):
    """Set kpsf.conf as it is where the run was started.

    For good: set_temp in one thread of a cluster's worker would undo what
    another has set.
    """
    for name, value in (configuration or {}).items():
        if getattr(conf, name) != value:
            setattr(conf, name, value)


def _fill(row, job, settings):
    """Make and write a light curve unless it is there, and complete its row."""
    exists = Path(job.output).exists()
    if exists and not (job.may_adopt or job.may_replace):
        raise _existing(job.output)
    pixels = read_tpf(job.path, quality=settings.quality)
    row |= _fingerprint(job.path, pixels.meta['checksum'])
    light_curve = None
    if exists and job.may_adopt:
        light_curve = _read_own(job.output, row['sha256'], settings.digest)
    if light_curve is None:
        if exists and not job.may_replace:
            raise _existing(job.output)
        light_curve = extract_light_curve(pixels, **settings.options)
        light_curve.meta |= {'options_digest': settings.digest}
        light_curve.write(job.output, overwrite=job.may_replace)
    row |= summarize(pixels, light_curve)


def _existing(output):
    """Return the exception that tells of an output that may not be replaced."""
    return FileExistsError(f'A new file is needed for the light curve, but {output} exists '
                           'already: choose another folder or pass overwrite.')


def _fingerprint(path, checksum):
    """Return size, time and checksum of a file."""
    state = os.stat(path)
    return {'size': state.st_size, 'mtime_ns': state.st_mtime_ns, 'sha256': checksum}


def _read_own(output, sha256, digest):
    """Return the light curve of these pixels with these options and this version, or None."""
    if not is_output_of(output, sha256, digest):
        return None
    with open_fits(output, 'A light curve of kpsf') as hdulist:
        is_scene = header_value(hdulist[0].header, 'CREATOR', str) == SCENE_CREATOR
    light_curve = (SceneLightCurves if is_scene else LightCurve).read(output)
    return light_curve if light_curve.meta['kpsf_version'] == __version__ else None
