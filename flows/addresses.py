"""Where the pages are: the ports that `make ui` prefers, and the ones it found free and wrote down."""

import json
import os
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from blip.credentials import asking, shown
from blip.errors import BlipError
from blip.lock import is_held, lock
from blip.ports import HOST, PORTS, is_free

ANNOUNCED = Path(".blip/ui.json")
UP = Path(".blip/ui.lock")  # held for as long as the pages are up
TRIED_PORTS = 20


def address(name: str) -> str:
    """The address of a page: as announced by a running `make ui`, of a server that is named, or as it would prefer.

    In this order: a run has its own server named, which ends with it.
    """
    return announced().get(name) or _named(name) or f"http://{HOST}:{PORTS[name]}"


def _named(name: str) -> str:
    """The pages of the server that the environment names for them; "" where it names none."""
    if name == "prefect":
        return page_of(named_prefect() or "")
    named = os.environ.get("MLFLOW_TRACKING_URI", "")
    return shown(named) if name == "mlflow" and named.startswith("http") else ""


def announced() -> dict[str, str]:
    """The addresses that a running `make ui` wrote down; those of one that was killed may be another project's now."""
    there = ANNOUNCED.is_file() and is_held(UP)
    return json.loads(ANNOUNCED.read_text(encoding="utf-8")) if there else {}


def named_prefect() -> str | None:
    """The API that PREFECT_API_URL names. Raises BlipError if that is no address."""
    api = os.environ.get("PREFECT_API_URL") or None
    if api and not api.startswith(("http://", "https://")):
        raise BlipError(f"PREFECT_API_URL={shown(api)} is no address; it is like http://HOST:4200/api")
    return api


def page_of(api: str) -> str:
    """Where the pages of a Prefect server are, without a password."""
    return shown(api).rstrip("/").removesuffix("/api")


def running_prefect() -> str | None:
    """The API of this project's Prefect server, when `make ui` runs one."""
    api = announced().get("prefect", "") + "/api"
    return api if api != "/api" and answers(f"{api}/health") else None


def answers(url: str, timeout: float = 2.0) -> bool:
    """Whether a GET of `url` succeeds; of what is no address it does not."""
    try:
        with urllib.request.urlopen(asking(url), timeout=timeout) as reply:
            return reply.status == 200
    except (OSError, HTTPException, ValueError):
        return False


def ask_own_servers_directly() -> None:
    """Have no proxy that the environment names asked for this machine's own servers: it cannot reach them.

    Before the first of them is asked; the processes that are started here know it then too.
    """
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in named.split(",") if host.strip()]
    if "*" not in hosts:  # urllib knows it only where it stands alone
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(dict.fromkeys([*hosts, HOST, "localhost"]))


@contextmanager
def reserved_port(name: str) -> Iterator[int]:
    """The preferred port of a page, or the next one that is free, kept from other projects' servers meanwhile.

    A server takes seconds until it listens; a lock file says that the port is spoken for.

    Raises:
        BlipError: none of the ports tried is free.
    """
    preferred = PORTS[name]
    for port in range(preferred, preferred + TRIED_PORTS):
        with _lock_of(port) as is_ours:
            if is_ours and is_free(port):
                yield port
                return
    last = preferred + TRIED_PORTS - 1
    raise BlipError(
        f"ports {preferred} to {last} are all in use, so {name} cannot start; end what holds one of them"
    )


@contextmanager
def _lock_of(port: int) -> Iterator[bool]:
    try:
        handle = (Path(tempfile.gettempdir()) / f"blip-port-{port}-{os.getuid()}.lock").open("w")
    except OSError:
        yield False
        return
    with handle:
        yield lock(handle, wait=False)
