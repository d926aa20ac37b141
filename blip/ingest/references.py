"""How the evaluation pictures look, which training data must keep away from.

references = References.of({"test": PairsDataset.open("data/datasets/test")}, bits=4)
references.near(look)                # "test/cat-17" or None
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blip.atomic import atomic_path
from blip.data.media import Look, looks_at
from blip.data.pairs import PairsDataset
from blip.data.phash import THUMBNAIL, HashIndex


@dataclass(frozen=True, eq=False)
class References:
    """Names, perceptual hashes and thumbnails of pictures; `bits` is the largest difference that is alike."""

    names: list[str]
    hashes: NDArray[np.uint64]
    thumbnails: NDArray[np.int16]
    bits: int

    @classmethod
    def of(cls, datasets: Mapping[str, PairsDataset], bits: int) -> References:
        """The pictures of some datasets by name, both of a pair by that of the pair."""
        names: list[str] = []
        looks: list[Look] = []
        for name, dataset in datasets.items():
            for sample in dataset.samples():
                seen = looks_at(sample)
                names += [f"{name}/{sample.key}"] * len(seen)
                looks += seen
        hashes = np.array([look.phash for look in looks], np.uint64)
        thumbnails = np.array([look.thumbnail for look in looks], np.int16).reshape(-1, *THUMBNAIL)
        return cls(names, hashes, thumbnails, bits)

    @cached_property
    def _index(self) -> HashIndex:
        return HashIndex(self.hashes, self.bits, self.thumbnails)

    def near(self, look: Look) -> str | None:
        """The name of the picture nearest to a look, if it is near enough."""
        found = self._index.nearest(np.array([look.phash], np.uint64), look.thumbnail[None])
        return self.names[found[0]] if found[0] >= 0 else None

    @property
    def digest(self) -> str:
        """Equal for equal references."""
        names = "\n".join(self.names)
        looks = self.hashes.tobytes() + self.thumbnails.tobytes()
        return sha256(f"{self.bits}\n{names}\n".encode() + looks).hexdigest()

    def write(self, path: Path) -> None:
        """Write them to a file, from which each worker reads them once."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                names=np.array(self.names, np.str_),
                hashes=self.hashes,
                thumbnails=self.thumbnails,
                bits=self.bits,
            )

    @classmethod
    def read(cls, path: Path) -> References:
        """What `write` wrote; kept in memory for the next call."""
        return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read(path: Path, changed: int) -> References:
    with np.load(path, allow_pickle=False) as file:
        return References(file["names"].tolist(), file["hashes"], file["thumbnails"], int(file["bits"]))
