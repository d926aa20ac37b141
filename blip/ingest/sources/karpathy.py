"""Kind `karpathy`: Karpathy's splits of COCO and Flickr30k, on which retrieval and captioning are reported.

    dataset_coco.json       {images: [{filepath, filename, split, sentids, sentences: [{raw, ...}], cocoid}]}
    dataset_flickr30k.json  the same without filepath and cocoid

`restval`, the rest of COCO's validation images, counts as train. Nothing is held.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blip.config import Source
from blip.data.sample import Caption, Sample
from blip.ingest.sources.annotations import ALL, each, find_file, need_split, pictures_of
from blip.ingest.sources.cells import words
from blip.ingest.sources.coco import number_of
from blip.ingest.sources.json_stream import stream
from blip.ingest.sources.refused import Refused

REST = "restval"


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples of a split in the order of the file; `truth` has COCO's id of the image, or the file's own.

    Raises:
        BlipError: there is no such file, it is no JSON, or no split of it is named.
    """
    file = find_file(path, None, "dataset_*.json")
    need_split(file, source.split, (_split(image) for image in stream(file, "images.item")))
    folder = pictures_of(source, path, file)

    def make(image: dict[str, Any]) -> Iterator[Sample | Refused]:
        if source.split not in (None, ALL, _split(image)):
            return
        texts = tuple(Caption(words(sentence["raw"]), source.origin) for sentence in image["sentences"])
        number = number_of(image["cocoid"] if "cocoid" in image else image["imgid"])
        found = folder.find(*_names(image))
        if isinstance(found, Refused):
            yield found
        else:
            yield Sample(
                found.key, found.data, found.extension, texts, truth={"image_id": number}, name=found.renamed
            )

    yield from each(file, "images.item", make)


def _split(image: Any) -> str:
    split = str(image.get("split")) if isinstance(image, dict) else "none"
    return "train" if split == REST else split


def _names(image: dict[str, Any]) -> tuple[str, ...]:
    """Where the picture may be; the plain name is first, as the key is made of it."""
    name = image["filename"]
    return (name, f"{image['filepath']}/{name}") if image.get("filepath") else (name,)
