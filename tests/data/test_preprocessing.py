"""Pictures become what the `BlipImageProcessorPil` of a directory saved here makes of them.

Two kinds of file differ on purpose. Of 16 bits a pixel `transformers` keeps the lowest eight and clips the rest to
white; ours keeps the highest eight. A rotation that is only noted in the file (EXIF) is left to the caller by their
processor and applied by their `load_image`; ours applies it, since that is the picture people see.
"""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers.image_utils import load_image
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip.data.images import STD, ImageInput, preprocess
from blip.data.text import SpecialTokens
from blip.model.checkpoints import ModelCard, save_network
from tests import tiny

from .conftest import draw

SIDE = 32  # of the tests' model
WITHIN = 1 / 255


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> BlipImageProcessorPil:
    """The image processor of a model directory that this project wrote."""
    directory = tmp_path_factory.mktemp("models") / "tiny"
    save_network(tiny.network(), directory, ModelCard(), SpecialTokens(0, 3, 5, 6))
    made = BlipImageProcessorPil.from_pretrained(directory)
    assert (made.size["height"], made.size["width"]) == (SIDE, SIDE)
    return made


def apart(processor: BlipImageProcessorPil, ours: ImageInput, theirs: Image.Image) -> float:
    """The largest difference, on the scale from black 0 to white 1."""
    expected = torch.as_tensor(np.asarray(processor([theirs])["pixel_values"][0]))
    difference = (preprocess([ours], SIDE)[0] - expected).abs()
    return (difference * torch.tensor(STD)[:, None, None]).max().item()


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int, bands: int) -> NDArray[np.uint8]:
    return np.random.default_rng(bands).integers(0, 256, (height, width, bands), dtype=np.uint8)


@pytest.mark.parametrize(
    "shape", [(32, 32), (61, 33), (33, 61), (127, 96), (640, 427), (7, 5), (1, 1), (300, 1), (31, 33)]
)
def test_pictures_of_any_size_are_equal(processor: BlipImageProcessorPil, shape: tuple[int, int]) -> None:
    picture = Image.fromarray(draw(1, *shape))
    assert apart(processor, picture, picture) < WITHIN
    assert apart(processor, np.asarray(picture), picture) < WITHIN
    grain = Image.fromarray(noise(*shape, 3))
    assert apart(processor, grain, grain) < WITHIN


PALETTE = Image.fromarray(draw(2, 61, 50)).quantize(16)
TRANSLUCENT = Image.fromarray(noise(51, 77, 4), "RGBA")
FILES = {
    "grey": file_of(Image.fromarray(draw(3, 77, 31)).convert("L"), "PNG"),
    "black and white": file_of(Image.fromarray(draw(3, 77, 31)).convert("1"), "PNG"),
    "translucent": file_of(TRANSLUCENT, "PNG"),
    "translucent webp": file_of(TRANSLUCENT, "WEBP", lossless=True),
    "translucent grey": file_of(TRANSLUCENT.convert("LA"), "PNG"),
    "palette": file_of(PALETTE, "PNG"),
    "palette with a transparent entry": file_of(PALETTE, "PNG", transparency=3),
    "cmyk jpeg": file_of(Image.fromarray(draw(4, 61, 50)).convert("CMYK"), "JPEG", quality=90),
    "grey jpeg": file_of(Image.fromarray(draw(4, 61, 50)).convert("L"), "JPEG"),
    "first frame of a gif": file_of(
        Image.fromarray(draw(5, 41, 30)),
        "GIF",
        save_all=True,
        append_images=[Image.fromarray(draw(6, 41, 30))],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_pictures_of_any_mode_are_equal(processor: BlipImageProcessorPil, name: str, tmp_path: Path) -> None:
    theirs = Image.open(io.BytesIO(FILES[name]))
    assert apart(processor, FILES[name], theirs) < WITHIN
    (tmp_path / "picture").write_bytes(FILES[name])
    assert apart(processor, tmp_path / "picture", theirs) < WITHIN


def test_sixteen_bits_a_pixel_are_scaled_where_theirs_turn_white(processor: BlipImageProcessorPil) -> None:
    grey = np.asarray(Image.fromarray(draw(7, 50, 40)).convert("L"))
    deep = Image.fromarray((grey.astype(np.uint16) << 8) + 77)
    data = file_of(deep, "PNG")
    assert apart(processor, data, Image.fromarray(grey)) < WITHIN
    assert apart(processor, data, Image.open(io.BytesIO(data))) > 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_noted_rotation_is_applied_as_their_loader_does(
    processor: BlipImageProcessorPil, orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_of(Image.fromarray(draw(8, 61, 33)), "JPEG", exif=exif)
    (tmp_path / "picture.jpg").write_bytes(data)
    assert apart(processor, data, load_image(str(tmp_path / "picture.jpg"))) < WITHIN
    as_stored = Image.open(io.BytesIO(data))
    assert (apart(processor, data, as_stored) > 0.1) == (orientation != 1)
