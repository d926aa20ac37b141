"""Small real pictures and datasets, made on the spot."""

import io
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from blip.data.pairs import Caption, PairsDataset, PairsWriter, Sample

Pixels = NDArray[np.uint8]


def draw(seed: int, width: int = 40, height: int = 40) -> Pixels:
    """A picture of coarse random patches: alike only for equal seeds."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: Pixels, extension: str = "png", **options: object) -> bytes:
    """A picture as a file's bytes."""
    buffer = io.BytesIO()
    kind = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[extension]
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def sample(number: int, **fields: object) -> Sample:
    """Sample `key-00007` with a PNG picture and a caption."""
    values: dict = {"captions": (Caption(f"picture {number}", "human"),)} | fields
    return Sample(f"key-{number:05d}", encoded(draw(number)), "png", **values)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., PairsDataset]:
    """Write a dataset of samples `first` to `first + count` and open it."""

    def make(name: str = "pairs", count: int = 10, per_shard: int = 4, first: int = 0) -> PairsDataset:
        with PairsWriter(tmp_path / name, samples_per_shard=per_shard, parents=[], parameters={}) as writer:
            for number in range(first, first + count):
                writer.add(sample(number))
        return PairsDataset.open(tmp_path / name)

    return make
