"""One rank of a training stage, started by the launcher: `python -m blip.stages.rank STAGE`."""

import importlib
import json
import sys

import torch

from blip.config import Settings
from blip.errors import BlipError
from blip.stages import find_stage
from blip.stages.training import threads_of, train_here
from blip.training.loop import RUNS
from blip.training.memory import keep_freed_memory


def main() -> int:
    """Train as one rank; the exit code is that of `blip stage`."""
    name = sys.argv[1]
    stage = find_stage(name)
    settings = Settings.model_validate(json.loads((RUNS / f"{name}.settings.json").read_text()))
    job = importlib.import_module(stage.module).job(settings, stage.variant)
    torch.set_num_threads(threads_of(job.run, settings))
    torch.set_flush_denormal(True)
    keep_freed_memory()
    try:
        train_here(job, settings, lambda step, means: None)
    except BlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
