"""Batches for training: shuffled, augmented, the same on every run, resumable at any batch.

human = PairsDataset.open("data/datasets/human")
loader = PairLoader([(human, frozenset())], batch_size=64, image_size=48, seed=7)
for batch in loader:                     # endless
    batch.images                         # uint8 [64, 3, 48, 48]
    state = loader.state_dict()          # continues after this batch
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blip.data.augment import flip, randaugment, random_resized_crop
from blip.data.order import ShardRef, parts_of_rank, shuffled
from blip.data.sample import Sample, stable_id
from blip.data.stream import EpochStream, Picture, PictureCache, Source
from blip.errors import BlipError


@dataclass(frozen=True)
class Batch:
    """B samples with their augmented pictures.

    Attributes:
        images: `uint8 [B, 3, S, S]`; `blip.data.images.normalise` makes them the network's input.
        samples: captions and questions; `media` is empty.
        image_ids: `int64 [B]`, equal for equal keys.
        rng: for choosing among captions or questions; depends on seed, epoch, batch and rank only.
        epoch, index: where in the run the batch stands, both from 0.
    """

    images: Tensor
    samples: tuple[Sample, ...]
    image_ids: Tensor
    rng: Random
    epoch: int
    index: int


class PairLoader:
    """Endless batches of one rank over one or more datasets.

    Each epoch takes every sample once, over all ranks; only the tail that does not fill a batch on every rank
    is left out, another one each epoch. One thread prepares the next batch while the caller uses this one.
    """

    def __init__(
        self,
        datasets: Sequence[Source],
        *,
        batch_size: int,
        image_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        shuffle_buffer: int = 512,
        crop_scale: tuple[float, float] = (0.5, 1.0),
        flip: bool = True,
        randaugment: bool = False,
        cache_bytes: int = 256 << 20,
    ) -> None:
        """Plan the epochs; read are manifests only, and the keys of datasets with exclusions.

        Args:
            datasets: each with the keys to leave out.
            batch_size: of this rank.
            shuffle_buffer: samples held back to shuffle among, beside the shuffling of shards.
            cache_bytes: decoded pictures kept between epochs.

        Raises:
            BlipError: fewer shards than ranks, or fewer samples than one batch on every rank.
        """
        self._sources = list(datasets)
        self._shards = [ref for index, source in enumerate(self._sources) for ref in _shards(index, source)]
        self._batch_size, self._image_size = batch_size, image_size
        self._seed, self._rank, self._world = seed, rank, world
        self._buffer, self._crop_scale = shuffle_buffer, crop_scale
        self._flip, self._randaugment = flip, randaugment
        self._cache = PictureCache(cache_bytes)
        self._epoch, self._next = 0, 0
        total = sum(ref.samples for ref in self._shards)
        self.batches_per_epoch = total // (batch_size * world)
        self._check(total)

    @property
    def samples_per_epoch(self) -> int:
        """Samples that one epoch takes over all ranks."""
        return self.batches_per_epoch * self._batch_size * self._world

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration stands, as JSON values; equal on all ranks."""
        return {"epoch": self._epoch, "batch": self._next, "data": self._fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken: the next iterator begins with the batch after it.

        Raises:
            BlipError: the state comes from other data, another seed, batch size or number of ranks.
        """
        if state["data"] != self._fingerprint():
            raise BlipError(
                "the checkpoint was made with other data, seed, batch size, shuffle buffer or ranks, so "
                "its place in the data means nothing here; resume with the same, or start the run anew"
            )
        self._epoch, self._next = state["epoch"], state["batch"]

    def __iter__(self) -> Iterator[Batch]:
        batches = self._batches(self._epoch, self._next)
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
            coming = pool.submit(next, batches)
            while True:
                batch = coming.result()
                coming = pool.submit(next, batches)
                last = batch.index + 1 == self.batches_per_epoch
                self._epoch, self._next = (batch.epoch + 1, 0) if last else (batch.epoch, batch.index + 1)
                yield batch

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        while True:
            yield from self._epoch_batches(epoch, start)
            epoch, start = epoch + 1, 0

    def _epoch_batches(self, epoch: int, start: int) -> Iterator[Batch]:
        count = self.batches_per_epoch * self._batch_size
        order = shuffled(count, self._buffer, Random(f"{self._seed}/{epoch}/{self._rank}/samples"))
        done = bytearray(count)
        for position in islice(order, start * self._batch_size):
            done[position] = 1
        parts = parts_of_rank(self._shards, self._seed, epoch, self._rank, count)
        stream = EpochStream(self._sources, parts, self._cache, done)
        for index in range(start, self.batches_per_epoch):
            pictures = [stream.picture(position) for position in islice(order, self._batch_size)]
            yield self._batch(pictures, epoch, index)

    def _batch(self, pictures: list[Picture], epoch: int, index: int) -> Batch:
        place = f"{self._seed}/{epoch}/{index}/{self._rank}"
        rng = Random(f"{place}/images")
        pixels_BSSC = np.empty((len(pictures), self._image_size, self._image_size, 3), np.uint8)
        for number, picture in enumerate(pictures):
            pixels_BSSC[number] = self._augment(picture, rng)
        samples = tuple(picture.sample for picture in pictures)
        return Batch(
            images=torch.from_numpy(pixels_BSSC).permute(0, 3, 1, 2).contiguous(),
            samples=samples,
            image_ids=torch.tensor([stable_id(sample.key) for sample in samples], dtype=torch.int64),
            rng=Random(f"{place}/texts"),
            epoch=epoch,
            index=index,
        )

    def _augment(self, picture: Picture, rng: Random) -> np.ndarray:
        image = random_resized_crop(picture.pixels, self._image_size, self._crop_scale, rng)
        if self._flip and rng.random() < 0.5:
            image = flip(image)
        return randaugment(image, rng) if self._randaugment else image

    def _check(self, total: int) -> None:
        names = ", ".join(str(dataset.path) for dataset, _ in self._sources)
        if len(self._shards) < self._world:
            raise BlipError(
                f"{names}: {len(self._shards)} shards are fewer than {self._world} ranks; "
                "lower ingest.samples_per_shard and ingest again, or train with fewer ranks"
            )
        if not self.batches_per_epoch:
            raise BlipError(
                f"{names}: {total} samples do not fill one batch of {self._batch_size} on each of "
                f"{self._world} rank(s); lower training.batch_size"
            )

    def _fingerprint(self) -> str:
        data = [(dataset.digest, sorted(exclude)) for dataset, exclude in self._sources]
        value = (data, self._seed, self._batch_size, self._buffer, self._world)
        return sha256(repr(value).encode()).hexdigest()[:16]


def _shards(index: int, source: Source) -> list[ShardRef]:
    """The shards of a dataset with what they contribute after exclusion; empty ones are left out."""
    dataset, exclude = source
    shards = dataset.manifest.shards
    lost: Counter[str] = Counter()
    if exclude:
        table = dataset.metadata(["key", "shard"])
        for key, url in zip(table["key"].to_pylist(), table["shard"].to_pylist(), strict=True):
            lost[url] += key in exclude
    refs = (ShardRef(index, number, shard.samples - lost[shard.url]) for number, shard in enumerate(shards))
    return [ref for ref in refs if ref.samples]
