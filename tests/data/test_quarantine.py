"""The quarantine is read without its tars, and what its index says leads nowhere else."""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.data import quarantine
from blip.data.pairs import PairsWriter
from blip.data.parquet import read_rows
from blip.data.part import QUARANTINE_SCHEMA
from blip.data.quarantine import Payload, by_reason, kept_of, read_quarantine
from blip.errors import BlipError
from tests.data.conftest import sample


@pytest.fixture
def index(tmp_path: Path) -> Callable[[str], Path]:
    """Write a quarantine of one sample whose bytes are in the file that is given; its folder."""
    folder = tmp_path / "d/quarantine"
    folder.mkdir(parents=True)
    (tmp_path / "d/secret").write_bytes(b"not of the quarantine")
    (folder / "sub").mkdir()
    for path in (tmp_path / "d/shards.tar", folder / "00000.tar", folder / "sub/00000.tar"):
        with tarfile.open(path, "w") as tar:
            tar.addfile(tarfile.TarInfo("secret"))
            link = tarfile.TarInfo("0001-link")
            link.type, link.linkname = tarfile.SYMTYPE, "secret"
            tar.addfile(link)
            info = tarfile.TarInfo("0002-good")
            info.size = 4
            tar.addfile(info, io.BytesIO(b"half"))

    def write(file: str) -> Path:
        row = {"key": "bad", "reason": "truncated", "detail": "ends early", "file": file}
        pq.write_table(pa.Table.from_pylist([row], QUARANTINE_SCHEMA), folder / "index.parquet")
        return folder

    return write


def payload(folder: Path) -> Payload:
    (one,) = read_quarantine(folder.parent)
    assert one.payload
    return one.payload


def test_bytes_are_read_when_they_are_asked_for(index: Callable[[str], Path]) -> None:
    folder = index("00000.tar/0002-good")
    kept = payload(folder)
    assert kept.read() == b"half"
    (folder / "00000.tar").unlink()
    assert payload(folder) == kept
    with pytest.raises(BlipError, match=r"00000\.tar is not there"):
        kept.read()


def test_bytes_in_a_file_of_their_own_are_read(index: Callable[[str], Path]) -> None:
    """As in datasets that ingest keeps since before there were tars."""
    folder = index("00000-0013-train-0013")
    kept = payload(folder)
    with pytest.raises(BlipError, match=r"00000-0013-train-0013 is not there"):
        kept.read()
    (folder / "00000-0013-train-0013").write_bytes(b"half")
    assert kept.read() == b"half"


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("00000.tar/0001-link", "not a plain one"),
        ("00000.tar/0003-lost", "has no 0003-lost"),
    ],
)
def test_bytes_that_are_not_there_are_an_error(index: Callable[[str], Path], file: str, why: str) -> None:
    kept = payload(index(file))
    with pytest.raises(BlipError, match=why):
        kept.read()


def test_a_tar_that_leads_back_to_its_beginning_is_damaged(tmp_path: Path) -> None:
    first = tarfile.TarInfo("0000-first").tobuf(tarfile.GNU_FORMAT)
    back = tarfile.TarInfo("0001-back")
    back.size = -2 * len(first)  # from behind its header to the first one
    header = back.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "00000.tar").write_bytes(first + header + bytes(4 * len(first)))
    with pytest.raises(BlipError, match=r"leads back"):
        Payload(tmp_path / "00000.tar", "0002-good").read()


@pytest.mark.parametrize(
    "file",
    [
        "../secret",
        "..",
        "../shards.tar/0002-good",
        "sub",
        "sub/00000.tar/0002-good",
        "sub/secret",
        "00000-0013-train/../../secret",
        "00000.tar/../secret",
        "00000.tar/",
        "/etc/passwd",
        "index.parquet",
        "00000.tar/0002-good\n",
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(index: Callable[[str], Path], file: str) -> None:
    folder = index(file)
    with pytest.raises(BlipError, match=r"index\.parquet names .*, which is no place in a quarantine"):
        list(read_quarantine(folder.parent))


def test_texts_and_samples_are_told_apart_in_one_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PairsWriter(tmp_path / "d", samples_per_shard=3, parents=[], parameters={}, origin="web") as writer:
        writer.add(sample(1))
        for key in ("key-00001", "key-00001", "gone"):
            writer.quarantine(key, "broken_text", "no text", b"")
        writer.quarantine("key-00001", "empty_caption", "no word", b"")
        writer.quarantine("cut", "truncated", "ends early", b"")
    read: list[str] = []

    def rows(path: Path, columns: list[str]) -> Iterator[dict[str, str]]:
        read.append(path.name)
        return read_rows(path, columns)

    monkeypatch.setattr(quarantine, "read_rows", rows)
    counts = {"empty_caption": 1, "broken_text": 3, "truncated": 1}
    samples, texts = by_reason(tmp_path / "d", counts)
    assert (samples, texts) == ({"broken_text": 1, "truncated": 1}, {"empty_caption": 1, "broken_text": 2})
    assert read == ["index.parquet"]
    assert kept_of(tmp_path / "d", counts) == {"key-00001"}


def test_texts_of_reasons_that_samples_never_have_are_counted_without_the_index(tmp_path: Path) -> None:
    assert by_reason(tmp_path / "none", {"empty_caption": 5, "truncated": 2}) == (
        {"truncated": 2},
        {"empty_caption": 5},
    )
