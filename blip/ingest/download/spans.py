"""Rows of a large table found by the values of one column: read are the row groups that may have them, and no others.

    spans = Spans(dataset.path / METADATA, "shard")
    spans.rows("shards/00012.tar", "shards/00012.tar", ["key", "url"])      # and rows of others in the same groups

Which values a row group has the footer of the table says. It is read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from blip.errors import BlipError

HIGHEST = chr(0x10FFFF)  # behind every text


class Spans:
    """The smallest and the largest text of a column in each row group of a table."""

    def __init__(self, path: Path, column: str) -> None:
        """Read the footer.

        Raises:
            BlipError: the table cannot be read, or has no such column.
        """
        self._path = path
        try:
            self._footer = pq.read_metadata(path)
        except (OSError, pa.ArrowException) as error:
            raise BlipError(f"{path} cannot be read: {error}") from None
        columns = [self._footer.schema.column(place).path for place in range(len(self._footer.schema))]
        if column not in columns:
            raise BlipError(f"{path} has no column {column}; it has: {', '.join(columns)}")
        place = columns.index(column)
        spans = [_span(self._footer, group, place) for group in range(self._footer.num_row_groups)]
        self._low = np.array([low for low, _ in spans], np.str_)
        self._high = np.array([high for _, high in spans], np.str_)

    def rows(self, low: str, high: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Some columns of the row groups that may have a text from `low` to `high`. Raises BlipError if unreadable."""
        groups = np.flatnonzero((self._low <= high) & (self._high >= low)).tolist()
        try:
            with pq.ParquetFile(self._path, metadata=self._footer) as file:
                for group in groups:
                    yield from file.read_row_group(group, columns=list(columns)).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise BlipError(f"{self._path} cannot be read: {error}") from None


def _span(footer: pq.FileMetaData, group: int, place: int) -> tuple[str, str]:
    """From the smallest to the largest text; from the first to the last of all where the footer does not say."""
    known = footer.row_group(group).column(place).statistics
    return (str(known.min), str(known.max)) if known is not None and known.has_min_max else ("", HIGHEST)
