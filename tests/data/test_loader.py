import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from blip.data.loader import Batch, PairLoader
from blip.data.pairs import PairsDataset, PairsWriter, Sample
from blip.errors import BlipError

from .conftest import draw, encoded

Make = Callable[..., PairsDataset]
NONE: frozenset[str] = frozenset()


def loader_of(*datasets: PairsDataset, exclude: frozenset[str] = NONE, **options: object) -> PairLoader:
    values: dict = {"batch_size": 4, "image_size": 16, "seed": 7, "shuffle_buffer": 6} | options
    return PairLoader([(dataset, exclude) for dataset in datasets], **values)


def keys(batches: Iterator[Batch] | list[Batch]) -> list[str]:
    return [sample.key for batch in batches for sample in batch.samples]


def take(loader: PairLoader, count: int) -> list[Batch]:
    return list(islice(iter(loader), count))


def same(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.images, other.images)
        and torch.equal(one.image_ids, other.image_ids)
        and one.samples == other.samples
        and (one.epoch, one.index) == (other.epoch, other.index)
        and one.rng.getstate() == other.rng.getstate()
    )


def test_a_batch_has_pictures_samples_and_ids(make_dataset: Make) -> None:
    batch = next(iter(loader_of(make_dataset())))
    assert (batch.images.shape, batch.images.dtype) == ((4, 3, 16, 16), torch.uint8)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert (batch.image_ids.shape, batch.image_ids.dtype) == ((4,), torch.int64)
    assert all(sample.media == b"" and sample.captions for sample in batch.samples)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_epoch_has_every_sample_once_over_all_ranks(make_dataset: Make, world: int) -> None:
    datasets = make_dataset("one", 17, 4), make_dataset("two", 9, 3, first=100)
    loaders = [loader_of(*datasets, batch_size=3, rank=rank, world=world) for rank in range(world)]
    batches = 26 // (3 * world)
    assert {loader.batches_per_epoch for loader in loaders} == {batches}
    for epoch in range(2):
        seen = Counter(key for loader in loaders for key in keys(take(loader, batches)))
        assert set(seen.values()) == {1}, f"epoch {epoch}"
        assert len(seen) == batches * 3 * world


@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_epoch_has_of_every_dataset_what_its_weight_says(make_dataset: Make, world: int) -> None:
    datasets = make_dataset("one", 12, 2), make_dataset("two", 30, 4, first=100)
    options = {"batch_size": 2, "weights": (2.0, 0.4), "world": world}
    loaders = [loader_of(*datasets, **options, rank=rank) for rank in range(world)]
    batches = 36 // (2 * world)
    assert {loader.batches_per_epoch for loader in loaders} == {batches}
    human: Counter[str] = Counter()
    web: Counter[str] = Counter()
    for _ in range(5):
        for key in (key for loader in loaders for key in keys(take(loader, batches))):
            (human if key < "key-00100" else web)[key] += 1
    assert set(human.values()) == {10}
    assert set(web.values()) == {2}
    assert (len(human), len(web)) == (12, 30)


def test_all_that_is_known_of_a_sample_comes_with_its_picture(tmp_path: Path) -> None:
    media, partner = encoded(draw(1)), encoded(draw(2))
    one = Sample("one", media, "png", url="https://example.org/1", partner=partner, partner_extension="png")
    with PairsWriter(tmp_path / "pairs", samples_per_shard=1, parents=[], parameters={}) as writer:
        writer.add(replace(one, width=40, height=40))
    (found,) = next(iter(loader_of(PairsDataset.open(tmp_path / "pairs"), batch_size=1))).samples
    assert found == replace(one, media=b"", partner=None, width=40, height=40)


def test_equal_weights_are_no_weights(make_dataset: Make) -> None:
    datasets = make_dataset("one", 9), make_dataset("two", 9, first=100)
    plain, weighted = take(loader_of(*datasets), 9), take(loader_of(*datasets, weights=(1.0, 1.0)), 9)
    assert all(same(a, b) for a, b in zip(plain, weighted, strict=True))


def test_a_resumed_mixture_continues_bit_for_bit(make_dataset: Make) -> None:
    datasets = make_dataset("one", 12, 2), make_dataset("two", 30, 4, first=100)
    options = {"weights": (1.5, 0.3), "randaugment": True}
    for stop in (1, 6, 7, 15):
        whole, resumed = loader_of(*datasets, **options), loader_of(*datasets, **options)
        batches = iter(whole)
        for _ in range(stop):
            next(batches)
        resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
        assert all(same(a, b) for a, b in zip(islice(batches, 9), take(resumed, 9), strict=True)), stop


def test_epochs_differ_in_order_and_in_crops(make_dataset: Make) -> None:
    loader = loader_of(make_dataset(count=8))
    first, second = take(loader, 2), take(loader, 2)
    assert sorted(keys(first)) == sorted(keys(second))
    assert keys(first) != keys(second)
    assert [batch.epoch for batch in first + second] == [0, 0, 1, 1]


def test_equal_loaders_give_equal_batches(make_dataset: Make) -> None:
    dataset = make_dataset(count=20)
    one = take(loader_of(dataset, randaugment=True), 12)
    other = take(loader_of(dataset, randaugment=True), 12)
    assert all(same(a, b) for a, b in zip(one, other, strict=True))
    assert not same(one[0], take(loader_of(dataset, seed=8), 1)[0])


@pytest.mark.parametrize("stop", [1, 4, 5, 13])
def test_a_resumed_loader_continues_bit_for_bit(make_dataset: Make, stop: int) -> None:
    dataset = make_dataset(count=43)
    options = {"rank": 1, "world": 2, "randaugment": True}
    whole = loader_of(dataset, **options)
    batches = iter(whole)
    for _ in range(stop):
        next(batches)
    state = json.loads(json.dumps(whole.state_dict()))
    resumed = loader_of(dataset, **options)
    resumed.load_state_dict(state)
    expected = list(islice(batches, 9))
    assert all(same(a, b) for a, b in zip(expected, take(resumed, 9), strict=True))


def test_resuming_does_not_read_shards_it_is_done_with(make_dataset: Make) -> None:
    dataset = make_dataset(count=12, per_shard=4)
    loader = loader_of(dataset, shuffle_buffer=1)
    take(loader, 2)
    left = set(keys(take(loader, 1)))
    loader = loader_of(dataset, shuffle_buffer=1)
    take(loader, 2)
    state = loader.state_dict()
    shards = dataset.metadata(["key", "shard"]).to_pylist()
    for url in {row["shard"] for row in shards if row["key"] not in left}:
        (dataset.path / url).unlink()
    resumed = loader_of(dataset, shuffle_buffer=1)
    resumed.load_state_dict(state)
    assert set(keys([next(iter(resumed))])) == left


def test_cached_pictures_are_not_read_again(make_dataset: Make) -> None:
    dataset = make_dataset(count=12)
    plain = take(loader_of(dataset, cache_bytes=0), 9)
    batches = iter(loader_of(dataset))
    cached = list(islice(batches, 3))
    for shard in dataset.manifest.shards:
        (dataset.path / shard.url).unlink()
    cached += list(islice(batches, 6))
    assert all(same(a, b) for a, b in zip(plain, cached, strict=True))


def test_a_cache_too_small_for_all_changes_nothing(make_dataset: Make) -> None:
    dataset = make_dataset(count=12)
    some = take(loader_of(dataset, cache_bytes=5 * 40 * 40 * 3), 9)
    assert all(same(a, b) for a, b in zip(some, take(loader_of(dataset, cache_bytes=0), 9), strict=True))


def test_large_jpegs_are_not_kept_and_come_the_same_with_and_without_a_cache(tmp_path: Path) -> None:
    with PairsWriter(tmp_path / "jpegs", samples_per_shard=2, parents=[], parameters={}) as writer:
        for number, side in enumerate((20, 33, 64, 90, 150, 300)):
            media = encoded(draw(number, side, side), "jpg")
            writer.add(Sample(f"key-{number}", media, "jpg", width=side, height=side))
    dataset = PairsDataset.open(tmp_path / "jpegs")
    kept, plain = (loader_of(dataset, batch_size=3, cache_bytes=size) for size in (1 << 20, 0))
    assert all(same(a, b) for a, b in zip(take(kept, 8), take(plain, 8), strict=True))
    assert len(kept._cache._pictures) == 1, "those under twice 16 pixels"


def test_excluded_samples_never_come(make_dataset: Make) -> None:
    exclude = frozenset({"key-00000", "key-00005", "key-00006", "key-00007", "key-00004"})
    loader = loader_of(make_dataset(count=13), exclude=exclude)
    assert loader.batches_per_epoch == 2
    assert exclude.isdisjoint(keys(take(loader, 6)))
    assert set(keys(take(loader, 2))) == {f"key-{n:05d}" for n in range(13)} - exclude


def test_equal_keys_have_equal_ids(make_dataset: Make) -> None:
    batches = take(loader_of(make_dataset(count=8), rank=0), 4)
    ids = {}
    for batch in batches:
        for sample, number in zip(batch.samples, batch.image_ids.tolist(), strict=True):
            assert ids.setdefault(sample.key, number) == number
    assert len(set(ids.values())) == 8


def test_without_crop_and_flip_the_picture_is_only_scaled(make_dataset: Make) -> None:
    dataset = make_dataset(count=4)
    loader = loader_of(dataset, crop_scale=(1.0, 1.0), flip=False)
    one, two = take(loader, 2)
    by_key = dict(zip(keys([one]), one.images, strict=True))
    assert all(torch.equal(by_key[key], image) for key, image in zip(keys([two]), two.images, strict=True))


def test_fewer_shards_than_ranks_is_refused_before_training(make_dataset: Make) -> None:
    with pytest.raises(BlipError, match="2 shards are fewer than 3 ranks"):
        loader_of(make_dataset(count=8, per_shard=4), world=3, batch_size=1)


def test_data_that_do_not_fill_a_batch_are_refused(make_dataset: Make) -> None:
    with pytest.raises(BlipError, match="10 samples do not fill one batch of 11"):
        loader_of(make_dataset(count=10), batch_size=11)


def test_a_state_of_other_data_is_refused(make_dataset: Make) -> None:
    state = loader_of(make_dataset("one")).state_dict()
    with pytest.raises(BlipError, match="made with other data"):
        loader_of(make_dataset("two", first=50)).load_state_dict(state)
    for change in ({"seed": 8}, {"weights": (2.0,)}):
        with pytest.raises(BlipError, match="made with other data"):
            loader_of(make_dataset("one"), **change).load_state_dict(state)


def test_a_truncated_shard_stops_with_its_name(make_dataset: Make) -> None:
    dataset = make_dataset(count=12)
    path = dataset.path / dataset.manifest.shards[1].url
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BlipError, match=r"00001\.tar: 3000 bytes"):
        take(loader_of(dataset), 3)
