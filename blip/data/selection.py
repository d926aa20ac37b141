"""The samples of a dataset that training takes: all but those that validation set aside.

selection = Selection.of(dataset, excluded_keys("data/datasets/validated", "web"))
selection.count(3), selection.samples(3)        # of the fourth shard

Which samples these are is looked up once, in the table, which has the order of the shards. From then on each is a
number of 4 bytes, however long its key is.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from blip.data.metadata import METADATA
from blip.data.pairs import PairsDataset
from blip.data.parquet import read_batches
from blip.data.sample import Sample


@dataclass(frozen=True)
class Selection:
    """A dataset, and of each shard that is not taken as a whole the places of the samples to leave out."""

    dataset: PairsDataset
    left_out: Mapping[int, array[int]]

    @classmethod
    def of(cls, dataset: PairsDataset, exclude: frozenset[str]) -> Selection:
        """All samples but those with these keys.

        Raises:
            BlipError: the table cannot be read.
        """
        return cls(dataset, _places(dataset, exclude) if exclude else {})

    def count(self, shard: int) -> int:
        """Samples that a shard contributes."""
        return self.dataset.manifest.shards[shard].samples - len(self.left_out.get(shard, ()))

    def samples(self, shard: int) -> Iterator[Sample]:
        """Stream what a shard contributes, in its order.

        Raises:
            BlipError: the shard is missing, damaged, or not what the manifest says.
        """
        without = frozenset(self.left_out.get(shard, ()))
        whole = self.dataset.shard_samples(self.dataset.manifest.shards[shard])
        return (sample for place, sample in enumerate(whole) if place not in without)

    def digests(self) -> list[tuple[int, str]]:
        """Of what is left out, for each shard that is not taken as a whole."""
        return [(shard, sha256(places).hexdigest()) for shard, places in sorted(self.left_out.items())]


def _places(dataset: PairsDataset, exclude: frozenset[str]) -> dict[int, array[int]]:
    numbers = {shard.url: number for number, shard in enumerate(dataset.manifest.shards)}
    found: dict[int, array[int]] = defaultdict(lambda: array("i"))
    place, before = 0, None
    for batch in read_batches(dataset.path / METADATA, ["key", "shard"]):
        for key, url in zip(batch["key"].to_pylist(), batch["shard"].to_pylist(), strict=True):
            place, before = (place + 1 if url == before else 0), url
            if key in exclude and url in numbers:
                found[numbers[url]].append(place)
    return dict(found)
