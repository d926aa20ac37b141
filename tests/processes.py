"""Processes that a test starts, which do not outlive it, whatever fails meanwhile.

with running([sys.executable, "-m", "flows.ui"], stdout=subprocess.PIPE, text=True) as pages: ...
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil


@contextmanager
def running(command: Sequence[str | Path], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """Start a command; what still runs of it behind the block, and of what it started, is killed."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            kill(process)


def kill(process: "subprocess.Popen[Any]") -> None:
    """SIGKILL to a process that has not ended and to its descendants; one that has, has none that we know of."""
    if process.poll() is not None:
        return
    family = [psutil.Process(process.pid)]
    with suppress(psutil.NoSuchProcess):
        family += family[0].children(recursive=True)
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Look at a condition until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.02)


def wait_until_stopped(process: "subprocess.Popen[Any]", seconds: float = 120) -> None:
    """Until a process has stopped itself (SIGSTOP), where the test wants it to be."""
    deadline, states = time.monotonic() + seconds, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
    while (found := os.waitid(os.P_PID, process.pid, states)) is None:
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.02)
    assert found.si_code == os.CLD_STOPPED, "it ended before"
