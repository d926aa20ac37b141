"""The body of a response, as long as it begins like a picture and stays within the limit, compressed or not."""

from __future__ import annotations

import zlib
from typing import Any

from aiohttp import ClientResponse

from blip.ingest.download.lost import Lost
from blip.ingest.download.sniff import SURE, extension_of


async def read_picture(response: ClientResponse, limit: int) -> bytes:
    """The picture that a response brings; its Content-Type does not count, its first bytes do.

    Raises:
        Lost: it is none, or has more than `limit` bytes, announced or sent, packed or unpacked.
    """
    if (response.content_length or 0) > limit:
        raise Lost("too_large", f"{response.content_length:,} bytes are announced, {limit:,} allowed")
    unpack = _unpacker(response.headers.get("Content-Encoding", ""))
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += _unpacked(unpack, chunk, limit + 1 - len(body)) if unpack else chunk
        if len(body) > limit:
            raise Lost("too_large", f"more than the {limit:,} bytes allowed")
        if len(body) >= SURE and not extension_of(body):
            break
        if unpack and unpack.eof:  # what follows is no part of it, and zlib would keep all of it
            break
    if not body:
        raise Lost("empty", "0 bytes")
    if not extension_of(body):
        said = response.headers.get("Content-Type", "no type")
        raise Lost("not_an_image", f"{said}, begins with {bytes(body[:16])!r}")
    if unpack and not unpack.eof:
        raise Lost("truncated", f"the compressed body ends after {len(body):,} bytes", wait=0)
    return bytes(body)


async def read_text(response: ClientResponse, limit: int) -> str:
    """The first `limit` bytes of a response as text."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= limit:
            break
    return bytes(body[:limit]).decode("utf-8", "replace")


def _unpacker(encoding: str) -> Any:
    """What undoes a Content-Encoding that was not asked for, a bounded piece at a time."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32)
    raise Lost("encoding", f"the body is encoded as {encoding[:40]}")


def _unpacked(unpack: Any, chunk: bytes, limit: int) -> bytes:
    try:
        return unpack.decompress(chunk, limit)
    except zlib.error as error:
        raise Lost("encoding", f"the compressed body is damaged: {error}") from None
