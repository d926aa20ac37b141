"""Kind `hf`: data sets of Hugging Face on disk, read with pyarrow alone.

    saved/state.json, data-00000-of-00002.arrow            what `Dataset.save_to_disk` writes
    saved/dataset_dict.json, train/..., test/...           what `DatasetDict.save_to_disk` writes
    hub/data/train-00000-of-00003.parquet                  a repository of the Hub, fetched
    hub/default/train/0000.parquet                         the Hub's own conversion of one to Parquet

A row is a sample: its key is its file's name and its number in it. One batch of rows is held at a time.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from blip.config import Source
from blip.data.passing import see_that_it_is_its_own
from blip.data.sample import Sample
from blip.errors import BlipError
from blip.ingest.sources.arrow_rows import READ_ERRORS, rows_of
from blip.ingest.sources.columns import pick
from blip.ingest.sources.files import Folder, files_below
from blip.ingest.sources.links import gone, leads_nowhere
from blip.ingest.sources.picture_rows import pictures, sample_of
from blip.ingest.sources.refused import Refused, key_of
from blip.ingest.sources.row import BROKEN_TABLE, Row
from blip.ingest.sources.rows import column_names, read_rows

STATE, SPLITS = "state.json", "dataset_dict.json"
PART = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")
END = b"\xff\xff\xff\xff\0\0\0\0"


def files_of(source: Source, path: Path) -> list[Path]:
    """The tables of a data set, with those that are not there though others speak of them."""
    files = _files(path, source.split)
    return [*files, *_missing(files)]


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples file by file.

    Raises:
        BlipError: there is no such data set, or it has several splits and none is named.
    """
    files = _files(path, source.split)
    columns = pick(_names(files), source.columns, path)
    folder = Folder.of(source.images, path)
    alike = len({file.stem for file in files}) < len(files)
    for file in files:
        if leads_nowhere(file):
            yield gone(file, file.relative_to(path).as_posix(), BROKEN_TABLE)
            continue
        rows = _arrow(file, columns) if file.suffix == ".arrow" else read_rows(file, columns)
        name = key_of(file.relative_to(path).with_suffix("").as_posix() if alike else file.stem)
        try:
            for picture in pictures(rows, columns):
                if isinstance(picture, Refused):
                    yield picture
                else:
                    yield sample_of(picture, folder, name, source.origin)
        except BlipError as error:
            yield Refused(key_of(file.name), BROKEN_TABLE, str(error))
    for file in _missing(files):
        name = file.relative_to(path).as_posix()
        yield Refused(key_of(name), BROKEN_TABLE, f"{name} is not there, by the names of the others; get it")


def _files(path: Path, split: str | None) -> list[Path]:
    if not path.is_dir():
        raise BlipError(f"source {path}: no such folder; check ingest.datasets in params.yaml")
    if (path / SPLITS).is_file():
        known = _json(path / SPLITS, "splits")
        return _saved(path / _one(path, [str(name) for name in known], split))
    if (path / STATE).is_file():
        return _saved(path)
    tables = [file for file in files_below(path) if file.suffix == ".parquet"]
    if not tables:
        raise BlipError(f"source {path}: it has neither {STATE}, {SPLITS} nor a .parquet file")
    splits = {file: _split_of(file) for file in tables}
    chosen = _one(path, sorted(set(splits.values())), split)
    return [file for file in tables if splits[file] == chosen]


def _missing(files: list[Path]) -> Iterator[Path]:
    """The files of which the names of the others say that there are as many (`train-00000-of-00003`)."""
    found = defaultdict[tuple[Path, int], set[int]](set)
    for file in files:
        if part := PART.match(file.name):
            found[file.with_name(part["name"]), int(part["count"])].add(int(part["number"]))
    for (file, count), numbers in found.items():
        lacking = [number for number in range(count) if number not in numbers] if len(numbers) < count else []
        yield from (file.with_name(f"{file.name}-{number:05d}-of-{count:05d}.parquet") for number in lacking)


def _split_of(file: Path) -> str:
    """By the file's name, or by its folder's where its own is a number."""
    name = file.stem.partition("-")[0]
    return file.parent.name if name.isdigit() else name


def _saved(folder: Path) -> list[Path]:
    listed = _json(folder / STATE, "_data_files")
    files = [folder / Path(str(entry["filename"])).name for entry in listed]
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise BlipError(f"source {folder}: {', '.join(missing) or 'every file'} of {STATE} is missing")
    return files


def _one(path: Path, splits: list[str], split: str | None) -> str:
    if split in splits or (len(splits) == 1 and split is None):
        return split or splits[0]
    wanted = f"no split {split!r}" if split else "several splits"
    raise BlipError(f"source {path}: {wanted}; it has {', '.join(splits)}. Name one: --split NAME")


def _json(path: Path, name: str) -> list:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BlipError(f"{path} cannot be read: {error!r}") from None
    if not isinstance(value, list):
        raise BlipError(f"{path}: {name} is no list")
    return value


def _names(files: list[Path]) -> list[str]:
    """The columns, by the first file that can be read."""
    problem = None
    for file in files:
        try:
            return _schema(file).names if file.suffix == ".arrow" else column_names(file)
        except (BlipError, *READ_ERRORS) as error:
            problem = problem or error
    raise BlipError(f"{files[0]} cannot be read: {problem}")


def _schema(file: Path) -> pa.Schema:
    with pa.memory_map(str(file)) as memory, pa.ipc.open_stream(memory) as reader:
        return reader.schema


def _arrow(file: Path, columns: tuple[str, str]) -> Iterator[Row | Refused]:
    number = 0
    try:
        with pa.memory_map(str(file)) as memory, pa.ipc.open_stream(memory) as reader:
            for batch in reader:
                chosen = batch.select(list(columns))
                _check(chosen)
                for row in rows_of(chosen, file, number + 1):
                    number += 1
                    yield row
        _see_its_end(file)
    except (KeyError, *READ_ERRORS) as error:
        see_that_it_is_its_own(error, file)
        detail = f"{file.name} cannot be read after row {number}: {error}"
        yield Refused(key_of(file.name), BROKEN_TABLE, detail)


def _see_its_end(file: Path) -> None:
    """An arrow stream that was cut between two batches looks whole but for its end mark."""
    with file.open("rb") as handle:
        handle.seek(-len(END), os.SEEK_END)
        if handle.read() != END:
            raise pa.ArrowInvalid("the end mark is missing: it was cut")


def _check(batch: pa.RecordBatch) -> None:
    """See that nothing in a batch points outside of it, which pyarrow takes on trust and would crash at.

    Raises:
        pa.ArrowInvalid: something does.
    """
    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            if "UTF8" not in str(error):  # a text that is none costs itself only
                raise
