"""The server of these tests in a thread of its own."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from blip.config import Download

from .server import SEEN, make


@dataclass(frozen=True)
class Server:
    url: str
    seen: Counter


@pytest.fixture
def server() -> Iterator[Server]:
    """Every test has its own, with counts that begin at nothing."""
    loop, app = asyncio.new_event_loop(), make()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner.addresses[0][1]

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield Server(f"http://127.0.0.1:{port}", app[SEEN])
    asyncio.run_coroutine_threadsafe(_end(runner), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


async def _end(runner: web.AppRunner) -> None:
    await runner.cleanup()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@pytest.fixture
def settings() -> Download:
    """This machine allowed, and patience with it: a busy one may take its time."""
    return Download.model_validate(
        {
            "networks": ["127.0.0.1"],
            "connect_seconds": 10,
            "read_seconds": 10,
            "total_seconds": 60,
            "retries": 1,
            "backoff_seconds": 0.01,
            "max_bytes": 1_000_000,
        }
    )


@pytest.fixture
def hasty(settings: Download) -> Download:
    """Little patience, for servers that take for ever."""
    return settings.model_copy(update={"connect_seconds": 1.0, "read_seconds": 0.5, "total_seconds": 1.5})


@pytest.fixture
def no_such_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name server is asked for what is no address: there may be none, or one that takes its time."""
    real = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **more: Any) -> Any:
        if host.endswith((".invalid", ".test")):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
