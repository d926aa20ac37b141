"""What a person sees of a run: one line every few steps, and the same figures as a CSV of curves.

pretrain  step  240/1000  24%  loss 5.123  itc 2.612  itm 0.581  lm 1.930  612 pairs/s  MFU 31%  ETA 1:12
"""

import csv
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from blip.atomic import atomic_path
from blip.errors import BlipError
from blip.training.telemetry import MEASURED, Meter

LOSSES = ("itc", "itm", "lm", "statements")
COLUMNS: tuple[str, ...] = ("step", "loss", *LOSSES, "lr", *MEASURED)
WORTH_SAYING = 0.05  # of the time is spent waiting for data


class Progress:
    """Reads the meter once every `every` steps, the only time the host waits; rank 0 prints and writes it down.

    Args:
        curve: the CSV file, None on other ranks than 0.
        start: the step that the run goes on from.
    """

    def __init__(
        self, name: str, steps: int, every: int, meter: Meter, curve: Path | None, start: int
    ) -> None:
        self.name, self.steps, self.every, self.meter, self.curve = name, steps, every, meter, curve
        self._began = time.monotonic()
        self._start = start
        if curve:
            _cut_curve(curve, start)

    def expect(self, step: int) -> None:
        """Before step `step` (from 1): let the meter know if it will be read after it."""
        self.meter.norms.begin(wanted=self._due(step))

    def report(self, step: int, lr: float) -> dict[str, float] | None:
        """After step `step`: print and record when it is time; the figures since the last time. All ranks call it.

        Raises:
            BlipError: a loss is not finite.
        """
        if not self._due(step) or self.meter.empty:
            return None
        figures = self.meter.read()
        losses = {name: value for name, value in figures.items() if name in ("loss", *LOSSES)}
        if not all(map(math.isfinite, losses.values())):
            raise BlipError(
                f"{self.name}: the loss is not finite at step {step} ({losses}); lower the learning rate or look "
                "at the data of this run. The last checkpoint is from before"
            )
        figures["lr"] = lr
        if self.curve:
            with self.curve.open("a", newline="", encoding="utf-8") as handle:
                row, writer = {"step": step} | figures, csv.DictWriter(handle, COLUMNS)
                if not handle.tell():  # somebody has removed it
                    writer.writeheader()
                writer.writerow({name: _short(value) for name, value in row.items()})
            left = (time.monotonic() - self._began) / (step - self._start) * (self.steps - step)
            print(line(self.name, step, self.steps, figures, left), flush=True)
        return figures

    def _due(self, step: int) -> bool:
        return step % self.every == 0 or step == self.steps


def line(name: str, step: int, steps: int, figures: Mapping[str, float], left: float) -> str:
    """A reading in a line; `left` is in seconds. Waits and skipped steps are said where there are any to speak of."""
    width = len(str(steps))
    parts = [
        name,
        f"step {step:>{width}}/{steps} {step / steps:4.0%}",
        f"loss {figures['loss']:.3f}",
        *(f"{loss} {figures[loss]:.3f}" for loss in LOSSES if loss in figures),
        f"{_rate(figures['pairs_per_second'])} pairs/s",
        *([f"MFU {figures['mfu']:.0%}"] if "mfu" in figures else []),
        *([f"waits {figures['data_wait']:.0%} for data"] if figures["data_wait"] > WORTH_SAYING else []),
        *([f"{figures['skipped_steps']:.0f} skipped"] if figures["skipped_steps"] else []),
        f"ETA {_clock(left)}",
    ]
    return "  ".join(parts)


def _rate(value: float) -> str:
    """A whole number, or two digits of a small one."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are some."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _cut_curve(path: Path, start: int) -> None:
    """Keep the rows up to the step the run resumes from, so that nothing stands twice."""
    rows = [row for row in _rows(path) if int(row["step"]) <= start]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a curve before a torn one, as a power cut leaves; a curve without its header is set aside."""
    if not path.is_file() or not path.stat().st_size:
        return []
    *lines, cut = path.read_text(encoding="utf-8", errors="replace").split("\n")
    if "step" not in "".join(lines[:1]).split(","):
        aside = path.with_name(f"{path.stem}.damaged{path.suffix}")
        path.replace(aside)
        _warn(
            f"the curve {path} cannot be read: its first line names no column 'step'. It is {aside} now, and another "
            "one begins here"
        )
        return []
    rows = list(_whole_rows(lines))
    if cut or len(rows) < sum(map(bool, lines[1:])):
        _warn(
            f"the curve {path} is torn behind step {rows[-1]['step'] if rows else 0} and goes on from there"
        )
    return rows


def _whole_rows(lines: list[str]) -> Iterator[dict[str, str]]:
    """Those before the first one that is none."""
    with suppress(csv.Error):
        for row in csv.DictReader(lines):
            if None in row or None in row.values() or not row["step"].isdecimal():
                return
            yield row


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
