"""What a pairs dataset holds: counts, histograms, samples from everywhere in it, and what was left out and why.

    seen = inspect_dataset(Path("data/datasets/web"))
    seen.histograms["caption words"].bars(limit=12)
    seen.left_out                                  # by reason: count and examples, of ingest or CapFilt, of validation
    spread(seen.dataset, 24)                       # 24 samples, evenly over all shards

The table is read in batches; the histograms' edges are fixed beforehand, so that nothing else is held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from itertools import islice, repeat
from pathlib import Path

import pyarrow as pa

from blip.data.gate import was_made_anew
from blip.data.metadata import METADATA
from blip.data.pairs import PairsDataset, Sample, list_beside
from blip.data.parquet import read_batches, read_rows
from blip.data.quarantine import Quarantined, is_of_text, kept_of, read_quarantine
from blip.data.text import EVERY_WORD, clean_caption
from blip.errors import BlipError
from blip.inspection.histogram import Histogram, between, numbers_to

INGEST, CAPFILT, VALIDATION = "ingest", "capfilt", "validation"
EXAMPLES = 6  # of a reason

_SIDES = [side for power in range(15) for side in (1 << power, 3 << power >> 1)]  # 1, 2, 3, 4, 6, 8, 12 ...
_TENTHS = (10, 12, 16, 20, 25, 32, 40, 50, 64, 80)  # about even steps of a logarithmic scale
_BYTES = [0, *(step * 10**power for power in range(9) for step in _TENTHS)]
_RATIOS = [0, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 0.9, 1.1, 4 / 3, 3 / 2, 2, 3, 4]
_COLUMNS = ["captions", "questions", "origin", "width", "height", "bytes"]


@dataclass
class LeftOut:
    """Samples left out for one reason: by ingest or CapFilt (quarantine/), by validation (validated/NAME.parquet).

    Or, if `texts`, texts alone, whose samples are kept.
    """

    reason: str
    by: str
    texts: bool = False
    count: int = 0
    examples: list[Quarantined] = field(default_factory=list)


@dataclass(frozen=True)
class Inspection:
    """What was seen of a dataset: texts (captions and questions) by origin, histograms by what they count.

    `set_aside` are the samples that validation set aside, each once, whatever rules it breaks; None where it has not
    looked at this dataset, which `unvalidated` says then.
    """

    dataset: PairsDataset
    origins: Counter[str]
    captions: int
    questions: int
    histograms: dict[str, Histogram]
    left_out: list[LeftOut]
    set_aside: int | None
    unvalidated: str


def inspect_dataset(directory: Path) -> Inspection:
    """Read a dataset's table and quarantine.

    Raises:
        BlipError: it is no dataset, or one of these cannot be read.
    """
    dataset = PairsDataset.open(directory)
    histograms = {
        "short side": Histogram("px", between(_SIDES)),
        "aspect ratio": Histogram("width / height", between(_RATIOS)),
        "file size": Histogram("bytes", between(_BYTES)),
        "caption words": Histogram("words", numbers_to(40, 60, 100)),
        "captions an image": Histogram("captions", numbers_to(40, 60, 100)),
        "questions an image": Histogram("questions", numbers_to(40, 60, 100)),
    }
    origins: Counter[str] = Counter()
    for batch in read_batches(directory / METADATA, _COLUMNS):
        origins.update(_origins(batch))
        for name, values in _values(batch).items():
            histograms[name].add(values)
    captions, questions = (int(histograms[f"{what} an image"].total) for what in ("captions", "questions"))
    empty = {"captions an image", "caption words"} if not captions else set()
    empty |= {"questions an image"} if not questions else set()
    shown = {name: histogram for name, histogram in histograms.items() if name not in empty}
    unvalidated = _unvalidated(dataset.path)
    set_aside = None if unvalidated else len({entry.key for entry in _set_aside(dataset.path)})
    return Inspection(dataset, origins, captions, questions, shown, left_out(dataset), set_aside, unvalidated)


def left_out(dataset: PairsDataset) -> list[LeftOut]:
    """What ingest refused or CapFilt dropped and what validation set aside, by reason, the most frequent first."""
    found: dict[tuple[str, str, bool], LeftOut] = {}
    kept = kept_of(dataset.path, dataset.manifest.quarantined)
    maker = CAPFILT if "synthetic_threshold" in dataset.manifest.parameters else INGEST
    for by, stream in ((maker, read_quarantine(dataset.path)), (VALIDATION, _set_aside(dataset.path))):
        for entry in stream:
            texts = by == INGEST and is_of_text(entry.key, entry.reason, kept)
            group = found.setdefault((by, entry.reason, texts), LeftOut(entry.reason, by, texts))
            group.count += 1
            if len(group.examples) < EXAMPLES:
                group.examples.append(entry)
    return sorted(found.values(), key=lambda group: (group.by, group.texts, -group.count, group.reason))


def spread(dataset: PairsDataset, count: int) -> list[Sample]:
    """At most `count` samples, evenly over all shards and always the same."""
    total = len(dataset)
    count = min(count, total)
    wanted = [(2 * number + 1) * total // (2 * count) for number in range(count)]
    found: list[Sample] = []
    start = 0
    for shard in dataset.manifest.shards:
        inside = [place - start for place in wanted if start <= place < start + shard.samples]
        start += shard.samples
        if inside:
            samples = islice(dataset.shard_samples(shard), inside[-1] + 1)
            found += [sample for place, sample in enumerate(samples) if place in inside]
    return found


def samples_of(dataset: PairsDataset, keys: Set[str]) -> dict[str, Sample]:
    """Some samples by key; only the shards that hold them are read."""
    by_shard: dict[str, set[str]] = {}
    for row in read_rows(dataset.path / METADATA, ["key", "shard"]):
        if row["key"] in keys:
            by_shard.setdefault(row["shard"], set()).add(row["key"])
    return {
        sample.key: sample
        for shard in dataset.manifest.shards
        if shard.url in by_shard
        for sample in _until_found(dataset.shard_samples(shard), by_shard[shard.url])
    }


def _until_found(samples: Iterator[Sample], keys: set[str]) -> Iterator[Sample]:
    waiting = set(keys)
    for sample in samples:
        if sample.key in waiting:
            waiting.remove(sample.key)
            yield sample
        if not waiting:
            return


def _origins(batch: pa.RecordBatch) -> Iterator[str]:
    """Who wrote each caption and each question; the latter have the origin of their sample."""
    columns = (batch.column(name).to_pylist() for name in ("captions", "questions", "origin"))
    for captions, questions, origin in zip(*columns, strict=True):
        yield from (caption["origin"] for caption in captions or ())
        yield from repeat(origin, questions or 0)


def _values(batch: pa.RecordBatch) -> dict[str, list[float]]:
    columns = {name: batch.column(name).to_pylist() for name in _COLUMNS}
    sizes = [
        (width, height)
        for width, height in zip(columns["width"], columns["height"], strict=True)
        if width and height
    ]
    texts = [caption["text"] or "" for captions in columns["captions"] for caption in captions or ()]
    return {
        "short side": [min(size) for size in sizes],
        "aspect ratio": [width / height for width, height in sizes],
        "file size": [size for size in columns["bytes"] if size is not None],
        "caption words": [len(clean_caption(text, EVERY_WORD).split()) for text in texts],
        "captions an image": [len(captions or ()) for captions in columns["captions"]],
        "questions an image": [count or 0 for count in columns["questions"]],
    }


def _unvalidated(directory: Path) -> str:
    """Why nothing is known of what validation makes of a dataset; "" where it has looked at it."""
    path = list_beside(directory.resolve())
    if not path.is_file():
        return "not validated"
    try:
        return "not validated since it was made" if was_made_anew(path.parent, path.stem) else ""
    except BlipError as error:
        return f"not known: {error}"


def _set_aside(directory: Path) -> Iterator[Quarantined]:
    """What validation set aside; nothing where it has not looked at this dataset."""
    if not _unvalidated(directory):
        for row in read_rows(list_beside(directory.resolve()), ["key", "expectation", "detail"]):
            yield Quarantined(row["key"], row["expectation"], row["detail"], None)
