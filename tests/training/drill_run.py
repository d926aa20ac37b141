"""A tiny run in which something happens to one rank: `python -m tests.training.drill_run FOLDER STEPS RANKS [FAULT]`.

FAULT is RANK:STEP:WHAT; at that step (from 1), once, the rank sends itself the signal WHAT (kill, stop, term, usr1),
or sleeps for ever (sleep), or has a picture that is no number (nan; nans: from that step on), or texts of random tokens
(babble). Exit codes are those of a rank of a stage.
"""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from blip.data.loader import Batch
from blip.errors import BlipError
from blip.model.batch import PairBatch
from blip.training.launch.ranks import tie_to_parent
from blip.training.loop import Plan, train
from tests.training.tiny_run import plan


def with_fault(planned: Plan, fault: str) -> Plan:
    """The same plan, of which one batch is made with a fault."""
    rank, step, what = fault.split(":")
    calls = iter(range(1, 1_000_000))

    def collate(batch: Batch) -> Any:
        call, here = next(calls), int(rank) == int(os.environ.get("RANK", "0"))
        if here and (call == int(step) or (what == "nans" and call > int(step))):
            Path("fault").write_text(str(os.getpid()))
            if what in ("nan", "nans", "babble"):
                return spoiled(planned.collate(batch), what)
            if what == "sleep":
                time.sleep(3600)
            os.kill(os.getpid(), getattr(signal, f"SIG{what.upper()}"))
        return planned.collate(batch)

    return replace(planned, collate=collate)


def spoiled(pairs: PairBatch, what: str) -> PairBatch:
    """The batch with something in it that training must survive."""
    if what == "babble":
        return replace(pairs, ids=pairs.ids * 7 % 5 + pairs.mask.cumsum(1).flip(1) % 3 + 5)
    images = pairs.images.float() / 255
    images[0, 0, 0, 0] = float("nan")
    return replace(pairs, images=images)


def main() -> int:
    """Train in FOLDER; rank 0 writes a fingerprint of the weights."""
    tie_to_parent()
    folder, steps, ranks, *fault = sys.argv[1:]
    os.chdir(folder)
    planned = plan(int(steps), ranks=int(ranks), workers=1)
    torch.manual_seed(5)
    try:
        train(with_fault(planned, fault[0]) if fault and not Path("fault").exists() else planned)
    except BlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    weights = torch.cat([p.detach().double().flatten() for p in planned.objective.parameters()])
    if os.environ.get("RANK", "0") == "0":
        Path("final.json").write_text(json.dumps({"sum": weights.abs().sum().item()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
