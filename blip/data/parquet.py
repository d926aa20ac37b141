"""Parquet tables read a piece at a time: what is held does not grow with the table.

for batch in read_batches(dataset.path / METADATA, ["key", "width"]): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from blip.errors import BlipError

ROWS = 16_384


def read_batches(path: Path, columns: Sequence[str], rows: int = ROWS) -> Iterator[pa.RecordBatch]:
    """Some columns of a table, at most so many rows at a time and never across row groups.

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
            for group in range(file.num_row_groups):
                yield from file.iter_batches(rows, row_groups=[group], columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise BlipError(f"{path} cannot be read: {error}") from None
