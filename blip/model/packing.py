"""Texts without their padding, so that dense layers work on tokens alone.

packing = Packing.of(mask_BT)
packing.unpack(dense(packing.pack(x_BTD)))        # [B, T, D], zeros at padding

On a GPU attention has no padding either: `Ragged` says where each text begins, and the kernel does the rest.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from blip.model.precision import compute_dtype

PACKED_WIDTH = 512  # below it moving tokens together costs more than padding does, where matrices are fast


class Packing(NamedTuple):
    """Where the M tokens of a padded batch are, so that dense layers see those and no padding.

    Attributes:
        index_M: of each token in the flattened ``[B * T]``.
        first_B: of each text's position 0 among the M tokens.
    """

    index_M: Tensor
    first_B: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask_BT: Tensor, tokens: int | None = None) -> "Packing":
        """The packing of a batch; every text has a token at position 0.

        Args:
            tokens: how many there are, M. Given, the host need not wait for the device to count.
        """
        lengths = mask_BT.sum(1)
        index = places(mask_BT.flatten().bool(), tokens)
        return cls(index, lengths.cumsum(0) - lengths, (mask_BT.shape[0], mask_BT.shape[1]))

    def ragged(self, causal: bool) -> "Ragged":
        """For attention among the packed tokens of each text."""
        starts = F.pad(self.first_B, (0, 1), value=len(self.index_M)).int()
        each = torch.arange(len(starts), dtype=torch.int32, device=starts.device)
        return Ragged(starts, each, self.first_B, self.shape[1], causal)

    def pack(self, x_BTD: Tensor) -> Tensor:
        """``[B, T, D]`` -> ``[M, D]``."""
        return _Pack.apply(x_BTD.flatten(0, 1), self.index_M)  # type: ignore[return-value]

    def unpack(self, x_MD: Tensor) -> Tensor:
        """``[M, D]`` -> ``[B, T, D]``, zeros at padding."""
        rows, length = self.shape
        padded: Tensor = _Unpack.apply(x_MD, self.index_M, rows * length)  # type: ignore[assignment]
        return padded.view(rows, length, -1)


class Ragged(NamedTuple):
    """Texts of different lengths, packed, that attention takes as they are.

    Attributes:
        starts_E: int32 ``[B + 1]``, where each text begins among the M tokens, and M.
        each_E: int32 ``[B + 1]``, 0 to B: the same where one token of every text is there.
        first_B: of each text's position 0 among the tokens.
        longest: no fewer than the longest text has tokens.
        causal: a token sees itself and those before it.
    """

    starts_E: Tensor
    each_E: Tensor
    first_B: Tensor
    longest: int
    causal: bool


def places(present_N: Tensor, at_most: int | None = None) -> Tensor:
    """Where `present_N` is true, in order; with `at_most` that many numbers, -1 behind the last place."""
    if at_most is None:
        return present_N.nonzero().squeeze(1)
    return torch.nonzero_static(present_N, size=min(at_most, len(present_N)), fill_value=-1).squeeze(1)


def count_for(x: Tensor, tokens: int | None) -> int | None:
    """The count where counting would make the host wait; a CPU has counted at once."""
    return None if x.device.type == "cpu" else tokens


def takes_ragged(like: Tensor, width: int) -> bool:
    """Whether texts this wide are attended to packed: flash attention for it is a GPU's from Ampere on, in 16 bits."""
    if not like.is_cuda or compute_dtype(like).itemsize != 2 or width < PACKED_WIDTH:
        return False
    return torch.cuda.get_device_capability(like.device) >= (8, 0)


def pays_to_pack(states_BTD: Tensor) -> bool:
    """Whether dense layers without padding save more than moving the tokens costs.

    They do in wide networks, and in any on a CPU that computes in float32 (a step of the demo on two cores of AMD
    Zen 3: 0.41 against 0.46 s). In bfloat16 on AMX they did not at width 128 (0.36 against 0.30 s).
    """
    slow = states_BTD.device.type == "cpu" and compute_dtype(states_BTD) is torch.float32
    return slow or states_BTD.shape[-1] >= PACKED_WIDTH


class _Pack(torch.autograd.Function):
    """Gather rows. No index is there twice, so the backward is a copy and not the slow accumulation."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, index_M: Tensor) -> Tensor:
        ctx.save_for_backward(index_M)
        ctx.rows = len(x_ND)
        return x_ND.index_select(0, index_M)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _scatter(gradients[0], ctx.saved_tensors[0], ctx.rows), None


class _Unpack(torch.autograd.Function):
    """Put rows back among zeros: the inverse of `_Pack`."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, index_M: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(index_M)
        return _scatter(x_MD, index_M, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None, None


def _scatter(x_MD: Tensor, index_M: Tensor, rows: int) -> Tensor:
    return x_MD.new_zeros(rows, x_MD.shape[1]).index_copy_(0, index_M, x_MD)
