"""What the ranks of a run tell each other inside a step; with one rank, or no process group, all of it is free.

    everyones = gather(features_BP)                   # [R * B, P], the same on every rank
    tokens = gather_with_gradient(tokens_BND)         # gradients go back to the rank that computed the tokens
    chosen = from_first_rank(drawn)                   # one draw for all ranks
    with whole(list(network.parameters())): ...       # where ZeRO 3 has divided them

Every rank calls the same functions in the same order with tensors of one shape.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


@torch.no_grad()
def gather(x: Tensor) -> Tensor:
    """The rows of all ranks ``[R * B, ...]``, those of rank 0 first; no gradient."""
    if world_size() == 1:
        return x
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def gather_with_gradient(x: Tensor) -> Tensor:
    """As `gather`, with a gradient: the sum of what every rank's loss says about this rank's rows.

    With gradients averaged over the ranks afterwards, as data parallelism does, that is the gradient of the mean of
    the ranks' losses.
    """
    return x if world_size() == 1 else _Gather.apply(x)  # type: ignore[return-value]


@torch.no_grad()
def from_first_rank(x: Tensor) -> Tensor:
    """The tensor that rank 0 passed, on every rank."""
    if world_size() > 1:
        x = x.contiguous()
        dist.broadcast(x, src=0)
    return x


@contextmanager
def whole(parameters: Sequence[Tensor]) -> Iterator[None]:
    """A region in which a rank reads parameters as a whole that ZeRO 3 has divided among the ranks.

    Every rank enters it with the same parameters. It does nothing where they are whole.
    """
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(parameters)):
        yield


def own_rows(x: Tensor) -> Tensor:
    """This rank's share of gathered rows."""
    return x.chunk(world_size())[rank()]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return gather(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return own_rows(total)
