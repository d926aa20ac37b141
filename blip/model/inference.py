"""A network that is only read: its matrices in the type and the layout they are multiplied in, once for all calls.

Autocast turns float32 weights into bfloat16 whenever a product needs them: for a decoder's step of a few tokens that
moves more bytes than the product. What is computed stays the same, and the weights take half the memory. Packing them
for a CPU's products (`blip/model/linear.py`) takes as much again, and changes results by rounding only.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from blip.model.blip import BlipNetwork
from blip.model.compilation import compile_layers
from blip.model.linear import Linear, PackedWeight, can_pack
from blip.model.precision import autocast

KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


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


@contextmanager
def reading(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Autocast; and on a GPU attention by others than cuDNN, which plans anew for each shape.

    Captions that are written have another one after every token, and no two batches of texts that are judged have the
    same.
    """
    with ExitStack() as stack:
        stack.enter_context(autocast(device, dtype))
        if device.type == "cuda":
            stack.enter_context(sdpa_kernel(KERNELS))
        yield


def make_quick(network: nn.Module, compiled: bool) -> None:
    """Compile the layers, or keep the weights as a CPU multiplies with them: a compiler knows only ordinary ones."""
    if compiled:
        compile_layers(network)
    else:
        pack(network)


def pack(network: nn.Module) -> None:
    """Keep weights in the layout of a CPU's products beside the weights themselves, where there is such a layout.

    To be called when the weights have their values and their type. A weight that is changed in place afterwards is
    read as it is; one that is replaced is not.
    """
    for part in network.modules():
        if isinstance(part, Linear) and can_pack(part.weight):
            part.packed = PackedWeight(part.weight, part.bias)
    if isinstance(network, BlipNetwork):
        head, words = network.lm_head, network.word_embedding
        words = words if head.kept is None else head.kept[: len(head.bias)]
        if can_pack(words):
            head.packed = PackedWeight(words, head.bias)
