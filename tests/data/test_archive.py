import errno
import io
import os
import subprocess
import tarfile
import tracemalloc
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from blip.data.archive import Member, is_unsafe_name, read_members
from blip.errors import BlipError


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


@pytest.mark.parametrize("name", [".", "./", "", ".//."])
def test_a_name_that_is_the_folder_itself_is_refused(tmp_path: Path, name: str) -> None:
    assert is_unsafe_name(name)
    path = write_tar(tmp_path / "a.tar", ["good.png", name, "after.png"])
    assert problems(read_members(path)) == [None, "unsafe_member", None]


@pytest.mark.parametrize("size", ["-1024", "-512", "-1", "-99999999999999999999"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_a_member_of_a_size_that_no_file_has_ends_the_archive_there(
    tmp_path: Path, size: str, kind: bytes
) -> None:
    crafted = special("bad.png", kind)
    crafted.pax_headers = {"size": size}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for info in (tarfile.TarInfo("good.png"), crafted, tarfile.TarInfo("after.png")):
            info.size = 7 if info.name == "good.png" else 0
            tar.addfile(info, io.BytesIO(b"content"))
    members = list(islice(read_members(tmp_path / "a.tar"), 10))
    assert (members[0].name, members[0].data) == ("good.png", b"content")
    assert members[-1].problem == "truncated_archive"
    assert "cannot be read after" in members[-1].detail


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size", [-512, -(1 << 40), 1 << 62])
def test_a_header_of_headers_with_a_size_that_is_none_is_a_problem(
    tmp_path: Path, kind: bytes, size: int
) -> None:
    good = write_tar(tmp_path / "a.tar", ["good.png"]).read_bytes()[:1024]
    header = special("x", kind)
    header.size = size
    (tmp_path / "a.tar").write_bytes(good + header.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    assert problems(islice(read_members(tmp_path / "a.tar"), 10)) == [None, "truncated_archive"]


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


@pytest.mark.parametrize(("mode", "name"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_a_compressed_archive_is_refused_with_what_it_is(tmp_path: Path, mode: str, name: str) -> None:
    with tarfile.open(tmp_path / "a.tar", mode) as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    (member,) = read_members(tmp_path / "a.tar")
    assert member.problem == "compressed_archive"
    assert f"is compressed ({name}); unpack it to a plain tar" in member.detail


def test_a_file_cut_between_two_members_is_known_to_have_lost_some(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", ["a.png", "b.png", "c.png"])
    path.write_bytes(path.read_bytes()[: 2 * 1024])
    members = list(read_members(path))
    assert problems(members) == [None, None, "truncated_archive"]
    assert members[2].detail == f"{path} cannot be read after b.png: its end mark is missing"


def test_a_damaged_header_is_no_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", ["a.png", "b.png", "c.png"])
    data = bytearray(path.read_bytes())
    data[1024] ^= 1
    path.write_bytes(data)
    members = list(read_members(path))
    assert problems(members) == [None, "truncated_archive"]
    assert "after a.png: the header at byte 1024 is damaged" in members[1].detail


def test_what_follows_the_end_mark_is_not_lost_in_silence(tmp_path: Path) -> None:
    one, two = write_tar(tmp_path / "a.tar", ["a.png"]), write_tar(tmp_path / "b.tar", ["b.png"])
    one.write_bytes(one.read_bytes() + two.read_bytes())
    members = list(read_members(one))
    assert problems(members) == [None, "truncated_archive"]
    assert "other bytes follow its end mark" in members[1].detail


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_a_sparse_member_of_ten_gigabytes_is_refused_and_those_after_it_are_read(
    tmp_path: Path, form: str
) -> None:
    (tmp_path / "huge.png").touch()
    os.truncate(tmp_path / "huge.png", 10 << 30)
    (tmp_path / "good.png").write_bytes(b"content")
    command = ["tar", "--sparse", f"--format={form}", "-cf", "a.tar", "huge.png", "good.png"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "a.tar").stat().st_size < 20_000
    members = list(read_members(tmp_path / "a.tar"))
    assert problems(members) == ["unsafe_member", None]
    assert members[1].data == b"content"


def test_a_member_of_over_a_gibibyte_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.png")
    info.size = (1 << 30) + 512
    with (tmp_path / "a.tar").open("wb") as handle:
        handle.write(info.tobuf(tarfile.GNU_FORMAT))
        handle.truncate(512 + info.size + 1024)
    (member,) = read_members(tmp_path / "a.tar")
    assert (member.problem, member.detail) == ("too_large", "1,073,742,336 bytes, over 1,073,741,824")


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_is_read_is_what_tarfile_reads(tmp_path: Path, format_: int) -> None:
    names = [
        "a.png",
        "a.json",
        "b.png",
        "folder/c.png",
        "x" * 99,
        "long/" * 25 + "d.png",
        "schön.png",
        "last.png",
    ]
    sizes = [0, 1, 511, 512, 513, 100_000, 5, 300_000]
    contents = {
        name: bytes([number]) * size for number, (name, size) in enumerate(zip(names, sizes, strict=True))
    }
    with tarfile.open(tmp_path / "a.tar", "w", format=format_) as tar:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1234.5
            tar.addfile(info, io.BytesIO(data))
    members = list(read_members(tmp_path / "a.tar"))
    assert problems(members) == [None] * len(names)
    assert {member.name: member.data for member in members} == contents
    assert [member.name for member in members] == names


@pytest.mark.parametrize("cut", [1, 300, 511])
def test_an_archive_cut_within_a_header_has_a_problem(tmp_path: Path, cut: int) -> None:
    path = write_tar(tmp_path / "a.tar", ["a.png", "b.png"])
    path.write_bytes(path.read_bytes()[: 1024 + cut])
    assert problems(read_members(path)) == [None, "truncated_archive"]


def test_long_names_without_end_are_a_problem(tmp_path: Path) -> None:
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 4
    good = write_tar(tmp_path / "a.tar", ["a.png"]).read_bytes()[:1024]
    one = name.tobuf(tarfile.GNU_FORMAT) + b"abc\0".ljust(512, b"\0")
    (tmp_path / "b.tar").write_bytes(good + one * 2000)
    assert problems(read_members(tmp_path / "b.tar")) == [None, "truncated_archive"]


def test_an_empty_archive_has_nothing_and_an_empty_file_is_none(tmp_path: Path) -> None:
    assert list(read_members(write_tar(tmp_path / "a.tar", []))) == []
    (tmp_path / "b.tar").write_bytes(b"")
    assert problems(read_members(tmp_path / "b.tar")) == ["truncated_archive"]


def test_no_more_than_a_member_is_held(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.bin")
    info.size = 1 << 20
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for _ in range(64):
            tar.addfile(info, io.BytesIO(bytes(1 << 20)))
    tracemalloc.start()
    assert sum(len(member.data) for member in read_members(tmp_path / "a.tar")) == 64 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


class FailingDisk(io.FileIO):
    """A file of whose second KiB a disk gives nothing."""

    def readinto(self, buffer: Any) -> int:
        if self.tell() >= 1024:
            raise OSError(errno.EIO, "Input/output error")
        return super().readinto(memoryview(buffer)[:1024]) or 0


def test_a_disk_that_fails_makes_no_tar_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "a.tar", ["a.png", "b.png"])
    members = read_members(path)
    monkeypatch.setattr(Path, "open", lambda self, *_, **__: io.BufferedReader(FailingDisk(self)))
    assert next(members).name == "a.png"
    with pytest.raises(
        BlipError, match=r"a\.tar cannot be read: Input/output error.* what is finished is kept"
    ):
        list(members)
