"""All that an ingested dataset depends on: while it is the same, so is the dataset.

    if not is_as_made(target, source, settings, references):
        note = note_of(source, settings, references)       # before it is made: what changes meanwhile is noticed
        ...                                                # make it
        note(target)

The shards of a dataset that grows know their samples. Of one that is finished nothing is read again, so here every
file of the source counts, but for the datasets themselves where they lie below it. Of the pictures to keep away from
only those count that came to them: while no picture of the dataset is near one of these, it would come out the same.

Pictures of lists of URLs are not fetched again because a file was touched or a note was lost: the content of lists
counts, not their times, and the manifest says what it was made from, which goes wherever the dataset goes.

    .target.references.npz    beside a dataset, the pictures that it was kept away from
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from blip.config import Ingest, Source, SourceKind
from blip.config.places import DATASETS
from blip.data.kept import digest_of, files_of, is_kept, keep
from blip.data.manifest import read_manifest
from blip.data.metadata import METADATA
from blip.data.parquet import read_batches
from blip.data.phash import HashIndex
from blip.digest import file_sha256
from blip.errors import BlipError
from blip.ingest.ingestion import ORIGINS, plan_of
from blip.ingest.references import References
from blip.ingest.sources import msrvtt, msvd
from blip.ingest.sources.annotations import find_files
from blip.ingest.sources.rows import TRUTH

FORMAT = 1  # raise it when the same source becomes another dataset; other edits of this code make none anew
ALONE = ("urls", "webdataset", "pairs")  # kinds whose files name no other
ANNOTATIONS = "annotations"  # a folder of annotation files, which has the pictures beside it
BESIDE: dict[SourceKind, tuple[str, ...]] = {  # what kinds read beside a file, but for pictures
    "table": (TRUTH,),
    "video": (TRUTH,),
    "vqav2": ("*questions*.json", "*annotations*.json"),
    "msrvtt": msrvtt.INFO,
    "msvd": (msvd.MAPPING,),
}


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
    """Whether a dataset is there that would come out the same.

    That it is so with other references, or by what was noted of all that lies beside a file, is noted.
    """
    if _is_made_from(target, _origins(source, settings) | _digest(references)):
        return True
    if not any(_comes_out_the_same(target, origins, references) for origins in _ways(source, settings)):
        return False
    note_of(source, settings, references)(target)
    return True


def _ways(source: Source, settings: Ingest) -> Iterator[dict[str, Any]]:
    """What may be noted of all but the references: as now, or as it was for pictures that lie elsewhere."""
    yield _origins(source, settings)
    if source.images and source.kind not in ALONE:
        yield _origins(source, settings, all_beside=True)


def _comes_out_the_same(target: Path, origins: dict[str, Any], references: References | None) -> bool:
    """Whether a dataset was made from these, kept away from the same pictures or from others that are not near it."""
    if _is_made_from(target, origins | _digest(references)):
        return True
    if references is None or not _file(target).is_file():
        return False
    before = References.read(_file(target))
    return _is_made_from(target, origins | _digest(before)) and _is_apart(target, before, references)


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


def _origins(source: Source, settings: Ingest, all_beside: bool = False) -> dict[str, Any]:
    """All but the references."""
    return {
        "plan": plan_of([source], settings, None),
        "max_caption_chars": settings.max_caption_chars,
        "files": _files(source, settings, all_beside),
        "format": FORMAT,
    }


def _files(source: Source, settings: Ingest, all_beside: bool) -> list[str]:
    """A digest of the files of each place; of a store what its list says of them."""
    if source.is_remote:
        from blip.ingest.remote.store import Store

        shards = Store.open(source, settings.download).shards()
        return [digest_of((shard.name, shard.size, shard.tag) for shard in shards)]
    facts = _contents if source.kind == "urls" else _facts
    return [digest_of(facts(place)) for place in dict.fromkeys(_places(source, all_beside))]


def _places(source: Source, all_beside: bool) -> Iterator[Path]:
    """The files and folders in which a kind may look: of a file that names pictures also what lies beside it."""
    path = Path(source.source)
    yield path
    if source.images:
        yield Path(source.images)
    if source.kind in ALONE:
        return
    if all_beside or not source.images:
        beside = path if path.is_dir() else path.parent
        yield beside.parent if beside.name == ANNOTATIONS else beside
    elif path.is_file():
        yield from find_files(path.parent, *BESIDE.get(source.kind, ()))


def _facts(place: Path) -> Iterator[tuple[str, int, int]]:
    """Of every file its size and when it was written; when its rights or links changed is nothing to a dataset."""
    for path in _sorted(place):
        with suppress(FileNotFoundError):  # it has gone meanwhile
            stat = path.stat()
            yield str(path), stat.st_size, stat.st_mtime_ns


def _contents(place: Path) -> Iterator[tuple[str, str]]:
    """Of every file the SHA-256."""
    for path in _sorted(place):
        with suppress(FileNotFoundError):
            yield str(path), file_sha256(path)


def _sorted(place: Path) -> list[Path]:
    """The files of a place, without the datasets of this project where these lie below it."""
    made = _datasets_below(place)
    return sorted(path for path in files_of(place) if not (made and path.is_relative_to(made)))


def _datasets_below(place: Path) -> Path | None:
    root, datasets = place.resolve(), DATASETS.resolve()
    below = datasets != root and datasets.is_relative_to(root)
    return place / datasets.relative_to(root) if below else None
