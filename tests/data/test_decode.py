"""Every decoder gives Pillow's pixels, and what Pillow would not take is refused, whichever decoder it goes to."""

import io
import json
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from blip.data.decode import BadImage, decode, divides, to_rgb
from blip.data.header import Header, read_header

from .conftest import Pixels, draw, encoded

ROOT = Path(__file__).parents[2]
MODES = [
    {"quality": 75},
    {"quality": 90, "subsampling": 0},
    {"quality": 95, "subsampling": 1},
    {"quality": 85, "progressive": True},
    {"quality": 30, "optimize": True},
    {"quality": 90, "restart_marker_blocks": 4},
]


def reason_of(data: bytes, max_pixels: int = 1_000_000, strict: bool = False) -> str:
    with pytest.raises(BadImage) as caught:
        decode(data, max_pixels, strict=strict)
    assert caught.value.detail
    return caught.value.reason


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pillow(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def real_files(count: int) -> Iterator[bytes]:
    """Files of the embedded sample, WebP all of them."""
    with tarfile.open(ROOT / "data/sample/human/images.tar") as tar:
        for member in list(tar)[:count]:
            handle = tar.extractfile(member)
            assert handle is not None
            yield handle.read()


def test_real_webp_pictures_are_pillows_bit_for_bit() -> None:
    files = list(real_files(300))
    assert len(files) == 300
    assert all(np.array_equal(decode(data), pillow(data)) for data in files)


def test_real_pictures_as_jpeg_are_pillows_bit_for_bit() -> None:
    for number, data in enumerate(real_files(300)):
        width, height = 60 + number % 41, 96 - number % 29
        picture = Image.fromarray(pillow(data)).resize((width, height))
        jpeg = saved(picture, "JPEG", **MODES[number % len(MODES)])
        assert np.array_equal(decode(jpeg), pillow(jpeg)), number


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_pictures_come_back_as_they_were(kind: str) -> None:
    for number in range(20):
        pixels = draw(number, 31 + number, 17)
        assert np.array_equal(decode(saved(Image.fromarray(pixels), kind, lossless=True)), pixels)


def test_grey_and_rgb_coded_jpegs_are_pillows() -> None:
    grey = saved(Image.fromarray(draw(1, 61, 33)).convert("L"), "JPEG", quality=90)
    rgb = saved(Image.fromarray(draw(1, 61, 33)), "JPEG", quality=90, keep_rgb=True)
    assert np.array_equal(decode(grey), pillow(grey))
    assert np.array_equal(decode(rgb), pillow(rgb))


def test_a_picture_of_one_pixel_is_a_picture() -> None:
    one = Image.new("RGB", (1, 1), (200, 100, 50))
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        pixels = decode(saved(one, kind))
        assert pixels.shape == (1, 1, 3), kind
        assert np.abs(pixels[0, 0].astype(int) - [200, 100, 50]).max() <= 4, kind


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    first, second = (Image.new("RGB", (20, 10), colour) for colour in ("red", "blue"))
    pixels = decode(saved(first, kind, save_all=True, append_images=[second], lossless=True))
    assert pixels.shape == (10, 20, 3)
    assert pixels[5, 5].tolist() == [255, 0, 0]


def test_transparency_becomes_white() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 255, 255))
    for data in (saved(image, "PNG"), saved(image, "WEBP", lossless=True, exact=True)):
        pixels = decode(data)
        assert pixels[0, 0].tolist() == [0, 0, 255]
        assert pixels[3, 3].tolist() == [255, 255, 255]


def test_a_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 1), 1)
    pixels = decode(saved(image, "PNG", transparency=0))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [200, 100, 50]


def pictures_of_every_mode() -> Iterator[tuple[str, bytes]]:
    """Noise as files of every mode that a format here can hold; some have one transparent colour."""
    random = np.random.default_rng(5)
    colours, grey, wide = (random.integers(0, top, (61, 37, 4), np.uint16) for top in (256, 256, 65_536))
    rgba = Image.fromarray(colours.astype(np.uint8))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield mode, saved(rgba.convert(mode), "PNG")
    yield "L transparent", saved(Image.fromarray(grey[..., 0].astype(np.uint8)), "PNG", transparency=7)
    yield "P transparent", saved(rgba.convert("P"), "PNG", transparency=bytes(range(256)))
    yield "RGB transparent", saved(rgba.convert("RGB"), "PNG", transparency=(0, 0, 0))
    yield "I;16", saved(Image.fromarray(wide[..., 0]), "PNG")
    yield "I;16B", saved(Image.fromarray(wide[..., 0].astype(">u2")), "TIFF")
    yield "I", saved(Image.fromarray(wide[..., 0].astype(np.int32)), "TIFF")
    yield "F", saved(Image.fromarray(wide[..., 0].astype(np.float32) / 257), "TIFF")
    yield "CMYK", saved(rgba.convert("RGB").convert("CMYK"), "TIFF")
    yield "GIF", saved(rgba.convert("P"), "GIF")


def at_once(image: Image.Image) -> Image.Image:
    """A whole picture in RGB, as Pillow converts it."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode != "RGB" and ("A" in image.getbands() or "transparency" in image.info):
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


@pytest.mark.parametrize("strip", [1, 37 * 5 + 3, 37 * 16, 1 << 20])
@pytest.mark.parametrize("divisor", [1, 2, 8])
def test_strips_have_the_pixels_of_the_whole(
    strip: int, divisor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blip.data.decode.STRIP", strip)
    for name, data in pictures_of_every_mode():
        whole = at_once(Image.open(io.BytesIO(data)))
        expected = np.asarray(whole if divisor == 1 else whole.reduce(divisor))
        assert np.array_equal(decode(data, divisor=divisor), expected), name
        if divisor == 1:
            assert np.array_equal(np.asarray(to_rgb(Image.open(io.BytesIO(data)))), expected), name


def flat_files(side: int) -> dict[str, bytes]:
    """Files of some KB whose pictures are large; 16 bits, transparent or neither."""
    black = {mode: Image.new(mode, (side, side)) for mode in ("RGB", "RGBA", "LA")}
    grey = Image.fromarray(np.full((side, side), 30_000, np.uint16))
    return {name: saved(image, "PNG") for name, image in {**black, "grey16": grey}.items()}


PEAK = """
import re, sys
from pathlib import Path
from blip.data.decode import decode
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()  # of this process: getrusage begins with its parent's
decode(Path(sys.argv[1]).read_bytes())
print(peak() - before)
"""


def test_a_large_picture_takes_little_more_than_its_pixels(tmp_path: Path) -> None:
    """Pillow's four bytes a pixel, or two of 16 bits, and the three of the result."""
    side, grown = 3_000, {}
    for name, data in flat_files(side).items():
        folder = tmp_path / name  # each in a process of its own: the peak is that of the largest
        folder.mkdir()
        (folder / name).write_bytes(data)
        measure = [sys.executable, "-c", PEAK, str(folder / name)]
        ran = subprocess.run(measure, capture_output=True, text=True, cwd=ROOT, check=True)
        grown[name] = int(ran.stdout)
    for name, kib in grown.items():
        assert kib << 10 < 7 * side * side + (24 << 20), name


def test_cmyk_becomes_rgb() -> None:
    pixels = decode(saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG"))
    assert np.abs(pixels[4, 4].astype(int) - [0, 255, 255]).max() <= 3


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    grey = Image.fromarray(np.full((4, 4), 32768, np.uint16))
    assert decode(saved(grey, "PNG"))[0, 0].tolist() == [128, 128, 128]


def deep(low: float, high: float, kind: str, extension: str = "TIFF") -> bytes:
    """A grey ramp of values of a kind of number, as numpy calls it."""
    ramp = np.linspace(low, high, 256).astype(kind).reshape(16, 16)
    return saved(Image.fromarray(ramp), extension)


@pytest.mark.parametrize(
    ("low", "high", "kind", "told"),
    [
        (0, 1_023, "<u2", "from 0 to 1,023, of which 0 would come out black and 65,535 white"),
        (0, 4_095, "<u2", "from 0 to 4,095,"),
        (0, 4_095, ">u2", "from 0 to 4,095,"),
        (0, 16_383, "<u2", "from 0 to 16,383,"),
        (-1_000, 3_000, "<i4", "from -1,000 to 3,000,"),
        (0, 1 << 20, "<i4", "from 0 to 1,048,576,"),
        (0, 1, "<f4", "from 0 to 1, of which 0 would come out black and 255 white"),
        (-1, 200, "<f4", "from -1 to 200,"),
        (0, 5_000, "<f4", "from 0 to 5,000,"),
        (0, np.nan, "<f4", "from nan to nan,"),
    ],
)
def test_a_picture_of_more_than_8_bits_that_would_be_black_or_clipped_is_refused_where_that_is_asked_for(
    low: float, high: float, kind: str, told: str
) -> None:
    data = deep(low, high, kind)
    with pytest.raises(BadImage, match=f"value_range: grey values {told}"):
        decode(data, strict=True)
    ramp = np.nan_to_num(np.linspace(low, high, 256).astype(kind).astype(float))
    eight = np.floor(ramp / (1 if kind == "<f4" else 256)).clip(0, 255).reshape(16, 16)
    for pixels in (decode(data), np.asarray(to_rgb(Image.open(io.BytesIO(data))))):
        assert np.array_equal(pixels[..., 0], eight)


def test_of_a_large_picture_every_row_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blip.data.grey.STRIP", 16)
    assert reason_of(deep(0, 4_095, "<u2", "PNG"), strict=True) == "value_range"
    assert decode(deep(0, 60_000, ">u2"), strict=True).max() == 60_000 >> 8


def test_a_picture_that_uses_its_range_is_taken() -> None:
    for low, high, kind in ((0, 65_535, "<u2"), (3, 16_384, "<u2"), (0, 65_535, "<i4"), (0, 255, "<f4")):
        assert decode(deep(low, high, kind), strict=True).max() == int(high if kind == "<f4" else high / 256)


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_12_bits_in_16_are_refused_and_those_of_16_are_not(extension: str, channels: int) -> None:
    wide = np.random.default_rng(4).integers(0, 65_536, (9, 9, channels), np.uint16)
    few = wide >> 4
    wide[..., 3:] = few[..., 3:] = 65_535
    dark, light = (cv2.imencode(extension, pixels)[1].tobytes() for pixels in (few, wide))
    assert reason_of(dark, strict=True) == "value_range"
    assert decode(dark).max() < 16
    assert np.array_equal(decode(light, strict=True), (wide >> 8)[..., 2::-1])


def test_a_black_drawing_on_nothing_in_16_bits_is_taken() -> None:
    drawing = np.zeros((9, 9, 4), np.uint16)
    drawing[4, :, 3] = 65_535
    white = np.full((9, 9, 3), 255, np.uint8)
    white[4] = 0
    for extension in (".png", ".tiff"):
        assert np.array_equal(decode(cv2.imencode(extension, drawing)[1].tobytes(), strict=True), white)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_of_which_white_is_zero_comes_as_it_is_seen(bits: int, orientation: int) -> None:
    ramp = np.linspace(0, 2**bits - 1, 256).astype(f"u{bits // 8}").reshape(1, 256)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = orientation
    data = saved(Image.fromarray(ramp), "TIFF", tiffinfo=tags)
    entry = struct.pack("<HHI", 262, 3, 1)  # saved with 1 for black
    assert data.count(entry + b"\1") == 1
    white = data.replace(entry + b"\1", entry + b"\0")
    for pixels in (decode(white), np.asarray(to_rgb(Image.open(io.BytesIO(white))))):
        assert np.array_equal(pixels, 255 - decode(data))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = draw(2, 40, 20)
    data = saved(Image.fromarray(upright), "JPEG", exif=exif, quality=95)
    pixels = decode(data)
    assert pixels.shape[:2] == ((40, 20) if orientation >= 5 else (20, 40))
    assert np.array_equal(pixels, pillow(data)) == (orientation == 1)
    assert divides(data, read_header(data)) == (orientation == 1)


def test_an_orientation_noted_in_xmp_is_applied_too() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    assert decode(saved(Image.fromarray(draw(2, 40, 20)), "JPEG", xmp=xmp)).shape == (40, 20, 3)


def test_each_kind_of_broken_picture_has_its_reason() -> None:
    jpeg, png, webp = (encoded(draw(3), kind) for kind in ("jpg", "png", "webp"))
    assert reason_of(b"") == "empty"
    assert reason_of(b"<html>404 Not Found</html>") == "not_an_image"
    assert reason_of(saved(Image.new("RGB", (4, 4)), "EPS")) == "not_an_image"
    assert reason_of(png[:60] + b"\0" * 40 + png[100:]) == "corrupt"
    assert reason_of(jpeg[:3] + b"<html>404 Not Found</html>") in {"corrupt", "truncated", "not_an_image"}
    for data in (jpeg, png, webp):
        assert reason_of(data[: len(data) // 2]) == "truncated"


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "tiff_adobe_deflate"])
def test_a_tiff_cut_before_or_in_the_directory_behind_its_pixels_is_truncated(compression: str) -> None:
    tiff = saved(Image.fromarray(draw(5, 64, 48)), "TIFF", compression=compression)
    directory = int.from_bytes(tiff[4:8], "little")
    for length in (6, directory // 2, directory, directory + 1, directory + 30):
        assert reason_of(tiff[:length]) == "truncated", length
    assert reason_of(b"II*\0\x08\0\0\0\0\0") == "not_an_image"


@pytest.mark.parametrize("options", MODES)
def test_a_jpeg_cut_anywhere_is_refused(options: dict) -> None:
    jpeg = saved(Image.fromarray(draw(5, 64, 48)), "JPEG", **options)
    assert decode(jpeg).shape == (48, 64, 3)
    for length in [*range(1, len(jpeg) - 1, 7), len(jpeg) - 1]:
        assert reason_of(jpeg[:length]) in {"truncated", "corrupt", "not_an_image"}, length


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_cut_anywhere_is_refused(lossless: bool) -> None:
    webp = saved(Image.fromarray(draw(5, 64, 48)), "WEBP", lossless=lossless)
    for length in [*range(1, len(webp) - 1, 5), len(webp) - 1]:
        assert reason_of(webp[:length]) in {"truncated", "corrupt", "not_an_image"}, length


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def huge_png(side: int) -> bytes:
    """The header of a PNG of `side` x `side` pixels, and next to no data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def huge_files(side: int) -> dict[str, bytes]:
    """Small files of every kind whose headers are made to announce `side` x `side` pixels."""
    tiny = {kind: saved(Image.new("RGB", (8, 8)), kind) for kind in ("JPEG", "WEBP", "GIF", "BMP", "TIFF")}
    frame = tiny["JPEG"].index(b"\xff\xc0") + 5
    jpeg = tiny["JPEG"][:frame] + struct.pack(">HH", side, side) + tiny["JPEG"][frame + 4 :]
    canvas = b"VP8X" + struct.pack("<II", 10, 0) + 2 * (side - 1).to_bytes(3, "little") + tiny["WEBP"][12:]
    webp = b"RIFF" + struct.pack("<I", len(canvas) + 4) + b"WEBP" + canvas
    gif = tiny["GIF"][:6] + struct.pack("<HH", side, side) + tiny["GIF"][10:]
    bmp = tiny["BMP"][:18] + struct.pack("<ii", side, side) + tiny["BMP"][26:]
    tiff = tiny["TIFF"]
    for entry in (struct.pack("<HHII", tag, 4, 1, 8) for tag in (256, 257)):  # width and height
        assert entry in tiff
        tiff = tiff.replace(entry, entry[:8] + struct.pack("<I", side))
    return {"png": huge_png(side), "jpeg": jpeg, "webp": webp, "gif": gif, "bmp": bmp, "tiff": tiff}


MEASURE = """
import json, re, sys, time
from pathlib import Path
from blip.data.decode import BadImage, decode
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
found = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    data, seconds, before = path.read_bytes(), [], peak()
    for _ in range(3):
        start = time.process_time()
        try:
            decode(data)
            reason = "taken"
        except BadImage as error:
            reason = error.reason
        seconds.append(time.process_time() - start)
    found[path.name] = [reason, min(seconds), peak() - before]
print(json.dumps(found))
"""


def test_a_huge_picture_is_refused_from_its_header_at_once_and_without_memory(tmp_path: Path) -> None:
    for name, data in huge_files(50_000).items():
        (tmp_path / name).write_bytes(data)
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    found = json.loads(ran.stdout)
    assert set(found) == {"png", "jpeg", "webp", "gif", "bmp", "tiff"}
    for name, (reason, seconds, grown_kib) in found.items():
        assert reason == "too_large", name
        assert seconds < 0.5, name
        assert grown_kib < 8 << 10, name


def with_a_false_frame(jpeg: bytes) -> bytes:
    """A JPEG with a frame of 10 x 10 where a parser gets to that takes the marker in front for one with a length."""
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 10, 10, 1)
    filled = bytes(0xFFE0 + 4 - 8) + frame  # 0xFFE0 is the marker that follows, taken for a length
    note = b"\xff\xe0" + struct.pack(">H", 65_535) + filled.ljust(65_533, b"\0")
    return jpeg[:2] + b"\xff\xd0" + note + jpeg[2:]


def test_a_jpeg_does_not_hide_its_size_behind_a_false_frame() -> None:
    jpeg = encoded(draw(4, 40, 40), "jpg")
    assert reason_of(with_a_false_frame(jpeg), max_pixels=1_599) == "too_large"
    assert np.array_equal(decode(with_a_false_frame(jpeg)), decode(jpeg))


def test_a_header_that_errs_brings_no_pixels_that_nobody_allowed() -> None:
    with pytest.raises(BadImage, match="too_large"):
        decode(encoded(draw(4, 40, 40), "jpg"), max_pixels=1_599, header=Header("JPEG", 10, 10, usual=True))


def test_the_limit_is_the_last_size_that_is_taken() -> None:
    assert reason_of(huge_png(2_000)) == "too_large"
    assert reason_of(huge_png(200_000), max_pixels=10**12) == "too_large"
    for kind in ("png", "jpg", "webp"):
        data = encoded(draw(4, 40, 40), kind)
        assert reason_of(data, max_pixels=1_599) == "too_large"
        assert decode(data, max_pixels=1_600).shape == (40, 40, 3)


@pytest.mark.parametrize("divisor", [2, 4, 8])
@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_a_picture_comes_divided_with_its_sides_rounded_up(kind: str, divisor: int) -> None:
    whole = draw(6, 301, 201)
    pixels = decode(encoded(whole, kind), divisor=divisor)
    assert pixels.shape == (-(-201 // divisor), -(-301 // divisor), 3)
    expected = np.asarray(Image.fromarray(whole).reduce(divisor)).astype(int)
    inside = (slice(0, 201 // divisor), slice(0, 301 // divisor))
    assert np.abs(pixels[inside] - expected[inside]).mean() < 3


@pytest.mark.parametrize("divisor", [2, 8])
def test_a_jpeg_cut_short_is_refused_at_every_size(divisor: int) -> None:
    data = encoded(draw(6, 301, 201), "jpg")
    with pytest.raises(BadImage, match="truncated"):
        decode(data[: len(data) // 2], divisor=divisor)


def test_a_jpeg_that_only_pillow_takes_is_divided_all_the_same() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    assert decode(saved(Image.fromarray(draw(6, 301, 201)), "JPEG", exif=turned), divisor=2).shape == (
        151,
        101,
        3,
    )
    cmyk = saved(Image.fromarray(draw(6, 301, 201)).convert("CMYK"), "JPEG")
    assert decode(cmyk, divisor=2).shape == (101, 151, 3)
    assert not divides(cmyk, read_header(cmyk))


@pytest.mark.parametrize(("brand", "kind"), [(b"heic", "HEIC"), (b"mif1", "HEIC"), (b"avif", "AVIF")])
def test_a_phones_picture_under_another_name_is_told_as_what_it_is(brand: bytes, kind: str) -> None:
    head = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic"
    with pytest.raises(BadImage, match=f"not_an_image: 24 bytes of {kind}; convert it to JPEG"):
        decode(head)
