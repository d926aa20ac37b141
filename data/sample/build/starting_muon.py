"""Muon in float32: PyTorch's own orthogonalises in bfloat16, which a CPU without it emulates at a tenth of the speed.

Keller Jordan's Muon (https://kellerjordan.github.io/posts/muon/): Nesterov momentum, made orthogonal by five
Newton-Schulz steps, decoupled weight decay.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """For 2-D weights only."""

    def __init__(self, matrices: Iterable[Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                average = state["momentum"] if state else torch.zeros_like(weight)
                state["momentum"] = average
                average.lerp_(weight.grad, 1 - group["momentum"])
                direction = orthogonalise(weight.grad.lerp(average, group["momentum"]))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                scale = max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5
                weight.add_(direction, alpha=-group["lr"] * scale)


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest matrix with all singular values about 1."""
    a, b, c = COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide
