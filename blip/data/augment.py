"""Augmentation of training pictures, one at a time on the host, uint8 in and out.

BLIP's recipe: random resized crop, horizontal flip, RandAugment with two operations at level 5 of 10.
The crop is scaled by OpenCV's area method: on the sample's pictures one grey level of 255 off evaluation's
antialiased bicubic, in 40% of its time.
"""

import math
from collections.abc import Callable
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # [H, W, 3], RGB

RATIO = (3 / 4, 4 / 3)
FILL = (128, 128, 128)
MAX_LEVEL = 10


def crop_box(height: int, width: int, scale: tuple[float, float], rng: Random) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a crop of a random share (`scale`) of the area and a random shape.

    Ten draws, then the largest middle part whose shape is allowed (as Inception and torchvision do). A scale
    of (1, 1) is the whole picture, whatever its shape.
    """
    if scale[0] >= 1.0:
        return 0, 0, width, height
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * RATIO[1])))
    h = min(height, max(1, round(width / RATIO[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def random_resized_crop(image: Pixels, size: int, scale: tuple[float, float], rng: Random) -> Pixels:
    """A random part of a picture, squashed to `[size, size, 3]`."""
    left, top, right, bottom = crop_box(image.shape[0], image.shape[1], scale, rng)
    part = image[top:bottom, left:right]
    shrinks = min(part.shape[:2]) >= size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (size, size), interpolation=method), np.uint8)


def flip(image: Pixels) -> Pixels:
    """Left and right exchanged."""
    return image[:, ::-1]


def randaugment(image: Pixels, rng: Random, count: int = 2, level: int = 5) -> Pixels:
    """RandAugment: `count` operations drawn with repetition, each applied with probability 1/2."""
    for operation in rng.choices(OPERATIONS, k=count):
        if rng.random() < 0.5:
            image = operation(np.ascontiguousarray(image), level / MAX_LEVEL, rng)
    return image


def _identity(image: Pixels, strength: float, rng: Random) -> Pixels:
    return image


def _autocontrast(image: Pixels, strength: float, rng: Random) -> Pixels:
    low, high = image.min((0, 1)).astype(np.float32), image.max((0, 1)).astype(np.float32)
    scale = np.where(high > low, 255.0 / np.maximum(high - low, 1), 1.0)
    return ((image - np.where(high > low, low, 0)) * scale).clip(0, 255).astype(np.uint8)


def _equalize(image: Pixels, strength: float, rng: Random) -> Pixels:
    bands = [cv2.equalizeHist(np.ascontiguousarray(image[..., band])) for band in range(3)]
    return np.stack(bands, axis=-1).astype(np.uint8)


def _brightness(image: Pixels, strength: float, rng: Random) -> Pixels:
    return (image.astype(np.float32) * _factor(strength)).clip(0, 255).astype(np.uint8)


def _sharpness(image: Pixels, strength: float, rng: Random) -> Pixels:
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
    smooth = image.astype(np.float32)
    smooth[1:-1, 1:-1] = cv2.filter2D(smooth, -1, kernel)[1:-1, 1:-1]
    return (smooth + _factor(strength) * (image - smooth)).clip(0, 255).astype(np.uint8)


def _shear_x(image: Pixels, strength: float, rng: Random) -> Pixels:
    return _warp(image, [[1, _either_way(0.3 * strength, rng), 0], [0, 1, 0]])


def _shear_y(image: Pixels, strength: float, rng: Random) -> Pixels:
    return _warp(image, [[1, 0, 0], [_either_way(0.3 * strength, rng), 1, 0]])


def _translate_x(image: Pixels, strength: float, rng: Random) -> Pixels:
    return _warp(image, [[1, 0, _either_way(_shift(image, strength), rng)], [0, 1, 0]])


def _translate_y(image: Pixels, strength: float, rng: Random) -> Pixels:
    return _warp(image, [[1, 0, 0], [0, 1, _either_way(_shift(image, strength), rng)]])


def _rotate(image: Pixels, strength: float, rng: Random) -> Pixels:
    centre = (image.shape[1] / 2, image.shape[0] / 2)
    return _warp(image, cv2.getRotationMatrix2D(centre, _either_way(30 * strength, rng), 1))


def _warp(image: Pixels, matrix: object) -> Pixels:
    height, width = image.shape[:2]
    affine = np.asarray(matrix, np.float32)
    return np.asarray(cv2.warpAffine(image, affine, (width, height), borderValue=FILL), np.uint8)


def _factor(strength: float) -> float:
    return 0.1 + 1.8 * strength


def _shift(image: Pixels, strength: float) -> float:
    """Ten pixels of BLIP's 224 at full strength, in proportion for other sizes."""
    return 10 * strength * image.shape[1] / 224


def _either_way(value: float, rng: Random) -> float:
    return value if rng.random() < 0.5 else -value


OPERATIONS: tuple[Callable[[Pixels, float, Random], Pixels], ...] = (
    _identity,
    _autocontrast,
    _brightness,
    _sharpness,
    _equalize,
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
    _rotate,
)
