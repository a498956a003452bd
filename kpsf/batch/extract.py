# Licensed under a 3-clause BSD style license - see LICENSE
"""`extract_many`: light curves of many target pixel files."""

import sys
from io import StringIO

from astropy.utils.console import ProgressBar

from .plan import plan_batch
from .run import run_batch

__all__ = ['extract_many']


def extract_many(paths, outdir='.', *, n_workers=1, scheduler=None, resume=False,
                 overwrite=False, manifest=None, quality='default', progress_bar=False,
                 **options):
    """Make the light curves of many target pixel files, and a table about them.

    Each file becomes ``<name>-lightcurve.fits``, written by whoever made it,
    whole or not at all. A file that fails is a row that says why, and the
    others go on. A run that ended early, in whatever way, goes on with
    ``resume=True``.

    Parameters
    ----------
    paths : list of str or path-like
        The files, in the order of the table.
    outdir : str or path-like, optional
        Folder for the light curves, created if it is not there.
    n_workers : int, optional
        Processes of this machine. One, the default, works in this process.
        More need a script to have its calls below
        ``if __name__ == '__main__':``. Each holds one file at a time and has
        one thread for linear algebra. A file whose process is killed is
        tried once more in a fresh one.
    scheduler : str or `~distributed.Client`, optional
        Address or client of a Dask cluster that does the work instead, which
        needs kpsf and the same folders on its machines, and better has
        workers of one thread each. ``pip install 'kpsf[cluster]'``.
    resume : bool, optional
        Whether to go on: files whose light curve is there whole, made from
        the same pixels with the same options, are left as they are. All
        others are made, in the place of what an earlier run wrote.
    overwrite : bool, optional
        Whether to replace any files. Otherwise, a file whose light curve is
        there fails, and a manifest that is there raises.
    manifest : str or path-like, optional
        The table, ``outdir/manifest.ecsv`` by default. Ending in
        ``.parquet``, it is written as such (``pip install 'kpsf[parquet]'``).
    quality : {'none', 'default', 'hard', 'hardest'} or int, optional
        Cadences to drop, see `read_tpf`.
    progress_bar : bool, optional
        Whether to show one on a terminal.
    **options : dict, optional
        Options of `extract_light_curve`, the same for all files.

    Returns
    -------
    `~astropy.table.Table`
        One row per file, in the order of ``paths``. ``status`` is 'done';
        'flagged', if any cadence is; or 'failed', for the reason in
        ``error``. ``scatter_ppm`` and ``aperture_scatter_ppm`` are the
        point-to-point scatters of the light curve and of the sum over the
        pipeline's aperture in cadences without flags, NaN if these are
        fewer than ten; ``median_flux`` the flux there, ``error_ppm`` and
        ``error_over_scatter`` the median of ``flux_err`` over that flux and
        over the scatter. ``sha256`` is the checksum of the input, ``options`` a
        digest of the options, which ``meta`` has in full.

    Raises
    ------
    ValueError
        If there are no paths, two would be written to one light curve or one
        over an input, the manifest has another ending, or ``n_workers`` is
        below 1.
    TypeError
        If ``paths`` is no list, an option is unknown, or cannot be sent to
        other processes.
    FileExistsError
        If there is a manifest or a journal and neither ``resume`` nor
        ``overwrite``.
    OSError
        If the folder cannot be used, or another run has the manifest.
    ImportError
        If a scheduler or Parquet needs a package that is not installed.
    RuntimeError
        If processes cannot be started.

    See Also
    --------
    extract_light_curve : What is done with each file.

    Notes
    -----
    While it runs, rows are lines of JSON in a journal beside the manifest,
    which is written from it at the end, also after Ctrl-C. After a kill, the
    journal and the light curves themselves, whose headers tell the checksum
    of the input and the digest of the options, are what ``resume=True`` goes
    by. Rows of earlier files that are not among ``paths`` stay in the
    manifest, behind the others.

    Examples
    --------
    >>> from kpsf import extract_many, simulate_tpf
    >>> paths = [simulate_tpf(f'star{n}.fits', n_cadences=50, seed=n) for n in (1, 2)]
    >>> table = extract_many([*paths, 'star3.fits'], 'curves')
    >>> print(*table['status'])
    done done failed
    >>> print(table['error'][2][:44])
    A target pixel file is needed, but there is
    >>> again = extract_many([*paths, simulate_tpf('star3.fits', seed=3)], 'curves', resume=True)
    >>> print(*again['status'])
    done done done
    """
    plan = plan_batch(paths, outdir, n_workers=n_workers, scheduler=scheduler, resume=resume,
                      overwrite=overwrite, manifest=manifest, quality=quality, options=options)
    with ProgressBar(len(plan.outputs), file=sys.stderr if progress_bar else StringIO()) as bar:
        return run_batch(plan, lambda row, is_new: bar.update())
