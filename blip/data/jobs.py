"""The same job for every shard, on the processes of this machine or on a Dask cluster.

    with open_pool(workers=8) as pool:                                # or dask="tcp://scheduler:8786"
        for result in run_jobs(pool, write_shard, jobs): ...

Where jobs run is no setting of params.yaml, since it changes no result: BLIP_WORKERS and BLIP_DASK say so to stages.
Jobs and what they need travel by pickle between our own processes; a function must be importable.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from blip.errors import BadArguments, BlipError
from blip.machine import usable_cores

Job = TypeVar("Job")
Result = TypeVar("Result")
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Pool:
    """Where jobs run: without an executor in this process, one after the other.

    Attributes:
        died: what is raised for a job whose worker came to its end.
    """

    executor: Executor | None
    workers: int
    died: tuple[type[BaseException], ...] = ()


HERE = Pool(None, 1)


@contextmanager
def open_pool(workers: int | None = None, dask: str | None = None) -> Iterator[Pool]:
    """Open a pool of processes, or the cluster at a scheduler's address.

    Args:
        workers: processes; 1 runs the jobs in this one, None takes BLIP_WORKERS or else as many as there are cores.
        dask: as `tcp://scheduler:8786`; None takes BLIP_DASK. Its workers must see the same files under the same
            paths.

    Raises:
        BlipError: no scheduler answers, it has no worker, or BLIP_WORKERS is no number.
    """
    dask = dask or os.environ.get("BLIP_DASK")
    if dask:
        yield from _cluster(dask)
        return
    count = workers or _wished_workers()
    if count == 1:
        yield Pool(None, 1)
        return
    context = get_context("spawn")  # a fork would copy the locks of this process's threads
    with ProcessPoolExecutor(count, context, initializer=_end_with, initargs=(os.getpid(),)) as executor:
        try:
            yield Pool(executor, count, (BrokenProcessPool,))
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def run_jobs(pool: Pool, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Results as they come, in any order; few more jobs are drawn than the pool has workers.

    Raises:
        BlipError: a worker died. Whatever else a job raises comes as it is.
    """
    if pool.executor is None:
        yield from map(function, jobs)
        return
    waiting: set[Future[Result]] = set()
    try:
        for job in jobs:
            waiting.add(pool.executor.submit(function, job))
            if len(waiting) >= pool.workers + 2:
                yield from _done(waiting)
        while waiting:
            yield from _done(waiting)
    except pool.died:
        raise BlipError(
            "a worker process was ended from outside, often because memory ran out; what is finished is kept: "
            "run the same again, with fewer workers if memory is short"
        ) from None
    finally:
        for future in waiting:
            future.cancel()


def run_in_order(pool: Pool, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """The same in the order of the jobs: results wait for those of the jobs before. Raises as `run_jobs`."""
    waiting: dict[int, Result] = {}
    following = 0
    for number, result in run_jobs(pool, partial(_numbered, function), enumerate(jobs)):
        waiting[number] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _numbered(function: Callable[[Job], Result], job: tuple[int, Job]) -> tuple[int, Result]:
    return job[0], function(job[1])


def _done(waiting: set[Future[Result]]) -> Iterator[Result]:
    ready, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in ready:
        waiting.remove(future)
        yield future.result()


def _wished_workers() -> int:
    wished = os.environ.get("BLIP_WORKERS")
    if not wished:
        return usable_cores()
    if not wished.isdecimal() or not int(wished):
        raise BadArguments(f"BLIP_WORKERS={wished!r}: give a number of processes from 1, or unset it")
    return int(wished)


def _cluster(address: str) -> Iterator[Pool]:
    from distributed import Client, KilledWorker

    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise BlipError(f"dask scheduler {address}: {error}; start one, or unset BLIP_DASK") from None
    with client:
        workers = sum(client.nthreads().values())  # pyright: ignore[reportAttributeAccessIssue] - not async here
        if not workers:
            raise BlipError(
                f"dask scheduler {address} has no worker; start some with `dask worker {address}`"
            )
        print(f"{workers} worker(s) of the Dask cluster {address} do the jobs", flush=True)
        yield Pool(client.get_executor(pure=False), workers, (KilledWorker,))


def _end_with(parent: int) -> None:
    """A worker ends when its parent does, even by kill -9; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
