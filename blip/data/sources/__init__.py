"""Where datasets come from, one file a kind; each yields samples (or addresses to fetch), and refusals.

for item in read(source, Path(source.source)):
    if isinstance(item, Refused): ...
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from blip.config import Source, SourceKind
from blip.data.sample import Sample
from blip.data.sources import folder, table, urls, video, vqa, webdataset
from blip.data.sources.refused import Refused
from blip.data.sources.screening import MAX_CAPTION_CHARS, screened
from blip.data.sources.urls import Address

__all__ = ["Address", "Refused", "read"]

KINDS: dict[SourceKind, Callable[[Source, Path], Iterator[Sample | Refused | Address]]] = {
    "table": table.read,
    "folder": folder.read,
    "vqa": vqa.read,
    "video": video.read,
    "webdataset": webdataset.read,
    "urls": urls.read,
}


def read(
    source: Source, path: Path, max_caption_chars: int = MAX_CAPTION_CHARS
) -> Iterator[Sample | Refused | Address]:
    """Read a source at `path`, its keys and texts screened; nothing is decoded or fetched here.

    Raises:
        BlipError: the folder, a table or one of its columns is missing or unreadable.
    """
    return screened(KINDS[source.kind](source, path), max_caption_chars)
