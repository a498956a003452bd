# Licensed under a 3-clause BSD style license - see LICENSE
"""`kpsf fetch-prf`: PRF files of Kepler and TESS, before they are needed."""

import warnings
from functools import partial
from pathlib import Path

from astropy.utils.exceptions import AstropyUserWarning

from ..prf import fetch_prf, kepler_prf_file, prf_files_of, tess_prf_files
from ..prf.archive import require_local_folders
from ..prf.channels import module_output_to_channel
from ..tpf import read_tpf
from .checks import as_path, refuse, require_outdir
from .terminal import report, run_jobs

__all__ = ['add']

DETECTORS = [('channel',), ('module', 'output'), ('camera', 'ccd', 'sector')]


def add(commands):
    """Add `kpsf fetch-prf`."""
    parser = commands.add_parser(
        'fetch-prf', help='fetch PRF files of Kepler and TESS from their archive',
        description='Fetch the PRF files of a Kepler or K2 channel (one of 6 to 12 MB), of a '
        'TESS CCD (25 of 0.2 MB), or those that target pixel files need, into the cache of kpsf '
        'or into a folder.',
        epilog='A folder filled with --outdir serves where there is no network: name it in '
        'kpsf.conf.prf_path, or in --prf-path of kpsf lightcurve.')
    parser.set_defaults(run=_run, prog=parser.prog)
    parser.add_argument('files', nargs='*', type=Path, metavar='FILE',
                        help='target pixel file, whose header tells the channel, or the CCD and '
                        'the position on it')
    parser.add_argument('--channel', type=int, metavar='N', help='Kepler channel, 1 to 84')
    parser.add_argument('--module', type=int, metavar='M', help='Kepler module, with --output')
    parser.add_argument('--output', type=int, metavar='O', help='Kepler output, 1 to 4')
    parser.add_argument('--camera', type=int, metavar='C',
                        help='TESS camera, 1 to 4, with --ccd and --sector')
    parser.add_argument('--ccd', type=int, metavar='D', help='TESS CCD, 1 to 4')
    parser.add_argument('--sector', type=int, metavar='S',
                        help='TESS sector: 1 to 3 share their files, and so do all later ones')
    parser.add_argument('--outdir', type=as_path, metavar='DIR',
                        help="folder to fill in the archive's layout, created if it is not there "
                        '(default: the cache)')
    parser.add_argument('--overwrite', action='store_true',
                        help='download again what is there already')
    parser.add_argument('--debug', action='store_true', help='show where errors come from')


def _run(options):
    """Fetch one file after the other; return the exit status."""
    files = _named_files(options)
    if options.outdir is not None:
        require_outdir(options)
    else:
        require_local_folders()
    n_failed = 0
    for path in options.files:
        try:
            files += _files_for(path)
        except Exception as error:
            n_failed += 1
            report(error, options, path)
    jobs = [(file.name, tuple(file.detector.items()), partial(_fetch, file, options))
            for file in {file.locations: file for file in files}.values()]
    n_failed += run_jobs(options, jobs)
    return 1 if n_failed else 0


def _named_files(options):
    """Return the PRF files that the options name; exit if they name none or half of one."""
    files = []
    for names in DETECTORS:
        values = [getattr(options, name) for name in names]
        missing = [f'--{name}' for name, value in zip(names, values) if value is None]
        if len(missing) == len(names):
            continue
        if missing:
            refuse(options, f'{" and ".join(missing)} must come with '
                   f'{" and ".join(f"--{name}" for name in names if f"--{name}" not in missing)}')
        try:
            files += _files_of(names, values)
        except ValueError as error:
            refuse(options, error)
    if not files and not options.files:
        refuse(options, 'a FILE, --channel, --module and --output, or --camera, --ccd and '
               '--sector must say which files to fetch')
    return files


def _files_of(names, values):
    """Return the PRF files of a detector."""
    if names == ('camera', 'ccd', 'sector'):
        return tess_prf_files(*values)
    return [kepler_prf_file(*values if names == ('channel',)
                            else [module_output_to_channel(*values)])]


def _files_for(path):
    """Return the PRF files that a target pixel file needs."""
    # Warnings about the pixels do not matter here.
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', AstropyUserWarning)
        return prf_files_of(read_tpf(path, quality='none'))


def _fetch(file, options):
    """Fetch a file; return a line about it."""
    fetched = fetch_prf(file, outdir=options.outdir, overwrite=options.overwrite)
    where = 'the cache' if fetched.is_cached else fetched.path
    return f'{file.name} -> {where}' + ('' if fetched.is_new else ' (there already)')
