"""The parts of a dataset stand in the order of their numbers."""

from pathlib import Path

import pyarrow.parquet as pq

from blip.data.metadata import METADATA
from blip.data.pairs import Caption, PairsDataset, Sample
from blip.data.part import PartWriter, assemble, finished

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
