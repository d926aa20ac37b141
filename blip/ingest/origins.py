"""All that an ingested dataset depends on: while it is the same, so is the dataset.

    origins = origins_of(source, settings, references)
    if not is_kept(target, origins): ...

The plan of a dataset that grows knows the files in the source's folder, and its shards their samples. Of one that is
finished nothing is read again, so here every file below counts.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blip.config import Ingest, Source
from blip.data.kept import code_digest, digest_of, files_of
from blip.ingest.ingestion import plan_of
from blip.ingest.references import References

ALONE = ("urls", "webdataset")  # kinds whose files name no other
ANNOTATIONS = "annotations"  # a folder of annotation files, which has the pictures beside it
CODE = ("ingest", "data")


def origins_of(source: Source, settings: Ingest, references: References | None) -> dict[str, Any]:
    """Settings, the files of the source, the pictures to keep away from, the code."""
    return {
        "plan": plan_of([source], settings, references),
        "max_bad_fraction": settings.max_bad_fraction,
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
