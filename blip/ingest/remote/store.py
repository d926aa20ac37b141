"""A store: which tars it has, and one of them at a time on this disk.

    store = Store.open(source, settings.download)
    for shard in store.shards(): store.fetch(shard, folder / "0.tar", stop)

By http a folder is the page that lists it, whose links below it count, no pages below; of others all that lies below
is read, as on a disk. Redirects lead to public addresses, or to those of the host that was named. What `settings` say
of tries and patience is theirs here, too: `retries`, `backoff_seconds`, `connect_seconds`, `read_seconds`, `networks`.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast
from urllib.parse import unquote, urlsplit

import aiohttp
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from blip.config import Download, Source
from blip.credentials import scrubbed
from blip.data.archive import is_unsafe_name
from blip.errors import BlipError
from blip.ingest.download.address import PublicResolver, RefusedAddress, public_sockets, read_networks
from blip.ingest.download.fetch import retry_after
from blip.ingest.remote.address import SIGNED, asked, check, is_one, missing_client, protocol_of
from blip.ingest.sources.webdataset import is_packed, is_tar, see_that_one_is_read

CHUNK = 16 << 20  # bytes that are asked for at a time
QUESTIONS = 16  # at a time, about sizes
TAGS = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "Last-Modified",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
)
FOR_GOOD = (FileNotFoundError, PermissionError)
GONE = (404, 410)  # statuses of what is not there
Answer = TypeVar("Answer")


class Shard(NamedTuple):
    """A tar of a store: its name below the source, its path for the store, bytes if they are told, and its version."""

    name: str
    path: str
    size: int | None
    tag: str

    @property
    def leads_out(self) -> bool:
        """Whether its name is that of something outside its folder."""
        return is_unsafe_name(self.name)

    @property
    def is_packed(self) -> bool:
        """Whether it is a compressed tar, which is not read."""
        return is_packed(self.name)


class Unfetched(Exception):
    """A shard, or what a store says of it, that did not come; the message says why, the cause is the last error."""


class Stopped(Exception):
    """Nobody wants the shard any more."""


@dataclass(frozen=True)
class Store:
    """The folder of a store that a source names, or its one tar."""

    source: Source
    root: str
    _files: AbstractFileSystem
    _patience: Download

    @classmethod
    def open(cls, source: Source, patience: Download) -> Store:
        """Nothing is asked yet, or as good as nothing.

        Raises:
            BadArguments: the source is none that is fetched.
            BlipError: the package is missing that reads it, or its host is not known.
        """
        check(source)
        more = _for_http(source, patience) if protocol_of(source) in SIGNED else {}
        try:
            files, root = url_to_fs(asked(source), skip_instance_cache=True, **more)
        except ImportError:
            raise missing_client(source) from None
        except Exception as error:  # each client raises its own
            raise _unreachable(source, error) from None
        return cls(source, root if is_one(source) else root.rstrip("/"), files, patience)

    def names(self) -> list[str]:
        """Names of the tars below the source, in the order in which they are read.

        Raises:
            BlipError: the store does not answer, or has no tar there.
        """
        return [name for name, _ in self._tars()]

    def shards(self) -> list[Shard]:
        """The tars with what tells whether they have changed; of one that is gone or is refused nothing does.

        Raises:
            BlipError: the store does not answer, for a folder or one of its tars, refuses all, or has no tar there.
        """
        found = self._tars()
        with ThreadPoolExecutor(QUESTIONS) as threads:
            told = list(threads.map(self._told, found))
        refused = [info for info in told if isinstance(info, Unfetched)]
        if len(refused) == len(found):
            raise _unreachable(self.source, refused[0], found[0][0])
        told = [
            info if isinstance(info, dict) else known for (_, known), info in zip(found, told, strict=True)
        ]
        return [
            Shard(
                name,
                info["name"],
                info.get("size"),
                next((str(info[tag]) for tag in TAGS if info.get(tag)), ""),
            )
            for (name, _), info in zip(found, told, strict=True)
        ]

    def fetch(self, shard: Shard, target: Path, stop: Event) -> None:
        """Copy a shard to a file of this disk, with several tries; `stop` ends it.

        Raises:
            Unfetched: it did not come, or is not of the size that was listed.
            BlipError: this disk has no room for it.
        """
        size = self._size_of(shard)
        _see_room(target.parent, shard.name, size)
        self._patiently(lambda: self._copy(shard, size, target, stop), stop)

    def _patiently(self, ask: Callable[[], Answer], stop: Event) -> Answer:
        """What a question gives, asked several times if need be. Raises Unfetched from the last error, Stopped."""
        tries = self._patience.retries + 1
        for number in range(tries):
            try:
                return ask()
            except FOR_GOOD as error:
                raise Unfetched(_why(error)) from error
            except (BlipError, Stopped):
                raise
            except Exception as error:  # each client raises its own
                if number + 1 == tries or _is_final(error):
                    raise Unfetched(f"{_why(error)} (asked {number + 1} time(s))") from error
                asked = retry_after(getattr(error, "headers", None) or {})
            wait = max(self._patience.backoff_seconds * 2**number, asked)
            if stop.wait(min(wait, self._patience.max_wait_seconds)):
                raise Stopped
        raise Unfetched("nobody asked for it")

    @property
    def _by_http(self) -> bool:
        return protocol_of(self.source) in SIGNED

    def _tars(self) -> list[tuple[str, dict[str, Any]]]:
        try:
            found = dict(self._listed())
        except Exception as error:  # each client raises its own
            raise _unreachable(self.source, error) from None
        names = sorted(filter(is_tar, found), key=PurePosixPath)
        see_that_one_is_read(names, self.source.source)
        return [(name, found[name]) for name in names]

    def _listed(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What there is by its name below the source; sizes may be missing."""
        self._files.invalidate_cache()
        if is_one(self.source):
            name = self.source.source.rpartition("/")[2]
            yield unquote(name) if self._by_http else name, self._info(self.root)
            return
        for info in self._patiently(self._below, Event()):
            inside = info["name"].startswith(f"{self.root}/")
            name = info["name"][len(self.root) + 1 :] if inside else f"../{info['name']}"
            yield unquote(name) if self._by_http else name, info

    def _below(self) -> list[dict[str, Any]]:
        if self._by_http:
            return [{"name": path} for path in self._files.ls(f"{self.root}/", detail=False)]
        return list(cast(dict[str, dict[str, Any]], self._files.find(self.root, detail=True)).values())

    def _told(self, found: tuple[str, dict[str, Any]]) -> dict[str, Any] | Unfetched:
        """What a store says of a file, where its list did not; nothing if it is gone, and why if it is refused."""
        name, info = found
        if info.get("size") is not None or not self._by_http or is_unsafe_name(name):
            return info
        try:
            return info | self._info(info["name"]) | {"name": info["name"]}
        except Unfetched as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return info
            if _is_refused(error.__cause__):
                return error
            raise _unreachable(self.source, error, name) from None

    def _info(self, path: str) -> dict[str, Any]:
        """What a store says of a file, with the patience of fetching. Raises Unfetched."""
        return self._patiently(lambda: self._asked(path), Event())

    def _asked(self, path: str) -> dict[str, Any]:
        """Raises FileNotFoundError only where the store says so: fsspec says it of all that goes wrong by http."""
        try:
            return self._files.info(path)
        except FileNotFoundError as error:
            cause = error.__cause__
            if isinstance(cause, Exception) and _status(cause) not in GONE:
                raise cause from None
            raise

    def _size_of(self, shard: Shard) -> int:
        """Bytes as they were listed. Raises Unfetched where they were not, with what the store says of it."""
        if shard.size is None:
            self._info(shard.path)
            raise Unfetched("its size was not told when it was listed")
        return shard.size

    def _copy(self, shard: Shard, size: int, target: Path, stop: Event) -> None:
        taken = 0
        with self._opened(shard, size) as source, _created(target) as file:
            while taken <= size and (chunk := source.read(CHUNK)):
                if stop.is_set():
                    raise Stopped
                taken += len(chunk)
                _write(file, chunk, target)
        if taken != size:
            what = f"over {size:,} bytes" if taken > size else f"{taken:,} of {size:,} bytes"
            raise OSError(f"{what} came; it has changed, or was cut")

    def _opened(self, shard: Shard, size: int) -> Any:
        if self._by_http:  # as one stream, for not every server gives ranges
            return self._files.open(shard.path, "rb", block_size=0, size=size)
        return self._files.open(shard.path, "rb", block_size=CHUNK)


def _created(target: Path) -> BinaryIO:
    try:
        return target.open("wb")
    except OSError as error:
        raise _unwritten(target, error) from None


def _write(file: BinaryIO, chunk: bytes, target: Path) -> None:
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise _unwritten(target, error) from None


def _unwritten(target: Path, error: OSError) -> BlipError:
    return BlipError(f"{target}: {error.strerror or error}; make room there and run again")


def _see_room(folder: Path, name: str, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise BlipError(
            f"{folder}: no room for {name}, {size:,} bytes, only {free:,} are free; make room and run again"
        )


def _for_http(source: Source, patience: Download) -> dict[str, Any]:
    """How fsspec asks by http: as the downloader does, but for the host that was named, wherever that is."""
    parts = urlsplit(source.source)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise BlipError(
            f"source {source.source}: its host is not known ({error}); is it spelled so?"
        ) from None
    own = [str(address[0]).partition("%")[0] for *_, address in found]
    networks = read_networks([*patience.networks, *own])

    async def client(**_: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=PublicResolver(networks),
            socket_factory=public_sockets(networks),
            family=socket.AF_UNSPEC,
        )
        timeout = aiohttp.ClientTimeout(
            total=None, connect=patience.connect_seconds, sock_read=patience.read_seconds
        )
        headers = {"User-Agent": patience.agent, "Accept-Encoding": "identity"}
        return aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=headers, auto_decompress=False, trust_env=False
        )

    return {"get_client": client, "simple_links": False}


def _unreachable(source: Source, error: Exception, name: str = "") -> BlipError:
    """That a source cannot be listed, at one of its tars if it is named."""
    where = f"{name}: " if name else ""
    return BlipError(
        f"source {source.source}: it cannot be listed: {where}{_why(error)}; check the address, the network, and what "
        "the store's own environment says of credentials"
    )


def _status(error: BaseException | None) -> int:
    status = getattr(error, "status", 0)
    return status if isinstance(status, int) else 0


def _is_final(error: Exception) -> bool:
    """Whether another try gets the same answer."""
    return _refusal(error) is not None or _is_refused(error)


def _is_refused(error: BaseException | None) -> bool:
    """Whether a server says that it does not give this, and not that it cannot now."""
    status = _status(error)
    return isinstance(error, PermissionError) or (400 <= status < 500 and status not in (408, 425, 429))


def _refusal(error: Exception) -> RefusedAddress | None:
    """That an address is not asked, where a redirect or a name led."""
    cause = getattr(error, "os_error", None)
    return cause if isinstance(cause, RefusedAddress) else None


def _why(error: Exception) -> str:
    """What went wrong, without the addresses that errors quote."""
    if isinstance(error, Unfetched):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    if refused := _refusal(error):
        return f"{refused}; ingest.download.networks allows for one"
    if status := _status(error):
        return f"the server answers {status}"
    with suppress(Exception):
        return " ".join(f"{type(error).__name__}: {scrubbed(str(error))}".split())[:300]
    return type(error).__name__
