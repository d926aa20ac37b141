"""Kind `video`: as `table`, with clips in `clips.tar` or in the folder."""

from collections.abc import Iterator
from pathlib import Path

from blip.config import Source
from blip.data.sample import Sample
from blip.ingest.sources import table
from blip.ingest.sources.refused import Refused

ARCHIVE = "clips.tar"


def files_of(source: Source, path: Path) -> list[Path]:
    """The table of a source and, if there is one, the tar of its clips."""
    return table.files_of(source, path, ARCHIVE)


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Clips with their captions."""
    return table.read(source, path, ARCHIVE)
