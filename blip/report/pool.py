"""What a pool knows of its samples: the source of each, and the truth where it is known; read in the pool's order.

    pool = Pool.open(Path("data/datasets/web"))
    walk = pool.walk()
    for rows in walk.beside(pa.array(["web-0001", "web-0007"])):
        [pool.known(row).source for row in rows.to_pylist()]         # "twemoji", ...

A batch of the metadata is in memory, however large the pool. The truth (`truth_*` columns) was not known to the filter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from blip.config import Source
from blip.data.metadata import METADATA, TRUTH
from blip.data.pairs import PairsDataset
from blip.data.parquet import read_batches
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


@dataclass(frozen=True)
class Pool:
    """A pool, and the columns of its metadata that say what it knows; without metadata it knows nothing."""

    path: Path
    naming: Naming | None = None
    columns: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path, by: str | None = None) -> "Pool":
        """Open a pool; `by` names the column of the metadata that tells the sources.

        Raises:
            BadArguments: there is no such column.
        """
        if not (path / METADATA).is_file():
            return cls(path)
        names = pq.read_schema(path / METADATA).names
        naming = _column(path, by, names) if by else _naming(path, names)
        told = {naming.column} if naming else set[str]()
        wanted = {"key", MATCHED, LABEL, NOISE} & set(names) | told
        return cls(path, naming, tuple(sorted(wanted)))

    def walk(self) -> "Walk":
        """Go through its samples, from the first one on."""
        return Walk(self)

    def known(self, row: dict[str, Any]) -> Known:
        """What a row of its columns says of a sample. Raises BlipError if its truth cannot be read."""
        value = row[self.naming.column] if self.naming else None
        return Known(
            self.naming.told(str(value)) if self.naming and value is not None else "",
            is_matched(row, self.path / METADATA),
            str(row.get(LABEL) or ""),
            str(row.get(NOISE) or ""),
        )


class Walk:
    """Goes through the metadata of a pool once, beside a list of some of its samples in the same order."""

    def __init__(self, pool: Pool) -> None:
        self._path = pool.path
        self._batches = read_batches(pool.path / METADATA, pool.columns) if pool.columns else None
        self._here = pa.record_batch({"key": pa.array([], pa.string())})

    def beside(self, keys: pa.Array) -> list[pa.RecordBatch]:
        """The rows of some samples, which stand behind those asked for before.

        Raises:
            BlipError: one of them does not stand there.
        """
        if self._batches is None:
            return [pa.record_batch({"key": keys})]
        found: list[pa.RecordBatch] = []
        while len(keys):
            places = _rising(_places(keys, self._here["key"]))
            if len(places):
                found.append(self._here.take(places))
                self._here, keys = self._here.slice(places[-1].as_py() + 1), keys.slice(len(places))
                continue
            further = next(self._batches, None)
            if further is None:
                raise BlipError(
                    f"{self._path} has no sample {keys[0]}, or not in the audit's order: the audit is of another "
                    "dataset"
                )
            self._here = further
        return found


def _places(keys: pa.Array, among: pa.Array) -> pa.Array:
    """Where each key stands; null for one that does not."""
    return pc.call_function("index_in", [keys], pc.SetLookupOptions(among))


def _rising(places: pa.Array) -> pa.Array:
    """As many of the first ones as are known, each behind the one before."""
    numbers = pc.fill_null(places, -1).to_numpy()
    steps = np.diff(numbers, prepend=-1)
    return places.slice(0, int(np.argmax(steps <= 0)) if (steps <= 0).any() else len(places))


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
