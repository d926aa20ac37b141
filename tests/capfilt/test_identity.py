"""Which pictures are one and the same: the sample's drawings, and what JPEG and another size make of them."""

import tarfile
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from blip.capfilt.identity import LOOK, Identity
from blip.capfilt.pictures import look

from .conftest import repost

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def drawings() -> list[bytes]:
    with tarfile.open(ROOT / "data/sample/web/images.tar") as archive:
        files = (archive.extractfile(member) for member in archive if member.isfile())
        return [file.read() for file in islice(files, 100) if file]


def identity(prefix: str, pictures: list[bytes]) -> Identity:
    return Identity.of([f"{prefix}-{n}" for n in range(len(pictures))], look(pictures, [LOOK])[LOOK])


def test_a_picture_is_the_same_as_itself_and_as_no_other_drawing(drawings: list[bytes]) -> None:
    one = identity("web", drawings)
    assert np.array_equal(one.same(one), np.eye(len(drawings), dtype=bool))


@pytest.mark.parametrize(("size", "quality"), [(1, 75), (0.75, 75), (0.5, 75), (2, 90), (1, 30)])
def test_most_copies_of_another_size_and_quality_are_found(
    drawings: list[bytes], size: float, quality: int
) -> None:
    copies = identity("copy", [repost(one, size, quality) for one in drawings])
    same = copies.same(identity("web", drawings))
    assert not (same & ~np.eye(len(drawings), dtype=bool)).any()
    assert same.diagonal().mean() > 0.8


def test_the_same_drawing_in_another_colour_is_another_picture(drawings: list[bytes]) -> None:
    red, blue = (BytesIO(), BytesIO())
    shape = Image.open(BytesIO(drawings[0])).convert("RGB")
    shape.save(red, "PNG")
    Image.merge("RGB", shape.split()[::-1]).save(blue, "PNG")
    assert not identity("a", [red.getvalue()]).same(identity("b", [blue.getvalue()])).any()


def test_keys_that_are_one_are_one_picture_however_it_looks(drawings: list[bytes]) -> None:
    here, there = identity("web", drawings[:2]), identity("web", drawings[1::-1])
    assert np.array_equal(here.same(there), np.ones((2, 2), dtype=bool))


def test_two_goods_on_white_are_two_pictures_and_two_blank_ones_are_one() -> None:
    """Whose hashes, of mostly ground, are as near each other as those of copies."""
    cross = on_white((270, 290, 330, 310), (290, 270, 310, 330))
    frame = on_white((250, 250, 350, 270), (250, 330, 350, 350), (250, 250, 270, 350), (330, 250, 350, 350))
    goods = [cross, frame]
    pictures = identity("goods", [*goods, on_white(), on_white()])
    assert pictures.hashes[0] == pictures.hashes[1]
    assert pictures.same(pictures).tolist() == [
        [True, False, False, False],
        [False, True, False, False],
        [False, False, True, True],
        [False, False, True, True],
    ]
    copies = identity("copies", [repost(one, 0.75, 75) for one in goods])
    assert np.array_equal(copies.same(pictures)[:, :2], np.eye(2, dtype=bool))


def on_white(*boxes: tuple[int, int, int, int]) -> bytes:
    picture, file = Image.new("RGB", (600, 600), "white"), BytesIO()
    for box in boxes:
        ImageDraw.Draw(picture).rectangle(box, fill=(120, 120, 120))
    picture.save(file, "PNG")
    return file.getvalue()
