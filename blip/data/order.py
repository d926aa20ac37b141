"""In which order an epoch goes through its samples, and which of them are whose, before anything is read.

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


def parts_of_rank(shards: Sequence[ShardRef], seed: int, epoch: int, rank: int, per_rank: int) -> list[Part]:
    """The parts of an epoch that are one rank's: all shards shuffled, laid end to end, cut at equal lengths.

    Rank r owns samples `r * per_rank` to `(r + 1) * per_rank` of that line, so that no sample is anyone
    else's and every rank has the same number; what is left at the end of the line sits the epoch out.
    """
    line = list(shards)
    Random(f"{seed}/{epoch}/shards").shuffle(line)
    first, last = rank * per_rank, (rank + 1) * per_rank
    parts, begin = [], 0
    for ref in line:
        start, stop = max(first - begin, 0), min(last - begin, ref.samples)
        if start < stop:
            parts.append(Part(ref.dataset, ref.shard, start, stop))
        begin += ref.samples
    return parts


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
