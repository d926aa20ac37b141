"""What the first bytes of a picture say, read without a decoder: size, and whether it is of the usual kind.

header = read_header(data)
header.width * header.height      # before a byte is spent on pixels

A claim, not a proof: the file may hold something else, which decoding finds out.
"""

import struct
from dataclasses import dataclass
from typing import Literal

PNG = b"\x89PNG\r\n\x1a\n"
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG's start-of-frame markers
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG's markers without a length
USUAL_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
APP1, SCAN = 0xE1, 0xDA
TIFF = {b"II*\0": "<", b"MM\0*": ">"}  # the mark of each order of bytes


@dataclass(frozen=True)
class Header:
    """What a picture says of itself.

    Attributes:
        width, height: in pixels, as stored.
        usual: a JPEG or WebP of 8 bits, grey or RGB, opaque, one frame.
        notes: a JPEG has EXIF or XMP, which may say that it is turned.
    """

    kind: Literal["JPEG", "PNG", "WEBP", "GIF"]
    width: int
    height: int
    usual: bool = False
    notes: bool = False


def read_header(data: bytes) -> Header | None:
    """The header of a JPEG, PNG, WebP or GIF; None for anything else and for what makes no sense."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:8] == PNG and data[12:16] == b"IHDR":
            return Header("PNG", *struct.unpack_from(">II", data, 16))
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return Header("GIF", *struct.unpack_from("<HH", data, 6))
    except (struct.error, IndexError):  # it ends within its header
        return None
    return None


def _jpeg(data: bytes) -> Header | None:
    """Go from marker to marker up to the one that starts a frame."""
    position, notes = 2, False
    while data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, position + 4)
            usual = marker in USUAL_FRAMES and bits == 8 and channels in (1, 3) and height > 0
            return Header("JPEG", width, height, usual, notes)
        if marker == SCAN:
            return None
        if marker in ALONE:
            position += 2
            continue
        notes = notes or marker == APP1
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return None


def _webp(data: bytes) -> Header | None:
    """Lossy, lossless or extended; only of the first two is one of the usual kind."""
    chunk = data[12:16]
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF, usual=True)
    if chunk == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        has_alpha = bool(bits >> 28 & 1)
        return Header("WEBP", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), usual=not has_alpha)
    if chunk == b"VP8X":
        width, height = (1 + int.from_bytes(data[start : start + 3], "little") for start in (24, 27))
        return Header("WEBP", width, height)
    return None


def lacks_directory(data: bytes) -> bool:
    """Whether this begins as a TIFF and ends before its directory does, which often lies behind the pixels."""
    order = TIFF.get(data[:4])
    if order is None:
        return False
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, start)
    except struct.error:
        return True
    return start + 2 + 12 * entries > len(data)
