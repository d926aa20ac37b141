"""Texts without their padding, so that dense layers work on tokens alone.

packing = Packing.of(mask_BT)
packing.unpack(dense(packing.pack(x_BTD)))        # [B, T, D], zeros at padding
"""

from typing import Any, NamedTuple

import torch
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
    def of(cls, mask_BT: Tensor, at_most: int | None = None) -> "Packing":
        """The packing of a batch; every text has a token at position 0.

        Args:
            at_most: no fewer than there are tokens. Given, M is this number and the host need not wait for the device
                to count; what is too many of M stands at a place of padding, from where nothing is read.
        """
        lengths = mask_BT.sum(1)
        index = places(mask_BT.flatten().bool(), at_most)
        index = torch.where(index < 0, mask_BT.flatten().argmin(), index) if at_most is not None else index
        return cls(index, lengths.cumsum(0) - lengths, (mask_BT.shape[0], mask_BT.shape[1]))

    def pack(self, x_BTD: Tensor) -> Tensor:
        """``[B, T, D]`` -> ``[M, D]``."""
        return _Pack.apply(x_BTD.flatten(0, 1), self.index_M)  # type: ignore[return-value]

    def unpack(self, x_MD: Tensor) -> Tensor:
        """``[M, D]`` -> ``[B, T, D]``, zeros at padding."""
        rows, length = self.shape
        padded: Tensor = _Unpack.apply(x_MD, self.index_M, rows * length)  # type: ignore[assignment]
        return padded.view(rows, length, -1)


def places(present_N: Tensor, at_most: int | None = None) -> Tensor:
    """Where `present_N` is true, in order; with `at_most` that many numbers, -1 behind the last place."""
    if at_most is None:
        return present_N.nonzero().squeeze(1)
    return torch.nonzero_static(present_N, size=min(at_most, len(present_N)), fill_value=-1).squeeze(1)


def bound_for(x: Tensor, at_most: int | None) -> int | None:
    """The bound where counting would make the host wait; a CPU has counted at once."""
    return at_most if x.is_cuda else None


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
