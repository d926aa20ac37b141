"""What a pool knows of its samples: where each is from, and the truth."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from blip.data.pairs import Caption, PairsWriter, Sample
from blip.errors import BadArguments, BlipError
from blip.report.pool import Known, Pool, host

PICTURE = b"never decoded here"


def write(folder: Path, samples: dict[str, dict[str, Any]], parameters: dict[str, Any] | None = None) -> Path:
    with PairsWriter(folder, samples_per_shard=2, parents=[], parameters=parameters or {}) as writer:
        for number, (key, known) in enumerate(samples.items()):
            sample = Sample(key, PICTURE + key.encode(), "png", (Caption("text", "web"),), (), 9, 9, **known)
            writer.add(sample, phash=number)
    return folder


def found(pool: Pool, *keys: str) -> list[Known]:
    return [pool.known(row) for rows in pool.walk().beside(pa.array(keys)) for row in rows.to_pylist()]


def sources(pool: Pool, *keys: str) -> list[str]:
    return [known.source for known in found(pool, *keys)]


def test_hosts_tell_the_sources_of_what_was_fetched(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "web", {"a": {"url": "https://www.Shop.example/1.jpg"}, "b": {}, "c": {"url": "x"}}
    )
    pool = Pool.open(folder)
    assert pool.naming and pool.naming.words == "the host of its URL"
    assert sources(pool, "a", "b", "c") == ["shop.example", "", ""]


@pytest.mark.parametrize("column", ["source", "artist"])
def test_truth_csv_may_name_the_source(tmp_path: Path, column: str) -> None:
    folder = write(tmp_path / "web", {"a": {"truth": {column: "twemoji"}, "url": "https://shop.example"}})
    assert sources(Pool.open(folder), "a") == ["twemoji"]


def test_of_several_ingested_sources_each_is_told_by_its_keys(tmp_path: Path) -> None:
    told = [
        {"source": f"/data/{name}", "kind": "folder", "origin": "web", "role": "train"}
        for name in ("cc3m", "cc3m-more")
    ]
    folder = write(tmp_path / "web", {"cc3m-1": {}, "cc3m-more-1": {}}, {"sources": told})
    assert sources(Pool.open(folder), "cc3m-1", "cc3m-more-1") == ["cc3m", "cc3m-more"]


def test_ingestion_and_the_pool_name_sources_alike(blip: Any, tmp_path: Path, drawn: Any) -> None:
    for name in ("red", "green"):
        (tmp_path / name).mkdir()
        for number in range(2):
            (tmp_path / name / f"a {name} thing {number}.webp").write_bytes(drawn(number + 3 * len(name)))
    out = tmp_path / "web"
    ended = blip("ingest", tmp_path / "red", tmp_path / "green", "--out", out, "--origin", "web")
    assert ended.code == 0, ended.err

    from blip.data.pairs import PairsDataset

    keys = [sample.key for sample in PairsDataset.open(out).samples()]
    assert sources(Pool.open(out), *keys) == ["red", "red", "green", "green"]


def test_any_column_may_tell_the_sources(tmp_path: Path) -> None:
    folder = write(tmp_path / "web", {"a": {"truth": {"artist": "x"}}, "b": {"truth": {"artist": "y"}}})
    assert sources(Pool.open(folder, "shard"), "a", "b") == ["shards/00000.tar"] * 2
    with pytest.raises(BadArguments, match=r"has no column sauce to tell sources by; it has: key, shard"):
        Pool.open(folder, "sauce")


def test_a_pool_that_knows_nothing_says_nothing(tmp_path: Path) -> None:
    pool = Pool.open(write(tmp_path / "web", {"a": {}}))
    assert pool.naming is None
    assert found(pool, "a") == [Known()]
    assert found(Pool.open(tmp_path / "nowhere"), "a") == [Known()]


def test_samples_that_the_audit_lacks_are_passed_over(tmp_path: Path) -> None:
    truth = {"matched": 1, "caption_true": "a bus", "noise": ""}
    pool = Pool.open(write(tmp_path / "web", {"a": {}, "b": {}, "c": {"truth": truth}}))
    assert found(pool, "c") == [Known("", True, "a bus", "")]
    assert found(pool, "a", "c") == [Known(), Known("", True, "a bus", "")]
    walk = pool.walk()
    walk.beside(pa.array(["b"]))
    with pytest.raises(BlipError, match="has no sample a"):
        walk.beside(pa.array(["a"]))


@pytest.mark.parametrize("keys", ["ca", "ba", "bb", "x", "ax", "abdc"])
def test_samples_in_another_order_are_named(tmp_path: Path, keys: str) -> None:
    pool = Pool.open(write(tmp_path / "web", {key: {} for key in "abcd"}))
    with pytest.raises(BlipError, match=f"has no sample {keys[-1]}, or not in the audit's order"):
        pool.walk().beside(pa.array(list(keys)))


def test_the_truth_may_be_said_in_words(tmp_path: Path) -> None:
    samples = {key: {"truth": {"matched": said}} for key, said in (("a", "True"), ("b", "False"), ("c", "?"))}
    pool = Pool.open(write(tmp_path / "web", samples))
    assert [known.right for known in found(pool, "a", "b")] == [True, False]
    with pytest.raises(BlipError, match=r"web/metadata\.parquet, sample c: truth_matched is '\?'"):
        found(pool, "c")


@pytest.mark.parametrize("address", ["", "no address", "http://[broken"])
def test_what_is_no_address_has_no_host(address: str) -> None:
    assert host(address) == ""
