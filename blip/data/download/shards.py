"""The job that fetches shards: all pictures of a few shards at once, each shard written when its last one is there.

    download_shards([ShardJob(..., items=[Address(...), ...])], settings)

Several shards wait for their slowest servers at the same time; pictures keep the order of their rows whatever
arrives first. What could not be had is refused with the reason and its URL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from blip.config import Download
from blip.data.download.fetch import Fetcher, Lost
from blip.data.download.sniff import extension_of
from blip.data.sample import Caption, Sample
from blip.data.shards import Item, ShardJob, write_shard
from blip.data.sources.refused import Refused
from blip.data.sources.urls import Address

SHARDS_AT_ONCE = 4  # of a job; their pictures wait in memory
LONGEST_URL = 500  # characters shown


def download_shards(jobs: Sequence[ShardJob], settings: Download) -> int:
    """Fetch and write the shards; returns how many samples they took on."""
    return asyncio.run(_Download(jobs, settings).run())


def downloader(settings: Download) -> partial[int]:
    """`download_shards` with its settings, as a job's function."""
    return partial(download_shards, settings=settings)


@dataclass
class _Waiting:
    """A shard whose items are still coming."""

    job: ShardJob
    items: list[Item | None]
    left: int


class _Download:
    """The rows of some shards shared out among as many tasks as there are connections."""

    def __init__(self, jobs: Sequence[ShardJob], settings: Download) -> None:
        self._settings = settings
        self._shards = [_Waiting(job, [None] * len(job.items), len(job.items)) for job in jobs]
        self._rows = self._places()
        self._writing = asyncio.Semaphore(1)
        self._samples = 0

    async def run(self) -> int:
        """Fetch all rows."""
        rows = sum(len(shard.items) for shard in self._shards)
        async with Fetcher(self._settings) as fetcher, asyncio.TaskGroup() as tasks:
            for _ in range(min(self._settings.connections, rows)):
                tasks.create_task(self._work(fetcher))
        return self._samples

    def _places(self) -> Iterator[tuple[_Waiting, int]]:
        for shard in self._shards:
            yield from ((shard, place) for place in range(len(shard.items)))

    async def _work(self, fetcher: Fetcher) -> None:
        for shard, place in self._rows:
            shard.items[place] = await _item(fetcher, shard.job.items[place], shard.job.origin)
            shard.left -= 1
            if not shard.left:
                await self._write(shard)

    async def _write(self, shard: _Waiting) -> None:
        """In a thread, so that the other shards' pictures go on coming."""
        items = [item for item in shard.items if item is not None]
        async with self._writing:
            self._samples += await asyncio.to_thread(write_shard, replace(shard.job, items=items))
        shard.items.clear()


async def _item(fetcher: Fetcher, item: Item, origin: str) -> Item:
    if not isinstance(item, Address):
        return item
    try:
        data = await fetcher.fetch(item.url)
    except Lost as lost:
        return Refused(item.key, lost.reason, f"{item.url[:LONGEST_URL]}: {lost.detail}")
    captions = (Caption(item.caption, origin),)
    return Sample(item.key, data, extension_of(data) or "", captions, url=item.url)
