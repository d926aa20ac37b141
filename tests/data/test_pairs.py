import json
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from blip.data.decode import BadImage
from blip.data.pairs import Caption, PairsDataset, PairsWriter, Question, Sample, excluded_keys
from blip.data.phash import phash
from blip.data.quarantine import read_quarantine
from blip.errors import BlipError
from blip.inspection.verification import verify

from .conftest import draw, encoded, sample

Make = Callable[..., PairsDataset]
LAYOUT = {"samples_per_shard": 4, "parents": ["source"], "parameters": {"kind": "table"}}


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(f.relative_to(directory)): f.read_bytes() for f in directory.rglob("*") if f.is_file()}


def test_samples_come_back_as_they_were_written(tmp_path: Path) -> None:
    written = Sample(
        key="a",
        media=encoded(draw(0, 30, 20), "webp"),
        extension="webp",
        captions=(
            Caption("Ein Äpfel, a red one!", "web", itm=0.25),
            Caption("apple", "synthetic", 0.5, -0.5),
        ),
        questions=(Question("what is it?", {"apple": 0.75, "pear": 0.25}, open=True),),
        width=30,
        height=20,
    )
    with PairsWriter(tmp_path / "d", **LAYOUT) as writer:
        writer.add(written)
    assert list(PairsDataset.open(tmp_path / "d").samples()) == [written]


def test_the_manifest_lists_shards_with_their_digests(make_dataset: Make) -> None:
    dataset = make_dataset(count=10, per_shard=4)
    manifest = json.loads((dataset.path / "manifest.json").read_text())
    assert [shard["samples"] for shard in manifest["shards"]] == [4, 4, 2]
    assert (manifest["samples"], manifest["quarantined"]) == (10, {})
    for shard in manifest["shards"]:
        data = (dataset.path / shard["url"]).read_bytes()
        assert (shard["sha256"], shard["bytes"]) == (sha256(data).hexdigest(), len(data))
    assert len(dataset) == 10
    assert dataset.digest == sha256((dataset.path / "manifest.json").read_bytes()).hexdigest()


def test_the_metadata_has_a_row_a_sample(tmp_path: Path) -> None:
    with PairsWriter(tmp_path / "d", **LAYOUT) as writer:
        writer.add(sample(1, truth={"concept": "apple", "matched": 1, "score": 0.5}))
    dataset = PairsDataset.open(tmp_path / "d")
    media = next(dataset.samples()).media
    assert dataset.metadata().to_pylist() == [
        {
            "key": "key-00001",
            "shard": "shards/00000.tar",
            "width": 40,
            "height": 40,
            "bytes": len(media),
            "sha256": sha256(media).hexdigest(),
            "phash": phash(draw(1)),
            "captions": [{"text": "picture 1", "origin": "human", "itm": None, "itc": None}],
            "caption": "picture 1",
            "origin": "human",
            "questions": 0,
            "url": None,
            "truth_concept": "apple",
            "truth_matched": 1,
            "truth_score": 0.5,
        }
    ]


def test_the_truth_is_in_no_file_that_training_reads(tmp_path: Path) -> None:
    with PairsWriter(tmp_path / "d", **LAYOUT) as writer:
        writer.add(sample(1, truth={"concept": "ZANZIBAR"}))
    holders = [name for name, data in files_of(tmp_path / "d").items() if b"ZANZIBAR" in data]
    assert holders == ["metadata.parquet"]
    assert next(PairsDataset.open(tmp_path / "d").samples()).truth is None


def test_columns_are_read_alone_and_unknown_ones_named(make_dataset: Make) -> None:
    dataset = make_dataset(count=2)
    assert dataset.metadata(["caption"]).to_pydict() == {"caption": ["picture 0", "picture 1"]}
    with pytest.raises(BlipError, match=r"no column colour; it has: key, shard"):
        dataset.metadata(["colour"])


def test_equal_samples_give_equal_bytes(make_dataset: Make) -> None:
    assert files_of(make_dataset("one").path) == files_of(make_dataset("two").path)


def test_webdataset_reads_the_shards(make_dataset: Make) -> None:
    dataset = make_dataset(count=3)
    shards = [str(dataset.path / shard.url) for shard in dataset.manifest.shards]
    rows = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [row["__key__"] for row in rows] == ["key-00000", "key-00001", "key-00002"]
    assert rows[1]["png"] == encoded(draw(1))
    assert json.loads(rows[1]["json"])["captions"][0]["text"] == "picture 1"


def test_excluded_samples_are_left_out(make_dataset: Make, tmp_path: Path) -> None:
    dataset = make_dataset(count=4)
    rows = pa.table({"key": ["key-00001", "key-00003"], "expectation": ["caption_words"] * 2})
    (tmp_path / "validated").mkdir()
    pq.write_table(rows, tmp_path / "validated/pairs.parquet")
    exclude = excluded_keys(tmp_path / "validated", "pairs")
    assert [s.key for s in dataset.samples(exclude)] == ["key-00000", "key-00002"]
    assert excluded_keys(tmp_path / "validated", "other") == frozenset()


def test_quarantined_samples_are_counted_with_reason_and_payload(tmp_path: Path) -> None:
    with PairsWriter(tmp_path / "d", **LAYOUT) as writer:
        writer.add(sample(0))
        writer.quarantine("../evil name", "truncated", "ends early", b"half a picture")
        writer.quarantine("gone", "missing_file", "listed only")
    dataset = PairsDataset.open(tmp_path / "d")
    assert dataset.manifest.quarantined == {"missing_file": 1, "truncated": 1}
    rows = pq.read_table(dataset.path / "quarantine/index.parquet").to_pylist()
    assert [(row["key"], row["reason"], row["detail"]) for row in rows] == [
        ("../evil name", "truncated", "ends early"),
        ("gone", "missing_file", "listed only"),
    ]
    assert [row["file"] for row in rows] == ["00000.tar/0000-___evil_name", ""]
    kept, gone = read_quarantine(dataset.path)
    assert kept.payload and kept.payload.read() == b"half a picture"
    assert gone.payload is None


def test_an_exception_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), PairsWriter(tmp_path / "d", **LAYOUT) as writer:
        writer.add(sample(0))
        raise KeyError("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rewrite_keeps_the_old_dataset(make_dataset: Make) -> None:
    dataset = make_dataset(count=2)
    before = files_of(dataset.path)
    with pytest.raises(BadImage), PairsWriter(dataset.path, **LAYOUT) as writer:
        writer.add(Sample("bad", b"no picture", "png"))
    assert files_of(dataset.path) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from blip.data.pairs import PairsWriter, Sample
with PairsWriter(Path(sys.argv[1]), samples_per_shard=2, parents=[], parameters={}) as writer:
    for number in range(5):
        writer.add(Sample(f"key-{number}", Path(sys.argv[2]).read_bytes(), "png"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_while_writing_leaves_nothing_that_opens(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(encoded(draw(0)))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "d"), str(tmp_path / "picture.png")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with pytest.raises(BlipError, match="is not a pairs dataset"):
        PairsDataset.open(tmp_path / "d")


def test_a_key_may_stand_once_and_in_plain_characters(tmp_path: Path) -> None:
    with PairsWriter(tmp_path / "d", **LAYOUT) as writer:
        writer.add(sample(0))
        with pytest.raises(BlipError, match="used twice"):
            writer.add(sample(0))
        with pytest.raises(BlipError, match="only letters"):
            writer.add(Sample("a.b", encoded(draw(1)), "png"))


def test_a_key_of_two_shards_is_found_at_the_end(tmp_path: Path) -> None:
    with (
        pytest.raises(BlipError, match=r"1 sample key\(s\) stand more than once, as key-00002"),
        PairsWriter(tmp_path / "d", **LAYOUT) as writer,
    ):
        for number in [0, 1, 2, 3, 4, 2]:
            writer.add(sample(number))
    assert list(tmp_path.iterdir()) == []


def test_a_truth_column_that_comes_late_is_null_before(tmp_path: Path) -> None:
    with PairsWriter(tmp_path / "d", **LAYOUT) as writer:
        for number in range(8):
            writer.add(sample(number, truth={"late": 1} if number > 5 else {"concept": "x"}))
    table = PairsDataset.open(tmp_path / "d").metadata(["truth_concept", "truth_late"]).to_pydict()
    assert table == {"truth_concept": ["x"] * 6 + [None] * 2, "truth_late": [None] * 6 + [1] * 2}


def test_a_truth_column_of_two_types_is_named(tmp_path: Path) -> None:
    with pytest.raises(BlipError, match="truth_rank"), PairsWriter(tmp_path / "d", **LAYOUT) as writer:
        for number in range(8):
            writer.add(sample(number, truth={"rank": 1 if number < 4 else "first"}))


def test_a_sound_dataset_verifies(make_dataset: Make) -> None:
    assert verify(make_dataset()) == []


def test_a_truncated_shard_is_an_error_that_names_it(make_dataset: Make) -> None:
    dataset = make_dataset()
    path = dataset.path / dataset.manifest.shards[1].url
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BlipError, match=r"00001\.tar: 1000 bytes, the manifest says \d+"):
        list(dataset.samples())


def test_a_folder_without_or_with_another_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BlipError, match=r"it has no manifest\.json"):
        PairsDataset.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"schema": "blip-pairs/99"}')
    with pytest.raises(BlipError, match="blip-pairs/99"):
        PairsDataset.open(tmp_path)
