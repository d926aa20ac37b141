"""Sources written on the spot and read."""

import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from blip.config import Source
from blip.data.archive import add_member
from blip.data.sample import Sample
from blip.ingest.sources import Refused, read


def items(path: Path, kind: str, origin: str = "web", **fields: object) -> list[Sample | Refused]:
    """What a source gives; `fields` are further ones of `Source`."""
    values = {"source": str(path), "kind": kind, "origin": origin, "role": "train"} | fields
    return list(read([Source.model_validate(values)]))


def samples(found: list[Sample | Refused]) -> dict[str, Sample]:
    return {item.key: item for item in found if isinstance(item, Sample)}


def reasons(found: list[Sample | Refused]) -> dict[str, str]:
    return {item.key: item.reason for item in found if isinstance(item, Refused)}


def texts(sample: Sample) -> list[tuple[str, str]]:
    return [(caption.text, caption.origin) for caption in sample.captions]


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            add_member(tar, name, data)


def details(found: list[Sample | Refused]) -> list[tuple[str, str]]:
    return [(item.reason, item.detail) for item in found if isinstance(item, Refused)]


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A table in the form that the name's extension tells."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".jsonl":
        write(path, *map(json.dumps, rows))
    else:
        separator = {".csv": ",", ".tsv": "\t"}[path.suffix]
        write(path, *(separator.join(map(str, row)) for row in (rows[0], *(row.values() for row in rows))))
