"""A picture that cannot be read costs its sample its place, and no run its repeatability; many of them end the run."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from blip.data import unreadable
from blip.data.loader import Batch, PairLoader
from blip.data.pairs import PairsDataset
from blip.data.unreadable import Unreadable
from blip.errors import BlipError

from .test_lanes import loaders, taken
from .test_loader import keys, loader_of, same, take

Make = Callable[..., PairsDataset]


def spoil(dataset: PairsDataset, *numbers: int) -> PairsDataset:
    """Overwrite pixels of some pictures in their shards, as a bad disk does."""
    for shard in dataset.manifest.shards:
        path = dataset.path / shard.url
        data = bytearray(path.read_bytes())
        for name in (f"key-{number:05d}.png".encode() for number in numbers):
            if name in data:
                start = data.index(name) + 512 + 60
                data[start : start + 60] = bytes(60)
        path.write_bytes(data)
    return dataset


def key(number: int) -> str:
    return f"key-{number:05d}"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("broken", "left_out", "instead"),
    [
        ([2], [], {2: 3}),
        ([3], [], {3: 0}),  # the last of its shard
        ([2, 3], [], {2: 0, 3: 0}),
        ([2], [3, 0], {2: 1}),
    ],
)
def test_the_next_sample_of_the_shard_has_its_place(
    make_dataset: Make, broken: list[int], left_out: list[int], instead: dict[int, int], workers: int
) -> None:
    options = {"batch_size": 2, "exclude": frozenset(map(key, left_out)), "workers": workers}
    whole = keys(take(loader_of(make_dataset("whole", 12), **options), 6))
    found = take(loader_of(spoil(make_dataset("spoilt", 12), *broken), **options), 6)
    changes = {key(number): key(other) for number, other in instead.items()}
    assert keys(found) == [changes.get(one, one) for one in whole]
    assert all(sample.captions[0].text == f"picture {int(sample.key[4:])}" for sample in found[0].samples)
    lost = [one for batch in found for one in batch.unreadable]
    assert {one.key for one in lost} >= changes.keys() & set(whole)
    assert isinstance(lost[0], Unreadable) and lost[0].shard.name == "00000.tar"
    assert lost[0].reason.startswith("corrupt: PNG")


@pytest.mark.parametrize("stop", [1, 3, 4, 7])
@pytest.mark.parametrize("options", [{}, {"cache_bytes": 0}, {"workers": 2}], ids=str)
def test_a_run_with_such_samples_repeats_and_goes_on_bit_for_bit(
    make_dataset: Make, stop: int, options: dict
) -> None:
    dataset = spoil(make_dataset(count=23), 1, 6, 7, 18)
    expected = take(loader_of(dataset, randaugment=True), 12)
    assert sum(len(batch.unreadable) for batch in expected) > 4, "they come again in every epoch"
    begun = loader_of(dataset, randaugment=True, **options)
    batches = iter(begun)
    first: list[Batch] = list(islice(batches, stop))
    resumed = loader_of(dataset, randaugment=True)
    resumed.load_state_dict(json.loads(json.dumps(begun.state_dict())))
    batches.close()  # pyright: ignore[reportAttributeAccessIssue]
    found = first + take(resumed, 12 - stop)
    assert all(same(one, other) for one, other in zip(expected, found, strict=True))


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (3, 1), (1, 2), (3, 2)])
def test_with_lanes_the_ranks_may_change_all_the_same(
    make_dataset: Make, world: int, accumulate: int
) -> None:
    dataset = spoil(make_dataset(count=43, per_shard=6), 3, 4, 20, 41)
    whole = taken(loaders(dataset, 1), 6)
    cut = taken(loaders(dataset, world, accumulate), 6, accumulate)
    assert [sorted(step) for step in cut] == [sorted(step) for step in whole]


def test_many_end_the_run_with_the_shard_and_a_way_out(make_dataset: Make) -> None:
    dataset = spoil(make_dataset(count=24, per_shard=12), *range(0, 24, 2))
    said = (
        r"\d\.tar, sample key-\d+: corrupt: PNG .* number 11 of \d+ samples .* `blip validate .*pairs` says"
    )
    with pytest.raises(BlipError, match=said):
        take(loader_of(dataset), 6)


def test_a_shard_of_which_no_picture_can_be_read_ends_it(make_dataset: Make) -> None:
    dataset = spoil(make_dataset(count=12), 4, 5, 6, 7)
    with pytest.raises(BlipError, match=r"00001\.tar, sample key-0000[4-7]: .* all of the shard"):
        take(loader_of(dataset), 3)


def test_one_in_every_epoch_is_one(make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unreadable, "FEW", 1)
    dataset = spoil(make_dataset(count=12), 7)
    assert sum(len(batch.unreadable) for batch in take(loader_of(dataset), 30)) == 10


def test_few_among_many_do_no_harm(make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unreadable, "FEW", 0)
    dataset = spoil(make_dataset(count=40), 37)
    monkeypatch.setattr(unreadable, "ONE_IN", 4)
    assert lost_in(loader_of(dataset), 10)
    monkeypatch.setattr(unreadable, "ONE_IN", 1000)
    with pytest.raises(BlipError, match="number 1 of"):
        take(loader_of(dataset), 10)


def lost_in(loader: PairLoader, count: int) -> list[Path]:
    return [one.shard for batch in take(loader, count) for one in batch.unreadable]


def test_a_shard_is_named_by_its_dataset(make_dataset: Make) -> None:
    one, two = make_dataset("one", 8), spoil(make_dataset("two", 8, first=100), 105)
    assert lost_in(loader_of(one, two), 4) == [two.path / "shards/00001.tar"]
