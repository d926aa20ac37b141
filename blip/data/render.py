"""The pictures of a batch, from files or pixels to the bytes that training takes.

failure = render(pictures, augmentation, ["7/0/3/0/images"], out)    # out: uint8 [B, S, S, 3]

What a batch looks like depends on its pictures and its seeds only, never on which process makes it.
"""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blip.data.augment import Augmentation
from blip.data.decode import BadImage, Pixels, Scratch

Images = NDArray[np.uint8]  # [B, S, S, 3]


class Failure(NamedTuple):
    """The row of a picture that cannot be decoded, and why."""

    row: int
    reason: str


def render(
    pictures: Sequence[bytes | Pixels], augmentation: Augmentation, seeds: Sequence[str], out: Images
) -> Failure | None:
    """Augment pictures one after the other into `out`; stops at the first that cannot be decoded.

    Of n seeds each is that of an n-th of the pictures: one for all of them, or every picture has its own.
    """
    scratch, run = Scratch(), len(pictures) // len(seeds)
    rngs = [Random(seed) for seed in seeds]
    for row, picture in enumerate(pictures):
        try:
            augmentation(picture, rngs[row // run], out[row], scratch)
        except BadImage as error:
            return Failure(row, str(error))
    return None
