"""Tar files read as a stream and in memory: nothing is extracted, no member can point anywhere.

    for member in read_members(Path("images.tar")):
        if member.problem is None: use(member.name, member.data)

Absolute names, `..`, links, devices, sparse members and members of over a gibibyte are reported as problems
and their content is not read. Only plain tar is read: a compressed one would let a small file unpack to any
size. An archive that lacks its end mark, or goes on behind it, has lost members: that is a problem, too.

Headers of plain files are read here, ten times as fast as by `tarfile`, for they are what reading a shard costs.
At the first header of another kind (long names, folders, links, anything odd) `tarfile` takes over for the rest.
"""

import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from blip.data.passing import see_that_it_is_its_own

TRUNCATED, UNSAFE, TOO_LARGE, COMPRESSED = (
    "truncated_archive",
    "unsafe_member",
    "too_large",
    "compressed_archive",
)
MEMBER_LIMIT = 1 << 30  # bytes
BLOCK = 512
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
DAMAGED = (  # what tarfile raises for headers that nobody wrote in good faith
    tarfile.TarError,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    RecursionError,
    MemoryError,
)
PLAIN_FILE = ord("0")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_\-.]*")


class Member(NamedTuple):
    """A file in a tar; `problem` is a reason code (then `data` is empty and `detail` says more), or None."""

    name: str
    data: bytes = b""
    problem: str | None = None
    detail: str = ""


def read_members(path: Path, called: str | None = None) -> Iterator[Member]:
    """Yield the files of a tar in their order; a damaged end comes as one last member with a problem.

    `called` is what to call a tar that lies where it is for a while only.
    """
    called = called or str(path)
    name = PurePosixPath(called).name
    compression = _compression(path)
    if compression:
        detail = (
            f"{called} is compressed ({compression}); unpack it to a plain tar, which is all that is read"
        )
        yield Member(name, problem=COMPRESSED, detail=detail)
        return
    total, last = path.stat().st_size, "its start"
    try:
        with path.open("rb", buffering=1 << 18) as handle:
            for member in _read_plain(handle, total):
                yield member
                last = member.name
            for member in _read_rest(handle, total):
                yield member
                last = member.name
    except DAMAGED as error:
        see_that_it_is_its_own(error, called)
        yield Member(name, problem=TRUNCATED, detail=f"{called} cannot be read after {last}: {error}")


def is_unsafe_name(name: str) -> bool:
    """Whether a file name is none, or could lead out of the folder it belongs to."""
    if _PLAIN_NAME.fullmatch(name):
        return False
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts:  # "." is the folder itself
        return True
    return path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Append a file; the header holds its name and size only, so that equal data give equal tars."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    tar.addfile(info, io.BytesIO(data))


def _read_plain(handle: BinaryIO, total: int) -> Iterator[Member]:
    """The plain files up to the first header of another kind, at which the handle then stands."""
    start, padding = 0, 0
    while plain := _plain_header(handle.read(padding + BLOCK)[padding:]):
        name, size = plain
        missing = start + BLOCK + size - total
        if missing > 0:
            raise tarfile.ReadError(f"the last {missing} bytes of {name} are missing")
        yield Member(name, handle.read(size))
        padding = -size % BLOCK
        start += BLOCK + size + padding
    handle.seek(start)


def _plain_header(header: bytes) -> tuple[str, int] | None:
    """Name and size in a header of a file with a plain name; None if the header says anything else."""
    digits = header[124:135]
    if len(header) < BLOCK or header[156] != PLAIN_FILE or header[345] or not digits.isdigit():
        return None
    name = header[:100].rstrip(b"\0").decode("latin-1")
    try:
        size, stated = int(digits, 8), int(header[148:156].rstrip(b"\0 "), 8)
    except ValueError:
        return None
    readable = size <= MEMBER_LIMIT and _PLAIN_NAME.fullmatch(name)
    return (name, size) if readable and stated == _checksum(header) else None


def _checksum(header: bytes) -> int:
    """The sum of a header's bytes, its own eight counted as blanks.

    Half of an Adler-32 is one more than the sum of the bytes, and far faster than adding them here. It is modulo 65521,
    which a plain header does not reach.
    """
    return (zlib.adler32(header[:148] + b"        " + header[156:]) & 0xFFFF) - 1


def _read_rest(handle: BinaryIO, total: int) -> Iterator[Member]:
    """The files from here on, by `tarfile`, and the end of the archive."""
    end = handle.tell()
    if not end or handle.read(BLOCK).strip(b"\0"):
        handle.seek(end)
        with tarfile.open(fileobj=handle, mode="r:") as tar:
            for info in tar:
                setattr(tar, "members", [])  # noqa: B010 - tarfile keeps every header otherwise
                if info.size < 0 or tar.offset <= end:
                    raise tarfile.ReadError(f"the header of {info.name} leads back: {info.size} bytes")
                end = tar.offset
                if info.isdir():
                    continue
                if info.offset_data + info.size > total and info.isreg() and not info.issparse():
                    missing = info.offset_data + info.size - total
                    raise tarfile.ReadError(f"the last {missing} bytes of {info.name} are missing")
                yield _read_member(tar, info)
            end = tar.offset
    _check_end(handle, end)


def _read_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if is_unsafe_name(info.name):
        detail = "the name is no file's, absolute, or leads out of the archive"
        return Member(info.name, problem=UNSAFE, detail=detail)
    if not info.isreg() or info.issparse():
        return Member(info.name, problem=UNSAFE, detail="a link, device or sparse file, not a plain one")
    if info.size > MEMBER_LIMIT:
        return Member(info.name, problem=TOO_LARGE, detail=f"{info.size:,} bytes, over {MEMBER_LIMIT:,}")
    handle = tar.extractfile(info)
    return Member(info.name, handle.read() if handle else b"")


def _compression(path: Path) -> str | None:
    with path.open("rb") as handle:
        start = handle.read(8)
    return next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)


def _check_end(handle: BinaryIO, offset: int) -> None:
    """See that a block of zeros ends the archive at `offset` and nothing but zeros follows.

    A library that reads a tar takes a damaged header for its end, and so does it a file cut between members.
    """
    handle.seek(offset)
    mark = handle.read(BLOCK)
    if len(mark) < BLOCK:
        raise tarfile.ReadError("its end mark is missing")
    if mark.strip(b"\0"):
        raise tarfile.ReadError(f"the header at byte {offset} is damaged")
    for chunk in iter(lambda: handle.read(1 << 20), b""):
        if chunk.strip(b"\0"):
            raise tarfile.ReadError("other bytes follow its end mark; were two archives joined?")
