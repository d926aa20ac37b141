"""A server that does what servers do, on loopback; `python -m tests.ingest.download.server PORT_FILE` runs it alone.

/good/7.jpg                 a picture, another for each number
/fault/KIND/7.jpg           everything else: see FAULTS
"""

import asyncio
import gzip
import io
import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
from aiohttp import web
from PIL import Image

SIDE, DIFFERENT = 256, 256
HTML = b"<html><body>this picture has moved</body></html>"
SEEN = web.AppKey("seen", Counter)


def picture(number: int) -> bytes:
    """A JPEG of coarse patches and some grain, another for each number below DIFFERENT."""
    return _picture(number % DIFFERENT)


@lru_cache(maxsize=DIFFERENT)
def _picture(number: int) -> bytes:
    random = np.random.default_rng(number)
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = random.integers(-12, 13, (SIDE, SIDE, 1))
    buffer = io.BytesIO()
    Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


async def good(request: web.Request) -> web.Response:
    """The picture of a number."""
    request.app[SEEN][request.path] += 1
    return web.Response(body=picture(int(request.match_info["number"])), content_type="image/jpeg")


async def fault(request: web.Request) -> web.StreamResponse:
    """One of FAULTS."""
    request.app[SEEN][request.path] += 1
    number, tries = int(request.match_info["number"]), request.app[SEEN][request.path]
    try:
        return await FAULTS[request.match_info["kind"]](request, picture(number), tries)
    except ConnectionError:  # the other side has had enough
        return web.Response()


async def _missing(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    return web.Response(status=404)


async def _once_busy(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    return web.Response(status=503) if tries == 1 else web.Response(body=data, content_type="image/jpeg")


async def _asks_to_wait(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    if tries == 1:
        return web.Response(status=429, headers={"Retry-After": "1"})
    return web.Response(body=data, content_type="image/jpeg")


async def _asks_for_a_minute(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    if tries == 1:
        return web.Response(status=429, headers={"Retry-After": "60"})
    return web.Response(body=data, content_type="image/jpeg")


async def _always_busy(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    return web.Response(status=500)


async def _silent(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response(status=500)


async def _drip(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "image/jpeg", "Content-Length": str(len(data))})
    await response.prepare(request)
    for place in range(len(data)):
        await response.write(data[place : place + 1])
        await asyncio.sleep(0.2)
    return response


async def _endless(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
    await response.prepare(request)
    await response.write(data)
    while True:
        await response.write(b"\0" * 65536)


async def _announces_much(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "image/jpeg", "Content-Length": str(1 << 40)})
    await response.prepare(request)
    await response.write(data)
    return response


async def _html(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    return web.Response(body=HTML, content_type="image/jpeg")


async def _empty(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    return web.Response(body=b"", content_type="image/jpeg")


async def _half(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    return web.Response(body=data[: len(data) // 2], content_type="image/jpeg")


async def _breaks_off(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "image/jpeg", "Content-Length": str(len(data))})
    await response.prepare(request)
    await response.write(data[:1000])
    assert request.transport is not None
    request.transport.abort()
    return response


async def _hangs_up(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _packed_short(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    headers = {"Content-Encoding": "gzip", "Content-Type": "image/jpeg"}
    return web.Response(body=gzip.compress(data)[:-1000], headers=headers)


async def _told_a_password(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    return web.Response(status=401 if "Authorization" in request.headers else 200, body=data)


async def _packed(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    headers = {"Content-Encoding": "gzip", "Content-Type": "image/jpeg"}
    return web.Response(body=gzip.compress(data), headers=headers)


async def _packed_and_more(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Encoding": "gzip", "Content-Type": "image/jpeg"})
    await response.prepare(request)
    await response.write(gzip.compress(data))
    while True:
        await response.write(b"\0" * 65536)


@lru_cache(maxsize=1)
def _bomb() -> bytes:
    return gzip.compress(b"\xff\xd8\xff" + b"\0" * (64 << 20))


async def _bomb_of_zeros(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    return web.Response(body=_bomb(), headers={"Content-Encoding": "gzip", "Content-Type": "image/jpeg"})


async def _moved(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    raise web.HTTPFound(f"/good/{request.match_info['number']}.jpg")


async def _in_circles(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    raise web.HTTPFound(request.path)


async def _to_metadata(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    raise web.HTTPFound("http://169.254.169.254/latest/meta-data/")


async def _to_a_file(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    raise web.HTTPFound("file:///etc/passwd")


async def _noai(request: web.Request, data: bytes, tries: int) -> web.StreamResponse:
    return web.Response(body=data, headers={"X-Robots-Tag": "noai, noimageai"}, content_type="image/jpeg")


FAULTS = {
    "missing": _missing,
    "once_busy": _once_busy,
    "asks_to_wait": _asks_to_wait,
    "asks_for_a_minute": _asks_for_a_minute,
    "always_busy": _always_busy,
    "silent": _silent,
    "drip": _drip,
    "endless": _endless,
    "announces_much": _announces_much,
    "html": _html,
    "empty": _empty,
    "half": _half,
    "breaks_off": _breaks_off,
    "hangs_up": _hangs_up,
    "told_a_password": _told_a_password,
    "packed": _packed,
    "packed_short": _packed_short,
    "packed_and_more": _packed_and_more,
    "bomb": _bomb_of_zeros,
    "moved": _moved,
    "in_circles": _in_circles,
    "to_metadata": _to_metadata,
    "to_a_file": _to_a_file,
    "noai": _noai,
}
"""What may go wrong, by name."""

BECOMES = {
    "missing": "http_404",
    "once_busy": None,
    "asks_to_wait": None,
    "always_busy": "http_500",
    "silent": "timeout",
    "drip": "timeout",
    "endless": "too_large",
    "announces_much": "too_large",
    "html": "not_an_image",
    "empty": "empty",
    "half": "truncated",
    "breaks_off": "truncated",
    "hangs_up": "connect",
    "told_a_password": None,
    "packed": None,
    "packed_short": "truncated",
    "packed_and_more": None,
    "bomb": "too_large",
    "moved": None,
    "in_circles": "too_many_redirects",
    "to_metadata": "refused_address",
    "to_a_file": "bad_url",
    "noai": "opted_out",
}
"""The reason with which each is refused; None where it gives a picture in the end."""


async def robots(request: web.Request) -> web.StreamResponse:
    """Elsewhere, as of many sites; hangs up as often as the count of requests begins below nothing."""
    request.app[SEEN][request.path] += 1
    if request.app[SEEN][request.path] <= 0:
        return await _hangs_up(request, b"", 0)
    raise web.HTTPMovedPermanently("/rules.txt")


async def rules(request: web.Request) -> web.StreamResponse:
    """Forbids one picture, in two pieces."""
    response = web.StreamResponse()
    await response.prepare(request)
    for piece in (b"User-agent: *\nDisallow: /private\n", b"Disallow: /good/1.jpg\n"):
        await response.write(piece)
        await asyncio.sleep(0.05)
    return response


def make() -> web.Application:
    """The application; `app[SEEN]` counts the requests by path."""
    app = web.Application()
    app[SEEN] = Counter()
    _bomb()
    app.router.add_get("/good/{number:[0-9]+}.jpg", good)
    app.router.add_get("/fault/{kind}/{number:[0-9]+}.jpg", fault)
    app.router.add_get("/robots.txt", robots)
    app.router.add_get("/rules.txt", rules)
    return app


async def serve(port_file: Path) -> None:
    """Serve on a free port, which is written into a file, until killed."""
    for number in range(DIFFERENT):
        picture(number)  # made beforehand: a server sends files
    runner = web.AppRunner(make(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
    await site.start()
    port_file.write_text(str(runner.addresses[0][1]))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
