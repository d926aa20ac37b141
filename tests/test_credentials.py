"""Passwords in addresses: where they are printed they are hidden, where a server asks for them they arrive."""

import base64

import pytest

from blip.credentials import asking, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://user:S3cret@127.0.0.1:1", "http://***@127.0.0.1:1"),
        ("no answer of https://user:S3cret@host/api, twice", "no answer of https://***@host/api, twice"),
        ("postgresql://user:S3cr/e@t@host/db", "postgresql://***@host/db"),
        ("https://t0ken@host/", "https://***@host/"),
        ("http://host:5000/api and models:/blip@champion", "http://host:5000/api and models:/blip@champion"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
    ],
)
def test_who_is_named_in_an_address_is_not_shown(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_a_server_is_asked_with_the_password_where_http_wants_it() -> None:
    asked = asking("http://user:S3cr%40t@127.0.0.1:1/health")
    assert asked.full_url == "http://127.0.0.1:1/health"
    kind, _, encoded = asked.headers["Authorization"].partition(" ")
    assert (kind, base64.b64decode(encoded)) == ("Basic", b"user:S3cr@t")
    assert not asking("http://127.0.0.1:1/health").headers
