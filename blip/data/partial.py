"""The directory in which a dataset grows, so that a run that was ended goes on where it was.

    work = begin(target, plan)           # .target.partial, with what an earlier run of the same plan left
    ...                                  # parts
    complete(work, target, "parts")

A plan is everything that the content depends on. What there is of another plan is put aside, which is said, and taken
up again when that plan comes back; so is what an earlier version began with a plan that lacks only what is unset now.
One process makes a dataset, which a lock beside it sees to; or the ranks of one job, each of which has a lock of its
own.

    .target.partial             grows; of a target that is a link, where that leads
    .target.partial.3f9c2a71    of another plan, put aside; the digits are of its plan
    .target.partial.lock        of its process; .target.partial.1.lock of rank 1
    .target.partial.scaffold    what only served to make it, while it moves to its place
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from glob import escape
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from blip.atomic import flush, rename_onto, take_away, write_json
from blip.digest import file_sha256
from blip.earlier import goes_on
from blip.errors import BlipError
from blip.lock import hold, is_held, let_go
from blip.rereading import read_again

PLAN, RANKS = "plan.json", "ranks.json"
WAIT = "Wait for it, or end it: the same command then goes on where it was"
ENDING_SECONDS = 60.0  # for a rank of a job that was refused, which its launcher ends
ABSENT_SECONDS = 600.0  # for which a rank may be late
LOOK_SECONDS = 10.0  # between two looks at a lock
GLANCE_SECONDS = 1.0  # for a lock that another only looks at
SHOWN, WIDTH = 5, 60  # differences of two plans, and characters of a value


def begin(
    target: Path,
    plan: dict[str, Any],
    ranks: int = 1,
    what: str = "dataset",
    unset: Set[str] = frozenset(),
) -> Path:
    """The absolute path of the directory beside `target` in which its parts gather; this process alone begins it.

    Others are kept out until `complete` or `discard`, or until this process ends.

    Args:
        ranks: how many processes make it, of which the others `join`.
        what: for the message of a process that is refused.
        unset: names in the plan of what is as if there were no such setting: an earlier version knew nothing of it.

    Raises:
        BlipError: another process makes it, nothing can be written beside `target`, or what lies there cannot be read.
    """
    directory = _place(target)
    try:
        hold(_lock(directory), str(target), f"makes this {what}. {WAIT}", GLANCE_SECONDS)
    except OSError as error:
        raise BlipError(
            f"{target}: nothing can be written into {directory.parent} ({error.strerror}); allow it, or name "
            "another place with --out"
        ) from None
    _take_back(directory)
    if not _is_of(directory, plan, unset):
        before = _before(directory, plan, unset)
        _put_aside(directory, plan)
        if before:
            before.rename(directory)
        else:
            directory.mkdir(parents=True)
    if not _has(directory, PLAN, plan):
        write_json(directory / PLAN, plan)
    write_json(directory / RANKS, ranks)
    return directory


def join(
    target: Path, plan: dict[str, Any], rank: int, ranks: int, patience: float = ABSENT_SECONDS
) -> Path | None:
    """The directory that the first of so many ranks begins for the same plan; waits for it.

    Returns:
        None where it has got to its place meanwhile: nothing was left to do.

    Raises:
        BlipError: it is not there after `patience` seconds, or another process is the rank of this number.
    """
    directory, deadline = _place(target), time.monotonic() + patience
    while not (_has(directory, PLAN, plan) and _has(directory, RANKS, ranks)):
        if target.exists():
            return None
        if time.monotonic() > deadline:
            raise BlipError(f"{directory} was not begun within {patience:.0f} s; is the first rank running?")
        time.sleep(0.1)
    hold(
        _lock(directory, f".{rank}"),
        str(target),
        f"makes this dataset as rank {rank}. {WAIT}",
        ENDING_SECONDS,
    )
    return directory


def is_growing(directory: Path) -> bool:
    """Whether it is still there with all its parts; asked after these were looked at, they were whole."""
    return (directory / PLAN).is_file()


class Watch:
    """Whether a rank of the job is gone, without which the others would wait for ever.

    It is where nobody has held its lock for ABSENT_SECONDS, for one may come late.
    """

    def __init__(self, directory: Path, rank: int) -> None:
        self._lock = _lock(directory, f".{rank}" if rank else "")
        self._seen = self._looked = time.monotonic()

    def is_gone(self) -> bool:
        """Look, but not too often: who looks at a lock keeps its owner from taking it."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if is_held(self._lock):
                self._seen = now
        return now - self._seen > ABSENT_SECONDS


def complete(
    directory: Path, target: Path, *scaffold: str, on_file: Callable[[], object] = lambda: None
) -> None:
    """Put a dataset that is whole in its place; what only served to make it goes when it is there.

    `on_file` is called for each file that stays, which all take a while to be on disk.

    Ended at any moment of this, or unable to put it there, the next `begin` finds all of it again.
    """
    _set_aside(directory, PLAN, RANKS, *scaffold)
    try:
        flush(directory, on_file)
        rename_onto(directory, target)
    except OSError:
        _take_back(directory)
        raise
    _take_down(_scaffold(directory))
    let_go(_lock(directory))


def discard(directory: Path) -> None:
    """Give a directory up: what is in it has got to its place one by one, or is not wanted."""
    take_away(directory)
    let_go(_lock(directory))


def _set_aside(directory: Path, *names: str) -> None:
    aside = _scaffold(directory)
    aside.mkdir(exist_ok=True)  # one that could not be removed
    for name in names:
        with suppress(FileNotFoundError):
            (directory / name).rename(aside / name)


def _take_down(aside: Path) -> None:
    """Remove what was set aside of a dataset that is in its place; of that it is no failure if some cannot go."""
    shutil.rmtree(aside, ignore_errors=True)
    if aside.exists():
        print(
            f"warning: {aside} cannot be removed whole, maybe as a process has a file of it open; nothing needs it",
            file=sys.stderr,
            flush=True,
        )


def _put_aside(directory: Path, plan: dict[str, Any]) -> None:
    """Move away what is of another plan, and say in what that differs; without any work in it, it goes."""
    found = _read(directory / PLAN)
    if not isinstance(found, dict) or not any(path.name not in (PLAN, RANKS) for path in directory.iterdir()):
        shutil.rmtree(directory, ignore_errors=True)
        return
    aside = _aside(directory, found)
    directory.rename(aside)
    differs = "; ".join(islice(_differences(found, _as_read(plan)), SHOWN))
    print(
        f"warning: {directory} is of another plan ({differs}); it is put aside as {aside}, taken up again when that "
        "plan comes back, and can be removed",
        file=sys.stderr,
        flush=True,
    )


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """What differs between two plans, as `capfilt.threshold 0.5, now 0.4`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, two) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, two, f"{name}.{number}")
    elif old != new:
        yield f"{name} {_short(old)}, now {_short(new)}"


def _short(value: Any) -> str:
    """A value as JSON has it, which may be a digest."""
    text = json.dumps(value)
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}..."


def _take_back(directory: Path) -> None:
    """What was set aside comes back, the plan last; of a dataset that has got to its place, it goes."""
    aside = _scaffold(directory)
    if directory.is_dir() and (aside / PLAN).is_file():
        for path in sorted(aside.iterdir(), key=lambda path: path.name == PLAN):
            path.rename(directory / path.name)
    shutil.rmtree(aside, ignore_errors=True)


def content_of(path: Path) -> str:
    """SHA-256 of a file, or of names and bytes of the files in a folder: a copy has the same."""
    digest = sha256()
    entries = sorted(path.iterdir()) if path.is_dir() else [path]
    for entry in filter(Path.is_file, entries):
        digest.update(f"{entry.name} {file_sha256(entry)}\n".encode())
    return digest.hexdigest()


def _place(target: Path) -> Path:
    target = target.resolve()
    return target.with_name(f".{target.name}.partial")


def _lock(directory: Path, rank: str = "") -> Path:
    return directory.with_name(f"{directory.name}{rank}.lock")


def _scaffold(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.scaffold")


def _aside(directory: Path, plan: Any) -> Path:
    digest = sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    return directory.with_name(f"{directory.name}.{digest[:8]}")


def _before(directory: Path, plan: Any, unset: Set[str]) -> Path | None:
    """Where what there is of the plan was put aside."""
    if (own := _aside(directory, plan)).is_dir():
        return own
    asides = sorted(directory.parent.glob(f"{escape(directory.name)}.{'[0-9a-f]' * 8}"))
    return next((aside for aside in asides if _is_of(aside, plan, unset)), None)


def _is_of(directory: Path, plan: Any, unset: Set[str]) -> bool:
    found, now = _read(directory / PLAN), _as_read(plan)
    return found == now or (isinstance(found, dict) and goes_on(found, now, unset))


def _has(directory: Path, name: str, value: Any) -> bool:
    return _read(directory / name) == _as_read(value)


def _read(path: Path) -> Any:
    """The value in a file; None if there is none.

    Raises:
        BlipError: it cannot be read, so that nobody knows whose work lies beside it.
    """
    try:
        return json.loads(read_again(lambda: path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise BlipError(
            f"{path} cannot be read: {error.strerror or error}. All that lies beside it stays as it is; when its disk "
            "can be read, run the same again, which goes on where it was"
        ) from error


def _as_read(value: Any) -> Any:
    """A value as JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(value))
