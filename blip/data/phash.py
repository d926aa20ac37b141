"""Perceptual hashes: pictures that look alike differ in few of 64 bits.

index = HashIndex(test_hashes, bits=4)
kept = index.nearest(train_hashes) < 0
first = earlier(train_hashes, bits=4) < 0      # leaves one of each

Looking up is exact and does not compare every pair. The 64 bits are cut into `bits + s` blocks: of two hashes
within `bits`, at least s blocks are equal. So a table for each choice of s blocks, sorted by these, has all
that can be near in one run of equal entries (G. Manku et al., Detecting near-duplicates for web crawling,
WWW 2007, section 3).
"""

from collections.abc import Iterator
from itertools import combinations
from math import comb

import cv2
import numpy as np
from numpy.typing import NDArray

from blip.data.decode import Pixels

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

COLOUR = 3.0
"""Mean difference of two thumbnails up to which colours agree.

Copies of the sample's pictures (JPEG quality 30, half or double size, 10% darker) stay below 3. To the grey
hash half of easy-vqa's training pictures, a drawn shape each, look like a test picture; with colours 3%."""

THUMBNAIL = (8, 8, 3)

_SIDE, _LOW = 32, 8
_CHUNK = 1 << 19  # pairs compared at a time; their colours take 400 bytes each
_PROBE = 32  # looking into a table costs about as much as comparing so many pairs
_NONE = np.iinfo(np.int64).max


def phash(image: Pixels) -> int:
    """64-bit DCT hash of an RGB image `[H, W, 3]`.

    The 8 x 8 lowest frequencies of a 32 x 32 grey copy, each one bit: above their median or not
    (C. Zauner, Implementation and benchmarking of perceptual image hash functions, 2010, section 3.2.1).
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:_LOW, :_LOW].ravel()
    bits = low > np.median(low[1:])  # the first is the mean brightness
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def thumbnail(image: Pixels) -> NDArray[np.int16]:
    """Colours of an RGB image, `int16 [8, 8, 3]`, brought to a mean of 128 so that exposure plays no part."""
    small = cv2.resize(image, THUMBNAIL[:2], interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.rint(small * (128 / max(float(small.mean()), 1.0))).astype(np.int16)


class HashIndex:
    """References `[M]` by their hashes, and by their colours where thumbnails `[M, 8, 8, 3]` are given.

    The hash is of grey pictures and takes a red triangle for a blue one; with thumbnails colours must agree.
    """

    def __init__(self, references: Hashes, bits: int, thumbnails: NDArray[np.int16] | None = None) -> None:
        """Sort the references for looking up those within `bits`."""
        self._references = np.asarray(references, np.uint64)
        self._thumbnails = thumbnails
        self._bits = bits
        self._masks = _masks(bits, len(references))
        tables = [_sorted(self._references & mask) for mask in self._masks]
        self._keys = [keys for _, keys in tables]
        self._order = np.concatenate([order for order, _ in tables])

    def nearest(self, hashes: Hashes, thumbnails: NDArray[np.int16] | None = None) -> Indices:
        """For each of `hashes [N]` the index of its nearest reference within the bits, or -1.

        The first of several that are equally near. Thumbnails are `[N, 8, 8, 3]`.
        """
        hashes = np.asarray(hashes, np.uint64)
        best = np.full(len(hashes), _NONE)
        begins, ends = np.empty((2, len(self._masks), len(hashes)), np.int64)
        for number, (mask, keys) in enumerate(zip(self._masks, self._keys, strict=True)):
            wanted, start = hashes & mask, number * len(keys)
            begins[number] = keys.searchsorted(wanted, "left") + start
            ends[number] = keys.searchsorted(wanted, "right") + start
        for place, at in _runs(begins.ravel(), ends.ravel()):
            self._keep_nearest(best, hashes, thumbnails, place % len(hashes), self._order[at])
        return _indices(best)

    def _keep_nearest(
        self,
        best: Indices,
        hashes: Hashes,
        thumbnails: NDArray[np.int16] | None,
        row: Indices,
        column: Indices,
    ) -> None:
        distance = np.bitwise_count(hashes[row] ^ self._references[column])
        near = distance <= self._bits
        row, column, distance = row[near], column[near], distance[near]
        if thumbnails is not None and self._thumbnails is not None:
            apart = np.abs(thumbnails[row] - self._thumbnails[column]).mean((1, 2, 3))
            same = apart <= COLOUR
            row, column, distance = row[same], column[same], distance[same]
        np.minimum.at(best, row, _rank(distance, column))


def earlier(hashes: Hashes, bits: int) -> Indices:
    """For each of `hashes [N]` the index of the nearest before it within `bits`, or -1 where there is none.

    Equal hashes are joined first, so that a thousand blank pictures cost no more than one.
    """
    hashes = np.asarray(hashes, np.uint64)
    different, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    by_place = np.argsort(first)  # so that the one of a pair with the smaller index came before
    different, first = different[by_place], first[by_place]
    best = np.full(len(different), _NONE)
    for mask in _masks(bits, len(different)) if bits else ():
        order, keys = _sorted(different & mask)
        ends = np.searchsorted(keys, keys, "right")
        for row, at in _runs(np.arange(1, len(keys) + 1), ends):
            one, other = order[row], order[at]
            distance = np.bitwise_count(different[one] ^ different[other])
            near = distance <= bits
            before, after = np.minimum(one, other)[near], np.maximum(one, other)[near]
            np.minimum.at(best, after, _rank(distance[near], before))
    found = _indices(best)
    nearest = np.where(found >= 0, first[found], -1)
    place = np.empty(len(first), np.int64)
    place[by_place] = np.arange(len(first))
    group = place[which]
    return np.where(np.arange(len(hashes)) == first[group], nearest[group], first[group])


def _masks(bits: int, references: int) -> list[np.uint64]:
    """The choices of equal blocks that cost least; one mask of no block compares with every reference."""
    spare = min(range(4), key=lambda spare: _cost(bits, spare, references))
    blocks = bits + spare
    masks = [sum(1 << bit for bit in range(block, 64, blocks)) for block in range(blocks)]
    return [np.uint64(sum(chosen)) for chosen in combinations(masks, spare)]


def _cost(bits: int, spare: int, references: int) -> float:
    """Pairs to compare for a hash, were the references' bits random."""
    blocks = bits + spare
    if blocks > 64:
        return float("inf")
    share = 2.0 ** -(64 * spare / max(blocks, 1))
    return comb(blocks, spare) * (references * share + _PROBE)


def _sorted(keys: Hashes) -> tuple[Indices, Hashes]:
    order = np.argsort(keys, kind="stable")
    return order, keys[order]


def _runs(begins: Indices, ends: Indices) -> Iterator[tuple[Indices, Indices]]:
    """All (row, position) with begins[row] <= position < ends[row], a few million at a time."""
    counts = ends - begins
    totals = np.concatenate([[0], np.cumsum(counts)])
    start = 0
    while start < len(counts):
        stop = max(start + 1, int(np.searchsorted(totals, totals[start] + _CHUNK, "right")) - 1)
        many = counts[start:stop]
        row = np.repeat(np.arange(start, stop), many)
        within = np.arange(len(row)) - np.repeat(totals[start:stop] - totals[start], many)
        if len(row):
            yield row, begins[row] + within
        start = stop


def _rank(distance: NDArray[np.uint8], index: Indices) -> Indices:
    """A number by which the nearest is the smallest, and of equally near ones the first."""
    return (distance.astype(np.int64) << 40) | index


def _indices(rank: Indices) -> Indices:
    return np.where(rank == _NONE, -1, rank & ((1 << 40) - 1))
