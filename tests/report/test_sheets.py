"""Sheets of pictures: every picture and word has its place, and nothing is drawn over another."""

import numpy as np
from PIL import Image, ImageFont

from blip.report.letters import font_for
from blip.report.sheets import BOX, GAP, MARGIN, Cell, Section, _lines, sheet

RED, BLUE = (220, 30, 30), (30, 30, 220)


def plain(colour: tuple[int, int, int], width: int = 40, height: int = 40) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def pixels(page: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of what has a colour."""
    y, x = np.nonzero((np.asarray(page) == colour).all(2))
    return int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1


def test_a_picture_fills_its_box_and_keeps_its_shape() -> None:
    page = sheet("title", "", [Section("", [Cell([plain(RED, 30, 10)], ["key"])])], 6)
    left, _, width, height = pixels(page, RED)
    assert (left, width) == (MARGIN, BOX)
    assert height == round(BOX / 3)


def test_cells_stand_in_rows_of_the_columns_asked_for() -> None:
    cells = [Cell([plain(RED)], ["a"]), *[Cell([None], ["b"])] * 4, Cell([plain(BLUE)], ["c"], "words")]
    page = sheet("title", "", [Section("", cells)], 4)
    assert pixels(page, RED)[0] == MARGIN
    left, top, *_ = pixels(page, BLUE)
    assert left == MARGIN + BOX + GAP
    assert top > pixels(page, RED)[1] + BOX


def test_a_long_title_and_subtitle_go_on_below() -> None:
    """Nothing reaches the right margin, and the pictures begin lower."""
    cells, reasons = [Section("", [Cell([plain(RED)], ["a"])])], ", ".join(["112 near_duplicate"] * 12)
    short, long = (sheet(title, title, cells, 6) for title in ("web", reasons))
    margin = np.asarray(long)[: pixels(long, RED)[1], -MARGIN:]
    assert (margin == 255).all()
    assert pixels(long, RED)[1] > pixels(short, RED)[1]
    assert long.height - short.height == pixels(long, RED)[1] - pixels(short, RED)[1]


def test_pairs_stand_side_by_side() -> None:
    page = sheet("title", "", [Section("", [Cell([plain(RED), plain(BLUE)], ["train", "test"])])], 3)
    assert pixels(page, BLUE)[0] - pixels(page, RED)[0] == BOX + 6
    assert pixels(page, BLUE)[1] == pixels(page, RED)[1]


def test_a_row_is_as_high_as_its_words_need() -> None:
    def height(words: str) -> int:
        return sheet("title", "", [Section("", [Cell([plain(RED)], ["key"], words)])], 6).height

    assert height("") < height("one") < height("several words " * 3) < height("word " * 20)
    assert height("word " * 20) == height("word " * 200)


def test_the_same_cells_give_the_same_page() -> None:
    cells = [
        Section("reason", [Cell([plain(RED)], ["key"], "words"), Cell([None], ["key"], "", "gone")], "note")
    ]
    assert sheet("title", "sub", cells, 6).tobytes() == sheet("title", "sub", cells, 6).tobytes()


def fits(lines: list[str], font: ImageFont.FreeTypeFont, width: int) -> bool:
    return all(font.getlength(line) <= width for line in lines)


def test_words_are_broken_between_words_and_long_ones_inside() -> None:
    font = font_for("", 17)
    lines = _lines("a red apple on a green and very wide table", font, BOX, 3)
    assert " ".join(lines) == "a red apple on a green and very wide table"
    assert fits(lines, font, BOX)
    long = _lines("x" * 40, font, BOX, 3)
    assert "".join(long) == "x" * 40
    assert fits(long, font, BOX)


def test_what_does_not_fit_ends_with_dots() -> None:
    font = font_for("", 17)
    lines = _lines("word " * 100, font, BOX, 2)
    assert len(lines) == 2
    assert lines[1].endswith(" ...")
    assert fits(lines, font, BOX)
    assert _lines("", font, BOX, 2) == []
