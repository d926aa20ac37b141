import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from blip.data.archive import Member, is_unsafe_name, read_members


def write_tar(path: Path, members: Iterable[tarfile.TarInfo | str]) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = 7 if info.isreg() else 0
            tar.addfile(info, io.BytesIO(b"content"))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def problems(members: Iterable[Member]) -> list[str | None]:
    return [member.problem for member in members]


def test_plain_files_are_read_in_order_and_folders_passed_over(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", ["b.png", special("sub", tarfile.DIRTYPE), "sub/a.png"])
    assert [(m.name, m.data, m.problem) for m in read_members(path)] == [
        ("b.png", b"content", None),
        ("sub/a.png", b"content", None),
    ]


@pytest.mark.parametrize("name", ["/etc/passwd", "../up.png", "a/../../up.png", "..\\up.png", "C:/x.png"])
def test_names_that_lead_out_are_refused_unread(tmp_path: Path, name: str) -> None:
    members = list(read_members(write_tar(tmp_path / "a.tar", ["good.png", name, "after.png"])))
    assert problems(members) == [None, "unsafe_member", None]
    assert members[1].data == b""
    assert is_unsafe_name(name)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = write_tar(tmp_path / "a.tar", [special("link.png", kind, "/etc/passwd"), "good.png"])
    assert problems(read_members(path)) == ["unsafe_member", None]


def test_nothing_is_written_to_disk(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", ["a.png", "../b.png"])
    list(read_members(path))
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]


def test_a_truncated_archive_gives_what_it_has_and_then_the_problem(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", ["a.png", "b.png"])
    path.write_bytes(path.read_bytes()[: 1024 + 512 + 3])
    members = list(read_members(path))
    assert problems(members) == [None, "truncated_archive"]
    assert "the last 4 bytes of b.png are missing" in members[1].detail


def test_a_header_that_claims_more_than_the_file_holds_is_not_believed(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.png")
    info.size = 1 << 40
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"few bytes")
    assert problems(read_members(tmp_path / "a.tar")) == ["truncated_archive"]


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    assert problems(read_members(tmp_path / "a.tar")) == ["truncated_archive"]
