"""What cross-attention reads, for all layers of a text transformer, and what self-attention has read so far.

contexts = encoder.project_context(tokens_BND)            # a Context for every layer
select_rows(contexts, torch.tensor([0, 0, 2]))            # for three texts, of images 0, 0 and 2
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from blip.model.precision import compute_dtype


class Context(NamedTuple):
    """What cross-attention reads in one layer: keys and values ``[B, H, N, C]`` and an additive mask or None."""

    keys: Tensor
    values: Tensor
    mask: Tensor | None = None

    @property
    def rows(self) -> int:
        """How many images (or questions) there are."""
        return len(self.keys)

    def select(self, index: Tensor) -> "Context":
        """The context of other texts: row i is row ``index[i]`` of this one.

        By `index_select`: the gradient of ``keys[index]`` is summed by several threads in any order on a CPU, so
        that no two runs were the same.
        """
        mask = None if self.mask is None else self.mask.index_select(0, index)
        return Context(self.keys.index_select(0, index), self.values.index_select(0, index), mask)


class TwoContexts(NamedTuple):
    """For the first texts, several to a row, a context that they share uncopied; for the last ones, their own."""

    shared: Context
    own: Context


class Grouped(NamedTuple):
    """A context that any number of packed texts to a row share uncopied; the texts stand in the order of the rows.

    Attributes:
        context: without a mask.
        texts_E: int32 ``[B + 1]``, where the texts of each row begin, and how many texts there are.
        tokens_E: the same in tokens.
        most_texts, most_tokens: no fewer than the row has that has most.
    """

    context: Context
    texts_E: Tensor
    tokens_E: Tensor
    most_texts: int
    most_tokens: int


class Tokens(NamedTuple):
    """What cross-attention reads without keys and values, for decoding a few tokens: ``[B, N, D]``."""

    tokens: Tensor

    @property
    def rows(self) -> int:
        """How many images there are."""
        return len(self.tokens)

    def select(self, index: Tensor) -> "Tokens":
        """The context of other texts: row i is row ``index[i]`` of this one."""
        return Tokens(self.tokens.index_select(0, index))


AnyContext = Context | TwoContexts | Tokens | Grouped


def select_rows(context: Sequence[Context | Tokens], index: Tensor) -> list[Context | Tokens]:
    """Every layer's context of other texts; what layers have in common is selected once."""
    selected = {id(layer): layer.select(index) for layer in {id(layer): layer for layer in context}.values()}
    return [selected[id(layer)] for layer in context]


class Cache:
    """Keys and values of the tokens decoded so far, a static buffer per layer of ``[2, B, H, T, C]``."""

    def __init__(self, layers: int, shape: tuple[int, int, int, int], like: Tensor) -> None:
        self.length = 0
        dtype = compute_dtype(like)
        self.buffers = [torch.zeros(2, *shape, dtype=dtype, device=like.device) for _ in range(layers)]

    def of_layer(self, layer: int) -> "LayerCache":
        """What one layer reads and writes of it now."""
        return LayerCache(self.buffers[layer], self.length)

    def select(self, index: Tensor) -> None:
        """Keep or reorder the rows: finished captions leave, beams follow their parents."""
        self.buffers = [buffer.index_select(1, index) for buffer in self.buffers]


class LayerCache(NamedTuple):
    """The buffer of a layer, of which `past` tokens are filled."""

    buffer: Tensor
    past: int

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens and return the keys and values of all tokens so far."""
        end = self.past + keys.shape[2]
        self.buffer[0, :, :, self.past : end] = keys
        self.buffer[1, :, :, self.past : end] = values
        return self.buffer[0, :, :, :end], self.buffer[1, :, :, :end]
