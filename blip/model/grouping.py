"""Texts in the order of their images, so that all texts of an image meet its keys and values in one place.

groups = Groups.of(image_M.sort().values, lengths_M, images=len(tokens_BND))
context = groups.over(contexts, most_texts=3, most_tokens=61)       # what cross-attention of packed texts reads
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from blip.model.context import Context, Grouped


class Groups(NamedTuple):
    """Where the texts, and their tokens, of each image begin, and behind the last their number: int32 ``[B + 1]``."""

    texts_E: Tensor
    tokens_E: Tensor

    @classmethod
    def of(cls, image_M: Tensor, lengths_M: Tensor, images: int) -> "Groups":
        """The groups of texts in the order of their images ``image_M``, of which there are `images`."""
        texts_E = torch.searchsorted(image_M, torch.arange(images + 1, device=image_M.device))
        tokens_E = F.pad(lengths_M.cumsum(0), (1, 0)).index_select(0, texts_E)
        return cls(texts_E.int(), tokens_E.int())

    def over(self, contexts: Sequence[Context], most_texts: int, most_tokens: int) -> list[Grouped]:
        """The images' contexts of all layers for these texts."""
        return [Grouped(layer, *self, most_texts, most_tokens) for layer in contexts]
