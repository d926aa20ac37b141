"""Stage filter: the pre-trained model, fine-tuned to tell matching texts, on the human pairs (paper, section 3.3).

Beyond the paper, texts of the web pool drawn at random are shown as such that match no picture (`distractors`), for
what the web writes, file names and advertisements, stands in no human caption. Several members, trained alike with
other seeds, can decide together: the first is the model of the stage, the others lie in its folder `members`.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from blip.atomic import atomic_path, put_in_place, write_json
from blip.config import Settings
from blip.config.places import CURVES, MODELS
from blip.data.partial import begin, discard
from blip.stages.choosing import train_best, validated_by
from blip.stages.scores.matching import SCORE
from blip.stages.training import Job, identity_of, start_digest, unset_of
from blip.tasks.matching import MEMBERS
from blip.tracking.runs import StageRun
from blip.training.loop import finish

Train = Callable[[Job, Settings, StageRun], Path]


def job(settings: Settings, variant: str | None) -> Job:
    """Its training run."""
    return Job("filter", settings.filter.of_member, "pairs", MODELS / "pretrain", MODELS / "filter")


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Train and validate."""
    planned = job(settings, variant)
    model = train_members(planned, settings, run)
    figures = run.note(SCORE.measure("filter", model, settings))
    hand_over(model, planned.target)
    return figures


def train_member(job: Job, settings: Settings, run: StageRun) -> Path:
    """Train one of the members, for itself."""
    return train_best(job, settings, run, SCORE)


def train_members(first: Job, settings: Settings, run: StageRun, train: Train = train_member) -> Path:
    """Train what is not trained yet of the members; the directory of the first, with the others in it.

    It lies beside the place of the first, where a run that was ended finds what there is, until `hand_over`.
    """
    identity = identity_of(settings.filter, settings) | {"start": start_digest(first.start)}
    identity |= validated_by(settings.filter, settings, SCORE)
    work = begin(first.target, identity, what="model", unset=unset_of(settings.filter, settings))
    numbers = range(1, settings.filter.members + 1)
    for number in numbers:
        member = _member(first, number, work)
        if _is_finished(member):
            _take_up(member, run)
        else:
            train(member, settings.model_copy(update={"seed": settings.seed + number - 1}), run)
            _write_down(member, run)
    for number in numbers[1:]:
        (work / "1" / MEMBERS).mkdir(exist_ok=True)
        if (work / str(number)).is_dir():
            put_in_place(work / str(number), _inside(work / str(number)))
    return work / "1"


def hand_over(model: Path, target: Path) -> None:
    """Put what `train_members` made in its place; the working folder is removed last."""
    put_in_place(model, target)
    discard(model.parent)


def _member(first: Job, number: int, work: Path) -> Job:
    if number == 1:
        return replace(first, target=work / "1")
    named = {"name": f"{first.name}-{number}", "prefix": f"{first.prefix}member{number}."}
    return replace(first, target=work / str(number), **named)


def _inside(member: Path) -> Path:
    """Where a member lies in the folder of the first."""
    return member.parent / "1" / MEMBERS / member.name


def _is_finished(member: Job) -> bool:
    there = member.target.is_dir() or _inside(member.target).is_dir()
    return there and member.target.with_suffix(".json").is_file()


def _write_down(member: Job, run: StageRun) -> None:
    """Keep curve and figures beside a member that was trained: DVC removes those in their place before the next try."""
    own = f"{member.name}.training."
    figures = {name: value for name, value in run.figures.items() if name.startswith(own)}
    shutil.copyfile(_curve(member), member.target.with_suffix(".csv"))
    write_json(member.target.with_suffix(".json"), figures)


def _take_up(member: Job, run: StageRun) -> None:
    """Put curve and figures of a member that is finished where its training leaves them."""
    kept = member.target.with_suffix(".csv")
    with atomic_path(_curve(member)) as curve:
        shutil.copyfile(kept, curve)
    run.log_curve(kept, member.prefix)
    run.figures |= json.loads(member.target.with_suffix(".json").read_text(encoding="utf-8"))
    finish(member.name)


def _curve(member: Job) -> Path:
    return CURVES / f"{member.name}.csv"
