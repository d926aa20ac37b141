"""Networks of three sizes with random weights, and inputs as long as captions are."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from blip.data.text import SpecialTokens
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig

Size = Literal["tiny", "base", "large"]

CLS, TOKENS = 101, SpecialTokens(pad=0, sep=102, decode=30522, encode=30523)  # of the BERT vocabulary
ORDINARY = (1000, 30000)  # ids of pieces of words
# COCO captions: 10.5 words, here with [CLS] and [SEP]
MEAN_TOKENS, SPREAD, SHORTEST, LONGEST = 12.0, 2.6, 7, 30


@dataclass(frozen=True)
class Texts:
    """Padded ids and mask ``[M, T]``; T is the longest text's length."""

    ids: Tensor
    mask: Tensor

    def padded(self, length: int) -> "Texts":
        """The same texts padded to a fixed length, as the published code pads them to 30."""
        extra = (0, length - self.ids.shape[1])
        return Texts(torch.nn.functional.pad(self.ids, extra), torch.nn.functional.pad(self.mask, extra))


def random_network(size: Size, image_size: int, dropout: float = 0.0) -> BlipNetwork:
    """The paper's network with ViT-B/16 or ViT-L/16, or the demo's size with the BERT vocabulary."""
    torch.manual_seed(0)
    width, layers, heads = {"tiny": (128, 4, 4), "base": (768, 12, 12), "large": (1024, 24, 16)}[size]
    vision = VisionConfig(image_size, 16, width, layers, heads)
    text = TextConfig(dropout=dropout, context_width=width)
    if size == "tiny":
        text = TextConfig(width=128, layers=4, heads=4, dropout=dropout, context_width=width)
    return BlipNetwork(BlipConfig(vision, text))


def random_images(count: int, image_size: int) -> Tensor:
    """Normalised images ``[N, 3, S, S]``."""
    return torch.randn(count, 3, image_size, image_size, generator=torch.Generator().manual_seed(1))


def random_texts(count: int) -> Texts:
    """Texts of 7 to 30 tokens, 12 in the mean, ``[CLS]`` first and ``[SEP]`` last."""
    random = np.random.default_rng(2)
    lengths = np.clip(random.normal(MEAN_TOKENS, SPREAD, count).round(), SHORTEST, LONGEST).astype(int)
    ids = torch.zeros(count, int(lengths.max()), dtype=torch.int64)
    for row, length in enumerate(lengths.tolist()):
        ids[row, :length] = torch.from_numpy(random.integers(*ORDINARY, length))
        ids[row, 0], ids[row, length - 1] = CLS, TOKENS.sep
    return Texts(ids, (ids != TOKENS.pad).long())
