"""Texts and embedded pictures as the values of a table or a JSON file have them."""

import html
import re
from collections.abc import Iterator
from html.entities import html5
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
# AVIF and HEIC
_PICTURES = frozenset({b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"})
_NOTHING = frozenset({"null", "nan", "none", "n/a"})
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_INLINE = "a abbr b bdi bdo big cite code del dfn em font i ins kbd mark q s samp small span strike strong sub sup tt u"
_BLOCK = (
    "address article aside audio blockquote br button center dd details div dl dt figcaption figure footer form "
    "h1 h2 h3 h4 h5 h6 header hr iframe img input label li main nav ol option p picture pre section select source "
    "style script table tbody td th thead tr ul video wbr"
)
_ATTRIBUTE = r"""\s+[\w:-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>]+)"""
_TAG = re.compile(
    rf"</?(?:(?P<inline>{_INLINE.replace(' ', '|')})|{_BLOCK.replace(' ', '|')})(?:{_ATTRIBUTE})*\s*/?>",
    re.IGNORECASE,
)


def caption_of(text: str) -> str:
    """A caption as it is meant: without HTML's tags and entities, and "" for what says that there is none.

    `<p>a <b>red</b>&nbsp;circle &amp; more</p>` is "a red circle & more"; `a < b` stays.
    """
    if "<" in text or "&" in text:
        text = _without_tags(_ENTITY.sub(_meant, _without_tags(text)))
    plain = words(text)
    return "" if plain.lower() in _NOTHING else plain


def _meant(entity: re.Match[str]) -> str:
    """The character of an entity; `&notit;` is none, though a browser would read `&not` in it."""
    return html.unescape(entity[0]) if entity[0][1] == "#" else html5.get(entity[0][1:], entity[0])


def _without_tags(text: str) -> str:
    return _TAG.sub(lambda tag: "" if tag["inline"] else " ", text)


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
        yield caption_of(cell.decode(errors="replace"))
    else:
        yield "" if cell is None else caption_of(str(cell))


def embedded(cell: Any) -> bytes | None:
    """The bytes of a picture that stands in a table: as they are, or as Hugging Face's {bytes, path}."""
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    return data if isinstance(data, bytes) else None


def name_in(cell: Any) -> str:
    """The name of a picture's file in a value, or "" if it has none."""
    name = cell.get("path") if isinstance(cell, dict) else cell
    return "" if name is None or isinstance(name, bytes) else str(name).strip()


def extension_of(data: bytes) -> str | None:
    """What an encoded picture or clip is, by its first bytes; None if it is of no kind that is read."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return None if data[8:12] in _PICTURES else "mp4"
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
