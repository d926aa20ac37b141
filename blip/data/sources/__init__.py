"""Where datasets come from, one file a kind; each yields samples, and what it had to refuse with the reason.

for item in read(source, Path(source.source)):
    if isinstance(item, Refused): ...
"""

from collections.abc import Iterator
from pathlib import Path

from blip.config import Source
from blip.data.sample import Sample
from blip.data.sources import folder, table, video, vqa, webdataset
from blip.data.sources.refused import Refused

__all__ = ["Refused", "read"]

KINDS = {
    "table": table.read,
    "folder": folder.read,
    "vqa": vqa.read,
    "video": video.read,
    "webdataset": webdataset.read,
}


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Read a source at `path`; nothing is decoded here.

    Raises:
        BlipError: the folder, a table or one of its columns is missing or unreadable.
    """
    return KINDS[source.kind](source, path)
