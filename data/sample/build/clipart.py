"""Texts that people really wrote beside clip art: titles, descriptions, file names, addresses.

Read from the metadata inside the SVG files of Debian's `openclipart-svg` (all public domain); no picture is
used. The texts are kept as they are, with two exceptions: people's mail and web addresses become made-up ones
in the domains reserved for examples, and texts unfit for a sample are left out.
"""

import re
import zlib
from pathlib import Path
from xml.etree import ElementTree

from packages import fetch_deb, version_of

_DC = "{http://purl.org/dc/elements/1.1/}"
_CC = "{http://web.resource.org/cc/}"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LONGEST = 90
_ADDRESS = re.compile(r"(mailto:|https?://|www\.)\S+|\S+@\S+")
_UNFIT = re.compile(r"(?i)sex|nude|naked|nazi|swastika|penis|breast|pantyh|porn|bitch|fuck|shit|suicid")


def clipart_texts() -> dict[str, list[str]]:
    """Distinct texts by kind: title, description, file, address; sorted, so that runs repeat."""
    root = fetch_deb("openclipart-svg", version_of("openclipart-svg")) / "usr/share/openclipart/svg"
    found: dict[str, set[str]] = {"title": set(), "description": set(), "file": set(), "address": set()}
    for path in sorted(root.rglob("*.svg")):
        for kind, text in _texts_of(path):
            if _is_usable(text):
                found[kind].add(text)
    found["file"] = _one_of_each_series(found["file"])
    return {kind: sorted(texts) for kind, texts in found.items()}


def _one_of_each_series(names: set[str]) -> set[str]:
    """File names that differ in more than numbers; the package has 1,500 computed stars."""
    return set({re.sub(r"\d+", "", name): name for name in sorted(names)}.values())


def _texts_of(path: Path) -> list[tuple[str, str]]:
    """(kind, text) of one file; nothing if it is no XML or is not marked as public domain."""
    try:
        tree = ElementTree.parse(path)
    except (ElementTree.ParseError, UnicodeDecodeError, ValueError):
        return []
    work = tree.find(f".//{_CC}Work")
    if work is None or not _is_public_domain(work):
        return []
    title, description = work.findtext(f"{_DC}title"), work.findtext(f"{_DC}description")
    people = [_clean(element.text) for element in work.iterfind(f".//{_CC}Agent/{_DC}title")]
    addressed = any(_ADDRESS.search(person) for person in people)
    return [
        ("title", _masked(_clean(title))),
        ("description", _masked(_clean(description))),
        ("file", path.name),
        *([("address", f"{_clean(title)} {_made_up_address(path.name)}")] if addressed else []),
    ]


def _masked(text: str) -> str:
    """Put made-up addresses in place of people's own."""
    return _ADDRESS.sub(_made_up_address(text), text)


def _made_up_address(seed: str) -> str:
    """An address in a domain that is reserved for examples, always the same for the same text."""
    number = zlib.crc32(seed.encode()) % 900 + 100
    return (f"drawings{number}@example.org", f"www.example.net/art/{number}", f"artist-{number}@example.com")[
        number % 3
    ]


def _is_public_domain(work: ElementTree.Element) -> bool:
    licence = work.find(f"{_CC}license")
    return licence is not None and "publicdomain" in licence.get(f"{_RDF}resource", "").lower()


def _clean(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()


def _is_usable(text: str) -> bool:
    """Not empty, not a dump of a program's memory, not an essay."""
    return (
        3 <= len(text) <= _LONGEST
        and "HASH(0x" not in text
        and text.isprintable()
        and not _UNFIT.search(text)
    )
