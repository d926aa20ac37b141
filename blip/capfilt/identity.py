"""Which pictures are one and the same: by their keys, and what was encoded or resized anew by how it looks.

    asked = Identity.of(keys, pictures[LOOK])
    asked.same(pool)                          # bool [N, R]

Two look the same as they do to ingestion: few bits of their perceptual hashes differ, and their colours agree.
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

LOOK = View(64)  # in which pictures are compared
BITS = 4  # of 64 that differ at most: of copies of photographs 1% are farther apart, of the sample's drawings 10%


@dataclass(frozen=True, eq=False)
class Identity:
    """N pictures by their keys and how they look.

    Attributes:
        keys: `stable_id` of each, int64 ``[N]``.
        hashes: perceptual ones, uint64 ``[N]``.
        thumbnails: int16 ``[N, 8, 8, 3]``.
    """

    keys: NDArray[np.int64]
    hashes: Hashes
    thumbnails: NDArray[np.int16]

    @classmethod
    def of(cls, keys: Iterable[str], pictures_N3SS: Tensor) -> "Identity":
        """Of pictures in the view `LOOK`."""
        pixels = [np.ascontiguousarray(picture) for picture in pictures_N3SS.permute(0, 2, 3, 1).numpy()]
        return cls(
            np.array([stable_id(key) for key in keys], np.int64),
            np.array([phash(picture) for picture in pixels], np.uint64),
            np.stack([thumbnail(picture) for picture in pixels]),
        )

    @classmethod
    def from_tensors(cls, keys: Tensor, hashes: Tensor, thumbnails: Tensor) -> "Identity":
        """What `tensors` gave, copied."""
        return cls(keys.numpy().copy(), hashes.numpy().view(np.uint64).copy(), thumbnails.numpy().copy())

    def tensors(self) -> dict[str, Tensor]:
        """The three by name, as a file takes them."""
        hashes = torch.from_numpy(self.hashes.view(np.int64))
        return {
            "keys": torch.from_numpy(self.keys),
            "hashes": hashes,
            "thumbnails": torch.from_numpy(self.thumbnails),
        }

    def same(self, others: "Identity") -> NDArray[np.bool_]:
        """Which of R others each picture is, bool ``[N, R]``."""
        same_NR = self.keys[:, None] == others.keys
        for row, (look, colours) in enumerate(zip(self.hashes, self.thumbnails, strict=True)):
            near = np.flatnonzero(np.bitwise_count(look ^ others.hashes) <= BITS)
            apart = np.abs(colours - others.thumbnails[near]).mean((1, 2, 3))
            same_NR[row, near[apart <= COLOUR]] = True
        return same_NR
