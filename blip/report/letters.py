"""Which font has the letters of a text: DejaVu Sans, which matplotlib brings along, or one that is installed here.

font_for("a dog", 17)        # DejaVu Sans
font_for("芝生の犬", 17)       # an installed font that has these; DejaVu Sans, which draws boxes, where there is none
boxes(["a dog", "芝生の犬"])   # where there is none: {"CJK", "HIRAGANA"}
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import ImageFont

NO_LETTERS = "lastresort"  # a font that has a frame for every letter, and none as it is written


def font_for(text: str, size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """A font that has all letters of a text, or most of them."""
    return _opened(_file_for(_letters(text), bold), size)


def boxes(texts: Iterable[str]) -> set[str]:
    """The scripts, as Unicode calls them, of what no font here has and is drawn as boxes; `signs` that are of none."""
    lost = {letter for text in texts for letter in _letters(text) - _drawn(_file_for(_letters(text), False))}
    return {
        unicodedata.name(letter, "").partition(" ")[0] if letter.isalpha() else "signs" for letter in lost
    }


def _letters(text: str) -> frozenset[str]:
    return frozenset(letter for letter in text if letter.isprintable() and not letter.isspace())


@cache
def _file_for(letters: frozenset[str], bold: bool) -> Path:
    """DejaVu Sans, unless an installed font has more of the letters."""
    best = _dejavu(bold)
    lacking = len(letters - _drawn(best))
    for file in _installed() if lacking else ():
        if (lacks := len(letters - _drawn(file))) < lacking:
            best, lacking = file, lacks
        if not lacking:
            break
    return best


def _dejavu(bold: bool) -> Path:
    import matplotlib

    return (
        Path(matplotlib.get_data_path()) / "fonts/ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    )


@cache
def _installed() -> list[Path]:
    """The fonts of this machine, upright ones of usual weight first."""
    from matplotlib.font_manager import findSystemFonts

    found = [Path(file) for file in findSystemFonts() if NO_LETTERS not in file.lower()]
    return sorted(found, key=lambda file: ("regular" not in file.stem.lower(), file))


@cache
def _drawn(file: Path) -> frozenset[str]:
    """The letters that a font has; none of one that cannot be read or has pictures of them in one size only."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(str(file))
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()


@cache
def _opened(file: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)
