"""The server of `blip app`: one page on one port, of which nothing is left behind.

    serve(build, "127.0.0.1", 7860, max_bytes=20 << 20, ready=print)

It asks nothing of the network: no analytics, no version check, no fonts of elsewhere, no public link.
"""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from blip.errors import BlipError
from blip.signals import end_by_signals

if TYPE_CHECKING:
    from gradio import Blocks
    from starlette.types import ASGIApp

WAITING = 32  # questions in the queue, beside the one that is answered
BESIDE = 1 << 20  # bytes of a request beside the picture in it
LEAVE_SECONDS = 2  # for what is being answered when the server is to end
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
STYLE = Path(__file__).parent / "templates" / "app.css"


def serve(
    build: "Callable[[Path], Blocks]", host: str, port: int, max_bytes: int, ready: Callable[[str], None]
) -> None:
    """Serve a page until SIGTERM or Ctrl-C.

    Args:
        build: makes the page; what it puts into the folder that it is given goes with the server.
        port: 0 for one that is free.
        max_bytes: of an uploaded file.
        ready: is told the address when the page can be opened.

    Raises:
        BlipError: the port is taken, or the host is no address of this machine.
    """
    with listening(host, port) as open_socket, suppress(KeyboardInterrupt):
        end_by_signals()
        with TemporaryDirectory(prefix="blip-app-") as folder:
            os.environ |= QUIET | {"GRADIO_TEMP_DIR": folder}
            page = build(Path(folder))
            _run(guarded(page, host, max_bytes), open_socket, lambda: ready(address(open_socket)))


def listening(host: str, port: int) -> socket.socket:
    """A socket on that address. Raises BlipError where there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise BlipError(
            f"nothing can listen on {host}, port {port}: {reason}; name another --port, or --host"
        ) from None


def address(open_socket: socket.socket) -> str:
    """Where a browser on this machine finds the page."""
    host, port = open_socket.getsockname()[:2]
    here = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{here}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def guarded(page: "Blocks", host: str, max_bytes: int) -> "ASGIApp":
    """The application that serves a page."""
    from fastapi import FastAPI
    from gradio import mount_gradio_app, themes
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from blip.serving.guard import Guard

    theme = themes.Default(
        primary_hue="teal",
        secondary_hue="amber",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300")
    mounted = mount_gradio_app(
        FastAPI(openapi_url=None),
        page.queue(max_size=WAITING, api_open=False),
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=max_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme,
        css_paths=STYLE,
    )
    # Mounted it never says so, and until it does gradio reads any file that a client names.
    page.has_launched = True
    if is_loopback(host):  # a name of elsewhere that leads here is a page that asks in its visitor's place
        mounted.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", host])
    return Guard(mounted, max_bytes + BESIDE)


def _run(app: "ASGIApp", open_socket: socket.socket, ready: Callable[[], None]) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(
        app, log_level="warning", ws="none", timeout_graceful_shutdown=LEAVE_SECONDS, server_header=False
    )
    Server(config).run(sockets=[open_socket])
