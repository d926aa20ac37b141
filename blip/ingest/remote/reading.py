"""The items of sources in stores, in their order, while the next shards are on their way.

    reading = Reading(sources, directory, settings)
    place = reading.place()
    for item in reading.items(place): ...          # of the parts from `place.part` on

One process asks, the one that reads: it hands samples to the workers, who see no store.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event

from blip.config import Ingest, Source
from blip.data.archive import UNSAFE
from blip.data.part import finished, forget
from blip.errors import BlipError
from blip.ingest.remote.ledger import END, FETCHED, LEDGER, Entry, Ledger, Place
from blip.ingest.remote.store import Shard, Store, Unfetched
from blip.ingest.sources import Item, named, names_of, see_that_options_are_used
from blip.ingest.sources.refused import UNFETCHED, Refused, key_of
from blip.ingest.sources.screening import screened
from blip.ingest.sources.webdataset import are_distinct, packed, read_tar

AHEAD = 3  # shards that are fetched, or wait, beside the one that is read


class Reading:
    """All shards of some sources, listed once."""

    def __init__(self, sources: Sequence[Source], directory: Path, settings: Ingest) -> None:
        """List the sources. Raises BlipError if one cannot be, BadArguments if it is none that is fetched."""
        see_that_options_are_used(sources)
        stores = [Store.open(source, settings.download) for source in sources]
        self._shards: list[tuple[Store, Shard, str, bool]] = []
        for store, prefix in zip(stores, names_of(sources), strict=True):
            shards = store.shards()
            distinct = are_distinct(_stem(shard) for shard in shards if not shard.is_packed)
            self._shards += [(store, shard, prefix, distinct) for shard in shards]
        self._listed = [
            *(Entry(prefix + shard.name, shard.size, shard.tag) for _, shard, prefix, _ in self._shards),
            END,
        ]
        self._settings, self._directory = settings, directory
        self._folder = directory / FETCHED
        self._ledger = Ledger(directory / LEDGER)

    def place(self) -> Place:
        """Where to go on; parts behind it go, for what they are made of is read again."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        receipts = finished(self._directory)
        place = self._ledger.place(self._listed, receipts, self._comes)
        forget(self._directory, [part for part in receipts if part >= place.part])
        return place

    def items(self, place: Place) -> Generator[Item, None, None]:
        """The items of all shards from a place on, keys and texts screened.

        Raises:
            BlipError: more shards do not come than `max_bad_fraction` allows, or this disk is full.
        """
        start, skip = place.start, place.items
        with closing(self._ahead(place.shard)) as fetched:
            for number, path, lost in fetched:
                failed = lost.detail if lost and lost.reason == UNFETCHED else ""
                entry = replace(self._listed[number], start=start, failed=failed, given=skip if failed else 0)
                self._ledger.note(number, entry)
                self._see_that_enough_come(failed)
                given = 0
                items = (lost,) if lost else self._read(number, path)
                for item in screened(items, self._settings.max_caption_chars):
                    given += 1
                    if failed or given > skip:
                        yield item
                start, skip = start + given + (skip if failed else 0), 0
                path.unlink(missing_ok=True)
        self._ledger.note(len(self._shards), replace(END, start=start))

    def _ahead(self, first: int) -> Generator[tuple[int, Path, Refused | None], None, None]:
        """Number and file of each shard from the first on, or why it did not come."""
        stop, waiting = Event(), deque[tuple[int, Future[Refused | None]]]()
        threads = ThreadPoolExecutor(AHEAD, "fetch")
        try:
            for number in range(first, len(self._shards)):
                waiting.append((number, threads.submit(self._fetch, number, stop)))
                if len(waiting) > AHEAD:
                    yield self._came(*waiting.popleft())
            while waiting:
                yield self._came(*waiting.popleft())
        finally:
            stop.set()
            threads.shutdown(cancel_futures=True)

    def _came(self, number: int, future: Future[Refused | None]) -> tuple[int, Path, Refused | None]:
        return number, self._file(number), future.result()

    def _fetch(self, number: int, stop: Event) -> Refused | None:
        store, shard, prefix, _ = self._shards[number]
        key = key_of(prefix + shard.name)
        if shard.leads_out:
            return Refused(key, UNSAFE, f"{shard.name} leads out of {store.source.source}")
        if shard.is_packed:
            return replace(packed(shard.name), key=key)
        if self._file(number).is_file():
            return None
        try:
            store.fetch(shard, self._file(number), stop)
        except Unfetched as why:
            self._file(number).unlink(missing_ok=True)
            return Refused(key, UNFETCHED, f"{shard.name}: {why}")
        return None

    def _comes(self, number: int) -> bool:
        """Whether a shard that did not come before comes now; then it stays for its turn."""
        return self._fetch(number, Event()) is None

    def _read(self, number: int, path: Path) -> Iterator[Item]:
        store, shard, prefix, distinct = self._shards[number]
        called = f"{store.source.source.removesuffix(shard.name).rstrip('/')}/{shard.name}"
        return named(read_tar(path, _stem(shard), distinct, store.source.origin, called), prefix)

    def _file(self, number: int) -> Path:
        """Where a shard lies; its own name could lead anywhere."""
        return self._folder / f"{number:06d}.tar"

    def _see_that_enough_come(self, last: str) -> None:
        """Raises BlipError: so many did not come, and not the last, that the dataset would be refused in the end."""
        failed, limit = self._ledger.failed, self._settings.max_bad_fraction
        if last and failed > limit * len(self._shards):
            raise BlipError(
                f"{failed:,} of {len(self._shards):,} shards did not come, more than ingest.max_bad_fraction = {limit} "
                f"(--max-bad-fraction); the last: {last}. What was read waits in {self._directory}: run "
                "again to go on there"
            )


def _stem(shard: Shard) -> str:
    return shard.name.removesuffix(".tar")
