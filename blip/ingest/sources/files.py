"""The media that a table or an annotation file names: from a tar, or from a folder and those in it."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from os.path import normpath
from pathlib import Path, PurePosixPath

from blip.data.archive import UNSAFE, is_unsafe_name, read_members
from blip.data.passing import patiently
from blip.errors import BlipError
from blip.ingest.sources.links import leads_nowhere
from blip.ingest.sources.meant import elsewhere, hint
from blip.ingest.sources.names import Alike, folded, plain_name
from blip.ingest.sources.refused import (
    DUPLICATE,
    MEDIA,
    MISSING,
    NOT_LISTED,
    UNREADABLE,
    UNSUPPORTED,
    Refused,
    extension_in,
    key_of,
    renamed,
)
from blip.ingest.sources.seen import Seen

MACOS = "._"  # what macOS notes beside a file, in a copy or a tar, begins with


@dataclass(frozen=True)
class Media:
    """A file that a table names: the name as the table has it, its key, extension and content."""

    name: str
    key: str
    extension: str
    data: bytes

    @property
    def renamed(self) -> str | None:
        """The name, where the key does not tell it."""
        return renamed(self.name)


def find_in_tar(path: Path, wanted: Collection[str]) -> Iterator[Media | Refused]:
    """Each of the `wanted` names once, with or without its extension, in the order of the archive.

    Files that nobody wants, names without a file, second files of a name and unsafe names are refused.
    """
    found: set[str] = set()
    names: dict[str, str] = {}
    for name, item in _members(path, wanted):
        if name is not None:
            found.add(name)
        if isinstance(item, Media) and item.key in names:
            other = names[item.key]
            detail = f"{item.name}: {other} has the key {item.key}, too; names have to differ without their endings"
            yield Refused(item.key, DUPLICATE, detail, item.data)
            continue
        if isinstance(item, Media):
            names[item.key] = item.name
        yield item
    for name in wanted:
        if name not in found:
            yield Refused(key_of(name), MISSING, f"{name} is listed, its file is not in {path}")


def _members(path: Path, wanted: Collection[str]) -> Iterator[tuple[str | None, Media | Refused]]:
    names = _Wanted(path, wanted)
    for member in read_members(path):
        if PurePosixPath(member.name).name.startswith(MACOS):
            continue
        if member.problem:
            yield None, Refused(key_of(member.name), member.problem, member.detail)
            continue
        name = names.find(member.name)
        if name is None:
            detail = f"{member.name} in {path} is in no row of the table"
            yield None, Refused(key_of(member.name), NOT_LISTED, detail, member.data)
        else:
            yield name, media(name, member.name, member.data)


class _Wanted:
    """The names that a table has for the members of a tar."""

    def __init__(self, tar: Path, wanted: Collection[str]) -> None:
        self._tar, self._wanted = tar, wanted

    def find(self, member: str) -> str | None:
        """The name of a member in the table: with its folders or, if no other is called so, without."""
        if found := self._named(member):
            return found
        base = PurePosixPath(member).name
        found = self._named(base)
        return found if found and self._bases[base] == 1 else None

    def _named(self, member: str) -> str | None:
        names = list(_names(member))
        written = (name for name in names if name in self._wanted)
        alike = (self._alike[name] for name in map(folded, names) if name in self._alike)
        return next(written, None) or next(alike, None)

    @cached_property
    def _alike(self) -> dict[str, str]:
        """The wanted names by what they have in common with other spellings; those alone in it."""
        counts = Counter(map(folded, self._wanted))
        return {folded(name): name for name in self._wanted if counts[folded(name)] == 1}

    @cached_property
    def _bases(self) -> Counter[str]:
        """How many members have a name without its folders: asked for a tar that was packed with its folder."""
        return Counter(PurePosixPath(member.name).name for member in read_members(self._tar))


def _names(member: str) -> Iterator[str]:
    """The ways in which a table may name a member: `./a/b.png`, `a/b.png`, `a/b`, and these in plain letters."""
    plain = plain_name(member)
    yield from (
        member,
        plain,
        str(PurePosixPath(member).with_suffix("")),
        str(PurePosixPath(plain).with_suffix("")),
    )


def media(name: str, file: str, data: bytes) -> Media | Refused:
    """A file's bytes under the name that a table has for it; refused where its extension is none of a picture."""
    extension = extension_in(file)
    if extension not in MEDIA:
        return Refused(
            key_of(name), UNSUPPORTED, f"{file}: {extension or 'no extension'!r} is not read", data
        )
    return Media(name, key_of(name), extension, data)


@dataclass
class Folder:
    """A folder of pictures or clips, in which names are looked up.

    A name may lack its extension, and may stand in a folder one level below (`train2017/`), where official archives
    unpack to; one that several of these have is refused, unless the same file has another name that one alone has. One
    that is not there as it is written is looked for in other spellings (names.py). One that is absolute or climbs
    (`../photos/a.png`) may start at `beside`, the folder of the annotation file, too, and has to end in this folder:
    none leads out of what the user named, nor does a link.
    """

    path: Path
    beside: Path | None = None
    _used: Seen = field(default_factory=Seen)

    @classmethod
    def of(cls, images: str | None, beside: Path) -> "Folder":
        """The folder that a source names for its pictures, or the one `beside` its annotation file.

        Raises:
            BlipError: it is not there.
        """
        folder = cls(Path(images) if images else beside, beside)
        if not folder.path.is_dir():
            raise BlipError(f"pictures {folder.path}: no such folder; check `images` (--images)")
        return folder

    @cached_property
    def _root(self) -> Path:
        return self.path.resolve()

    @cached_property
    def _named(self) -> Path:
        """The folder as it was named, links and all, from the root of the disk on."""
        return Path(normpath(self.path.absolute()))

    @cached_property
    def _alike(self) -> Alike:
        return Alike(self.path)

    @cached_property
    def _below(self) -> list[str]:
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_dir())

    def find(self, *names: str) -> Media | Refused:
        """The file of the first of its names that is in one place alone; else why there is none.

        It is called by that name, or by an earlier one that is in several places: a copy elsewhere changes no key.
        """
        name = names[0]
        if name.startswith(("http://", "https://")):
            return Refused(
                key_of(name),
                MISSING,
                f"{name[:200]} is an address; read the table with --kind urls --column image=NAME",
            )
        inside, several = [self._inside(name) for name in names], None
        for look, spelt in ((self._written, str), (self._alike.find, plain_name)):
            for candidate in inside:
                if candidate is None:
                    return Refused(key_of(name), UNSAFE, self._no_name(name))
                places = self._locate(spelt(candidate), look)
                if len(places) == 1 or len({place.resolve() for place in places}) == 1:
                    return self._read(places[0], name, several[1] if several else candidate)
                if places and not several:
                    several = places, candidate
        if several:
            return self._ambiguous(several[0], name)
        told = hint(inside[0] or name, self.path)
        near = "" if told else self._alike.near(inside[0] or name)
        also = f"; {told}" if told else f"; {near} is" if near else ""
        return Refused(key_of(name), MISSING, f"{name} is listed, its file is not in {self.path}{also}")

    def _ambiguous(self, places: list[Path], name: str) -> Refused:
        written = [place.relative_to(self.path).as_posix() for place in places]
        for place in written:
            self._used.add(place)
        where = f"{len(places)} folders of {self.path}, as {', '.join(written[:2])}"
        return Refused(key_of(name), MISSING, f"{name} is in {where}: write it with its folder")

    def _read(self, found: Path, name: str, candidate: str) -> Media | Refused:
        self._used.add(found.relative_to(self.path).as_posix())
        if not found.resolve().is_relative_to(self._root):
            detail = f"{name} is a link that leads out of {self.path}{_way_in(found.resolve().parent)}"
            return Refused(key_of(name), UNSAFE, detail)
        data = content(found, key_of(candidate))
        return data if isinstance(data, Refused) else media(candidate, found.name, data)

    def unlisted(self, table: Path) -> Iterator[Refused]:
        """The refusals of the pictures and clips, in it and below, that were not found under any name in a table."""
        for file in files_below(self.path):
            name = file.relative_to(self.path).as_posix()
            if extension_in(name) in MEDIA and not leads_nowhere(file) and self._used.add(name):
                detail = f"{name} in {self.path} is in no row of {table.name}"
                yield Refused(key_of(name), NOT_LISTED, detail)

    def _inside(self, name: str) -> str | None:
        """A name relative to the folder, or None if it is no file's or leads elsewhere."""
        if not is_unsafe_name(name):
            return name
        for place in self._places(name):
            for root in (self._root, self._named):
                if place.is_relative_to(root):
                    inside = place.relative_to(root).as_posix()
                    return None if is_unsafe_name(inside) else inside
        return None

    def _places(self, name: str) -> list[Path]:
        """Where a name leads that is absolute or climbs: from here and from beside the annotation file."""
        bases = (self.path, self.beside or self.path)
        return [Path(normpath(base.absolute() / name.replace("\\", "/"))) for base in bases]

    def _no_name(self, name: str) -> str:
        if told := elsewhere(name, self.path):
            return f"{name} is {told}"
        place = self._places(name)[-1]
        if place.is_relative_to(self._named) or "\0" in name:
            return f"{name} is no file's name"
        return f"{name} leads out of {self.path}{_way_in(place.parent)}"

    def _written(self, name: str) -> Path | None:
        path = self.path / name
        return path if _is_file(path) else None

    def _locate(self, name: str, look: Callable[[str], Path | None]) -> list[Path]:
        """Where a name is, with an extension that it may lack: in the folder itself, or else in those below."""
        whole = extension_in(name) in MEDIA
        ends = [""] if whole else ["", *(f".{extension}" for extension in sorted(MEDIA))]

        def inside(folder: str) -> Path | None:
            return next((path for end in ends if (path := look(f"{folder}{name}{end}"))), None)

        if path := inside(""):
            return [path]
        return [path for folder in self._below if (path := inside(f"{folder}/"))]


def _way_in(folder: Path) -> str:
    return f": name the folder that has all pictures, as {folder}, with --images (`images` in params.yaml)"


def content(file: Path, key: str) -> bytes | Refused:
    """The bytes of a file, or why they cannot be had.

    Raises:
        BlipError: it is the disk or the share that fails.
    """
    try:
        return patiently(file.read_bytes, file)
    except OSError as error:
        return Refused(key, UNREADABLE, f"{file}: {error.strerror or error}")


def _is_file(path: Path) -> bool:
    try:
        return patiently(path.is_file, path)
    except OSError:  # a name too long to be one
        return False


def _opens(folder: Path) -> bool:
    """Whether one may list a folder and look at what is in it."""
    try:
        os.close(patiently(lambda: os.open(f"{folder}/.", os.O_RDONLY), folder))
    except OSError:
        return False
    return True


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and the folders below, in the order of their paths.

    Folders that are links, or may not be opened, are given and not followed, and so are links that lead nowhere; what
    macOS notes beside its files (`._cat.jpg`) is passed over.
    The names of one folder are held at a time, those of the folders above it with them.
    """
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith(MACOS):
            continue
        if leads_nowhere(entry):
            yield entry
        elif entry.is_dir() and not entry.is_symlink() and _opens(entry):
            yield from files_below(entry)
        elif entry.is_file() or entry.is_dir():
            yield entry
