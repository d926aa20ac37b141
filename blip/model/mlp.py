"""The second half of an MLP with less to remember: what GELU gives is computed again in the backward."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear_of_gelu(x_BNE: Tensor, linear: nn.Linear) -> Tensor:
    """``linear(gelu(x))``, the same numbers and gradients, keeping ``x`` and not ``gelu(x)`` for the backward.

    At four times the width that is the largest thing an image encoder keeps; computing it again is 0.3% of a step.
    """
    if not torch.is_grad_enabled() or not (x_BNE.requires_grad or linear.weight.requires_grad):
        return linear(F.gelu(x_BNE))
    weight, bias = linear.weight.to(x_BNE.dtype), linear.bias.to(x_BNE.dtype)
    return _LinearOfGelu.apply(x_BNE, weight, bias)  # type: ignore[return-value]


class _LinearOfGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(F.gelu(x), weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = torch.ops.aten.gelu_backward(gradient @ weight, x)
        rows = gradient.flatten(0, -2)
        if ctx.needs_input_grad[1]:
            of_weight = rows.T @ F.gelu(x).flatten(0, -2)
        if ctx.needs_input_grad[2]:
            of_bias = rows.sum(0)
        return of_x, of_weight, of_bias
