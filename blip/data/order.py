"""In which order an epoch goes through its samples, and which of them are whose, before anything is read.

line = parts_of_epoch([Portion(shards_of_human, 2.0), Portion(shards_of_web, 0.2)], seed=7, epoch=0)
mine = [cut(line, lane * per_lane, (lane + 1) * per_lane) for lane in lanes_of(rank, world, lanes)]

Everything here is arithmetic on counts and seeds: a rank can work out where any batch comes from, so that a
resumed run skips what it has seen without reading it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class ShardRef:
    """A shard of one of the loader's datasets, and how many samples it contributes."""

    dataset: int
    shard: int
    samples: int


@dataclass(frozen=True)
class Part:
    """The samples `start` to `stop` (exclusive) of those that a shard contributes."""

    dataset: int
    shard: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Portion:
    """What a dataset gives to every epoch: `weight` times its samples.

    A dataset comes round in passes, each through all its samples with the shards in another order; an epoch goes on
    where the last one stopped. So 1 is every sample once an epoch, 2 every sample twice, and of 0.2 five epochs have
    every sample once.
    """

    shards: Sequence[ShardRef]
    weight: float = 1.0

    @property
    def samples(self) -> int:
        """Samples of every epoch."""
        total = sum(ref.samples for ref in self.shards)
        return max(round(self.weight * total), 1) if total else 0

    def parts(self, seed: int, epoch: int) -> Iterator[Part]:
        """The parts of one epoch; those of a pass in the order of the manifest."""
        total = sum(ref.samples for ref in self.shards)
        first, last = epoch * self.samples, (epoch + 1) * self.samples
        for number in range(first // total, -(-last // total)) if total else ():
            line = [Part(ref.dataset, ref.shard, 0, ref.samples) for ref in self.shards]
            Random(f"{seed}/{self.shards[0].dataset}/{number}/pass").shuffle(line)
            begin = number * total
            taken = cut(line, max(first - begin, 0), min(last - begin, total))
            yield from sorted(taken, key=lambda part: part.shard)


def parts_of_epoch(portions: Sequence[Portion], seed: int, epoch: int) -> list[Part]:
    """What all datasets give to an epoch, laid end to end in an order of its own."""
    line = [part for portion in portions for part in portion.parts(seed, epoch)]
    Random(f"{seed}/{epoch}/shards").shuffle(line)
    return line


def cut(line: Sequence[Part], first: int, last: int) -> list[Part]:
    """The samples `first` to `last` (exclusive) of parts laid end to end.

    Lane l has samples `l * n` to `(l + 1) * n` of an epoch's line, so that no sample is in another lane and all are
    equally long; what is left at the end of the line sits the epoch out.
    """
    parts, begin = [], 0
    for part in line:
        start, stop = max(first - begin, 0), min(last - begin, len(part))
        if start < stop:
            parts.append(Part(part.dataset, part.shard, part.start + start, part.start + stop))
        begin += len(part)
    return parts


def lanes_of(rank: int, world: int, lanes: int) -> range:
    """The lanes that a rank reads: a run of `lanes / world` of them.

    Every batch of all ranks takes as many samples of each lane. So what a batch is made of depends on how many lanes
    there are, and not on how many ranks share them.
    """
    own = lanes // world
    return range(rank * own, (rank + 1) * own)


def shuffled(count: int, buffer: int, rng: Random) -> Iterator[int]:
    """The positions 0 to `count` as a shuffle buffer gives them out: each leaves at most `buffer` early."""
    waiting: list[int] = []
    for position in range(count):
        waiting.append(position)
        if len(waiting) >= buffer:
            yield _draw(waiting, rng)
    while waiting:
        yield _draw(waiting, rng)


def _draw(waiting: list[int], rng: Random) -> int:
    index = int(rng.random() * len(waiting))
    waiting[index], waiting[-1] = waiting[-1], waiting[index]
    return waiting.pop()
