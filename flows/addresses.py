"""Where the pages are: the ports that `make ui` prefers, and the ones it found free and wrote down."""

import json
import urllib.error
import urllib.request
from pathlib import Path

from blip.errors import BlipError
from blip.ports import HOST, PORTS, is_free

ANNOUNCED = Path(".blip/ui.json")
TRIED_PORTS = 20


def address(name: str) -> str:
    """The address of a page, as announced by a running `make ui`, or the one it would prefer."""
    return announced().get(name, f"http://{HOST}:{PORTS[name]}")


def announced() -> dict[str, str]:
    """The addresses that the last `make ui` wrote down and has not taken back."""
    return json.loads(ANNOUNCED.read_text(encoding="utf-8")) if ANNOUNCED.is_file() else {}


def running_prefect() -> str | None:
    """The API of this project's Prefect server, when `make ui` runs one."""
    api = announced().get("prefect", "") + "/api"
    return api if api != "/api" and answers(f"{api}/health") else None


def answers(url: str, timeout: float = 2.0) -> bool:
    """Whether a GET of `url` succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def free_port(name: str) -> int:
    """The preferred port of a page, or the next one that is free.

    Raises:
        BlipError: none of the ports tried is free.
    """
    preferred = PORTS[name]
    for port in range(preferred, preferred + TRIED_PORTS):
        if is_free(port):
            return port
    last = preferred + TRIED_PORTS - 1
    raise BlipError(
        f"ports {preferred} to {last} are all in use, so {name} cannot start; end what holds one of them"
    )
