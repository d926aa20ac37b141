"""Stage filter: the pre-trained model, fine-tuned to tell matching texts, on the human pairs (paper, section 3.3).

Beyond the paper, texts of the web pool drawn at random are shown as such that match no picture (`distractors`), for
what the web writes, file names and advertisements, stands in no human caption. Several members, trained alike with
other seeds, can decide together: the first is the model of the stage, the others lie in its folder `members`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from blip.atomic import put_in_place
from blip.capfilt.inputs import MEMBERS
from blip.config import Settings
from blip.data.partial import begin, discard
from blip.stages.training import Job, digest_of, identity_of, run_job
from blip.stages.validation_scores import match_scores
from blip.tracking.runs import StageRun
from blip.training.loop import finish


def job(settings: Settings, variant: str | None) -> Job:
    """Its training run."""
    return Job("filter", settings.filter.of_member, "pairs", Path("models/pretrain"), Path("models/filter"))


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Train and validate."""
    model = train_members(job(settings, variant), settings, partial(run_job, run=run))
    return match_scores("filter", model, settings)


def train_members(first: Job, settings: Settings, train: Callable[[Job, Settings], Path]) -> Path:
    """Train what is not trained yet of the members, put all in their place; returns that of the first.

    Until all are there they lie beside the place of the first, where a run that was ended finds them.
    """
    identity = identity_of(settings.filter, settings) | {"start": digest_of(first.start)}
    work = begin(first.target, identity, what="model")
    numbers = range(1, settings.filter.members + 1)
    for number in numbers:
        member = _member(first, number, work)
        if member.target.is_dir():
            finish(member.name)
        else:
            train(member, settings.model_copy(update={"seed": settings.seed + number - 1}))
    for number in numbers[1:]:
        (work / "1" / MEMBERS).mkdir(exist_ok=True)
        put_in_place(work / str(number), work / "1" / MEMBERS / str(number))
    put_in_place(work / "1", first.target)
    discard(work)
    return first.target


def _member(first: Job, number: int, work: Path) -> Job:
    if number == 1:
        return replace(first, target=work / "1")
    named = {"name": f"{first.name}-{number}", "prefix": f"{first.prefix}member{number}."}
    return replace(first, target=work / str(number), **named)
