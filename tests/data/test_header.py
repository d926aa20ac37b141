import io

import pytest
from PIL import Image

from blip.data.header import Header, read_header


def saved(mode: str, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (50, 30)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind", "options", "usual"),
    [
        ("RGB", "JPEG", {}, True),
        ("L", "JPEG", {"progressive": True}, True),
        ("CMYK", "JPEG", {}, False),
        ("RGB", "WEBP", {}, True),
        ("RGB", "WEBP", {"lossless": True}, True),
        ("RGBA", "WEBP", {"lossless": True, "exact": True}, False),
        ("RGB", "WEBP", {"icc_profile": b"some profile"}, False),
        ("RGB", "PNG", {}, False),
        ("P", "GIF", {}, False),
    ],
)
def test_size_and_kind_are_read_from_the_header(mode: str, kind: str, options: dict, usual: bool) -> None:
    assert read_header(saved(mode, kind, **options)) == Header(kind, 50, 30, usual)  # pyright: ignore


def test_notes_of_a_jpeg_are_seen() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a red square"
    header = read_header(saved("RGB", "JPEG", exif=exif))
    assert header is not None and header.notes and header.usual
    plain = read_header(saved("RGB", "JPEG", comment="a red square"))
    assert plain is not None and not plain.notes


@pytest.mark.parametrize("marker", [0x01, 0xD0, 0xD7, 0xD8])
def test_a_marker_without_a_length_is_passed_over(marker: int) -> None:
    data = saved("RGB", "JPEG")
    assert read_header(data[:2] + bytes([0xFF, marker]) + data[2:]) == Header("JPEG", 50, 30, True)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "GIF"])
def test_a_header_that_ends_early_says_nothing(kind: str) -> None:
    data = saved("RGB", kind)
    assert read_header(data[:8]) is None
    assert read_header(data) is not None


def test_what_is_no_picture_has_no_header() -> None:
    assert read_header(b"<html>") is None
    assert read_header(b"\xff\xd8<html>404 Not Found</html>") is None
    assert read_header(b"\xff\xd8\xff\xda" + bytes(100)) is None
