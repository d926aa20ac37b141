"""From a source to a pairs dataset: decode everything, set aside what is broken or too like a test picture.

references = References.of({"test": PairsDataset.open("data/datasets/test")}, bits=4)
dataset = ingest_dataset(source, Path("data/datasets/human"), settings.ingest, references)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blip.atomic import atomic_path
from blip.config import Ingest, Source, Vocabulary
from blip.data.images import BadMedia
from blip.data.media import Look, look_at
from blip.data.pairs import PairsDataset, PairsWriter
from blip.data.phash import THUMBNAIL, near_duplicates
from blip.data.sample import Sample
from blip.data.sources import Refused, read
from blip.data.text import Tokenizer, clean_caption, clean_question, train_vocabulary
from blip.errors import BlipError

NEAR_DUPLICATE = "near_duplicate"


@dataclass(frozen=True)
class References:
    """How the evaluation pictures look, which training data must keep away from."""

    names: list[str]
    hashes: NDArray[np.uint64]
    thumbnails: NDArray[np.int16]
    bits: int

    @classmethod
    def of(cls, datasets: Mapping[str, PairsDataset], bits: int) -> References:
        """The pictures of some datasets by name; `bits` is the largest difference that counts as alike."""
        names: list[str] = []
        looks: list[Look] = []
        for name, dataset in datasets.items():
            for sample in dataset.samples():
                names.append(f"{name}/{sample.key}")
                looks.append(look_at(sample))
        hashes = np.array([look.phash for look in looks], np.uint64)
        thumbnails = np.array([look.thumbnail for look in looks], np.int16).reshape(-1, *THUMBNAIL)
        return cls(names, hashes, thumbnails, bits)

    def near(self, look: Look) -> str | None:
        """The name of the picture nearest to a look, if it is near enough."""
        hashes = np.array([look.phash], np.uint64)
        found = near_duplicates(hashes, self.hashes, self.bits, look.thumbnail[None], self.thumbnails)
        return self.names[found[0]] if found[0] >= 0 else None


def ingest_dataset(
    source: Source, directory: Path, settings: Ingest, references: References | None = None
) -> PairsDataset:
    """Read a source into a pairs dataset.

    Args:
        source: what to read; its path is relative to the current directory.
        directory: the dataset, which appears only when it is complete.
        settings: shard size, size limit and how much may be broken.
        references: pictures that must not be near; None for evaluation data.

    Raises:
        BlipError: the source cannot be read, has no sample, or more than `max_bad_fraction` of it is broken.
    """
    parameters = source.model_dump() | settings.model_dump(include={"max_pixels", "near_duplicate_bits"})
    with PairsWriter(
        directory,
        samples_per_shard=settings.samples_per_shard,
        parents=[source.source],
        parameters=parameters,
        origin=source.origin,
    ) as writer:
        examples: list[str] = []
        for item in _checked(read(source, Path(source.source)), settings.max_pixels):
            if isinstance(item, Refused):
                writer.quarantine(item.key, item.reason, item.detail, item.payload)
                examples.append(f"{item.key}: {item.reason}, {item.detail}") if len(examples) < 3 else None
                continue
            sample, look = item
            near = references.near(look) if references else None
            if near:
                writer.quarantine(sample.key, NEAR_DUPLICATE, f"looks like {near}")
            else:
                writer.add(sample, phash=look.phash)
        _check_share(writer, source, settings.max_bad_fraction, examples)
    return PairsDataset.open(directory)


def write_vocabulary(directory: Path, settings: Vocabulary, datasets: Iterable[PairsDataset]) -> int:
    """Write `vocab.txt`: the given file, or one trained on the datasets' texts; returns its size."""
    if settings.file:
        vocabulary = Tokenizer.from_vocabulary(settings.file).vocabulary
    else:
        vocabulary = train_vocabulary(_texts(datasets), settings.size)
    with atomic_path(directory) as temporary:
        temporary.mkdir()
        (temporary / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return len(vocabulary)


def _checked(items: Iterable[Sample | Refused], max_pixels: int) -> Iterator[tuple[Sample, Look] | Refused]:
    """Decode each sample, to know its size and hash, or refuse it."""
    for item in items:
        if isinstance(item, Refused):
            yield item
            continue
        try:
            look = look_at(item, max_pixels)
        except BadMedia as error:
            yield Refused(item.key, error.reason, error.detail, item.media)
            continue
        yield replace(item, width=look.width, height=look.height), look


def _check_share(writer: PairsWriter, source: Source, allowed: float, examples: list[str]) -> None:
    near = writer.quarantined[NEAR_DUPLICATE]
    bad = writer.quarantined.total() - near
    total = writer.samples + near + bad
    if bad > allowed * total:
        reasons = ", ".join(f"{count} {reason}" for reason, count in writer.quarantined.most_common())
        lines = "".join(f"\n  {example}" for example in examples)
        raise BlipError(
            f"source {source.source}: {bad:,} of {total:,} samples cannot be used ({reasons}), more than "
            f"ingest.max_bad_fraction = {allowed}; repair the source or raise the limit. The first:{lines}"
        )
    if not writer.samples:
        raise BlipError(
            f"source {source.source}: no sample is left of {total:,}; nothing to make a dataset of"
        )


def _texts(datasets: Iterable[PairsDataset]) -> Iterator[str]:
    for dataset in datasets:
        for sample in dataset.samples():
            for caption in sample.captions:
                yield clean_caption(caption.text)
            for question in sample.questions:
                yield clean_question(question.text)
                yield from map(clean_question, question.answers)
