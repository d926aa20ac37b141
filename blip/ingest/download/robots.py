"""The robots.txt of sites, each read once.

robots = Robots(client, agent="blip")
await robots.check(url)                  # raises Lost where it forbids the URL
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from protego import Protego
from yarl import URL

from blip.ingest.download.body import read_text
from blip.ingest.download.client import Client
from blip.ingest.download.lost import BAD_URL, Lost

LONGEST = 512 << 10  # bytes; RFC 9309 asks readers to take 500 KiB at least
SECONDS = 30.0  # that reading one may take
SITES = 10_000  # whose rules are kept


class Robots:
    """The rules of the sites met last."""

    def __init__(self, client: Client, agent: str) -> None:
        self._client, self._agent = client, agent
        self._sites: OrderedDict[str, asyncio.Task[Protego]] = OrderedDict()

    async def check(self, url: URL) -> None:
        """See that the site's rules allow a URL.

        Raises:
            Lost: they do not, or the site does not answer.
        """
        rules = await self._rules(url.origin())
        if not rules.can_fetch(str(url), self._agent):
            raise Lost("robots", f"{url.origin()}/robots.txt forbids it")

    async def _rules(self, site: URL) -> Protego:
        task = self._sites.get(str(site))
        if task is None:
            task = self._sites[str(site)] = asyncio.create_task(self._read(site / "robots.txt"))
            if len(self._sites) > SITES:
                self._sites.popitem(last=False)
        self._sites.move_to_end(str(site))
        try:
            return await asyncio.shield(task)
        except Lost as lost:
            if lost.wait is not None and self._sites.get(str(site)) is task:
                del self._sites[str(site)]  # the next try asks again
            raise

    async def _read(self, url: URL) -> Protego:
        try:
            async with asyncio.timeout(SECONDS) as limit, self._client.answer(url, limit) as response:
                return rules_of(response.status, await read_text(response, LONGEST))
        except TimeoutError:
            raise Lost("timeout", f"{url} took over {SECONDS:g} s") from None
        except Lost as lost:
            if lost.reason in ("too_many_redirects", BAD_URL):  # RFC 9309: as if there were none
                return rules_of(404, "")
            raise


def rules_of(status: int, text: str) -> Protego:
    """The rules of a robots.txt: without one everything is allowed, with a server error nothing (RFC 9309)."""
    if status >= 500:
        return Protego.parse("User-agent: *\nDisallow: /")
    return Protego.parse(text if status == 200 else "")
