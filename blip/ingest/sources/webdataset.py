"""Kind `webdataset`: a folder of tars as img2dataset writes them, or one such tar; captions stand in each.

    laion/00000.tar: 000000000.jpg  000000000.json  000000000.txt  000000001.jpg  ...
    laion/00001.tar: 000010000.jpg  ...

Members with the same name up to the first dot are one sample and stand side by side, in any order: a picture
or clip, and its caption as KEY.txt, KEY.caption, KEY.cls (in words) or `caption` of KEY.json. A key that
begins with its tar's name, as img2dataset's do, stays as it is; another one gets that name in front, since
tars may number their samples alike. Only a tar's worth of keys is held at a time.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath

from blip.config import Source
from blip.data.archive import COMPRESSED, Member, is_unsafe_name, read_members
from blip.data.sample import Caption, Sample
from blip.errors import BlipError
from blip.ingest.sources.cells import caption_of
from blip.ingest.sources.files import MACOS, files_below
from blip.ingest.sources.links import closed, leads_away, linked_away, may_be_folder
from blip.ingest.sources.refused import (
    DUPLICATE,
    MEDIA,
    NO_CAPTION,
    NO_IMAGE,
    UNSUPPORTED,
    Refused,
    extension_in,
    key_of,
    renamed,
)

PICKLE = "pickle"
TEXTS = ("txt", "caption", "cls", "json")  # the first that has words is the caption
PICKLES = frozenset({"pyd", "pickle", "pkl", "pth", "pt", "npy", "npz", "joblib"})
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples in the order of the tars' names and of their members.

    Raises:
        BlipError: there is no such folder or no tar in it, all are compressed, or a name is a command.
    """
    found = dict(_named(path))
    distinct = are_distinct(name for name, file in found.items() if file.name.endswith(".tar"))
    for name, file in found.items():
        if path.is_dir() and leads_away(file, path):
            yield linked_away(file, name, path)
        elif file.is_dir():
            yield closed(file, name, path)
        elif is_packed(file.name):
            yield packed(name)
        else:
            yield from read_tar(file, name, distinct, source.origin)


def are_distinct(names: Iterable[str]) -> bool:
    """Whether none of the tars' names begins another's, so that a key which begins with one is of that tar alone."""
    return not any(after.startswith(before) for before, after in pairwise(sorted(names)))


def read_tar(
    tar: Path, name: str, distinct: bool, origin: str, called: str | None = None
) -> Iterator[Sample | Refused]:
    """The samples of one tar.

    Args:
        name: of the tar below its source, without `.tar`.
        distinct: what `are_distinct` says of all tars of the source.
        origin: who wrote the captions.
        called: what to call a tar that lies where it is for a while only.
    """
    seen: set[str] = set()
    for item in _groups(tar, called or str(tar)):
        if isinstance(item, Refused):
            yield item
            continue
        member = item.key if distinct and item.key.startswith(name) else f"{name}/{item.key}"
        key = key_of(member)
        if item.media or item.texts:
            yield item.second(key) if key in seen else item.sample(key, origin, renamed(member))
        seen.add(key)


def is_tar(name: str) -> bool:
    """Whether a file is a tar, compressed or not."""
    return (name.endswith(".tar") or is_packed(name)) and not PurePosixPath(name).name.startswith(MACOS)


def is_packed(name: str) -> bool:
    """Whether a file is a compressed tar, by its name."""
    return name.lower().endswith(PACKED)


def packed(name: str) -> Refused:
    """The refusal of a compressed tar."""
    detail = f"{name} is compressed; unpack it to a plain .tar, which is all that is read"
    return Refused(key_of(name), COMPRESSED, detail)


def see_that_one_is_read(names: Collection[str], place: str) -> None:
    """Of the tars of a source one must be plain. Raises BlipError if there is none, or all are compressed."""
    if not names:
        raise BlipError(f"source {place}: there is no .tar in it")
    if all(map(is_packed, names)):
        raise BlipError(f"source {place}: {packed(min(names)).detail}")


@dataclass
class _Group:
    """The members of one sample, as they come."""

    key: str
    media: tuple[str, bytes] | None = None
    texts: dict[str, bytes] = field(default_factory=dict)

    def add(self, member: Member, extension: str) -> Refused | None:
        """Take a member in, or say why it is left out."""
        if extension in MEDIA and self.media is None:
            self.media = extension, member.data
        elif extension in TEXTS and extension not in self.texts:
            self.texts[extension] = member.data
        elif extension in PICKLES:
            detail = f"{member.name} can hold a pickle, which runs code where it is read; it was not opened"
            return Refused(key_of(member.name), PICKLE, detail)
        elif extension in MEDIA or extension in TEXTS:
            detail = f"{member.name}: the sample {self.key} has another one of its kind"
            return Refused(key_of(member.name), DUPLICATE, detail, member.data)
        else:
            detail = f"{member.name}: {extension or 'no extension'!r} is not read"
            return Refused(key_of(member.name), UNSUPPORTED, detail, member.data)
        return None

    def sample(self, key: str, origin: str, name: str | None) -> Sample | Refused:
        """The sample, or why there is none."""
        if self.media is None:
            there = ", ".join(sorted(self.texts)) or "nothing that is read"
            return Refused(
                key, NO_IMAGE, f"{self.key} has {there} but no picture{self._status()}", self._any()
            )
        extension, data = self.media
        text = next(filter(None, (_text(kind, self.texts.get(kind, b"")) for kind in TEXTS)), "")
        if not text:
            detail = f"{self.key} has no words in {', '.join(sorted(self.texts)) or 'any text'}"
            return Refused(key, NO_CAPTION, detail, data)
        return Sample(key, data, extension, (Caption(text, origin),), name=name)

    def second(self, key: str) -> Refused:
        """What becomes of members that come apart from others of their key."""
        detail = f"{self.key} came before in the same tar; the members of a sample must stand side by side"
        return Refused(key, DUPLICATE, detail, self.media[1] if self.media else self._any())

    def _any(self) -> bytes | None:
        return next(iter(self.texts.values()), None)

    def _status(self) -> str:
        """What img2dataset says of a picture that it did not get."""
        about = _object(self.texts.get("json", b""))
        told = [str(about[name]) for name in ("status", "error_message") if about.get(name)]
        return f" ({', '.join(told)})"[:200] if told else ""


def files_of(path: Path) -> list[Path]:
    """The tars of a source, and the folders in it that are not read."""
    files = [path] if path.is_file() else files_below(path)
    return [file for file in files if _is_lost(file, path) or (is_tar(file.name) and not file.is_dir())]


def _is_lost(file: Path, path: Path) -> bool:
    """Whether it is a folder that is not read: one that may not be opened, or a link out of the source."""
    return may_be_folder(file) and (leads_away(file, path) or not file.is_symlink())


def _named(path: Path) -> Iterator[tuple[str, Path]]:
    """Names below the folder, without `.tar`, and files; the folders that are not read, too."""
    if "pipe:" in str(path):
        raise BlipError(f"source {path}: commands are never run; name a folder of tars, or a tar")
    if not path.exists():
        raise BlipError(f"source {path}: no such folder; check ingest.datasets in params.yaml")
    files = files_of(path)
    see_that_one_is_read([file.name for file in files], str(path))
    for file in files:
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        if is_unsafe_name(name):
            raise BlipError(
                f"source {path}: the shard's name {name!r} could be taken for a command; rename it"
            )
        yield name.removesuffix(".tar"), file


def _groups(tar: Path, called: str) -> Iterator[_Group | Refused]:
    """Neighbouring members with the same key, and before them those of them that are left out."""
    group: _Group | None = None
    shard = PurePosixPath(called).name
    for member in read_members(tar, called):
        if member.problem:
            yield Refused(key_of(member.name), member.problem, f"{shard}, {member.name}: {member.detail}")
            continue
        path = PurePosixPath(member.name)
        if path.name.startswith(MACOS):
            continue
        base, _, extension = path.name.partition(".")
        key = str(path.parent / base)
        if group is None or group.key != key:
            if group:
                yield group
            group = _Group(key)
        kind = extension_in(f"x.{extension}") if "." not in extension else extension.lower()
        if lost := group.add(member, kind):
            yield lost
    if group:
        yield group


def _text(kind: str, data: bytes) -> str:
    if kind == "json":
        found = _object(data).get("caption")
        text = found if isinstance(found, str) else ""
    else:
        text = data.decode("utf-8-sig", errors="replace")
    caption = caption_of(text)
    return "" if kind == "cls" and caption.isdigit() else caption


def _object(data: bytes) -> dict[str, object]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
