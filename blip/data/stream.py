"""Samples of an epoch by position, read forward through the shards, and a bounded cache of decoded pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from blip.data.decode import Pixels
from blip.data.order import Part
from blip.data.sample import Sample
from blip.data.selection import Selection

Place = tuple[int, int, int]  # dataset, shard, number among the samples that the shard contributes


@dataclass(frozen=True)
class Picture:
    """A sample without its media, and its decoded picture, `uint8 [H, W, 3]`."""

    sample: Sample
    pixels: Pixels


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

    def has_room(self, width: int, height: int) -> bool:
        """Whether a picture of that size can still be kept."""
        return width * height * 3 <= self._left

    def put(self, place: Place, picture: Picture) -> None:
        """Keep a picture if there is room."""
        if picture.pixels.nbytes <= self._left and place not in self._pictures:
            self._left -= picture.pixels.nbytes
            self._pictures[place] = picture


class EpochStream:
    """Hands out the samples of one epoch's parts by position, reading each part's shard at most once.

    Samples wait in memory as files from when they are read until they are asked for, so a caller that asks
    for positions at most `n` ahead of the lowest outstanding one keeps about `n` of them waiting.
    """

    def __init__(
        self, selections: Sequence[Selection], parts: Sequence[Part], cache: PictureCache, done: bytearray
    ) -> None:
        """`done[position]` is 1 where nobody will ask; shards with nothing else stay closed."""
        self._selections = selections
        self._cache = cache
        self._done = done
        self._waiting: dict[int, tuple[Place, Sample | None]] = {}
        self._reader = self._read(parts)

    def take(self, position: int) -> tuple[Place, Sample | None]:
        """The place and sample at a position, which can be asked for once; None where the cache has its picture.

        Raises:
            BlipError: its shard is damaged.
        """
        while position not in self._waiting:
            found, place, sample = next(self._reader)
            if not self._done[found]:
                self._waiting[found] = (place, sample)
        return self._waiting.pop(position)

    def _read(self, parts: Sequence[Part]) -> Iterator[tuple[int, Place, Sample | None]]:
        """Positions in order with their samples, None for those in the cache."""
        begin = 0
        for part in parts:
            places = [(part.dataset, part.shard, number) for number in range(part.start, part.stop)]
            wanted = [not self._done[begin + index] for index in range(len(places))]
            if all(place in self._cache for place, want in zip(places, wanted, strict=True) if want):
                samples: Iterator[Sample | None] = iter([None] * len(places))
            else:
                samples = islice(self._selections[part.dataset].samples(part.shard), part.start, part.stop)
            for index, (place, sample) in enumerate(zip(places, samples, strict=True)):
                yield begin + index, place, sample
            begin += len(places)
