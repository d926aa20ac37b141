"""What the page's server does not let through: uploads without end, and requests that would have it fetch addresses.

gradio bounds each file and not their number, and opens a picture that a client names by its address.
"""

import json
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FETCHING = ("/file=http", "/proxy=")
TOO_MUCH = "the request has more than {most:,} bytes"
ADDRESS = "a picture is uploaded: this page fetches no addresses"


class Guard:
    """An ASGI application in front of another one."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is refused; hand on the rest as it came."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if any(part in scope["path"] for part in FETCHING):
            return await PlainTextResponse(ADDRESS, 403)(scope, receive, send)
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return await self.app(scope, receive, send)
        messages = await self._body(receive)
        if messages is None:
            refusal = PlainTextResponse(TOO_MUCH.format(most=self.max_bytes), 413)
            return await refusal(scope, receive, send)
        if names_address(b"".join(message.get("body", b"") for message in messages)):
            return await PlainTextResponse(ADDRESS, 403)(scope, receive, send)
        waiting = iter(messages)

        async def again() -> Message:
            return next(waiting, None) or await receive()

        return await self.app(scope, again, send)

    async def _body(self, receive: Receive) -> list[Message] | None:
        """The messages of a request; None where they have too many bytes."""
        messages, size, more = [], 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.max_bytes:
                return None
            messages.append(message)
            more = message.get("more_body", False)
        return messages


def names_address(body: bytes) -> bool:
    """Whether a request in JSON names a file by an address of the web."""
    try:
        return _has_address(json.loads(body))
    except RecursionError:
        return True  # it is no request of ours in any case
    except ValueError:
        return False  # an upload


def _has_address(value: Any) -> bool:
    if isinstance(value, dict):
        path = value.get("path")
        address = isinstance(path, str) and path.strip().lower().startswith(("http:", "https:"))
        return address or any(map(_has_address, value.values()))
    return isinstance(value, list) and any(map(_has_address, value))
