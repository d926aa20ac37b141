"""Where datasets come from, one file a kind; each yields samples (or addresses to fetch), and refusals.

for item in read([source], max_caption_chars=10_000):
    if isinstance(item, Refused): ...
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from blip.config import Source, SourceKind
from blip.data.sample import Sample
from blip.errors import BadArguments
from blip.ingest.sources import (
    coco,
    folder,
    hf,
    imagefolder,
    karpathy,
    msrvtt,
    msvd,
    nlvr2,
    nocaps,
    pairs,
    table,
    urls,
    video,
    visdial,
    visual_genome,
    vqa,
    vqav2,
    webdataset,
)
from blip.ingest.sources.refused import Refused, key_of
from blip.ingest.sources.screening import MAX_CAPTION_CHARS, screened
from blip.ingest.sources.urls import Address

__all__ = ["Address", "Refused", "read"]

Item = Sample | Refused | Address

KINDS: dict[SourceKind, Callable[[Source, Path], Iterator[Item]]] = {
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
    "pairs": pairs.read,
}

LOOKING_UP = frozenset[str](KINDS) - {"folder", "imagefolder", "webdataset", "urls", "pairs"}
USES: dict[str, frozenset[str]] = {  # which kinds do something with an option
    "images": LOOKING_UP,
    "split": LOOKING_UP - {"table", "vqa", "video"} | {"imagefolder"},
    "columns": frozenset(("table", "urls", "hf", "vqa", "video")),
}


def read(sources: Sequence[Source], max_caption_chars: int = MAX_CAPTION_CHARS) -> Iterator[Item]:
    """Read sources one after the other, keys and texts screened; nothing is decoded or fetched here.

    Of several sources each key begins with its source's name, so that they may number their samples alike.

    Raises:
        BadArguments: an option is given that none of the kinds uses.
        BlipError: a folder, a table or one of its columns is missing or unreadable.
    """
    see_that_options_are_used(sources)
    urls.tell_of_shared_pictures(sources)
    each = (KINDS[source.kind](source, Path(source.source)) for source in sources)
    items = chain.from_iterable(map(named, each, names_of(sources)))
    return screened(items, max_caption_chars)


def see_that_options_are_used(sources: Sequence[Source]) -> None:
    """Of sources that share an option, one must use it: it would be swallowed otherwise."""
    kinds = sorted({source.kind for source in sources})
    for option, users in USES.items():
        if any(getattr(source, option) for source in sources) and users.isdisjoint(kinds):
            flag = f"--{option.removesuffix('s') if option == 'columns' else option}"
            raise BadArguments(
                f"`{option}` ({flag}) does nothing for the kind {', '.join(kinds)}; leave it out, or name another "
                f"kind: {', '.join(sorted(users))}"
            )


def names_of(sources: Sequence[Source]) -> list[str]:
    """What the keys of each source begin with: nothing if it is the only one."""
    if len(sources) == 1:
        return [""]
    names = [key_of(Path(source.source).name.partition(".")[0] or "source") for source in sources]
    while len(set(names)) < len(names):  # a number may make a name that another source has
        names = [
            name if names.count(name) == 1 else f"{name}{number}" for number, name in enumerate(names, 1)
        ]
    return [f"{name}-" for name in names]


def named(items: Iterable[Item], name: str) -> Iterator[Item]:
    """The items of a source, each key with the source's name in front."""
    for item in items:
        yield replace(item, key=name + item.key) if name else item
