"""Histograms filled batch by batch: the edges are fixed, the bars to show are joined from them afterwards.

words = Histogram("words", numbers_to(30, 40))
words.add([3, 5, 5])
words.bars(limit=12)          # [Bar("3", 3, 4, 1), Bar("4", 4, 5, 0), Bar("5", 5, 6, 2)]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Bar:
    """How many values lie in `low <= value < high`; the last bar of a histogram may have no upper end."""

    label: str
    low: float
    high: float
    count: int


class Histogram:
    """Counts between edges, with the least, the greatest and the sum of all values."""

    def __init__(self, unit: str, edges: NDArray[np.float64]) -> None:
        """`edges` ascend and end with infinity; values below the first count as the first bar's."""
        self.unit = unit
        self.edges = edges
        self.counts = np.zeros(len(edges) - 1, np.int64)
        self.total, self.least, self.greatest = 0.0, math.inf, -math.inf

    def add(self, values: Sequence[float]) -> None:
        """Count some values."""
        if not len(values):
            return
        array = np.asarray(values, np.float64)
        places = np.clip(np.searchsorted(self.edges, array, "right") - 1, 0, len(self.counts) - 1)
        self.counts += np.bincount(places, minlength=len(self.counts))
        self.total += float(array.sum())
        self.least, self.greatest = (
            min(self.least, float(array.min())),
            max(self.greatest, float(array.max())),
        )

    @property
    def values(self) -> int:
        """How many were counted."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """The mean of all values, not a number if there are none."""
        return self.total / self.values if self.values else math.nan

    @property
    def told(self) -> str:
        """All of it in a few words: "64 to 640 px, mean 311", "all 96 px", "one caption" or "none"."""
        if not self.values:
            return "none"
        if self.constant and self.least == 1 and self.unit.endswith("s"):
            return f"one {self.unit.removesuffix('s')}"
        if self.constant:
            return f"all {shown(self.least)} {self.unit}"
        return f"{shown(self.least)} to {shown(self.greatest)} {self.unit}, mean {shown(self.mean)}"

    @property
    def constant(self) -> bool:
        """Whether there is at most one value, so that bars would say nothing."""
        return self.least >= self.greatest

    def bars(self, limit: int) -> list[Bar]:
        """At most `limit` bars over the part of the edges where there are values; neighbours are joined."""
        occupied = np.flatnonzero(self.counts)
        if not len(occupied):
            return []
        first, last = int(occupied[0]), int(occupied[-1]) + 1
        step = math.ceil((last - first) / limit)
        return [self._bar(at, min(at + step, last)) for at in range(first, last, step)]

    def _bar(self, first: int, last: int) -> Bar:
        low, high = float(self.edges[first]), float(self.edges[last])
        return Bar(self._label(low, high), low, high, int(self.counts[first:last].sum()))

    def _label(self, low: float, high: float) -> str:
        if math.isinf(high):
            return f"{shown(low)}+"
        if not self._whole:
            return f"{shown(low)} - {shown(high)}"
        return shown(low) if high == low + 1 else f"{shown(low)} - {shown(high - 1)}"

    @cached_property
    def _whole(self) -> bool:
        """Whether the edges are whole numbers, so that a bar ends one before the next."""
        return bool((self.edges[:-1] == np.floor(self.edges[:-1])).all())


def between(edges: Sequence[float]) -> NDArray[np.float64]:
    """Edges as given, in order and each once, and infinity."""
    return np.array([*sorted(set(edges)), math.inf])


def numbers_to(last: int, *wider: int) -> NDArray[np.float64]:
    """A bar for each whole number up to `last`, then bars that end with each of the wider ones."""
    return np.array([*range(last + 1), *(number + 1 for number in (last, *wider)), math.inf])


def shown(value: float) -> str:
    """A number for people: 0.67, 96, 1535, 20k, 3M."""
    for unit, letter, least in ((1e9, "G", 1e9), (1e6, "M", 1e6), (1e3, "k", 1e4)):
        if round(abs(value)) >= least - 1:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")
