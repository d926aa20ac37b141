"""Texts are drawn in a font that has their letters, and it is said where none is installed."""

import os
import subprocess
import sys
from pathlib import Path

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from blip.report.letters import boxes, font_for
from blip.report.sheets import Cell, Section, sheet

SIGN = "\U00012f90"  # of Cypro-Minoan, which hardly a machine has
ASKED = "from blip.report.letters import *; print(font_for(TEXT, 17).path, boxes([TEXT]))"


def write_font(path: Path, text: str) -> None:
    """A font of boxes for the letters of a text."""
    pen = TTGlyphPen(None)
    for place, draw in (((0, 0), pen.moveTo), ((0, 700), pen.lineTo), ((500, 700), pen.lineTo)):
        draw(place)
    pen.closePath()
    glyphs = [".notdef", *(f"u{ord(letter):X}" for letter in sorted(set(text)))]
    font = FontBuilder(1000)
    font.setupGlyphOrder(glyphs)
    font.setupCharacterMap({ord(letter): f"u{ord(letter):X}" for letter in text})
    font.setupGlyf(dict.fromkeys(glyphs, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(glyphs, (600, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Made here", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    path.parent.mkdir(parents=True)
    font.save(path)


def test_letters_that_dejavu_lacks_are_drawn_in_a_font_that_is_installed(tmp_path: Path) -> None:
    text = f"a dog {SIGN}"
    write_font(tmp_path / "fonts/made.ttf", text)
    code = f"TEXT = {text!r}; {ASKED}"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown == f"{tmp_path}/fonts/made.ttf set()\n"


def test_what_dejavu_has_is_drawn_in_it() -> None:
    assert Path(str(font_for("a café, Собака", 17).path)).name == "DejaVuSans.ttf"
    assert Path(str(font_for("red", 17, bold=True).path)).name == "DejaVuSans-Bold.ttf"
    assert boxes(["a café\x07\n", "\ud800"]) == set()


def test_where_no_font_has_the_letters_the_page_says_so() -> None:
    assert boxes(["a dog", f"a {SIGN}"]) == {"CYPRO-MINOAN"}
    plain, noted = (
        sheet("title", "24 samples", [Section("", [Cell([None], ["key"], words)])], 6)
        for words in ("a", SIGN)
    )
    assert noted.height > plain.height
