"""With lanes, what a step is made of does not depend on how many ranks share it, nor on how it is cut in batches."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from blip.data.loader import Batch, PairLoader
from blip.data.pairs import PairsDataset
from blip.errors import BlipError

Make = Callable[..., PairsDataset]
Row = tuple[str, bytes, float]  # key, pixels, what its generator draws
LANES, STEP = 6, 12


@pytest.fixture
def dataset(make_dataset: Make) -> PairsDataset:
    return make_dataset(count=43, per_shard=6)


def loaders(dataset: PairsDataset, world: int, accumulate: int = 1, **options: Any) -> list[PairLoader]:
    values: dict[str, Any] = {"image_size": 16, "seed": 7, "shuffle_buffer": 4, "randaugment": True} | options
    shared = {"world": world, "lanes": LANES, "accumulate": accumulate, **values}
    size = STEP // world // accumulate
    return [
        PairLoader([(dataset, frozenset())], batch_size=size, rank=rank, **shared) for rank in range(world)
    ]


def rows(batch: Batch) -> list[Row]:
    texts = [batch.rng_of(row).random() for row in range(len(batch.samples))]
    pixels = [image.contiguous().numpy().tobytes() for image in batch.images]
    return list(zip([sample.key for sample in batch.samples], pixels, texts, strict=True))


def taken(made: list[PairLoader], count: int, accumulate: int = 1) -> list[list[Row]]:
    """The rows of `count` steps, batch by batch those of all ranks laid end to end."""
    batches = [iter(loader) for loader in made]
    found = []
    for _ in range(count):
        found.append([row for _ in range(accumulate) for one in batches for row in rows(next(one))])
    return found


@pytest.mark.parametrize("world", [2, 3, 6])
def test_the_batches_of_all_ranks_are_the_same_for_any_number_of_them(dataset, world: int) -> None:
    assert taken(loaders(dataset, world), 8) == taken(loaders(dataset, 1), 8)


@pytest.mark.parametrize(("world", "accumulate"), [(1, 2), (2, 1), (3, 2)])
def test_a_step_of_several_batches_has_the_same_samples_crops_and_draws(
    dataset, world: int, accumulate: int
) -> None:
    whole = taken(loaders(dataset, 1), 8)
    cut = taken(loaders(dataset, world, accumulate), 8, accumulate)
    assert [sorted(step) for step in cut] == [sorted(step) for step in whole]


def test_every_sample_of_an_epoch_comes_once_also_when_the_ranks_change(dataset: PairsDataset) -> None:
    seen: Counter[str] = Counter()
    made, state = loaders(dataset, 2), None
    for world in (2, 1, 3):
        made = loaders(dataset, world)
        if state:
            for loader in made:
                loader.load_state_dict(json.loads(json.dumps(state)))
        seen.update(key for step in taken(made, 1) for key, *_ in step)
        state = made[0].state_dict()
    assert made[0].batches_per_epoch == 3
    assert set(seen.values()) == {1} and len(seen) == 36


@pytest.mark.parametrize("stop", [1, 3, 5])
@pytest.mark.parametrize(("before", "after"), [((2, 1), (1, 1)), ((1, 2), (3, 1)), ((3, 1), (2, 1))])
def test_a_run_goes_on_with_other_ranks_and_batches_as_if_it_had_them_from_the_start(
    dataset, stop: int, before: tuple[int, int], after: tuple[int, int]
) -> None:
    whole = [sorted(step) for step in taken(loaders(dataset, 1), 9)]
    first = loaders(dataset, *before)
    begun = taken(first, stop, before[1])
    resumed = loaders(dataset, *after)
    for loader in resumed:
        loader.load_state_dict(first[0].state_dict())
    ended = taken(resumed, 9 - stop, after[1])
    assert [sorted(step) for step in begun + ended] == whole


def test_workers_make_the_same_of_lanes(dataset: PairsDataset) -> None:
    assert taken(loaders(dataset, 2, workers=2), 3) == taken(loaders(dataset, 2), 3)


def test_a_rank_reads_the_shards_of_its_own_lanes_only(dataset: PairsDataset) -> None:
    own = {key for step in taken(loaders(dataset, 3)[2:], 3) for key, *_ in step}
    table = dataset.metadata(["key", "shard"]).to_pylist()
    needed = {row["shard"] for row in table if row["key"] in own}
    for url in {row["shard"] for row in table} - needed:
        (dataset.path / url).unlink()
    assert {key for step in taken(loaders(dataset, 3)[2:], 3) for key, *_ in step} == own
    assert len(needed) < len(dataset.manifest.shards)


def test_lanes_that_cannot_be_shared_out_are_refused(dataset: PairsDataset) -> None:
    for world, size in ((4, 3), (2, 5)):
        with pytest.raises(BlipError, match="lanes = 6 must be a multiple"):
            PairLoader([(dataset, frozenset())], batch_size=size, image_size=16, seed=1, world=world, lanes=6)


def test_a_step_of_another_size_is_refused(dataset: PairsDataset) -> None:
    state = loaders(dataset, 2)[0].state_dict()
    other = PairLoader(
        [(dataset, frozenset())], batch_size=6, image_size=16, seed=7, shuffle_buffer=4, lanes=6
    )
    with pytest.raises(BlipError, match="made with other data"):
        other.load_state_dict(state)


def test_without_lanes_a_batch_has_one_generator(dataset: PairsDataset) -> None:
    batch = next(iter(PairLoader([(dataset, frozenset())], batch_size=4, image_size=16, seed=7)))
    assert batch.rngs == () and batch.rng_of(0) is batch.rng_of(3) is batch.rng
