"""Stages pretrain and pretrain_bootstrapped: a new BLIP from the start (BLIP paper, section 3.2).

Data in: the pairs datasets of the settings, the vocabulary, the vision starting weights.
Out: models/pretrain or models/pretrain_bootstrapped; retrieval on the validation style as its figures.
"""

from blip.config import Settings
from blip.config.places import MODELS
from blip.stages.choosing import train_best
from blip.stages.scores.retrieval import SCORE
from blip.stages.training import Job
from blip.tracking.runs import StageRun


def job(settings: Settings, variant: str | None) -> Job:
    """The training run of either stage."""
    name = "pretrain_bootstrapped" if variant == "bootstrapped" else "pretrain"
    run = settings.pretrain_bootstrapped if variant == "bootstrapped" else settings.pretrain
    return Job(name, run, "pairs", None, MODELS / name)


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Train and validate."""
    planned = job(settings, variant)
    model = train_best(planned, settings, run, SCORE)
    return run.note(SCORE.measure(planned.name, model, settings))
