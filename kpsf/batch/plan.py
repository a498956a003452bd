# Licensed under a 3-clause BSD style license - see LICENSE
"""What a batch is to do: checked before any work is done."""

import os
from pathlib import Path
from typing import NamedTuple

from .._configuration import conf
from .._files import stem_of
from .cluster import require_distributed
from .manifest import require_manifest_suffix
from .options import complete, digest, require_picklable
from .work import Settings

__all__ = ['Plan', 'output_of', 'plan_batch', 'require_distinct']

MANIFEST = 'manifest.ecsv'


class Plan(NamedTuple):
    """A batch that has been checked: absolute names, and what to do with them."""

    paths: list
    outputs: list
    outdir: Path
    manifest: Path
    resume: bool
    overwrite: bool
    settings: Settings
    n_workers: int
    scheduler: object


def plan_batch(paths, outdir, *, n_workers, scheduler, resume, overwrite, manifest, quality,
               options):
    """Return the plan of a batch; raise if it cannot work."""
    if isinstance(paths, (str, os.PathLike)) and os.path.isdir(paths):
        raise TypeError(f'extract_many needs a list of files, but found the folder {paths!r}: '
                        "pass those in it, as in sorted(Path(folder).glob('*.fits*')).")
    if isinstance(paths, (str, bytes, os.PathLike)):
        raise TypeError(f'extract_many needs a list of files, but found {paths!r}: pass [path].')
    if n_workers < 1:
        raise ValueError(f'n_workers must be >= 1, but it is {n_workers}: pass the number of '
                         'processes.')
    paths = list(paths)
    strange = [path for path in paths if not isinstance(path, (str, os.PathLike))]
    if strange:
        raise TypeError('extract_many needs the names of files, but one of them is '
                        f'{type(strange[0]).__name__}: pass its path, or use '
                        'extract_light_curve for what is not in a file.')
    paths, outdir = [_absolute(path) for path in paths], _absolute(outdir)
    if not paths:
        raise ValueError('extract_many needs at least one file, but paths is empty: check the '
                         'pattern and the folder.')
    outputs = [output_of(path, outdir) for path in paths]
    require_distinct(paths, outputs)
    manifest = outdir / MANIFEST if manifest is None else _absolute(manifest)
    require_manifest_suffix(manifest)
    options, is_local = complete(options), n_workers == 1 and scheduler is None
    if not is_local:
        require_picklable(options)
    if scheduler is not None:
        require_distributed()
    settings = Settings(quality, options, digest(quality, options),
                        None if is_local else {name: getattr(conf, name) for name in conf.keys()})
    return Plan(paths, outputs, outdir, manifest, resume, overwrite, settings, n_workers,
                scheduler)


def output_of(path, outdir):
    """Return the name of the light curve of a file in a folder."""
    return Path(outdir) / f'{stem_of(Path(path))}-lightcurve.fits'


def require_distinct(paths, outputs):
    """Raise if two files would be written to one, or a file would replace its source."""
    sources = {}
    for path, output in zip(paths, outputs):
        target = output.resolve()
        if target in sources:
            raise ValueError(f'{sources[target]} and {path} would both be written to {output}: '
                             'run them with different outdir')
        sources[target] = path
    for path in paths:
        if path.resolve() in sources:
            raise ValueError(f'{path} would be read and written: choose another output')


def _absolute(path):
    """Return a path that means the same in any process."""
    return Path(os.path.abspath(Path(path).expanduser()))
