"""A finished dataset is known again, and one that is another is not."""

from collections.abc import Callable

import pytest

from blip.data.kept import code_digest, is_kept, keep
from blip.data.pairs import PairsDataset

ORIGINS = {"source": "pictures", "limit": None}


def test_a_dataset_is_kept_while_its_origins_are_the_same(make_dataset: Callable[..., PairsDataset]) -> None:
    dataset = make_dataset()
    assert not is_kept(dataset.path, ORIGINS)
    keep(dataset.path, ORIGINS)
    assert is_kept(dataset.path, ORIGINS)
    assert not is_kept(dataset.path, ORIGINS | {"limit": 3})


def test_nothing_is_added_to_the_dataset(make_dataset: Callable[..., PairsDataset]) -> None:
    dataset = make_dataset()
    before = sorted(dataset.path.rglob("*"))
    keep(dataset.path, ORIGINS)
    assert sorted(dataset.path.rglob("*")) == before


@pytest.mark.parametrize("file", ["manifest.json", "metadata.parquet", "shards/00001.tar"])
def test_a_file_that_is_gone_or_another_is_noticed(
    make_dataset: Callable[..., PairsDataset], file: str
) -> None:
    dataset = make_dataset()
    keep(dataset.path, ORIGINS)
    whole = (dataset.path / file).read_bytes()
    (dataset.path / file).write_bytes(whole[:-1] + (b" " if file.endswith(".json") else b""))
    assert not is_kept(dataset.path, ORIGINS)
    (dataset.path / file).unlink()
    assert not is_kept(dataset.path, ORIGINS)


def test_a_note_that_was_cut_keeps_nothing(make_dataset: Callable[..., PairsDataset]) -> None:
    dataset = make_dataset()
    keep(dataset.path, ORIGINS)
    dataset.path.with_name(f".{dataset.path.name}.origins.json").write_text("{")
    assert not is_kept(dataset.path, ORIGINS)


def test_the_code_is_that_of_the_packages_named() -> None:
    assert code_digest("data") == code_digest("data") != code_digest("data", "ingest")
