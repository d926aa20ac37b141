"""A tiny run in which something happens to one rank: `python -m tests.training.drill_run FOLDER STEPS RANKS [FAULT]`.

FAULT is RANK:STEP:WHAT; at that step (from 1), once, the rank sends itself the signal WHAT (kill, stop, term, usr1),
or sleeps for ever (sleep). Exit codes are those of a rank of a stage.
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
from blip.training.launch.ranks import tie_to_parent
from blip.training.loop import Plan, train
from tests.training.tiny_run import plan


def with_fault(planned: Plan, fault: str) -> Plan:
    """The same plan, of which one batch is made with a fault."""
    rank, step, what = fault.split(":")
    calls = iter(range(1, 1_000_000))

    def collate(batch: Batch) -> Any:
        if next(calls) == int(step) and int(rank) == int(os.environ.get("RANK", "0")):
            Path("fault").write_text(str(os.getpid()))
            if what == "sleep":
                time.sleep(3600)
            os.kill(os.getpid(), getattr(signal, f"SIG{what.upper()}"))
        return planned.collate(batch)

    return replace(planned, collate=collate)


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
