"""Shards as img2dataset writes them, and others that lie."""

import json
import os
import pickle
import subprocess
import tarfile
import tracemalloc
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from blip.config import Ingest, Source
from blip.data.archive import add_member
from blip.data.pairs import Caption
from blip.errors import BlipError
from blip.ingest.ingestion import ingest_dataset
from blip.ingest.sources import Refused, read
from blip.ingest.sources.guess import kind_of
from blip.inspection.verification import verify
from tests.data.conftest import draw, encoded

from .test_sources import details, items, reasons, samples, texts, write_tar

JPEG = encoded(draw(0), "jpg")


def write_img2dataset(folder: Path, shards: int = 2, per_shard: int = 3) -> list[str]:
    """What `img2dataset --output_format webdataset --save_additional_columns '["similarity"]'` leaves.

    Its writer is webdataset's TarWriter; keys are shard number and index; the failed downloads stand in the
    parquet table only. Returns the keys.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = []
    for shard in range(shards):
        rows = []
        with webdataset.TarWriter(str(folder / f"{shard:05d}.tar")) as tar:
            for index in range(per_shard):
                picture = encoded(draw(10 * shard + index), "jpg", quality=95)
                key = f"{shard:05d}{index:04d}"
                about = {
                    "similarity": 0.31,
                    "caption": f"a picture of {key}",
                    "url": f"http://example.org/{key}.jpg",
                    "key": key,
                    "status": "success",
                    "error_message": None,
                    "width": 40,
                    "height": 40,
                    "original_width": 80,
                    "original_height": 80,
                    "exif": "{}",
                    "sha256": sha256(picture).hexdigest(),
                }
                rows.append(about)
                tar.write(
                    {
                        "__key__": key,
                        "jpg": picture,
                        "txt": about["caption"],
                        "json": json.dumps(about, indent=4),
                    }
                )
                keys.append(key)
        failed = {**rows[0], "key": f"{shard:05d}{per_shard:04d}", "status": "failed_to_download"}
        pq.write_table(pa.Table.from_pylist([*rows, failed]), folder / f"{shard:05d}.parquet")
        stats = {"count": per_shard + 1, "successes": per_shard, "failed_to_download": 1}
        (folder / f"{shard:05d}_stats.json").write_text(json.dumps(stats, indent=4))
    return keys


def test_the_shards_of_img2dataset_are_read_as_they_are(tmp_path: Path) -> None:
    keys = write_img2dataset(tmp_path)
    found = items(tmp_path, "webdataset")
    assert list(samples(found)) == keys == [item.key for item in found]
    second = samples(found)[keys[1]]
    assert (second.extension, second.media) == ("jpg", encoded(draw(1), "jpg", quality=95))
    assert second.captions == (Caption(f"a picture of {keys[1]}", "web"),)


def test_the_command_guesses_the_kind_and_the_dataset_is_sound(tmp_path: Path) -> None:
    keys = write_img2dataset(tmp_path / "laion", shards=3, per_shard=4)
    assert kind_of(tmp_path / "laion") == kind_of(tmp_path / "laion/00000.tar") == "webdataset"
    source = Source(source=str(tmp_path / "laion"), kind="webdataset", origin="web", role="train")
    dataset = ingest_dataset(source, tmp_path / "out", Ingest(samples_per_shard=5, datasets={}))
    assert [sample.key for sample in dataset.samples()] == keys
    assert dataset.manifest.quarantined == {}
    assert verify(dataset) == []


def test_one_tar_is_a_source_too(tmp_path: Path) -> None:
    keys = write_img2dataset(tmp_path)
    assert list(samples(items(tmp_path / "00001.tar", "webdataset"))) == keys[3:]


def test_members_of_a_sample_come_in_any_order_and_captions_under_several_names(tmp_path: Path) -> None:
    about = json.dumps({"caption": "of the json"}).encode()
    files = {
        "0a.txt": b"\xef\xbb\xbf first\n of the  text ",
        "0a.JPG": JPEG,
        "0b.json": about,
        "0b.webp": JPEG,
        "0c.jpg": JPEG,
        "0c.caption": b"of the caption",
        "0c.json": about,
        "0d.cls": b"tabby cat",
        "0d.png": JPEG,
        "0e.txt": b"",
        "0e.json": about,
        "0e.mp4": b"clip",
    }
    write_tar(tmp_path / "0.tar", files)
    found = samples(items(tmp_path, "webdataset"))
    assert {key: texts(sample)[0][0] for key, sample in found.items()} == {
        "0a": "first of the text",
        "0b": "of the json",
        "0c": "of the caption",
        "0d": "tabby cat",
        "0e": "of the json",
    }
    assert [sample.extension for sample in found.values()] == ["jpg", "webp", "jpg", "png", "mp4"]


def test_tars_that_number_their_samples_alike_keep_them_apart(tmp_path: Path) -> None:
    (tmp_path / "part-1").mkdir()
    for name in ("train-0.tar", "train-1.tar", "part-1/train-0.tar"):
        write_tar(tmp_path / name, {"000.jpg": JPEG, "000.txt": b"one", "001.jpg": JPEG, "001.txt": b"two"})
    found = samples(items(tmp_path, "webdataset"))
    assert len(found) == 6
    assert [key.rsplit("-", 1)[0] for key in found] == [
        "part-1_train-0_000", "part-1_train-0_001", "train-0_000", "train-0_001", "train-1_000", "train-1_001"
    ]  # fmt: skip


def test_a_tar_whose_name_begins_another_ones_takes_nothing_from_it(tmp_path: Path) -> None:
    write_tar(tmp_path / "1.tar", {"12-3.jpg": JPEG, "12-3.txt": b"one"})
    write_tar(tmp_path / "12.tar", {"12-3.jpg": JPEG, "12-3.txt": b"two"})
    assert len(samples(items(tmp_path, "webdataset"))) == 2


def test_what_makes_no_sample_is_refused_with_a_reason_and_its_bytes(tmp_path: Path) -> None:
    failed = json.dumps({"status": "failed_to_download", "error_message": "404"}).encode()
    files = {
        "0-text.txt": b"a caption",
        "0-failed.json": failed,
        "0-bare.jpg": JPEG,
        "0-number.jpg": JPEG,
        "0-number.cls": b"7",
        "0-empty.jpg": JPEG,
        "0-empty.txt": b"  \n",
        "0-empty.json": b"{broken",
        "0-two.jpg": JPEG,
        "0-two.png": b"second",
        "0-two.txt": b"two pictures",
        "0-mask.jpg": JPEG,
        "0-mask.seg.png": b"mask",
        "0-mask.txt": b"with a mask",
        "0-text.jpg": JPEG,
        "README": b"read me",
    }
    write_tar(tmp_path / "0.tar", files)
    found = items(tmp_path, "webdataset")
    assert list(samples(found)) == ["0-two", "0-mask"]
    refused = [(item.key, item.reason, item.payload) for item in found if hasattr(item, "reason")]
    assert refused == [
        ("0-text", "no_image", b"a caption"),
        ("0-failed", "no_image", failed),
        ("0-bare", "no_caption", JPEG),
        ("0-number", "no_caption", JPEG),
        ("0-empty", "no_caption", JPEG),
        ("0-two", "duplicate", b"second"),
        (refused[6][0], "unsupported", b"mask"),
        ("0-text", "duplicate", JPEG),
        ("README", "unsupported", b"read me"),
    ]
    details = [item.detail for item in found if hasattr(item, "reason")]
    assert details[1] == "0-failed has json but no picture (failed_to_download, 404)"
    assert "must stand side by side" in details[7]


def test_pickles_are_refused_unread_and_counted(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/exploded",)

    bomb = pickle.dumps(Bomb())
    files = {"0a.jpg": JPEG, "0a.pyd": bomb, "0a.txt": b"a caption", "0b.pickle": bomb, "0c.pth": bomb}
    write_tar(tmp_path / "0.tar", files)
    found = items(tmp_path, "webdataset")
    assert list(samples(found)) == ["0a"]
    assert [item.reason for item in found if hasattr(item, "reason")] == ["pickle"] * 3
    assert all(item.payload is None for item in found if hasattr(item, "reason"))
    assert not (tmp_path / "exploded").exists()


def test_names_that_lead_out_links_and_devices_are_refused_and_the_rest_is_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in ("../x.jpg", "/etc/x.jpg", "..\\x.jpg"):
            add_member(tar, name, JPEG)
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)):
            info = tarfile.TarInfo(f"0s{number}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        add_member(tar, "0a.jpg", JPEG)
        add_member(tar, "0a.txt", b"a caption")
    found = items(tmp_path, "webdataset")
    assert [item.reason for item in found if hasattr(item, "reason")] == ["unsafe_member"] * 7
    assert list(samples(found)) == ["0a"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.tar"]


def test_links_to_tars_and_folders_elsewhere_or_nowhere_are_files_that_are_lost(tmp_path: Path) -> None:
    elsewhere, laion = tmp_path / "elsewhere", tmp_path / "laion"
    write_img2dataset(elsewhere, shards=1)
    write_img2dataset(laion / "part", shards=1, per_shard=100)
    for name, place in {
        "00001.tar": elsewhere / "00000.tar",
        "00002.tar": elsewhere / "gone.tar",
        "again": laion / "part",
        "gone": elsewhere / "gone",
        "more": elsewhere,
    }.items():
        (laion / name).symlink_to(place)
    found = items(laion, "webdataset")
    assert len(samples(found)) == 100
    assert reasons(found) == dict.fromkeys(("00001", "00002", "gone", "more"), "linked_away")
    way_out = "name the folder that holds all as the source, or put a copy in place of the link"
    told = dict(zip(reasons(found), (detail for _, detail in details(found)), strict=True))
    assert told["00001"] == f"00001 is a link to {elsewhere}/00000.tar, out of {laion}; {way_out}"
    assert told["gone"].startswith(f"gone is a link to {elsewhere}/gone, which is not there; get that")
    source = Source(source=str(laion), kind="webdataset", origin="web", role="train")
    with pytest.raises(BlipError, match=r"files and folders cannot be read to their end \(4 linked_away\)"):
        ingest_dataset(source, tmp_path / "out", Ingest(max_bad_fraction=0.1, datasets={}))


def test_a_folder_whose_tars_are_all_behind_a_link_says_so(tmp_path: Path) -> None:
    write_img2dataset(tmp_path / "elsewhere", shards=1)
    (tmp_path / "laion").mkdir()
    (tmp_path / "laion/more").symlink_to(tmp_path / "elsewhere")
    assert reasons(items(tmp_path / "laion", "webdataset")) == {"more": "linked_away"}


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.7])
def test_a_tar_cut_short_gives_what_it_has_and_says_so(tmp_path: Path, share: float) -> None:
    keys = write_img2dataset(tmp_path, shards=2, per_shard=5)
    cut = tmp_path / "00000.tar"
    with tarfile.open(cut) as tar:
        ends = [info.offset_data + info.size for info in tar]
    size = int(cut.stat().st_size * share)
    os.truncate(cut, size)
    found = items(tmp_path, "webdataset")
    whole = sum(end <= size for end in ends) // 3
    assert [key for key in keys[:5] if key in samples(found)][:whole] == keys[:whole]
    assert [key for key in keys[5:] if key in samples(found)] == keys[5:]
    assert "truncated_archive" in reasons(found).values()


def test_a_tar_cut_between_members_is_no_shorter_tar(tmp_path: Path) -> None:
    write_img2dataset(tmp_path, shards=1, per_shard=3)
    with tarfile.open(tmp_path / "00000.tar") as tar:
        third = tar.getmembers()[6].offset
    os.truncate(tmp_path / "00000.tar", third)
    found = items(tmp_path, "webdataset")
    assert len(samples(found)) == 2
    assert list(reasons(found).values()) == ["truncated_archive"]


def test_compressed_tars_are_named_with_the_way_out(tmp_path: Path) -> None:
    keys = write_img2dataset(tmp_path)
    subprocess.run(["gzip", "-k", "00001.tar"], cwd=tmp_path, check=True)
    found = items(tmp_path, "webdataset")
    way_out = "00001.tar.gz is compressed; unpack it to a plain .tar, which is all that is read"
    assert list(samples(found)) == keys
    assert details(found) == [("compressed_archive", way_out)]
    (tmp_path / "more").mkdir()
    (tmp_path / "00001.tar.gz").rename(tmp_path / "more/00001.tar.gz")
    for alone in (tmp_path / "more", tmp_path / "more/00001.tar.gz"):
        with pytest.raises(
            BlipError, match=rf"source {alone}: 00001\.tar\.gz is compressed; unpack it to a plain"
        ):
            items(alone, "webdataset")
    (tmp_path / "more/00001.tar.gz").rename(tmp_path / "00001.tar")
    found = items(tmp_path, "webdataset")
    assert len(samples(found)) == 3
    assert list(reasons(found).values()) == ["compressed_archive"]


def test_commands_are_never_run(tmp_path: Path) -> None:
    for name in (f"pipe:touch {tmp_path}/ran", "pipe:cat 00000.tar"):
        with pytest.raises(BlipError, match="commands are never run"):
            items(Path(name), "webdataset")
    write_img2dataset(tmp_path)
    (tmp_path / "00001.tar").rename(tmp_path / "pipe:touch ran.tar")
    with pytest.raises(BlipError, match=r"'pipe:touch ran\.tar' could be taken for a command; rename it"):
        items(tmp_path, "webdataset")
    assert not list(tmp_path.rglob("ran"))


def test_a_sparse_member_costs_neither_memory_nor_the_rest(tmp_path: Path) -> None:
    (tmp_path / "0a.jpg").touch()
    os.truncate(tmp_path / "0a.jpg", 10 << 30)
    (tmp_path / "0b.jpg").write_bytes(JPEG)
    (tmp_path / "0b.txt").write_text("a caption")
    source = tmp_path / "source"
    source.mkdir()
    names = ["0a.jpg", "0b.jpg", "0b.txt"]
    subprocess.run(["tar", "--sparse", "-cf", source / "0.tar", *names], cwd=tmp_path, check=True)
    found = items(source, "webdataset")
    assert list(samples(found)) == ["0b"]
    assert reasons(found) == {"0a": "unsafe_member"}


def test_members_that_are_left_out_of_a_sample_are_not_held(tmp_path: Path) -> None:
    size, count = 1 << 20, 40
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for number in range(count):
            add_member(tar, f"frame.{number:06d}.jpg", bytes(size))
    source = Source(source=str(tmp_path), kind="webdataset", origin="web", role="train")
    tracemalloc.start()
    try:
        refused = [item.reason for item in read([source]) if isinstance(item, Refused)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused == ["unsupported"] * count
    assert peak < 10 * size


def test_a_folder_without_tars_is_named(tmp_path: Path) -> None:
    with pytest.raises(BlipError, match="nowhere: no such folder"):
        items(tmp_path / "nowhere", "webdataset")
    with pytest.raises(BlipError, match=r"there is no \.tar in it"):
        items(tmp_path, "webdataset")


def test_a_member_whose_name_is_no_unicode_is_set_aside(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        for name, data in {"0a.jpg": JPEG, "0a.txt": b"a caption", "0caf\xe9.jpg": JPEG}.items():
            add_member(tar, name, data)
    source = Source(source=str(tmp_path / "0.tar"), kind="webdataset", origin="web", role="train")
    dataset = ingest_dataset(source, tmp_path / "out", Ingest(max_bad_fraction=0.5, datasets={}))
    assert (len(dataset), dataset.manifest.quarantined) == (1, {"no_caption": 1})
    assert verify(dataset) == []


def test_a_deeply_nested_json_is_no_caption(tmp_path: Path) -> None:
    files = {"0a.jpg": JPEG, "0a.json": b"[" * 200_000, "0b.jpg": JPEG, "0b.txt": b"a caption"}
    write_tar(tmp_path / "0.tar", files)
    found = items(tmp_path, "webdataset")
    assert (list(samples(found)), reasons(found)) == (["0b"], {"0a": "no_caption"})
