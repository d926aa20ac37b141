"""What share of a source was refused: pictures of all its pictures, texts of all its texts.

    for share in shares_of_parts(directory, numbers, source.kind): share.is_over(limit)     # of one in the making
    for share in shares_of(dataset, source.kind): share.is_over(limit)                      # of one that is finished

Of a picture with ten questions, one without an answer, a tenth of the texts is refused and the picture is not. A row
that is broken or names no picture that there is, and a picture that no row names, are two refusals and one lost sample:
of such pictures only those count that are more than such rows. A tar or table that ends too early, or does not come
from its store, and a tar or folder that is a link to elsewhere, is neither: how many samples are lost with it nobody
knows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from blip.config import SourceKind
from blip.data.archive import COMPRESSED, TRUNCATED
from blip.data.metadata import METADATA
from blip.data.pairs import PairsDataset
from blip.data.parquet import read_batches
from blip.data.part import PARTS, refusals
from blip.data.quarantine import NEAR_DUPLICATE, OF_EITHER, OF_TEXTS, is_of_text, read_quarantine
from blip.ingest.sources.refused import LINKED_AWAY, MISSING, NO_IMAGE, NOT_LISTED, UNFETCHED
from blip.ingest.sources.row import BROKEN_ROW, BROKEN_TABLE
from blip.ingest.sources.urls import MALFORMED

OF_ROWS = frozenset({BROKEN_ROW, NO_IMAGE, MISSING})  # whose picture may be one that no row names
OF_FILES = frozenset({TRUNCATED, COMPRESSED, BROKEN_TABLE, UNFETCHED, LINKED_AWAY})

Refusals = Callable[[], Iterable[tuple[str, str]]]  # key and reason of each, as often as it is called


@dataclass
class Share:
    """How many samples or texts were kept, how many refused, and of these the bad ones by reason."""

    what: str
    kept: int = 0
    refused: int = 0
    bad: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """How many the source had."""
        return self.kept + self.refused

    def is_over(self, limit: float) -> bool:
        """Whether more than that share of the source is bad."""
        return self.bad.total() > limit * self.total


def _each_loss_once(samples: Share) -> Share:
    """Without the pictures that no row names, as far as there are rows without a picture."""
    twice = min(samples.bad[NOT_LISTED], sum(samples.bad[reason] for reason in OF_ROWS))
    return replace(samples, refused=samples.refused - twice, bad=samples.bad - Counter({NOT_LISTED: twice}))


def is_bad(reason: str, kind: SourceKind) -> bool:
    """Whether a reason speaks against a source. That the web has lost a picture does not."""
    return reason in MALFORMED if kind == "urls" else reason != NEAR_DUPLICATE


def shares_of_parts(directory: Path, numbers: Sequence[int], kind: SourceKind) -> list[Share]:
    """The shares of samples and of texts in the finished parts of a dataset."""
    tables = [directory / PARTS / f"{number:05d}.metadata.parquet" for number in numbers]

    def refused() -> Iterator[tuple[str, str]]:
        return ((row["key"], row["reason"]) for row in refusals(directory, numbers))

    return _shares([path for path in tables if path.is_file()], refused, kind)


def shares_of(dataset: PairsDataset, kind: SourceKind) -> list[Share]:
    """The shares of samples and of texts of a dataset."""
    counts = dataset.manifest.quarantined
    if not any(is_bad(reason, kind) for reason in OF_TEXTS.union(OF_EITHER).intersection(counts)):
        of_samples = {reason: count for reason, count in counts.items() if reason not in OF_FILES}
        bad = Counter({reason: count for reason, count in of_samples.items() if is_bad(reason, kind)})
        samples = Share("samples", len(dataset), sum(of_samples.values()), bad)
        return [_each_loss_once(samples), Share("texts")]

    def refused() -> Iterator[tuple[str, str]]:
        return ((one.key, one.reason) for one in read_quarantine(dataset.path))

    return _shares([dataset.path / METADATA], refused, kind)


def _shares(tables: Iterable[Path], refused: Refusals, kind: SourceKind) -> list[Share]:
    samples, texts = Share("samples"), Share("texts")
    either = {key for key, reason in refused() if reason in OF_EITHER}
    kept = set[str]()
    for keys, count in _contents(tables):
        samples.kept += len(keys)
        texts.kept += count
        kept.update(either.intersection(keys))
    for key, reason in refused():
        if reason in OF_FILES:
            continue
        share = texts if is_of_text(key, reason, kept) else samples
        share.refused += 1
        if is_bad(reason, kind):
            share.bad[reason] += 1
    return [_each_loss_once(samples), texts]


def _contents(tables: Iterable[Path]) -> Iterator[tuple[list[str], int]]:
    """The keys of some samples at a time, and how many texts they have."""
    for path in tables:
        for batch in read_batches(path, ["key", "captions", "questions"]):
            captions = len(batch.column("captions").flatten())
            yield batch.column("key").to_pylist(), captions + sum(batch.column("questions").to_pylist())
