"""Clips as a model of pictures sees them: some frames spread evenly, whose tokens follow one another."""

from collections.abc import Callable, Sequence

from torch import Tensor

from blip.data.images import ImageInput
from blip.data.sample import Sample
from blip.data.video import frames


def encode_frames(
    encode: Callable[[Sequence[ImageInput], int], Tensor], samples: Sequence[Sample], count: int
) -> Tensor:
    """Tokens ``[B, F * T, D]`` of a batch of clips, those of `count` = F frames one after another."""
    pictures = [frame for sample in samples for frame in frames(sample.media, count)]
    return encode(pictures, len(pictures)).unflatten(0, (len(samples), count)).flatten(1, 2)
