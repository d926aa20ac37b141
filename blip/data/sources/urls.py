"""Kind `urls`: lists of URLs with captions, row by row, whatever their size; the pictures are fetched shard by shard.

    for row in read_rows(Path("ccs_synthetic_filtered.json")): ...      # Address, or Refused with the row's number

Read are JSON (`[{"url": ..., "caption": ...}, ...]`, as BLIP's bootstrapped lists), JSON lines, CSV, TSV (with or
without a header, as CC3M's) and Parquet (LAION's), and folders of such files. Held in memory are one row, or one
batch of a Parquet file.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ijson
import pyarrow as pa
import pyarrow.parquet as pq

from blip.config import Source
from blip.data.sources.refused import Refused
from blip.errors import BlipError

URL_NAMES = ("url", "image_url", "img_url", "link", "href", "src")
CAPTION_NAMES = ("caption", "text", "alt", "alt_text", "alttext", "title", "top_caption", "description")
EXTENSIONS = ("parquet", "json", "jsonl", "ndjson", "tsv", "csv")
BAD_ROW, NO_URL, NO_CAPTION = "bad_row", "no_url", "no_caption"
MALFORMED = frozenset({BAD_ROW, NO_URL, NO_CAPTION})
_BATCH = 4096
_LONGEST_FIELD = 1 << 24


@dataclass(frozen=True)
class Address:
    """A picture to fetch: the key of its sample, where it is, and its caption."""

    key: str
    url: str
    caption: str


def read_rows(path: Path) -> Iterator[Address | Refused]:
    """The rows of a list or of a folder of lists; keys are the numbers of the rows.

    Raises:
        BlipError: there is no such list, it has no column of URLs or captions, or it cannot be read on.
    """
    number = 0
    for file in _files(path):
        for row in _rows(file):
            yield _address(row, f"{number:09d}", file)
            number += 1


def read(source: Source, path: Path) -> Iterator[Address | Refused]:
    """The rows of a list of the settings."""
    return read_rows(path)


def is_url_list(path: Path) -> bool:
    """Whether the first row of a file has a URL."""
    try:
        row = next(_rows(path), None)
        return isinstance(row, Mapping) and bool(_value(row, URL_NAMES))
    except (BlipError, OSError):
        return False


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = [file for file in sorted(path.glob("*")) if file.suffix[1:].lower() in EXTENSIONS]
    if not found:
        raise BlipError(f"source {path}: no list of URLs there; read are {', '.join(EXTENSIONS)}")
    return found


def _rows(path: Path) -> Iterator[Mapping[str, Any] | str]:
    """Rows by column name, or what is wrong with one."""
    reader = {"parquet": _parquet, "json": _json, "jsonl": _lines, "ndjson": _lines}.get(
        path.suffix[1:].lower()
    )
    try:
        yield from (reader or _separated)(path)
    except (ijson.JSONError, csv.Error, pa.ArrowException, OSError, UnicodeError) as error:
        raise BlipError(f"source {path} cannot be read on: {error}") from None


def _address(row: Mapping[str, Any] | str, key: str, file: Path) -> Address | Refused:
    if isinstance(row, str):
        return Refused(key, BAD_ROW, f"row {int(key):,} of {file.name}: {row}")
    url, caption = _value(row, URL_NAMES), " ".join(_value(row, CAPTION_NAMES).split())
    if not url:
        return Refused(key, NO_URL, f"row {int(key):,} of {file.name} has no URL")
    if not caption:
        return Refused(key, NO_CAPTION, f"row {int(key):,} of {file.name} has no caption: {url[:200]}")
    return Address(key, url.strip(), caption)


def _value(row: Mapping[str, Any], names: Sequence[str]) -> str:
    for name in names:
        for column in (name, name.upper(), name.capitalize()):
            value = row.get(column)
            if isinstance(value, str):
                return value
    return ""


def _json(path: Path) -> Iterator[Mapping[str, Any] | str]:
    with path.open("rb") as file:
        for item in ijson.items(file, "item"):
            yield item if isinstance(item, dict) else f"not an object: {str(item)[:60]!r}"


def _lines(path: Path) -> Iterator[Mapping[str, Any] | str]:
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                yield _object(line)


def _object(line: bytes) -> Mapping[str, Any] | str:
    try:
        value = json.loads(line)
    except ValueError as error:
        return f"no JSON: {error}"
    return value if isinstance(value, dict) else f"not an object: {line[:60]!r}"


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        columns = [_column(names, wanted, path) for wanted in (URL_NAMES, CAPTION_NAMES)]
        for batch in file.iter_batches(_BATCH, columns=columns):
            yield from batch.to_pylist()


def _separated(path: Path) -> Iterator[Mapping[str, Any] | str]:
    csv.field_size_limit(min(_LONGEST_FIELD, sys.maxsize))
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
        rows = csv.reader(file, delimiter=delimiter, quoting=quoting)
        first = next(rows, None)
        if first is None:
            return
        header = _header(first, path)
        if any(map(_looks_like_url, first)):
            yield dict(zip(header, first, strict=False))
        for row in rows:
            if len(row) == len(header):
                yield dict(zip(header, row, strict=True))
            elif row:
                yield f"{len(row)} fields where {len(header)} are expected: {delimiter.join(row)[:100]!r}"


def _header(first: list[str], path: Path) -> list[str]:
    """The column names; where the first row is data already, the field with the URL and the other are it."""
    if any(map(_looks_like_url, first)):
        if len(first) != 2:
            raise BlipError(f"source {path}: {len(first)} columns without a header; name them in a first row")
        return ["url" if _looks_like_url(field) else "caption" for field in first]
    for wanted in (URL_NAMES, CAPTION_NAMES):
        _column(first, wanted, path)
    return first


def _looks_like_url(field: str) -> bool:
    return field.lstrip().lower().startswith(("http://", "https://"))


def _column(names: Sequence[str], wanted: Sequence[str], path: Path) -> str:
    found = next((name for choice in wanted for name in names if name.lower() == choice), None)
    if found is None:
        raise BlipError(
            f"source {path}: no column {' or '.join(wanted[:4])}; it has {', '.join(names)}. Rename one of them"
        )
    return found
