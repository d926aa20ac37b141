"""What the student learns from: views of the pictures, and what the teacher sees in each, computed once.

from starting_views import load_views
views = load_views(pictures)    # V views a picture: the whole of it first, then random crops
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from packages import CACHE
from starting_pictures import Pictures
from starting_teacher import EfficientNetLite0, load_teacher
from torch import Tensor

from blip.training.memory import keep_freed_memory
from blip.training.precision import has_fast_bfloat16

VIEWS = 3
RECOLOURED = 0.5  # share of the crops that get other colours; the whole picture keeps its own
CROP_AREA = (0.35, 1.0)
CROP_RATIO = (0.75, 1.33)
TEACHER_PIXELS, STUDENT_PIXELS, GRID = 160, 48, 6
BATCH = 96


@dataclass(frozen=True)
class Views:
    """Everything for N pictures and V views: student pictures, pooled and spatial teacher features."""

    names: list[str]
    pixels: Tensor  # uint8 [N, V, 3, 48, 48]
    pooled: Tensor  # float16 [N, V, 1280], standardised
    spatial: Tensor  # float16 [N, V, 36, 112 + 320], standardised


def load_views(pictures: Pictures) -> Views:
    """The views of ``pictures``, from the cache where they were computed before."""
    cached = CACHE / "starting-views.pt"
    if cached.exists():
        stored = Views(**torch.load(cached, weights_only=True, mmap=True))
        row = {name: i for i, name in enumerate(stored.names)}
        if row.keys() >= set(pictures.names):
            keep = torch.tensor([row[name] for name in pictures.names])
            return Views(pictures.names, stored.pixels[keep], stored.pooled[keep], stored.spatial[keep])
    views = compute_views(pictures)
    _save(cached, views)
    return views


def _save(path: Path, views: Views) -> None:
    partial = path.with_suffix(".partial")
    torch.save(vars(views), partial)
    partial.rename(path)


def compute_views(pictures: Pictures) -> Views:
    """Cut the views and run the teacher over them; features are standardised by channel over all views."""
    teacher = load_teacher().to(memory_format=torch.channels_last)
    boxes = crop_boxes(len(pictures), np.random.default_rng(0))
    random = torch.Generator().manual_seed(0)
    keep_freed_memory()
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    started = time.monotonic()
    for first in range(0, len(pictures), BATCH):
        images = torch.from_numpy(pictures.pixels[first : first + BATCH]).permute(0, 3, 1, 2).float() / 255
        for view in range(VIEWS):
            seen = recolour(images, random) if view else images
            parts.append(_see(teacher, seen, boxes[view, first : first + BATCH]))
        done = min(first + BATCH, len(pictures))
        if done % (BATCH * 16) == 0:
            print(
                f"teacher: {done:,} of {len(pictures):,} pictures, {time.monotonic() - started:.0f} s",
                flush=True,
            )
    pixels, pooled, spatial = (_by_picture([part[i] for part in parts]) for i in range(3))
    return Views(pictures.names, pixels, standardise(pooled), standardise(spatial))


def _by_picture(parts: list[Tensor]) -> Tensor:
    """Batches in the order (batch, view) to one tensor ``[N, V, ...]``."""
    return torch.cat([torch.stack(parts[i : i + VIEWS], dim=1) for i in range(0, len(parts), VIEWS)])


def crop_boxes(count: int, random: np.random.Generator) -> np.ndarray:
    """Boxes ``[V, count, 4]`` as centre x, centre y, width, height in 0..1; view 0 is the whole picture."""
    area = random.uniform(*CROP_AREA, (VIEWS, count))
    ratio = np.sqrt(np.exp(random.uniform(*np.log(CROP_RATIO), (VIEWS, count))))
    size = np.minimum(np.stack((np.sqrt(area) * ratio, np.sqrt(area) / ratio), axis=-1), 1)
    size[0] = 1
    centre = size / 2 + random.uniform(size=size.shape) * (1 - size)
    return np.concatenate((centre, size), axis=-1).astype(np.float32)


def recolour(images: Tensor, random: torch.Generator) -> Tensor:
    """Give a share of the images other colours, for teacher and student alike, as if by another artist.

    The channels change places and the saturation is drawn from grey to strong; white stays white.
    """
    count = len(images)
    order = torch.stack([torch.randperm(3, generator=random) for _ in range(count)])
    swapped = images.gather(1, order[:, :, None, None].expand_as(images))
    grey = swapped.mean(1, keepdim=True)
    drawn = grey + (swapped - grey) * torch.rand(count, 1, 1, 1, generator=random) * 1.5
    chosen = torch.rand(count, 1, 1, 1, generator=random) < RECOLOURED
    return torch.where(chosen, drawn.clamp(0, 1), images)


def crop(images: Tensor, boxes: np.ndarray, pixels: int) -> Tensor:
    """Cut one box out of each image and resize it to a square."""
    theta = torch.zeros(len(images), 2, 3)
    box = torch.from_numpy(boxes)
    theta[:, 0, 0], theta[:, 1, 1] = box[:, 2], box[:, 3]
    theta[:, :, 2] = 2 * box[:, :2] - 1
    grid = F.affine_grid(theta, [len(images), 3, pixels, pixels], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


@torch.inference_mode()
def _see(teacher: EfficientNetLite0, images: Tensor, boxes: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """One view of a batch: student pixels, pooled features, features at the 6x6 places of the patches."""
    large = crop(images, boxes, TEACHER_PIXELS)
    with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16("cpu")):
        middle, last, pooled = teacher(large.contiguous(memory_format=torch.channels_last))
    places = [F.interpolate(x.float(), (GRID, GRID), mode="bilinear", antialias=True) for x in (middle, last)]
    small = F.interpolate(large, (STUDENT_PIXELS, STUDENT_PIXELS), mode="bilinear", antialias=True)
    pixels = (small * 255).round().clamp(0, 255).to(torch.uint8)
    return pixels, pooled.half(), torch.cat(places, dim=1).flatten(2).transpose(1, 2).half()


def standardise(features: Tensor) -> Tensor:
    """Zero mean and unit deviation of each channel over the rest, in place, clipped at 6 deviations."""
    flat = features.flatten(0, -2)
    sample = flat[:: max(1, len(flat) // 100_000)].float()
    mean, deviation = sample.mean(0), sample.std(0).clamp(min=1e-3)
    for rows in flat.split(65_536):
        rows.copy_(((rows.float() - mean) / deviation).clamp(-6, 6))
    return features
