"""Node 0 may start before its own name is known, as a pod does."""

import socket
from typing import Any

import pytest

from blip.errors import BlipError
from blip.training.launch import store

resolve = socket.getaddrinfo


def test_a_name_that_is_known_a_moment_later_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = [True, True]

    def later(*arguments: Any, **named: Any) -> list[Any]:
        if unknown and unknown.pop():
            raise socket.gaierror(-2, "Name or service not known")
        return resolve(*arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", later)
    served = store.serve("127.0.0.1", 0)
    assert store.join("127.0.0.1", served.port, 5).add("joined", 1) == 1 and not unknown


def test_a_name_that_nobody_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(store, "NAME_SECONDS", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    with pytest.raises(BlipError, match=r"cannot meet at gpu99:29400: .*Name or service not known"):
        store.serve("gpu99", 29400)
