"""Texts and embedded pictures as the values of a table or a JSON file have them."""

from collections.abc import Iterator
from typing import Any

_MAGIC = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\0": "tif",
    b"MM\0*": "tif",
    b"\x1aE\xdf\xa3": "webm",
}


def words(text: str) -> str:
    """A text with single spaces for its white space."""
    return " ".join(text.split())


def captions_of(cell: Any) -> Iterator[str]:
    """The captions of a value: one, a list of them, or a list of objects with `raw`, `caption` or `text`."""
    if isinstance(cell, list | tuple):
        for value in cell:
            yield from captions_of(value)
    elif isinstance(cell, dict):
        yield from captions_of(
            next((cell[name] for name in ("raw", "caption", "text") if name in cell), None)
        )
    elif isinstance(cell, bytes):
        yield words(cell.decode(errors="replace"))
    else:
        yield "" if cell is None else words(str(cell))


def embedded(cell: Any) -> bytes | None:
    """The bytes of a picture that stands in a table: as they are, or as Hugging Face's {bytes, path}."""
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    return data if isinstance(data, bytes) else None


def name_in(cell: Any) -> str:
    """The name of a picture's file in a value, or "" if it has none."""
    name = cell.get("path") if isinstance(cell, dict) else cell
    return "" if name is None or isinstance(name, bytes) else str(name).strip()


def extension_of(data: bytes) -> str | None:
    """What an encoded picture or clip is, by its first bytes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return "mp4"
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
