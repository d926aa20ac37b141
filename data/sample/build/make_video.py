"""Build ``data/sample/video``: Fluent's animated pictures as small clips for text-to-video retrieval.

    python data/sample/build/make_video.py

One clip for each concept with ``has_clip`` in ``concepts.csv``: H.264, 96 x 96 on white, about 12 frames a
second. Its caption is the concept's label. The columns ``image`` hold the key: a member of ``clips.tar``
without its suffix.
"""

import csv
import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from concepts import clip_path
from deterministic_tar import write_tar
from packages import SAMPLE
from PIL import Image, ImageSequence

PIXELS = 96
MILLISECONDS = 80
# Without mbtree, whose assembly gives other bytes from one run to the next.
ENCODER = {"crf": "22", "preset": "veryslow", "tune": "animation", "x264-params": "mbtree=0"}
FOLDER = SAMPLE / "video"


def read_frames(path: Path) -> list[np.ndarray]:
    """Frames of an animated picture on white, uint8 [96, 96, 3], at even steps of 80 ms."""
    frames: list[np.ndarray] = []
    with Image.open(path) as animation:
        shown = 0
        for frame in ImageSequence.Iterator(animation):
            shown += int(frame.info.get("duration", 40)) or 40
            while len(frames) * MILLISECONDS < shown:
                frames.append(_on_white(frame))
    return frames


def _on_white(frame: Image.Image) -> np.ndarray:
    picture = frame.convert("RGBA")
    canvas = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    canvas.alpha_composite(picture)
    canvas.thumbnail((PIXELS, PIXELS), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (PIXELS, PIXELS), (255, 255, 255))
    square.paste(canvas.convert("RGB"), ((PIXELS - canvas.width) // 2, (PIXELS - canvas.height) // 2))
    return np.asarray(square)


def encode(frames: list[np.ndarray]) -> bytes:
    """An MP4 of the frames; the same frames give the same bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(1000, MILLISECONDS))
        stream.width = stream.height = PIXELS
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {**ENCODER, "flags": "+bitexact"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def concepts_with_clips() -> list[tuple[str, str]]:
    """``(hexcode, label)`` of the concepts that keep their animation for testing."""
    with (SAMPLE / "concepts.csv").open(newline="", encoding="utf-8") as stream:
        return [(row["hexcode"], row["label"]) for row in csv.DictReader(stream) if row["has_clip"] == "1"]


def animation_of(hexcode: str) -> Path:
    """The animated picture of a concept; every concept with ``has_clip`` has one."""
    path = clip_path(hexcode)
    if path is None:
        raise FileNotFoundError(
            f"concept {hexcode}: has_clip is 1 in concepts.csv, but no package animates it"
        )
    return path


def write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Write one table."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)


def main() -> None:
    concepts = concepts_with_clips()
    keys = [f"clip-{i:04d}" for i in range(len(concepts))]
    animations = [read_frames(animation_of(hexcode)) for hexcode, _ in concepts]
    clips = {f"{key}.mp4": encode(frames) for key, frames in zip(keys, animations, strict=True)}
    size = write_tar(FOLDER / "clips.tar", clips)
    named = list(zip(keys, concepts, strict=True))
    write_csv(FOLDER / "captions.csv", ("image", "caption"), ((key, label) for key, (_, label) in named))
    write_csv(
        FOLDER / "truth.csv", ("image", "concept", "label"), ((key, *concept) for key, concept in named)
    )
    lengths = [len(frames) for frames in animations]
    print(f"{len(clips)} clips of {min(lengths)} to {max(lengths)} frames, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
