"""The quarantine of a pairs dataset: what ingest refused, a row each, and the bytes that it kept.

for refused in read_quarantine(Path("data/datasets/web")):
    print(refused.key, refused.reason, refused.detail, refused.payload)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blip.data.parquet import read_rows
from blip.data.part import INDEX, QUARANTINE

__all__ = ["INDEX", "NEAR_DUPLICATE", "Quarantined", "read_quarantine"]

NEAR_DUPLICATE = "near_duplicate"  # the reason of a training picture that looks like an evaluation picture
COLUMNS = ["key", "reason", "detail", "file"]


@dataclass(frozen=True)
class Quarantined:
    """A sample that was left out: its reason code, what was found, and the file with its bytes, if kept."""

    key: str
    reason: str
    detail: str
    payload: Path | None


def read_quarantine(directory: Path) -> Iterator[Quarantined]:
    """Stream the quarantine of the dataset in `directory`, in the order of the index.

    Raises:
        BlipError: the index is missing or cannot be read.
    """
    folder = directory / QUARANTINE
    for row in read_rows(folder / INDEX, COLUMNS):
        payload = folder / Path(row["file"]).name if row["file"] else None
        yield Quarantined(row["key"], row["reason"], row["detail"], payload)
