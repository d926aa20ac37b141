"""What is wrong with a dataset on disk is found, with the shard and the key."""

import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.data.archive import add_member, read_members
from blip.data.jobs import open_pool
from blip.data.manifest import Shard
from blip.data.pairs import PairsDataset, PairsWriter
from blip.inspection.verification import verify
from tests.data.conftest import draw, encoded, sample

Make = Callable[..., PairsDataset]


def shards(dataset: PairsDataset) -> list[Path]:
    return [dataset.path / shard.url for shard in dataset.manifest.shards]


def rewrite(dataset: PairsDataset, change: Callable[[list[dict]], list[dict]]) -> None:
    """Change the rows of the metadata table."""
    path = dataset.path / "metadata.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path)


def test_a_sound_dataset_has_no_problem_and_every_shard_is_reported(make_dataset: Make) -> None:
    seen: list[Shard] = []
    dataset = make_dataset(count=10, per_shard=4)
    assert verify(dataset, on_shard=seen.append) == []
    assert seen == dataset.manifest.shards


def test_a_dataset_with_quarantine_is_sound(tmp_path: Path) -> None:
    with PairsWriter(tmp_path / "d", samples_per_shard=4, parents=[], parameters={}) as writer:
        writer.add(sample(0))
        writer.quarantine("bad", "truncated", "ends early", b"half")
        writer.quarantine("gone", "missing_file", "listed only")
    assert verify(PairsDataset.open(tmp_path / "d")) == []


def test_a_changed_byte_is_traced_to_its_key(make_dataset: Make) -> None:
    dataset = make_dataset(count=10, per_shard=4)
    path = shards(dataset)[1]
    data = bytearray(path.read_bytes())
    media = encoded(draw(5))
    at = bytes(data).index(media) + 100
    data[at] ^= 1
    path.write_bytes(data)
    changed = bytearray(media)
    changed[100] ^= 1
    assert verify(dataset) == [
        "shard shards/00001.tar is not the file that the manifest describes (SHA-256 differs)",
        f"shard shards/00001.tar: key key-00005 has sha256 {sha256(changed).hexdigest()}, "
        f"metadata.parquet says {sha256(media).hexdigest()}",
    ]


def test_a_pair_has_a_digest_of_each_picture(tmp_path: Path) -> None:
    with PairsWriter(tmp_path / "d", samples_per_shard=4, parents=[], parameters={}) as writer:
        writer.add(replace(sample(0), partner=encoded(draw(1)), partner_extension="png"))
        writer.add(sample(2))
    dataset, digest = PairsDataset.open(tmp_path / "d"), sha256(encoded(draw(1))).hexdigest()
    assert dataset.metadata()["partner_sha256"].to_pylist() == [digest, None]
    assert verify(dataset) == []
    rewrite(dataset, lambda rows: [row | {"partner_sha256": "ab" * 32} for row in rows])
    told = f"metadata.parquet says {'ab' * 32}"
    assert verify(dataset) == [
        f"shard shards/00000.tar: key key-00000 has partner_sha256 {digest}, {told}",
        f"shard shards/00000.tar: key key-00002 has partner_sha256 None, {told}",
    ]


def test_a_missing_and_a_shortened_shard_are_named(make_dataset: Make) -> None:
    dataset = make_dataset(count=10, per_shard=4)
    first, second, _ = shards(dataset)
    first.unlink()
    size = second.stat().st_size
    os.truncate(second, 1000)
    assert verify(dataset) == [
        "shard shards/00000.tar is missing",
        f"shard shards/00001.tar has 1,000 bytes, the manifest says {size:,}",
    ]


def test_rows_in_another_order_than_the_samples_are_named(make_dataset: Make) -> None:
    dataset = make_dataset(count=8, per_shard=4)
    rewrite(dataset, lambda rows: [rows[0], rows[2], rows[1], *rows[3:]])
    assert verify(dataset) == [
        "shard shards/00000.tar: sample 1 is key-00001, metadata.parquet has key-00002 there",
        "shard shards/00000.tar: sample 2 is key-00002, metadata.parquet has key-00001 there",
    ]


def test_shards_in_another_order_than_the_rows_are_named(make_dataset: Make) -> None:
    dataset = make_dataset(count=8, per_shard=4)
    rewrite(dataset, lambda rows: rows[4:] + rows[:4])
    assert verify(dataset) == [
        "metadata.parquet has no rows for shard shards/00000.tar where they should stand",
        "metadata.parquet has rows for shard shards/00000.tar behind its last shard's",
    ]


def test_workers_find_what_one_process_finds_in_the_order_of_the_shards(make_dataset: Make) -> None:
    dataset = make_dataset(count=30, per_shard=3)
    shards(dataset)[2].unlink()
    os.truncate(shards(dataset)[7], 1000)
    stray = {"shard": "shards/00099.tar"}
    rewrite(
        dataset,
        lambda rows: [*rows[:3], {**rows[3], **stray}, *rows[4:20], {**rows[20], "width": 7}, *rows[21:]],
    )
    seen: list[Shard] = []
    with open_pool(2) as pool:
        shared = verify(dataset, seen.append, pool)
    assert shared == verify(dataset) and len(shared) > 4
    assert seen == dataset.manifest.shards


def test_a_table_that_breaks_off_is_said_once_for_the_shard_and_once_for_all(make_dataset: Make) -> None:
    dataset = make_dataset(count=6, per_shard=3)
    path = dataset.path / "metadata.parquet"
    second = pq.read_metadata(path).row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = second.dictionary_page_offset or second.data_page_offset
    data[start : start + second.total_compressed_size] = bytes(second.total_compressed_size)
    path.write_bytes(data)
    found = verify(dataset)
    assert len(found) == 3
    assert found[0].startswith(f"shard shards/00000.tar: {path} cannot be read: ")
    assert found[1] == "metadata.parquet has no rows for shard shards/00001.tar where they should stand"
    assert found[2].startswith(f"{path} cannot be read: ")


def test_rows_that_are_lost_or_too_many_are_named(make_dataset: Make) -> None:
    dataset = make_dataset(count=8, per_shard=4)
    stray = {"shard": "shards/00009.tar", "key": "stray"}
    rewrite(dataset, lambda rows: [*rows[:3], {**rows[3], **stray}, *rows[4:], rows[7]])
    assert verify(dataset) == [
        "shard shards/00000.tar: key key-00003 has no row in metadata.parquet",
        "metadata.parquet has rows for shard shards/00009.tar, which the manifest lacks",
        "shard shards/00001.tar: metadata.parquet has key key-00007, which the shard lacks",
        "metadata.parquet has 9 rows, the manifest says 8 samples",
        "metadata.parquet: key key-00007 stands more than once",
    ]


@pytest.mark.parametrize(("column", "found", "told"), [("width", 40, 41), ("height", 40, 7), ("bytes", 0, 1)])
def test_sizes_are_compared_with_the_pictures(make_dataset: Make, column: str, found: int, told: int) -> None:
    dataset = make_dataset(count=3)
    rewrite(dataset, lambda rows: [rows[0], {**rows[1], column: told}, rows[2]])
    found = found or len(encoded(draw(1)))
    assert verify(dataset) == [
        f"shard shards/00000.tar: key key-00001 has {column} {found}, metadata.parquet says {told}"
    ]


def test_many_problems_of_a_shard_are_counted(make_dataset: Make) -> None:
    dataset = make_dataset(count=20, per_shard=20)
    rewrite(dataset, lambda rows: [{**row, "width": 1} for row in rows])
    problems = verify(dataset)
    assert len(problems) == 4
    assert problems[3] == "shard shards/00000.tar: 17 more like these"


def test_a_table_that_cannot_be_read_or_lacks_a_column_is_named(make_dataset: Make) -> None:
    dataset = make_dataset(count=3)
    table = pq.read_table(dataset.path / "metadata.parquet")
    pq.write_table(table.drop(["key"]), dataset.path / "metadata.parquet")
    assert any(
        "metadata.parquet has no column key; it has: shard, " in problem for problem in verify(dataset)
    )
    (dataset.path / "metadata.parquet").write_bytes(b"PAR1")
    assert any("metadata.parquet cannot be read: " in problem for problem in verify(dataset))


def refuse(directory: Path) -> PairsDataset:
    """A dataset with two payloads."""
    with PairsWriter(directory, samples_per_shard=4, parents=[], parameters={}) as writer:
        writer.add(sample(0))
        writer.quarantine("bad", "truncated", "ends early", b"half")
        writer.quarantine("worse", "corrupt", "noise", b"noise")
    return PairsDataset.open(directory)


def write_payloads(dataset: PairsDataset, members: dict[str, bytes]) -> None:
    """Another tar in place of the one that the index describes."""
    with tarfile.open(dataset.path / "quarantine/00000.tar", "w") as tar:
        for name, data in members.items():
            add_member(tar, name, data)


def test_a_quarantine_that_does_not_add_up_is_named(tmp_path: Path) -> None:
    dataset = refuse(tmp_path / "d")
    path = tmp_path / "d/manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"quarantined": {"truncated": 2, "corrupt": 1}}))
    write_payloads(dataset, {"0001-worse": b"noise"})
    (tmp_path / "d/quarantine/stray").write_bytes(b"")
    (tmp_path / "d/quarantine/other").write_bytes(b"")
    assert verify(PairsDataset.open(tmp_path / "d")) == [
        "quarantine: the bytes of bad (00000.tar/0000-bad) are missing",
        "quarantine/index.parquet has 1 of reason truncated, the manifest says 2",
        "quarantine has 2 files that its index does not name",
    ]
    (tmp_path / "d/quarantine/index.parquet").unlink()
    (problem,) = verify(PairsDataset.open(tmp_path / "d"))
    assert "quarantine/index.parquet cannot be read" in problem


def test_a_payload_that_the_index_does_not_name_is_named(tmp_path: Path) -> None:
    dataset = refuse(tmp_path / "d")
    write_payloads(dataset, {"0000-bad": b"half", "0001-worse": b"noise", "0002-more": b""})
    (dataset.path / "quarantine/00001.tar").write_bytes(b"")
    assert verify(dataset) == [
        "quarantine: 00000.tar has 0002-more, which the index does not name",
        "quarantine has 1 files that its index does not name",
    ]


def test_a_cut_and_a_missing_tar_of_payloads_are_named(tmp_path: Path) -> None:
    dataset = refuse(tmp_path / "d")
    os.truncate(dataset.path / "quarantine/00000.tar", 2 * 512 + 512 + 2)
    assert verify(dataset) == [
        "quarantine: 00000.tar cannot be read after 0000-bad: the last 3 bytes of 0001-worse are missing",
        "quarantine: the bytes of worse (00000.tar/0001-worse) are missing",
    ]
    (dataset.path / "quarantine/00000.tar").unlink()
    assert verify(dataset) == ["quarantine: 00000.tar is missing, with the bytes of bad and 1 more"]


def test_payloads_in_files_of_their_own_are_verified_too(tmp_path: Path) -> None:
    dataset = refuse(tmp_path / "d")
    spread_payloads(dataset.path / "quarantine")
    assert verify(dataset) == []
    (dataset.path / "quarantine/00000-0000-bad").unlink()
    (dataset.path / "quarantine/stray").write_bytes(b"")
    assert verify(dataset) == [
        "quarantine: 00000-0000-bad is missing, with the bytes of bad",
        "quarantine has 1 files that its index does not name",
    ]


def spread_payloads(folder: Path) -> None:
    """Have each in a file of its own, as datasets have it that are kept since before there were tars."""
    table = pq.read_table(folder / "index.parquet")
    for member in read_members(folder / "00000.tar"):
        (folder / f"00000-{member.name}").write_bytes(member.data)
    (folder / "00000.tar").unlink()
    rows = [row | {"file": row["file"].replace(".tar/", "-")} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / "index.parquet")


def test_files_that_are_no_part_of_it_are_named(make_dataset: Make) -> None:
    dataset = make_dataset(count=3)
    (dataset.path / "shards/00007.tar").write_bytes(b"")
    (dataset.path / ".DS_Store").write_bytes(b"")
    assert sorted(verify(dataset)) == [
        "the folder: .DS_Store is no part of it",
        "the folder: shards/00007.tar is no part of it",
    ]
