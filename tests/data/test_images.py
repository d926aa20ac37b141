import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blip.data.images import BadImage, decode, normalise, preprocess
from blip.errors import BlipError

from .conftest import draw, encoded


def reason_of(data: bytes, max_pixels: int = 1_000_000) -> str:
    with pytest.raises(BadImage) as caught:
        decode(data, max_pixels)
    assert caught.value.detail
    return caught.value.reason


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def huge_png(side: int) -> bytes:
    """The header of a PNG of `side` x `side` pixels, and next to no data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_lossless_picture_comes_back_as_it_was() -> None:
    pixels = draw(1, 31, 17)
    assert np.array_equal(decode(encoded(pixels)), pixels)


def test_transparency_becomes_white() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 255, 255))
    pixels = decode(saved(image, "PNG"))
    assert pixels[0, 0].tolist() == [0, 0, 255]
    assert pixels[3, 3].tolist() == [255, 255, 255]


def test_a_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 1), 1)
    pixels = decode(saved(image, "PNG", transparency=0))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [200, 100, 50]


def test_cmyk_becomes_rgb() -> None:
    pixels = decode(saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG"))
    assert np.abs(pixels[4, 4].astype(int) - [0, 255, 255]).max() <= 3


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    grey = Image.fromarray(np.full((4, 4), 32768, np.uint16))
    assert decode(saved(grey, "PNG"))[0, 0].tolist() == [128, 128, 128]


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(draw(2, 40, 20)), "JPEG", exif=exif)
    assert decode(data).shape == (40, 20, 3)


def test_each_kind_of_broken_picture_has_its_reason() -> None:
    jpeg, png, webp = (encoded(draw(3), kind) for kind in ("jpg", "png", "webp"))
    assert reason_of(b"") == "empty"
    assert reason_of(b"<html>404 Not Found</html>") == "not_an_image"
    assert reason_of(saved(Image.new("RGB", (4, 4)), "EPS")) == "not_an_image"
    assert reason_of(jpeg[: len(jpeg) // 2]) == "truncated"
    assert reason_of(png[: len(png) // 2]) == "truncated"
    assert reason_of(webp[: len(webp) // 2]) == "truncated"
    assert reason_of(png[:60] + b"\0" * 40 + png[100:]) == "corrupt"


def test_size_is_refused_from_the_header_before_any_pixel() -> None:
    assert reason_of(huge_png(2_000)) == "too_large"
    assert reason_of(huge_png(200_000), max_pixels=10**12) == "too_large"
    assert reason_of(encoded(draw(4, 40, 40)), max_pixels=1_599) == "too_large"
    assert decode(encoded(draw(4, 40, 40)), max_pixels=1_600).shape == (40, 40, 3)


def test_preprocessing_takes_pictures_arrays_paths_and_bytes(tmp_path: Path) -> None:
    pixels, data = draw(6), encoded(draw(6))
    (tmp_path / "picture.png").write_bytes(data)
    inputs = [Image.fromarray(pixels), pixels, tmp_path / "picture.png", str(tmp_path / "picture.png"), data]
    tensor = preprocess(inputs, 16)
    assert tensor.shape == (5, 3, 16, 16)
    assert tensor.dtype == torch.float32
    assert all(torch.equal(tensor[0], other) for other in tensor[1:])


def test_a_missing_path_is_named() -> None:
    with pytest.raises(BlipError, match=r"nowhere\.png cannot be read"):
        preprocess(["nowhere.png"], 16)


def test_an_array_of_floats_is_refused() -> None:
    with pytest.raises(BadImage, match="float64"):
        preprocess([np.zeros((4, 4, 3))], 16)  # pyright: ignore[reportArgumentType]


def test_normalising_uses_clips_mean_and_deviation() -> None:
    white = normalise(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    assert white[0, :, 0, 0].tolist() == pytest.approx([1.9303, 2.0749, 2.1459], abs=1e-4)
