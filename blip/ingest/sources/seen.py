"""Which names came before, at 8 bytes a name.

seen = Seen()
seen.add("a")    # True: it is new
seen.add("a")    # False
"""

import numpy as np
from numpy.typing import NDArray

from blip.data.sample import stable_id

RECENT = 1 << 16  # kept as a set; then sorted into an array


class Seen:
    """A set of names that only grows, held as 64-bit hashes.

    Two names have the same hash with a probability of 3 in 10,000 among 100 million: the second is then taken
    for one that came before.
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted: list[NDArray[np.int64]] = []  # each at least twice as long as the next

    def add(self, name: str) -> bool:
        """Note a name; whether it is new."""
        number = stable_id(name)
        if number in self._recent or any(_has(numbers, number) for numbers in self._sorted):
            return False
        self._recent.add(number)
        if len(self._recent) >= RECENT:
            self._settle()
        return True

    def _settle(self) -> None:
        numbers = np.sort(np.fromiter(self._recent, np.int64, len(self._recent)))
        self._recent.clear()
        while self._sorted and len(self._sorted[-1]) < 2 * len(numbers):
            numbers = np.sort(np.concatenate((self._sorted.pop(), numbers)), kind="stable")
        self._sorted.append(numbers)


def _has(numbers: NDArray[np.int64], number: int) -> bool:
    place = int(np.searchsorted(numbers, number))
    return place < len(numbers) and int(numbers[place]) == number
