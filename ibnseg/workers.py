"""Work spread over processes: results in the order of the jobs, and Ctrl-C ends it cleanly."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from typing import Any

#: Fewer jobs are not worth starting processes for.
FEW = 16
#: Seconds after which a process that does not answer is taken for stopped.
TIMEOUT = 600
_PART = 4  # jobs that are handed over together


def run(work: Callable, jobs: Sequence[tuple], workers: int | None = None) -> Iterator[Any]:
    """Yield `work(*job)` for each job, in order.

    Args:
        work: each process gets it once.
        jobs: their arguments.
        workers: processes; default: one a core. One process, or a few jobs: done in this process.

    Raises:
        BrokenProcessPool: a process was killed.
        TimeoutError: one does not answer for `TIMEOUT` seconds. What `work` raises comes as it is.
    """
    workers = workers or cores()
    if workers <= 1 or len(jobs) < FEW:
        for job in jobs:
            yield work(*job)
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context('fork' if hasattr(os, 'fork') else None)
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(work,))
    try:
        parts = [jobs[i : i + _PART] for i in range(0, len(jobs), _PART)]
        for part in [pool.submit(_calls, part) for part in parts]:
            if not wait([part], TIMEOUT).done:
                for process in set(multiprocessing.active_children()) - before:
                    process.kill()  # it may be stopped, and would keep the others waiting
                raise TimeoutError(
                    f'no answer came for {TIMEOUT} seconds: a process that reads data is stopped, '
                    'or the disk does not answer. See whether files can be read, and begin again'
                )
            yield from part.result()
    finally:
        pool.shutdown(cancel_futures=True)


def threads(work: Callable, jobs: Sequence[tuple], number: int = 16) -> Iterator[Any]:
    """Yield `work(*job)` for each job, in order; for work that waits for a disk or a network."""
    with ThreadPoolExecutor(number) as pool:
        yield from pool.map(lambda job: work(*job), jobs)


def cores() -> int:
    """Return how many cores this process may use; a cluster gives a job some of a machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


_work: Callable


def _begin(work: Callable) -> None:
    import cv2

    global _work
    _work = work
    cv2.setNumThreads(0)  # there is a process for each core
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent ends the work


def _calls(jobs: Sequence[tuple]) -> list[Any]:
    return [_work(*job) for job in jobs]
