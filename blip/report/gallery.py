"""Pictures for the page: inlined as data URIs, so that the page is one file; and the examples that go with them."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from blip.data.decode import BadMedia
from blip.data.images import to_pil
from blip.data.metadata import METADATA
from blip.data.pairs import PairsDataset
from blip.inspection.contents import samples_of
from blip.report.artefacts import Examples
from blip.report.audit import Audit

LONGEST_SIDE = 192  # pixels; twice what the page shows, for dense screens
LARGEST = 12_000  # bytes that are inlined as they are
TYPES = {"WEBP": "webp", "PNG": "png", "JPEG": "jpeg", "GIF": "gif"}

Example = dict[str, Any]


def inline(picture: Path | bytes) -> str:
    """A picture as a data URI, made smaller when it is larger than the page shows; "" if it cannot be read."""
    try:
        data = picture.read_bytes() if isinstance(picture, Path) else picture
        if kind := _small_kind(data):
            return _uri(data, kind)
        small = to_pil(data)
    except (OSError, BadMedia):
        return ""
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85)
    return _uri(buffer.getvalue(), "webp")


def _small_kind(data: bytes) -> str | None:
    """What a picture is that the page can take as it is; None if it is larger, or cannot be opened."""
    if len(data) > LARGEST:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=tuple(TYPES)) as image:
            return TYPES.get(image.format or "") if max(image.size) <= 2 * LONGEST_SIDE else None
    except Exception:  # a damaged header, which each format reports in its own way
        return None


def with_pictures(examples: list[Example], folder: Path, count: int) -> list[Example]:
    """The first examples, with data URIs where they name pictures of `folder`."""
    return [_fill(example, folder) for example in examples[:count]]


def retrieval_queries(examples: Examples, count: int) -> list[Example]:
    """The first text queries of retrieval with the pictures found."""
    return with_pictures(examples.text_to_image, examples.folder, count)


def clip_queries(examples: Examples, count: int, clips: int = 3) -> list[Example]:
    """The first text queries of video retrieval with the frames of the best clips, and where the right one came."""
    cut = [
        example | {"clips": example["clips"][:clips], "place": _place_of_right(example["clips"])}
        for example in examples.shown[:count]
    ]
    return with_pictures(cut, examples.folder, count)


def capfilt_pictures(audit: Audit, web: Path) -> Mapping[str, str]:
    """Data URIs by key of the pictures that the audit chose."""
    keys = frozenset(one.key for chosen in (*audit.chosen.values(), audit.sample) for one in chosen)
    if not keys or not (web / METADATA).is_file():
        return {}
    return {key: inline(one.media) for key, one in samples_of(PairsDataset.open(web), keys).items()}


def _fill(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_fill(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    filled = {name: _fill(item, folder) for name, item in value.items()}
    if "image" in value:
        filled["image"] = inline(folder / value["image"])
    if "frames" in value:
        filled["frames"] = [inline(folder / name) for name in value["frames"]]
    return filled


def _place_of_right(clips: list[Example]) -> int | None:
    return next((place for place, clip in enumerate(clips, 1) if clip["correct"]), None)


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
