# Licensed under a 3-clause BSD style license - see LICENSE
"""What is planned is done, here, on processes or on a cluster, and recorded."""

import json
from contextlib import closing
from functools import partial

from .. import __version__
from .._files import remove_temporaries
from ..prf.download import asking_once
from .cluster import run_on_cluster
from .manifest import journal_of, opened_journal, read_records, write_manifest
from .options import describe
from .processes import run_in_processes
from .rows import FINISHED, as_table, new_row
from .work import Job, is_output_of, make_row

__all__ = ['run_batch']


def run_batch(plan, tell):
    """Do what is planned; call ``tell(row, is_new)`` for each row as it is there."""
    _require_folders(plan)
    _require_new(plan)
    with opened_journal(plan.manifest) as journal, asking_once():
        records = _begin(plan, journal)
        rows = {}
        for index, row in _finished(plan, records):
            rows[index] = row
            tell(row, False)
        try:
            with closing(_results(plan, _jobs(plan, rows, records))) as results:
                for job, row in results:
                    journal.append(row)
                    rows[job.index] = row
                    tell(row, True)
        finally:
            rows = [rows[index] for index in sorted(rows)]
            _end(plan, journal, rows, records)
    return as_table(rows, _meta(plan))


def _require_folders(plan):
    """Create the folder of the light curves; raise if that or another one is missing."""
    if not plan.outdir.parent.is_dir():
        msg = (f'outdir is created in an existing folder, but there is none {plan.outdir.parent}: '
               'create it, or choose another.')
        raise FileNotFoundError(msg)
    plan.outdir.mkdir(exist_ok=True)
    if not plan.manifest.parent.is_dir():
        msg = (f'A manifest needs an existing folder, but there is none {plan.manifest.parent}: '
               'create it, or choose another.')
        raise FileNotFoundError(msg)


def _require_new(plan):
    """Raise if an earlier run left a manifest or journal, and nothing says what to do with it."""
    if plan.resume or plan.overwrite:
        return
    for path in (plan.manifest, journal_of(plan.manifest)):
        if path.exists():
            msg = (f'A new manifest is needed, but an earlier run left {path}: pass resume=True '
                   'to go on with that run, overwrite=True to replace it, or another manifest.')
            raise FileExistsError(msg)


def _begin(plan, journal):
    """Return the rows of earlier runs to go on with, by output, after tidying up."""
    if plan.resume:
        records = read_records(plan.manifest)
        remove_temporaries([*plan.outputs, plan.manifest])
        return records
    # Rows of what is about to be replaced would count as done if this run were killed.
    plan.manifest.unlink(missing_ok=True)
    journal.clear()
    return {}


def _finished(plan, records):
    """Yield index and row of the inputs whose light curve is there as it should be."""
    for index, (path, output) in enumerate(zip(plan.paths, plan.outputs)):
        row = records.get(str(output))
        if (row is not None and row['status'] in FINISHED
                and row['options'] == plan.settings.digest and _is_unchanged(path, row)
                and is_output_of(output, row['sha256'], row['options'])):
            yield index, {**row, 'path': str(path)}


def _jobs(plan, rows, records):
    """Return the jobs that are left; those of an earlier run may be done again."""
    return [Job(index, str(path), str(output), may_adopt=plan.resume or not output.exists(),
                may_replace=plan.overwrite or str(output) in records)
            for index, (path, output) in enumerate(zip(plan.paths, plan.outputs))
            if index not in rows]


def _is_unchanged(path, row):
    """Tell whether a file has the size and time of a row; if not, its checksum will tell."""
    try:
        state = path.stat()
    except OSError:
        return False
    return (state.st_size, state.st_mtime_ns) == (row['size'], row['mtime_ns'])


def _results(plan, jobs):
    """Yield jobs and rows as they are finished, wherever the work is done."""
    function = partial(make_row, settings=plan.settings)
    if plan.scheduler is not None:
        results = run_on_cluster(function, jobs, plan.scheduler)
    elif plan.n_workers > 1:
        results = run_in_processes(function, jobs, plan.n_workers)
    else:
        results = ((job, function(job)) for job in jobs)
    with closing(results):
        for job, row in results:
            yield job, row or _killed_row(job, plan.settings)


def _killed_row(job, settings):
    """Return the row of a file whose workers were killed."""
    return {**new_row(job.path, job.output, settings.digest),
            'error': 'Each attempt ended with the death of the worker process, as when memory '
                     'runs out: try it with fewer workers, or alone.'}


def _end(plan, journal, rows, records):
    """Write the manifest, then remove the journal and what killed workers left."""
    if plan.scheduler is None:
        # On a cluster, jobs of an interrupted run may still be writing.
        remove_temporaries(plan.outputs)
    told = {row['output'] for row in rows}
    rows = [*rows, *(row for output, row in records.items() if output not in told)]
    # A run that came to nothing leaves nothing to go on with.
    if rows:
        write_manifest(rows, plan.manifest, _meta(plan))
    journal.remove()


def _meta(plan):
    """Return what the manifest tells of the whole run."""
    return {'kpsf_version': __version__, 'options_digest': plan.settings.digest,
            'options': json.dumps(describe(plan.settings.quality, plan.settings.options))}
