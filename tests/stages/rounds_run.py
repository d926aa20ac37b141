"""Stage rounds at toy size, for tests that kill it: `python -m tests.stages.rounds_run FOLDER ROUNDS [KILL_AT]`.

KILL_AT is where kill -9 comes: `filter` (in its third step), `capfilt` or `pretrained` (done, its figures not yet
written), `handover` (the models are in their place, the datasets are not), `figures` (both are, the figures are not
written).
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from blip import stages
from blip.capfilt.bootstrap import bootstrap
from blip.capfilt.inputs import Models, Order, Pairs
from blip.config import CapFilt, Settings, load_settings
from blip.data.text import train_tokenizer
from blip.stages import one_round, rounds, run_stage
from blip.training.progress import Progress
from tests.stages.conftest import ROOT, TOY_MODEL, make_models, pictures, write

RUNS = ("captioner", "filter", "pretrain_bootstrapped")
TRAINING = {"batch_size": 8, "checkpoint_every": 2, "log_every": 1}
SMALL: dict[str, Any] = {
    **TOY_MODEL,
    "filter.members": 2,
    "capfilt.min_tokens": 3,
    "capfilt.threshold": {"keep": 0.6},
    "validation.captioning.beams": 1,
    **{f"{run}.steps": 4 for run in RUNS},
    **{f"{run}.objective.queue": 16 for run in RUNS},
    **{f"{run}.training.{name}": value for run in RUNS for name, value in TRAINING.items()},
}
FIRST = {"captioner": {"captioner.validation.exact_match": 0.25}, "filter": {"filter.validation_auc": 0.75}}


def toy_settings(number: int) -> Settings:
    """The settings of that many rounds."""
    return load_settings(ROOT / "params.yaml", overrides={**SMALL, "capfilt.rounds": number})


def make_project(folder: Path) -> None:
    """What the stages up to pretrain_bootstrapped leave behind, its models with random weights."""
    human, web = list(islice(pictures("human"), 12)), list(islice(pictures("web"), 20))
    for name, samples in {
        "human": human,
        "web": web,
        "validation": list(islice(pictures("validation"), 8)),
    }.items():
        write(folder, name, samples)
    tokenizer = train_tokenizer([c.text for s in human + web for c in s.captions] * 2, 300)
    tokenizer.save_vocabulary(folder / "data/datasets/vocabulary")
    make_models(folder, tokenizer)
    models = Models(folder / "models/pretrain", (folder / "models/retrieval",))
    sides = [Pairs(folder / "data/datasets" / name) for name in ("web", "human")]
    how = CapFilt.model_validate({"min_tokens": 3, "threshold": {"keep": 0.6}})
    bootstrap(Order(sides[0], sides[1], models, how), folder / "data/datasets/bootstrapped")
    (folder / "metrics").mkdir()
    for stage, figures in FIRST.items():
        (folder / f"metrics/{stage}.json").write_text(json.dumps({**figures, "seconds": 1.0}))


def die_before(owner: Any, name: str, when: Callable[..., bool]) -> None:
    """Kill this process before a call of `owner.name` whose arguments `when` says yes to."""
    call = getattr(owner, name)

    def fatal(*arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)

    setattr(owner, name, fatal)


def main() -> None:
    """Run the stage in FOLDER."""
    folder, number, *kill_at = sys.argv[1:]
    os.chdir(folder)
    for point in kill_at:
        if point == "filter":
            die_before(Progress, "report", lambda run, at, _: (run.name, at) == ("rounds.2.filter", 3))
        elif point == "handover":
            die_before(rounds, "link_in_place", lambda *_: True)
        elif point == "figures":
            die_before(stages, "write_json", lambda file, _: file.name == "rounds.json")
        else:
            die_before(one_round, "write_json", lambda file, _, name=f"2.{point}.json": file.name == name)
    run_stage("rounds", toy_settings(int(number)))


if __name__ == "__main__":
    main()
