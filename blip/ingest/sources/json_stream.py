"""Large JSON files, element by element.

    for image in stream(Path("captions_train2017.json"), "images.item"): ...

Bytes that are no UTF-8 become U+FFFD, so that one of them does not end the file; screening finds the text. So does an
escape that is half of a surrogate pair. NaN and Infinity, which Python writes and JSON lacks, become null.
"""

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import ijson

from blip.errors import BlipError

HEAD = 64 << 10  # bytes in which a file must show what it is
_HIGH, _LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rf"{_HIGH}{_LOW}|(?P<half>{_HIGH}|{_LOW})|\\.", re.DOTALL)
_OPEN = re.compile(rf"(?<!\\)(?:\\\\)*(?P<end>(?:{_HIGH})?(?:\\(?:u[0-9a-fA-F]{{0,3}})?)?)\Z")
_NUMBER = re.compile(r'(?P<text>"[^"\\]*+(?:\\.[^"\\]*+)*+"?)|NaN|-?Infinity', re.DOTALL)
_BEGUN = re.compile(r"(?:N(?:aN?)?|-|-?I(?:n(?:f(?:i(?:n(?:it?)?)?)?)?)?)\Z")


def stream(path: Path, prefix: str) -> Iterator[Any]:
    """The values at an ijson prefix: `item` for those of a list, `images.item` for those of a list in an object.

    Raises:
        BlipError: there is no such file, it is no JSON from some value on, or has a number over 64 bits.
    """
    if not path.is_file():
        raise BlipError(f"{path}: no such file")
    number = 0
    with path.open("rb") as handle:
        try:
            for value in ijson.items(_Repaired(handle), prefix, use_float=True):
                yield value
                number += 1
        except ijson.JSONError as error:
            about = " ".join(str(error).split())[:120]
            if "overflow" in about:
                raise BlipError(
                    f"{path} has a number that is too large after {number:,} values of {prefix}: {about}; write it "
                    "as a text, or leave it out"
                ) from None
            raise BlipError(
                f"{path} is no JSON after {number:,} values of {prefix}: {about}; is it cut? Get it again"
            ) from None


def is_list(path: Path) -> bool:
    """Whether a JSON file has a list on its top."""
    with path.open("rb") as handle:
        return handle.read(HEAD).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def told_of_object(path: Path) -> str:
    """What a JSON file has on its top instead of a list, in words; "" if it has a list, or is none."""
    found: list[str] = []
    if is_list(path):
        return ""
    with path.open("rb") as handle, suppress(ijson.JSONError):
        for prefix, event, value in ijson.parse(_Repaired(handle, HEAD), use_float=True):
            if event == "start_array" and prefix and "." not in prefix and prefix == found[-1]:
                return f"this is an object, whose list stands at {prefix!r}: write that list to a file of its own"
            if not prefix and event == "map_key":
                found.append(str(value))
    if not found:
        return ""
    shown = repr(found[0][:60])
    return f'this is an object with the keys {shown}, ...: write {{"image": {shown}, "caption": ...}}, one for each'


def keys_in_head(path: Path) -> frozenset[str]:
    """Where keys stand in the first 64 KiB of a JSON file, as `images.item.file_name`; none if it is no JSON."""
    keys: set[str] = set()
    with (
        path.open("rb") as handle,
        suppress(ijson.JSONError),
    ):  # cut at 64 KiB, it ends in one; so do JSON lines
        for prefix, event, value in ijson.parse(_Repaired(handle, HEAD), use_float=True):
            if event == "map_key":
                keys.add(f"{prefix}.{value}".removeprefix("."))
    return frozenset(keys)


class _Repaired:
    """A file whose bytes are UTF-8, whose escapes are characters and whose numbers are JSON's, read up to a limit."""

    def __init__(self, handle: BinaryIO, limit: int | None = None) -> None:
        self._handle, self._left = handle, limit
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._open = ""  # an escape or a number that the next bytes may go on with
        self._in_text = False  # whether the next bytes begin within quotes

    def read(self, size: int = -1) -> bytes:
        """The next bytes, b"" at the end only."""
        if size == 0:
            return b""
        if self._left is not None:
            size = self._left if size < 0 else min(size, self._left)
            self._left -= size
        while data := self._handle.read(size):
            text = self._open + self._decoder.decode(data)
            self._open = _open_end(text)
            if whole := text.removesuffix(self._open):
                return self._repaired(whole)
        text, self._open = self._open + self._decoder.decode(b"", final=True), ""
        return self._repaired(text)

    def _repaired(self, text: str) -> bytes:
        """JSON in which NaN is null, and half a surrogate pair U+FFFD: ijson takes one for an error, or for a `?`."""
        before = '"' if self._in_text else ""
        self._in_text ^= _quotes(text) % 2 == 1
        if "NaN" in text or "Infinity" in text:
            text = _NUMBER.sub(lambda found: found["text"] or "null", before + text).removeprefix(before)
        if "\\ud" in text or "\\uD" in text:
            text = _ESCAPE.sub(lambda escape: "\\ufffd" if escape["half"] else escape[0], text)
        return text.encode()


def _open_end(text: str) -> str:
    """What stands at the end of a piece that only the next one completes: an escape, NaN or Infinity."""
    if "\\" in text[-12:] and (found := _OPEN.search(text)) and found["end"]:
        return found["end"]
    begun = _BEGUN.search(text[-8:])
    return begun[0] if begun else ""


def _quotes(text: str) -> int:
    """How many quotes begin or end a text: those that are not escaped."""
    if "\\" not in text:
        return text.count('"')
    plain = text.replace("\\\\", "")
    return plain.count('"') - plain.count('\\"')
