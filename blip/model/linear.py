"""A linear layer whose weight can be kept in the layout that oneDNN's products read, for reading only, on a CPU.

A product with an ordinary weight rearranges it every time: for the few rows of a decoder's step that takes longer than
the product, for an image encoder's rows a sixth of it. GELU behind it is computed before the result is written.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PackedWeight:
    """A weight ``[N, K]`` with its bias, rearranged; it is out of date when the weight has been changed in place."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight, self._version, self._bias = weight, weight._version, bias.detach().to(weight.dtype)
        with torch.no_grad():
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())

    def __reduce__(self) -> tuple[type, tuple[Tensor, Tensor]]:
        """A copy is packed anew from the copied weight: the layout itself cannot be copied."""
        return PackedWeight, (self._weight, self._bias)

    def serves(self, x: Tensor) -> bool:
        """Whether it may be used: for no gradient, of the weight as it is now, and where the weight is."""
        unchanged = self._weight._version == self._version
        return unchanged and x.device.type == "cpu" and not torch.is_grad_enabled()

    def __call__(self, x: Tensor, then: str = "none") -> Tensor:
        """``x @ weight.T + bias``, of ``[..., K]``; `then` may be ``gelu``, the exact one."""
        x = x.to(self._packed.dtype)
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, then, [], "none")


class Linear(nn.Linear):
    """`nn.Linear`, which `blip.model.inference.pack` makes quicker."""

    packed: PackedWeight | None = None

    def forward(self, input: Tensor) -> Tensor:
        if self.packed is not None and self.packed.serves(input):
            return self.packed(input)
        return super().forward(input)

    def gelu(self, x: Tensor) -> Tensor:
        """``gelu(linear(x))``."""
        if self.packed is not None and self.packed.serves(x):
            return self.packed(x, "gelu")
        return F.gelu(super().forward(x))


def can_pack(weight: Tensor) -> bool:
    """Whether this processor multiplies with such a weight through oneDNN."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not torch.cpu._is_avx2_supported():
        return False
    half = weight.dtype is torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return half or weight.dtype is torch.float32
