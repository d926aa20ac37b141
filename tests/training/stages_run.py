"""The same few steps with other engines, in one process a rank: `python -m tests.training.stages_run FOLDER RANKS`.

Writes FOLDER/CASE.json with the losses of rank 0 and FOLDER/CASE.pt with the network that it would save; and of the
model of half the steps, which is a candidate, its weights and the average of them at that step as CASE.candidate.pt.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from blip.config import Compute
from blip.training import precision
from blip.training.loop import train
from tests.training.tiny_run import plan

STEPS = 4
ADAMW = {"name": "adamw", "vision_lr": 1.0, "warmup": 0.0}
MUON = {"name": "muon", "vision_lr": 1.0, "warmup": 0.0, "clip": 1.0, "clip_muon": False}


@dataclass(frozen=True)
class Case:
    name: str
    stage: int
    optimiser: dict[str, object]
    dtype: str = "float32"
    first_scale: float = precision.FIRST_SCALE


def cases(ranks: int) -> Iterator[Case]:
    for stage in (0, 1, 2, 3):
        yield Case(f"adamw-{stage}", stage, ADAMW)
        if ranks == 2:
            yield Case(f"muon-{stage}", stage, MUON)
    for stage in (1, 3):
        yield Case(f"float16-{stage}", stage, ADAMW, "float16")
    yield Case("overflow", 1, ADAMW, "float16", first_scale=2.0**120)


def run(case: Case, ranks: int) -> None:
    precision.FIRST_SCALE = case.first_scale
    planned, losses = plan(STEPS, ranks=ranks, zero_stage=case.stage, batch_size=8 // ranks), []
    optimiser = planned.run.optimiser.model_copy(update=case.optimiser)
    training = planned.run.training.model_copy(update={"average": 0.5, "checkpoint_every": 100})
    changed = planned.run.model_copy(update={"optimiser": optimiser, "training": training, "candidates": 2})
    before = {
        name: value.clone() for name, value in planned.objective.state_dict().items() if "network" in name
    }
    # of every step, those that are left out too
    planned.objective.register_forward_hook(lambda _, given, found: losses.append(found["loss"].item()))
    torch.manual_seed(5 + int(os.environ.get("RANK", "0")))

    def export(directory: Path) -> None:
        state = planned.objective.state_dict()
        torch.save({name: value.clone() for name, value in state.items()}, f"{case.name}.candidate.pt")
        assert directory.name == f"{STEPS // 2:06d}"

    train(
        replace(
            planned,
            name=case.name,
            run=changed,
            export=export,
            compute=Compute.model_validate({"dtype": case.dtype}),
        )
    )
    if os.environ.get("RANK", "0") != "0":
        return
    after = {
        name: value.clone() for name, value in planned.objective.state_dict().items() if "network" in name
    }
    unchanged = all(torch.equal(after[name], value) for name, value in before.items())
    scale = getattr(planned.objective, "loss_scale", None)
    report = {"losses": losses, "unchanged": unchanged, "scale": scale and scale.scale}
    Path(f"{case.name}.json").write_text(json.dumps(report))
    torch.save(after, f"{case.name}.pt")


def main() -> None:
    folder, ranks = sys.argv[1], int(sys.argv[2])
    os.chdir(folder)
    for case in cases(ranks):
        run(case, ranks)
    Path("done").touch()


if __name__ == "__main__":
    main()
