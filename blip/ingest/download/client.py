"""One request and its redirects, each of them judged alike.

    async with open_client(settings) as client, asyncio.timeout(60) as limit:
        async with client.answer(read_url("http://example.org/cat.jpg"), limit) as response: ...

No proxy of the environment, no cookies, no body unpacked unasked.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from blip.config import Download
from blip.ingest.download.address import PublicResolver, check_host, public_sockets, read_networks
from blip.ingest.download.hosts import Hosts
from blip.ingest.download.lost import BAD_URL, ERRORS, Lost, meaning_of

SCHEMES = ("http", "https")
REDIRECTS = frozenset({301, 302, 303, 307, 308})
LONGEST = 8192  # characters of a URL
LOOKUPS = 64  # names resolved at a time; a dead one holds a thread for seconds
KEPT = 300  # seconds that a name's addresses are remembered

Check = Callable[[URL], Awaitable[None]]


def read_url(text: str) -> URL:
    """A URL that may be asked for, without user, password and fragment.

    Raises:
        Lost: it is none, or not of http or https.
    """
    if len(text) > LONGEST:
        raise Lost(BAD_URL, f"{len(text):,} characters, over {LONGEST:,}")
    try:
        text.encode()  # half a surrogate pair: no address, and nothing a dataset can hold
        url = URL(text.strip())
        host = url.host
    except ValueError as error:
        raise Lost(BAD_URL, str(error)) from None
    if url.scheme not in SCHEMES or not host:
        raise Lost(BAD_URL, f"scheme {url.scheme!r}, host {host or ''!r}: only http and https are fetched")
    return url.with_user(None).with_fragment(None)


@asynccontextmanager
async def open_client(settings: Download) -> AsyncIterator[Client]:
    """A client with connections of its own, kept while they are of use; a name is resolved once."""
    networks = read_networks(settings.networks)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(LOOKUPS, "resolve"))
    connector = aiohttp.TCPConnector(
        resolver=PublicResolver(networks),
        socket_factory=public_sockets(networks),
        limit=0,  # `Hosts` and the number of tasks are the limits
        ttl_dns_cache=KEPT,
        family=socket.AF_UNSPEC,
    )
    timeout = aiohttp.ClientTimeout(connect=settings.connect_seconds, sock_read=settings.read_seconds)
    headers = {
        "User-Agent": f"Mozilla/5.0 (compatible; {settings.agent})",
        "Accept": "image/*",
        "Accept-Encoding": "identity",
    }
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    ) as session:
        yield Client(session, settings)


class Client:
    """Asks for any number of URLs at a time."""

    def __init__(self, session: aiohttp.ClientSession, settings: Download) -> None:
        self._session, self._redirects = session, settings.max_redirects
        self._networks = read_networks(settings.networks)
        self._hosts = Hosts(settings.connections_per_host, settings.seconds_between)

    @asynccontextmanager
    async def answer(
        self, url: URL, limit: asyncio.Timeout, check: Check | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response at the end of the redirects; `check` is asked before each request.

        The time spent waiting for a turn at a host is our own doing: `limit` stands still meanwhile.

        Raises:
            Lost: there is none, or it must not be fetched; also for what goes wrong while it is read.
        """
        try:
            for _ in range(self._redirects + 1):
                host = url.host or ""
                check_host(host, self._networks)
                if check:
                    await check(url)
                async with (
                    self._turn(host, limit),
                    self._session.get(url, allow_redirects=False) as response,
                ):
                    location = response.headers.get("Location") if response.status in REDIRECTS else None
                    if location is None:
                        yield response
                        return
                url = _join(url, location)
        except ERRORS as error:
            raise meaning_of(error) from None
        raise Lost("too_many_redirects", f"more than {self._redirects}, the last to {url}"[:300])

    @asynccontextmanager
    async def _turn(self, host: str, limit: asyncio.Timeout) -> AsyncIterator[None]:
        loop, end = asyncio.get_running_loop(), limit.when()
        left = None if end is None else end - loop.time()
        limit.reschedule(None)
        async with self._hosts.turn(host):
            limit.reschedule(None if left is None else loop.time() + left)
            yield


def _join(url: URL, location: str) -> URL:
    try:
        return read_url(str(url.join(URL(location))))
    except (ValueError, Lost) as error:
        raise Lost(BAD_URL, f"redirected to {location[:200]!r}: {error}") from None
