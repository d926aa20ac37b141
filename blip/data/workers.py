"""Batches rendered in processes of their own, in order, each process a batch at a time.

with Workers(2, augmentation, batch_size=64) as workers:
    for plan, images in workers.render(plans): ...

They are fresh interpreters, not forks: this process has threads of torch's, which a fork does not survive. They are
given files through a pipe and write pixels to memory shared with this process. Their input ends when this process
does, however it does, and so do they. Signals that go to the whole group are not for them: the parent may want a batch
more before it stops.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import BinaryIO, Generic, Protocol, TypeVar, cast

from blip.data.augment import Augmentation
from blip.data.decode import Pixels
from blip.data.render import Failure, Images
from blip.data.worker import slots
from blip.errors import BlipError

AHEAD = 2  # batches that wait ready, beside those being made
FOR_THE_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
LONGEST_ANSWER = 1 << 16

Process = subprocess.Popen[bytes]


class Plan(Protocol):
    """What a batch is made of; `pictures` are files."""

    @property
    def pictures(self) -> Sequence[bytes | Pixels]: ...
    @property
    def seeds(self) -> Sequence[str]: ...


P = TypeVar("P", bound=Plan)


@dataclass
class _Job(Generic[P]):
    plan: P
    slot: int
    done: bool = False
    failure: Failure | None = None


class Workers:
    """The processes, from entering the context to leaving it."""

    def __init__(self, count: int, augmentation: Augmentation, batch_size: int) -> None:
        self._count, self._augmentation = count, augmentation
        self._shape = (count + AHEAD, batch_size, augmentation.size, augmentation.size, 3)
        self._processes: list[Process] = []

    def __enter__(self) -> Workers:
        memory = _shared_file()
        try:
            os.ftruncate(memory, math.prod(self._shape))
            self._slots = slots(memory, self._shape)
            self._processes = [self._start(memory) for _ in range(self._count)]
        finally:
            os.close(memory)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            with process, suppress(OSError):  # half a request may still be on its way, to nobody
                cast(BinaryIO, process.stdin).close()

    def render(self, plans: Iterator[P]) -> Iterator[tuple[P, Images | Failure]]:
        """Every plan with its images, in the order of the plans, which are taken a few ahead.

        Raises:
            BlipError: a process ended.
        """
        idle, free = deque(self._processes), deque(range(self._shape[0]))
        busy: dict[int, tuple[Process, _Job[P]]] = {}
        jobs: deque[_Job[P]] = deque()
        while True:
            while idle and free and (plan := next(plans, None)) is not None:
                process, job = idle.popleft(), _Job(plan, free.popleft())
                jobs.append(job)
                busy[_send(process, job)] = process, job
            if jobs and jobs[0].done:
                job = jobs.popleft()
                images = self._slots[job.slot].copy()
                free.append(job.slot)
                yield job.plan, job.failure or images
            elif busy:
                for descriptor in select.select(list(busy), [], [])[0]:
                    process, job = busy.pop(descriptor)
                    job.failure, job.done = _answer(process, descriptor), True
                    idle.append(process)
            else:
                return

    def _start(self, memory: int) -> Process:
        count, batch = self._shape[:2]
        arguments = [str(memory), str(count), str(batch), json.dumps(asdict(self._augmentation))]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_PARENT)  # which a process is born with
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "blip.data.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[memory],
                env={**os.environ, "PYTHONPATH": path},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send(process: Process, job: _Job[P]) -> int:
    """Give a process a batch to make; returns the descriptor of its answer."""
    stdin, stdout = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
    files = [picture for picture in job.plan.pictures if isinstance(picture, bytes)]
    request = {"slot": job.slot, "seeds": job.plan.seeds, "sizes": [len(file) for file in files]}
    try:
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.writelines(files)
        stdin.flush()
    except OSError:
        raise _ended(process) from None
    return stdout.fileno()


def _answer(process: Process, descriptor: int) -> Failure | None:
    """What a process says of its batch; an answer is written at once and short, so one read has it."""
    answer = os.read(descriptor, LONGEST_ANSWER)
    if not answer:
        raise _ended(process)
    failure = json.loads(answer)
    return Failure(*failure) if failure else None


def _ended(process: Process) -> BlipError:
    code = process.wait()
    how = f"by {signal.Signals(-code).name}, perhaps for want of memory" if code < 0 else f"with code {code}"
    return BlipError(
        f"a process that prepares training pictures ended {how}; run again to go on from the last checkpoint, with a "
        "lower training.workers if memory is short"
    )


def _shared_file() -> int:
    """A file in memory that has no name, so that nothing is left of it; on disk where the system has no such thing."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("blip-batches")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
