"""Politeness: how many connections one host gets at a time, and how far apart requests to it begin.

async with hosts.turn("example.org"):
    ...
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass
class _Host:
    places: asyncio.Semaphore
    waiting: int = 0
    next_start: float = 0.0


class Hosts:
    """Hosts are known only while somebody uses or has just used them."""

    def __init__(self, connections: int, delay: float = 0.0) -> None:
        """`delay`: least seconds between the starts of two requests to a host."""
        self._connections, self._delay = connections, delay
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait for a place at a host and hold it."""
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(asyncio.Semaphore(self._connections))
        host.waiting += 1
        try:
            async with host.places:
                if self._delay:
                    await self._start(host)
                yield
        finally:
            host.waiting -= 1
            self._forget(name)

    async def _start(self, host: _Host) -> None:
        now = asyncio.get_running_loop().time()
        start = max(now, host.next_start)
        host.next_start = start + self._delay
        await asyncio.sleep(start - now)

    def _forget(self, name: str) -> None:
        host = self._hosts.get(name)
        if host is None or host.waiting:
            return
        loop = asyncio.get_running_loop()
        if host.next_start > loop.time():
            loop.call_at(host.next_start + self._delay, self._forget, name)
        else:
            del self._hosts[name]
