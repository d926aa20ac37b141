from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.data.parquet import read_batches, read_column, read_rows
from blip.errors import BlipError


def write(path: Path, groups: int, rows: int) -> Path:
    table = pa.table({"key": [f"key-{row}" for row in range(rows)], "text": ["word " * 40] * rows})
    with pq.ParquetWriter(path, table.schema) as file:
        for _ in range(groups):
            file.write_table(table)
    return path


def test_rows_come_in_order_some_at_a_time(tmp_path: Path) -> None:
    batches = list(read_batches(write(tmp_path / "t.parquet", groups=3, rows=5), ["key"], rows=3))
    assert [len(batch) for batch in batches] == [3, 2, 3, 2, 3, 2]
    assert [key for batch in batches[:2] for key in batch["key"].to_pylist()] == [
        f"key-{n}" for n in range(5)
    ]


def test_what_is_held_does_not_grow_with_the_table(tmp_path: Path) -> None:
    def most(groups: int) -> int:
        path = write(tmp_path / f"{groups}.parquet", groups, rows=2_000)
        held = [pa.total_allocated_bytes() for _ in read_batches(path, ["key", "text"])]
        return max(held) - min(held)

    assert most(60) <= 2 * most(6)


def test_a_missing_column_and_a_broken_table_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", groups=1, rows=2)
    with pytest.raises(BlipError, match=r"t\.parquet has no column colour; it has: key, text"):
        list(read_batches(path, ["key", "colour"]))
    path.write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(BlipError, match=r"t\.parquet cannot be read"):
        list(read_batches(path, ["key"]))
    with pytest.raises(BlipError, match=r"gone\.parquet cannot be read"):
        list(read_batches(tmp_path / "gone.parquet", ["key"]))


def test_rows_and_values_come_one_after_the_other(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", groups=2, rows=2)
    assert list(read_rows(path, ["key"])) == [{"key": f"key-{row}"} for row in (0, 1, 0, 1)]
    assert list(read_column(path, "key")) == ["key-0", "key-1", "key-0", "key-1"]
