"""Kind `folder`: pictures in a folder and the folders below it.

The captions of `cat.jpg` are the lines of `cat.txt`. Where no picture has such a file, names are captions:
`old_red-car 2.jpg` is "old red car"; if most are as `IMG_2015.jpg`, nothing is read. Pictures and clips of kinds that
are not read (but for those with a picture's name, as its RAW `cat.cr3`), texts without a picture, and folders that are
links or may not be opened are refused; other files are passed over, but for a table of captions: it ends the reading,
for kind `table` reads it.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from blip.config import Source
from blip.data.sample import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS, Caption, Sample
from blip.errors import BlipError
from blip.ingest.sources.cells import caption_of
from blip.ingest.sources.columns import pick
from blip.ingest.sources.files import content, files_below
from blip.ingest.sources.lines import Lines
from blip.ingest.sources.links import closed, gone, leads_nowhere, led_out, may_be_folder
from blip.ingest.sources.refused import (
    MISSING,
    NO_CAPTION,
    OTHER_MEDIA,
    UNSUPPORTED,
    Refused,
    extension_in,
    key_of,
    renamed,
)
from blip.ingest.sources.rows import CAPTIONS, column_names, table_in

TEXT = "txt"
LOOKED_AT, MANY = 1000, 10  # names that tell for all, and of how few nothing can be said
KEPT = 64 << 20  # bytes of a file that is not read, for the quarantine
UNREAD = OTHER_MEDIA | VIDEO_EXTENSIONS
ABOUT = frozenset({"readme", "license", "licence", "notice", "notes", "changelog", "classes", "labels"})


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples in the order of their paths.

    Raises:
        BlipError: there is no such folder, a table of captions lies in it, or most pictures have neither a text
            beside them nor a name in words.
    """
    if not path.is_dir():
        raise BlipError(f"source {path}: no such folder; check ingest.datasets in params.yaml")
    root, beside, lines = path.resolve(), Beside(), Lines()
    named = not any(map(beside.is_sidecar, files_below(path)))
    _see_that_no_table_is_lost(path)
    if named:
        _see_that_names_say_something(path)
    for file in files_below(path):
        name, extension = file.relative_to(path).as_posix(), extension_in(file.name)
        key = key_of(name)
        if extension not in IMAGE_EXTENSIONS:
            yield from _other(file, name, path, beside)
        elif leads_nowhere(file):
            yield gone(file, name)
        elif not file.resolve().is_relative_to(root):
            yield led_out(file, name, path)
        else:
            sample = _sample(file, key, extension, source.origin, beside.text_of(file), named)
            lines.see(sample)
            yield replace(sample, name=renamed(name)) if isinstance(sample, Sample) else sample
    lines.tell(path)


def _see_that_no_table_is_lost(path: Path) -> None:
    if (table := table_in(path, *CAPTIONS)) and _has_captions(table):
        raise BlipError(
            f"source {path}: {table.name} lies there, which kind folder does not read: say kind table (or leave --kind "
            "out), or take it away where the texts beside the pictures, or their names, are their captions"
        )


def _has_captions(table: Path) -> bool:
    """Whether it is one of pictures and captions, by its columns: other programs write a metadata.json, too."""
    try:
        return bool(pick(column_names(table), None, table))
    except BlipError:
        return table.stem == CAPTIONS[0]


def _see_that_names_say_something(path: Path) -> None:
    pictures = (file.stem for file in files_below(path) if extension_in(file.name) in IMAGE_EXTENSIONS)
    names = list(islice(pictures, LOOKED_AT))
    words = Counter(in_words(name).lower() for name in names)
    if len(names) < MANY:
        return
    alike, times = words.most_common(1)[0]
    single = sum(count for text, count in words.items() if " " not in text)
    if max(times, single) <= len(names) / 2:
        return
    example = next(name for name in names if " " not in in_words(name) or in_words(name).lower() == alike)
    raise BlipError(
        f"source {path}: the names of most of its pictures are no captions, as {example!r}; put a text beside each "
        f"({example}.txt), or a table captions.csv with the columns image and caption into the folder (kind table), "
        "or let its folders be the captions (kind imagefolder)"
    )


def unread(file: Path, key: str) -> Refused:
    """The refusal of a picture or clip of a kind that is not read."""
    what = extension_in(file.name) or "no extension"
    detail = f"{file.name}: {what!r} is not read; save it as jpg, png or webp"
    return Refused(key, UNSUPPORTED, detail, _kept(file))


def _kept(file: Path) -> bytes | None:
    """The bytes of a file that is refused, unless it is large, as a film is, or cannot be read."""
    try:
        return file.read_bytes() if file.stat().st_size <= KEPT else None
    except OSError:
        return None


class Beside:
    """Which texts and other files belong to pictures; the names of one folder are held at a time."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._names = self._pictures = frozenset[str]()
        self._texts: dict[str, str] = {}

    def is_sidecar(self, file: Path) -> bool:
        """Whether a file is the text of a picture, or of something that takes itself for one."""
        if extension_in(file.name) != TEXT:
            return False
        self._look_into(file.parent)
        return file.stem in self._names

    def text_of(self, file: Path) -> Path | None:
        """The text of a picture, `cat.txt` or `cat.TXT`, if there is one; a link is none."""
        self._look_into(file.parent)
        name = self._texts.get(file.stem)
        return file.with_name(name) if name else None

    def is_lost(self, file: Path) -> bool:
        """Whether a file is a picture or clip of a kind that is not read, and no picture beside it has its name."""
        if extension_in(file.name) not in UNREAD:
            return False
        self._look_into(file.parent)
        return file.stem not in self._pictures

    def _look_into(self, folder: Path) -> None:
        if folder == self._folder:
            return
        kinds = IMAGE_EXTENSIONS | UNREAD | {"", TEXT}
        found = [entry for entry in folder.iterdir() if extension_in(entry.name) in kinds and _is_file(entry)]
        texts = [entry for entry in found if extension_in(entry.name) == TEXT]
        self._folder = folder
        self._names = frozenset(entry.stem for entry in found if extension_in(entry.name) != TEXT)
        self._pictures = frozenset(
            entry.stem for entry in found if extension_in(entry.name) in IMAGE_EXTENSIONS
        )
        self._texts = {text.stem: text.name for text in sorted(texts) if not text.is_symlink()}


def _is_file(path: Path) -> bool:
    """Whether it is a file, or a link to one that is not there."""
    return path.is_file() or leads_nowhere(path)


def _other(file: Path, name: str, path: Path, beside: Beside) -> Iterator[Refused]:
    """What a file that is no picture costs."""
    if may_be_folder(file):
        yield closed(file, name, path)
        return
    extension = extension_in(name)
    if beside.is_lost(file) or (not extension and beside.text_of(file)):
        yield unread(file, key_of(name))
    elif extension == TEXT and not (leads_nowhere(file) or beside.is_sidecar(file) or _is_about(file)):
        yield Refused(key_of(name), MISSING, f"{name} is a text, no picture of that name is beside it")


def _is_about(text: Path) -> bool:
    return text.stem.lower() in ABOUT


def _sample(
    file: Path, key: str, extension: str, origin: str, sidecar: Path | None, named: bool
) -> Sample | Refused:
    data = content(file, key)
    if isinstance(data, Refused):
        return data
    texts = _texts(file, key, sidecar, named)
    if isinstance(texts, Refused):
        return texts
    if not texts:
        detail = f"{file.name} has neither a text beside it nor a name in words"
        if sidecar:
            detail = f"{sidecar.name} beside {file.name} is empty, or no line of it is a caption"
        elif not named:
            detail = f"{file.name} has no text beside it, as others have"
        return Refused(key, NO_CAPTION, detail, data)
    return Sample(key, data, extension, tuple(Caption(text, origin) for text in texts))


def _texts(file: Path, key: str, sidecar: Path | None, named: bool) -> list[str] | Refused:
    if sidecar:
        data = content(sidecar, key)
        if isinstance(data, Refused):
            return data
        lines = data.decode("utf-8-sig", errors="replace").splitlines()
        return [text for line in lines if (text := caption_of(line))]
    words = in_words(file.stem) if named else ""
    return [words] if words else []


def in_words(name: str) -> str:
    """The name of a file as a text, without a number at its end: `old_red-car 2` is "old red car"."""
    return spaced(re.sub(r"[\s_\-\d]+$", "", name))


def spaced(name: str) -> str:
    """A name with single spaces for what separates its words: `Audi_S4-2007` is "Audi S4 2007"."""
    return re.sub(r"[\s_-]+", " ", name).strip()
