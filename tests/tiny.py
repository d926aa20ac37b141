"""A BLIP small enough for tests, with random weights of a useful size."""

import string
from pathlib import Path

import torch

from blip.data.text import SPECIALS, Tokenizer
from blip.model.api import Blip
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.checkpoints import ModelCard, save_model
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig

WORDS = ("red", "green", "apple", "dog", "picture", "of", "the", "in", "on", "table")


def tokenizer() -> Tokenizer:
    letters = string.ascii_lowercase
    return Tokenizer([*SPECIALS, *letters, *("##" + letter for letter in letters), *WORDS])


def network(seed: int = 0, tied: bool = True, width: int = 64) -> BlipNetwork:
    """Two layers a tower; weights pushed away from their small initial values, so that outputs differ."""
    torch.manual_seed(seed)
    vision = VisionConfig(image_size=32, patch_size=8, width=width, layers=2, heads=4)
    text = TextConfig(
        len(tokenizer()), width, layers=2, heads=4, max_positions=64, dropout=0.0, context_width=width
    )
    made = BlipNetwork(BlipConfig(vision, text, projection=32, tied=tied))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return made.eval()


def blip(seed: int = 0, tied: bool = True, prompt: str = "") -> Blip:
    return Blip(network(seed, tied), tokenizer(), ModelCard(prompt=prompt))


def save(directory: Path, seed: int) -> Path:
    """A model directory with such a network."""
    save_model(network(seed), tokenizer(), directory, ModelCard())
    return directory


def images(count: int, size: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))
