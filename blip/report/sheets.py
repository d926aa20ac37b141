"""Sheets of pictures with words below them, as one PNG: samples of a dataset, what was left out, look-alikes.

page = sheet("web", "24 of 2,103 samples", [Section("", [Cell([picture], ["web-0001"], "a red apple")])], 6)
page.save("contact_sheet.png")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from blip.report.chart import COLOURS
from blip.report.letters import boxes, font_for

BOX = 220  # pixels of the square that a picture is fitted into
GAP, MARGIN = 20, 32
TEXT, SMALL, TITLE, HEADING = 17, 14, 30, 20  # sizes of letters
LINES = 3  # of the words below a picture
PAPER, GROUND = "#ffffff", "#f1f4f5"


@dataclass(frozen=True)
class Cell:
    """One picture, or several side by side, with a heading (a key) below each and words below all.

    A picture that is None could not be shown; `missing` says why in a word or two.
    """

    pictures: Sequence[Image.Image | None]
    headings: Sequence[str]
    words: str = ""
    missing: str = "no picture"


@dataclass(frozen=True)
class Section:
    """Cells under a title, which may be empty, and a line in soft colour beside it."""

    title: str
    cells: Sequence[Cell]
    note: str = ""


def sheet(title: str, subtitle: str, sections: Sequence[Section], columns: int) -> Image.Image:
    """Lay sections out below each other, `columns` cells in a row; the pictures are scaled to fit.

    Where no font has the letters of a text, the subtitle says so.
    """
    widest = max((len(cell.pictures) for section in sections for cell in section.cells), default=1)
    cell_width = widest * BOX + (widest - 1) * 6
    used = min(columns, max((len(section.cells) for section in sections), default=1))
    width = max(2 * MARGIN + used * cell_width + (used - 1) * GAP, 900)
    columns = max(1, (width - 2 * MARGIN + GAP) // (cell_width + GAP))
    rows = [_Rows(section, columns, cell_width) for section in sections]
    words = (cell.words for section in sections for cell in section.cells)
    head = _heading(title, subtitle + _boxes([title, *words]), width - 2 * MARGIN)
    top = MARGIN + sum(line_height for *_, line_height in head) + _BELOW
    height = top + sum(row.height for row in rows) - GAP + MARGIN
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    down = MARGIN
    for line, colour, font, line_height in head:
        draw.text((MARGIN, down), line, colour, font)
        down += line_height
    for row in rows:
        _draw_section(page, draw, row, top)
        top += row.height
    return page


_BELOW = 22  # the subtitle
_HEAD = 44  # title of a section


def _heading(title: str, subtitle: str, width: int) -> list[tuple[str, str, ImageFont.FreeTypeFont, int]]:
    """Title and subtitle in lines of a width, each with its colour, font and height."""
    kinds = (
        (title, COLOURS["ink"], font_for(title, TITLE, bold=True), 40),
        (subtitle, COLOURS["soft"], font_for(subtitle, TEXT), TEXT + 5),
    )
    return [
        (line, colour, font, height)
        for text, colour, font, height in kinds
        for line in _lines(text, font, width, LINES) or [""]
    ]


def _boxes(texts: Sequence[str]) -> str:
    """What the boxes among the letters are, if there are any."""
    if not (lost := boxes(texts)):
        return ""
    return (
        f". Boxes stand for what no font here has ({', '.join(sorted(lost))}): install one, such as Noto Sans"
    )


class _Rows:
    """Where the cells of a section stand; a row is as high as its longest words need."""

    def __init__(self, section: Section, columns: int, cell_width: int) -> None:
        self.section = section
        self.placed: list[tuple[Cell, list[str], int, int]] = []  # with its words in lines, x and y
        self.height = _HEAD if section.title else 0
        for start in range(0, len(section.cells), columns):
            cells = section.cells[start : start + columns]
            words = [_lines(cell.words, font_for(cell.words, TEXT), cell_width, LINES) for cell in cells]
            for number, (cell, lines) in enumerate(zip(cells, words, strict=True)):
                self.placed.append((cell, lines, MARGIN + number * (cell_width + GAP), self.height))
            self.height += BOX + SMALL + 14 + max(map(len, words)) * (TEXT + 5) + GAP


def _draw_section(page: Image.Image, draw: ImageDraw.ImageDraw, rows: _Rows, top: int) -> None:
    section = rows.section
    if section.title:
        draw.line((MARGIN, top + 4, page.width - MARGIN, top + 4), COLOURS["line"], 1)
        font = font_for(section.title, HEADING, bold=True)
        draw.text((MARGIN, top + 12), section.title, COLOURS["ink"], font)
        beside = MARGIN + font.getlength(section.title) + 14
        draw.text((beside, top + 15), section.note, COLOURS["soft"], font_for(section.note, TEXT))
    for cell, lines, left, down in rows.placed:
        _draw_cell(page, draw, cell, lines, (left, top + down))


def _draw_cell(
    page: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, lines: list[str], corner: tuple[int, int]
) -> None:
    left, top = corner
    font = font_for(cell.words, TEXT)
    for number, (picture, heading) in enumerate(zip(cell.pictures, cell.headings, strict=True)):
        x = left + number * (BOX + 6)
        _draw_picture(page, draw, picture, cell.missing, (x, top))
        small = font_for(heading, SMALL)
        draw.text((x, top + BOX + 6), "".join(_lines(heading, small, BOX, 1)), COLOURS["soft"], small)
    for number, line in enumerate(lines):
        draw.text((left, top + BOX + SMALL + 14 + number * (TEXT + 5)), line, COLOURS["ink"], font)


def _draw_picture(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    picture: Image.Image | None,
    missing: str,
    corner: tuple[int, int],
) -> None:
    left, top = corner
    draw.rectangle((left, top, left + BOX - 1, top + BOX - 1), GROUND)
    if picture is None:
        draw.line((left, top, left + BOX - 1, top + BOX - 1), COLOURS["line"], 1)
        draw.line((left, top + BOX - 1, left + BOX - 1, top), COLOURS["line"], 1)
        centre = left + BOX / 2, top + BOX / 2
        font = font_for(missing, TEXT)
        box = draw.textbbox(centre, missing, font, anchor="mm")
        draw.rectangle((box[0] - 8, box[1] - 5, box[2] + 8, box[3] + 5), GROUND)
        draw.text(centre, missing, COLOURS["bad"], font, anchor="mm")
        return
    scale = BOX / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    page.paste(small, (left + (BOX - size[0]) // 2, top + (BOX - size[1]) // 2))


def _lines(text: str, font: ImageFont.FreeTypeFont, width: int, most: int) -> list[str]:
    """A text in at most so many lines of a width; what does not fit is cut with three dots."""
    lines, rest = [], " ".join(text.split())
    while rest and len(lines) < most:
        line = _fitting(rest, font, width)
        rest = rest[len(line) :].lstrip()
        if rest and len(lines) == most - 1:
            line = _fitting(line, font, width - font.getlength(" ...")).rstrip() + " ..."
            rest = ""
        lines.append(line.rstrip())
    return lines


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The longest beginning that fits, up to the end of a word if there is one."""
    if font.getlength(text) <= width:
        return text
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    space = text.rfind(" ", 0, low + 1)
    return text[:space] if space > 0 else text[:low]
