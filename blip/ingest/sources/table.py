"""Kind `table`: rows of a picture and a caption, as csv, tsv, json, jsonl or parquet.

    mine/captions.csv   image,caption      several rows an image; the pictures in mine/images.tar or in mine/
    pairs.parquet       filepath,title     the file itself as source; names are relative to it or to `images`
    pairs.parquet       image,text         the pictures stand in it, as bytes or as Hugging Face's {bytes, path}

`truth.csv` (image, ...) of a folder, if there is one, is what only audits and evaluation may know. Held in
memory are the captions of a folder with a tar, which come in the tar's order; otherwise 8 bytes an image, and
the captions of images whose rows do not stand together.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from blip.config import Source
from blip.data.sample import Caption, Sample
from blip.errors import BlipError
from blip.ingest.sources.cells import captions_of, name_in
from blip.ingest.sources.columns import pick, tell_of_others
from blip.ingest.sources.files import Folder, find_in_tar
from blip.ingest.sources.guess import told_of_files
from blip.ingest.sources.names import plain_name
from blip.ingest.sources.notes import tell
from blip.ingest.sources.picture_rows import no_picture, pictures, sample_of
from blip.ingest.sources.refused import Refused, key_of
from blip.ingest.sources.row import Row
from blip.ingest.sources.rows import CAPTIONS, column_names, find_table, read_rows, tables_in
from blip.ingest.sources.seen import Seen
from blip.ingest.sources.truth import Truth, tell_of_label

Texts = dict[str, dict[str, None]]  # of each image, in their order, each once
Columns = tuple[str, str]  # of the picture and of the caption


def files_of(source: Source, path: Path, archive: str = "images.tar") -> list[Path]:
    """The table of a source and, if there is one, the tar of its pictures."""
    table = path if path.is_file() else find_table(path, *CAPTIONS, told=told_of_files)
    tar = table.parent / archive
    return [table, tar] if path.is_dir() and tar.is_file() and not source.images else [table]


def read(source: Source, path: Path, archive: str = "images.tar") -> Iterator[Sample | Refused]:
    """Samples with their captions, in the order of the archive or else of the table.

    Raises:
        BlipError: there is no table, or it has no rows, or no column of it is called like a picture or a caption.
    """
    table, *tars = files_of(source, path, archive)
    _tell_of_others(table, path)
    names = column_names(table)
    columns = pick(names, source.columns, table)
    tell_of_others(names, columns[1], source.columns, table)
    tell_of_label(names, columns, table)
    if next(read_rows(table, columns[1:]), None) is None:
        raise BlipError(f"source {path}: {table.name} has no rows, only the names of its columns")
    if tars:
        yield from _join(source, table, columns, tars[0])
        return
    folder = Folder.of(source.images, table.parent)
    yield from _stream(source, table, columns, folder)
    if path.is_dir() and not source.images:
        yield from folder.unlisted(table)


def _tell_of_others(table: Path, path: Path) -> None:
    """Say which table of a folder is read where it has more than one."""
    others = [other.name for other in tables_in(path, *CAPTIONS) if other != table]
    if others:
        tell(
            f"{table} is read, and {', '.join(others)} beside it not; to read another one, name it as the source"
        )


def _join(source: Source, table: Path, columns: Columns, tar: Path) -> Iterator[Sample | Refused]:
    captions: Texts = {}
    for row in read_rows(table, columns):
        if isinstance(row, Refused):
            yield row
            continue
        texts = dict.fromkeys(captions_of(row.values[columns[1]]))
        if name := _name(row, columns):
            captions.setdefault(name, {}).update(texts)
        else:
            yield no_picture(key_of(table.stem), row.number, texts)
    truth = Truth.beside(table)
    known = {name: truth.of(name) for name in captions}
    truth.tell()
    for item in find_in_tar(tar, captions):
        if isinstance(item, Refused):
            yield item
            continue
        texts = tuple(Caption(text, source.origin) for text in captions[item.name])
        yield Sample(item.key, item.data, item.extension, texts, truth=known[item.name], name=item.renamed)


def _stream(source: Source, table: Path, columns: Columns, folder: Folder) -> Iterator[Sample | Refused]:
    truth = Truth.beside(table)
    gathered = {} if _holds_pictures(table, columns[0]) else _gathered(table, columns)
    for picture in pictures(read_rows(table, columns), columns):
        if isinstance(picture, Refused):
            yield picture
            continue
        if picture.data is None and picture.name in gathered:
            picture.texts, gathered[picture.name] = gathered[picture.name], {}
            if not picture.texts:
                continue
        yield sample_of(picture, folder, key_of(table.stem), source.origin, truth.of(picture.name))
    truth.tell()


def _gathered(table: Path, columns: Columns) -> Texts:
    """The captions of the images whose rows do not stand together."""
    named = (_name(row, columns) for row in read_rows(table, columns[:1]) if isinstance(row, Row))
    again = _scattered(named)
    texts: Texts = {name: {} for name in again}
    for row in read_rows(table, columns) if again else ():
        if isinstance(row, Row) and (name := _name(row, columns)) in texts:
            texts[name].update(dict.fromkeys(captions_of(row.values[columns[1]])))
    return texts


def _name(row: Row, columns: Columns) -> str:
    return plain_name(name_in(row.values[columns[0]]))


def _scattered(names: Iterable[str]) -> set[str]:
    """The images named by a row that another image's row parts from the first; "" names none."""
    seen, again, last = Seen(), set[str](), None
    for name in names:
        if name and name != last and not seen.add(name):
            again.add(name)
        last = name
    return again


def _holds_pictures(table: Path, column: str) -> bool:
    """Whether a column has pictures rather than their names."""
    if table.suffix.lower() != ".parquet":
        return False
    kind = pq.read_schema(table).field(column).type
    return not (pa.types.is_string(kind) or pa.types.is_large_string(kind))
