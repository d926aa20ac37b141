"""A section of a config.json, whose values are looked at as they are taken: somebody else may have written it.

fields = Fields(json.loads(text), "models/mine/config.json")
width = fields.section("vision_config").whole("hidden_size", 768)
"""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from blip.errors import BlipError

Value = TypeVar("Value")


class Fields:
    """The values by name; those that are left out have the default that is given.

    Every method raises BlipError for a value of another kind, with the file, the field, the value and what it may be.
    """

    def __init__(self, values: Any, where: str, parent: str = "") -> None:
        if not isinstance(values, dict):
            raise BlipError(
                f"{where}: {parent or 'the whole file'} is {_told(values)}, not names with values"
            )
        self._values, self._where, self._prefix = values, where, f"{parent}." if parent else ""

    def section(self, name: str) -> "Fields":
        """The section of that name, or an empty one."""
        return Fields(self._values.get(name, {}), self._where, self._prefix + name)

    def whole(self, name: str, default: int, least: int = 1) -> int:
        """A whole number of at least so much."""
        return self._take(
            name, default, f"a whole number from {least} on", lambda v: is_whole(v) and v >= least
        )

    def share(self, name: str, default: float) -> float:
        """A number from 0 to below 1."""
        return self._take(name, default, "a number from 0 to below 1", lambda v: is_number(v) and 0 <= v < 1)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        return self._take(name, default, "true or false", lambda v: isinstance(v, bool))

    def text(self, name: str, default: str) -> str:
        """A text."""
        return self._take(name, default, "a text", lambda v: isinstance(v, str))

    def side(self, name: str, default: int) -> int:
        """A number of pixels, or the same one twice."""
        value: Any = self._values.get(name, default)
        sides: list[Any] = value if isinstance(value, list) and value else [value]
        if not all(is_whole(side) and side >= 1 for side in sides):
            self.refuse(name, "it is a whole number from 1 on")
        if len(set(sides)) > 1:
            self.refuse(name, "this network takes square images only")
        return sides[0]

    def refuse(self, name: str, reason: str) -> NoReturn:
        """Raise BlipError that the value of this name cannot be used."""
        value = _told(self._values[name]) if name in self._values else "left out"
        raise BlipError(f"{self._where}: {self._prefix}{name} is {value}; {reason}")

    def _take(self, name: str, default: Value, wanted: str, fits: Callable[[Any], bool]) -> Value:
        value = self._values.get(name, default)
        if not fits(value):
            self.refuse(name, f"it is {wanted}")
        return value


def is_whole(value: Any) -> bool:
    """Whether it is a whole number; true and false are none here."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether it is a number of either kind."""
    return is_whole(value) or isinstance(value, float)


def _told(value: Any) -> str:
    return repr(value)[:80]
