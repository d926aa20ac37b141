"""What a person sees of a run: one line every few steps, and the same figures as a CSV of curves.

pretrain  step  240/1000  24%  loss 5.123  itc 2.61  itm 0.58  lm 1.93  612 pairs/s  ETA 1:12
"""

import csv
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from blip.errors import BlipError

COLUMNS: tuple[str, ...] = ("step", "loss", "itc", "itm", "lm", "lr", "pairs_per_second")


class Progress:
    """Collects losses on the device and reads them once every `every` steps, the only time the host waits."""

    def __init__(
        self, name: str, steps: int, pairs_per_step: int, every: int, curve: Path, start: int
    ) -> None:
        self.name, self.steps, self.pairs_per_step, self.every = name, steps, pairs_per_step, every
        self.curve = curve
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._since = self._began = time.monotonic()
        self._start = start
        _cut_curve(curve, start)

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Count the losses of one step."""
        for name, loss in losses.items():
            value = loss.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def report(self, step: int, lr: float) -> dict[str, float] | None:
        """After step `step` (from 1): print and record when it is time; returns the means since the last time.

        Raises:
            BlipError: a loss is not finite.
        """
        if step % self.every and step != self.steps:
            return None
        means = {name: (value / self._count).item() for name, value in self._sums.items()}
        now = time.monotonic()
        rate = self._count * self.pairs_per_step / max(now - self._since, 1e-9)
        self._sums, self._count, self._since = {}, 0, now
        if not all(map(torch.isfinite, map(torch.tensor, means.values()))):
            raise BlipError(
                f"{self.name}: the loss is not finite at step {step} ({means}); lower the learning rate or look "
                "at the data of this run. The last checkpoint is from before"
            )
        row = {"step": step, **means, "lr": lr, "pairs_per_second": rate}
        with self.curve.open("a", newline="", encoding="utf-8") as handle:
            csv.DictWriter(handle, COLUMNS).writerow({n: _short(v) for n, v in row.items()})
        print(self._line(step, means, rate, now), flush=True)
        return {name: value for name, value in row.items() if name != "step"}

    def _line(self, step: int, means: Mapping[str, float], rate: float, now: float) -> str:
        losses = "  ".join(f"{name} {value:.3f}" for name, value in means.items() if name != "loss")
        left = (now - self._began) / (step - self._start) * (self.steps - step)
        width = len(str(self.steps))
        return (
            f"{self.name}  step {step:>{width}}/{self.steps}  {step / self.steps:4.0%}  loss {means['loss']:.3f}  "
            f"{losses}  {rate:,.0f} pairs/s  ETA {int(left // 60)}:{int(left % 60):02d}"
        )


def _cut_curve(path: Path, start: int) -> None:
    """Keep the rows up to the step the run resumes from, so that nothing stands twice."""
    rows: list[dict[str, str]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as handle:
            rows = [row for row in csv.DictReader(handle) if int(row["step"]) <= start]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
