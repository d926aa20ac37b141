"""Kind `video`: as `table`, with clips in `clips.tar` or in the folder."""

from collections.abc import Iterator
from pathlib import Path

from blip.config import Source
from blip.data.sample import Sample
from blip.ingest.sources import table
from blip.ingest.sources.refused import Refused


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Clips with their captions."""
    return table.read(source, path, archive="clips.tar")
