"""Grey pictures of more than 8 bits, which Pillow would clip, in 8 bits.

    eight = in_eight_bits(image, inverted=white_is_zero(image))      # of mode L

Of whole numbers the higher byte of 16 bits is taken, of others what lies between 0 and 255.
"""

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION


def is_deep(image: Image.Image) -> bool:
    """Whether a picture is grey, of more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def white_is_zero(image: Image.Image) -> bool:
    """Whether the TIFF of a deep picture has white as 0, as X-rays do; Pillow turns others round itself."""
    return is_deep(image) and getattr(image, "tag_v2", {}).get(PHOTOMETRIC_INTERPRETATION) == 0


def in_eight_bits(image: Image.Image, inverted: bool = False) -> Image.Image:
    """A deep picture, or a strip of it, in mode `L`; each pixel's value is its own alone."""
    if image.mode == "F":
        grey = np.asarray(image.convert("L"))
    else:
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    return Image.fromarray(255 - grey if inverted else grey)
