"""Which shards were read into a dataset that is being made, so that a run that was ended goes on without them.

    ledger = Ledger(directory / LEDGER)
    place = ledger.place(listed, receipts, comes)     # where to go on
    ledger.note(number, entry)                        # before the first item of a shard is given out

A line a shard, on disk before any of its items is in a part:

    {"shard": "00012.tar", "size": 73400320, "tag": "\\"9b2c...\\"", "start": 118204, "failed": "", "given": 0}

`start` counts the items of all shards before it, `given` those that came from it in an earlier run where it does not
come in this one. Parts have as many as their receipts say, and follow each other in the
same order, so both together tell which shard the next part begins in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path

from blip.atomic import flush, write_text
from blip.data.part import Receipt

LEDGER = "fetched.jsonl"
FETCHED = "fetched"  # the folder beside it in which shards lie while they are read


@dataclass(frozen=True)
class Entry:
    """A shard as it is listed, how many items came before it, why it did not come, if so, and what had come by then."""

    shard: str
    size: int | None
    tag: str
    start: int = 0
    failed: str = ""
    given: int = 0

    def is_same(self, other: Entry) -> bool:
        """Whether it is the same file, unchanged."""
        return (self.shard, self.size, self.tag) == (other.shard, other.size, other.tag)


END = Entry("", None, "")  # stands behind the last shard: nothing came after it


@dataclass(frozen=True)
class Place:
    """Where to go on: number of the next part, number of the shard it begins in, items before that shard and in it."""

    part: int = 0
    shard: int = 0
    start: int = 0
    items: int = 0


class Ledger:
    """The lines that are there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = _read(path)
        self._written = False

    @property
    def failed(self) -> int:
        """How many shards did not come."""
        return sum(bool(entry.failed) for entry in self._entries)

    def note(self, number: int, entry: Entry) -> None:
        """Note that the items of a shard follow, or END; on disk when this returns.

        The first writes all lines in one go, without those from its number on: until its shard has come they stand as
        an earlier run left them, for the run may end before. The last of those may have been cut short.
        """
        self._entries[number:] = [entry]
        if self._written:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(entry))
            flush(self._path)
        else:
            write_text(self._path, "".join(map(_line, self._entries)))
            self._written = True

    def place(
        self, listed: Sequence[Entry], receipts: Mapping[int, Receipt], comes: Callable[[int], bool]
    ) -> Place:
        """Where to go on: behind the finished parts, from the first, made of shards that are listed as they were.

        Args:
            listed: the shards now, and END.
            receipts: of the finished parts.
            comes: is asked for a shard that did not come, whether it does now; then its samples are wanted.
        """
        known = self._unchanged(listed, comes)
        limit = self._entries[known].start if known < len(self._entries) else None
        part = items = 0
        while part in receipts:
            behind = items + items_of(receipts[part])
            if limit is not None and behind >= limit:  # where a list ended its last part was cut short
                break
            part, items = part + 1, behind
        starts = [entry.start for entry in self._entries[:known]]
        shard = max((number for number, start in enumerate(starts) if start <= items), default=0)
        start = starts[shard] if starts else 0
        if starts and self._entries[shard].failed and items > start + self._entries[shard].given:
            return Place(part, shard + 1, items, 0)  # the item that says so is in a part
        return Place(part, shard, start, items - start)

    def _unchanged(self, listed: Sequence[Entry], comes: Callable[[int], bool]) -> int:
        """How many shards, from the first, are listed as they were and do not come now if they did not then."""
        pairs = enumerate(zip(self._entries, listed, strict=False))
        same = takewhile(lambda one: one[1][0].is_same(one[1][1]), pairs)
        return sum(1 for _ in takewhile(lambda one: not (one[1][0].failed and comes(one[0])), same))


def count_shards(directory: Path) -> int:
    """How many shards were read into a dataset that is being made."""
    return sum(bool(entry.shard) for entry in _read(directory / LEDGER))


def items_of(receipt: Receipt) -> int:
    """Of how many items a part was made: each is a sample or refused."""
    return (receipt.shard.samples if receipt.shard else 0) + sum(receipt.quarantined.values())


def _line(entry: Entry) -> str:
    return json.dumps(asdict(entry)) + "\n"


def _read(path: Path) -> list[Entry]:
    """The lines of a file; one that was cut, and what follows, was not on disk yet.

    Raises OSError if the file is there and cannot be read: what it knows is not to be fetched again unasked.
    """
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            entries.append(Entry(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return entries
