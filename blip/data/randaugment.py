"""RandAugment as BLIP uses it: two of ten operations at level 5 of 10, each applied with probability 1/2.

augmented = randaugment(pixels, Random(7))      # uint8 [H, W, 3] in and out

The operations and what a level means are those of the published code (its OpenCV version). At level 5 brightness and
sharpness have the factor 1, so that they change nothing. What moves in from outside the picture is grey.
"""

from collections.abc import Callable
from random import Random

import cv2
import numpy as np

from blip.data.decode import Pixels

FILL = (128, 128, 128)
COUNT, LEVEL, MAX_LEVEL = 2, 5, 10
LEVELS = np.arange(256, dtype=np.float64)


def randaugment(image: Pixels, rng: Random) -> Pixels:
    """`COUNT` operations drawn with repetition, each applied with probability 1/2."""
    for operation in rng.choices(OPERATIONS, k=COUNT):
        if rng.random() < 0.5:
            image = operation(np.ascontiguousarray(image), LEVEL / MAX_LEVEL, rng)
    return image


def identity(image: Pixels, strength: float, rng: Random) -> Pixels:
    """Nothing."""
    return image


def autocontrast(image: Pixels, strength: float, rng: Random) -> Pixels:
    """Stretch each channel to the whole range."""
    return np.stack([_stretched(image[..., channel]) for channel in range(3)], axis=-1)


def equalize(image: Pixels, strength: float, rng: Random) -> Pixels:
    """Make the levels of each channel about equally frequent."""
    return np.stack([_equalized(image[..., channel]) for channel in range(3)], axis=-1)


def brightness(image: Pixels, strength: float, rng: Random) -> Pixels:
    """Multiply by the factor."""
    return _table(LEVELS.astype(np.float32) * np.float32(_factor(strength)))[image]


def sharpness(image: Pixels, strength: float, rng: Random) -> Pixels:
    """Go from the smoothed picture towards it, or past it; the border stays."""
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
    smooth = cv2.filter2D(image, -1, kernel).astype(np.float32)[1:-1, 1:-1]
    sharp = image.copy()
    inside = smooth + _factor(strength) * (image[1:-1, 1:-1] - smooth)
    sharp[1:-1, 1:-1] = inside.clip(0, 255).astype(np.uint8)
    return sharp


def shear_x(image: Pixels, strength: float, rng: Random) -> Pixels:
    """Slant by up to 0.3 of the height."""
    return _warp(image, np.array([[1, _either_way(0.3 * strength, rng), 0], [0, 1, 0]], np.float32))


def shear_y(image: Pixels, strength: float, rng: Random) -> Pixels:
    """Slant by up to 0.3 of the width."""
    return _warp(image, np.array([[1, 0, 0], [_either_way(0.3 * strength, rng), 1, 0]], np.float32))


def translate_x(image: Pixels, strength: float, rng: Random) -> Pixels:
    """Move sideways."""
    return _warp(image, np.array([[1, 0, _either_way(_shift(image, strength), rng)], [0, 1, 0]], np.float32))


def translate_y(image: Pixels, strength: float, rng: Random) -> Pixels:
    """Move up or down."""
    return _warp(image, np.array([[1, 0, 0], [0, 1, _either_way(_shift(image, strength), rng)]], np.float32))


def rotate(image: Pixels, strength: float, rng: Random) -> Pixels:
    """Turn by up to 30 degrees about the middle."""
    centre = (image.shape[1] / 2, image.shape[0] / 2)
    return _warp(image, cv2.getRotationMatrix2D(centre, _either_way(30 * strength, rng), 1))


OPERATIONS: tuple[Callable[[Pixels, float, Random], Pixels], ...] = (
    identity,
    autocontrast,
    brightness,
    sharpness,
    equalize,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
    rotate,
)


def _stretched(channel: Pixels) -> Pixels:
    low, high = int(channel.min()), int(channel.max())
    if high <= low:
        return channel
    scale = 255 / (high - low)
    return _table(LEVELS * scale - low * scale)[channel]


def _equalized(channel: Pixels) -> Pixels:
    counts = np.bincount(channel.reshape(-1), minlength=256)
    step = int(counts.sum() - counts[counts.nonzero()[0][-1]]) // 255
    if step == 0:
        return channel
    below = np.concatenate(([step // 2], counts[:-1]))
    return _table(below.cumsum() // step)[channel]


def _table(levels: np.ndarray) -> Pixels:
    return levels.clip(0, 255).astype(np.uint8)


def _warp(image: Pixels, matrix: np.ndarray) -> Pixels:
    height, width = image.shape[:2]
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderValue=FILL), np.uint8)


def _factor(strength: float) -> float:
    return 0.1 + 1.8 * strength


def _shift(image: Pixels, strength: float) -> float:
    """Ten pixels of BLIP's 224 at full strength, in proportion for other sizes."""
    return 10 * strength * image.shape[1] / 224


def _either_way(value: float, rng: Random) -> float:
    return value if rng.random() < 0.5 else -value
