"""Stage captioner at toy size, for tests that kill it: `python -m tests.stages.captioner_run FOLDER RANKS [KILL_AT]`.

With KILL_AT kill -9 comes when that step is about to be reported, or behind the last step when its model is validated.
"""

import os
import sys
from functools import partial
from itertools import islice
from pathlib import Path

from blip.config import Settings, load_settings
from blip.data.text import train_tokenizer
from blip.stages import run_stage, training
from blip.tasks import captioning
from blip.training.progress import Progress
from tests.stages.conftest import ROOT, TOY_MODEL, make_models, pictures, write
from tests.stages.rounds_run import die_before

STEPS = 9


def toy_settings(ranks: int) -> Settings:
    """A short run that logs every step and saves every third."""
    how = {"batch_size": 4, "checkpoint_every": 3, "log_every": 1, "ranks": ranks}
    return load_settings(
        ROOT / "params.yaml",
        overrides={
            **TOY_MODEL,
            "captioner.steps": STEPS,
            "validation.captioning.beams": 1,
            **{f"captioner.training.{name}": value for name, value in how.items()},
        },
    )


def make_project(folder: Path) -> None:
    """Two datasets, a vocabulary and a model to start from."""
    parts = {name: list(islice(pictures(name), count)) for name, count in (("human", 24), ("validation", 8))}
    for name, samples in parts.items():
        write(folder, name, samples)
    texts = [caption.text for samples in parts.values() for s in samples for caption in s.captions]
    make_models(folder, train_tokenizer(texts * 2, 300))


def main() -> None:
    """Run the stage in FOLDER."""
    folder, ranks, *kill_at = sys.argv[1:]
    os.chdir(folder)
    for step in map(int, kill_at):
        if step > STEPS:
            die_before(captioning, "evaluate", lambda *_: True)
        else:
            training.following = partial(training.following, every=3600.0)  # nothing is sent before the end
        die_before(Progress, "report", lambda _, at, __, step=step: at == step)
    run_stage("captioner", toy_settings(int(ranks)))


if __name__ == "__main__":
    main()
