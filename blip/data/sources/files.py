"""The media that a table names, from a tar or from the table's folder."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from blip.data.archive import UNSAFE, is_unsafe_name, read_members
from blip.data.sample import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS
from blip.data.sources.refused import Refused, key_of

MISSING, NOT_LISTED, DUPLICATE, UNSUPPORTED = "missing_file", "not_listed", "duplicate", "unsupported"


@dataclass(frozen=True)
class Media:
    """A file that a table names: the name as the table has it, its key, extension and content."""

    name: str
    key: str
    extension: str
    data: bytes


def find_media(folder: Path, archive: str, wanted: Collection[str]) -> Iterator[Media | Refused]:
    """Each of the `wanted` names once, with or without its extension, from `folder/archive` or `folder`.

    Files that nobody wants, names without a file, second files of a name and unsafe names are refused.
    """
    found: set[str] = set()
    files = (
        _from_tar(folder / archive, wanted) if (folder / archive).is_file() else _from_folder(folder, wanted)
    )
    for item in files:
        if isinstance(item, Media) and item.name in found:
            yield Refused(item.key, DUPLICATE, f"{item.name} is there more than once", item.data)
        else:
            yield item
        if isinstance(item, Media):
            found.add(item.name)
    for name in wanted:
        if name not in found and not is_unsafe_name(name):
            yield Refused(key_of(name), MISSING, f"{name} is listed, its file is not in {folder}")


def _from_tar(path: Path, wanted: Collection[str]) -> Iterator[Media | Refused]:
    for member in read_members(path):
        if member.problem:
            yield Refused(key_of(member.name), member.problem, member.detail)
            continue
        name = next((name for name in _names(member.name) if name in wanted), None)
        if name is None:
            detail = f"{member.name} in {path} is in no row of the table"
            yield Refused(key_of(member.name), NOT_LISTED, detail, member.data)
        else:
            yield _media(name, member.name, member.data)


def _from_folder(folder: Path, wanted: Collection[str]) -> Iterator[Media | Refused]:
    root = folder.resolve()
    for name in wanted:
        path = _locate(folder, name) if not is_unsafe_name(name) else None
        if is_unsafe_name(name) or (path and not path.resolve().is_relative_to(root)):
            yield Refused(key_of(name), UNSAFE, f"{name} leads out of {folder}")
        elif path:
            yield _media(name, path.name, path.read_bytes())


def _locate(folder: Path, name: str) -> Path | None:
    candidates = [name, *(f"{name}.{extension}" for extension in sorted(IMAGE_EXTENSIONS | VIDEO_EXTENSIONS))]
    return next((folder / candidate for candidate in candidates if (folder / candidate).is_file()), None)


def _names(member: str) -> Iterator[str]:
    """The ways in which a table may name a member: `./a/b.png`, `a/b.png`, `a/b`."""
    path = PurePosixPath(member)
    yield from (member, str(path), str(path.with_suffix("")))


def _media(name: str, file: str, data: bytes) -> Media | Refused:
    extension = PurePosixPath(file).suffix[1:].lower()
    if extension not in IMAGE_EXTENSIONS | VIDEO_EXTENSIONS:
        return Refused(
            key_of(name), UNSUPPORTED, f"{file}: {extension or 'no extension'!r} is not read", data
        )
    return Media(name, key_of(name), extension, data)
