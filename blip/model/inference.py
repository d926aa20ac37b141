"""A network that is only read: its matrices in the type they are multiplied in, cast once and not in every call.

Autocast turns float32 weights into bfloat16 whenever a product needs them: for a decoder's step of a few tokens that
moves more bytes than the product. What is computed stays the same, and the weights take half the memory.
"""

import torch
from torch import nn

from blip.model.blip import BlipNetwork


def keep_in(network: nn.Module, dtype: torch.dtype) -> None:
    """Keep what `network` multiplies with in `dtype`, to be used under `autocast` to it; float32 leaves it as it is.

    Norms, positions and looked-up word embeddings stay float32. Such a network is not for training, nor for saving.
    """
    if dtype is torch.float32:
        return
    for part in network.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.to(dtype)
    if isinstance(network, BlipNetwork):
        network.lm_head.keep(network.word_embedding.detach().to(dtype))
