"""Stages finetune@TASK (retrieval, captioning, vqa, nlvr, visdial): CapFilt's last model, for one task each."""

from importlib import import_module

from blip.config import Settings
from blip.config.places import MODELS
from blip.config.rounds import last_dataset, last_model, reading
from blip.errors import BadArguments
from blip.stages.choosing import train_best
from blip.stages.scores import Score
from blip.stages.training import Job, Task
from blip.tracking.runs import StageRun

# All others learn from pairs
LEARNT: dict[str, Task] = {"vqa": "questions", "nlvr": "statements", "visdial": "dialogs"}


def job(settings: Settings, variant: str | None) -> Job:
    """The training run of one task.

    Raises:
        BadArguments: the settings have none.
    """
    assert variant is not None
    wanted = getattr(settings.finetune, variant)
    if wanted is None:
        raise BadArguments(
            f"finetune@{variant}: the settings have no finetune.{variant}; choose a recipe that has it (--recipe)"
        )
    run = reading(wanted, last_dataset(settings))
    start = MODELS / last_model("pretrain_bootstrapped", settings)
    return Job(f"finetune@{variant}", run, LEARNT.get(variant, "pairs"), start, MODELS / variant)


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Train and validate."""
    planned = job(settings, variant)
    score: Score = import_module(f"blip.stages.scores.{variant}").SCORE
    model = train_best(planned, settings, run, score)
    return run.note(score.measure(planned.figures, model, settings))
