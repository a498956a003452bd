# Licensed under a 3-clause BSD style license - see LICENSE
"""Jobs on processes of this machine, any of which may be killed."""

import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from itertools import islice
from multiprocessing import connection, get_context, parent_process

from ..prf.download import asking_once

__all__ = ['run_in_processes']

THREAD_VARIABLES = ('OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS',
                    'NUMEXPR_NUM_THREADS', 'BLIS_NUM_THREADS', 'VECLIB_MAXIMUM_THREADS')
ATTEMPTS = 2
_until_exit = ExitStack()


def run_in_processes(function, jobs, n_workers):
    """Yield each job with ``function(job)`` as it is finished.

    Every worker is a pool of its own, with one job at a time: when it dies,
    it is known on which, and the others go on. A job whose worker dies is
    tried once more in a fresh one; None stands for the result if that dies
    too. When the generator is closed, what runs is killed.
    """
    waiting, workers, running = iter(jobs), [], {}
    try:
        for job in islice(waiting, n_workers):
            workers.append(_Worker())
            running[workers[-1].submit(function, job)] = workers[-1], job, 1
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, job, attempt = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool as error:
                    worker.require_started(error)
                    if attempt < ATTEMPTS:
                        running[worker.submit(function, job)] = worker, job, attempt + 1
                        continue
                    result = None
                for following in islice(waiting, 1):
                    running[worker.submit(function, following)] = worker, following, 1
                yield job, result
    finally:
        for worker, _, _ in running.values():
            worker.kill()
        for worker in workers:
            worker.stop()


class _Worker:
    """One process for one job at a time, replaced when it dies."""

    def __init__(self):
        self._has_started = False
        self._start()

    def _start(self):
        # Spawned: forks of a process with threads can hang.
        self._pool = ProcessPoolExecutor(1, mp_context=get_context('spawn'),
                                         initializer=_begin)
        with _surroundings():
            self._pid = self._pool.submit(os.getpid)

    def submit(self, function, job):
        """Return the future of a job, in a fresh process if the last one died."""
        try:
            return self._pool.submit(function, job)
        except BrokenProcessPool as error:
            self.require_started(error)
            self._pool.shutdown()
            self._start()
            return self._pool.submit(function, job)

    def require_started(self, error):
        """Raise if not even the first process came to work."""
        self._has_started |= self._pid.done() and not self._pid.exception()
        if not self._has_started:
            msg = ('Worker processes must be able to import the main module, but the first ended '
                   'before its work: in a script, call extract_many below '
                   "if __name__ == '__main__': (other reasons are printed above), or pass "
                   'n_workers=1.')
            raise RuntimeError(msg) from error

    def kill(self):
        """Kill the process."""
        if self._pid.done() and not self._pid.exception():
            try:
                os.kill(self._pid.result(), getattr(signal, 'SIGKILL', signal.SIGTERM))
            except OSError:
                # It has ended already.
                return

    def stop(self):
        """Wait for the process to end."""
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def _surroundings():
    """Within it, processes that are started get what they keep from their first moment on.

    That is one thread for linear algebra, since the libraries read these
    variables when NumPy is imported, and no Ctrl-C, which is for their parent.
    """
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, '1'))
    can_block = hasattr(signal, 'pthread_sigmask')
    blocked = can_block and signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if can_block:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin():
    """Prepare a process, which does not go on without its parent."""
    # Where it cannot be blocked.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _until_exit.enter_context(asking_once())


def _end_with_parent():
    """End this process when its parent has, also by kill -9: a resumed run does the work."""
    connection.wait([parent_process().sentinel])
    os._exit(1)
