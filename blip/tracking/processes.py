"""Which process works on a run: a tag tells a run that goes on from one whose process was killed."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from mlflow.entities import Run

TAG = "blip.process"
CLOCK_SLACK = 2.0  # seconds; the start is reckoned from the boot time, which the clock service may move
TERMINATED = 128 + signal.SIGTERM


def this_process() -> str:
    """HOST:PID:START, which no other process has."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def alive(run: "Run") -> bool:
    """Whether the process of a run still lives. Of another machine nothing is known: it counts as gone."""
    host, pid, started = (*run.data.tags.get(TAG, "").rsplit(":", 2), "", "")[:3]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) <= CLOCK_SLACK
    except psutil.NoSuchProcess:
        return False


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM unwind the stack (SystemExit 143), so that the run is closed; an earlier handler stays."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)
