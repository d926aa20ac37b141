"""A tiny run whose data has a spike: `python -m tests.training.spike_run FOLDER [HOW]`.

The samples of one batch have texts of a word that no other has; with HOW `always` those of all batches from then on.
`kill` ends the process right after the rollback that follows, `term` asks it to stop in the step of the spike, and
`unsaved` saves no checkpoint.
"""

import os
import signal
import sys
from dataclasses import replace
from typing import Any

import torch

from blip.config import SpikeRule
from blip.data.loader import Batch
from blip.errors import exit_code_of
from blip.training.loop import train
from tests import tiny
from tests.training.tiny_run import plan

BATCH = 16  # of the run, from 0: its loss is that of step 17
NEVER_SEEN = len(tiny.tokenizer()) - 1


def main() -> int:
    """Train in FOLDER."""
    folder, *how = sys.argv[1:]
    os.chdir(folder)
    planned = plan(24, ranks=int(os.environ.get("WORLD_SIZE", "1")))
    rule = SpikeRule(threshold=4.0, window=8, after=10, max_rollbacks=2)
    saved = {"checkpoint_every": 1000} if how == ["unsaved"] else {}
    training = planned.run.training.model_copy(update={"spikes": rule, **saved})
    run = planned.run.model_copy(update={"training": training})
    steps: list[int] = []

    def collate(batch: Batch) -> Any:
        pairs = planned.collate(batch)
        place = batch.epoch * planned.loader.batches_per_epoch + batch.index
        if place != BATCH and not (how == ["always"] and place > BATCH):
            return pairs
        words = pairs.mask.bool() & (pairs.ids != pairs.ids[0, 0])
        return replace(pairs, ids=torch.where(words, NEVER_SEEN, pairs.ids))

    def log(step: int, figures: dict[str, float]) -> None:
        if how == ["kill"] and steps and step < steps[-1]:
            os.kill(os.getpid(), signal.SIGKILL)
        if how == ["term"] and step == BATCH + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        steps.append(step)

    torch.manual_seed(5)
    return exit_code_of(lambda: train(replace(planned, run=run, collate=collate, log=log)))


if __name__ == "__main__":
    sys.exit(main())
