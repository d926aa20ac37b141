"""Parquet tables read a piece at a time: what is held does not grow with the table.

for batch in read_batches(dataset.path / METADATA, ["key", "width"]): ...
for row in read_rows(dataset.path / METADATA, ["key", "width"]): ...       # {"key": "cat-17", "width": 640}
for key in read_column(dataset.path / METADATA, "key"): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from blip.errors import BlipError

ROWS = 16_384


def read_batches(
    path: Path, columns: Sequence[str], rows: int = ROWS, optional: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    """Some columns of a table, and `optional` ones that it has; at most so many rows at a time, of one row group.

    Row group by row group, since reading all of them in one go keeps what it has read (150 MB for a million
    rows of metadata).

    Raises:
        BlipError: the table lacks a column or cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            lacking = sorted(set(columns) - set(known))
            if lacking:
                raise BlipError(f"{path} has no column {', '.join(lacking)}; it has: {', '.join(known)}")
            wanted = [*columns, *(column for column in optional if column in known)]
            for group in range(file.num_row_groups):
                yield from file.iter_batches(rows, row_groups=[group], columns=wanted)
    except (OSError, pa.ArrowException) as error:
        raise BlipError(f"{path} cannot be read: {error}") from None


def read_rows(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The rows of a table, one after the other, with some of its columns. Raises BlipError as `read_batches` does."""
    for batch in read_batches(path, columns, optional=optional):
        yield from batch.to_pylist()


def read_column(path: Path, column: str) -> Iterator[Any]:
    """The values of a column, one after the other. Raises BlipError as `read_batches` does."""
    for batch in read_batches(path, [column]):
        yield from batch.column(0).to_pylist()
