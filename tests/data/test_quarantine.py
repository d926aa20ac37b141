"""The quarantine is read without its tars, and what its index says leads nowhere else."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blip.data.part import QUARANTINE_SCHEMA
from blip.data.quarantine import Payload, read_quarantine
from blip.errors import BlipError


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
