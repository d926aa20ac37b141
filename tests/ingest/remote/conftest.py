"""A server that lists a folder and hands out its files, and can be told to fail; what is asked of it is counted."""

import base64
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from blip.config import Download, Ingest, Source
from tests.ingest.sources.test_webdataset import write_img2dataset

SHARDS, PER_SHARD = 6, 7


@dataclass
class Server:
    """Files of `folder` at `url`.

    Attributes:
        seen: how often each name was asked for by GET.
        cut: how often a name's answer still ends halfway.
        longer: names of which more comes than HEAD tells.
        gone: names that are listed and no longer there.
        answers: statuses instead of files.
        busy: how often a name is still answered by 503, HEAD and GET alike.
        wait: what is said with it of when to ask again.
        refused: statuses of names, HEAD and GET alike.
        sent_to: where names are redirected to.
        held: names that wait for `free`.
        login: `user:password` that it asks for.
    """

    folder: Path
    url: str = ""
    seen: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    longer: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    answers: dict[str, int] = field(default_factory=dict)
    busy: Counter[str] = field(default_factory=Counter)
    wait: str = ""
    refused: dict[str, int] = field(default_factory=dict)
    sent_to: dict[str, str] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    free: threading.Event = field(default_factory=threading.Event)
    login: str = ""
    page: str = ""

    @property
    def fetched(self) -> dict[str, int]:
        """How often each shard was asked for."""
        return {name: count for name, count in sorted(self.seen.items()) if name.endswith(".tar")}


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args, server_of: Server, **more) -> None:
        self.told = server_of
        super().__init__(*args, directory=str(server_of.folder), **more)

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        if self._may() and not self._is_busy():
            super().do_HEAD()

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        self.told.seen[name] += 1
        if not self._may() or self._is_busy():
            return
        if name in self.told.held:
            self.told.free.wait(60)
        if name in self.told.gone:
            self.send_error(404)
        elif name in self.told.answers:
            self.send_error(self.told.answers[name])
        elif name in self.told.sent_to:
            self.send_response(302)
            self.send_header("Location", self.told.sent_to[name])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.told.page and not name:
            self._send(self.told.page.encode(), "text/html")
        elif self.told.cut[name] > 0:
            self.told.cut[name] -= 1
            data = (self.told.folder / name).read_bytes()
            self._send(data[: len(data) // 2], "application/x-tar", len(data))
            self.close_connection = True
        elif name in self.told.longer:
            self._send((self.told.folder / name).read_bytes() + b"\0" * 512, "application/x-tar")
        else:
            super().do_GET()

    def _send(self, data: bytes, kind: str, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length or len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _is_busy(self) -> bool:
        name = self.path.partition("?")[0].rpartition("/")[2]
        if self.told.busy[name] <= 0:
            return False
        self.told.busy[name] -= 1
        self.send_response(503)
        self.send_header("Content-Length", "0")
        if self.told.wait:
            self.send_header("Retry-After", self.told.wait)
        self.end_headers()
        return True

    def _may(self) -> bool:
        if status := self.told.refused.get(self.path.rpartition("/")[2]):
            self.send_error(status)
            return False
        wanted = "Basic " + base64.b64encode(self.told.login.encode()).decode()
        if self.told.login and self.headers.get("Authorization") != wanted:
            self.send_error(401)
            return False
        return True


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Six shards of seven pictures."""
    told = Server(tmp_path / "laion")
    write_img2dataset(told.folder, SHARDS, PER_SHARD)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, server_of=told)) as http:
        told.url = f"http://127.0.0.1:{http.server_address[1]}/"
        thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield told
        told.free.set()
        http.shutdown()
        thread.join()


@pytest.fixture
def settings() -> Ingest:
    """Shards of five samples, and little patience."""
    patience = Download.model_validate({"retries": 2, "backoff_seconds": 0.01})
    return Ingest(samples_per_shard=5, download=patience, datasets={})


def remote(url: str, **fields: object) -> Source:
    values = {"source": url, "kind": "webdataset", "origin": "web", "role": "train"}
    return Source.model_validate(values | fields)
