"""Pictures of any kind to RGB, strictly: what is cut short or damaged is refused with its reason.

image = decode(data, max_pixels=100_000_000)      # uint8 [H, W, 3]
small = decode(data, divisor=4)                   # sides a quarter as long: a JPEG by its own transform, cheaply

Each format goes to the fastest decoder that gives Pillow's pixels: JPEG to simplejpeg, WebP to OpenCV (bit for bit
the same), everything else, and whatever either of them stumbles over, to Pillow itself (benchmarks/decoding.py).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from blip.data.grey import (
    GreyRange,
    fault_of,
    fault_of_wide,
    has_wide_channels,
    in_eight_bits,
    is_deep,
    white_is_zero,
)
from blip.data.header import Header, lacks_directory, read_header
from blip.errors import BlipError

MAX_PIXELS = 178_956_970  # what Pillow refuses whatever it is told
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # not EPS, for which Pillow would run Ghostscript
UNREAD = {  # by the mark in their head, whatever the file's name ends in
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
ORIENTATION = 0x0112
VECTOR = 32  # bytes
STRIP = 1 << 20  # pixels of a large picture that are converted at once

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `decode` checks the size itself

Pixels = NDArray[np.uint8]  # [H, W, 3], RGB
Greys = Callable[[Image.Image], Image.Image]  # a grey picture of more than 8 bits, or a strip of it, in 8


class Scratch:
    """Memory for the pixels of one picture after the other.

    Its address is one that no vector fits: into lines that begin at such addresses libjpeg-turbo writes past the
    cache, from which the pixels are wanted again at once. Decoding and scaling take 4% less.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def of(self, size: int) -> NDArray[np.uint8]:
        """So many bytes of it."""
        if size > len(self._memory):
            memory = np.empty(size + VECTOR, np.uint8)
            self._memory = memory[(3 * VECTOR // 4 - memory.ctypes.data) % VECTOR :]
        return self._memory[:size]


class BadMedia(BlipError):
    """A picture or clip that cannot be used.

    Attributes:
        reason: a code: `empty`, `not_an_image`, `too_large`, `truncated`, `corrupt`, `value_range`,
            `not_a_video`.
        detail: what was found, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BadImage(BadMedia):
    """A picture that cannot be used."""


def decode(
    data: bytes,
    max_pixels: int = MAX_PIXELS,
    divisor: int = 1,
    header: Header | None = None,
    scratch: Scratch | None = None,
    strict: bool = False,
    grey_range: GreyRange | None = None,
) -> Pixels:
    """Decode a picture to RGB, `uint8 [H, W, 3]`: first frame, upright (EXIF), transparency on white.

    The size is read from the header and checked before any pixel is decoded.

    Args:
        divisor: 1, 2, 4 or 8, by which the sides are divided, rounded up. A JPEG is the faster for it.
        header: what `read_header` said of it, where that is known.
        scratch: where the pixels may lie, until the next picture is decoded there.
        strict: whether one of more than 8 bits is refused where most of its values would be lost.
        grey_range: the values that are black and white in a grey picture of more than 8 bits.

    Raises:
        BadImage: empty, of no known format, larger than `max_pixels`, truncated or damaged, or what `strict` refuses.
    """
    if not data:
        raise BadImage("empty", "0 bytes")
    header = header or read_header(data)
    if header:
        _check_size(header.width, header.height, min(max_pixels, MAX_PIXELS))
    pixels = _fast(data, header, divisor, scratch) if header and header.usual else None
    return _by_pillow(data, max_pixels, divisor, strict, grey_range) if pixels is None else pixels


def has_deep_grey(data: bytes) -> bool:
    """Whether a picture is grey, of more than 8 bits, by its header. Raises BadImage where it makes no sense."""
    return bool(data) and is_deep(_open(data))


def is_paged(data: bytes) -> bool:
    """Whether a picture has several pages or frames, of which the first is the picture."""
    header = read_header(data)
    if header and (header.kind == "JPEG" or header.usual):
        return False
    try:
        return bool(getattr(_open(data), "is_animated", False))
    except Exception:  # what stands behind the first page is damaged, and not read
        return False


def divides(data: bytes, header: Header | None) -> bool:
    """Whether a divisor saves work: true of an upright JPEG, whose header's size is then the picture's."""
    return header is not None and header.kind == "JPEG" and header.usual and _upright(data, header)


def to_rgb(image: Image.Image) -> Image.Image:
    """Bring a picture of any mode to upright RGB; what is transparent becomes white."""
    upright = _turned(image)
    if upright.mode == "RGB":
        return upright
    return Image.fromarray(_strips(upright, 1, partial(in_eight_bits, inverted=white_is_zero(image))))


def _turned(image: Image.Image) -> Image.Image:
    """Upright by its EXIF; the picture itself where it is, for Pillow would copy it."""
    image.load()  # a PNG may say so behind its pixels
    return image if image.getexif().get(ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)


def _strips(image: Image.Image, divisor: int, greys: Greys) -> Pixels:
    """The pixels of an upright picture, divided, some rows after the other: beside both there is one strip."""
    height, width = (-(-side // divisor) for side in (image.height, image.width))
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(STRIP // (image.width * divisor), 1)
    for top in range(0, height, rows):
        box = (0, top * divisor, image.width, min((top + rows) * divisor, image.height))
        strip = _rgb(image.crop(box) if rows < height else image, greys)
        pixels[top : top + rows] = np.asarray(strip if divisor == 1 else strip.reduce(divisor))
    return pixels


def _rgb(image: Image.Image, greys: Greys) -> Image.Image:
    """A picture or a strip of it in RGB; each pixel's is its own alone."""
    if image.mode == "RGB":
        return image
    if is_deep(image):
        return greys(image).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _fast(data: bytes, header: Header, divisor: int, scratch: Scratch | None) -> Pixels | None:
    """None where Pillow is to look: it knows turned pictures, what can be forgiven, and what to call the rest."""
    if divides(data, header):
        height, width = (-(-side // divisor) for side in (header.height, header.width))
        try:
            if simplejpeg.decode_jpeg_header(data)[:2] != (header.height, header.width):
                return None  # it would make pixels of a size that nobody checked
            return simplejpeg.decode_jpeg(
                data,
                min_height=height,
                min_width=width,
                min_factor=divisor,
                buffer=scratch.of(height * width * 3) if scratch else None,
            )
        except ValueError:
            return None
    if header.kind == "WEBP" and divisor == 1 and _announced(data) <= len(data):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        return None if pixels is None else np.asarray(pixels, np.uint8)
    return None


def _upright(data: bytes, header: Header) -> bool:
    if not header.notes:
        return True
    try:
        return _open(data).getexif().get(ORIENTATION, 1) == 1
    except Exception:  # Pillow meets it again where it decodes, and gives it a reason
        return False


def _by_pillow(
    data: bytes, max_pixels: int, divisor: int, strict: bool, grey_range: GreyRange | None
) -> Pixels:
    image = _open(data)
    _check_size(*image.size, max_pixels)
    wide = has_wide_channels(image)  # which is not known of a picture that is loaded
    greys = partial(in_eight_bits, inverted=white_is_zero(image), grey_range=grey_range)
    try:
        upright = _turned(image)
        pixels = _strips(upright, divisor, greys)
    except Exception as error:  # each of Pillow's decoders raises errors of its own
        raise _broken(data, f"{image.format} of {image.width} x {image.height}", error) from None
    if strict:
        _see_that_it_shows(upright, pixels, wide, grey_range)
    return pixels


def _open(data: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        if lacks_directory(data):
            raise BadImage(
                "truncated", f"{len(data)} bytes of a TIFF, which end before its directory"
            ) from None
        what = f"{len(data)} bytes that begin with {data[:8]!r}"
        if data[4:8] == b"ftyp" and (kind := UNREAD.get(data[8:12])):
            what = f"{len(data)} bytes of {kind}; convert it to JPEG"
        raise BadImage("not_an_image", what) from None
    except Image.DecompressionBombError as error:
        raise BadImage("too_large", str(error)) from None
    except Exception as error:  # a damaged header, which some formats report in their own way
        raise _broken(data, "header", error) from None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadImage("too_large", f"{width} x {height} pixels, more than the {max_pixels:,} allowed")


def _see_that_it_shows(image: Image.Image, pixels: Pixels, wide: bool, grey_range: GreyRange | None) -> None:
    """Raises BadImage where most of a picture's values are lost, among others of channels that had 16 bits."""
    fault = fault_of(image, grey_range) if is_deep(image) else fault_of_wide(pixels) if wide else None
    if fault:
        raise BadImage("value_range", fault)


def _announced(data: bytes) -> int:
    """How many bytes a WebP says it has."""
    return int.from_bytes(data[4:8], "little") + 8 if data[:4] == b"RIFF" else 0


def _broken(data: bytes, what: str, error: Exception) -> BadImage:
    """Truncated if the decoder says so, or if a WebP announces more bytes than there are."""
    cut = "truncated" in str(error).lower() or isinstance(error, EOFError) or _announced(data) > len(data)
    return BadImage("truncated" if cut else "corrupt", f"{what} in {len(data)} bytes: {error}")
