# Licensed under a 3-clause BSD style license - see LICENSE
"""Jobs on a Dask cluster."""

from contextlib import ExitStack
from itertools import islice

__all__ = ['require_distributed', 'run_on_cluster']

# So that no thread waits for its next job.
JOBS_PER_THREAD = 2


def require_distributed():
    """Return dask.distributed; say what to install if it is not there."""
    try:
        import distributed
    except ImportError as error:
        msg = ('A scheduler needs dask.distributed, but it cannot be imported '
               f"({error}): pip install 'kpsf[cluster]', or leave scheduler out.")
        raise ImportError(msg) from error
    return distributed


def run_on_cluster(function, jobs, scheduler):
    """Yield each job with ``function(job)`` as it is finished.

    ``scheduler`` is an address or a client. None stands for the result where
    the cluster gave a job up because its workers died. When the generator is
    closed, what waits is cancelled.
    """
    distributed = require_distributed()
    waiting, running, completed = iter(jobs), {}, None
    with ExitStack() as stack:
        client = scheduler
        if not isinstance(scheduler, distributed.Client):
            client = stack.enter_context(distributed.Client(scheduler, set_as_default=False))
        stack.callback(lambda: client.cancel(list(running)))
        completed = distributed.as_completed(loop=client.loop)
        while _refill(client, function, waiting, running, completed):
            future = next(completed)
            job = running.pop(future)
            try:
                result = future.result()
            except distributed.KilledWorker:
                result = None
            future.release()
            yield job, result


def _refill(client, function, waiting, running, completed):
    """Submit as many jobs as the cluster, which may grow, can work on; tell if any runs."""
    wanted = JOBS_PER_THREAD * max(sum(client.nthreads().values()), 1)
    for job in islice(waiting, max(wanted - len(running), 0)):
        future = client.submit(function, job, pure=False)
        running[future] = job
        completed.add(future)
    return bool(running)
