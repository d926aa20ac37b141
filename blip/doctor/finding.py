"""One line of what the doctor says."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from blip.credentials import shown
from blip.errors import BlipError

GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the table. `bad` stops a run; `note` is worth knowing; `figures` are for programs."""

    subject: str
    state: Literal["good", "note", "bad"]
    text: str
    figures: dict[str, float] = field(default_factory=dict)


def found(checks: Iterable[Callable[[], Finding]]) -> Iterator[Finding]:
    """Look at everything in turn; a check that breaks is a finding of its own."""
    for check in checks:
        yield found_of(check.__name__.strip("_"), check)


def found_of(subject: str, check: Callable[[], Finding]) -> Finding:
    """What a check finds, or a finding that says what it broke on."""
    try:
        return check()
    except (BlipError, OSError, ImportError) as error:
        return Finding(subject, "bad", shown(str(error)))
