"""One URL, whatever the server does."""

import asyncio
import socket
import time
from email.utils import formatdate

import pytest

from blip.config import Download
from blip.ingest.download.fetch import Fetcher, open_fetcher, retry_after
from blip.ingest.download.lost import Lost

from .conftest import Server
from .server import BECOMES, picture


def get(url: str, settings: Download) -> bytes:
    async def one() -> bytes:
        async with open_fetcher(settings) as fetcher:
            return await fetcher.fetch(url)

    return asyncio.run(one())


def lost(url: str, settings: Download) -> Lost:
    with pytest.raises(Lost) as caught:
        get(url, settings)
    return caught.value


def test_a_picture_comes_as_it_is(server: Server, settings: Download) -> None:
    assert get(f"{server.url}/good/7.jpg", settings) == picture(7)


@pytest.mark.parametrize("kind", [kind for kind, reason in BECOMES.items() if reason and kind != "half"])
def test_what_a_server_does_has_its_reason(
    server: Server, settings: Download, hasty: Download, kind: str
) -> None:
    how = hasty if kind in ("silent", "drip") else settings
    assert lost(f"{server.url}/fault/{kind}/1.jpg", how).reason == BECOMES[kind]


@pytest.mark.parametrize("kind", [kind for kind, reason in BECOMES.items() if not reason])
def test_what_comes_right_in_the_end_is_a_picture(server: Server, settings: Download, kind: str) -> None:
    assert get(f"{server.url}/fault/{kind}/3.jpg", settings) == picture(3)


def test_a_password_in_a_url_is_told_nobody(server: Server, settings: Download) -> None:
    for user in ("me:secret@", ":secret@", "me@"):
        url = server.url.replace("//", f"//{user}") + "/fault/told_a_password/3.jpg"
        assert get(url, settings) == picture(3)


def test_no_proxy_of_the_environment_is_used(
    server: Server, settings: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert get(f"{server.url}/good/7.jpg", settings) == picture(7)


def test_a_server_that_asks_to_wait_is_given_the_time(server: Server, settings: Download) -> None:
    begun = time.monotonic()
    get(f"{server.url}/fault/asks_to_wait/3.jpg", settings)
    assert time.monotonic() - begun >= 1
    assert server.seen["/fault/asks_to_wait/3.jpg"] == 2


def test_the_time_given_is_bounded(server: Server, settings: Download) -> None:
    begun = time.monotonic()
    get(f"{server.url}/fault/asks_for_a_minute/3.jpg", settings.model_copy(update={"max_wait_seconds": 0.01}))
    assert time.monotonic() - begun < 30


def test_all_tries_together_have_a_limit(server: Server, settings: Download) -> None:
    begun = time.monotonic()
    patient = settings.model_copy(update={"retries": 99, "read_seconds": 0.2, "total_seconds": 0.7})
    assert lost(f"{server.url}/fault/silent/1.jpg", patient).reason == "timeout"
    busy = settings.model_copy(update={"retries": 99, "backoff_seconds": 1.5, "total_seconds": 3.0})
    assert lost(f"{server.url}/fault/always_busy/1.jpg", busy).reason == "http_500"
    assert 3.6 < time.monotonic() - begun < 60


def test_a_date_to_wait_for_is_read() -> None:
    assert 8 < retry_after({"Retry-After": formatdate(time.time() + 10, usegmt=True)}) <= 10
    assert retry_after({"Retry-After": "7"}) == 7
    assert retry_after({"Retry-After": "soon"}) == retry_after({}) == 0


@pytest.mark.parametrize(
    "value",
    [
        "Fri, 01 Jan 9999999999999999999999 00:00:00 GMT",
        "Fri, 01 Jan 9999 00:00:00 -0000",
        "Fri, 01 Jan 0001 00:00:00 +2359",
        "Fri, 99 Foo -1 99:99:99",
        "9" * 6000,
    ],
)
def test_a_date_that_no_clock_knows_is_no_end(value: str) -> None:
    assert retry_after({"Retry-After": value}) >= 0


def test_what_cannot_get_better_is_not_tried_again(server: Server, settings: Download) -> None:
    lost(f"{server.url}/fault/missing/1.jpg", settings)
    lost(f"{server.url}/fault/always_busy/1.jpg", settings)
    assert server.seen == {"/fault/missing/1.jpg": 1, "/fault/always_busy/1.jpg": 2}


def test_loopback_is_refused_unless_it_is_allowed(server: Server) -> None:
    plain = Download.model_validate({})
    for host in ("127.0.0.1", "localhost", "0x7f.1"):
        assert lost(server.url.replace("127.0.0.1", host) + "/good/1.jpg", plain).reason == "refused_address"
    assert not server.seen


def test_a_name_is_judged_by_the_address_that_is_connected_to(
    server: Server, settings: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def rebound(host: str, port: int, *rest: object, **more: object) -> object:
        return real("10.0.0.7" if host == "rebound.test" else host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    found = lost(server.url.replace("127.0.0.1", "rebound.test") + "/good/1.jpg", settings)
    assert found.reason == "refused_address"
    assert found.detail.endswith("; ingest.download.networks allows for one")
    assert "rebound.test is 10.0.0.7" in found.detail


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.org/a.jpg", "bad_url"),
        ("http://127.0.0.1:9/?\ud83d", "bad_url"),
        ("file:///etc/passwd", "bad_url"),
        ("not a url", "bad_url"),
        ("http://[::1/a.jpg", "bad_url"),
        ("http:///a.jpg", "bad_url"),
        ("http://.example.org/a.jpg", "bad_url"),
        (f"http://{'a' * 70}.org/a.jpg", "bad_url"),
        ("http://xn--a/a.jpg", "bad_url"),
        ("http://\0/a.jpg", "bad_url"),
        ("http://example.org:99999/a.jpg", "bad_url"),
        (f"http://example.org/{'a' * 9000}", "bad_url"),
        ("http://no-such-host.invalid/a.jpg", "dns"),
        ("http://127.0.0.1:9/a.jpg", "connect"),
        ("http://[::ffff:127.0.0.1]:9/a.jpg", "connect"),  # 127.0.0.1 is allowed here, however it is written
    ],
)
@pytest.mark.usefixtures("no_such_name")
def test_urls_that_lead_nowhere(url: str, reason: str, settings: Download) -> None:
    assert lost(url, settings).reason == reason


def test_robots_txt_is_asked_once_if_that_is_wanted(server: Server, settings: Download) -> None:
    polite = settings.model_copy(update={"robots_txt": True})

    async def some() -> list[str]:
        async with open_fetcher(polite) as fetcher:
            urls = [f"{server.url}/good/{number}.jpg" for number in (1, 2, 3)]
            found = await asyncio.gather(*map(fetcher.fetch, urls), return_exceptions=True)
            return [one.reason if isinstance(one, Lost) else "good" for one in found]

    assert asyncio.run(some()) == ["robots", "good", "good"]
    assert server.seen["/robots.txt"] == 1
    get(f"{server.url}/good/1.jpg", settings)
    assert server.seen["/robots.txt"] == 1


def test_a_robots_txt_that_fails_at_first_is_asked_for_again(server: Server, settings: Download) -> None:
    polite = settings.model_copy(update={"robots_txt": True})
    server.seen["/robots.txt"] = -5

    async def one(fetcher: Fetcher, number: int) -> str:
        try:
            return "good" if await fetcher.fetch(f"{server.url}/good/{number}.jpg") else "empty"
        except Lost as lost:
            return lost.reason

    async def some() -> list[str]:
        async with open_fetcher(polite) as fetcher:
            return [await one(fetcher, number) for number in (2, 3, 4, 5)]

    found = asyncio.run(some())
    assert (found[0], found[-1]) == ("connect", "good")
    assert server.seen["/robots.txt"] == 1


def test_a_server_without_tls_is_no_https_server(server: Server, settings: Download) -> None:
    assert lost(server.url.replace("http", "https") + "/good/1.jpg", settings).reason == "tls"


def test_requests_to_a_host_keep_their_distance(server: Server, settings: Download) -> None:
    slow = settings.model_copy(update={"seconds_between": 0.2})

    async def some() -> float:
        async with open_fetcher(slow) as fetcher:
            begun = time.monotonic()
            await asyncio.gather(*(fetcher.fetch(f"{server.url}/good/{number}.jpg") for number in range(4)))
            await fetcher.fetch(f"{server.url}/good/4.jpg")
            return time.monotonic() - begun

    assert 0.8 <= asyncio.run(some()) < 6


def test_waiting_for_a_turn_at_a_host_is_not_its_slowness(server: Server, settings: Download) -> None:
    slow = settings.model_copy(update={"seconds_between": 0.25, "total_seconds": 2.5})

    async def some() -> list[bytes]:
        async with open_fetcher(slow) as fetcher:
            urls = [f"{server.url}/good/{number}.jpg" for number in range(15)]
            return await asyncio.gather(*map(fetcher.fetch, urls))

    assert asyncio.run(some()) == [picture(number) for number in range(15)]


def test_no_more_connections_to_a_host_than_allowed(server: Server, settings: Download) -> None:
    narrow = settings.model_copy(update={"connections_per_host": 2, "read_seconds": 0.3, "retries": 0})

    async def some() -> float:
        async with open_fetcher(narrow) as fetcher:
            begun = time.monotonic()
            urls = [f"{server.url}/fault/silent/{number}.jpg" for number in range(6)]
            await asyncio.gather(*map(fetcher.fetch, urls), return_exceptions=True)
            return time.monotonic() - begun

    assert asyncio.run(some()) >= 0.9  # three turns of two
