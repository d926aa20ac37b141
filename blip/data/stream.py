"""Pictures of an epoch by position, read forward through the shards, with a bounded cache."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from blip.data.decode import BadImage, decode
from blip.data.order import Part
from blip.data.pairs import PairsDataset
from blip.data.sample import Sample
from blip.errors import BlipError

Source = tuple[PairsDataset, frozenset[str]]
Place = tuple[int, int, int]  # dataset, shard, number among the samples that the shard contributes


@dataclass(frozen=True)
class Picture:
    """A sample without its media, and its decoded picture, `uint8 [H, W, 3]`."""

    sample: Sample
    pixels: NDArray[np.uint8]


class PictureCache:
    """Keeps the first pictures it is given, up to a number of bytes, and never lets go of one.

    Epochs go through everything once, so the least recently used picture is the next one wanted: a cache that
    evicted would hit nothing as soon as the data outgrow it.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._pictures: dict[Place, Picture] = {}

    def __contains__(self, place: Place) -> bool:
        return place in self._pictures

    def __getitem__(self, place: Place) -> Picture:
        return self._pictures[place]

    def put(self, place: Place, picture: Picture) -> None:
        """Keep a picture if there is room."""
        if picture.pixels.nbytes <= self._left and place not in self._pictures:
            self._left -= picture.pixels.nbytes
            self._pictures[place] = picture


class EpochStream:
    """Hands out the pictures of one epoch's parts by position, reading each shard at most once.

    Undecoded samples wait in memory from when they are read until they are asked for, so a caller that asks
    for positions at most `n` ahead of the lowest outstanding one keeps about `n` of them waiting.
    """

    def __init__(
        self, sources: Sequence[Source], parts: Sequence[Part], cache: PictureCache, done: bytearray
    ) -> None:
        """`done[position]` is 1 where nobody will ask; shards with nothing else stay closed."""
        self._sources = sources
        self._cache = cache
        self._done = done
        self._waiting: dict[int, tuple[Place, Sample | None]] = {}
        self._reader = self._read(parts)

    def picture(self, position: int) -> Picture:
        """The picture at a position; each can be asked for once.

        Raises:
            BlipError: its shard is damaged, or the picture cannot be decoded.
        """
        while position not in self._waiting:
            found, place, sample = next(self._reader)
            if not self._done[found]:
                self._waiting[found] = (place, sample)
        place, sample = self._waiting.pop(position)
        if sample is None or place in self._cache:
            return self._cache[place]
        picture = Picture(replace(sample, media=b""), self._decode(place, sample))
        self._cache.put(place, picture)
        return picture

    def _read(self, parts: Sequence[Part]) -> Iterator[tuple[int, Place, Sample | None]]:
        """Positions in order with their samples, None for those in the cache."""
        begin = 0
        for part in parts:
            places = [(part.dataset, part.shard, number) for number in range(part.start, part.stop)]
            wanted = [not self._done[begin + index] for index in range(len(places))]
            if all(place in self._cache for place, want in zip(places, wanted, strict=True) if want):
                samples: Iterator[Sample | None] = iter([None] * len(places))
            else:
                dataset, exclude = self._sources[part.dataset]
                whole = dataset.shard_samples(dataset.manifest.shards[part.shard], exclude)
                samples = islice(whole, part.start, part.stop)
            for index, (place, sample) in enumerate(zip(places, samples, strict=True)):
                yield begin + index, place, sample
            begin += len(places)

    def _decode(self, place: Place, sample: Sample) -> NDArray[np.uint8]:
        try:
            return decode(sample.media)
        except BadImage as error:
            dataset = self._sources[place[0]][0]
            shard = dataset.path / dataset.manifest.shards[place[1]].url
            raise BlipError(
                f"shard {shard}, sample {sample.key}: {error}; ingest the dataset again"
            ) from None
