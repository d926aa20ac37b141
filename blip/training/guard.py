"""Steps whose gradients are not finite: no rank takes them, and what was in them is written down.

    guard = Guard("pretrain", engine, folder, limit=5)
    guard.note(batch)                    # each of a step
    engine.step()
    if guard.skipped(step, losses):      # every rank alike; raises when too many come one after another
        ...

DeepSpeed looks at the norm of the averaged gradients before it changes a weight: one rank's NaN is in the average, so
that all of them leave the step out, optimiser state and all. (At ZeRO 0 it does not look; there we do.)
"""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from blip.data.loader import Batch
from blip.errors import BlipError

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

BAD_BATCHES = "bad_batches.jsonl"
KEYS_SAID = 5
HALVINGS = 30  # of a float16 loss scale, each of which leaves a step out


class Guard:
    """Watches one run.

    Args:
        folder: of the run, where the batches of left-out steps are listed.
        limit: how many steps may be left out one after another.
        scaled: the loss is scaled (float16), and steps are left out until the scale fits.
    """

    def __init__(
        self, name: str, engine: "DeepSpeedEngine", folder: Path, limit: int, scaled: bool = False
    ) -> None:
        self.name, self.folder = name, folder
        self.in_a_row = 0
        self._limit = max(limit, HALVINGS) if scaled else limit
        self._scaled = scaled
        self._engine: Any = engine
        self._batches: list[Batch] = []
        if not hasattr(engine.optimizer, "overflow"):
            _look_before_stepping(engine)

    def note(self, batch: Batch) -> None:
        """Remember a batch until its step is taken."""
        self._batches.append(batch)

    def skipped(self, step: int, losses: list[dict[str, Tensor]]) -> bool:
        """Whether step `step` was left out; called on all ranks after the engine's step, with each batch's losses.

        Raises:
            BlipError: more than `limit` in a row were.
        """
        batches, self._batches = self._batches, []
        if not self._engine.optimizer.overflow:
            self.in_a_row = 0
            return False
        self.in_a_row += 1
        if self._scaled and self.in_a_row < self._limit:
            return True
        found = self._of_all_ranks(step, batches, losses)
        if torch.distributed.get_rank() == 0:
            self._write(found)
            print(f"{self.name}  step {step} left out: {_told(found)}", file=sys.stderr, flush=True)
        if self.in_a_row > self._limit:
            raise BlipError(
                f"{self.name}: {self.in_a_row} steps in a row, up to step {step}, had no finite gradient: "
                f"{_told(found)}. No weight was changed by them and the last checkpoint is good. Look at these "
                f"samples ({self.folder / BAD_BATCHES}) and raise training.max_skipped to go on from there, or "
                "begin anew with a lower learning rate"
            )
        return True

    def _of_all_ranks(
        self, step: int, batches: list[Batch], losses: list[dict[str, Tensor]]
    ) -> list[dict[str, Any]]:
        own = [
            {
                "step": step,
                "rank": torch.distributed.get_rank(),
                "losses": {name: _json(loss.item()) for name, loss in of_batch.items()},
                "keys": [sample.key for sample in batch.samples],
            }
            for batch, of_batch in zip(batches, losses, strict=True)
        ]
        ranks: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(ranks, own)
        return [row for rank in ranks for row in rank]

    def _write(self, found: list[dict[str, Any]]) -> None:
        with (self.folder / BAD_BATCHES).open("a", encoding="utf-8") as handle:
            for row in found:
                handle.write(json.dumps(row) + "\n")


def _json(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _told(found: list[dict[str, Any]]) -> str:
    """Which ranks' losses are not finite and in which samples; of all ranks if it is the gradient alone."""
    bad = [row for row in found if any(isinstance(loss, str) for loss in row["losses"].values())]
    if not bad:
        return "the losses are finite, a gradient is not"
    parts = []
    for row in bad:
        losses = ", ".join(
            f"{name} is {loss}" for name, loss in row["losses"].items() if isinstance(loss, str)
        )
        keys = ", ".join(row["keys"][:KEYS_SAID]) + (", ..." if len(row["keys"]) > KEYS_SAID else "")
        parts.append(f"rank {row['rank']}: {losses} in the batch of {keys}")
    return "; ".join(parts)


def _look_before_stepping(engine: "DeepSpeedEngine") -> None:
    """Let a plain optimiser (ZeRO 0) leave out a step as the others do; averaged gradients are equal on all ranks."""
    optimizer: Any = engine.optimizer
    take, optimizer.overflow = optimizer.step, False

    def step(*args: Any, **kwargs: Any) -> Any:
        gradients = [
            p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        norms = torch._foreach_norm(gradients)  # pyright: ignore[reportPrivateImportUsage]
        optimizer.overflow = not bool(torch.stack(norms).isfinite().all())
        return None if optimizer.overflow else take(*args, **kwargs)

    optimizer.step = step
