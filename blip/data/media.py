"""What a picture or clip looks like: size and perceptual hash, read by decoding it, so broken media show."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from blip.data.decode import MAX_PIXELS, decode
from blip.data.phash import phash, thumbnail
from blip.data.sample import Sample
from blip.data.video import middle_frame


@dataclass(frozen=True, eq=False)
class Look:
    """Size in pixels, 64-bit perceptual hash and colour thumbnail (of the middle frame of a clip)."""

    width: int
    height: int
    phash: int
    thumbnail: NDArray[np.int16]


def look_at(sample: Sample, max_pixels: int = MAX_PIXELS, strict: bool = False) -> Look:
    """Decode a sample's media.

    Raises:
        BadMedia: it cannot be decoded, has more than `max_pixels`, or is a picture that `strict` decoding refuses.
    """
    media = sample.media
    image = middle_frame(media, max_pixels) if sample.is_video else decode(media, max_pixels, strict=strict)
    height, width = image.shape[:2]
    return Look(width, height, phash(image), thumbnail(image))


def looks_at(sample: Sample, max_pixels: int = MAX_PIXELS, strict: bool = False) -> list[Look]:
    """Decode a sample's media, and behind it its partner, if it has one. Raises BadMedia as `look_at` does."""
    looks = [look_at(sample, max_pixels, strict)]
    if sample.partner is not None:
        partner = replace(sample, media=sample.partner, extension=sample.partner_extension)
        looks.append(look_at(partner, max_pixels, strict))
    return looks
