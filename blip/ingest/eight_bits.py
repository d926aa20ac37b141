"""Samples whose grey pictures of more than 8 bits are kept in 8: all that reads the dataset then sees the same.

sample = in_eight_bits(sample, (0, 4095), max_pixels=100_000_000)
"""

import io
from dataclasses import replace

from PIL import Image

from blip.data.decode import decode, has_deep_grey
from blip.data.grey import GreyRange
from blip.data.sample import Sample


def in_eight_bits(sample: Sample, grey_range: GreyRange, max_pixels: int) -> Sample:
    """The sample with such pictures as PNG, `grey_range` from black to white; others stay as they are.

    Raises:
        BadImage: a picture cannot be decoded, has more than `max_pixels`, or lies beyond the range almost wholly.
    """
    if sample.is_video:
        return sample
    if has_deep_grey(sample.media):
        sample = replace(sample, media=_png(sample.media, grey_range, max_pixels), extension="png")
    if sample.partner is not None and has_deep_grey(sample.partner):
        second = _png(sample.partner, grey_range, max_pixels)
        sample = replace(sample, partner=second, partner_extension="png")
    return sample


def _png(data: bytes, grey_range: GreyRange, max_pixels: int) -> bytes:
    grey = decode(data, max_pixels, strict=True, grey_range=grey_range)[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()
