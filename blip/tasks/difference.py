"""Two models on the same queries: how far they are apart, how sure that is, and on how many queries they disagree.

found = difference("i2t_r1", first_Q, other_Q)
found.gain, found.low, found.high          # 0.04, -0.01, 0.09: 95% of drawn test sets
found.within_chance                        # True: the interval holds 0, or a coin makes such a gain in 5 of 100 cases
found.only_first, found.only_other         # 17 queries and 34
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from blip.tasks.coin import coin_chance
from blip.tasks.comparison import Evaluated
from blip.tasks.resampling import gain_interval
from blip.tasks.retrieval import Head

SELDOM = 0.05  # how often a coin may make a gain that is beyond chance


@dataclass(frozen=True)
class Difference:
    """A measure of one model less that of the first.

    Attributes:
        low, high: the 95% interval of the gain by a paired bootstrap of the pictures, each with all its queries.
        only_first, only_other: queries that one of the two alone gets right.
        coin: how often a coin, thrown for each picture, makes a gain as large; few pictures that differ have an
            interval which is too narrow.
    """

    measure: str
    gain: float
    low: float
    high: float
    only_first: int
    only_other: int
    coin: float

    @property
    def within_chance(self) -> bool:
        """Whether other queries might as well have had the first ahead, or behind."""
        return self.low <= 0 <= self.high or self.coin > SELDOM


@dataclass(frozen=True)
class Compared:
    """A head of one model beside a head of the first, measure by measure."""

    first_head: Head
    other: str
    other_head: Head
    differences: list[Difference]


def compare(models: dict[str, Evaluated]) -> list[Compared]:
    """Every other model beside the first one, head by head."""
    (_, first), *others = models.items()
    return [
        Compared(own, name, head, list(_differences(first, own, other, head)))
        for name, other in others
        for own, head in _partners(first, other)
    ]


def difference(measure: str, first_Q: Tensor, other_Q: Tensor, picture_Q: Tensor | None = None) -> Difference:
    """From which queries each of the two gets right, bool ``[Q]``.

    Args:
        picture_Q: where several queries are of one picture, which: a picture is drawn with all of them.

    Raises:
        ValueError: they are not of the same queries, or of none.
    """
    group_Q = np.arange(len(first_Q)) if picture_Q is None else picture_Q.numpy()
    low, high = gain_interval(first_Q.numpy(), other_Q.numpy(), group_N=group_Q)
    gain = float(other_Q.double().mean() - first_Q.double().mean())
    only_first_Q, only_other_Q = first_Q & ~other_Q, other_Q & ~first_Q
    gains = np.bincount(group_Q, only_other_Q.numpy()) - np.bincount(group_Q, only_first_Q.numpy())
    coin = coin_chance(gains.astype(int))
    return Difference(measure, gain, low, high, int(only_first_Q.sum()), int(only_other_Q.sum()), coin)


def _partners(first: Evaluated, other: Evaluated) -> Iterator[tuple[Head, Head]]:
    """A head beside the same one; beside every head of the other where that has not its like."""
    for head in other.heads:
        for own in first.heads:
            if own == head or own not in other.heads or head not in first.heads:
                yield own, head


def _differences(first: Evaluated, own: Head, other: Evaluated, head: Head) -> Iterator[Difference]:
    before, after = first.hits(own), other.hits(head)
    for measure in before:
        if measure in after:
            of_captions = measure.startswith("t2i")
            picture_Q = first.queries.caption_image if of_captions else None
            yield difference(measure, before[measure], after[measure], picture_Q)
