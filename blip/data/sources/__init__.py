"""Where datasets come from, one file a kind; each yields samples (or addresses to fetch), and refusals.

for item in read(source, Path(source.source)):
    if isinstance(item, Refused): ...
"""

from collections.abc import Iterator
from pathlib import Path

from blip.config import Source
from blip.data.sample import Sample
from blip.data.sources import folder, table, urls, video, vqa, webdataset
from blip.data.sources.refused import Refused
from blip.data.sources.urls import Address

__all__ = ["Address", "Refused", "read"]

KINDS = {
    "table": table.read,
    "folder": folder.read,
    "vqa": vqa.read,
    "video": video.read,
    "webdataset": webdataset.read,
    "urls": urls.read,
}


def read(source: Source, path: Path) -> Iterator[Sample | Refused | Address]:
    """Read a source at `path`; nothing is decoded or fetched here.

    Raises:
        BlipError: the folder, a table or one of its columns is missing or unreadable.
    """
    return KINDS[source.kind](source, path)
