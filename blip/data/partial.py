"""The directory in which a dataset grows, so that a run that was ended goes on where it was.

    work = begin(target, plan)           # .target.partial, with what an earlier run of the same plan left
    ...                                  # parts
    put_in_place(work, target)

A plan is everything that the content depends on; another plan starts anew.
"""

import json
import shutil
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from blip.atomic import flush, rename_onto, write_json
from blip.errors import BlipError

PLAN = "plan.json"


def begin(target: Path, plan: dict[str, Any]) -> Path:
    """The absolute path of the directory beside `target` in which its parts gather."""
    directory = _place(target)
    if not _has(directory, plan):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        write_json(directory / PLAN, plan)
    return directory


def join(target: Path, plan: dict[str, Any], patience: float = 600.0) -> Path:
    """The directory that another process begins for the same plan; waits for it.

    Raises:
        BlipError: it is not there after `patience` seconds.
    """
    directory, deadline = _place(target), time.monotonic() + patience
    while not _has(directory, plan):
        if time.monotonic() > deadline:
            raise BlipError(f"{directory} was not begun within {patience:.0f} s; is the first rank running?")
        time.sleep(0.1)
    return directory


def complete(directory: Path, target: Path, *scaffold: str) -> None:
    """Put a dataset that is whole in its place; what only served to make it goes when all is on disk."""
    flush(directory)
    for name in scaffold:
        path = directory / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    (directory / PLAN).unlink()
    rename_onto(directory, target)


def fingerprint(path: Path) -> str:
    """Sizes and times of a file, or of what lies in a folder: it changes when they change."""
    entries = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(entry.name, entry.stat()) for entry in entries if entry.exists()]
    return sha256(repr([(name, s.st_size, s.st_mtime_ns) for name, s in stats]).encode()).hexdigest()


def _place(target: Path) -> Path:
    return target.resolve().with_name(f".{target.name}.partial")


def _has(directory: Path, plan: dict[str, Any]) -> bool:
    try:
        found = json.loads((directory / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return found == json.loads(json.dumps(plan))
