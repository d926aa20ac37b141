"""The kernel for short rows against a loop in float64: its worst errors; TRITON_INTERPRET=1 runs it on the CPU."""

import torch
from torch import Tensor

from blip.model.short_rows import attend

# queries of each row, keys of each row, causal, channels
CASES = [
    ([3, 7, 1, 12], [3, 7, 1, 12], True, 64),
    ([3, 7, 1, 12], [3, 7, 1, 12], False, 32),
    ([5, 40, 1], [197, 197, 197], False, 64),
    ([65, 30], [65, 30], True, 16),
]


def starts_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def row_by_row(q: Tensor, k: Tensor, v: Tensor, queries: Tensor, keys: Tensor, causal: bool) -> Tensor:
    found = []
    for row in range(len(queries) - 1):
        of_row = slice(keys[row], keys[row + 1])
        mine = q[queries[row] : queries[row + 1]].double().transpose(0, 1)
        scores = mine @ k[of_row].double().permute(1, 2, 0) * q.shape[2] ** -0.5
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        found.append((scores.softmax(-1) @ v[of_row].double().transpose(0, 1)).transpose(0, 1))
    return torch.cat(found)


def worst(queries: list[int], keys: list[int], causal: bool, channels: int) -> float:
    """The largest difference of what is attended to, and of the three gradients."""
    qkv = [torch.randn(sum(n), 3, channels, requires_grad=True) for n in (queries, keys, keys)]
    bounds = starts_of(queries), starts_of(keys)
    ours, theirs = attend(*qkv, *bounds, max(keys), causal), row_by_row(*qkv, *bounds, causal)
    gradient = torch.randn_like(ours)
    pairs = zip(
        [ours, *torch.autograd.grad(ours, qkv, gradient)],
        [theirs, *torch.autograd.grad(theirs, qkv, gradient.double())],
        strict=True,
    )
    return max((a - b).abs().max().item() for a, b in pairs)


torch.manual_seed(0)
for case in CASES:
    print(worst(*case))
