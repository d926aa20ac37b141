"""Atomic writes: a reader sees the old file or the whole new one, never half of it.

    .model.3f9c2a71.4711.tmp        grows until it takes the place of `model`; 4711 is the process, 3f9c2a71 its machine
    .model.3f9c2a71.4711.old.tmp    the `model` before, on its way out

Those of a process that was killed go when another writes into their folder.
"""

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

from blip.errors import BlipError
from blip.room import room_noted

TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<machine>[0-9a-f]{8})\.(?P<process>\d+)(?P<old>\.old)?\.tmp")
UNUSED_SECONDS = 86400.0  # without a change, of what a process of another machine writes
MANY = 1000  # files in a folder, which is then looked through but once
BOOT = Path("/proc/sys/kernel/random/boot_id")  # of the machine, another each time it starts

_looked_through: set[Path] = set()


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; on success it is flushed to disk and renamed onto `target`.

    Works for a file and for a directory (whatever the block creates at the temporary path). On an exception the
    temporary path is removed and `target` stays as it was.
    """
    target = Path(target)
    if target.is_dir():
        target = target.resolve()  # a link to a folder stays, and the folder on the other disk is replaced
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise BlipError(f"{target} is a device, and no file that could be written anew: name a file")
    _clear_up(target)
    temporary = _beside(target, "")
    _remove(temporary)
    try:
        with room_noted(target, temporary):
            yield temporary
            put_in_place(temporary, target)
    finally:
        _remove(temporary)


def put_in_place(finished: Path, target: Path) -> None:
    """Flush a finished file or directory to disk and rename it onto `target`, in place of what is there."""
    flush(finished)
    rename_onto(finished, target)


def link_in_place(finished: Path, target: Path) -> None:
    """Put a finished directory in the place of `target` as hard links, which take no room, and keep it where it is.

    On a file system without such links it is moved.
    """
    try:
        with atomic_path(target) as temporary:
            shutil.copytree(finished, temporary, copy_function=os.link)
    except OSError:
        put_in_place(finished, target)


def rename_onto(finished: Path, target: Path) -> None:
    """Rename what is finished and on disk onto `target`; a link to a folder is followed, one to a file replaced.

    Between the two renames that a directory takes there is no `target`, which one can see, and never half of one.
    If the second fails, what was there is there again.
    """
    if finished.is_dir():
        target = target.resolve()
    _clear_up(target)
    before = _beside(target, ".old")
    if finished.is_dir() and target.exists():
        if before.exists():
            _remove(before)
        target.rename(before)
    try:
        finished.replace(target)
    except BaseException:
        if before.exists() and not target.exists():
            before.rename(target)
        raise
    flush_directory(target.parent)
    _remove(before)


def take_away(target: Path) -> None:
    """Remove a file or directory, which is there as a whole or not at all; a link to a folder stays."""
    if target.is_dir():
        target = target.resolve()
    if target.exists():
        _clear_up(target)
        target.rename(_beside(target, ""))
        _remove(_beside(target, ""))


def write_text(target: Path, text: str) -> None:
    """Write a small text file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: object) -> None:
    """Write readable JSON atomically, keys in the order given."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def flush(path: Path, on_file: Callable[[], object] = lambda: None) -> None:
    """Have the system write a file, or all files of a directory, to disk; `on_file` is called after each."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
            on_file()


def flush_directory(path: Path) -> None:
    """Have the system write to disk which files a directory has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{_machine()}.{os.getpid()}{what}.tmp")


@cache
def _machine() -> str:
    """This host as it was started, and which of its containers: two of these have each a process 17.

    Two machines may share a name, as those made of one image do, and a disk.
    """
    processes = boot = ""
    with suppress(OSError):
        processes, boot = Path("/proc/self/ns/pid").readlink(), BOOT.read_text().strip()
    return sha256(f"{socket.gethostname()} {processes} {boot}".encode()).hexdigest()[:8]


def _clear_up(target: Path) -> None:
    """Remove what killed processes left in the folder of `target`; put back what one had not replaced yet."""
    folder = target.parent.absolute()
    if folder in _looked_through:
        return
    with suppress(OSError):  # what cannot be cleared up stays, and is no reason not to write
        names = [path.name for path in folder.iterdir()]
        if len(names) > MANY:
            _looked_through.add(folder)
        for found in filter(None, map(TEMPORARY.fullmatch, names)):
            if _is_left(folder / found[0], found):
                _clear(folder / found[0], folder / found["name"], bool(found["old"]))


def _clear(left: Path, target: Path, old: bool) -> None:
    if old and not target.exists():
        left.rename(target)
    else:
        _remove(left)


def _is_left(path: Path, found: re.Match[str]) -> bool:
    """Whether nobody writes a temporary any more: its process is gone, or, of another machine, long silent."""
    if found["machine"] == _machine():
        return not _runs(int(found["process"]))
    return time.time() - _last_change(path) > UNUSED_SECONDS


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # another user's
    return True


def _last_change(path: Path) -> float:
    """When a file, or anything in a directory, was last written; now, if that cannot be seen."""
    try:
        return max(one.lstat().st_mtime for one in (path, *path.rglob("*")))
    except OSError:
        return time.time()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
