"""Pairs datasets: a manifest, WebDataset shards, a table of metadata, a quarantine.

dataset = PairsDataset.open(Path("data/datasets/human"))
for sample in dataset.samples(): ...
dataset.metadata(["key", "caption"])
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from blip.data.archive import read_members
from blip.data.gate import see_that_it_passed
from blip.data.manifest import Manifest, Shard, manifest_digest, read_manifest
from blip.data.metadata import METADATA
from blip.data.parquet import read_batches
from blip.data.sample import PARTNER, Caption, Question, Sample, sample_from_json
from blip.data.text import clean_caption
from blip.data.writer import PairsWriter
from blip.errors import BlipError

__all__ = [
    "Caption",
    "PairsDataset",
    "PairsWriter",
    "Question",
    "Sample",
    "excluded_in",
    "excluded_keys",
    "list_beside",
    "set_aside",
]

VALIDATED = "validated"  # beside the datasets, as `blip stage validate` leaves it


@dataclass(frozen=True)
class PairsDataset:
    """A pairs dataset on disk; samples are streamed, never held."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, directory: Path | str) -> PairsDataset:
        """Open a dataset.

        Raises:
            BlipError: the directory has no manifest, or one that cannot be read.
        """
        return cls(Path(directory), read_manifest(Path(directory)))

    def __len__(self) -> int:
        return self.manifest.samples

    @cached_property
    def digest(self) -> str:
        """As `manifest_digest`."""
        return manifest_digest(self.path)

    def samples(self, exclude: frozenset[str] = frozenset()) -> Iterator[Sample]:
        """Stream the samples in shard order without those in `exclude`; their `truth` is None.

        Raises:
            BlipError: a shard is missing, damaged, or not what the manifest says.
        """
        for shard in self.manifest.shards:
            yield from self.shard_samples(shard, exclude)

    def shard_samples(self, shard: Shard, exclude: frozenset[str] = frozenset()) -> Iterator[Sample]:
        """Stream the samples of one shard, in their order."""
        path = self.path / shard.url
        if not path.is_file() or path.stat().st_size != shard.bytes:
            found = f"{path.stat().st_size} bytes" if path.is_file() else "no file"
            raise BlipError(f"shard {path}: {found}, the manifest says {shard.bytes} bytes; {_AGAIN}")
        count = 0
        for sample in _group(path):
            count += 1
            if sample.key not in exclude:
                yield sample
        if count != shard.samples:
            raise BlipError(f"shard {path}: {count} samples, the manifest says {shard.samples}; {_AGAIN}")

    def spread(self, limit: int) -> tuple[list[Shard], int]:
        """Shards from all over the dataset, and of how many samples of each to take the first, for `limit` in all."""
        shards = self.manifest.shards
        chosen = min(len(shards), limit)
        return [shards[n * len(shards) // chosen] for n in range(chosen)], limit // max(chosen, 1)

    def metadata(self, columns: list[str] | None = None) -> pa.Table:
        """The metadata table, or some of its columns.

        Raises:
            BlipError: there is no such column, or the table cannot be read.
        """
        path = self.path / METADATA
        try:
            known = pq.read_schema(path).names
            unknown = sorted(set(columns or ()) - set(known))
            if unknown:
                raise BlipError(f"{path} has no column {', '.join(unknown)}; it has: {', '.join(known)}")
            return pq.read_table(path, columns=columns)
        except (OSError, pa.ArrowInvalid) as error:
            raise BlipError(f"{path} cannot be read: {error}; {_AGAIN}") from None

    def texts(self, exclude: frozenset[str] = frozenset(), rng: Random | None = None) -> Iterator[str]:
        """All captions, cleaned, from the metadata, a part of it in memory; the parts in `rng`'s order if given."""
        with pq.ParquetFile(self.path / METADATA) as file:
            parts = list(range(file.num_row_groups))
            if rng:
                rng.shuffle(parts)
            for part in parts:
                for row in file.read_row_group(part, columns=["key", "captions"]).to_pylist():
                    if row["key"] not in exclude:
                        yield from (clean_caption(caption["text"]) for caption in row["captions"] or ())


_AGAIN = "make the dataset again (`dvc repro` or `blip stage ingest`)"


SET_ASIDE = "set_aside"
"""Parameter of a bootstrapped dataset's manifest: how many samples of `web` and `human` validation had set aside."""


def list_beside(dataset: Path) -> Path:
    """Where `blip stage validate` leaves the list of what it sets aside in a dataset, if it has run."""
    return dataset.parent / VALIDATED / f"{dataset.name}.parquet"


def excluded_keys(validated_dir: Path | str, dataset_name: str) -> frozenset[str]:
    """Keys that validation set aside in a dataset; none where validation left no list.

    Raises:
        BlipError: the dataset did not pass, or was made anew since.
    """
    return _keys_of(Path(validated_dir) / f"{dataset_name}.parquet")


def set_aside(dataset: Path) -> frozenset[str]:
    """Keys that validation set aside in a dataset, by its list beside the dataset, as `excluded_keys`."""
    return _keys_of(list_beside(dataset))


def excluded_in(path: Path | None) -> frozenset[str]:
    """The keys that a list of validation's has, as `excluded_keys`, kept for the next call; none without a file."""
    return _kept_keys(path, path.stat().st_mtime_ns) if path and _holds(path) else frozenset()


def _holds(path: Path) -> bool:
    """Whether there is such a list. Raises BlipError if its dataset may not be used."""
    if not path.is_file():
        return False
    see_that_it_passed(path.parent, path.stem)
    return True


@lru_cache(maxsize=4)
def _kept_keys(path: Path, changed: int) -> frozenset[str]:
    return _read_keys(path)


def _keys_of(path: Path) -> frozenset[str]:
    return _read_keys(path) if _holds(path) else frozenset()


def _read_keys(path: Path) -> frozenset[str]:
    return frozenset(key for batch in read_batches(path, ["key"]) for key in batch["key"].to_pylist())


def _group(path: Path) -> Iterator[Sample]:
    """Join the members of a shard, which come as KEY.media, KEY.partner.media if any, KEY.json, to samples."""
    waiting: dict[str, tuple[str, bytes]] = {}
    partners: dict[str, tuple[bytes, str]] = {}
    for member in read_members(path):
        if member.problem:
            raise BlipError(f"shard {path}, member {member.name!r}: {member.detail}; {_AGAIN}")
        key, _, extension = member.name.partition(".")
        if extension.startswith(PARTNER):
            partners[key] = (member.data, extension.removeprefix(PARTNER))
            continue
        if extension != "json":
            waiting[key] = (extension, member.data)
            continue
        if key not in waiting:
            raise BlipError(f"shard {path}: {member.name} stands there without its picture; {_AGAIN}")
        extension, media = waiting.pop(key)
        try:
            sample = sample_from_json(key, media, extension, member.data)
        except (ValueError, KeyError, TypeError) as error:
            raise BlipError(f"shard {path}: {member.name} is not a sample's ({error!r}); {_AGAIN}") from None
        partner, form = partners.pop(key, (None, ""))
        yield sample if partner is None else replace(sample, partner=partner, partner_extension=form)
