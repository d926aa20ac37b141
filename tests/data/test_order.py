from collections import Counter
from random import Random

import pytest

from blip.data.order import Part, ShardRef, parts_of_rank, shuffled

SHARDS = [ShardRef(0, 0, 5), ShardRef(0, 1, 7), ShardRef(1, 0, 3), ShardRef(1, 1, 6)]


def places(parts: list[Part]) -> list[tuple[int, int, int]]:
    return [(part.dataset, part.shard, number) for part in parts for number in range(part.start, part.stop)]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_an_epoch_without_overlap(world: int) -> None:
    per_rank = 21 // world
    taken = [places(parts_of_rank(SHARDS, 7, 0, rank, per_rank)) for rank in range(world)]
    assert [len(each) for each in taken] == [per_rank] * world
    assert max(Counter(place for each in taken for place in each).values()) == 1


def test_what_sits_an_epoch_out_changes() -> None:
    everything = set(places(parts_of_rank(SHARDS, 7, 0, 0, 21)))
    left_out = [everything - set(places(parts_of_rank(SHARDS, 7, epoch, 0, 16))) for epoch in range(20)]
    assert all(len(each) == 5 for each in left_out)
    assert len(set().union(*left_out)) > 10


def test_shards_are_shuffled_by_seed_and_epoch() -> None:
    orders = {tuple(parts_of_rank(SHARDS, seed, epoch, 0, 21)) for seed in (1, 2) for epoch in range(5)}
    assert len(orders) > 5
    assert parts_of_rank(SHARDS, 1, 3, 0, 21) == parts_of_rank(SHARDS, 1, 3, 0, 21)


@pytest.mark.parametrize("buffer", [1, 10, 1000])
def test_a_shuffle_gives_every_position_once(buffer: int) -> None:
    order = list(shuffled(100, buffer, Random(0)))
    assert sorted(order) == list(range(100))
    assert (order == list(range(100))) == (buffer == 1)
    assert all(position < index + buffer for index, position in enumerate(order))
