"""Many URLs at a time, their pictures in the order of the rows: an event loop in a thread, and a caller who takes.

    with closing(fetch_all(rows, settings, origin="web")) as found:
        for item in found: ...                                         # Sample or Refused, one for each row

The loop goes ahead of the caller until BUFFER bytes wait for him; then no download begins before some are taken. So
memory holds BUFFER, and `connections` downloads of `max_bytes` at worst, however many rows there are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread

from blip.config import Download
from blip.data.sample import Caption, Sample
from blip.ingest.download.fetch import Fetcher, open_fetcher
from blip.ingest.download.lost import BAD_RESPONSE, Lost
from blip.ingest.download.sniff import extension_of
from blip.ingest.sources.refused import Refused
from blip.ingest.sources.urls import Address

BUFFER = 256 << 20  # bytes
LONGEST_URL = 500  # characters shown


def fetch_all(
    rows: Sequence[Address | Refused], settings: Download, origin: str = "web"
) -> Generator[Sample | Refused, None, None]:
    """What became of each row in turn; one that was refused before passes through.

    Args:
        rows: some thousands; each has a place in memory for its result.
        origin: who wrote the captions.
    """
    with _loop_in_thread() as loop:
        line = _Line(rows, origin, loop)
        asyncio.run_coroutine_threadsafe(line.fill(settings), loop)
        yield from line.take()


class _Line:
    """Results in the order of the rows: filled in the event loop, taken in another thread."""

    def __init__(
        self, rows: Sequence[Address | Refused], origin: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._origin, self._loop, self._room = origin, loop, asyncio.Event()
        self._results = deque[Future[Sample | Refused]](Future() for _ in rows)
        self._open = deque(zip(rows, self._results, strict=True))
        self._held = 0

    async def fill(self, settings: Download) -> None:
        """Fetch all rows, `connections` at a time."""
        tasks = min(settings.connections, len(self._results))
        try:
            async with open_fetcher(settings) as fetcher, asyncio.TaskGroup() as group:
                for _ in range(tasks):
                    group.create_task(self._work(fetcher))
        except Exception as error:  # it belongs to the taker, whatever it is
            for result in list(self._results):
                if not result.done():
                    result.set_exception(error)

    async def _work(self, fetcher: Fetcher) -> None:
        while True:
            while (
                self._held > BUFFER
            ):  # before a row is drawn: the taker may be waiting for one that is drawn
                self._room.clear()
                await self._room.wait()
            if not self._open:
                return
            row, result = self._open.popleft()
            item = row if isinstance(row, Refused) else await self._item(fetcher, row)
            self._held += _bytes(item)
            result.set_result(item)
            del item, result  # the taker alone holds the picture now

    async def _item(self, fetcher: Fetcher, row: Address) -> Sample | Refused:
        try:
            data = await fetcher.fetch(row.url)
        except Lost as lost:
            return Refused(row.key, lost.reason, f"{row.url[:LONGEST_URL]}: {lost.detail}")
        except (
            Exception
        ) as error:  # what a server sends may hit any weakness of what reads it: that ends its row only
            detail = f"{row.url[:LONGEST_URL]}: {type(error).__name__}: {str(error)[:LONGEST_URL]}"
            return Refused(row.key, BAD_RESPONSE, detail)
        captions = tuple(Caption(text, self._origin) for text in row.captions)
        return Sample(row.key, data, extension_of(data) or "", captions, url=row.url)

    def take(self) -> Iterator[Sample | Refused]:
        """The results, each as soon as it is there."""
        while self._results:
            item = self._results[0].result()  # it stays in the line, for `fill` to find, until it is there
            self._results.popleft()
            yield item
            self._loop.call_soon_threadsafe(self._taken, _bytes(item))
            del item

    def _taken(self, size: int) -> None:
        self._held -= size
        if self._held <= BUFFER:
            self._room.set()


def _bytes(item: Sample | Refused) -> int:
    return len(item.media) if isinstance(item, Sample) else 0


@contextmanager
def _loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs meanwhile; what is not done at the end is cancelled."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="download", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
