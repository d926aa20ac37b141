"""Official annotation files: where they and their pictures are, entry by entry, and what a join must hold.

    file = find_file(path, source.split, "captions_*.json")
    folder = pictures_of(source, path, file)
    yield from each(file, "images.item", make_sample)

An entry that lacks a field or has another type there is refused as `broken_entry` with its number.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from blip.config import Source
from blip.data.sample import Sample
from blip.errors import BlipError
from blip.ingest.sources.files import MACOS, Folder
from blip.ingest.sources.json_stream import keys_in_head, stream
from blip.ingest.sources.refused import Refused, key_of
from blip.ingest.sources.row import as_json
from blip.ingest.sources.rows import CAPTIONS, table_in

BROKEN_ENTRY = "broken_entry"
ALL = "all"
BAD_VALUE = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError)


def find_file(path: Path, split: str | None, *patterns: str, keys: Collection[str] = ()) -> Path:
    """The annotation file: `path` itself, or the one in that folder, or its `annotations/`, that fits a pattern.

    Where none does, one that has some of the `keys`. Of several the one is taken whose name has the split in it.

    Raises:
        BlipError: there is none, or more than one.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise BlipError(f"source {path}: no such file or folder; check ingest.datasets in params.yaml")
    found = find_files(path, *patterns)
    if keys and not found:
        found = [file for file in find_files(path, "*.json") if not keys_in_head(file).isdisjoint(keys)]
    named = [file for file in found if split and split in file.name] or found
    if len(named) == 1:
        return named[0]
    names = ", ".join(file.name for file in named[:10])
    if named:
        raise BlipError(f"source {path}: it has {names}; name one of these, or its split (--split)")
    table = table_in(path, *CAPTIONS)
    read = f"; it has {table.name}, which kind table reads" if table else ""
    raise BlipError(f"source {path}: it has no {' or '.join(patterns)}{read}")


def find_files(path: Path, *patterns: str) -> list[Path]:
    """The files in a folder, and in its `annotations/`, that fit a pattern."""
    places = (path, path / "annotations")
    found = {file for place in places for pattern in patterns for file in place.glob(pattern)}
    return sorted(file for file in found if not file.name.startswith(MACOS))


def pictures_of(source: Source, path: Path, file: Path) -> Folder:
    """The folder of the pictures: the one the source names, else the source itself or where its file lies."""
    beside = path if path.is_dir() else file.parent
    return Folder.of(source.images, beside.parent if beside.name == "annotations" else beside)


def each(
    file: Path, prefix: str, make: Callable[[Any], Iterable[Sample | Refused]]
) -> Iterator[Sample | Refused]:
    """What `make` gives for every value at an ijson prefix, or that an entry is not what it should be."""
    yield from checked(file, stream(file, prefix), make, prefix.removesuffix("item").strip(".") or "entry")


def checked(
    file: Path,
    entries: Iterable[Any],
    make: Callable[[Any], Iterable[Sample | Refused]],
    what: str,
    first: int = 0,
) -> Iterator[Sample | Refused]:
    """As `each`, for entries from anywhere; `what` names them in messages, with numbers from `first`."""
    for number, entry in enumerate(entries, first):
        try:
            yield from make(entry)
        except BAD_VALUE as error:
            said = f"no {error}" if isinstance(error, KeyError) else str(error)
            detail = f"{file.name}, {what} {number}: {said}"[:300]
            yield Refused(key_of(f"{file.stem}-{what}-{number}"), BROKEN_ENTRY, detail, as_json(entry))


def need_split(file: Path, split: str | None, splits: Iterable[str]) -> None:
    """See that a split is named that there is; `splits` has one for every entry.

    Raises:
        BlipError: none is named and there are several, or nothing has it; lists them with their counts.
    """
    if split == ALL:
        return
    counts = Counter(splits)
    if split in counts or (split is None and len(counts) == 1):
        return
    listed = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common())
    wanted = "name a split" if split is None else f"no split {split!r}"
    raise BlipError(
        f"{file}: {wanted}; it has {listed or 'none'}. `split: NAME` or --split NAME, `all` for all"
    )


class Held:
    """Lists of values by key, packed as JSON: what has to be held to join two lists of a file."""

    def __init__(self) -> None:
        self._packed: dict[str | int, bytes] = {}

    def __iter__(self) -> Iterator[str | int]:
        return iter(list(self._packed))

    def add(self, key: str | int, value: Any) -> None:
        """Append a value to the key's list."""
        packed = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        before = self._packed.get(key)
        self._packed[key] = packed if before is None else before + b"," + packed

    def pop(self, key: str | int) -> list[Any]:
        """The key's list, [] if there is none; it is held no longer."""
        return json.loads(b"[" + self._packed.pop(key, b"") + b"]")
