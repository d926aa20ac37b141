"""A finished dataset is known again, and one that is another is not."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from blip.data.kept import code_digest, is_kept, keep
from blip.data.pairs import PairsDataset
from blip.errors import BlipError

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


@pytest.mark.parametrize("file", [".{}.origins.json", "{}/manifest.json"])
def test_of_a_dataset_that_cannot_be_read_nobody_knows_and_it_is_not_made_anew(
    make_dataset: Callable[..., PairsDataset], monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """As on a disk that fails: to read that file of /proc from its beginning gives EIO."""
    dataset = make_dataset()
    keep(dataset.path, ORIGINS)
    path = dataset.path.parent / file.format(dataset.path.name)
    path.rename(path.with_suffix(".sound"))
    path.symlink_to("/proc/self/mem")
    monkeypatch.setattr("blip.rereading.PAUSES", (0.0,))
    with pytest.raises(BlipError, match="cannot be read: Input/output error"):
        is_kept(dataset.path, ORIGINS)
    path.with_suffix(".sound").replace(path)
    assert is_kept(dataset.path, ORIGINS)


def test_a_folder_that_cannot_be_listed_is_not_empty(
    make_dataset: Callable[..., PairsDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, listed = make_dataset(), os.scandir
    keep(dataset.path, ORIGINS)

    def stale(path: str) -> object:
        if Path(path).name == "shards":
            raise OSError(errno.ESTALE, "Stale file handle", path)
        return listed(path)

    monkeypatch.setattr("blip.rereading.PAUSES", (0.0,))
    monkeypatch.setattr(os, "scandir", stale)
    with pytest.raises(BlipError, match="cannot be read: Stale file handle"):
        is_kept(dataset.path, ORIGINS)


def test_the_code_is_that_of_the_packages_named() -> None:
    assert code_digest("data") == code_digest("data") != code_digest("data", "ingest")
