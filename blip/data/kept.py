"""Finished datasets that would come out the same: beside each lies what it was made from, so it need not be made again.

    origins = origins_of(source, settings, references)     # before it is made: what changes meanwhile is noticed
    if not is_kept(target, origins):
        ingest_dataset(source, target, settings, references)
        keep(target, origins)

    .target.origins.json    digests of the origins of `target`, and of what it was when it was finished

It lies beside, for times of files are in it, and a dataset is the same whenever its sources were copied.
"""

import json
import os
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from blip.atomic import write_json
from blip.config import Ingest, Source
from blip.data.ingestion import plan_of
from blip.data.references import References

Origins = dict[str, Any]

ALONE = ("urls", "webdataset")  # kinds whose files name no other
ANNOTATIONS = "annotations"  # a folder of annotation files, which has the pictures beside it


def origins_of(source: Source, settings: Ingest, references: References | None) -> Origins:
    """All that a dataset depends on: settings, the files of its source, the pictures to keep away from, the code."""
    return {
        "plan": plan_of([source], settings, references),
        "max_bad_fraction": settings.max_bad_fraction,
        "files": [_digest(_facts(place)) for place in _places(source)],
        "code": code_digest(),
    }


@cache
def code_digest(*packages: str) -> str:
    """Of the modules of blip.data and of other packages of blip."""
    root = Path(__file__).parents[1]
    files = (path for package in ("data", *packages) for path in sorted((root / package).rglob("*.py")))
    return _digest((str(path.relative_to(root)), path.read_bytes()) for path in files)


def keep(target: Path, origins: Origins) -> None:
    """Note what a dataset that is finished was made from."""
    write_json(_file(target), {"origins": _digest([origins]), "content": _content(target)})


def is_kept(target: Path, origins: Origins) -> bool:
    """Whether a dataset is there, is what it was when it was finished, and would come out the same."""
    try:
        noted = json.loads(_file(target).read_text(encoding="utf-8"))
        return noted == {"origins": _digest([origins]), "content": _content(target)}
    except (OSError, ValueError):
        return False


def _file(target: Path) -> Path:
    return target.with_name(f".{target.name}.origins.json")


def _content(target: Path) -> str:
    """Names and sizes of all files, and the words of those that say what is in the others."""
    small = (path.read_bytes() for path in sorted(target.iterdir()) if path.suffix in (".json", ".txt"))
    sizes = sorted((str(path.relative_to(target)), path.stat().st_size) for path in _files(target))
    return _digest([*sizes, *small])


def _places(source: Source) -> Iterator[Path]:
    """The files and folders in which a kind may look: of a file that names pictures also what lies beside it."""
    path = Path(source.source)
    yield path
    if source.images:
        yield Path(source.images)
    if source.kind not in ALONE:
        beside = path if path.is_dir() else path.parent
        yield beside.parent if beside.name == ANNOTATIONS else beside


def _facts(place: Path) -> Iterator[tuple[str, int, int, int]]:
    """Of every file what changes when it does; a time of change cannot be set back, as that of writing can."""
    for path in sorted(_files(place)):
        stat = path.stat()
        yield str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _files(place: Path) -> Iterator[Path]:
    """A file itself, or all below a folder; the readers follow no link to a folder either."""
    if place.is_file():
        yield place
    for folder, _, names in os.walk(place):
        yield from (path for name in names if (path := Path(folder, name)).is_file())


def _digest(values: Any) -> str:
    digest = sha256()
    for value in values:
        digest.update(repr(value).encode() + b"\n")
    return digest.hexdigest()
