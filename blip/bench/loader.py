"""From shards to batches: images a second and core, beside a bare decoding loop and a WebDataset pipeline.

figures = measure(batch=64, image_size=224, repeats=5)
figures.ratios["bare"]            # ours over simplejpeg and OpenCV on files in memory

All three squash the same pictures to the same size, uint8, on one thread. Ours is the training loader end to end:
read the shards, shuffle, parse the captions, decode, resize, batch. What counts is the CPU time of this process, so
that neighbours on the machine do not, and freed memory is kept for all three, as our training does.
"""

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image

from blip.bench.measure import by_turns, median_ratio
from blip.data.loader import PairLoader
from blip.data.pairs import Caption, PairsDataset, PairsWriter, Sample
from blip.machine import processor
from blip.training.memory import keep_freed_memory

SHORT_SIDE, LONG_SIDE = 256, 340
QUALITY = 90
PER_SHARD = 256
PASSES = 4  # through the pictures in one call
SIDES = {"ours": "this loader", "bare": "simplejpeg + OpenCV in memory", "webdataset": "WebDataset + Pillow"}
Work = Callable[[], int]


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        images: of one call, which goes through the pictures several times.
        bytes_each: of a picture's file, in the mean.
        seconds: CPU seconds of each call, by side.
        ratios: how many times faster ours is, by side; the median over the turns.
    """

    images: int
    batch: int
    image_size: int
    bytes_each: int
    seconds: dict[str, list[float]]
    ratios: dict[str, float]
    machine: str
    versions: str

    def rate(self, side: str) -> float:
        """Images a second and core."""
        return self.images / statistics.median(self.seconds[side])


def measure(batch: int = 64, image_size: int = 224, repeats: int = 5, batches: int = 8) -> Figures:
    """Time all three by turns, after one call each that is not counted.

    Args:
        batches: of different pictures, gone through four times in a call.
    """
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        with tempfile.TemporaryDirectory(prefix="blip-bench-") as folder:
            files = [picture(number) for number in range(batches * batch)]
            dataset = write(Path(folder) / "dataset", files)
            calls = sides(dataset, files, batch, image_size)
            for call in calls.values():
                call()
            seconds = by_turns(calls, repeats, torch.device("cpu"), time.process_time)
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
    ratios = {name: median_ratio(seconds, "ours", name) for name in seconds if name != "ours"}
    each = sum(map(len, files)) // len(files)
    return Figures(PASSES * len(files), batch, image_size, each, seconds, ratios, processor(), versions())


def picture(number: int) -> bytes:
    """A JPEG of 256 pixels on its short side: soft patches with fine grain, about as many bytes as a photograph's."""
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    soft = cv2.resize(coarse, (LONG_SIDE, SHORT_SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    grained = soft + random.normal(0, 6, soft.shape).astype(np.float32)
    pixels = grained.clip(0, 255).astype(np.uint8)
    upright = pixels if number % 2 else np.ascontiguousarray(pixels.transpose(1, 0, 2))
    return simplejpeg.encode_jpeg(upright, quality=QUALITY, colorsubsampling="420")


def write(folder: Path, files: list[bytes]) -> PairsDataset:
    """The pictures as a dataset, each with two captions."""
    with PairsWriter(folder, samples_per_shard=PER_SHARD, parents=[], parameters={}) as writer:
        for number, data in enumerate(files):
            texts = f"picture number {number} of soft patches", "patches with grain"
            captions = tuple(Caption(text, "web") for text in texts)
            width, height = (LONG_SIDE, SHORT_SIDE)[:: 1 if number % 2 else -1]
            writer.add(Sample(f"{number:06d}", data, "jpg", captions, width=width, height=height))
    return PairsDataset.open(folder)


def sides(dataset: PairsDataset, files: list[bytes], batch: int, image_size: int) -> dict[str, Work]:
    """The three calls; each makes all pictures once."""
    return {
        "ours": lambda: ours(dataset, batch, image_size),
        "bare": lambda: bare(files, image_size),
        "webdataset": lambda: webdataset(dataset, batch, image_size),
    }


def ours(dataset: PairsDataset, batch: int, image_size: int) -> int:
    """Epochs of batches. The loader makes one more than it is asked for, so that the last is not asked for."""
    loader = PairLoader(
        [(dataset, frozenset())], batch_size=batch, image_size=image_size, seed=0, crop_scale=(1.0, 1.0), flip=False,
        cache_bytes=0,
    )  # fmt: skip
    with closing(iter(loader)) as batches:
        asked = PASSES * loader.batches_per_epoch - 1
        return batch + sum(len(made.images) for made in islice(batches, asked))


def bare(files: list[bytes], image_size: int) -> int:
    """Decode and resize, as ours does, and nothing else."""
    for data in PASSES * files:
        cv2.resize(simplejpeg.decode_jpeg(data), (image_size, image_size), interpolation=cv2.INTER_CUBIC)
    return PASSES * len(files)


def webdataset(dataset: PairsDataset, batch: int, image_size: int) -> int:
    """What a user of WebDataset writes: decode to Pillow's images, resize, batch."""
    from webdataset.compat import WebDataset

    size = (image_size, image_size)

    def pixels(image: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(image.resize(size, Image.Resampling.BICUBIC))

    urls = [str(dataset.path / shard.url) for shard in dataset.manifest.shards]
    pipeline: Any = WebDataset(urls, shardshuffle=False).shuffle(512).decode("pil").to_tuple("jpg", "json")
    batches = pipeline.map_tuple(pixels).repeat(PASSES).batched(batch)
    return sum(len(images) for images, _ in batches)


def versions() -> str:
    """The libraries that matter."""
    names = ("simplejpeg", "opencv-python-headless", "pillow", "webdataset")
    return ", ".join(f"{name} {version(name)}" for name in names) + f", Python {platform.python_version()}"
