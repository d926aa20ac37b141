"""Many URLs at a time: their order, their memory, their end."""

import threading
import time
import weakref
from contextlib import closing

import pytest

from blip.config import Download
from blip.data.sample import Sample
from blip.errors import BadArguments
from blip.ingest.download import fetch, stream
from blip.ingest.download.stream import fetch_all
from blip.ingest.sources.refused import Refused
from blip.ingest.sources.urls import Address
from tests.processes import wait_until

from .conftest import Server
from .server import picture


def rows(server: Server, count: int, first: str = "good") -> list[Address]:
    kinds = [first, *["good"] * (count - 1)]
    return [Address(f"{n:09d}", f"{server.url}/{kind}/{n}.jpg", "x") for n, kind in enumerate(kinds)]


def test_results_have_the_order_of_the_rows_whatever_comes_first(server: Server, settings: Download) -> None:
    refused = Refused("000000009", "no_url", "row 9 has no URL")
    asked = [*rows(server, 9, "fault/asks_to_wait"), refused]
    found = list(fetch_all(asked, settings))
    assert [item.key for item in found] == [row.key for row in asked]
    assert [item.media for item in found if isinstance(item, Sample)] == [picture(n) for n in range(9)]
    assert found[-1] is refused


def test_nothing_more_is_fetched_while_enough_waits(
    server: Server, settings: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BUFFER", 3 * len(picture(0)))
    few = settings.model_copy(update={"connections": 2})
    with closing(fetch_all(rows(server, 40), few)) as found:
        next(found)
        wait_until(lambda: server.seen.total() >= 3)
        time.sleep(0.5)
        assert server.seen.total() <= 7
        assert sum(isinstance(item, Sample) for item in found) == 39


def test_what_was_taken_is_not_held(server: Server, settings: Download) -> None:
    taken: list[weakref.ref] = []
    for item in fetch_all(rows(server, 30), settings):
        assert sum(reference() is not None for reference in taken) <= 1
        taken.append(weakref.ref(item))
        del item
    assert len(taken) == 30


def test_a_slow_first_one_does_not_lock_up_those_that_wait_for_room(
    server: Server, settings: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BUFFER", 0)
    found = list(fetch_all(rows(server, 12, "fault/asks_to_wait"), settings))
    assert len(found) == 12 and all(isinstance(item, Sample) for item in found)


def test_a_taker_who_has_enough_ends_it(server: Server, settings: Download) -> None:
    few = settings.model_copy(update={"connections": 2, "read_seconds": 30, "total_seconds": 60})
    found = fetch_all([*rows(server, 2), *rows(server, 9, "fault/silent")], few)
    next(found)
    begun = time.monotonic()
    found.close()
    assert time.monotonic() - begun < 6
    assert "download" not in {thread.name for thread in threading.enumerate()}


def test_what_ends_the_fetching_comes_to_the_taker(server: Server, settings: Download) -> None:
    wrong = settings.model_copy(update={"networks": ("inside",)})
    with pytest.raises(BadArguments, match="networks to allow"):
        list(fetch_all(rows(server, 3), wrong))


def test_what_nobody_expected_ends_its_own_row_only(
    server: Server, settings: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weak(headers: object) -> float:
        raise OverflowError("signed integer is greater than maximum")

    monkeypatch.setattr(fetch, "retry_after", weak)
    first, *others = fetch_all(rows(server, 3, "fault/always_busy"), settings)
    assert isinstance(first, Refused) and first.reason == "bad_response"
    assert first.detail.endswith("/0.jpg: OverflowError: signed integer is greater than maximum")
    assert all(isinstance(item, Sample) for item in others)
