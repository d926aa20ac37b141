"""Which addresses are read, and what of them is written down."""

import sys

import pytest

from blip.config import Ingest, is_address
from blip.credentials import plain, scrubbed
from blip.errors import BadArguments, BlipError
from blip.ingest.ingestion import ingest_dataset
from blip.ingest.remote.address import asked, check
from blip.ingest.remote.store import Store

from .conftest import remote


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/laion/",
        "gs://bucket/laion",
        "az://container/laion",
        "abfs://container@account.dfs.core.windows.net/laion",
        "sftp://me@host:2222/data/laion",
        "sftp://me:word@host/data/laion",
        "https://host/shards/",
        "https://host/shards/00000.tar?X-Amz-Signature=abc",
    ],
)
def test_stores_are_read(address: str) -> None:
    assert is_address(address)
    check(remote(address))


@pytest.mark.parametrize(
    "address",
    [
        "simplecache::s3://bucket/laion",
        "zip://*.tar::https://host/all.zip",
        "filecache::https://host/a.tar",
        "file:///data/../etc",
        "local:///data",
        "memory://laion",
        "github://me:project@main/laion",
        "reference://laion",
        "jupyter://host/a.tar",
        "blockcache::file:///etc",
    ],
)
def test_what_chains_reads_this_disk_or_does_more_is_refused(address: str) -> None:
    assert is_address(address)
    with pytest.raises(BadArguments, match=r"read are s3, gs, .*, https; "):
        check(remote(address))


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("s3://key:5ecret@bucket/laion", "has a key, a password or a query"),
        ("s3://bucket/laion?versionId=5ecret", "has a key, a password or a query"),
        ("abfs://me:5ecret@account/laion", "has a key, a password or a query"),
        ("https://host/shards/?token=5ecret", "goes with a single .tar"),
        ("s3://bucket/a#b?versionId=5ecret", "has a key, a password or a query"),
        ("https://host/a/../b.tar", "has .. in it"),
        ("sftp://host/a#b/../c", "has .. in it"),
        ("https://host/a/%2e%2e/b.tar", "has .. in it"),
        ("https:///a.tar", "names no host or bucket"),
        ("s3://bucket/a b.tar\n", "has blanks in it"),
    ],
)
def test_what_is_wrong_with_an_address_is_said_without_its_secrets(address: str, why: str) -> None:
    with pytest.raises(BadArguments, match=why) as refused:
        check(remote(address))
    assert "5ecret" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("s3://bucket/run#2/", "s3://bucket/run#2/"),
        ("SFTP://me:word@host/run#2/0.tar", "sftp://me:word@host/run#2/0.tar"),
        ("https://host/0.tar?sig=1#part", "https://host/0.tar?sig=1"),
    ],
)
def test_a_hash_is_part_of_a_name_but_by_http(address: str, client: str) -> None:
    check(remote(address))
    assert asked(remote(address)) == client


def test_paths_are_no_addresses() -> None:
    for place in ("/data/laion", "laion", "pipe:curl http://host", "C:/laion", "a::b"):
        assert not is_address(place)
        assert remote(place).address == remote(place).source == place


def test_other_kinds_are_read_from_a_disk() -> None:
    with pytest.raises(BadArguments, match=r"s3://bucket/laion\.parquet: of a store only tars are read"):
        check(remote("s3://bucket/laion.parquet", kind="urls"))


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("https://me:pw@host:80/a.tar?sig=1#top", "https://host:80/a.tar"),
        ("https://token@host/a.tar", "https://host/a.tar"),
        ("HTTPS://me:p@w@host/a.tar", "HTTPS://host/a.tar"),
        ("https://me:p/w@host/a.tar", "https://***@host/a.tar"),
        ("sftp://me:pw@host/a", "sftp://me@host/a"),
        ("sftp://me@host/a", "sftp://me@host/a"),
        ("s3://bucket/a#b@c", "s3://bucket/a#b@c"),
        ("abfs://box@account.dfs.core.windows.net/a?sig=1", "abfs://box@account.dfs.core.windows.net/a"),
        ("https://host:8080/a@b.tar", "https://host:8080/a@b.tar"),
        ("/data/a?b", "/data/a?b"),
    ],
)
def test_what_may_be_written_of_an_address(address: str, written: str) -> None:
    assert plain(address) == written
    assert remote(address).source == written and remote(address).address == address


def test_errors_that_quote_addresses_lose_what_is_secret() -> None:
    told = "403, url='https://me:pw@host/a.tar?X-Amz-Signature=5e', then http://b/c?d=e."
    assert scrubbed(told) == "403, url='https://***@host/a.tar', then http://b/c"


def test_settings_must_not_have_secrets() -> None:
    values = {"kind": "webdataset", "origin": "web", "role": "train"}
    for secret in ("https://me:5ecret@host/a/", "https://host/a.tar?sig=5ecret"):
        with pytest.raises(
            ValueError, match=r"datasets\.web\.source: https://host/a.* has a password"
        ) as refused:
            Ingest.model_validate({"datasets": {"web": values | {"source": secret}}})
        rule = refused.value.errors()[0]["msg"]  # pyright: ignore[reportAttributeAccessIssue]
        assert "5ecret" not in rule
    assert Ingest.model_validate({"datasets": {"web": values | {"source": "s3://bucket/laion"}}})


def test_a_package_that_is_not_there_is_named(settings: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(
        BlipError, match=r"package s3fs is not installed.* the extra `remote`: .*'\.\[remote\]'"
    ):
        Store.open(remote("s3://bucket/laion"), settings.download)


def test_stores_and_folders_do_not_go_into_one_dataset(tmp_path, settings: Ingest) -> None:
    with pytest.raises(BadArguments, match="what lies in a store cannot go into one dataset"):
        ingest_dataset([remote("s3://bucket/laion"), remote(str(tmp_path))], tmp_path / "out", settings)
