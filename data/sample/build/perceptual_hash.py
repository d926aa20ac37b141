"""A 64-bit perceptual hash: the low DCT frequencies of the grey picture, each above or below their median."""

import numpy as np
from PIL import Image

SIDE = 32
LOW = 8


def perceptual_hash(image: np.ndarray) -> int:
    """Hash of one uint8 [H, W, 3] picture; alike pictures differ in few bits."""
    grey = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    basis = _dct_basis(SIDE)[:LOW]
    low = basis @ np.asarray(grey, dtype=np.float64) @ basis.T
    bits = low.ravel() > np.median(low.ravel()[1:])
    return int(sum(1 << index for index in np.flatnonzero(bits).tolist()))


def distances(left: list[int], right: list[int]) -> np.ndarray:
    """Hamming distances, uint8 [len(left), len(right)]."""
    differing = np.array(left, dtype=np.uint64)[:, None] ^ np.array(right, dtype=np.uint64)[None, :]
    return np.bitwise_count(differing)


def _dct_basis(size: int) -> np.ndarray:
    """Rows of the type-II discrete cosine transform."""
    frequency, position = np.arange(size)[:, None], np.arange(size)[None, :]
    return np.cos(np.pi * frequency * (2 * position + 1) / (2 * size))
