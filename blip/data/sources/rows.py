"""Tables beside the media, as csv, tsv, jsonl or parquet: rows of text by column name."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from blip.errors import BlipError

EXTENSIONS = ("csv", "tsv", "jsonl", "parquet")
Row = dict[str, str]
Value = str | int | float

_INTEGER, _NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})"), re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")


def find_table(folder: Path, name: str) -> Path:
    """The table `folder/name.csv`, or one of its other forms.

    Raises:
        BlipError: there is no such folder or table.
    """
    if not folder.is_dir():
        raise BlipError(f"source {folder}: no such folder; check ingest.datasets in params.yaml")
    for extension in EXTENSIONS:
        path = folder / f"{name}.{extension}"
        if path.is_file():
            return path
    raise BlipError(f"source {folder}: it has no table {name}.{{{','.join(EXTENSIONS)}}}")


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Rows as text, missing values as "", each with at least `columns`.

    Raises:
        BlipError: a column is missing, or the table cannot be read; the message names the line.
    """
    reader = {"jsonl": _jsonl, "parquet": _parquet}.get(path.suffix[1:], _separated)
    number = 0
    try:
        for number, row in enumerate(reader(path), 1):
            missing = [column for column in columns if column not in row]
            if missing:
                raise BlipError(
                    f"{path}, row {number}: no column {', '.join(missing)}; it has {', '.join(row)}"
                )
            yield row
    except (csv.Error, ValueError, pa.ArrowInvalid) as error:
        raise BlipError(f"{path} cannot be read after row {number}: {error}") from None


def read_truth(folder: Path) -> dict[str, dict[str, Value]]:
    """`truth.csv` by image, if there is one: columns of whole numbers and of numbers get these types."""
    path = folder / "truth.csv"
    if not path.is_file():
        return {}
    rows = list(read_rows(path, ["image"]))
    columns = [column for column in rows[0] if column != "image"] if rows else []
    types = {column: _type_of([row[column] for row in rows]) for column in columns}
    return {row["image"]: {column: types[column](row[column]) for column in columns} for row in rows}


def _type_of(values: list[str]) -> type[str] | type[int] | type[float]:
    if all(_INTEGER.fullmatch(value) for value in values):
        return int
    return float if all(_NUMBER.fullmatch(value) for value in values) else str


def _separated(path: Path) -> Iterator[Row]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as handle:
        for row in csv.DictReader(handle, delimiter=delimiter):
            if None in row:
                raise ValueError(
                    "a row has more fields than the header; quote texts that contain the separator"
                )
            yield {name: value or "" for name, value in row.items()}


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as handle:
        for line in handle:
            if line.strip():
                value = json.loads(line)
                if not isinstance(value, dict):
                    raise ValueError(f"not an object: {line[:60]!r}")
                yield _as_text(value)


def _parquet(path: Path) -> Iterator[Row]:
    for batch in pq.ParquetFile(path).iter_batches():
        yield from map(_as_text, batch.to_pylist())


def _as_text(row: dict[str, object]) -> Row:
    return {str(name): "" if value is None else str(value) for name, value in row.items()}
