"""Runs a command under `supervise.py` and gives its output line by line.

    with supervised(["dvc", "repro", ...], environment) as process:
        for line in lines(process):
            print(line)
    process.returncode

Leaving the block, by its end or by an exception, ends the command and everything that it started.
"""

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

GRACE_SECONDS = 20.0  # between SIGTERM and SIGKILL, for a command whose caller says no other
SUPERVISOR = Path(__file__).with_name("supervise.py")
PROGRESS_EVERY = 10.0  # seconds between two states of a progress bar, which rewrites its line with \r
LONGEST_LINE = 4000
LINE = re.compile(rb"([^\r\n]*)(\r?\n|\r(?=[^\n]))")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def supervised(
    command: Sequence[str],
    environment: Mapping[str, str],
    grace: float = GRACE_SECONDS,
    output: int | IO[bytes] = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start `command` in a process group of its own, standard error joined to the output, a pipe to read."""
    process = subprocess.Popen(
        [sys.executable, str(SUPERVISOR), str(grace), *command],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        ask_to_end(process)
        process.wait()
        if process.stdout:
            process.stdout.close()


def ask_to_end(process: subprocess.Popen[bytes]) -> None:
    """End the command and what it started; returns at once, the block that opened it waits for the end."""
    if process.stdin and not process.stdin.closed:
        process.stdin.close()


def lines(process: subprocess.Popen[bytes], poll: float = 0.5) -> Iterator[str]:
    """The lines of the output as they come, a progress bar's states thinned out.

    Waits in short turns, so that an exception which a timeout raises in this thread arrives.
    """
    descriptor, rest, next_state = _output(process), b"", 0.0
    while chunk := _read(descriptor, poll):
        complete, rest = _cut(rest + chunk)
        for text, is_progress in complete:
            if is_progress and time.monotonic() < next_state:
                continue
            if is_progress:
                next_state = time.monotonic() + PROGRESS_EVERY
            if text:
                yield text
    if text := _text(rest):
        yield text


def _output(process: subprocess.Popen[bytes]) -> int:
    if process.stdout is None:
        raise ValueError("the process was started without a pipe for its output")
    return process.stdout.fileno()


def _read(descriptor: int, poll: float) -> bytes:
    while not select.select([descriptor], [], [], poll)[0]:
        pass
    return os.read(descriptor, 65536)


def _cut(buffer: bytes) -> tuple[list[tuple[str, bool]], bytes]:
    """Complete lines, each with whether it is a state of a progress bar (ended by \\r), and what is left."""
    complete, end = [], 0
    for match in LINE.finditer(buffer):
        complete.append((_text(match[1]), match[2] == b"\r"))
        end = match.end()
    return complete, buffer[end:]


def _text(line: bytes) -> str:
    return ESCAPE.sub("", line.decode("utf-8", "replace")).rstrip()[:LONGEST_LINE]
