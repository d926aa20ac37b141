"""Runs one command and leaves none of its processes behind, however its caller ends.

    python flows/supervise.py GRACE COMMAND...

The caller keeps this process's standard input open. When it closes (the caller asked for it, or was killed),
or on SIGTERM, the processes that COMMAND started get SIGTERM and GRACE seconds to save their work; what still
lives then is killed. COMMAND itself is left to end by its own (DVC releases its locks), unless it is alone.
The exit status is COMMAND's; 128 + signal if a signal ended it. A caller that is gone breaks no pipe under it.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from typing import IO, Any

import psutil

PR_SET_CHILD_SUBREAPER = 36
LAST_WORDS = 3.0  # seconds COMMAND has to finish once all that it started is gone


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies (Linux), so that they can still be found."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end(command: subprocess.Popen[Any], grace: float) -> None:
    """Ask the processes of `command` to stop, wait, and kill those that did not."""
    started = [process for process in psutil.Process().children(recursive=True) if process.pid != command.pid]
    if started:
        _signal(_same_group(started, command.pid), signal.SIGTERM)
        psutil.wait_procs(started, timeout=grace)
    else:
        command.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.wait(LAST_WORDS if started else grace)
    _signal(psutil.Process().children(recursive=True), signal.SIGKILL)


def pass_on(output: IO[bytes]) -> None:
    """Copy what COMMAND prints to standard output; once nobody reads that, let it print into the void."""
    read_by_someone = True
    while chunk := os.read(output.fileno(), 65536):
        try:
            while read_by_someone and chunk:
                chunk = chunk[os.write(1, chunk) :]
        except BrokenPipeError:
            read_by_someone = False


def _same_group(processes: list[psutil.Process], group: int) -> list[psutil.Process]:
    """Those in COMMAND's own process group: the others have a leader who passes the signal on."""
    members = []
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group:
                members.append(process)
    return members or processes


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def main(arguments: list[str]) -> int:
    grace, command = float(arguments[0]), arguments[1:]
    adopt_orphans()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    output = threading.Thread(target=pass_on, args=(child.stdout,), daemon=True)
    output.start()

    def stop_when_caller_is_gone() -> None:
        while os.read(0, 1):
            pass
        stop.set()

    def stop_when_child_is_done() -> None:
        child.wait()
        stop.set()

    for watch in (stop_when_caller_is_gone, stop_when_child_is_done):
        threading.Thread(target=watch, daemon=True).start()
    stop.wait()
    end(child, grace)
    code = child.wait()
    output.join(LAST_WORDS)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
