"""The media that a table names, from a tar or from the table's folder."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from blip.data.archive import UNSAFE, is_unsafe_name, read_members
from blip.data.sample import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS
from blip.data.sources.refused import Refused, key_of

MISSING, NOT_LISTED, DUPLICATE, UNSUPPORTED = "missing_file", "not_listed", "duplicate", "unsupported"


MEDIA = IMAGE_EXTENSIONS | VIDEO_EXTENSIONS


@dataclass(frozen=True)
class Media:
    """A file that a table names: the name as the table has it, its key, extension and content."""

    name: str
    key: str
    extension: str
    data: bytes


Found = Iterator[tuple[str | None, Media | Refused]]  # a name of the table, and what became of it


def find_media(folder: Path, archive: str, wanted: Collection[str]) -> Iterator[Media | Refused]:
    """Each of the `wanted` names once, with or without its extension, from `folder/archive` or `folder`.

    Files that nobody wants, names without a file, second files of a name and unsafe names are refused.
    """
    path = folder / archive
    found: set[str] = set()
    keys: set[str] = set()
    for name, item in _from_tar(path, wanted) if path.is_file() else _from_folder(folder, wanted):
        if name is not None:
            found.add(name)
        if isinstance(item, Media) and item.key in keys:
            yield Refused(item.key, DUPLICATE, f"{item.name}: another file has the key {item.key}", item.data)
            continue
        if isinstance(item, Media):
            keys.add(item.key)
        yield item
    for name in wanted:
        if name not in found:
            yield Refused(key_of(name), MISSING, f"{name} is listed, its file is not in {folder}")


def _from_tar(path: Path, wanted: Collection[str]) -> Found:
    for member in read_members(path):
        if member.problem:
            yield None, Refused(key_of(member.name), member.problem, member.detail)
            continue
        name = next((name for name in _names(member.name) if name in wanted), None)
        if name is None:
            detail = f"{member.name} in {path} is in no row of the table"
            yield None, Refused(key_of(member.name), NOT_LISTED, detail, member.data)
        else:
            yield name, _media(name, member.name, member.data)


def _from_folder(folder: Path, wanted: Collection[str]) -> Found:
    root = folder.resolve()
    for name in wanted:
        path = _locate(folder, name) if not is_unsafe_name(name) else None
        if is_unsafe_name(name) or (path and not path.resolve().is_relative_to(root)):
            yield name, Refused(key_of(name), UNSAFE, f"{name} leads out of {folder}")
        elif path:
            yield name, _media(name, path.name, path.read_bytes())


def _locate(folder: Path, name: str) -> Path | None:
    candidates = [name, *(f"{name}.{extension}" for extension in sorted(MEDIA))]
    return next((folder / candidate for candidate in candidates if (folder / candidate).is_file()), None)


def _names(member: str) -> Iterator[str]:
    """The ways in which a table may name a member: `./a/b.png`, `a/b.png`, `a/b`."""
    path = PurePosixPath(member)
    yield from (member, str(path), str(path.with_suffix("")))


def _media(name: str, file: str, data: bytes) -> Media | Refused:
    extension = PurePosixPath(file).suffix[1:].lower()
    if extension not in MEDIA:
        return Refused(
            key_of(name), UNSUPPORTED, f"{file}: {extension or 'no extension'!r} is not read", data
        )
    return Media(name, key_of(name), extension, data)
