"""One process at a time: a lock on a file, which the system takes back when its holder ends, however it ends.

    hold(Path("runs/pretrain.lock"), "runs/pretrain", "trains it now; wait for it, or end it")
    let_go(Path("runs/pretrain.lock"))            # or this process ends

The file says who holds it. It goes with the hold; that of a killed process stays, and is free. That of a host that is
gone may stay held by the server of a network's disk, until a person removes it. `lock` is what all of this stands on,
and what else locks files does it through it.
"""

import atexit
import errno
import fcntl
import os
import socket
import sys
import time
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from blip.errors import BlipError

POLL_SECONDS = 0.1
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}  # of file systems that have none

_held: dict[Path, TextIOWrapper] = {}


def hold(file: Path, what: str, doing: str, patience: float = 0.0) -> None:
    """Keep other processes out of `what` until `let_go`, or until this process ends; one that holds it goes on.

    Args:
        file: locked, and made for it.
        doing: what the holder does and what one can do about it, for the message of who is refused.
        patience: seconds to wait for a holder that is ending.

    Raises:
        BlipError: another process holds it.
    """
    file = file.absolute()
    if file in _held:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    while (handle := _taken(file)) is None:
        if time.monotonic() >= deadline:
            raise BlipError(
                f"{what}: another process ({_holder(file)}) {doing}. If its host is gone for good, remove {file}"
            )
        time.sleep(POLL_SECONDS)
    handle.truncate(0)
    print(os.getpid(), socket.gethostname(), file=handle, flush=True)
    _held[file] = handle


def lock(handle: TextIO, *, wait: bool) -> bool:
    """Lock an open file until it is closed; False if another process has it. Where there are no locks, that is said."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _warn(Path(handle.name).absolute(), error.strerror or str(error))
    return True


def is_held(file: Path) -> bool:
    """Whether a process holds it; where there are no locks, whether one that has not let it go was there."""
    try:
        with file.open("r+", encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        if not isinstance(error, BlockingIOError) and error.errno not in NO_LOCKS:
            raise
        return True
    return False


def let_go(file: Path) -> None:
    """Let others have it; nothing to do where this process does not hold it."""
    handle = _held.pop(file.absolute(), None)
    if handle is not None:
        file.unlink(missing_ok=True)
        handle.close()


def _taken(file: Path) -> TextIOWrapper | None:
    """The locked file; None while another process has it."""
    while True:
        handle = file.open("a", encoding="utf-8")
        try:
            taken = lock(handle, wait=False)
        except OSError:
            handle.close()
            raise
        if taken and _lies_at(handle, file):
            return handle
        handle.close()  # where it was taken, its holder has removed it meanwhile
        if not taken:
            return None


@cache  # once a file: some are locked for every line that is written
def _warn(file: Path, why: str) -> None:
    print(f"warning: {file}: no locks here ({why}), so see to it that one runs", file=sys.stderr)


def _lies_at(handle: TextIOWrapper, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), file.stat())
    except FileNotFoundError:
        return False


def _holder(file: Path) -> str:
    """`pid 4711 on gpu01`, as the file says."""
    try:
        pid, host = file.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return "which has not said who it is"
    return f"pid {pid} on {host}"


def _in_a_fork() -> None:
    """A fork has no part in it, or it would keep the lock of a parent that was killed."""
    for handle in _held.values():
        handle.close()
    _held.clear()


def _at_the_end() -> None:
    for file in list(_held):
        let_go(file)


os.register_at_fork(after_in_child=_in_a_fork)
atexit.register(_at_the_end)
