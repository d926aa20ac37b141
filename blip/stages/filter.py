"""Stage filter: the pre-trained model, fine-tuned to tell matching texts, on the human pairs (paper, section 3.3).

Beyond the paper, texts of the web pool drawn at random are shown as such that match no picture (`distractors`), for
what the web writes, file names and advertisements, stands in no human caption. Several members, trained alike with
other seeds, can decide together: the first is the model of the stage, the others lie in its folder `members`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from blip.capfilt.shard import MEMBERS
from blip.config import Settings
from blip.model.api import Blip
from blip.stages.training import Job, run_job
from blip.stages.validation_scores import match_scores
from blip.tracking.runs import StageRun


def job(settings: Settings, variant: str | None) -> Job:
    """Its training run."""
    return Job("filter", settings.filter, "pairs", Path("models/pretrain"), Path("models/filter"))


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Train and validate."""
    first = job(settings, variant)
    model = train_members(first, settings, lambda one, seeded: run_job(one, seeded, run))
    return match_scores("filter", model, settings)


def train_members(first: Job, settings: Settings, train: Callable[[Job, Settings], Blip]) -> Blip:
    """Train the first member, then the others; gives the first."""
    model = train(first, settings)
    for number in range(2, settings.filter.members + 1):
        name = f"{first.name}-{number}"
        target = first.target / MEMBERS / str(number)
        other = replace(first, name=name, target=target, prefix=f"{first.prefix}member{number}.")
        train(other, settings.model_copy(update={"seed": settings.seed + number - 1}))
    return model
