"""Kind `coco`: the caption files of COCO, and of all who follow it.

    coco/annotations/captions_train2017.json    {info, licenses, images: [{id, file_name, ...}],
                                                 annotations: [{image_id, id, caption}]}
    coco/train2017/000000391895.jpg

The captions are held, packed, to be joined with the images: 60 MB for COCO's 600,000.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from blip.config import Source
from blip.data.sample import Caption, Sample
from blip.errors import BlipError
from blip.ingest.sources.annotations import Held, each, find_file, pictures_of
from blip.ingest.sources.cells import words
from blip.ingest.sources.json_stream import is_list
from blip.ingest.sources.refused import MISSING, Refused
from blip.ingest.sources.row import Value

KEYS = ("images.item.file_name", "annotations.item.caption")  # of such a file by any name
LISTED = "a list of pictures with captions is of kind table"
Truth = Callable[[dict[str, Any]], dict[str, Value]]


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples in the order of `images`; their `truth` has the image's id, which evaluation servers ask for.

    Raises:
        BlipError: there is no such file, or it is no JSON.
    """
    file = find_file(path, source.split, "captions_*.json", keys=KEYS)
    yield from read_joined(source, path, file, lambda image: {"image_id": number_of(image["id"])})


def read_joined(
    source: Source, path: Path, file: Path, truth: Truth, way: str = LISTED
) -> Iterator[Sample | Refused]:
    """Join `images` and `annotations`; captions without an image are refused.

    Raises:
        BlipError: it is a list; `way` is the way out.
    """
    if is_list(file):
        raise BlipError(
            f"source {file}: it is a list, and kind {source.kind} reads an object of images and annotations; {way}"
        )
    folder, captions = pictures_of(source, path, file), Held()

    def hold(entry: dict[str, Any]) -> Iterable[Refused]:
        captions.add(number_of(entry["image_id"]), _text(entry["caption"]))
        return ()

    def make(image: dict[str, Any]) -> Iterator[Sample | Refused]:
        known = truth(image)
        found = folder.find(image["file_name"])
        texts = tuple(Caption(text, source.origin) for text in captions.pop(number_of(image["id"])))
        if isinstance(found, Refused):
            yield found
        else:
            yield Sample(found.key, found.data, found.extension, texts, truth=known, name=found.renamed)

    yield from each(file, "annotations.item", hold)
    yield from each(file, "images.item", make)
    for image in captions:
        text = captions.pop(image)[0]
        yield Refused(str(image), MISSING, f"{file.name}: image {image} of {text[:60]!r} is not listed")


def number_of(value: Any) -> int:
    """An id. Raises ValueError if it is no whole number of 64 bits, as the metadata have it."""
    try:
        number = int(value)
        if (isinstance(value, float) and number != value) or not -(1 << 63) <= number < 1 << 63:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"ids must be whole numbers of 64 bits, not {value!r}"[:200]) from None
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("caption is null" if value is None else f"caption is no text: {value!r}"[:200])
    return words(value)
