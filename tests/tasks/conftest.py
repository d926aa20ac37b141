"""Coloured pictures, a toy model that knows colours, and a real BLIP of toy size with random weights."""

import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from blip.data.images import to_pil
from blip.data.sample import Caption, Question, Sample
from blip.data.text import train_tokenizer
from blip.model.api import Blip
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "purple": (255, 0, 255),
    "cyan": (0, 255, 255),
}


class ColourModel:
    """Knows the colour that a text names last, and the mean colour of a picture."""

    temperature = 0.07

    def __init__(self) -> None:
        self.scored: list[tuple[int, int]] = []

    def encode_images(self, images: Sequence[object], batch_size: int = 64) -> Tensor:
        pixels = [np.asarray(to_pil(image)).reshape(-1, 3).mean(0) for image in images]  # type: ignore[arg-type]
        return torch.tensor(np.array(pixels), dtype=torch.float32)[:, None]

    def project_images(self, tokens_NTD: Tensor, *, unit: bool = True) -> Tensor:
        colour_N3 = tokens_NTD.mean(1)
        return _direction(colour_N3) if unit else colour_N3 - 127

    def embed_images(self, images: Sequence[object]) -> Tensor:
        return self.project_images(self.encode_images(images))

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        return _direction(_named(texts))

    def score_pairs(
        self,
        tokens_NTD: Tensor,
        image_index: Tensor,
        texts: Sequence[str],
        text_index: Tensor,
        matched_logit: bool = False,
    ) -> Tensor:
        self.scored += list(zip(image_index.tolist(), text_index.tolist(), strict=True))
        distance = (tokens_NTD.mean(1)[image_index] - _named(texts)[text_index]).norm(dim=-1)
        return 3 - distance / 20

    def rank_answers(
        self,
        tokens_BND: Tensor,
        image_index: Tensor,
        questions: Sequence[str],
        candidates: Sequence[str],
        keep: int,
    ) -> list[str]:
        colours = [name for name in candidates if name in COLOURS]
        scores = self.project_images(tokens_BND) @ self.embed_texts(colours).T
        return [colours[int(scores[row].argmax())] for row in image_index]


def _named(texts: Sequence[str]) -> Tensor:
    return torch.tensor([COLOURS[text.split()[-1]] for text in texts], dtype=torch.float32)


def _direction(colour_N3: Tensor) -> Tensor:
    return F.normalize(colour_N3 - 127, dim=-1)


@pytest.fixture
def colours() -> dict[str, tuple[int, int, int]]:
    return COLOURS


@pytest.fixture
def colour_model() -> ColourModel:
    return ColourModel()


@pytest.fixture
def painted() -> Callable[..., Sample]:
    """A plain picture of a colour, with captions and questions."""

    def paint(
        key: str, colour: str, captions: Sequence[str] = (), questions: Sequence[Question] = ()
    ) -> Sample:
        file = io.BytesIO()
        Image.new("RGB", (24, 24), COLOURS[colour]).save(file, "PNG")
        texts = tuple(Caption(text, "human") for text in captions)
        return Sample(key, file.getvalue(), "png", texts, tuple(questions), 24, 24)

    return paint


@pytest.fixture(scope="session")
def tiny_blip() -> Blip:
    torch.manual_seed(0)
    words = [f"a picture of something {name}" for name in COLOURS] * 3
    tokenizer = train_tokenizer([*words, "what colour is it"], 400)
    text = TextConfig(len(tokenizer), width=32, layers=2, heads=2, dropout=0.0, context_width=32)
    vision = VisionConfig(image_size=32, patch_size=8, width=32, layers=2, heads=2)
    network = BlipNetwork(BlipConfig(vision, text, projection=16))
    for parameter in network.parameters():  # larger than the usual start, so that scores differ
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return Blip(network, tokenizer)
