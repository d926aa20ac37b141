from collections import Counter
from random import Random

import pytest

from blip.data.order import Part, Portion, ShardRef, cut, parts_of_epoch, shuffled

SHARDS = [ShardRef(0, 0, 5), ShardRef(0, 1, 7), ShardRef(1, 0, 3), ShardRef(1, 1, 6)]


def places(parts: list[Part]) -> list[tuple[int, int, int]]:
    return [(part.dataset, part.shard, number) for part in parts for number in range(part.start, part.stop)]


def epoch_of(
    weight: float, epoch: int, seed: int = 7, shards: list[ShardRef] = SHARDS
) -> list[tuple[int, int, int]]:
    return places(parts_of_epoch([Portion(shards, weight)], seed, epoch))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_an_epoch_without_overlap(world: int) -> None:
    per_rank = 21 // world
    line = parts_of_epoch([Portion(SHARDS)], 7, 0)
    taken = [places(cut(line, rank * per_rank, (rank + 1) * per_rank)) for rank in range(world)]
    assert [len(each) for each in taken] == [per_rank] * world
    assert max(Counter(place for each in taken for place in each).values()) == 1


def test_what_sits_an_epoch_out_changes() -> None:
    everything = set(epoch_of(1.0, 0))
    left_out = [everything - set(epoch_of(1.0, epoch)[:16]) for epoch in range(20)]
    assert all(len(each) == 5 for each in left_out)
    assert len(set().union(*left_out)) > 10


def test_shards_are_shuffled_by_seed_and_epoch() -> None:
    orders = {tuple(epoch_of(1.0, epoch, seed)) for seed in (1, 2) for epoch in range(5)}
    assert len(orders) > 5
    assert epoch_of(1.0, 3) == epoch_of(1.0, 3)


@pytest.mark.parametrize(("weight", "each"), [(1.0, 1), (2.0, 2), (3.0, 3)])
def test_a_whole_weight_is_how_often_a_sample_comes_in_an_epoch(weight: float, each: int) -> None:
    for epoch in range(3):
        assert set(Counter(epoch_of(weight, epoch)).values()) == {each}


@pytest.mark.parametrize(("weight", "epochs"), [(0.5, 2), (0.2, 5), (0.1, 10)])
def test_below_one_every_sample_comes_once_before_any_comes_again(weight: float, epochs: int) -> None:
    shards = [ShardRef(0, number, 10 + number) for number in range(10)]
    shards.append(ShardRef(0, 10, 200 - sum(shard.samples for shard in shards)))
    for first in (0, epochs, 2 * epochs):
        taken = [epoch_of(weight, epoch, shards=shards) for epoch in range(first, first + epochs)]
        assert {len(each) for each in taken} == {200 // epochs}
        assert len({place for each in taken for place in each}) == 200
    assert set(epoch_of(weight, 0, shards=shards)) != set(epoch_of(weight, epochs, shards=shards))


def test_between_whole_weights_some_come_once_more_and_each_in_its_turn() -> None:
    counts = [Counter(epoch_of(1.5, epoch)) for epoch in range(4)]
    assert all(sum(count.values()) == 32 for count in counts)  # of 31.5
    assert all(set(count.values()) <= {1, 2} for count in counts)
    total = Counter(place for count in counts for place in count.elements())
    assert max(total.values()) - min(total.values()) <= 1


def test_datasets_are_mixed_by_their_weights_and_not_one_after_the_other() -> None:
    one, two = ([ShardRef(dataset, number, 5) for number in range(20)] for dataset in (0, 1))
    line = places(parts_of_epoch([Portion(one, 2.0), Portion(two, 0.5)], 7, 0))
    assert Counter(dataset for dataset, _, _ in line) == {0: 200, 1: 50}
    halves = [Counter(dataset for dataset, _, _ in half) for half in (line[:125], line[125:])]
    assert all(half[0] > 60 and half[1] > 5 for half in halves)


def test_a_dataset_of_which_nothing_is_left_gives_nothing() -> None:
    assert Portion([], 2.0).samples == 0
    assert places(parts_of_epoch([Portion([], 2.0), Portion(SHARDS)], 7, 0)) == epoch_of(1.0, 0)


def test_a_tiny_weight_gives_a_sample_at_least() -> None:
    assert Portion(SHARDS, 0.001).samples == 1
    assert len({epoch_of(0.001, epoch)[0] for epoch in range(21)}) == 21


@pytest.mark.parametrize("buffer", [1, 10, 1000])
def test_a_shuffle_gives_every_position_once(buffer: int) -> None:
    order = list(shuffled(100, buffer, Random(0)))
    assert sorted(order) == list(range(100))
    assert (order == list(range(100))) == (buffer == 1)
    assert all(position < index + buffer for index, position in enumerate(order))
