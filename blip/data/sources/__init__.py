"""Where datasets come from, one file a kind; each yields samples (or addresses to fetch), and refusals.

for item in read(source, Path(source.source)):
    if isinstance(item, Refused): ...
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from blip.config import Source, SourceKind
from blip.data.sample import Sample
from blip.data.sources import (
    coco,
    folder,
    hf,
    imagefolder,
    karpathy,
    msrvtt,
    msvd,
    nocaps,
    table,
    urls,
    video,
    visdial,
    visual_genome,
    vqa,
    vqav2,
    webdataset,
)  # fmt: skip
from blip.data.sources.refused import Refused
from blip.data.sources.screening import MAX_CAPTION_CHARS, screened
from blip.data.sources.urls import Address

__all__ = ["Address", "Refused", "read"]

KINDS: dict[SourceKind, Callable[[Source, Path], Iterator[Sample | Refused | Address]]] = {
    "table": table.read,
    "folder": folder.read,
    "imagefolder": imagefolder.read,
    "webdataset": webdataset.read,
    "urls": urls.read,
    "hf": hf.read,
    "coco": coco.read,
    "karpathy": karpathy.read,
    "nocaps": nocaps.read,
    "vqa": vqa.read,
    "vqav2": vqav2.read,
    "visual_genome": visual_genome.read,
    "visdial": visdial.read,
    "video": video.read,
    "msrvtt": msrvtt.read,
    "msvd": msvd.read,
}


def read(
    source: Source, path: Path, max_caption_chars: int = MAX_CAPTION_CHARS
) -> Iterator[Sample | Refused | Address]:
    """Read a source at `path`, its keys and texts screened; nothing is decoded or fetched here.

    Raises:
        BlipError: the folder, a table or one of its columns is missing or unreadable.
    """
    return screened(KINDS[source.kind](source, path), max_caption_chars)
