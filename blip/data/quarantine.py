"""The quarantine of a pairs dataset: what ingest refused, a row each, and the bytes that it kept.

for refused in read_quarantine(Path("data/datasets/web")):
    print(refused.key, refused.reason, refused.detail, refused.payload)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from blip.data.part import INDEX, QUARANTINE
from blip.errors import BlipError

__all__ = ["INDEX", "Quarantined", "read_quarantine"]

COLUMNS = ["key", "reason", "detail", "file"]
BATCH = 4096


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
    try:
        with pq.ParquetFile(folder / INDEX) as index:
            for batch in index.iter_batches(BATCH, columns=COLUMNS):
                for row in batch.to_pylist():
                    payload = folder / Path(row["file"]).name if row["file"] else None
                    yield Quarantined(row["key"], row["reason"], row["detail"], payload)
    except (OSError, pa.ArrowException) as error:
        raise BlipError(f"{folder / INDEX} cannot be read: {error}; make the dataset again") from None
