"""Rows of a picture, or its name, and captions: those of one picture that follow each other become a sample."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from blip.data.sample import Caption, Sample
from blip.ingest.sources.cells import captions_of, embedded, extension_of, name_in
from blip.ingest.sources.files import Folder
from blip.ingest.sources.names import plain_name
from blip.ingest.sources.refused import NO_IMAGE, UNSUPPORTED, Refused
from blip.ingest.sources.row import Row, Value


@dataclass
class Picture:
    """A picture of a table: the number of its first row, its name or its bytes, and its captions."""

    number: int
    name: str
    data: bytes | None
    texts: dict[str, None]  # in their order, each once

    def is_same(self, other: "Picture") -> bool:
        """Whether another row is about the same picture."""
        return self.data == other.data if self.data or other.data else self.name == other.name != ""


def pictures(rows: Iterable[Row | Refused], columns: tuple[str, str]) -> Iterator[Picture | Refused]:
    """Join neighbouring rows of one picture; `columns` are those of the picture and of the caption."""
    waiting: Picture | None = None
    for row in rows:
        if isinstance(row, Refused):
            yield row
            continue
        cell, texts = (row.values.get(column) for column in columns)
        picture = Picture(
            row.number, plain_name(name_in(cell)), embedded(cell), dict.fromkeys(captions_of(texts))
        )
        if waiting and waiting.is_same(picture):
            waiting.texts.update(picture.texts)
            continue
        if waiting:
            yield waiting
        waiting = picture
    if waiting:
        yield waiting


def sample_of(
    picture: Picture, folder: Folder, table: str, origin: str, truth: Mapping[str, Value] | None = None
) -> Sample | Refused:
    """The sample of a picture; one that stands in the table has the table's name and its row for a key."""
    texts = tuple(Caption(text, origin) for text in picture.texts)
    known = dict(truth) if truth else None
    key = f"{table}-{picture.number:08d}"
    if picture.data is not None:
        extension = extension_of(picture.data)
        if extension is None:
            detail = f"row {picture.number}: {len(picture.data)} bytes that begin with {picture.data[:8]!r}"
            return Refused(key, UNSUPPORTED, detail, picture.data)
        return Sample(key, picture.data, extension, texts, truth=known)
    if not picture.name:
        return no_picture(table, picture.number, picture.texts)
    found = folder.find(picture.name)
    if isinstance(found, Refused):
        return found
    return Sample(found.key, found.data, found.extension, texts, truth=known, name=found.renamed)


def no_picture(table: str, number: int, texts: Iterable[str]) -> Refused:
    """The refusal of a row that has no picture and names none."""
    written = "\n".join(texts).encode(errors="replace")
    return Refused(f"{table}-{number:08d}", NO_IMAGE, f"row {number} has no picture", written)
