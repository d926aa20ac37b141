"""Perceptual hashes: pictures that look alike differ in few of 64 bits.

index = near_duplicates(train_hashes, test_hashes, bits=4)
kept = index < 0
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # [H, W, 3], RGB

COLOUR = 3.0
"""Mean difference of two thumbnails up to which colours agree.

Copies of the sample's pictures (JPEG quality 30, half or double size, 10% darker) stay below 3. To the grey
hash half of easy-vqa's training pictures, a drawn shape each, look like a test picture; with colours 3%."""

THUMBNAIL = (8, 8, 3)

_SIDE, _LOW = 32, 8
_CHUNK = 1 << 22


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


def near_duplicates(
    hashes: NDArray[np.uint64],
    references: NDArray[np.uint64],
    bits: int,
    thumbnails: NDArray[np.int16] | None = None,
    reference_thumbnails: NDArray[np.int16] | None = None,
) -> NDArray[np.int64]:
    """For each of `hashes [N]` the index of its nearest reference of `[M]` within `bits`, or -1.

    With thumbnails `[N, 8, 8, 3]` and `[M, 8, 8, 3]`, colours must agree, too: the hash is of grey pictures
    and takes a red triangle for a blue one. Every pair is compared, a few million at a time.
    """
    hashes, references = np.asarray(hashes, np.uint64), np.asarray(references, np.uint64)
    nearest = np.full(len(hashes), -1, np.int64)
    rows = max(1, _CHUNK // max(1, len(references)))
    for start in range(0, len(hashes), rows):
        distance = np.bitwise_count(hashes[start : start + rows, None] ^ references[None, :])
        row, column = np.nonzero(distance <= bits)
        if thumbnails is not None and reference_thumbnails is not None:
            apart = np.abs(thumbnails[start + row] - reference_thumbnails[column]).mean((1, 2, 3))
            row, column = row[apart <= COLOUR], column[apart <= COLOUR]
        order = np.argsort(distance[row, column], kind="stable")[::-1]  # the nearest is written last
        nearest[start + row[order]] = column[order]
    return nearest
