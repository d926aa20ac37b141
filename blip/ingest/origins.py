"""All that an ingested dataset depends on: while it is the same, so is the dataset.

    if not is_as_made(target, source, settings, references):
        note = note_of(source, settings, references)       # before it is made: what changes meanwhile is noticed
        ...                                                # make it
        note(target)

The shards of a dataset that grows know their samples. Of one that is finished nothing is read again, so here every
file of the source counts. Of the pictures to keep away from only those count that came to them: while no picture of
the dataset is near one of these, it would come out the same.

Pictures of lists of URLs are not fetched again because a file was touched or a note was lost: the content of lists
counts, not their times, and the manifest says what it was made from, which goes wherever the dataset goes.

    .target.references.npz    beside a dataset, the pictures that it was kept away from
"""

from collections.abc import Callable, Iterator
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np

from blip.config import Ingest, Source
from blip.data.kept import digest_of, files_of, is_kept, keep
from blip.data.manifest import read_manifest
from blip.data.metadata import METADATA
from blip.data.parquet import read_batches
from blip.data.phash import HashIndex
from blip.errors import BlipError
from blip.ingest.ingestion import ORIGINS, plan_of
from blip.ingest.references import References

FORMAT = 1  # raise it when the same source becomes another dataset; other edits of this code make none anew
ALONE = ("urls", "webdataset", "pairs")  # kinds whose files name no other
ANNOTATIONS = "annotations"  # a folder of annotation files, which has the pictures beside it


def note_of(source: Source, settings: Ingest, references: References | None) -> Callable[[Path], None]:
    """What notes beside a dataset what it was made from: settings, files of the source, references, format."""
    origins = _origins(source, settings) | _digest(references)

    def note(target: Path) -> None:
        keep(target, origins)
        if references:
            references.write(_file(target))

    return note


def said_of(source: Source, settings: Ingest, references: References | None) -> str | None:
    """What the manifest is to say of all this: a digest, where no time of a file is in it; else None."""
    return digest_of([_origins(source, settings) | _digest(references)]) if source.kind == "urls" else None


def is_as_made(target: Path, source: Source, settings: Ingest, references: References | None) -> bool:
    """Whether a dataset is there that would come out the same; that it is so with other references is noted."""
    origins = _origins(source, settings)
    if _is_made_from(target, origins | _digest(references)):
        return True
    if references is None or not _file(target).is_file():
        return False
    before = References.read(_file(target))
    if not (_is_made_from(target, origins | _digest(before)) and _is_apart(target, before, references)):
        return False
    note_of(source, settings, references)(target)
    return True


def _is_made_from(target: Path, origins: dict[str, Any]) -> bool:
    """Whether a dataset is whole, and a note beside it or its manifest says that it was made from these."""
    if is_kept(target, origins):
        return True
    try:
        manifest = read_manifest(target)
    except BlipError:
        return False
    sizes = {target / shard.url: shard.bytes for shard in manifest.shards}
    whole = (target / METADATA).is_file() and all(
        path.is_file() and path.stat().st_size == size for path, size in sizes.items()
    )
    return whole and manifest.parameters.get(ORIGINS) == digest_of([origins])


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
        "max_caption_chars": settings.max_caption_chars,
        "files": _files(source, settings),
        "format": FORMAT,
    }


def _files(source: Source, settings: Ingest) -> list[str]:
    """A digest of the files of each place; of a store what its list says of them."""
    if source.is_remote:
        from blip.ingest.remote.store import Store

        shards = Store.open(source, settings.download).shards()
        return [digest_of((shard.name, shard.size, shard.tag) for shard in shards)]
    facts = _contents if source.kind == "urls" else _facts
    return [digest_of(facts(place)) for place in dict.fromkeys(_places(source))]


def _places(source: Source) -> Iterator[Path]:
    """The files and folders in which a kind may look: of a file that names pictures also what lies beside it."""
    path = Path(source.source)
    yield path
    if source.images:
        yield Path(source.images)
    if source.kind not in ALONE:
        beside = path if path.is_dir() else path.parent
        yield beside.parent if beside.name == ANNOTATIONS else beside


def _facts(place: Path) -> Iterator[tuple[str, int, int]]:
    """Of every file its size and when it was written; when its rights or links changed is nothing to a dataset."""
    for path in sorted(files_of(place)):
        stat = path.stat()
        yield str(path), stat.st_size, stat.st_mtime_ns


def _contents(place: Path) -> Iterator[tuple[str, str]]:
    """Of every file the SHA-256."""
    for path in sorted(files_of(place)):
        with path.open("rb") as handle:
            yield str(path), file_digest(handle, "sha256").hexdigest()
