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

from yarl import URL

from blip.config import Download
from blip.data.download.body import read_picture
from blip.data.download.client import Client, open_client, read_url
from blip.data.download.lost import Lost
from blip.data.download.optout import opted_out
from blip.data.download.robots import Robots

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


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
            Lost: there is none, or it must not be fetched.
        """
        for attempt in range(self._settings.retries + 1):
            try:
                return await self._get(read_url(url))
            except Lost as lost:
                if lost.wait is None or attempt == self._settings.retries:
                    raise
                pause = self._settings.backoff_seconds * 2**attempt * random.uniform(0.5, 1.5)
                await asyncio.sleep(min(max(lost.wait, pause), self._settings.max_wait_seconds))
        raise AssertionError("the last attempt returns or raises")

    async def _get(self, url: URL) -> bytes:
        how = self._settings
        async with self._client.answer(url, self._robots.check if self._robots else None) as response:
            status, reason = response.status, response.reason or ""
            if status != 200:
                wait = _retry_after(response.headers) if status in AGAIN else None
                raise Lost(f"http_{status}", reason, wait)
            directive = opted_out(response.headers.getall("X-Robots-Tag", ()), self._agent, how.opt_outs)
            if directive:
                raise Lost("opted_out", f"X-Robots-Tag: {directive}")
            return await read_picture(response, how.max_bytes)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait, as a number or a date; 0 if it does not."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
