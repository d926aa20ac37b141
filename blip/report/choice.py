"""A few of many decisions, chosen by hash: the same ones in whatever order and however often they are read.

choice = Choice(6)
choice.offer(lot(seed=7, key=decision.key), decision)
choice.decisions
"""

from hashlib import blake2b
from heapq import heappush, heapreplace

from blip.report.decision import Decision


def lot(seed: int, key: str) -> int:
    """The number that a sample draws; the smallest are chosen."""
    return int.from_bytes(blake2b(f"{seed} {key}".encode(), digest_size=8).digest())


class Choice:
    """Up to `size` decisions, those with the smallest lots."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: list[
            tuple[int, str, Decision]
        ] = []  # a heap; lots are negative, so the largest is the first

    def offer(self, number: int, decision: Decision) -> None:
        """Take the decision, perhaps for another one."""
        entry = (-number, decision.key, decision)
        if len(self._held) < self._size:
            heappush(self._held, entry)
        elif entry[:2] > self._held[0][:2]:
            heapreplace(self._held, entry)

    def add(self, other: "Choice") -> None:
        """Take those that another one chose of further decisions, as far as they are better."""
        for number, _, decision in other._held:
            self.offer(-number, decision)

    @property
    def decisions(self) -> list[Decision]:
        """Those chosen, in the order of their lots."""
        return [decision for *_, decision in sorted(self._held, key=lambda entry: entry[:2], reverse=True)]
