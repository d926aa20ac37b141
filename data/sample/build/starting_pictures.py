"""The pictures that the vision starting weights are distilled on: training styles, other icons, clip art; no caption.

    from starting_pictures import load_pictures
    pictures = load_pictures()      # .names "twemoji/red-apple", .pixels uint8 [N, 96, 96, 3]

The validation style (EmojiOne), the test style (Noto) and everything drawn after them or too like them
are no part of it, nor are the Fluent 3D pictures of the concepts that have an animation, some of which
are test clips.
"""

import csv
import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from concepts import TEST, VALIDATION, clip_path
from packages import CACHE, SAMPLE, fetch_deb, load_icons, version_of
from perceptual_hash import distances, perceptual_hash
from rasterise import rasterise

STYLES = ("fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast", "twemoji", "openmoji", "fxemoji")
OTHER_STYLES = (
    "streamline-emojis",
    "streamline-kameleon-color",
    "streamline-ultimate-color",
    "streamline-freehand-color",
    "streamline-plump-color",
    "streamline-stickies-color",
    "flat-color-icons",
    "flat-ui",
    "game-icons",
)
CLIP_ART = "openclipart-svg"
CLIP_ART_PICTURES = 8000
CLIP_ART_BYTES = 150_000
CLIP_ART_LEFT_OUT = (
    "flag",
    "geography/",
    "logos/",
    "shapes/",
    "special/",
    "unsorted/",
    "/led/",
    "/map_symbols/",
)
PIXELS = 96
NEAR_BITS = 6
VARIANTS = re.compile(r"skin-tone|skintone|-(light|medium|dark)$|^flag-|keycap|^regional-")


@dataclass(frozen=True)
class Pictures:
    """Pictures on white with the names ``SOURCE/NAME``."""

    names: list[str]
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def counts(self) -> dict[str, int]:
        """Pictures by source."""
        return dict(Counter(name.partition("/")[0] for name in self.names))


def load_pictures() -> Pictures:
    """All pictures, drawn once and cached, without what is held out."""
    cached = CACHE / "starting-pictures.npz"
    if not cached.exists():
        _save(cached, draw_all())
    with np.load(cached) as stored:
        names, pixels = stored["names"].tolist(), stored["pixels"]
    clips = clip_pictures()
    keep = [i for i in np.flatnonzero(~resembles_held_out(pixels)) if pixels[i].tobytes() not in clips]
    return Pictures([names[i] for i in keep], pixels[keep])


def _save(path: Path, pictures: Pictures) -> None:
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, names=np.array(pictures.names), pixels=pictures.pixels)
    partial.rename(path)


def draw_all() -> Pictures:
    """Rasterise every source; pictures that do not render, are blank or repeat another one are left out."""
    names, pixels, seen = [], [], set()
    with ProcessPoolExecutor(2) as pool:
        for name, picture in pool.map(_draw, sources(), chunksize=64):
            digest = hashlib.sha256(picture.tobytes()).digest() if picture is not None else b""
            if picture is None or digest in seen or picture.std() < 2:
                continue
            seen.add(digest)
            names.append(name)
            pixels.append(picture)
    return Pictures(names, np.stack(pixels))


def sources() -> Iterator[tuple[str, str]]:
    """``(SOURCE/NAME, svg)`` of every candidate picture."""
    for style in (*STYLES, *OTHER_STYLES):
        icons = load_icons(style)
        for name in icons.names():
            if not VARIANTS.search(name):
                yield f"{style}/{name}", icons.svg(name)
    for path in clip_art():
        yield f"{CLIP_ART}/{path.stem}", path.read_text(encoding="utf-8", errors="replace")


def clip_art() -> list[Path]:
    """A fixed random choice of Debian's clip art without maps, flags, logos, spirals, large drawings."""
    root = fetch_deb(CLIP_ART, version_of(CLIP_ART)) / "usr/share/openclipart/svg"
    paths = [path for path in sorted(root.rglob("*.svg")) if path.stat().st_size <= CLIP_ART_BYTES]
    useful = [
        p for p in paths if not any(part in p.relative_to(root).as_posix() for part in CLIP_ART_LEFT_OUT)
    ]
    return sorted(random.Random(0).sample(useful, min(CLIP_ART_PICTURES, len(useful))))


def _draw(source: tuple[str, str]) -> tuple[str, np.ndarray | None]:
    name, svg = source
    try:
        return name, rasterise(svg, PIXELS)
    except (ValueError, OSError, AttributeError, ZeroDivisionError):
        return name, None


def resembles_held_out(pixels: np.ndarray) -> np.ndarray:
    """Which pictures a perceptual hash takes for one by EmojiOne or Noto, in the sample or not."""
    drawn = []
    for style in (VALIDATION, TEST):
        icons = load_icons(style)
        names = [name for name in icons.names() if not VARIANTS.search(name)]
        drawn += [
            picture for _, picture in map(_draw, ((n, icons.svg(n)) for n in names)) if picture is not None
        ]
    held_out, ours = ([perceptual_hash(picture) for picture in side] for side in (drawn, pixels))
    near = [distances(ours[i : i + 1024], held_out).min(axis=1) for i in range(0, len(ours), 1024)]
    return np.concatenate(near) <= NEAR_BITS


def clip_pictures() -> set[bytes]:
    """The pixels of the Fluent 3D pictures of all concepts that have an animation, test clips or not."""
    icons = load_icons("fluent-emoji")
    with (SAMPLE / "concepts.csv").open(newline="", encoding="utf-8") as stream:
        labels = [row["label"] for row in csv.DictReader(stream) if clip_path(row["hexcode"]) is not None]
    names = [re.sub(r"[^a-z0-9]+", "-", label.lower().replace("'", "")) for label in labels]
    return {rasterise(icons.svg(name), PIXELS).tobytes() for name in names}
