"""What is measured of a run between two lines of its log, over all ranks.

    meter = open_meter("pretrain", engine, training, compute, pair_flops=306.8e9)
    with meter.waiting():
        batch = next(batches)
    meter.add(losses)
    reading = meter.read()             # every rank; {"loss": 5.1, "pairs_per_second": 612.0, "grad_norm": 3.2, ...}

Between two readings nothing waits for the device: losses are summed there, and the clock is the host's, which a
reading stops at a moment when the device has done everything before it.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from blip.config import Compute, Training
from blip.training.memory import peak_bytes
from blip.training.norms import NORMS, Norms, norms_of
from blip.training.peak import device_peak
from blip.training.precision import autocast_dtype

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

PEAKS = Path(".blip/peaks.json")  # of the project, where its stages run
MEASURED = (
    "pairs_per_second",
    "pairs_per_second_so_far",
    "mfu",
    "data_wait",
    "memory_gb",
    *NORMS,
    "temperature",
    "alpha",
    "skipped_steps",
)


class Meter:
    """Sums of one rank since the last reading and since the start.

    Args:
        pairs_per_step: of all ranks.
        pair_flops: the published work of one pair; None leaves MFU out.
        peak_flops: FLOP/s of all ranks' devices together.
    """

    def __init__(
        self,
        engine: "DeepSpeedEngine",
        pairs_per_step: int,
        pair_flops: float | None = None,
        peak_flops: float | None = None,
    ) -> None:
        self.norms = Norms(engine)
        self._engine: Any = engine
        self._pairs = pairs_per_step
        self._device = torch.device(engine.device or "cpu")
        self._per_pair = pair_flops / peak_flops if pair_flops and peak_flops else None
        self._world = torch.distributed.get_world_size()
        self._losses: dict[str, Tensor] = {}
        self._micro_batches = self._micro_batches_in_all = 0
        self._waited = self._waited_in_all = 0.0
        self._began = self._since = time.perf_counter()

    @property
    def empty(self) -> bool:
        """Whether nothing came since the last reading."""
        return not self._micro_batches

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as one in which the trainer has nothing to do for want of data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Count the losses of one micro-batch."""
        for name, loss in losses.items():
            value = loss.detach()
            self._losses[name] = self._losses[name] + value if name in self._losses else value
        self._micro_batches += 1
        self._micro_batches_in_all += 1

    def read(self) -> dict[str, float]:
        """Means since the last reading; a call of all ranks together. Losses are the mean of the ranks'.

        Of the whole run since it was started or resumed is ``pairs_per_second_so_far`` alone.
        """
        losses = torch.stack([value / self._micro_batches for value in self._losses.values()]).float()
        sums = torch.cat((losses, self.norms.squares()))
        if self._world > 1:
            torch.distributed.all_reduce(sums)
        means = sums[: len(losses)] / self._world
        found = dict(zip(self._losses, means.tolist(), strict=True))
        now = time.perf_counter()
        found |= self._speed(now)
        found |= norms_of(sums[len(losses) :])
        found |= settings_of(self._engine.module)
        found["skipped_steps"] = self._engine.skipped_steps
        self._losses, self._micro_batches, self._since, self._waited = {}, 0, now, 0.0
        return found

    def summary(self) -> dict[str, float]:
        """Of the whole run since it was started or resumed."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        rate = self._pairs_of(self._micro_batches_in_all) / seconds
        wait, memory = self._highest(self._waited_in_all / seconds)
        found = {"pairs_per_second": rate, "data_wait": wait, "memory_gb": memory, "seconds": seconds}
        found |= self._mfu(rate)
        return found | {"ranks": self._world, "skipped_steps": self._engine.skipped_steps}

    def _speed(self, now: float) -> dict[str, float]:
        seconds = max(now - self._since, 1e-9)
        rate = self._pairs_of(self._micro_batches) / seconds
        self._waited_in_all += self._waited
        wait, memory = self._highest(self._waited / seconds)
        so_far = self._pairs_of(self._micro_batches_in_all) / max(now - self._began, 1e-9)
        found = {"pairs_per_second": rate, "pairs_per_second_so_far": so_far}
        found |= {"data_wait": wait, "memory_gb": memory}
        return found | self._mfu(rate)

    def _mfu(self, rate: float) -> dict[str, float]:
        """None where the work is not known; none above 1 either, for then the device can do more than was measured."""
        mfu = rate * self._per_pair if self._per_pair else None
        return {} if mfu is None or mfu > 1 else {"mfu": mfu}

    def _pairs_of(self, micro_batches: int) -> float:
        """Pairs of all ranks in so many batches of a rank."""
        return micro_batches / self._engine.gradient_accumulation_steps() * self._pairs

    def _highest(self, wait: float) -> tuple[float, float]:
        """Data wait and memory of the rank that has most of it: the others wait for the slowest."""
        values = torch.tensor([wait, peak_bytes() / 1e9], device=self._device)
        if self._world > 1:
            torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
        return values[0].item(), values[1].item()


def open_meter(
    name: str, engine: "DeepSpeedEngine", training: Training, compute: Compute, pair_flops: float | None
) -> Meter:
    """The meter of a run; where the work of a pair is known, rank 0 measures MFU and says what it is reckoned with."""
    world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    pairs = training.batch_size * training.accumulate * world
    if rank or not pair_flops:
        return Meter(engine, pairs)
    device = torch.device(engine.device or "cpu")
    dtype = autocast_dtype(compute.dtype, device)
    peak = device_peak(device, dtype, Path(os.environ.get("DVC_ROOT", ""), PEAKS))
    print(
        f"{name}  {world} rank{'s' * (world > 1)}, {str(dtype).removeprefix('torch.')}; MFU counts the published "
        f"{pair_flops / 1e9:.3g} GF a pair, what we save included, against {peak}",
        flush=True,
    )
    return Meter(engine, pairs, pair_flops, peak.flops * world)


def settings_of(objective: torch.nn.Module) -> dict[str, float]:
    """The temperature and the share of soft targets, where the objective contrasts."""
    names = ("temperature", "alpha")
    values = {name: getattr(objective, name, None) for name in names}
    return {name: float(value) for name, value in values.items() if value is not None}
