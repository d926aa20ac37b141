"""An average of the weights over the steps of a run, which is saved in place of the last step's weights.

    average = WeightAverage.of(objective, decay=0.9999)   # before the engine is built
    average.update(objective)                             # after every step
    with average.in_place(objective): ...                 # meanwhile the objective holds it
    average.copy_to(objective)                            # after the last

It is another average than the momentum twin's, which moves faster, gives ITC its keys and is not saved.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from blip.model.ranks import whole
from blip.training.groups import trainable


class WeightAverage(nn.Module):
    """The exponential moving average of all trained weights of an objective, float32.

    The decay grows to its value, as ``(1 + n) / (10 + n)`` after n steps, so that a short run is not the average of
    its start. On a device the average is as large as the weights; under ZeRO every rank has all of it.
    """

    def __init__(self, objective: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay, self.steps = decay, 0
        for name, weight in trainable(objective):
            self.register_buffer(name.replace(".", "/"), weight.detach().float().clone())

    @classmethod
    def of(cls, objective: nn.Module, decay: float) -> "WeightAverage":
        """An average that is part of the objective, so that a checkpoint holds it."""
        average = cls(objective, decay)
        objective.add_module("average", average)
        return average

    @torch.no_grad()
    def update(self, objective: nn.Module) -> None:
        """Move towards the weights."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        weights, averages = self._pairs(objective)
        with whole(weights):
            theirs = [weight.detach().float() for weight in weights]
            torch._foreach_lerp_(averages, theirs, share)  # pyright: ignore[reportPrivateImportUsage]

    @torch.no_grad()
    def copy_to(self, objective: nn.Module) -> None:
        """Put the average in the place of the weights, which must be whole."""
        for weight, average in zip(*self._pairs(objective), strict=True):
            weight.copy_(average)

    @contextmanager
    def in_place(self, objective: nn.Module) -> Iterator[None]:
        """A region in which the average stands in the place of the weights, which must be whole."""
        weights, _ = self._pairs(objective)
        before = [weight.detach().clone() for weight in weights]
        self.copy_to(objective)
        try:
            yield
        finally:
            for weight, value in zip(weights, before, strict=True):
                weight.data.copy_(value)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)

    def _pairs(self, objective: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        named = list(trainable(objective))
        return [weight for _, weight in named], [self.get_buffer(name.replace(".", "/")) for name, _ in named]
