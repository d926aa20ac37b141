"""Tables as csv, tsv, json, jsonl or parquet: rows with their numbers, one by one; a broken row is refused.

    for row in read_rows(Path("captions.csv")):
        if isinstance(row, Refused): ...
        row.number, row.text("caption")

How each form is read: separated.py has csv and tsv, arrow_rows.py parquet, json_stream.py long JSON lists. Text
that is no UTF-8 gets U+FFFD for its bytes, which screening finds.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq

from blip.data.passing import see_that_it_is_its_own
from blip.errors import BlipError
from blip.ingest.sources.arrow_rows import READ_ERRORS, batches_of, rows_of
from blip.ingest.sources.columns import ADDRESS, IMAGE, guess
from blip.ingest.sources.json_stream import stream, told_of_object
from blip.ingest.sources.names import plain_name
from blip.ingest.sources.notes import tell
from blip.ingest.sources.refused import Refused, key_of
from blip.ingest.sources.row import BROKEN_TABLE, Row, Value, broken, row_of_json
from blip.ingest.sources.separated import header_of, open_text, read_separated

LOOKED_AT = 20  # lines
EXTENSIONS = ("csv", "tsv", "jsonl", "json", "parquet")
TRUTH = "truth.csv"
CAPTIONS = ("captions", "metadata")  # what the table of a folder of pictures is called

_INTEGER, _NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})"), re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")


def find_table(folder: Path, *names: str, told: Callable[[Path], str]) -> Path:
    """The table `folder/name.csv`, or one of its other forms or names; what the folder has instead is `told`.

    Raises:
        BlipError: there is no such folder or table.
    """
    if not folder.is_dir():
        raise BlipError(f"source {folder}: no such folder; check ingest.datasets in params.yaml")
    if path := table_in(folder, *names):
        return path
    other = table_in(folder, *CAPTIONS)
    read = f"; it has {other.name}, which kind table reads" if other else told(folder)
    raise BlipError(f"source {folder}: it has no table {names[0]}.{{{','.join(EXTENSIONS)}}}{read}")


def table_in(folder: Path, *names: str) -> Path | None:
    """The table of the first of these names and forms that a folder has."""
    return next(iter(tables_in(folder, *names)), None)


def tables_in(folder: Path, *names: str) -> list[Path]:
    """The tables of these names, in any form, that a folder has."""
    paths = (folder / f"{name}.{extension}" for name in names for extension in EXTENSIONS)
    return [path for path in paths if path.is_file()]


def column_names(path: Path) -> list[str]:
    """The columns of a table: its header, or the keys of its first sound row.

    Raises:
        BlipError: a parquet file or a header cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        try:
            return pq.read_schema(path).names
        except READ_ERRORS as error:
            raise BlipError(f"{path} cannot be read: {error}") from None
    if path.suffix.lower() in (".csv", ".tsv"):
        return header_of(path)
    return next((list(row.values) for row in read_rows(path) if isinstance(row, Row)), [])


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row | Refused]:
    """The rows of a table, with at least `columns`; of a parquet file no others are read.

    Raises:
        BlipError: the file is of no known form, or its header lacks a column, or has it twice.
    """
    known = column_names(path) if columns and path.suffix.lower() not in (".json", ".jsonl") else None
    missing = [] if known is None else [column for column in columns or () if column not in known]
    if missing:
        raise BlipError(f"{path}: no column {', '.join(missing)}; it has {', '.join(known or ()) or 'none'}")
    twice = [column for column, count in Counter(known).items() if count > 1 and column in (columns or ())]
    if twice:
        raise BlipError(f"{path}: more than one column is called {', '.join(twice)}; rename one of them")
    for row in _reader(path)(path, columns):
        lacking = [c for c in columns or () if c not in row.values] if isinstance(row, Row) else []
        yield (
            row
            if isinstance(row, Refused) or not lacking
            else broken(path, row.number, f"no {', '.join(lacking)} among {', '.join(row.values)}")
        )


def read_truth(folder: Path) -> dict[str, dict[str, Value]]:
    """`truth.csv` by image, if there is one: columns of whole numbers and of numbers get these types.

    Raises:
        BlipError: it has no column `image`, or a broken row.
    """
    path = folder / TRUTH
    if not path.is_file():
        return {}
    rows = []
    for row in read_rows(path, ["image"]):
        if isinstance(row, Refused):
            raise BlipError(row.detail)
        rows.append(row)
    counts = Counter(plain_name(row.text("image")) for row in rows)
    if twice := [name for name, count in counts.items() if count > 1]:
        tell(
            f"{path}: several rows are of one image ({len(twice):,}, as {twice[0]!r}); the last of them counts"
        )
    columns = [column for column in rows[0].values if column != "image"] if rows else []
    types = {column: _type_of([row.text(column) for row in rows]) for column in columns}
    return {plain_name(row.text("image")): {c: types[c](row.text(c)) for c in columns} for row in rows}


def _type_of(values: list[str]) -> type[str] | type[int] | type[float]:
    if all(_INTEGER.fullmatch(value) for value in values):
        return int
    return float if all(_NUMBER.fullmatch(value) for value in values) else str


def _reader(path: Path) -> Callable[[Path, Sequence[str] | None], Iterator[Row | Refused]]:
    readers = {
        "csv": lambda path, _: read_separated(path),
        "tsv": lambda path, _: read_separated(path),
        "json": _json,
        "jsonl": lambda path, _: read_json_lines(path),
        "parquet": _parquet,
    }
    extension = path.suffix[1:].lower()
    if extension not in readers:
        raise BlipError(f"{path}: a table ends in .{', .'.join(EXTENSIONS)}, not in {path.suffix!r}")
    return readers[extension]


def read_json_lines(path: Path) -> Iterator[Row | Refused]:
    """A row a line, whatever the file's name ends in."""
    with path.open(encoding="utf-8-sig", errors="replace") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield broken(path, number, f"not JSON: {error}", line.encode(errors="replace"))
                continue
            yield row_of_json(path, number, value)


def _json(path: Path, _: Sequence[str] | None) -> Iterator[Row | Refused]:
    told = told_of_object(path)
    if told and _has_lines(path):
        yield from read_json_lines(path)
        return
    if told:
        raise BlipError(f"{path}: a JSON table is a list of objects, [{{...}}, ...]; {told}")
    for number, value in enumerate(stream(path, "item"), 1):
        yield row_of_json(path, number, value)


def _has_lines(path: Path) -> bool:
    """Whether a file is JSON lines by another name: an object is whole in one of its first lines."""
    with open_text(path) as handle:
        lines = [line for line in islice(handle, LOOKED_AT) if line.strip()]
    objects = [value for line in lines if isinstance(value := _loaded(line), dict)]
    return bool(objects) and (len(lines) > 1 or bool(guess(list(objects[0]), (*IMAGE, *ADDRESS))))


def _loaded(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Row | Refused]:
    number = 0
    try:
        for batch in batches_of(path, columns):
            for row in rows_of(batch, path, number + 1):
                number += 1
                yield row
    except READ_ERRORS as error:
        see_that_it_is_its_own(error, path)
        detail = f"{path.name} cannot be read after row {number}: {error}"
        yield Refused(key_of(path.name), BROKEN_TABLE, detail)
