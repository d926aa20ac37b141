"""The parts of a dataset: in the order of their numbers, and nothing of one that was given up stays."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from blip.data import part as module
from blip.data.metadata import METADATA
from blip.data.pairs import Caption, PairsDataset, Sample
from blip.data.part import PartWriter, assemble, finished, forget
from blip.data.verification import verify

BEYOND_FIVE_DIGITS = [100_000, 9_999, 10_001, 10_000]


def sample(key: str) -> Sample:
    return Sample(key, b"no picture is opened", "png", (Caption("red apple", "web"),), width=2, height=2)


def write(directory: Path, number: int, refuse: bool = False) -> None:
    with PartWriter(directory, number) as part:
        part.add(sample(f"key-{number}"), phash=1)
        if refuse:
            part.quarantine(f"bad-{number}", "truncated", "ends early", b"bytes")


def test_more_than_five_digits_of_parts_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in BEYOND_FIVE_DIGITS:
        write(tmp_path, number, refuse=True)
    assert list(finished(tmp_path)) == sorted(BEYOND_FIVE_DIGITS)
    manifest = assemble(tmp_path, [], {})
    ordered = [f"key-{number}" for number in sorted(BEYOND_FIVE_DIGITS)]
    assert [shard.url for shard in manifest.shards] == [
        f"shards/{n:05d}.tar" for n in sorted(BEYOND_FIVE_DIGITS)
    ]
    assert pq.read_table(tmp_path / METADATA)["key"].to_pylist() == ordered
    assert [one.key for one in PairsDataset.open(tmp_path).samples()] == ordered
    refused = pq.read_table(tmp_path / "quarantine/index.parquet")["key"].to_pylist()
    assert refused == [f"bad-{number}" for number in sorted(BEYOND_FIVE_DIGITS)]


@pytest.mark.parametrize("finishes", [True, False])
def test_what_an_earlier_try_left_of_a_part_is_gone(tmp_path: Path, finishes: bool) -> None:
    write(tmp_path, 1, refuse=True)
    if not finishes:  # ended before its receipt was written
        (tmp_path / "parts/00001.json").unlink()
    write(tmp_path, 1)
    write(tmp_path, 0, refuse=True)
    assemble(tmp_path, [], {})
    for path in (tmp_path / "parts").iterdir():
        path.unlink()
    (tmp_path / "parts").rmdir()
    assert verify(PairsDataset.open(tmp_path)) == []


def test_an_empty_part_that_was_ended_before_its_receipt_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(Exception):
        """As by kill -9."""

    def end(*_: object) -> None:
        raise Ended

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", end)
        with pytest.raises(Ended), PartWriter(tmp_path, 3) as part:
            part.quarantine("bad", "truncated", "ends early", b"bytes")
    forget(tmp_path, 3)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_part_that_nobody_began_is_not_searched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 0)

    def search(self: Path, pattern: str) -> list[Path]:
        raise AssertionError(f"{self} is read through for {pattern}")

    monkeypatch.setattr(Path, "glob", search)
    write(tmp_path, 1)
    monkeypatch.undo()
    assert finished(tmp_path).keys() == {0, 1}
