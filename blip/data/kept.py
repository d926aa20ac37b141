"""Finished datasets that would come out the same: beside each lies what it was made from, so it need not be made again.

    origins = {...}             # all that it depends on; taken first, so that what changes meanwhile is noticed
    if not is_kept(target, origins):
        ...                     # make it
        keep(target, origins)

    .target.origins.json    digests of the origins of `target`, and of what it was when it was finished

    .target.before          the `target` before, out of everybody's way until another is made

The note lies beside, for times of files are in it, and a dataset is the same whenever its sources were copied.
"""

import json
import os
from collections.abc import Iterable, Iterator
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from blip.atomic import take_away, write_json
from blip.data.passing import patiently
from blip.rereading import is_its_own

BLIP = Path(__file__).parents[1]


def keep(target: Path, origins: dict[str, Any]) -> None:
    """Note what a dataset that is finished was made from."""
    write_json(_file(target), {"origins": digest_of([origins]), "content": _content(target)})


def is_kept(target: Path, origins: dict[str, Any]) -> bool:
    """Whether a dataset is there, is what it was when it was finished, and would come out the same.

    Raises:
        BlipError: the disk or the share fails, and nobody knows.
    """
    note = _file(target)
    try:
        noted = json.loads(patiently(partial(note.read_text, encoding="utf-8"), note))
        return noted == {
            "origins": digest_of([origins]),
            "content": patiently(partial(_content, target), target),
        }
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def put_aside(target: Path) -> None:
    """Take a dataset out of its place, so that nobody reads it, and keep it until another is in that place."""
    if target.is_dir():
        take_away(_before(target))
        target.resolve().rename(_before(target))


def take_back(target: Path) -> None:
    """Put what was put aside in its place again; where another has come into that, it goes."""
    if target.exists():
        take_away(_before(target))
    elif _before(target).exists():
        _before(target).rename(target.resolve())


@cache
def code_digest(*packages: str) -> str:
    """Of the modules of some packages of blip."""
    files = (path for package in packages for path in sorted((BLIP / package).rglob("*.py")))
    return digest_of((str(path.relative_to(BLIP)), path.read_bytes()) for path in files)


def digest_of(values: Iterable[object]) -> str:
    """SHA-256 of plain values, one after the other."""
    digest = sha256()
    for value in values:
        digest.update(repr(value).encode() + b"\n")
    return digest.hexdigest()


def files_of(place: Path) -> Iterator[Path]:
    """A file itself, or all below a folder; no link to a folder is followed.

    Raises:
        OSError: the disk or the share fails; a folder that may not be looked into counts as empty.
    """
    if place.is_file():
        yield place
    for folder, _, names in os.walk(place, onerror=_see_that_it_may_be_passed_over):
        yield from (path for name in names if (path := Path(folder, name)).is_file())


def _see_that_it_may_be_passed_over(error: OSError) -> None:
    if not is_its_own(error):
        raise error


def _file(target: Path) -> Path:
    return target.with_name(f".{target.name}.origins.json")


def _before(target: Path) -> Path:
    """Where a dataset lies that was put aside; of one whose place is a link, where that leads."""
    target = target.resolve()
    return target.with_name(f".{target.name}.before")


def _content(target: Path) -> str:
    """Names and sizes of all files, and the words of those that say what is in the others."""
    small = (path.read_bytes() for path in sorted(target.iterdir()) if path.suffix in (".json", ".txt"))
    sizes = sorted((str(path.relative_to(target)), path.stat().st_size) for path in files_of(target))
    return digest_of([*sizes, *small])
