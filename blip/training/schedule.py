"""Learning-rate schedules as plain functions of the step."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """Warm-up and decay, as a factor on the peak learning rate.

    Attributes:
        steps: optimizer steps of the whole run.
        steps_per_epoch: for the schedules that move by epoch.
        warmup_steps: linear from `warmup_factor` to 1, as published: the first step has `warmup_factor` and the one
            after the warm-up 1. Where that is 0 all are one step ahead, so that the first does something. An epoch
            that ends within the warm-up does not lower it.
        kind: ``cosine`` by step, ``epoch_cosine`` and ``epoch_decay`` by epoch as the paper's fine-tuning and
            pre-training do.
        final_factor: the floor.
    """

    steps: int
    steps_per_epoch: int
    warmup_steps: int = 0
    warmup_factor: float = 0.0
    kind: Literal["cosine", "epoch_cosine", "epoch_decay"] = "cosine"
    decay: float = 0.9
    final_factor: float = 0.0

    def factor(self, step: int) -> float:
        """The factor for optimizer step `step`, counted from 0."""
        if step < self.warmup_steps:
            done = step if self.warmup_factor else step + 1
            return self.warmup_factor + (1 - self.warmup_factor) * done / self.warmup_steps
        epoch = step // self.steps_per_epoch
        if self.kind == "epoch_decay":
            return max(self.decay**epoch, self.final_factor)
        if self.kind == "epoch_cosine":
            progress = epoch / max(math.ceil(self.steps / self.steps_per_epoch), 1)
        else:
            progress = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * progress)) / 2
