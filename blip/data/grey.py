"""Pictures of more than 8 bits, which Pillow would clip, in 8 bits.

    if fault := fault_of(image): ...                                 # most of it would be lost
    eight = in_eight_bits(image, inverted=white_is_zero(image))      # of mode L

Of whole numbers the higher byte of 16 bits is taken, of others what lies between 0 and 255. What has its values
elsewhere, as 12 bits of 16, Hounsfield units or numbers up to 1, would come out black or clipped: of that a source has
to say what is black and what is white (`grey_range`).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION

STRIP = 1 << 20  # pixels that are looked at together
DARK = 64  # of 256: where the lightest pixel is darker, most of the picture is lost
MOST = 0.9  # of the pixels: where more lie beyond black and white, these are not the picture's

GreyRange = tuple[float, float]  # the values that are black and white


def is_deep(image: Image.Image) -> bool:
    """Whether a picture is grey, of more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def has_wide_channels(image: ImageFile.ImageFile) -> bool:
    """Whether a picture that is not loaded has colours or transparency in 16 bits each, of which Pillow takes 8."""
    parts = image.tile if image.format in ("PNG", "TIFF") and not is_deep(image) else []
    return any(";16" in str(part[3]) for part in parts)


def white_is_zero(image: Image.Image) -> bool:
    """Whether the TIFF of a deep picture has white as 0, as X-rays do; Pillow turns others round itself."""
    return is_deep(image) and getattr(image, "tag_v2", {}).get(PHOTOMETRIC_INTERPRETATION) == 0


def in_eight_bits(
    image: Image.Image, inverted: bool = False, grey_range: GreyRange | None = None
) -> Image.Image:
    """A deep picture, or a strip of it, in mode `L`; each pixel's value is its own alone."""
    if grey_range:
        low, high = grey_range
        shares = np.nan_to_num((np.asarray(image).astype(np.float64) - low) / (high - low))
        grey = np.rint(shares.clip(0, 1) * 255).astype(np.uint8)
    elif image.mode == "F":
        grey = np.asarray(image.convert("L"))
    else:
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    return Image.fromarray(255 - grey if inverted else grey)


def fault_of(image: Image.Image, grey_range: GreyRange | None = None) -> str | None:
    """Why a deep picture would come out black or clipped, or None."""
    low, high = _ends(image)
    told = f"grey values from {low:,.7g} to {high:,.7g}, of which"
    if grey_range:
        beyond = _share_beyond(image, *grey_range)
        way = f"beyond the source's grey_range {list(grey_range)}; make a dataset of such pictures, with their own"
        return f"{told} {beyond:.0%} lie {way}" if beyond > MOST else None
    white = 255 if image.mode == "F" else 65_535
    if low >= 0 and white * DARK / 256 <= high <= white:
        return None
    return (
        f"{told} 0 would come out black and {white:,} white, and most be lost; say what is black and white, as "
        "grey_range: [0, 4095] of 12 bits at the source, or scale them to 8 bits"
    )


def fault_of_wide(pixels: NDArray[np.uint8]) -> str | None:
    """Why a picture whose channels had 16 bits came out (nearly) black, or None."""
    if (high := pixels.max()) >= DARK:
        return None
    return (
        f"channels of 16 bits, of which a small part is used: in 8 bits no value is over {high}, and most would be "
        "lost; scale them to 8 bits"
    )


def _ends(image: Image.Image) -> tuple[float, float]:
    """The lowest and highest value; where one is not a number neither is."""
    lows, highs = zip(*((strip.min(), strip.max()) for strip in _strips(image)), strict=True)
    return float(np.min(lows)), float(np.max(highs))


def _share_beyond(image: Image.Image, black: float, white: float) -> float:
    """How much of a picture is darker than black, lighter than white or not a number."""
    inside = sum(np.count_nonzero((strip >= black) & (strip <= white)) for strip in _strips(image))
    return 1 - inside / (image.width * image.height)


def _strips(image: Image.Image) -> Iterator[NDArray[Any]]:
    rows = max(STRIP // image.width, 1)
    for top in range(0, image.height, rows):
        yield np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
