"""Signs of life of a rank, from the thread that trains: if a step hangs, they stop.

    with Heartbeat.of_this_process(hang_timeout=600, start_timeout=1800) as beat:
        batches = beat.watched(iter(loader))       # waiting for data is a phase of its own
        for step in range(start, steps):
            beat.begin(step)
            ...next(batches)...
            beat.mark("vote")

Under an agent (blip.training.launch.node) each sign is one small write to a file of this machine, which the agent
reads. A run in one process has no agent: there the C library's own timer prints the stacks of all threads and ends
the process when a step takes too long, even if Python itself hangs.
"""

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

BEAT = "BLIP_BEAT"  # the variable that tells a rank where its file is
STACKS = signal.SIGUSR2  # has a rank print the stacks of its threads
PHASES = ("data", "step", "vote", "save", "finished")  # in the order in which a step has them
SAID = {
    "data": "waiting for data",
    "step": "computing, or waiting for the other ranks in it",
    "vote": "waiting for the other ranks after it",
    "save": "saving a checkpoint, or the model of a step",
    "finished": "saving what was made, after the last step",
}
WIDTH = 64

T = TypeVar("T")


@dataclass(frozen=True)
class Sign:
    """The last sign of a rank: when (this machine's monotonic clock), in which step and phase, the first step?"""

    seconds: float
    step: int
    phase: str
    first: bool

    @property
    def progress(self) -> tuple[int, int]:
        """Orders signs by how far the ranks are."""
        return self.step, PHASES.index(self.phase)

    def __str__(self) -> str:
        return f"step {self.step + 1}, {SAID[self.phase]}"


class Heartbeat:
    """Writes signs to `file`; with none, watches itself with `hang_timeout` seconds a step (0: not at all)."""

    def __init__(self, file: Path | None, hang_timeout: float = 0.0, start_timeout: float = 0.0) -> None:
        self._hang, self._start = hang_timeout, max(start_timeout, hang_timeout)
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600) if file else None
        self._step, self._begun = 0, 0

    @classmethod
    def of_this_process(cls, hang_timeout: float = 0.0, start_timeout: float = 0.0) -> "Heartbeat":
        """With the file that this rank's agent gave it; by itself where there is no agent."""
        given = os.environ.get(BEAT)
        return cls(Path(given)) if given else cls(None, hang_timeout, start_timeout)

    def begin(self, step: int) -> None:
        """A step begins, numbered from 0."""
        self._step, self._begun = step, self._begun + 1
        if self._file is None and self._hang:
            seconds = self._start if self._begun == 1 else self._hang
            faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)
        self.mark("data")

    def mark(self, phase: str) -> None:
        """A phase of the step begins."""
        if self._file is not None:
            sign = f"{time.monotonic():.3f} {self._step} {phase} {int(self._begun <= 1)}"
            os.pwrite(self._file, sign.ljust(WIDTH).encode(), 0)

    def watched(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches; the wait for each is marked."""
        while True:
            self.mark("data")
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.mark("step")
            yield batch

    def __enter__(self) -> "Heartbeat":
        if self._file is not None:
            faulthandler.register(STACKS, file=sys.__stderr__ or 2, all_threads=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            faulthandler.cancel_dump_traceback_later()
            return
        self.mark("finished")
        os.close(self._file)
        self._file = None


UNHEARD = Heartbeat(None)
"""Of a process that nobody watches."""


def last_sign(file: Path) -> Sign | None:
    """The last sign in a rank's file; None before the first."""
    try:
        seconds, step, phase, first = file.read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return Sign(float(seconds), int(step), phase, first == "1")
