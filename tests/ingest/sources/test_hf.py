"""Data sets that Hugging Face's own library wrote, read without it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value

from blip.errors import BlipError
from tests.data.conftest import draw, encoded

from .reading import details, items, reasons, samples, texts, write

FEATURES = Features({"image": Image(), "text": Value("string")})


def dataset(*numbers: int) -> Dataset:
    pictures = [{"bytes": encoded(draw(number)), "path": None} for number in numbers]
    return Dataset.from_dict({"image": pictures, "text": [f"text {n}" for n in numbers]}, features=FEATURES)


def test_save_to_disk_is_read_file_by_file(tmp_path: Path) -> None:
    dataset(*range(5)).save_to_disk(tmp_path / "saved", num_shards=2)
    found = samples(items(tmp_path / "saved", "hf"))
    assert list(found) == [
        "data-00000-of-00002-00000001",
        "data-00000-of-00002-00000002",
        "data-00000-of-00002-00000003",
        "data-00001-of-00002-00000001",
        "data-00001-of-00002-00000002",
    ]
    assert [sample.media for sample in found.values()] == [encoded(draw(number)) for number in range(5)]
    assert [texts(sample) for sample in found.values()] == [[(f"text {n}", "web")] for n in range(5)]


def test_a_dataset_dict_needs_a_split(tmp_path: Path) -> None:
    DatasetDict({"train": dataset(1, 2), "test": dataset(3)}).save_to_disk(tmp_path)
    assert len(samples(items(tmp_path, "hf", split="train"))) == 2
    with pytest.raises(BlipError, match=r"several splits; it has train, test\. Name one: --split NAME"):
        items(tmp_path, "hf")
    with pytest.raises(BlipError, match="no split 'dev'; it has train, test"):
        items(tmp_path, "hf", split="dev")


def test_a_folder_of_the_hub_is_read(tmp_path: Path) -> None:
    dataset(1, 2).to_parquet(tmp_path / "data/train-00000-of-00002.parquet")
    dataset(3).to_parquet(tmp_path / "data/train-00001-of-00002.parquet")
    dataset(4).to_parquet(tmp_path / "data/test-00000-of-00001.parquet")
    found = samples(items(tmp_path, "hf", split="train"))
    assert [sample.media for sample in found.values()] == [encoded(draw(number)) for number in (1, 2, 3)]


def test_what_the_hub_converted_has_its_splits_in_folders(tmp_path: Path) -> None:
    dataset(1).to_parquet(tmp_path / "default/train/0000.parquet")
    dataset(2).to_parquet(tmp_path / "default/train/0001.parquet")
    dataset(3).to_parquet(tmp_path / "default/test/0000.parquet")
    found = samples(items(tmp_path, "hf", split="train"))
    assert [sample.media for sample in found.values()] == [encoded(draw(number)) for number in (1, 2)]
    with pytest.raises(BlipError, match=r"several splits; it has test, train\. Name one: --split NAME"):
        items(tmp_path, "hf")


def test_lists_of_captions_and_other_names_are_read(tmp_path: Path) -> None:
    features = Features(
        {"picture": Image(), "sentences": List({"raw": Value("string"), "id": Value("int32")})}
    )
    sentences = [[{"raw": "one", "id": 1}, {"raw": "two", "id": 2}]]
    picture = {"bytes": encoded(draw(1), "jpg"), "path": "a.jpg"}
    Dataset.from_dict({"picture": [picture], "sentences": sentences}, features=features).save_to_disk(
        tmp_path / "saved"
    )
    (sample,) = samples(items(tmp_path / "saved", "hf")).values()
    assert (sample.extension, texts(sample)) == ("jpg", [("one", "web"), ("two", "web")])


def test_pictures_that_lie_beside_it_are_found_and_others_refused(tmp_path: Path) -> None:
    pictures = [{"bytes": None, "path": "a.png"}, {"bytes": None, "path": "../secret.png"}, None]
    rows = {"image": pictures, "text": ["one", "two", "three"]}
    folder = tmp_path / "hub"
    write(folder / "a.png", "A")
    write(tmp_path / "secret.png", "S")
    pq.write_table(pa.table(rows), folder / "train-00000-of-00001.parquet")
    found = items(folder, "hf")
    assert {sample.media for sample in samples(found).values()} == {b"A\n"}
    assert set(reasons(found).values()) == {"unsafe_member", "no_image"}


def test_a_damaged_file_costs_its_own_rows(tmp_path: Path) -> None:
    dataset(*range(4)).save_to_disk(tmp_path / "saved", num_shards=2)
    (tmp_path / "saved/data-00000-of-00002.arrow").write_bytes(b"\xff" * 100)
    found = items(tmp_path / "saved", "hf")
    assert len(samples(found)) == 2
    assert list(reasons(found).values()) == ["broken_table"]
    (tmp_path / "saved/data-00001-of-00002.arrow").unlink()
    with pytest.raises(BlipError, match=r"data-00001-of-00002\.arrow of state\.json is missing"):
        items(tmp_path / "saved", "hf")


def test_files_of_the_hub_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """Links into its cache whose blobs were purged, and files that were not fetched."""
    for number in (0, 2):
        dataset(number).to_parquet(tmp_path / f"data/train-{number:05d}-of-00005.parquet")
    (tmp_path / "data/train-00001-of-00005.parquet").symlink_to("../../blobs/9b2c")
    (tmp_path / "data/train-00004-of-00005-1f2e3d.parquet").symlink_to("../../blobs/3d4e")
    dataset(9).to_parquet(tmp_path / "data/test-00001-of-00002.parquet")
    found = items(tmp_path, "hf", split="train")
    assert list(samples(found)) == ["train-00000-of-00005-00000001", "train-00002-of-00005-00000001"]
    nowhere = "which is not there; get that, or take the link away"
    assert details(found) == [
        ("broken_table", f"data/train-00001-of-00005.parquet is a link to ../../blobs/9b2c, {nowhere}"),
        (
            "broken_table",
            f"data/train-00004-of-00005-1f2e3d.parquet is a link to ../../blobs/3d4e, {nowhere}",
        ),
        (
            "broken_table",
            "data/train-00003-of-00005.parquet is not there, by the names of the others; get it",
        ),
    ]


def test_a_file_cut_between_two_batches_is_told(tmp_path: Path) -> None:
    dataset(*range(4)).save_to_disk(tmp_path / "saved")
    path = tmp_path / "saved/data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:-8])
    found = items(tmp_path / "saved", "hf")
    assert len(samples(found)) == 4
    assert details(found) == [
        ("broken_table", f"{path.name} cannot be read after row 4: the end mark is missing: it was cut")
    ]


def test_offsets_that_point_nowhere_do_not_crash(tmp_path: Path) -> None:
    dataset(*range(4)).save_to_disk(tmp_path / "saved")
    path = tmp_path / "saved/data-00000-of-00001.arrow"
    offsets = np.arange(0, 30, 6, dtype="<i4").tobytes()  # of "text 0", "text 1", ...
    assert path.read_bytes().count(offsets) == 1
    path.write_bytes(path.read_bytes().replace(offsets, np.full(5, 1 << 30, "<i4").tobytes()))
    assert list(reasons(items(tmp_path / "saved", "hf")).values()) == ["broken_table"]


def test_datasets_itself_is_not_imported() -> None:
    code = "import sys, blip.ingest.sources; sys.exit('datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
