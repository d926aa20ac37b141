"""Kind `nocaps`: COCO's form, with the domain that results are told apart by.

nocaps/nocaps_val_4500_captions.json    images: [{id, file_name, open_images_id, domain, ...}], annotations
nocaps/val/0013ea2087020901.jpg
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blip.config import Source
from blip.data.sample import Sample
from blip.ingest.sources.annotations import find_file
from blip.ingest.sources.coco import number_of, read_joined
from blip.ingest.sources.refused import Refused
from blip.ingest.sources.row import Value

CAPTIONED = "BLIP's lists of nocaps have no captions; nocaps_val_4500_captions.json has them"
COPIED = ("open_images_id", "domain")


def read(source: Source, path: Path) -> Iterator[Sample | Refused]:
    """Samples whose `truth` has `image_id`, `open_images_id` and `domain` (in-domain, near-domain, out-domain).

    Raises:
        BlipError: there is no such file, or it is no JSON.
    """
    file = find_file(path, source.split, "nocaps_*captions.json")
    yield from read_joined(source, path, file, _truth, CAPTIONED)


def _truth(image: dict[str, Any]) -> dict[str, Value]:
    return {"image_id": number_of(image["id"]), **{name: str(image[name]) for name in COPIED}}
