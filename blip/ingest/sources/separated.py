"""Tables whose fields a comma, a semicolon or a tab separates: csv and tsv, row by row.

    names = header_of(Path("captions.csv"))
    for row in read_separated(Path("captions.csv")): ...

A row is broken if its fields are not as many as the header's or its quotes do not pair up; a quote that is never
closed costs its own line only. Between tabs a quote belongs to the text where each of the lines up to the one that
closes it is a row by itself. The header tells what separates the fields, for Excel's csv has semicolons where
numbers have a comma; its "Unicode text" is UTF-16 with tabs. Bytes that are no text get U+FFFD, which screening finds.
A line with nothing between its separators is no row.
"""

import codecs
import csv
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from blip.errors import BlipError
from blip.ingest.sources.columns import ADDRESS, CAPTION, IMAGE
from blip.ingest.sources.refused import Refused
from blip.ingest.sources.row import Row, broken

FIELD_LIMIT = 16 << 20  # characters; csv's own 131,072 would lose the row without a look at its caption
QUOTED_LINES = 1000  # that one quoted field may span
SEPARATORS = {".csv": ",;\t", ".tsv": "\t,;"}  # the first is what a file has if its header does not tell
NAMED = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
KNOWN = frozenset((*IMAGE, *CAPTION, *ADDRESS, "question", "answer"))


def header_of(path: Path) -> list[str]:
    """The names of the columns.

    Raises:
        BlipError: the first row is no text, or ends nowhere.
    """
    with open_text(path) as handle:
        return _header(path, _Lines(handle))[0]


def read_separated(path: Path) -> Iterator[Row | Refused]:
    """The rows under the header.

    Raises:
        BlipError: as `header_of`.
    """
    with open_text(path) as handle:
        lines = _Lines(handle)
        names, separator = _header(path, lines)
        lines.begin()
        reader = csv.reader(lines, delimiter=separator, strict=True)
        while True:
            try:
                fields = next(reader)
                problem = f"{len(fields)} fields, the header has {len(names)}; quote texts with {separator!r}"
            except StopIteration:
                return
            except csv.Error as error:
                fields, problem = [], str(error)
            if _is_blank(lines.taken, separator):
                lines.begin()
                continue
            number = lines.number
            plain = separator == "\t" and _are_rows(lines.taken, len(names))
            if plain or (fields and len(fields) != len(names)) or (not fields and lines.taken[0].strip()):
                line = lines.reject()
                raw = _raw(line) if separator == "\t" else []
                if len(raw) == len(names):
                    yield Row(number, dict(zip(names, raw, strict=True)))
                else:
                    yield broken(path, number, problem, line.encode(errors="replace"))
            elif fields:
                yield Row(number, dict(zip(names, fields, strict=True)))
            lines.begin()


def open_text(path: Path) -> TextIO:
    """A text file: UTF-16 if it begins with the mark of it, else UTF-8 with or without one."""
    with path.open("rb") as handle:
        start = handle.read(2)
    encoding = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    return path.open(encoding=encoding, errors="replace", newline="")


def _raw(line: str) -> list[str]:
    """The fields of a line with tabs in which quotes mean nothing."""
    return line.rstrip("\r\n").split("\t")


def _are_rows(lines: list[str], columns: int) -> bool:
    """Whether several lines with tabs, which a quote has joined to one record, are a row each."""
    return len(lines) > 1 and columns > 1 and all(len(_raw(line)) == columns for line in lines)


def _is_blank(lines: list[str], separator: str) -> bool:
    """Whether a record is a line with nothing in it, as spreadsheets write behind the last row."""
    return len(lines) == 1 and not lines[0].replace(separator, "").strip()


class _Lines:
    """Lines for csv's reader, which may be told that only the first one of a record is spent."""

    def __init__(self, handle: TextIO) -> None:
        self._handle, self._again = handle, deque[str]()
        self.number, self.taken = 1, list[str]()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) > QUOTED_LINES:
            raise csv.Error(f"a quote is not closed within {QUOTED_LINES:,} lines")
        line = self._again.popleft() if self._again else next(self._handle)
        self.taken.append(line)
        return line

    def begin(self) -> None:
        """A record begins at the next line."""
        self.number += len(self.taken)
        self.taken = []

    def reject(self) -> str:
        """Give back all lines of the record but the first, which is returned."""
        first, *rest = self.taken
        self._again.extendleft(reversed(rest))
        self.taken = [first]
        return first

    def reject_all(self) -> None:
        """Give back all lines of the record."""
        self._again.extendleft(reversed(self.taken))
        self.taken = []


def _header(path: Path, lines: _Lines) -> tuple[list[str], str]:
    """The names of the columns and what separates them: what gives the most usual names, or else several."""
    csv.field_size_limit(FIELD_LIMIT)
    named = _named(lines)
    first, *others = [named] if named else SEPARATORS[path.suffix.lower()]
    try:
        found = {first: next(csv.reader(lines, delimiter=first), [])}
        found |= {other: next(csv.reader(iter(lines.taken), delimiter=other), []) for other in others}
    except csv.Error as error:
        raise BlipError(f"{path}: its first row, which names the columns, cannot be read: {error}") from None
    if any("\0" in line for line in lines.taken):
        raise BlipError(f"{path}: its first row has zeros, as UTF-16 without a mark has; save it as UTF-8")
    separator = max(found, key=lambda one: (_usual(found[one]), len(found[one]) > 1))
    return found[separator], separator


def _named(lines: _Lines) -> str:
    """What separates the fields by the line `sep=;` above the header, which is passed over; "" without one."""
    found = NAMED.fullmatch(next(lines, "").rstrip("\r\n"))
    if found:
        lines.begin()
        return found[1]
    lines.reject_all()
    return ""


def _usual(names: list[str]) -> int:
    return sum(name.strip().lower() in KNOWN for name in names)
