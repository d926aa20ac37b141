"""What came of the rows of a list when they were fetched before, a shard at a time.

    before = Before.open(Path("data/datasets/web"))
    known = before.known(12, rows)                  # of rows that need not be asked for again
    for sample in before.samples(12): ...           # the pictures of those that gave one

Asked for again are rows whose servers could not be reached or were busy, and those whose picture was refused when it
was there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from blip.data.manifest import MANIFEST
from blip.data.metadata import METADATA
from blip.data.pairs import PairsDataset
from blip.data.part import INDEX, QUARANTINE, SHARDS
from blip.data.sample import Sample
from blip.ingest.download.lost import PASSING
from blip.ingest.download.spans import Spans
from blip.ingest.download.stream import LONGEST_URL
from blip.ingest.sources.refused import Refused
from blip.ingest.sources.urls import Address

Row = Address | Refused


@dataclass(frozen=True)
class Known:
    """Keys of rows that gave a picture, and what the others became."""

    pictures: frozenset[str] = frozenset()
    lost: dict[str, Refused] = field(default_factory=dict)

    def has(self, row: Row) -> bool:
        """Whether a row need not be asked for; what was left out of one has its key, and comes as it is."""
        return isinstance(row, Address) and (row.key in self.pictures or row.key in self.lost)


class Before:
    """The dataset that was made of the list before; of its two tables it holds what their footers say."""

    def __init__(self, dataset: PairsDataset) -> None:
        self._dataset = dataset
        self._shards = {shard.url: shard for shard in dataset.manifest.shards}
        self._metadata = Spans(dataset.path / METADATA, "shard")
        self._index = Spans(dataset.path / QUARANTINE / INDEX, "key")

    @classmethod
    def open(cls, path: Path) -> Before:
        """The dataset in a folder, kept for the next call. Raises BlipError as `PairsDataset.open`."""
        manifest = path / MANIFEST
        return _open(path, manifest.stat().st_mtime_ns if manifest.is_file() else 0)

    def known(self, number: int, rows: Sequence[Row]) -> Known:
        """What came of some rows, which were those of the shard of this number."""
        urls = {row.key: row.url for row in rows if isinstance(row, Address)}
        if not urls:
            return Known()
        shard = _url(number)
        table = self._metadata.rows(shard, shard, ["key", "shard", "url"])
        pictures = frozenset(
            row["key"] for row in table if row["shard"] == shard and urls.get(row["key"]) == row["url"]
        )
        lost = {
            row["key"]: Refused(row["key"], row["reason"], row["detail"])
            for row in self._index.rows(min(urls), max(urls), ["key", "reason", "detail"])
            if row["reason"] not in PASSING
            and row["key"] in urls
            and row["detail"].startswith(f"{urls[row['key']][:LONGEST_URL]}: ")
        }
        return Known(pictures, lost)

    def samples(self, number: int) -> Iterator[Sample]:
        """The samples of the shard of this number, if there is one."""
        if shard := self._shards.get(_url(number)):
            yield from self._dataset.shard_samples(shard)


@lru_cache(maxsize=1)
def _open(path: Path, changed: int) -> Before:
    return Before(PairsDataset.open(path))


def _url(number: int) -> str:
    return f"{SHARDS}/{number:05d}.tar"
