"""A row of a table, whatever its form, and how one that is broken is refused."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blip.ingest.sources.refused import Refused, key_of

BROKEN_ROW, BROKEN_TABLE = "broken_row", "broken_table"
DEEPEST = 32  # lists and objects within each other; no table needs more than four

Value = str | int | float
Cells = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A row: its line in a text file, its number otherwise, and the values by column."""

    number: int
    values: Cells

    def text(self, column: str) -> str:
        """A value as text, a missing one as ""."""
        value = self.values.get(column)
        return "" if value is None else str(value)


def broken(path: Path, number: int, problem: str, line: bytes | None = None) -> Refused:
    """The refusal of a row, with what there is of it."""
    detail = f"{path.name}, line {number}: {problem}"[:300]
    return Refused(key_of(f"{path.stem}-line-{number}"), BROKEN_ROW, detail, line)


def row_of_json(path: Path, number: int, value: object) -> Row | Refused:
    """The row that a value of a JSON file is; refused if it is no object, or one without end."""
    if not isinstance(value, dict):
        return broken(path, number, "not an object", as_json(value))
    if is_too_deep(value):
        return broken(path, number, f"lists or objects within each other over {DEEPEST} times")
    return Row(number, value)


def as_json(value: object) -> bytes | None:
    """A value as a file's bytes; None for one that is nested too deep to be written."""
    if is_too_deep(value):
        return None
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")


def is_too_deep(value: object) -> bool:
    """Whether lists and objects are nested so deep that Python, which reads them by recursion, may give up."""
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level if isinstance(outer, list | dict) for inner in _inside(outer)]
        if not level:
            return False
    return any(isinstance(value, list | dict) for value in level)


def _inside(value: list | dict) -> list:
    return list(value.values()) if isinstance(value, dict) else value
