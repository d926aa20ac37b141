"""One URL at a time, tried again where that may help, and only what its owner has nothing against.

async with open_fetcher(settings) as fetcher:
    data = await fetcher.fetch("https://example.org/cat.jpg")       # raises Lost
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from itertools import count

from yarl import URL

from blip.config import Download
from blip.ingest.download.body import read_picture
from blip.ingest.download.client import Client, open_client, read_url
from blip.ingest.download.lost import BUSY, Lost
from blip.ingest.download.optout import opted_out
from blip.ingest.download.robots import Robots


@asynccontextmanager
async def open_fetcher(settings: Download) -> AsyncIterator[Fetcher]:
    """A fetcher with connections of its own."""
    async with open_client(settings) as client:
        yield Fetcher(client, settings)


class Fetcher:
    """Fetches pictures, any number at a time."""

    def __init__(self, client: Client, settings: Download) -> None:
        self._client, self._settings = client, settings
        self._agent = settings.agent.partition("/")[0].strip()
        self._robots = Robots(client, self._agent) if settings.robots_txt else None

    async def fetch(self, url: str) -> bytes:
        """The picture at a URL.

        Raises:
            Lost: there is none, or it must not be fetched, or it takes over `total_seconds` with all tries.
        """
        last = Lost("timeout", f"it took over {self._settings.total_seconds:g} s")
        try:
            async with asyncio.timeout(self._settings.total_seconds) as limit:
                for attempt in count():
                    try:
                        return await self._get(read_url(url), limit)
                    except Lost as lost:
                        if lost.wait is None or attempt == self._settings.retries:
                            raise
                        last = lost
                    await asyncio.sleep(self._pause(attempt, last.wait or 0))
        except TimeoutError:
            raise last from None
        raise AssertionError("the last try returns or raises")

    def _pause(self, attempt: int, asked: float) -> float:
        """Seconds before the next try: twice as many each time, not the same for all, or what the server asks."""
        grown = self._settings.backoff_seconds * 2**attempt * random.uniform(0.5, 1.5)
        return min(max(asked, grown), self._settings.max_wait_seconds)

    async def _get(self, url: URL, limit: asyncio.Timeout) -> bytes:
        how = self._settings
        async with self._client.answer(url, limit, self._robots.check if self._robots else None) as response:
            status, reason = response.status, response.reason or ""
            if status != 200:
                wait = retry_after(response.headers) if status in BUSY else None
                raise Lost(f"http_{status}", reason, wait)
            directive = opted_out(response.headers.getall("X-Robots-Tag", ()), self._agent, how.opt_outs)
            if directive:
                raise Lost("opted_out", f"X-Robots-Tag: {directive}")
            return await read_picture(response, how.max_bytes)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait, as a number or a date; 0 if it does not."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError):  # also a date in a year that no clock knows
        return 0.0
