"""Microseconds to decode a picture, by every decoder that could: why each format goes where it goes.

    python benchmarks/decoding.py

The pictures are the sample's, enlarged and grained; printed is a Markdown table with the largest difference of a
channel from Pillow's pixels. The best of seven turns counts, in CPU time of one thread.
"""

import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from blip.data.decode import Pixels, decode

SAMPLE = Path("data/sample/human/images.tar")
SIZES = ((96, 96), (340, 256))
KINDS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 90},
    "PNG": {},
    "WEBP": {"quality": 90},
    "WEBP lossless": {"lossless": True},
}


def pictures(count: int, size: tuple[int, int]) -> list[Image.Image]:
    """Pictures of the sample at another size, with noise."""
    noise, found = np.random.default_rng(0), []
    with tarfile.open(SAMPLE) as tar:
        for member in list(tar)[:count]:
            handle = tar.extractfile(member)
            assert handle is not None
            pixels = np.asarray(Image.open(handle).convert("RGB").resize(size), np.float32)
            grained = pixels + noise.normal(0, 6, pixels.shape)
            found.append(Image.fromarray(grained.clip(0, 255).astype(np.uint8)))
    return found


def by_pillow(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def by_opencv(data: bytes) -> Pixels:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def microseconds(decoder: Callable[[bytes], Pixels], files: list[bytes]) -> float:
    best = float("inf")
    for _ in range(7):
        start = time.thread_time()
        for data in files:
            decoder(data)
        best = min(best, time.thread_time() - start)
    return best / len(files) * 1e6


def main() -> None:
    """Measure and print the table."""
    cv2.setNumThreads(1)
    print("| format | pixels | bytes | Pillow | OpenCV | simplejpeg | blip |\n|-|-|-|-|-|-|-|")
    for width, height in SIZES:
        for name, options in KINDS.items():
            files = []
            for picture in pictures(30, (width, height)):
                buffer = io.BytesIO()
                picture.save(buffer, name.split()[0], **options)
                files.append(buffer.getvalue())
            decoders = {"Pillow": by_pillow, "OpenCV": by_opencv}
            decoders |= {"simplejpeg": simplejpeg.decode_jpeg} if name == "JPEG" else {}
            cells = []
            for decoder in (*decoders.values(), decode):
                apart = max(int(np.abs(decoder(d).astype(int) - by_pillow(d)).max()) for d in files)
                cells.append(f"{microseconds(decoder, files):.0f} us, {apart} off")
            cells[2:2] = [] if name == "JPEG" else [""]
            size = sum(map(len, files)) // len(files)
            print(f"| {name} | {width} x {height} | {size:,} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
