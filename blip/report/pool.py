"""What a pool knows of its samples: the source of each, and the truth where it is known; read in the pool's order.

    pool = Pool.open(Path("data/datasets/web"))
    pool.find("web-0001").source         # "twemoji"

A batch of the metadata is in memory, however large the pool. The truth (`truth_*` columns) was not known to the filter.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from blip.config import Source
from blip.data.metadata import METADATA, TRUTH
from blip.data.pairs import PairsDataset
from blip.data.parquet import read_batches, read_rows
from blip.data.truth import MATCHED, is_matched
from blip.errors import BadArguments, BlipError
from blip.ingest.sources import names_of

LABEL, NOISE = TRUTH + "caption_true", TRUTH + "noise"
NAMING = (TRUTH + "source", TRUTH + "artist")  # columns of truth.csv that say where a sample is from


class Known(NamedTuple):
    """Of one sample: its source ("": not known), whether its web text is right (None: not known), and the truth."""

    source: str = ""
    right: bool | None = None
    label: str = ""
    noise: str = ""


@dataclass(frozen=True)
class Naming:
    """How a sample's source is told: from the value of a column; `words` say so to a reader."""

    column: str
    told: Callable[[str], str]
    words: str


class Pool:
    """The samples of a pool, found one after the other; a pool without metadata knows nothing of any."""

    def __init__(self, path: Path, naming: Naming | None, rows: Iterator[dict[str, Any]] | None) -> None:
        self.naming = naming
        self._path = path
        self._rows = rows

    @classmethod
    def open(cls, path: Path, by: str | None = None) -> "Pool":
        """Open a pool; `by` names the column of the metadata that tells the sources.

        Raises:
            BadArguments: there is no such column.
        """
        if not (path / METADATA).is_file():
            return cls(path, None, None)
        names = pq.read_schema(path / METADATA).names
        naming = _column(path, by, names) if by else _naming(path, names)
        told = {naming.column} if naming else set[str]()
        wanted = {"key", MATCHED, LABEL, NOISE} & set(names) | told
        return cls(path, naming, read_rows(path / METADATA, sorted(wanted)))

    def find(self, key: str) -> Known:
        """What is known of a sample, which stands behind those found before.

        Raises:
            BlipError: there is none of that key behind them, or its truth cannot be read.
        """
        if self._rows is None:
            return Known()
        for row in self._rows:
            if row["key"] == key:
                return self._known(row)
        raise BlipError(
            f"{self._path} has no sample {key}, or not in the audit's order: the audit is of another dataset"
        )

    def _known(self, row: dict[str, Any]) -> Known:
        value = row[self.naming.column] if self.naming else None
        return Known(
            self.naming.told(str(value)) if self.naming and value is not None else "",
            is_matched(row, self._path / METADATA),
            str(row.get(LABEL) or ""),
            str(row.get(NOISE) or ""),
        )


def host(url: str) -> str:
    """The host of an address without `www.`; empty if it has none."""
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""


def _column(path: Path, name: str, names: Sequence[str]) -> Naming:
    if name not in names:
        raise BadArguments(
            f"{path / METADATA} has no column {name} to tell sources by; it has: {', '.join(names)}"
        )
    if name == "url":
        return Naming(name, host, "the host of its URL")
    return Naming(name, str, f"column {name} of the pool's metadata")


def _naming(path: Path, names: Sequence[str]) -> Naming | None:
    """By the sources it was ingested from, by its truth.csv, or by the hosts of its URLs; None if by nothing."""
    ingested = PairsDataset.open(path).manifest.parameters.get("sources", [])
    if ingested:
        starts = names_of([Source.model_construct(**source) for source in ingested])
        return Naming(
            "key", partial(_start, sorted(starts, key=len, reverse=True)), "the source that it was read from"
        )
    urls = "url" in names and _has_urls(path)
    column = next((name for name in NAMING if name in names), "url" if urls else None)
    return _column(path, column, names) if column else None


def _start(starts: Sequence[str], key: str) -> str:
    """The source whose name a key begins with, as ingestion of several sources gives it; the longest that fits."""
    return next((start.removesuffix("-") for start in starts if key.startswith(start)), "")


def _has_urls(path: Path) -> bool:
    return any(batch["url"].null_count < len(batch) for batch in read_batches(path / METADATA, ["url"]))
