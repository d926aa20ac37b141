"""Batches for training: shuffled, augmented, the same on every run, resumable at any batch.

human = PairsDataset.open("data/datasets/human")
loader = PairLoader([(human, frozenset())], batch_size=64, image_size=48, seed=7)
for batch in loader:                     # endless
    batch.images                         # uint8 [64, 3, 48, 48]
    state = loader.state_dict()          # continues after this batch
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blip.data.augment import Augmentation
from blip.data.decode import BadImage, Pixels, decode
from blip.data.order import Part, Portion, ShardRef, cut, lanes_of, parts_of_epoch, shuffled
from blip.data.pairs import PairsDataset
from blip.data.render import Failure, Images, render
from blip.data.sample import Sample, stable_id
from blip.data.selection import Selection
from blip.data.stream import EpochStream, Picture, PictureCache, Place
from blip.data.unreadable import Replacements, Unreadable
from blip.data.workers import Workers
from blip.errors import BlipError


@dataclass(frozen=True)
class Batch:
    """B samples with their augmented pictures.

    Attributes:
        images: `uint8 [B, 3, S, S]`, channels last in memory; what blip.training.collate makes of the batch
            normalises them on the network's device, in its `.to(device)`. With partners `[2 * B, 3, S, S]`, the
            partners last.
        samples: captions and questions; `media` is empty, and `partner` None.
        image_ids: `int64 [B]`, equal for equal keys.
        rng: for choosing among captions or questions; depends on seed, epoch, batch and rank only.
        epoch, index: where in the run the batch stands, both from 0.
        rngs: one for every sample where the loader has lanes; depends on seed, epoch, lane and place in it only.
        unreadable: what other samples stand in for, since their own pictures cannot be read.
    """

    images: Tensor
    samples: tuple[Sample, ...]
    image_ids: Tensor
    rng: Random
    epoch: int
    index: int
    rngs: tuple[Random, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    def rng_of(self, row: int) -> Random:
        """What to draw with for a sample: its own if it has one, else that of the batch."""
        return self.rngs[row] if self.rngs else self.rng


@dataclass(frozen=True)
class _Plan:
    """A batch before its pictures are made: a file of each, or pixels where the cache has them.

    Behind the pictures of the samples are those of their partners, where these are wanted; `seeds` are of all.
    """

    epoch: int
    index: int
    seeds: tuple[str, ...]
    places: tuple[Place, ...]
    samples: tuple[Sample, ...]
    pictures: tuple[bytes | Pixels, ...]


class PairLoader:
    """Endless batches of one rank over one or more datasets.

    Each epoch takes every sample as often as its dataset's weight says (once, if none is given), over all ranks; only
    the tail that does not fill a batch on every rank is left out, another one each epoch. One thread reads and
    prepares the next batch while the caller uses this one; with `workers`, that many processes make the pictures and
    the thread only reads. The batches are the same bit for bit, however many they are.

    A sample whose picture cannot be read gives its place to another one, until there are too many of them.

    With `lanes` the number of ranks may change within a run: an epoch is cut into that many lanes, of which each gives
    an equal share of every batch, and a rank reads a run of them. The batches of all ranks laid end to end, and the
    batches of a step laid end to end within each lane, are then the same samples, crops and draws for any number of
    ranks that divides the lanes. Without, each rank is a lane.
    """

    def __init__(
        self,
        datasets: Sequence[tuple[PairsDataset, frozenset[str]]],
        *,
        batch_size: int,
        image_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        lanes: int | None = None,
        accumulate: int = 1,
        weights: Sequence[float] = (),
        workers: int = 0,
        shuffle_buffer: int = 512,
        crop_scale: tuple[float, float] = (0.5, 1.0),
        flip: bool = True,
        randaugment: bool = False,
        cache_bytes: int = 256 << 20,
        partners: bool = False,
    ) -> None:
        """Plan the epochs; read are manifests only, and the tables of datasets with keys to leave out.

        Args:
            datasets: each with the keys to leave out.
            batch_size: of this rank.
            lanes: a multiple of the ranks by which the batch of all ranks can be divided.
            accumulate: batches of a step; an epoch with lanes is a number of whole steps.
            weights: how often an epoch takes the samples of each dataset; explained in `blip.data.order.Portion`.
            shuffle_buffer: samples of each lane held back to shuffle among, beside the shuffling of shards.
            cache_bytes: decoded pictures kept between epochs; none are kept where workers decode, or of pairs.
            partners: every sample has two pictures, and a batch both.

        Raises:
            BlipError: fewer shards than ranks (or than all workers), fewer samples than one batch on every rank, or
                lanes that cannot be shared out.
        """
        self._selections = [Selection.of(dataset, exclude) for dataset, exclude in datasets]
        weights = weights or [1.0] * len(self._selections)
        self._portions = [
            Portion(_shards(index, selection), weight)
            for index, (selection, weight) in enumerate(zip(self._selections, weights, strict=True))
        ]
        self._batch_size, self._workers = batch_size, workers
        self._seed, self._rank, self._world = seed, rank, world
        self._buffer = shuffle_buffer
        self._augmentation = Augmentation(image_size, crop_scale, flip, randaugment)
        self._partners = partners
        self._cache = PictureCache(0 if workers or partners else cache_bytes)
        self._epoch, self._next = 0, 0
        self._elastic, self._lanes, self._accumulate = lanes is not None, lanes or world, accumulate
        self._check_lanes()
        self._own = lanes_of(rank, world, self._lanes)
        self._of_lane = batch_size * world // self._lanes
        total = sum(portion.samples for portion in self._portions)
        whole = accumulate if self._elastic else 1
        self.batches_per_epoch = total // (batch_size * world * whole) * whole
        self._check(total)
        self._fingerprint = self._digest()
        self._replacements, self._taken = Replacements(self._selections), 0

    @property
    def _pictures(self) -> int:
        """Of a batch."""
        return self._batch_size * (2 if self._partners else 1)

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration stands, as JSON values; equal on all ranks."""
        return {"epoch": self._epoch, "taken": self._next * self._of_lane, "data": self._fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken: the next iterator begins with the batch after it.

        The number of workers may be another one; with lanes that of ranks too, if a step has as many samples as
        before and the state was taken between two steps.

        Raises:
            BlipError: the state comes from other data, another seed, batch size or number of ranks.
        """
        if state["data"] != self._fingerprint:
            raise BlipError(
                "the checkpoint was made with other data, seed, batch size, shuffle buffer or ranks, so "
                "its place in the data means nothing here; resume with the same, or start the run anew"
            )
        self._epoch, self._next = state["epoch"], state["taken"] // self._of_lane

    def __iter__(self) -> Generator[Batch, None, None]:
        batches = self._batches(self._plans(self._epoch, self._next))
        with closing(batches), ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
            coming = pool.submit(next, batches)
            while True:
                batch = coming.result()
                coming = pool.submit(next, batches)
                last = batch.index + 1 == self.batches_per_epoch
                self._epoch, self._next = (batch.epoch + 1, 0) if last else (batch.epoch, batch.index + 1)
                yield batch

    def _batches(self, plans: Iterator[_Plan]) -> Generator[Batch, None, None]:
        if self._workers:
            with Workers(self._workers, self._augmentation, self._pictures) as workers:
                for plan, images in workers.render(plans):
                    yield self._batch(plan, images)
        else:
            for plan in plans:
                yield self._batch(plan, self._render(plan))

    def _plans(self, epoch: int, start: int) -> Iterator[_Plan]:
        while True:
            yield from self._epoch_plans(epoch, start)
            epoch, start = epoch + 1, 0

    def _epoch_plans(self, epoch: int, start: int) -> Iterator[_Plan]:
        line = parts_of_epoch(self._portions, self._seed, epoch)
        lanes = [self._lane(line, epoch, lane, start * self._of_lane) for lane in self._own]
        for index in range(start, self.batches_per_epoch):
            taken = [one for lane in lanes for one in islice(lane, self._of_lane)]
            yield self._plan(taken, epoch, index)

    def _lane(
        self, line: Sequence[Part], epoch: int, lane: int, start: int
    ) -> Iterator[tuple[Place, Sample | None]]:
        """The samples of a lane in their order, without the first `start`."""
        count = self.batches_per_epoch * self._of_lane
        order = shuffled(count, self._buffer, Random(f"{self._seed}/{epoch}/{lane}/samples"))
        done = bytearray(count)
        for position in islice(order, start):
            done[position] = 1
        parts = cut(line, lane * count, (lane + 1) * count)
        stream = EpochStream(self._selections, parts, self._cache, done)
        for position in order:
            yield stream.take(position)

    def _plan(self, taken: list[tuple[Place, Sample | None]], epoch: int, index: int) -> _Plan:
        samples: list[Sample] = []
        pictures: list[bytes | Pixels] = []
        for place, sample in taken:
            if sample is None or place in self._cache:
                kept = self._cache[place]
                samples.append(kept.sample)
                pictures.append(kept.pixels)
            else:
                samples.append(sample.without_media())
                pictures.append(sample.media)
        seeds, places = self._seeds(epoch, index), tuple(place for place, _ in taken)
        if self._partners:
            pictures += [self._partner(place, sample) for place, sample in taken]
            seeds += tuple(f"{seed}/partner" for seed in seeds)
        return _Plan(epoch, index, seeds, places, tuple(samples), tuple(pictures))

    def _partner(self, place: Place, sample: Sample | None) -> bytes:
        if sample is None or sample.partner is None:
            name, where = sample.key if sample else "", self._selections[place[0]].dataset.path
            raise BlipError(
                f"{where}, sample {name} has one picture, and what is learnt here is of two; "
                "ingest a dataset of pairs (kind: nlvr2)"
            )
        return sample.partner

    def _seeds(self, epoch: int, index: int) -> tuple[str, ...]:
        """Of the crops: one for the batch, or with lanes one for every sample."""
        if not self._elastic:
            return (f"{self._seed}/{epoch}/{index}/{self._rank}/images",)
        numbers = range(index * self._of_lane, (index + 1) * self._of_lane)
        return tuple(
            f"{self._seed}/{epoch}/{lane}/{number}/lane/images" for lane in self._own for number in numbers
        )

    def _render(self, plan: _Plan) -> Images | Failure:
        size = self._augmentation.size
        images_BSS3 = np.empty((len(plan.pictures), size, size, 3), np.uint8)
        pictures = plan.pictures
        if not self._partners:
            places = zip(plan.places, plan.samples, plan.pictures, strict=True)
            pictures = tuple(self._kept(*one) for one in places)
        return render(pictures, self._augmentation, plan.seeds, images_BSS3) or images_BSS3

    def _kept(self, place: Place, sample: Sample, picture: bytes | Pixels) -> bytes | Pixels:
        """The picture's pixels if they are worth keeping and there is room, else what it was."""
        if not isinstance(picture, bytes) or not self._cache.has_room(sample.width, sample.height):
            return picture
        if self._augmentation.reduces(picture):
            return picture
        try:
            pixels = decode(picture)
        except BadImage:  # rendering meets it again, and says which picture it is
            return picture
        self._cache.put(place, Picture(sample, pixels))
        return pixels

    def _batch(self, plan: _Plan, images: Images | Failure) -> Batch:
        self._taken += len(plan.places)
        unreadable: list[Unreadable] = []
        while isinstance(images, Failure):
            lost, plan = self._replaced(plan, images)
            unreadable.append(lost)
            images = self._render(plan)
        seeds = plan.seeds[: len(plan.seeds) // 2] if self._partners else plan.seeds
        rngs = tuple(Random(seed.removesuffix("/images") + "/texts") for seed in seeds)
        return Batch(
            images=torch.from_numpy(images).permute(0, 3, 1, 2),
            samples=plan.samples,
            image_ids=torch.tensor([stable_id(sample.key) for sample in plan.samples], dtype=torch.int64),
            rng=rngs[0],
            epoch=plan.epoch,
            index=plan.index,
            rngs=rngs if self._elastic else (),
            unreadable=tuple(unreadable),
        )

    def _replaced(self, plan: _Plan, failure: Failure) -> tuple[Unreadable, _Plan]:
        """The plan with another sample for the one of which a picture cannot be decoded."""
        row = failure.row % len(plan.places)
        lost, place, sample = self._replacements.replace(
            plan.places[row], plan.samples[row].key, failure.reason, self._taken
        )
        pictures = list(plan.pictures)
        pictures[row] = sample.media
        if self._partners:
            pictures[row + len(plan.places)] = self._partner(place, sample)
        places, samples = list(plan.places), list(plan.samples)
        places[row], samples[row] = place, sample.without_media()
        changed = replace(plan, places=tuple(places), samples=tuple(samples), pictures=tuple(pictures))
        return lost, changed

    def _check_lanes(self) -> None:
        batch = self._batch_size * self._world
        if self._lanes % self._world or batch % self._lanes:
            raise BlipError(
                f"training.lanes = {self._lanes} must be a multiple of the {self._world} rank(s) and divide "
                f"the batch of all of them, {self._batch_size} x {self._world} = {batch}"
            )

    def _check(self, total: int) -> None:
        names = ", ".join(str(selection.dataset.path) for selection in self._selections)
        shards = sum(len(portion.shards) for portion in self._portions)
        if shards < self._world * max(self._workers, 1):
            workers = f" x {self._workers} workers" if self._workers else ""
            raise BlipError(
                f"{names}: {shards} shards are fewer than {self._world} ranks{workers}; lower "
                "ingest.samples_per_shard and ingest again, or train with fewer ranks"
                f"{' or training.workers' if workers else ''}"
            )
        if not self.batches_per_epoch:
            step = f"{self._accumulate} x " if self._elastic else ""
            raise BlipError(
                f"{names}: {total} samples do not fill one batch of {step}{self._batch_size} on each of "
                f"{self._world} rank(s); lower training.batch_size"
            )

    def _digest(self) -> str:
        """Of all that a place in the data depends on."""
        data = [(selection.dataset.digest, selection.digests()) for selection in self._selections]
        weights = [portion.weight for portion in self._portions]
        size, shares = self._batch_size, self._world
        if self._elastic:
            size, shares = self._batch_size * self._world * self._accumulate, self._lanes
        value = (data, weights, self._seed, size, self._buffer, shares, self._elastic)
        return sha256(repr(value).encode()).hexdigest()[:16]


def _shards(index: int, selection: Selection) -> list[ShardRef]:
    """The shards of a dataset with what they contribute; empty ones are left out."""
    numbers = range(len(selection.dataset.manifest.shards))
    refs = (ShardRef(index, number, selection.count(number)) for number in numbers)
    return [ref for ref in refs if ref.samples]
