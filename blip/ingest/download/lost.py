"""Why a URL gave no picture: a reason code, and whether another try may help."""

from __future__ import annotations

import socket

import aiohttp

from blip.ingest.download.address import RefusedAddress

UNREACHED = frozenset({"dns", "connect", "timeout"})  # what a machine without a network finds everywhere
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})  # how a server says that another time it might
PASSING = UNREACHED | {f"http_{status}" for status in BUSY}  # what may be otherwise another day
BAD_URL, REFUSED_ADDRESS, BAD_RESPONSE = "bad_url", "refused_address", "bad_response"
UNASKED = frozenset({BAD_URL, REFUSED_ADDRESS})  # what is refused before a server is asked
# What a request raises; UnicodeError is for names no DNS has
ERRORS = (aiohttp.ClientError, OSError, ValueError)


class Lost(Exception):
    """A URL that gave no picture.

    Attributes:
        reason: a code: `bad_url`, `refused_address`, `dns`, `connect`, `tls`, `timeout`, `http_404` and its like,
            `bad_response`, `too_many_redirects`, `too_large`, `truncated`, `encoding`, `not_an_image`, `empty`,
            `opted_out`, `robots`.
        wait: seconds after which another try may help; None where none does.
    """

    def __init__(self, reason: str, detail: str, wait: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.wait = reason, detail, wait


def meaning_of(error: Exception) -> Lost:
    """What one of ERRORS says of a URL."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, RefusedAddress):
        return Lost(REFUSED_ADDRESS, f"{cause}; ingest.download.networks allows for one")
    detail = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Lost("dns", detail, wait=0 if getattr(cause, "errno", None) == socket.EAI_AGAIN else None)
    return next(Lost(reason, detail, wait) for kinds, reason, wait in _MEANINGS if isinstance(error, kinds))


_MEANINGS: list[tuple[type[Exception] | tuple[type[Exception], ...], str, float | None]] = [
    (TimeoutError, "timeout", 0),
    (aiohttp.ClientSSLError, "tls", None),
    (aiohttp.ClientPayloadError, "truncated", 0),
    (aiohttp.ClientResponseError, BAD_RESPONSE, None),
    ((aiohttp.ClientConnectionError, OSError), "connect", 0),
    (ValueError, BAD_URL, None),
    (Exception, "connect", 0),
]
