"""One round of CapFilt after the first: two fine-tunings, a bootstrapped dataset, a new BLIP.

    do(Round(2, Path("models/pretrain_bootstrapped"), work), settings, run)

Each of the four is done once: its figures, written when all else of it is in its place, say that it is.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from blip.atomic import write_json
from blip.capfilt.bootstrap import AUDIT_FILE
from blip.config import Run, Settings
from blip.config.places import CURVES, DATASETS, VALIDATED
from blip.stages.bootstrapping import bootstrapped_scores, write_bootstrapped
from blip.stages.filter import hand_over, train_members
from blip.stages.training import Job, digest_of, identity_of, run_job
from blip.stages.validation_scores import caption_scores, match_scores, retrieval_scores
from blip.tasks.rounds import of_round, reading
from blip.tracking.lineage import digest
from blip.tracking.measured import Scores, as_json, from_json
from blip.tracking.runs import StageRun
from blip.training.loop import finish


@dataclass(frozen=True)
class Round:
    """A round after the first: its number, the model it starts from, and where what is finished of it lies."""

    number: int
    start: Path
    work: Path

    @property
    def models(self) -> Path:
        """The folder of its models."""
        return self.work / "models" / str(self.number)

    @property
    def dataset(self) -> Path:
        """The pairs dataset that it bootstraps."""
        return self.work / "datasets" / str(self.number)

    def job(self, part: str, run: Run, start: Path | None) -> Job:
        """The training of one of its models."""
        name = f"rounds.{self.number}.{part}"
        return Job(name, run, "pairs", start, self.models / part, prefix=f"{name}.")


def plan(start: Path, settings: Settings) -> dict[str, Any]:
    """What the rounds after the model `start` are made of, apart from how many there are."""
    how = settings.capfilt
    runs = (settings.captioner, settings.filter, settings.pretrain_bootstrapped)
    lists = {name: digest(VALIDATED / f"{name}.parquet") for name in (how.web, how.human, how.held_out)}
    datasets = {name: digest(DATASETS / name / "manifest.json") for name in lists}
    return {
        "runs": [identity_of(run, settings) for run in runs],
        "capfilt": how.model_dump(mode="json", exclude={"rounds", "ranks", "max_bad_fraction"}),
        "datasets": datasets,
        "excluded": lists,
        "start": digest_of(start),
    }


def do(now: Round, settings: Settings, run: StageRun) -> Scores:
    """Fine-tune twice, bootstrap, pre-train, as far as it is not done; the figures of all four."""
    on_kept = reading(settings.pretrain_bootstrapped, f"{now.work.name}/datasets/{now.number}")
    captioner = now.job("captioner", settings.captioner, now.start)
    judge = now.job("filter", settings.filter.of_member, now.start)
    pretrained = now.job("pretrained", on_kept, None)
    train = partial(_train, run=run)
    parts: dict[str, Callable[[], Scores]] = {
        "captioner": lambda: caption_scores("captioner", train(captioner, settings), settings),
        "filter": lambda: match_scores("filter", _train_filter(judge, settings, run), settings),
        "capfilt": lambda: _bootstrap(now, settings, run),
        "pretrained": lambda: retrieval_scores(
            "pretrain_bootstrapped", train(pretrained, settings), settings
        ),
    }
    found = Scores({}, {})
    for part, do in parts.items():
        found |= _once(now.work / "figures" / f"{now.number}.{part}.json", do)
    return Scores(of_round(now.number, found.figures), of_round(now.number, found.measured))


def _once(file: Path, do: Callable[[], Scores]) -> Scores:
    """The figures in the file, or those that come of doing it; they are written last, when all else is in its place."""
    if file.is_file():
        print(f"rounds  {file.stem} is finished already", flush=True)
        return from_json(json.loads(file.read_text(encoding="utf-8")), "rounds")
    scores = do()
    write_json(file, as_json(scores))
    return scores


def _train(job: Job, settings: Settings, run: StageRun) -> Path:
    """Train a model that is not there yet; its curve goes beside it."""
    if job.target.is_dir():
        finish(job.name)
    else:
        run_job(job, settings, run)
    _keep_curves(job)
    return job.target


def _train_filter(job: Job, settings: Settings, run: StageRun) -> Path:
    """Train the members that are not there yet."""
    if not job.target.is_dir():
        hand_over(train_members(job, settings, run), job.target)
    _keep_curves(job)
    return job.target


def _keep_curves(job: Job) -> None:
    """Put the curve of the model, and those of its members, beside it."""
    for curve in CURVES.glob(f"{job.name}*.csv"):
        member = curve.stem.removeprefix(job.name)
        shutil.move(curve, job.target.with_name(f"{job.target.name}{member}.csv"))


def _bootstrap(now: Round, settings: Settings, run: StageRun) -> Scores:
    models = now.models / "captioner", now.models / "filter"
    if not now.dataset.is_dir():
        write_bootstrapped(now.dataset, *models, settings)
    run.log_artifact(now.dataset / AUDIT_FILE, f"rounds/{now.number}")
    return bootstrapped_scores(now.dataset, *models, settings)
