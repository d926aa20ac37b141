"""What CapFilt works on: pairs, models, and the order to bootstrap the ones with the others.

order = Order(Pairs(Path("noisy")), None, Models(Path("captioner"), (Path("filter"),)), CapFilt())
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip.config import CapFilt, Wish
from blip.config.watched import CAPFILT_IMMATERIAL
from blip.data.kept import code_digest
from blip.data.manifest import MANIFEST, Shard
from blip.data.metadata import METADATA
from blip.data.pairs import PairsDataset, Sample, excluded_in, list_beside
from blip.data.parquet import read_batches, read_column
from blip.data.partial import content_of
from blip.data.sample import stable_id
from blip.digest import file_sha256
from blip.errors import BlipError
from blip.machine import usable_cores
from blip.model.api import Blip
from blip.tasks.matching import with_members

NAMED_APART = {"web", "human", "held_out", "threshold", "dtype", "compile"}
"""Of the settings, what an order's identity says in its own way."""
CODE = ("capfilt", "data", "model", "tasks")  # what does it


@dataclass(frozen=True)
class Pairs:
    """A dataset on disk and the file that lists the keys to leave out, if there is one."""

    dataset: Path
    excluded: Path | None = None

    @classmethod
    def validated(cls, dataset: Path) -> "Pairs":
        """Without what validation set aside, of which it leaves a list beside the datasets, if it has run."""
        return cls(dataset, list_beside(dataset.resolve()))

    def absolute(self) -> "Pairs":
        """By paths that another process finds, wherever it runs."""
        return Pairs(self.dataset.absolute(), self.excluded.absolute() if self.excluded else None)

    def samples(self, shard: Shard) -> Iterator[Sample]:
        """The samples of a shard that are not left out."""
        changed = (self.dataset / MANIFEST).stat().st_mtime_ns
        return _opened(self.dataset, changed).shard_samples(shard, excluded_in(self.excluded))

    def texts(self) -> Iterator[str]:
        """All captions, cleaned; read from the metadata."""
        return PairsDataset.open(self.dataset).texts(excluded_in(self.excluded))

    def key_ids(self) -> NDArray[np.int64]:
        """`stable_id` of every key that is not left out."""
        excluded = excluded_in(self.excluded)
        keys = read_column(self.dataset / METADATA, "key")
        return np.fromiter((stable_id(key) for key in keys if key not in excluded), np.int64)

    def spread(self, limit: int) -> tuple[list[Shard], int]:
        """As `PairsDataset.spread`."""
        return PairsDataset.open(self.dataset).spread(limit)

    def shards(self) -> Iterator[tuple[Shard, dict[str, int]]]:
        """The shards, each with the perceptual hashes of its pictures by key: one pass over the metadata.

        Raises:
            BlipError: the metadata are of other shards, or in another order.
        """
        hashes = groupby(self._hashes(), key=itemgetter(0))
        for shard in PairsDataset.open(self.dataset).manifest.shards:
            url, rows = next(hashes, ("nothing", iter(())))
            if url != shard.url:
                raise BlipError(
                    f"{self.dataset / METADATA} has {url} where {MANIFEST} has {shard.url}; make the dataset again"
                )
            yield shard, {key: phash for _, key, phash in rows}

    def _hashes(self) -> Iterator[tuple[str, str, int]]:
        columns = ["shard", "key", "phash"]
        for batch in read_batches(self.dataset / METADATA, columns):
            yield from zip(*(batch[name].to_pylist() for name in columns), strict=True)

    def is_bad(self, shard: Shard) -> bool:
        """Whether the shard itself is what failed: it is not as the manifest has it, or is no tar of samples.

        Raises:
            BlipError: it cannot be read, which says nothing of what is in it.
        """
        path = self.dataset / shard.url
        try:
            digest = file_sha256(path)
        except OSError as error:
            raise BlipError(
                f"shard {path} cannot be read: {error.strerror or error}. See that this machine has the dataset under "
                "this path and that the disk is sound, and run the same again: what is finished is kept"
            ) from None
        if digest != shard.sha256:
            return True
        try:
            for _ in PairsDataset.open(self.dataset).shard_samples(shard):
                pass
        except BlipError:
            return True
        return False


@dataclass(frozen=True)
class Models:
    """Where captioner and filters are, what they run on and how; several filters decide together."""

    captioner: Path
    filters: tuple[Path, ...]
    device: str = "cpu"
    dtype: str = "float32"
    compiled: bool = False
    threads: int = 1

    @classmethod
    def of(
        cls,
        captioner: Path,
        filters: Iterable[Path],
        device: str,
        dtype: str = "float32",
        compiled: bool = False,
    ) -> "Models":
        """With the filters' members."""
        found = (one for path in filters for one in with_members(path))
        return cls(captioner, tuple(found), device, dtype, compiled)

    def absolute(self) -> "Models":
        """By paths that another process finds, wherever it runs."""
        filters = tuple(path.absolute() for path in self.filters)
        return replace(self, captioner=self.captioner.absolute(), filters=filters)

    @property
    def arithmetic(self) -> dict[str, str | bool]:
        """What results depend on in their rounding."""
        return {"dtype": self.dtype, "compile": self.compiled}

    @property
    def decoders(self) -> int:
        """Threads that make pictures while a GPU computes; none where the cores are the workers' own."""
        if self.device == "cpu":
            return 0
        sharing = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get(
            "LOCAL_SIZE", "1"
        )  # DeepSpeed's is the second
        return max(1, usable_cores() // int(sharing))

    def open(self, directory: Path) -> Blip:
        """One of them, opened once in a process."""
        return open_model(directory, self.device, self.dtype, self.compiled)


@dataclass(frozen=True)
class Order:
    """What is to be bootstrapped, by which models and how: all that the result depends on.

    Attributes:
        human: pairs that pass through, and whose texts the filter's embeddings are compared with.
        held_out: human pairs on which a threshold for a wished precision is measured, and how good the decisions are.
    """

    web: Pairs
    human: Pairs | None
    models: Models
    settings: CapFilt
    seed: int = 0
    held_out: Pairs | None = None

    def absolute(self) -> "Order":
        """By paths that another process finds, wherever it runs."""
        human, held_out = (pairs.absolute() if pairs else None for pairs in (self.human, self.held_out))
        return replace(
            self, web=self.web.absolute(), models=self.models.absolute(), human=human, held_out=held_out
        )

    @property
    def sides(self) -> list[Pairs]:
        """Where the shards are: the web's first, then the human ones."""
        return [pairs for pairs in (self.web, self.human) if pairs]

    def digests(self) -> list[str]:
        """Of the datasets that the shards are of."""
        return [PairsDataset.open(pairs.dataset).digest for pairs in self.sides]

    def shards(self) -> int:
        """How many there are."""
        return sum(len(PairsDataset.open(pairs.dataset).manifest.shards) for pairs in self.sides)

    def samples(self) -> int:
        """How many there are, with those that are left out."""
        return sum(len(PairsDataset.open(pairs.dataset)) for pairs in self.sides)

    @property
    def asked(self) -> Any:
        """The threshold as the settings have it: a number, or a wish."""
        wish = self.settings.threshold
        return wish.model_dump(exclude_none=True) if isinstance(wish, Wish) else wish

    def set_aside(self) -> dict[str, int]:
        """How many samples validation has set aside on each side, where it has any; they are in no audit."""
        sides = {"web": self.web, "human": self.human}
        found = {name: len(excluded_in(pairs.excluded)) for name, pairs in sides.items() if pairs}
        return {name: count for name, count in found.items() if count}

    def identity(self) -> dict[str, Any]:
        """Everything that the content depends on, by its own content, and not who computes it."""
        sides = {
            name: {
                "dataset": PairsDataset.open(pairs.dataset).digest,
                "excluded": _digest(excluded_in(pairs.excluded)),
            }
            for name, pairs in (("web", self.web), ("human", self.human), ("held_out", self.held_out))
            if pairs
        }
        models = {
            "captioner": content_of(self.models.captioner),
            "filters": [*map(content_of, self.models.filters)],
        }
        how = self.settings.model_dump(exclude={"rounds", *CAPFILT_IMMATERIAL, *NAMED_APART})
        how |= self.models.arithmetic | {"seed": self.seed}
        return sides | models | how | {"threshold": self.asked, "code": code_digest(*CODE)}


def _digest(keys: frozenset[str]) -> str:
    """SHA-256 of a set of keys, which may be millions."""
    digest = sha256()
    for key in sorted(keys):
        digest.update(f"{key}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _opened(dataset: Path, changed: int) -> PairsDataset:
    """A dataset, whose manifest is read once and not for every shard of it; `changed` is when it was written."""
    return PairsDataset.open(dataset)


@cache  # until `forget_models`: a jury asks all of its models for every batch
def open_model(directory: Path, device: str, dtype: str, compiled: bool) -> Blip:
    """A model of this process, opened once."""
    return Blip.open(directory, device, dtype, compiled)
