"""Rows found by the footer of a table: all that are asked for, and of the other row groups none."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.errors import BlipError
from blip.ingest.download.spans import Spans


def table(path: Path, *groups: list[str | None], **options: bool) -> Path:
    """A table with a row group for each list of keys; `number` is the place of a row."""
    schema, place = pa.schema([("number", pa.int32()), ("key", pa.string())]), 0
    with pq.ParquetWriter(path, schema, **options) as writer:
        for keys in groups:
            numbers = range(place, place + len(keys))
            writer.write_table(pa.table([pa.array(numbers, pa.int32()), pa.array(keys)], schema=schema))
            place += len(keys)
    return path


def found(spans: Spans, low: str, high: str) -> list[int]:
    return [row["number"] for row in spans.rows(low, high, ["number"])]


def test_row_groups_that_may_have_a_text_are_read_and_no_others(tmp_path: Path) -> None:
    spans = Spans(table(tmp_path / "t.parquet", ["b", "a"], ["d"], ["c", "e"], [None]), "key")
    assert found(spans, "d", "d") == [2, 3, 4, 5]  # of the last the footer says nothing
    assert found(spans, "a", "b") == [0, 1, 5]
    assert found(spans, "x", "z") == [5]


def test_of_a_table_whose_footer_says_nothing_all_is_read(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", ["a"], ["b"], write_statistics=False)
    assert found(Spans(path, "key"), "b", "b") == [0, 1]


def test_a_table_without_rows_has_none(tmp_path: Path) -> None:
    assert found(Spans(table(tmp_path / "t.parquet"), "key"), "a", "z") == []


def test_what_is_no_table_or_lacks_the_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("no table")
    with pytest.raises(BlipError, match=r"t\.parquet cannot be read"):
        Spans(tmp_path / "t.parquet", "key")
    with pytest.raises(BlipError, match="has no column shard; it has: number, key"):
        Spans(table(tmp_path / "t.parquet", ["a"]), "shard")
