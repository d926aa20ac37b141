"""Parquet files of which little on disk is much in memory."""

import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.ingest.sources.arrow_rows import RUN, TEXT_LIMIT
from blip.ingest.sources.refused import Refused
from blip.ingest.sources.row import Row
from blip.ingest.sources.rows import read_rows

from .reading import items, reasons, samples, write

ROWS = 300
LONG = "x" * (10 << 20)  # times ROWS is three gigabytes


def repeated(values: list, kind: pa.DataType) -> pa.Array:
    """ROWS times the same values, which stand in memory once."""
    indices = pa.array([index for _ in range(ROWS) for index in range(len(values))], pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, kind))


def tables() -> dict[str, pa.Array]:
    texts = repeated([LONG], pa.string())
    once = pa.array(range(ROWS + 1), pa.int32())
    return {
        "text": texts,
        "list": pa.ListArray.from_arrays(once, texts),
        "struct": pa.StructArray.from_arrays([texts], ["raw"]),
        "list of structs": pa.ListArray.from_arrays(once, pa.StructArray.from_arrays([texts], ["raw"])),
    }


@pytest.mark.parametrize("kind", tables())
def test_a_text_that_stands_once_and_in_every_row_is_refused_unread(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"image": ["a.png"] * ROWS, "caption": tables()[kind]})
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=1 << 30)
    assert path.stat().st_size < 10_000
    del table
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    for number, row in enumerate(read_rows(path, ["image", "caption"]), 1):
        assert isinstance(row, Refused)
        assert (row.key, row.reason) == (f"t-{number:08d}", "caption_too_long")
        assert (
            row.detail
            == f"t.parquet, row {number}: 10,485,765 bytes of texts, over the 1,048,576 that a row may have"
        )
        assert pa.total_allocated_bytes() - before < 10 * len(LONG)
    assert number == ROWS
    assert tracemalloc.get_traced_memory()[1] < 3 * len(LONG)
    tracemalloc.stop()


def test_the_rows_around_a_text_that_is_too_long_are_read(tmp_path: Path) -> None:
    texts = ["one", "x" * TEXT_LIMIT, "three", None, "ä" * 10]
    pq.write_table(pa.table({"image": list("abcde"), "caption": texts}), tmp_path / "t.parquet")
    for name in "abcde":
        write(tmp_path / f"{name}.png", name)
    found = items(tmp_path / "t.parquet", "table")
    assert list(samples(found)) == ["a", "c", "e"]
    assert reasons(found) == {"t-00000002": "caption_too_long", "d": "no_caption"}


def test_pictures_of_many_bytes_become_pythons_a_few_at_a_time(tmp_path: Path) -> None:
    picture = b"\x89PNG" + bytes(1 << 20)
    pictures = repeated([picture, picture + b"2"], pa.binary())
    table = pa.table({"image": pictures, "caption": [f"n{number}" for number in range(2 * ROWS)]})
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd", dictionary_pagesize_limit=1 << 30)
    del table
    tracemalloc.start()
    rows = [row.number for row in read_rows(tmp_path / "t.parquet") if isinstance(row, Row)]
    assert rows == list(range(1, 2 * ROWS + 1))
    assert tracemalloc.get_traced_memory()[1] < 4 * RUN
    tracemalloc.stop()


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    rows = [
        {
            "n": n,
            "text": f"t{n % 3}",
            "list": ["a"] * (n % 3) if n % 5 else None,
            "raw": {"x": f"{n}", "b": b"\xff"},
        }
        for n in range(1000)
    ]
    for group in (100, 1000):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet", row_group_size=group)
        found = [row for row in read_rows(tmp_path / "t.parquet") if isinstance(row, Row)]
        assert [row.values for row in found] == rows
        assert [row.number for row in found] == list(range(1, 1001))
