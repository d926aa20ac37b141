"""Pictures become part of the page."""

import base64
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blip.report.artefacts import read_artefacts
from blip.report.gallery import LONGEST_SIDE, clip_queries, inline, retrieval_queries, with_pictures

Draw = Callable[[int], bytes]


def encoded(width: int, height: int, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 80).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def test_a_small_picture_is_inlined_as_it_is(drawn: Draw) -> None:
    picture = drawn(1)
    assert inline(picture) == "data:image/webp;base64," + base64.b64encode(picture).decode()


def test_a_large_picture_is_made_smaller() -> None:
    uri = inline(encoded(800, 400, "JPEG"))
    assert uri.startswith("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        assert image.size == (LONGEST_SIDE, LONGEST_SIDE // 2)


def small(picture: Image.Image, kind: str, **options: Any) -> Image.Image:
    """What the page shows of a picture that is too large for it."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    shown = base64.b64decode(inline(buffer.getvalue()).partition(",")[2])
    return Image.open(io.BytesIO(shown)).convert("RGB")


def test_a_picture_made_smaller_is_what_a_model_sees_of_it() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    assert small(Image.new("RGB", (800, 400)), "JPEG", exif=turned).size == (LONGEST_SIDE // 2, LONGEST_SIDE)
    clear = small(Image.new("RGBA", (800, 400), (0, 0, 0, 0)), "PNG")
    assert clear.getpixel((9, 9)) == (255, 255, 255)
    grey = small(Image.new("I;16", (800, 400), 100 << 8), "PNG")
    assert grey.getpixel((9, 9)) == pytest.approx((100, 100, 100), abs=2)


def huge() -> bytes:
    """A PNG whose header says 100,000 pixels a side."""
    picture = bytearray(encoded(8, 8, "PNG"))
    picture[16:24] = (100_000).to_bytes(4, "big") * 2
    picture[29:33] = zlib.crc32(picture[12:29]).to_bytes(4, "big")
    return bytes(picture)


@pytest.mark.parametrize(
    "picture",
    [
        Path("nowhere.webp"),
        b"",
        b"not a picture",
        encoded(800, 400, "PNG")[:20_000],
        huge(),
        b"P6 999999999999999999999999 1 255 ",
        b"DDS |\0\0\0" + b"\0" * 120,
    ],
)
def test_a_picture_that_cannot_be_read_leaves_a_gap(picture: Path | bytes) -> None:
    assert inline(picture) == ""


def test_pictures_are_inlined_wherever_examples_name_them(finished: Path, drawn: Draw) -> None:
    found = read_artefacts(finished).examples
    shown = with_pictures(found["vqa"].shown, found["vqa"].folder, 3)
    assert [example["image"] for example in shown] == [inline(drawn(number)) for number in range(3)]
    first = retrieval_queries(found["retrieval"], 1)[0]
    assert first["top_images"][0] == {"image": inline(drawn(0)), "score": 6.2, "correct": True}


def test_clips_are_cut_to_the_best_with_the_place_of_the_right_one(finished: Path, drawn: Draw) -> None:
    queries = clip_queries(read_artefacts(finished).examples["video"], 2, clips=1)
    assert [query["place"] for query in queries] == [1, 2]
    assert [len(query["clips"]) for query in queries] == [1, 1]
    assert queries[0]["clips"][0]["frames"] == [inline(drawn(number)) for number in range(4)]
