"""Two halves of a dataset, by key: one to learn from, the other to judge.

half_of("web-0001")                                  # 0 or 1, the same on every machine
dataset.samples(exclude=but_half(excluded, 0))       # those of half 0 that are not excluded
"""

from hashlib import sha256


def half_of(key: str) -> int:
    """The half of a key."""
    return sha256(key.encode()).digest()[0] % 2


class ButHalf(frozenset[str]):
    """Keys to leave out: those given, and all of the other half, which are not listed."""

    half: int

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (isinstance(key, str) and half_of(key) != self.half)

    def __bool__(self) -> bool:
        return True


def but_half(excluded: frozenset[str], half: int) -> ButHalf:
    """What leaves the half, without those that are excluded."""
    found = ButHalf(excluded)
    found.half = half
    return found


def left_out(excluded: frozenset[str]) -> int | None:
    """The half that is left out beside what is listed, if one is."""
    return 1 - excluded.half if isinstance(excluded, ButHalf) else None
