"""Atomic writes: a reader sees the old file or the whole new one, never half of it."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blip.errors import BlipError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; on success it is flushed to disk and renamed onto `target`.

    Works for a file and for a directory (whatever the block creates at the temporary path). On an exception the
    temporary path is removed and `target` stays as it was.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise BlipError(f"{target} is a device, and no file that could be written anew: name a file")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    _remove(temporary)
    try:
        yield temporary
        put_in_place(temporary, target)
    finally:
        _remove(temporary)


def put_in_place(finished: Path, target: Path) -> None:
    """Flush a finished file or directory to disk and rename it onto `target`, in place of what is there."""
    flush(finished)
    rename_onto(finished, target)


def rename_onto(finished: Path, target: Path) -> None:
    """Rename what is finished and on disk onto `target`.

    Between the two renames that a directory takes there is no `target`, which one can see, and never half of one.
    """
    before = target.with_name(f".{target.name}.{os.getpid()}.old.tmp")
    if finished.is_dir() and target.exists():
        target.rename(before)
    finished.replace(target)
    flush_directory(target.parent)
    _remove(before)


def write_text(target: Path, text: str) -> None:
    """Write a small text file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: object) -> None:
    """Write readable JSON atomically, keys in the order given."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def flush(path: Path) -> None:
    """Have the system write a file, or all files of a directory, to disk."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def flush_directory(path: Path) -> None:
    """Have the system write to disk which files a directory has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
