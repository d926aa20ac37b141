"""Loss spikes: a loss far above those before it, after which the run goes back to its last checkpoint.

    spikes = Spikes(rule)                        # of `training.spikes`
    if spiked := spikes.seen(step, losses):      # every rank alike
        spikes.count_rollback(name, spiked)      # back to the checkpoint, on with other data

A spike is `threshold` robust deviations above the median of the last `window` steps. Those are few numbers, which a
checkpoint holds: a run that was killed and goes on sees the spikes that it would have seen.
"""

import statistics
import sys
from collections import deque
from typing import Any

import torch
from torch import Tensor

from blip.config import SpikeRule
from blip.errors import BlipError

TO_DEVIATION = 1.4826  # of a normal distribution: median absolute deviation to standard deviation
LEAST_SHARE = 0.01  # of the median, as a deviation: a flat stretch makes no spike of a small step


class Spikes:
    """The losses of the last steps. A loss is read one step after it was made, when the device has it ready."""

    def __init__(self, rule: SpikeRule) -> None:
        self.rule = rule
        self.rollbacks = 0
        self._recent: deque[float] = deque(maxlen=rule.window)
        self._pending: tuple[int, Tensor] | None = None

    def seen(self, step: int, losses: list[dict[str, Tensor]], now: bool = False) -> int | None:
        """Take in the losses of step `step` on this rank; the step that was a spike, if one was.

        Args:
            losses: of each batch of the step.
            now: judge this step at once, since a checkpoint is to be saved after it.
        """
        loss = torch.stack([one["loss"].float() for one in losses]).mean()
        if torch.distributed.get_world_size() > 1:
            torch.distributed.all_reduce(loss)
            loss /= torch.distributed.get_world_size()
        spiked = self._judge()
        self._pending = (step, loss)
        return self._judge() or spiked if now else spiked

    def settle(self) -> int | None:
        """Judge the last step now; its number if it was a spike. Every rank calls this after the same step."""
        return self._judge()

    def count_rollback(self, name: str, spiked: int) -> int:
        """Another one; how many there are with it.

        Raises:
            BlipError: there were as many as are allowed.
        """
        self._pending = None
        if self.rollbacks >= self.rule.max_rollbacks:
            raise BlipError(
                f"{name}: the loss shot up at step {spiked} after {self.rollbacks} rollbacks. The last checkpoint is "
                "good: raise training.spikes.max_rollbacks to go on from there, or begin anew with a lower learning "
                "rate or with optimiser.clip"
            )
        self.rollbacks += 1
        if torch.distributed.get_rank() == 0:
            print(
                f"{name}  the loss shot up at step {spiked}: back to the last checkpoint, on with the data that "
                f"follow ({self.rollbacks} of {self.rule.max_rollbacks} times)",
                file=sys.stderr,
                flush=True,
            )
        return self.rollbacks

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to hold; nothing is pending when one is saved in its turn."""
        self._judge()
        return {"recent": list(self._recent), "rollbacks": self.rollbacks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the checkpoint's run would have."""
        self._recent = deque(state["recent"], maxlen=self.rule.window)
        self.rollbacks, self._pending = state["rollbacks"], None

    def _judge(self) -> int | None:
        """The pending step if its loss is a spike; else it counts among the recent."""
        if self._pending is None:
            return None
        (step, loss), self._pending = self._pending, None
        value = loss.item()
        if self._is_spike(step, value):
            return step
        self._recent.append(value)
        return None

    def _is_spike(self, step: int, value: float) -> bool:
        if step <= self.rule.after or len(self._recent) < self.rule.window:
            return False
        middle = statistics.median(self._recent)
        spread = statistics.median(abs(x - middle) for x in self._recent) * TO_DEVIATION
        return value > middle + self.rule.threshold * max(spread, LEAST_SHARE * abs(middle))
