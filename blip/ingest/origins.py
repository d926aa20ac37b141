"""All that an ingested dataset depends on: while it is the same, so is the dataset.

    if not is_as_made(target, source, settings, references):
        note = note_of(source, settings, references)       # before it is made: what changes meanwhile is noticed
        ...                                                # make it
        note(target)

The shards of a dataset that grows know their samples. Of one that is finished nothing is read again, so here every
file of the source counts. Of the pictures to keep away from only those count that came to them: while no picture of
the dataset is near one of these, it would come out the same.

    .target.references.npz    beside a dataset, the pictures that it was kept away from
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from blip.config import Ingest, Source
from blip.data.kept import code_digest, digest_of, files_of, is_kept, keep
from blip.data.metadata import METADATA
from blip.data.parquet import read_batches
from blip.data.phash import HashIndex
from blip.ingest.ingestion import plan_of
from blip.ingest.references import References

ALONE = ("urls", "webdataset")  # kinds whose files name no other
ANNOTATIONS = "annotations"  # a folder of annotation files, which has the pictures beside it
CODE = ("ingest", "data")


def note_of(source: Source, settings: Ingest, references: References | None) -> Callable[[Path], None]:
    """What notes beside a dataset what it was made from: settings, files of the source, references, code."""
    origins = _origins(source, settings) | _digest(references)

    def note(target: Path) -> None:
        keep(target, origins)
        if references:
            references.write(_file(target))

    return note


def is_as_made(target: Path, source: Source, settings: Ingest, references: References | None) -> bool:
    """Whether a dataset is there that would come out the same; that it is so with other references is noted."""
    origins = _origins(source, settings)
    if is_kept(target, origins | _digest(references)):
        return True
    if references is None or not _file(target).is_file():
        return False
    before = References.read(_file(target))
    if not (is_kept(target, origins | _digest(before)) and _is_apart(target, before, references)):
        return False
    note_of(source, settings, references)(target)
    return True


def _is_apart(target: Path, before: References, now: References) -> bool:
    """Whether what was kept away from some pictures is from these: none is gone, and it is near none that came."""
    known, wanted = set(_each(before)), [*_each(now)]
    new = np.array([one not in known for one in wanted], bool)
    if before.bits != now.bits or not known <= set(wanted):
        return False
    index = HashIndex(now.hashes[new], now.bits)  # by the hash alone: colours could only tell apart
    batches = read_batches(target / METADATA, ["phash"]) if new.any() else ()
    return all((index.nearest(batch.column(0).to_numpy()) < 0).all() for batch in batches)


def _each(references: References) -> Iterator[tuple[str, int, bytes]]:
    """Name, hash and colours of every picture."""
    for name, phash, thumbnail in zip(
        references.names, references.hashes.tolist(), references.thumbnails, strict=True
    ):
        yield name, phash, thumbnail.tobytes()


def _digest(references: References | None) -> dict[str, str | None]:
    return {"references": references.digest if references else None}


def _file(target: Path) -> Path:
    return target.with_name(f".{target.name}.references.npz")


def _origins(source: Source, settings: Ingest) -> dict[str, Any]:
    """All but the references."""
    return {
        "plan": plan_of([source], settings, None),
        "limits": settings.model_dump(include={"max_bad_fraction", "max_caption_chars"}),
        "files": [digest_of(_facts(place)) for place in _places(source)],
        "code": code_digest(*CODE),
    }


def _places(source: Source) -> Iterator[Path]:
    """The files and folders in which a kind may look: of a file that names pictures also what lies beside it."""
    path = Path(source.source)
    yield path
    if source.images:
        yield Path(source.images)
    if source.kind not in ALONE:
        beside = path if path.is_dir() else path.parent
        yield beside.parent if beside.name == ANNOTATIONS else beside


def _facts(place: Path) -> Iterator[tuple[str, int, int, int]]:
    """Of every file what changes when it does; a time of change cannot be set back, as that of writing can."""
    for path in sorted(files_of(place)):
        stat = path.stat()
        yield str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
