"""Which pictures are one and the same: by their keys, and what was encoded or resized anew by how it looks.

    asked = Identity.of(keys, pictures[LOOK])
    asked.same(pool)                          # bool [N, R]

Two look the same as they do to ingestion, where few bits of their perceptual hashes differ and their colours agree, if
what stands out of their ground does so at the same places, too: two goods on white are not one picture.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blip.capfilt.pictures import View
from blip.data.phash import COLOUR, Hashes, phash, thumbnail
from blip.data.sample import stable_id

CELLS = 32  # a side
ALIKE = 0.95  # correlation of grey cells: of the sample's copies 0.97 and above, of two slides 0.9
LOOK = View(2 * CELLS)  # in which pictures are compared
BITS = 4  # of 64 that differ at most: of copies of photographs 1% are farther apart, of the sample's drawings 10%


@dataclass(frozen=True, eq=False)
class Identity:
    """N pictures by their keys and how they look.

    Attributes:
        keys: `stable_id` of each, int64 ``[N]``.
        hashes: perceptual ones, uint64 ``[N]``.
        thumbnails: int16 ``[N, 8, 8, 3]``.
        cells: grey, float16 ``[N, 32 * 32]``, about their mean; of length 1, or 0 where nothing stands out.
    """

    keys: NDArray[np.int64]
    hashes: Hashes
    thumbnails: NDArray[np.int16]
    cells: NDArray[np.float16]

    @classmethod
    def of(cls, keys: Iterable[str], pictures_N3SS: Tensor) -> "Identity":
        """Of pictures in the view `LOOK`."""
        pixels = [np.ascontiguousarray(picture) for picture in pictures_N3SS.permute(0, 2, 3, 1).numpy()]
        return cls(
            np.array([stable_id(key) for key in keys], np.int64),
            np.array([phash(picture) for picture in pixels], np.uint64),
            np.stack([thumbnail(picture) for picture in pixels]),
            np.stack([_cells(picture) for picture in pixels]),
        )

    @classmethod
    def from_tensors(cls, keys: Tensor, hashes: Tensor, thumbnails: Tensor, cells: Tensor) -> "Identity":
        """What `tensors` gave, copied."""
        looks = hashes.numpy().view(np.uint64).copy()
        return cls(keys.numpy().copy(), looks, thumbnails.numpy().copy(), cells.numpy().copy())

    def tensors(self) -> dict[str, Tensor]:
        """The four by name, as a file takes them."""
        hashes = torch.from_numpy(self.hashes.view(np.int64))
        return {
            "keys": torch.from_numpy(self.keys),
            "hashes": hashes,
            "thumbnails": torch.from_numpy(self.thumbnails),
            "cells": torch.from_numpy(self.cells),
        }

    def same(self, others: "Identity") -> NDArray[np.bool_]:
        """Which of R others each picture is, bool ``[N, R]``."""
        same_NR = self.keys[:, None] == others.keys
        for row, look in enumerate(self.hashes):
            near = np.flatnonzero(np.bitwise_count(look ^ others.hashes) <= BITS)
            apart = np.abs(self.thumbnails[row] - others.thumbnails[near]).mean((1, 2, 3))
            near = near[apart <= COLOUR]
            mine, theirs = self.cells[row].astype(np.float32), others.cells[near].astype(np.float32)
            flat = ~mine.any() & ~theirs.any(1)
            same_NR[row, near[(theirs @ mine >= ALIKE) | flat]] = True
        return same_NR


def _cells(picture: NDArray[np.uint8]) -> NDArray[np.float16]:
    grey = picture.mean(2, dtype=np.float32).reshape(CELLS, 2, CELLS, 2).mean((1, 3)).ravel()
    grey -= grey.mean()
    length = np.linalg.norm(grey)
    return (grey / length if length > CELLS else 0 * grey).astype(np.float16)  # below one level of 255, noise
