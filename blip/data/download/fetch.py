"""One URL at a time, with everything that a server may do: redirects, delays, endless bodies, false types.

async with Fetcher(settings) as fetcher:
    data = await fetcher.fetch("https://example.org/cat.jpg")       # raises Lost
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from protego import Protego
from yarl import URL

from blip.config import Download
from blip.data.download.address import PublicResolver, RefusedAddress, check_url, read_networks
from blip.data.download.optout import opted_out, read_robots
from blip.data.download.sniff import SURE, extension_of

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
CHUNK = 1 << 16
ROBOTS_BYTES = 512 << 10  # what RFC 9309 asks readers to take at least


class Lost(Exception):
    """A URL that gave no picture.

    Attributes:
        reason: a code: `bad_url`, `refused_address`, `dns`, `connect`, `timeout`, `http_404` and its like,
            `too_many_redirects`, `too_large`, `truncated`, `encoding`, `not_an_image`, `empty`, `opted_out`,
            `robots`.
        wait: seconds after which another try may help; None where none does.
    """

    def __init__(self, reason: str, detail: str, wait: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.wait = reason, detail, wait


@dataclass
class Host:
    """What is known of a host: how many connections are left to it, its robots.txt."""

    free: asyncio.Semaphore
    rules: dict[str, Protego] = field(default_factory=dict)
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Fetcher:
    """Fetches pictures; connections are kept, names resolved once, no cookies, no proxy of the environment."""

    def __init__(self, settings: Download) -> None:
        self._settings = settings
        self._networks = read_networks(settings.networks)
        self._hosts: dict[str, Host] = {}

    async def __aenter__(self) -> Fetcher:
        how = self._settings
        connector = aiohttp.TCPConnector(
            resolver=PublicResolver(self._networks),
            limit=how.connections,
            ttl_dns_cache=300,
            family=socket.AF_UNSPEC,
        )
        timeout = aiohttp.ClientTimeout(
            total=how.total_seconds, sock_connect=how.connect_seconds, sock_read=how.read_seconds
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={
                "User-Agent": f"Mozilla/5.0 (compatible; {how.agent})",
                "Accept": "image/*",
                "Accept-Encoding": "identity",
            },
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def fetch(self, url: str) -> bytes:
        """The picture at a URL, tried again where that may help.

        Raises:
            Lost: there is none, or it must not be fetched.
        """
        for attempt in range(self._settings.retries + 1):
            try:
                return await self._follow(url)
            except Lost as lost:
                if lost.wait is None or attempt == self._settings.retries:
                    raise
                pause = self._settings.backoff_seconds * 2**attempt * random.uniform(0.5, 1.5)
                await asyncio.sleep(min(max(lost.wait, pause), self._settings.max_wait_seconds))
        raise AssertionError("the last attempt returns or raises")

    async def _follow(self, text: str) -> bytes:
        url = _parse(text)
        for _ in range(self._settings.max_redirects + 1):
            try:
                check_url(url, self._networks)
            except RefusedAddress as error:
                raise Lost("refused_address", str(error)) from None
            host = self._host(url)
            if self._settings.robots_txt:
                await self._ask_robots(url, host)
            async with host.free:
                found = await self._get(url)
            if isinstance(found, bytes):
                return found
            url = found
        raise Lost("too_many_redirects", f"more than {self._settings.max_redirects}, the last to {url}"[:300])

    async def _get(self, url: URL) -> bytes | URL:
        """The body, or where it is said to be."""
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status in REDIRECTS and "Location" in response.headers:
                    return _join(url, response.headers["Location"])
                self._check(response)
                return await self._read(response)
        except TimeoutError as error:
            raise Lost("timeout", str(error) or f"{url} took too long", wait=0) from None
        except aiohttp.ClientPayloadError as error:
            raise Lost("truncated", f"the body ended early: {error}", wait=0) from None
        except aiohttp.InvalidURL as error:
            raise Lost("bad_url", str(error)) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _unreached(error) from None

    def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raises Lost for what the status and the headers say already."""
        status, how = response.status, self._settings
        if status in AGAIN:
            raise Lost(f"http_{status}", response.reason or "", wait=_retry_after(response.headers))
        if status != 200:
            raise Lost(f"http_{status}", response.reason or "")
        directive = opted_out(response.headers.getall("X-Robots-Tag", ()), how.agent, how.opt_outs)
        if directive:
            raise Lost("opted_out", f"X-Robots-Tag: {directive}")
        if (response.content_length or 0) > how.max_bytes:
            raise Lost(
                "too_large", f"{response.content_length:,} bytes are announced, {how.max_bytes:,} allowed"
            )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, as long as it begins like a picture and stays within the limit, compressed or not."""
        unpack = _unpacker(response.headers.get("Content-Encoding", ""))
        body, limit = bytearray(), self._settings.max_bytes
        async for chunk in response.content.iter_chunked(CHUNK):
            body += _unpacked(unpack, chunk, limit + 1 - len(body)) if unpack else chunk
            if len(body) > limit:
                raise Lost("too_large", f"more than the {limit:,} bytes allowed")
            if len(body) >= SURE and not extension_of(body):
                break
        if not body:
            raise Lost("empty", "0 bytes")
        if not extension_of(body):
            said = response.headers.get("Content-Type", "no type")
            raise Lost("not_an_image", f"{said}, begins with {bytes(body[:16])!r}")
        return bytes(body)

    def _host(self, url: URL) -> Host:
        name = url.host or ""
        if name not in self._hosts:
            self._hosts[name] = Host(asyncio.Semaphore(self._settings.connections_per_host))
        return self._hosts[name]

    async def _ask_robots(self, url: URL, host: Host) -> None:
        """Raises Lost where robots.txt forbids the URL; it is read once for each host and port."""
        origin = str(url.origin())
        async with host.reading:
            if origin not in host.rules:
                host.rules[origin] = await self._read_robots(url.origin() / "robots.txt")
        if not host.rules[origin].can_fetch(str(url), self._settings.agent):
            raise Lost("robots", f"{origin}/robots.txt forbids it")

    async def _read_robots(self, url: URL) -> Protego:
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                return read_robots(response.status, await response.content.read(ROBOTS_BYTES))
        except (TimeoutError, aiohttp.ClientError, OSError):
            return read_robots(503, b"")


def _unreached(error: Exception) -> Lost:
    """What an error on the way to a server means."""
    cause = getattr(error, "os_error", None) or error.__cause__
    if isinstance(cause, RefusedAddress):
        return Lost("refused_address", str(cause))
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Lost("dns", str(error))
    return Lost("connect", f"{type(error).__name__}: {error}", wait=0)


def _parse(text: str) -> URL:
    try:
        url = URL(text)
        return url.with_user(None) if url.user else url
    except (ValueError, TypeError) as error:
        raise Lost("bad_url", f"{text[:200]!r}: {error}") from None


def _join(url: URL, location: str) -> URL:
    try:
        return url.join(_parse(location)).with_fragment(None)
    except ValueError as error:
        raise Lost("bad_url", f"redirected to {location[:200]!r}: {error}") from None


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait, as a number or a date; 0 if it does not."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _unpacker(encoding: str) -> Any:
    """What undoes a Content-Encoding that was not asked for, a bounded piece at a time."""
    if encoding.lower() in ("", "identity"):
        return None
    if encoding.lower() in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32)
    raise Lost("encoding", f"the body is encoded as {encoding[:40]}")


def _unpacked(unpack: Any, chunk: bytes, limit: int) -> bytes:
    try:
        return unpack.decompress(chunk, limit)
    except zlib.error as error:
        raise Lost("encoding", f"the compressed body is damaged: {error}") from None
