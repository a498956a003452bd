# Licensed under a 3-clause BSD style license - see LICENSE
"""Options of the commands that say how light curves are made."""

import argparse
from pathlib import Path

from astropy.io.ascii import InconsistentTableError
from astropy.io.registry import IORegistryError
from astropy.table import Table

from ..scenes import Scene, find_stars, query_gaia
from ..tpf.missions import MISSIONS
from .checks import as_path, refuse

__all__ = ['add_extraction_options', 'fit_options', 'require_one_scene', 'require_prf_path',
           'require_shape']

QUALITIES = list(MISSIONS['Kepler'].quality_masks)


def add_extraction_options(parser):
    """Add the options that say how a light curve is made, which other commands have too."""
    parser.add_argument('--psf', default='gaussian', choices=['gaussian', 'empirical', 'prf'],
                        help='gaussian, whose shape is fitted; empirical, learned from the '
                        "series, usually the most precise for 16 cadences and more, compare; "
                        "or prf, the instrument's own, from files of "
                        'its archive that are downloaded unless they are in a local folder or '
                        'the cache (default: gaussian)')
    parser.add_argument('--stars', metavar='TABLE',
                        help='stars to fit jointly, one light curve each, for one FILE: a table '
                        'with columns x and y, column and row, or ra and dec, and perhaps name '
                        'and flux; or find, for those in the mean image, or gaia. Their '
                        'PSF is that of --psf, while Scene in Python has empirical by default')
    parser.add_argument('--prf-path', action='append', default=[], type=as_path, metavar='DIR',
                        help='local folder with PRF files, such as fetch-prf --outdir fills, to '
                        'search before those of kpsf.conf.prf_path; may be given more than once')
    parser.add_argument('--shape', default='shared', choices=['shared', 'free'],
                        help='one shape of the PSF for all cadences, or one for each, which prf '
                        'does not have (default: shared)')
    parser.add_argument('--background', choices=['known', 'fit'],
                        help="the file's background and one constant, or one constant per "
                        'cadence (default: known where the file has one and the shape is shared)')
    parser.add_argument('--quality', default='default', type=_quality, metavar='MASK',
                        help=f'cadences to drop: {", ".join(QUALITIES)}, or an '
                        'integer of quality bits (default: default)')


def _quality(text):
    """Return a quality setting, a name or an integer."""
    if text in QUALITIES:
        return text
    try:
        bits = int(text, 0)
    except ValueError:
        bits = -1
    if bits < 0:
        raise argparse.ArgumentTypeError(f'{", ".join(QUALITIES)} or an integer '
                                         f'>= 0 is needed, but it is {text!r}')
    return bits


def fit_options(options, pixels=None):
    """Return the options of `extract_light_curve`; those of a scene need the pixels."""
    if options.stars is not None:
        scene = Scene(_stars(options.stars, pixels), options.psf, background=options.background)
        return {'scene': scene}
    return {'psf': options.psf, 'shape': options.shape, 'background': options.background,
            'n_threads': options.threads}


def _stars(name, pixels):
    """Return the stars of a scene: found, asked for, or from a file."""
    if name == 'find':
        return find_stars(pixels)
    if name == 'gaia':
        return query_gaia(pixels)
    if not Path(name).is_file():
        raise FileNotFoundError(f'--stars needs find, gaia or a table, but there is no file '
                                f'{name}: check the name and the folder.')
    try:
        return Table.read(Path(name).expanduser())
    except (IORegistryError, ValueError, InconsistentTableError) as error:
        raise ValueError(f'--stars needs a table that astropy reads, such as ECSV or CSV, but '
                         f'{name} is none ({error}): write it as one.') from error


def require_shape(options):
    """Exit unless the PSF can have the shape that is asked for."""
    if options.psf != 'gaussian' and options.shape == 'free':
        known = 'known' if options.psf == 'prf' else 'learned'
        refuse(options, f'--shape free is for a shape that is fitted, but that of --psf '
               f'{options.psf} is {known}: leave --shape out, or use --psf gaussian')


def require_one_scene(options):
    """Exit if stars are to be fitted jointly in a way that has no meaning."""
    if options.stars is None:
        return
    if len(getattr(options, 'files', [])) > 1:
        refuse(options, f'--stars is for one file, but there are {len(options.files)}: run them '
               'one by one')
    if options.shape != 'shared':
        refuse(options, '--shape free is for one star, but --stars makes a scene: leave out one '
               'of them')


def require_prf_path(options):
    """Exit unless the folders of --prf-path exist and are of use."""
    if options.prf_path and options.psf != 'prf':
        refuse(options, f'--prf-path is for --psf prf, but the PSF is {options.psf}: add '
               '--psf prf, or leave --prf-path out')
    for folder in options.prf_path:
        if not folder.is_dir():
            found = f'{folder} is a file' if folder.exists() else f'there is no folder {folder}'
            refuse(options, f'{found}: --prf-path needs a folder with PRF files')
