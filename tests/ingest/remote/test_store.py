"""What a store lists, and what of it comes."""

from pathlib import Path
from threading import Event

import pytest

from blip.config import Ingest
from blip.errors import BlipError
from blip.ingest.remote import store as module
from blip.ingest.remote.store import Shard, Stopped, Store, Unfetched

from .conftest import SHARDS, Server, remote


def opened(server: Server, settings: Ingest, name: str = "") -> Store:
    return Store.open(remote(f"{server.url}{name}"), settings.download)


def fetched(store: Store, shard: Shard, folder: Path) -> bytes:
    store.fetch(shard, folder / "fetched.tar", Event())
    return (folder / "fetched.tar").read_bytes()


def test_a_page_lists_its_tars_with_sizes_and_versions(server: Server, settings: Ingest) -> None:
    shards = opened(server, settings).shards()
    assert [shard.name for shard in shards] == [f"{number:05d}.tar" for number in range(SHARDS)]
    assert all(shard.size == (server.folder / shard.name).stat().st_size for shard in shards)
    assert all(shard.tag.endswith("GMT") for shard in shards)  # this server knows Last-Modified only
    assert not server.fetched


def test_a_name_with_blanks_is_read_under_it(server: Server, settings: Ingest, tmp_path: Path) -> None:
    (server.folder / "00000.tar").rename(server.folder / "a b%.tar")
    store = opened(server, settings)
    shard = store.shards()[-1]
    assert shard.name == "a b%.tar"
    assert fetched(store, shard, tmp_path) == (server.folder / "a b%.tar").read_bytes()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere/", "it cannot be listed: it is not there"),
        ("00009.tar", "cannot be listed: it is not there"),
    ],
)
def test_a_source_that_is_not_there_is_named(server: Server, settings: Ingest, name: str, why: str) -> None:
    with pytest.raises(BlipError, match=f"source {server.url}{name}: .*{why}"):
        opened(server, settings, name).names()


@pytest.mark.parametrize("name", ["", "00002.tar"])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    server: Server, settings: Ingest, name: str
) -> None:
    healthy = opened(server, settings, name).shards()
    server.busy["00002.tar"] = 2  # fsspec asks by HEAD, then by GET
    assert opened(server, settings, name).shards() == healthy
    assert server.busy["00002.tar"] == 0


def test_a_page_that_is_not_given_at_once_is_asked_for_again(server: Server, settings: Ingest) -> None:
    healthy = opened(server, settings).names()
    server.busy[""] = 2
    assert opened(server, settings).names() == healthy
    server.busy[""] = 99
    with pytest.raises(BlipError, match=r"it cannot be listed: the server answers 503 \(asked 3 time"):
        opened(server, settings).names()
    assert server.busy[""] == 99 - 3


@pytest.mark.parametrize(("name", "where"), [("", r"00002\.tar: the server"), ("00002.tar", "the server")])
def test_a_tar_of_which_nothing_is_told_leaves_no_list(
    server: Server, settings: Ingest, name: str, where: str
) -> None:
    server.busy["00002.tar"] = 99
    with pytest.raises(BlipError, match=rf"it cannot be listed: {where} answers 503 \(asked 3 time"):
        opened(server, settings, name).shards()
    assert server.busy["00002.tar"] == 99 - 2 * 3


@pytest.mark.parametrize("status", [404, 410])
def test_a_tar_that_is_gone_is_listed_without_a_size(server: Server, settings: Ingest, status: int) -> None:
    (server.folder / "00002.tar").unlink()
    server.page = "".join(f'<a href="{number:05d}.tar">' for number in range(SHARDS))
    server.answers["00002.tar"] = status
    assert [shard.name for shard in opened(server, settings).shards() if shard.size is None] == ["00002.tar"]


@pytest.mark.parametrize("status", [400, 401, 403, 405])
def test_a_tar_that_is_refused_costs_itself_only(
    server: Server, settings: Ingest, tmp_path: Path, status: int
) -> None:
    server.refused["00002.tar"] = status
    store = opened(server, settings)
    [lost] = [shard for shard in store.shards() if shard.size is None]
    assert lost == Shard("00002.tar", f"{server.url}00002.tar", None, "")
    with pytest.raises(Unfetched, match=f"the server answers {status}"):
        fetched(store, lost, tmp_path)
    server.refused = {f"{number:05d}.tar": status for number in range(SHARDS)}
    with pytest.raises(BlipError, match=rf"it cannot be listed: 00000\.tar: the server answers {status}"):
        store.shards()


class Waits(Event):
    """Notes how long it is waited for, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = list[float | None]()

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        return False


@pytest.mark.parametrize(("asks", "seconds"), [("7", 7.0), ("9000", 30.0), ("", 0.01), ("soon", 0.01)])
def test_a_server_that_asks_to_wait_is_given_the_time(
    server: Server, settings: Ingest, tmp_path: Path, asks: str, seconds: float
) -> None:
    store, waits = opened(server, settings), Waits()
    shard, *_ = store.shards()
    server.busy[shard.name], server.wait = 1, asks
    store.fetch(shard, tmp_path / "fetched.tar", waits)
    assert waits.seconds == [seconds]


def test_a_folder_without_tars_is_none(server: Server, settings: Ingest) -> None:
    (server.folder / "empty").mkdir()
    with pytest.raises(BlipError, match=r"empty/: there is no \.tar in it"):
        opened(server, settings, "empty/").names()


def test_compressed_tars_are_not_read(server: Server, settings: Ingest) -> None:
    (server.folder / "00009.tar.gz").touch()
    *plain, last = opened(server, settings).shards()
    assert last.is_packed and not any(shard.is_packed for shard in plain)
    for shard in plain:
        (server.folder / shard.name).unlink()
    with pytest.raises(BlipError, match=r"00009\.tar\.gz is compressed"):
        opened(server, settings).names()


def test_a_server_that_is_not_there_is_named(settings: Ingest) -> None:
    with pytest.raises(BlipError, match=r"source http://127\.0\.0\.1:1/laion/: it cannot be listed"):
        Store.open(remote("http://127.0.0.1:1/laion/"), settings.download).names()


def test_redirects_stay_with_the_host_that_was_named(
    server: Server, settings: Ingest, tmp_path: Path
) -> None:
    store = opened(server, settings)
    first, second, *_ = store.shards()
    server.sent_to = {first.name: f"{server.url}00003.tar"}
    assert fetched(store, first, tmp_path) == (server.folder / "00003.tar").read_bytes()
    for address in ("http://127.0.0.2:80/", "http://10.0.0.1/", "http://169.254.169.254/latest/meta-data/"):
        server.sent_to = {second.name: f"{address}?token=5ecret"}
        with pytest.raises(Unfetched, match=r"is a .* address; ingest\.download\.networks allows") as refused:
            fetched(store, second, tmp_path)
        assert "5ecret" not in str(refused.value)


def test_nothing_is_fetched_for_which_there_is_no_room(
    server: Server, settings: Ingest, tmp_path: Path
) -> None:
    store = opened(server, settings)
    huge = store.shards()[0]._replace(size=1 << 60)
    with pytest.raises(BlipError, match=r"no room for 00000\.tar, 1,152,921,504,606,846,976 bytes"):
        fetched(store, huge, tmp_path)
    assert not server.fetched


def test_a_shard_that_nobody_wants_any_more_is_left(
    server: Server, settings: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1024)
    stop = Event()
    stop.set()
    store = opened(server, settings)
    with pytest.raises(Stopped):
        store.fetch(store.shards()[0], tmp_path / "fetched.tar", stop)
