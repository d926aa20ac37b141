"""Tables as csv, tsv, json, jsonl or parquet: rows with their numbers, one by one; a broken row is refused.

    for row in read_rows(Path("captions.csv")):
        if isinstance(row, Refused): ...
        row.number, row.text("caption")

A csv or tsv row is broken if its fields are not as many as the header's or its quotes do not pair up; a quote
that is never closed costs its own line only. Text that is no UTF-8 gets U+FFFD for its bytes, which screening
finds.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from blip.data.sources.json_stream import stream
from blip.data.sources.refused import Refused, key_of
from blip.errors import BlipError

EXTENSIONS = ("csv", "tsv", "jsonl", "json", "parquet")
BROKEN_ROW, BROKEN_TABLE = "broken_row", "broken_table"
READ_ERRORS = (OSError, ValueError, pa.ArrowException)  # what pyarrow raises for a damaged file
Value = str | int | float
Cells = dict[str, Any]

FIELD_LIMIT = 16 << 20  # characters; csv's own 131,072 would lose the row without a look at its caption
QUOTED_LINES = 1000  # that one quoted field may span
BATCH = 256  # rows of a parquet file, whose pictures may be in it

_INTEGER, _NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})"), re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Row:
    """A row: its line in a text file, its number otherwise, and the values by column."""

    number: int
    values: Cells

    def text(self, column: str) -> str:
        """A value as text, a missing one as ""."""
        value = self.values.get(column)
        return "" if value is None else str(value)


def find_table(folder: Path, *names: str) -> Path:
    """The table `folder/name.csv`, or one of its other forms or names.

    Raises:
        BlipError: there is no such folder or table.
    """
    if not folder.is_dir():
        raise BlipError(f"source {folder}: no such folder; check ingest.datasets in params.yaml")
    for name in names:
        for extension in EXTENSIONS:
            path = folder / f"{name}.{extension}"
            if path.is_file():
                return path
    raise BlipError(f"source {folder}: it has no table {names[0]}.{{{','.join(EXTENSIONS)}}}")


def column_names(path: Path) -> list[str]:
    """The columns of a table: its header, or the keys of its first sound row.

    Raises:
        BlipError: a parquet file cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        try:
            return pq.read_schema(path).names
        except READ_ERRORS as error:
            raise BlipError(f"{path} cannot be read: {error}") from None
    if path.suffix.lower() in (".csv", ".tsv"):
        with _open(path) as handle:
            return next(csv.reader(handle, delimiter=_delimiter(path)), [])
    return next((list(row.values) for row in read_rows(path) if isinstance(row, Row)), [])


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row | Refused]:
    """The rows of a table, with at least `columns`; of a parquet file no others are read.

    Raises:
        BlipError: the file is of no known form, or its header lacks a column.
    """
    known = column_names(path) if columns and path.suffix.lower() not in (".json", ".jsonl") else None
    missing = [] if known is None else [column for column in columns or () if column not in known]
    if missing:
        raise BlipError(f"{path}: no column {', '.join(missing)}; it has {', '.join(known or ()) or 'none'}")
    for row in _reader(path)(path, columns):
        lacking = [c for c in columns or () if c not in row.values] if isinstance(row, Row) else []
        yield (
            row
            if isinstance(row, Refused) or not lacking
            else _broken(path, row.number, f"no {', '.join(lacking)} among {', '.join(row.values)}")
        )


def read_truth(folder: Path) -> dict[str, dict[str, Value]]:
    """`truth.csv` by image, if there is one: columns of whole numbers and of numbers get these types.

    Raises:
        BlipError: it has no column `image`, or a broken row.
    """
    path = folder / "truth.csv"
    if not path.is_file():
        return {}
    rows = []
    for row in read_rows(path, ["image"]):
        if isinstance(row, Refused):
            raise BlipError(row.detail)
        rows.append(row)
    columns = [column for column in rows[0].values if column != "image"] if rows else []
    types = {column: _type_of([row.text(column) for row in rows]) for column in columns}
    return {row.text("image"): {c: types[c](row.text(c)) for c in columns} for row in rows}


def _type_of(values: list[str]) -> type[str] | type[int] | type[float]:
    if all(_INTEGER.fullmatch(value) for value in values):
        return int
    return float if all(_NUMBER.fullmatch(value) for value in values) else str


def _reader(path: Path) -> Callable[[Path, Sequence[str] | None], Iterator[Row | Refused]]:
    readers = {
        "csv": _separated,
        "tsv": _separated,
        "json": _json,
        "jsonl": read_json_lines,
        "parquet": _parquet,
    }
    extension = path.suffix[1:].lower()
    if extension not in readers:
        raise BlipError(f"{path}: a table ends in .{', .'.join(EXTENSIONS)}, not in {path.suffix!r}")
    return readers[extension]


def _separated(path: Path, _: Sequence[str] | None) -> Iterator[Row | Refused]:
    csv.field_size_limit(FIELD_LIMIT)
    delimiter = _delimiter(path)
    with _open(path) as handle:
        lines = _Lines(handle)
        names = next(csv.reader(lines, delimiter=delimiter), [])
        lines.begin()
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            try:
                fields = next(reader)
                problem = f"{len(fields)} fields, the header has {len(names)}; quote texts with {delimiter!r}"
            except StopIteration:
                return
            except csv.Error as error:
                fields, problem = [], str(error)
            number = lines.number
            if (fields and len(fields) != len(names)) or (not fields and lines.taken[0].strip()):
                line = lines.reject()
                raw = line.rstrip("\r\n").split("\t") if delimiter == "\t" else []
                if len(raw) == len(names):
                    yield Row(number, dict(zip(names, raw, strict=True)))
                else:
                    yield _broken(path, number, problem, line)
            elif fields:
                yield Row(number, dict(zip(names, fields, strict=True)))
            lines.begin()


class _Lines:
    """Lines for csv's reader, which may be told that only the first one of a record is spent."""

    def __init__(self, handle: TextIO) -> None:
        self._handle, self._again = handle, deque[str]()
        self.number, self.taken = 1, list[str]()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) > QUOTED_LINES:
            raise csv.Error(f"a quote is not closed within {QUOTED_LINES:,} lines")
        line = self._again.popleft() if self._again else next(self._handle)
        self.taken.append(line)
        return line

    def begin(self) -> None:
        """A record begins at the next line."""
        self.number += len(self.taken)
        self.taken = []

    def reject(self) -> str:
        """Give back all lines of the record but the first, which is returned."""
        first, *rest = self.taken
        self._again.extendleft(reversed(rest))
        self.taken = [first]
        return first


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _open(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def read_json_lines(path: Path, _: Sequence[str] | None = None) -> Iterator[Row | Refused]:
    """A row a line, whatever the file's name ends in; the second argument is for symmetry."""
    with path.open(encoding="utf-8-sig", errors="replace") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield _broken(path, number, f"not JSON: {error}", line)
                continue
            yield _row(path, number, value)


def _json(path: Path, _: Sequence[str] | None) -> Iterator[Row | Refused]:
    for number, value in enumerate(stream(path, "item"), 1):
        yield _row(path, number, value)


def _row(path: Path, number: int, value: object) -> Row | Refused:
    if isinstance(value, dict):
        return Row(number, value)
    return _broken(path, number, "not an object", json.dumps(value))


def _parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Row | Refused]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH, columns=list(columns) if columns else None):
                for values in cells_of(batch):
                    number += 1
                    yield Row(number, values)
    except READ_ERRORS as error:
        detail = f"{path.name} cannot be read after row {number}: {error}"
        yield Refused(key_of(path.name), BROKEN_TABLE, detail)


def cells_of(batch: pa.RecordBatch) -> Iterator[Cells]:
    """The rows of a batch as values by column; text that is no UTF-8 has U+FFFD."""
    columns = [_values(column) for column in batch.columns]
    for row in zip(*columns, strict=True):
        yield dict(zip(batch.schema.names, row, strict=True))


def _values(column: pa.Array) -> Iterable[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        buffer = scalar.as_buffer() if hasattr(scalar, "as_buffer") else None
        return buffer.to_pybytes().decode(errors="replace") if buffer else "\ufffd"


def _broken(path: Path, number: int, problem: str, line: str | None = None) -> Refused:
    payload = line.encode(errors="replace") if line is not None else None
    detail = f"{path.name}, line {number}: {problem}"[:300]
    return Refused(key_of(f"{path.stem}-line-{number}"), BROKEN_ROW, detail, payload)
