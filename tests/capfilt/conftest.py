"""A small noisy pool and small models on disk."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from blip.capfilt.identity import LOOK, Identity
from blip.capfilt.inputs import Models
from blip.capfilt.pictures import look
from blip.data.pairs import Caption, PairsDataset, PairsWriter, Sample
from tests.tiny import save

TEXTS = ["red apple", "", "DSC_0001.JPG", "the dog", "green", "table", "x"]


def write(folder: Path, prefix: str, texts: Sequence[str | list[str]], origin: str) -> PairsDataset:
    """A sample for every text, or for every list of texts."""
    random = np.random.default_rng(len(texts))
    with PairsWriter(folder, samples_per_shard=4, parents=[], parameters={}) as writer:
        for number, text in enumerate(texts):
            image = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            media = cv2.imencode(".png", image)[1].tobytes()
            captions = tuple(Caption(one, origin) for one in ([text] if isinstance(text, str) else text))
            writer.add(Sample(f"{prefix}-{number}", media, "png", captions, width=32, height=32))
    return PairsDataset.open(folder)


def repost(picture: bytes, size: float, quality: int) -> bytes:
    """A picture as another site has it: `size` times as large, and JPEG."""
    with Image.open(BytesIO(picture)) as image:
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.convert("RGBA").getchannel("A"))
    buffer = BytesIO()
    flat.resize([round(size * side) for side in flat.size]).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def strangers(keys: Sequence[str]) -> Identity:
    """Pictures of which no two look the same."""
    pixels = np.random.default_rng(len(keys)).integers(0, 255, (len(keys), LOOK.size, LOOK.size, 3), np.uint8)
    return Identity.of(keys, look(list(pixels), [LOOK])[LOOK])


def damage_a_picture(dataset: PairsDataset, key: str) -> None:
    """Overwrite what a shard has of a picture; the shard keeps its size."""
    media = next(sample.media for sample in dataset.samples() if sample.key == key)
    for path in (dataset.path / "shards").iterdir():
        path.write_bytes(path.read_bytes().replace(media, b"\xff" * len(media)))


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(f.relative_to(directory)): f.read_bytes() for f in directory.rglob("*") if f.is_file()}


@pytest.fixture
def web(tmp_path: Path) -> PairsDataset:
    return write(tmp_path / "web", "web", TEXTS, "web")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    return Models(save(folder / "captioner", 1), (save(folder / "filter", 2),))
