"""What share of a source was refused: pictures of all its pictures, texts of all its texts.

    for share in shares_of(directory, receipts, is_bad): share.bad.total() > limit * share.total

Of a picture with ten questions, one without an answer, a tenth of the texts is refused and the picture is not.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from blip.data.part import PARTS, Receipt, refusals
from blip.ingest.sources.refused import TOO_LONG
from blip.ingest.sources.screening import BROKEN, CONTROL, EMPTY
from blip.ingest.sources.vqa import NO_ANSWER

OF_TEXTS = frozenset({EMPTY, NO_ANSWER})
OF_EITHER = frozenset({BROKEN, CONTROL, TOO_LONG})  # of a text, where its sample is kept


@dataclass
class Share:
    """The refused by reason, and how many there were, of `what`: samples or texts."""

    what: str
    total: int = 0
    bad: Counter[str] = field(default_factory=Counter)

    def add(self, reason: str, is_bad: bool) -> None:
        """Count one that was refused."""
        self.total += 1
        self.bad[reason] += is_bad


def shares_of(directory: Path, receipts: Mapping[int, Receipt], is_bad: Callable[[str], bool]) -> list[Share]:
    """The shares of samples and of texts in the finished parts of a dataset."""
    samples, texts, numbers = Share("samples"), Share("texts"), list(receipts)
    either = {row["key"] for row in refusals(directory, numbers) if row["reason"] in OF_EITHER}
    kept = set[str]()
    for keys, count in _parts(directory, numbers):
        samples.total += len(keys)
        texts.total += count
        kept.update(either.intersection(keys))
    for row in refusals(directory, numbers):
        reason = row["reason"]
        is_text = reason in OF_TEXTS or (reason in OF_EITHER and row["key"] in kept)
        (texts if is_text else samples).add(reason, is_bad(reason))
    return [samples, texts]


def _parts(directory: Path, numbers: list[int]) -> Iterator[tuple[list[str], int]]:
    """The keys of the samples of each part, and how many texts they have."""
    for number in numbers:
        path = directory / PARTS / f"{number:05d}.metadata.parquet"
        if path.is_file():
            table = pq.read_table(path, columns=["key", "captions", "questions"])
            captions = sum(len(chunk.flatten()) for chunk in table["captions"].chunks)
            yield table["key"].to_pylist(), captions + sum(table["questions"].to_pylist())
