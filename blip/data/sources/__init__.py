"""Where datasets come from, one file a kind; each yields samples (or addresses to fetch), and refusals.

for item in read([source], max_caption_chars=10_000):
    if isinstance(item, Refused): ...
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
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
    nlvr2,
    nocaps,
    table,
    urls,
    video,
    visdial,
    visual_genome,
    vqa,
    vqav2,
    webdataset,
)
from blip.data.sources.refused import Refused, key_of
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
    "nlvr2": nlvr2.read,
    "video": video.read,
    "msrvtt": msrvtt.read,
    "msvd": msvd.read,
}


def read(
    sources: Sequence[Source], max_caption_chars: int = MAX_CAPTION_CHARS
) -> Iterator[Sample | Refused | Address]:
    """Read sources one after the other, keys and texts screened; nothing is decoded or fetched here.

    Of several sources each key begins with its source's name, so that they may number their samples alike.

    Raises:
        BlipError: a folder, a table or one of its columns is missing or unreadable.
    """
    items = chain.from_iterable(map(_named, sources, names_of(sources)))
    return screened(items, max_caption_chars)


def names_of(sources: Sequence[Source]) -> list[str]:
    """What the keys of each source begin with: nothing if it is the only one."""
    if len(sources) == 1:
        return [""]
    names = [key_of(Path(source.source).name.partition(".")[0] or "source") for source in sources]
    again = [name if names.count(name) == 1 else f"{name}{number}" for number, name in enumerate(names, 1)]
    return [f"{name}-" for name in again]


def _named(source: Source, name: str) -> Iterator[Sample | Refused | Address]:
    for item in KINDS[source.kind](source, Path(source.source)):
        yield replace(item, key=name + item.key) if name else item
