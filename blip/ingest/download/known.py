"""What came of the rows of a list when they were fetched before, a shard at a time.

    known = known_in(before, 12, rows)              # of rows that need not be asked for again
    for sample in samples_in(before, 12): ...       # the pictures of those that gave one

Asked for again are rows whose servers could not be reached, and those whose picture was refused when it was there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from blip.data.metadata import METADATA
from blip.data.pairs import PairsDataset
from blip.data.part import INDEX, QUARANTINE, SHARDS
from blip.data.sample import Sample
from blip.ingest.download.lost import UNREACHED
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


def known_in(before: PairsDataset, number: int, rows: Sequence[Row]) -> Known:
    """What came of some rows, which were those of the shard of this number."""
    urls = {row.key: row.url for row in rows if isinstance(row, Address)}
    if not urls:
        return Known()
    shard = [("shard", "==", _url(number))]
    table = pq.read_table(before.path / METADATA, columns=["key", "url"], filters=shard).to_pylist()
    pictures = frozenset(row["key"] for row in table if urls.get(row["key"]) == row["url"])
    span = [("key", ">=", min(urls)), ("key", "<=", max(urls))]
    index = pq.read_table(before.path / QUARANTINE / INDEX, filters=span).to_pylist()
    lost = {
        row["key"]: Refused(row["key"], row["reason"], row["detail"])
        for row in index
        if row["reason"] not in UNREACHED
        and row["key"] in urls
        and row["detail"].startswith(f"{urls[row['key']][:LONGEST_URL]}: ")
    }
    return Known(pictures, lost)


def samples_in(before: PairsDataset, number: int) -> Iterator[Sample]:
    """The samples of the shard of this number, if there is one."""
    for shard in before.manifest.shards:
        if shard.url == _url(number):
            yield from before.shard_samples(shard)


def _url(number: int) -> str:
    return f"{SHARDS}/{number:05d}.tar"
