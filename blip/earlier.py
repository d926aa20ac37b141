"""Whether what an earlier version began is the same now, where this one only has settings more, which are not set.

goes_on({"lr": 1}, {"lr": 1, "flip": False}, unset={"flip"})        # True
"""

from collections.abc import Iterator, Mapping, Set
from typing import Any


def goes_on(before: Mapping[str, Any], now: Mapping[str, Any], unset: Set[str]) -> bool:
    """Whether all that is said before is the same now, and what is new is unset; both as JSON has them.

    Args:
        unset: dotted names in `now` of what is as if there were no such setting; in a list of sections by number.
    """
    old, new = dict(flat(before)), dict(flat(now))
    same = all(name in new and new[name] == value for name, value in old.items())
    return same and new.keys() - old.keys() <= unset


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of all that is said; a list stays one value, unless it is one of sections."""
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        value = {str(number): part for number, part in enumerate(value)}
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, part in value.items():
        yield from flat(part, f"{name}.{key}" if name else key)
