"""What the truth.csv beside a table knows of its pictures; said is which rows meet none, and which pictures have none.

truth = Truth.beside(Path("mine/captions.csv"))
truth.of("a.png")               # {"label": "cat"}, or None
truth.tell()                    # when all pictures were asked for
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blip.ingest.sources.notes import tell
from blip.ingest.sources.row import Value
from blip.ingest.sources.rows import TRUTH, read_truth

LABEL = "label"


@dataclass
class Truth:
    """The rows of a truth.csv by image, those that nobody has asked for, and the pictures that it has none for."""

    table: Path
    rows: dict[str, dict[str, Value]]
    _unmet: set[str] = field(init=False)
    _without: int = 0
    _example: str = ""  # the first of these

    def __post_init__(self) -> None:
        self._unmet = set(self.rows)

    @classmethod
    def beside(cls, table: Path) -> "Truth":
        """Read the truth.csv in a table's folder, if there is one.

        Raises:
            BlipError: it has no column `image`, or a broken row.
        """
        return cls(table, read_truth(table.parent))

    def of(self, name: str) -> dict[str, Value] | None:
        """What is known of a picture, by its name in the table."""
        known = self.rows.get(name)
        self._unmet.discard(name)
        if known is None and name:
            self._without += 1
            self._example = self._example or name
        return known

    def tell(self) -> None:
        """Say how many rows met no picture, and how many pictures have none."""
        if not self.rows or not (self._unmet or self._without):
            return
        told = []
        if self._unmet:
            count = f"{len(self._unmet):,} of its {len(self.rows):,} images"
            told.append(f"{count} are not in {self.table.name}, such as {min(self._unmet)!r}")
        if self._without:
            pictures = f"{self._without:,} pictures of {self.table.name}"
            told.append(f"{pictures} have no row in it, such as {self._example!r}")
        tell(
            f"{self.table.parent / TRUTH}: {'; '.join(told)} (names have to be those of {self.table.name}, with their "
            "folders and extensions)"
        )


def tell_of_label(names: Sequence[str], taken: Sequence[str], table: Path) -> None:
    """Say that a column of labels is not read where it stands in the table of the captions."""
    labels = [name for name in names if name.strip().lower() == LABEL and name not in taken]
    if labels:
        tell(
            f"the column {labels[0]} of {table} is not read; labels go into {table.parent / TRUTH}, with the columns "
            f"image and {LABEL}"
        )
