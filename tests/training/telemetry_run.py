"""Ranks that read their meter under every way to share the work: `python -m tests.training.telemetry_run FOLDER`.

Rank 0 writes what it read to readings.json.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from blip.training.engine import build_engine, start_process_group
from blip.training.telemetry import Meter
from tests.training.tiny_run import SETTINGS

STAGES = {"adamw": (0, 1, 2, 3), "muon": (0, 1, 2)}  # Muon under ZeRO 3 needs other settings of DeepSpeed
ROWS, STEPS, UNREAD = 8, 3, 1
WAITING, WORKING = 0.3, 0.1  # seconds


class Towers(torch.nn.Module):
    """A matrix and a bias in each tower; sizes that divide by nothing, so that partitions end within a parameter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = torch.nn.ModuleDict({name: torch.nn.Linear(7, 5) for name in ("vision", "text")})

    def forward(self, x_B7: torch.Tensor) -> dict[str, torch.Tensor]:
        seen = self.network["vision"](x_B7) * self.network["text"](x_B7 + 1)
        return {"loss": seen.square().mean()}


def rows(step: int) -> torch.Tensor:
    """What all ranks together see in a step."""
    return torch.randn(ROWS, 7, generator=torch.Generator().manual_seed(step))


def engine_of(optimiser: str, stage: int, accumulate: int) -> Any:
    share = ROWS // torch.distributed.get_world_size() // accumulate
    changes = {"batch_size": share, "accumulate": accumulate, "zero_stage": stage}
    training = SETTINGS.pretrain.training.model_copy(update=changes)
    how = SETTINGS.pretrain.optimiser.model_copy(update={"name": optimiser, "vision_lr": 1.0})
    return build_engine(Towers(), training, how)


def readings(optimiser: str, stage: int, accumulate: int) -> list[dict[str, float]]:
    """Readings of some steps over the same rows, however they are shared out; the step `UNREAD` is not read."""
    world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    engine = engine_of(optimiser, stage, accumulate)
    meter, found = Meter(engine, ROWS), []
    for step in range(STEPS):
        meter.norms.begin(wanted=step != UNREAD)
        for part in rows(step).chunk(world)[rank].chunk(accumulate):
            losses = engine(part)
            meter.add(losses)
            engine.backward(losses["loss"])
            meter.norms.measure()
            engine.step()
        if step == UNREAD:
            meter.read()
        else:
            found.append(meter.read())
    return found


def waiting(peak_flops: float) -> dict[str, float]:
    """A reading of ranks of which only the last waits for data."""
    world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    engine = engine_of("adamw", 1, 1)
    meter = Meter(engine, ROWS, pair_flops=1e6, peak_flops=peak_flops)
    with meter.waiting():
        time.sleep(WAITING if rank == world - 1 else 0)
    losses = engine(rows(0).chunk(world)[rank])
    time.sleep(WORKING)
    meter.add(losses)
    return meter.read()


def main() -> None:
    """All ways, one after another, in this rank."""
    torch.set_num_threads(1)
    start_process_group()
    ways = [(name, stage, a) for name, stages in STAGES.items() for stage in stages for a in (1, 2)]
    found = {"/".join(map(str, way)): readings(*way) for way in ways}
    values = {"ways": found, "waiting": waiting(1e9), "too_fast": waiting(1e3)}
    if os.environ["RANK"] == "0":
        Path(sys.argv[1], "readings.json").write_text(json.dumps(values))


if __name__ == "__main__":
    main()
