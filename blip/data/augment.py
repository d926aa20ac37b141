"""From a picture's file or pixels to a training picture: random crop at the size, flip, RandAugment.

augmentation = Augmentation(size=224, crop_scale=(0.2, 1.0), flip=True, randaugment=True)
augmentation(data, rng)          # bytes or uint8 [H, W, 3] -> uint8 [224, 224, 3]

A JPEG much larger than needed is decoded at 1/2, 1/4 or 1/8 by its own transform: the largest divisor at which the
crop still has `size` pixels a side, so that it is only ever made smaller afterwards. That needs the crop before the
pixels, so such pictures are decoded anew for every crop.

The crop is scaled by OpenCV. Beside the published antialiased bicubic, on the sample's pictures: its area method is
nearest where half the pixels or fewer stay, plain bicubic where more do; both are within half a grey level of 255 at
224 pixels, and 1.2 at the demo's 48.
"""

import math
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np

from blip.data.decode import Pixels, Scratch, decode, divides
from blip.data.header import Header, read_header
from blip.data.randaugment import randaugment

RATIO = (3 / 4, 4 / 3)
DIVISORS = (8, 4, 2)

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Augmentation:
    """BLIP's recipe; every draw comes from the generator given with a picture.

    Attributes:
        size: pixels a side of the result.
        crop_scale: least and greatest share of the area that is cut out; (1, 1) is the whole picture.
    """

    size: int
    crop_scale: tuple[float, float] = (0.5, 1.0)
    flip: bool = True
    randaugment: bool = False

    def __call__(
        self, picture: bytes | Pixels, rng: Random, out: Pixels | None = None, scratch: Scratch | None = None
    ) -> Pixels:
        """The augmented picture, written to `out` if that is given; equal for a file and for its pixels, unless
        `reduces` is true of the file.

        Raises:
            BadImage: the file cannot be decoded.
        """
        out = np.empty((self.size, self.size, 3), np.uint8) if out is None else out
        self._crop(picture, rng, out, scratch)
        flips = self.flip and rng.random() < 0.5
        image = np.asarray(cv2.flip(out, 1), np.uint8) if flips else out
        image = randaugment(image, rng) if self.randaugment else image
        if image is not out:
            out[:] = image
        return out

    def reduces(self, data: bytes) -> bool:
        """Whether a file may be decoded at less than its size, so that its pixels are not worth keeping."""
        return self._reduces(data, read_header(data))

    def _reduces(self, data: bytes, header: Header | None) -> bool:
        large = header is not None and min(header.height, header.width) >= DIVISORS[-1] * self.size
        return large and divides(data, header)

    def _crop(self, picture: bytes | Pixels, rng: Random, out: Pixels, scratch: Scratch | None) -> None:
        divisor, header = 1, read_header(picture) if isinstance(picture, bytes) else None
        if isinstance(picture, bytes) and header and self._reduces(picture, header):
            box = crop_box(header.height, header.width, self.crop_scale, rng)
            divisor = reduction(box, self.size)
            pixels = decode(picture, divisor=divisor, header=header, scratch=scratch)
        else:
            pixels = (
                decode(picture, header=header, scratch=scratch) if isinstance(picture, bytes) else picture
            )
            box = crop_box(pixels.shape[0], pixels.shape[1], self.crop_scale, rng)
        squash(pixels, reduced(box, divisor) if divisor > 1 else box, out)


def crop_box(height: int, width: int, scale: tuple[float, float], rng: Random) -> Box:
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


def reduction(box: Box, size: int) -> int:
    """The largest of 1, 2, 4, 8 by which a crop can be divided without falling below `size` pixels a side."""
    side = min(box[2] - box[0], box[3] - box[1])
    return next((divisor for divisor in DIVISORS if side >= divisor * size), 1)


def reduced(box: Box, divisor: int) -> Box:
    """Where a crop lies in the picture divided by that, to the nearest pixel: up to half a pixel of the result off."""
    left, top, right, bottom = ((edge + divisor // 2) // divisor for edge in box)
    return left, top, right, bottom


def squash(image: Pixels, box: Box, out: Pixels) -> None:
    """A part of a picture at the size of `out`, `[S, S, 3]`."""
    left, top, right, bottom = box
    height, width, size = bottom - top, right - left, out.shape[0]
    shrinks = min(height, width) >= size and height * width >= 2 * size * size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    cv2.resize(image[top:bottom, left:right], (size, size), dst=out, interpolation=method)
