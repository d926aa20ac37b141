"""One round of CapFilt after the first: two fine-tunings, a bootstrapped dataset, a new BLIP.

    do(Round(2, Path("models/pretrain_bootstrapped"), work), settings, run)

Each of the four is made once and measured once: a note says of what, and by which code and settings. What is made of
something else now is made anew, and what would be measured otherwise is measured again.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from blip.atomic import take_away, write_json
from blip.capfilt.bootstrap import AUDIT_FILE
from blip.config import Run, Settings
from blip.config.places import CURVES, DATASETS, VALIDATED
from blip.config.rounds import PARTS, ROUNDS, of_round, reading
from blip.config.sections import VALIDATION
from blip.config.watched import CAPFILT_IMMATERIAL
from blip.data import kept
from blip.earlier import goes_on
from blip.stages.bootstrapping import bootstrapped_scores, order_of, write_bootstrapped
from blip.stages.choosing import train_best, validated_by
from blip.stages.filter import Train, hand_over, train_members
from blip.stages.scores import Score, captioning, matching, retrieval
from blip.stages.training import Job, identity_of, start_digest, start_of, unset_of
from blip.tracking.lineage import digest, flatten
from blip.tracking.measured import Scores, as_json, from_json
from blip.tracking.runs import StageRun
from blip.training.loop import finish

CODE = ("capfilt", "data", "model", "stages", "tasks")  # what measures
STAGES_OF = {part: stage for stage, part in PARTS.items()}


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


@dataclass(frozen=True)
class Piece:
    """One of the four: where it lies, what it is made of, how it is made unless it is there, how it is measured.

    `unset`: names in what it is made of that are as if there were no such setting.
    """

    place: Path
    origins: Callable[[], dict[str, Any]]
    unset: Callable[[], set[str]]
    make: Callable[[], object]
    measure: Callable[[], Scores]


def plan(start: Path, settings: Settings) -> dict[str, Any]:
    """What the rounds after the model `start` are made of, apart from how many there are."""
    how = settings.capfilt
    lists = {name: digest(VALIDATED / f"{name}.parquet") for name in (how.web, how.human, how.held_out)}
    datasets = {name: digest(DATASETS / name / "manifest.json") for name in lists}
    return {
        "runs": [identity_of(run, settings) for run in _runs(settings)],
        "capfilt": how.model_dump(mode="json", exclude={"rounds", *CAPFILT_IMMATERIAL}),
        "datasets": datasets,
        "excluded": lists,
        "start": start_digest(start),
    }


def unset_of_plan(settings: Settings) -> set[str]:
    """Names in the plan of settings that are what they are by default."""
    how = settings.capfilt.model_dump(mode="json")
    chosen = settings.capfilt.model_dump(mode="json", exclude_defaults=True)
    unset = flatten("capfilt", how).keys() - flatten("capfilt", chosen).keys()
    runs = enumerate(_runs(settings))
    return unset | {f"runs.{number}.{name}" for number, run in runs for name in unset_of(run, settings)}


def _runs(settings: Settings) -> tuple[Run, ...]:
    return settings.captioner, settings.filter, settings.pretrain_bootstrapped


def do(now: Round, settings: Settings, run: StageRun) -> Scores:
    """Fine-tune twice, bootstrap, pre-train, as far as it is not done; the figures of all four."""
    names = (VALIDATION, settings.validation.retrieval.data, settings.validation.captioning.data)
    data = [
        (digest(DATASETS / name / "manifest.json"), digest(VALIDATED / f"{name}.parquet")) for name in names
    ]
    measured_by = kept.digest_of(
        [kept.code_digest(*CODE), settings.seed, settings.validation.model_dump(), data]
    )
    found = Scores({}, {})
    for part, piece in _pieces(now, settings, run).items():
        found |= _done(now.work / "figures" / f"{now.number}.{part}.json", piece, measured_by)
    return Scores(of_round(now.number, found.figures), of_round(now.number, found.measured))


def _pieces(now: Round, settings: Settings, run: StageRun) -> dict[str, Piece]:
    """By the names of the parts of a round, in their order."""
    on_kept = reading(settings.pretrain_bootstrapped, f"{now.work.name}/datasets/{now.number}")
    captioner = now.job("captioner", settings.captioner, now.start)
    judge = now.job("filter", settings.filter.of_member, now.start)
    pretrained = now.job("pretrained", on_kept, None)
    models = captioner.target, judge.target

    def piece(job: Job, of: Run, score: Score, train: Train) -> Piece:
        return Piece(
            job.target,
            lambda: (
                identity_of(of, settings)
                | {"start": start_of(job, settings)}
                | validated_by(of, settings, score)
            ),
            lambda: unset_of(of, settings),
            lambda: train(job, settings, run),
            lambda: score.measure(STAGES_OF[job.target.name], job.target, settings),
        )

    return {
        "captioner": piece(
            captioner, settings.captioner, captioning.SCORE, partial(_train, captioning.SCORE)
        ),
        "filter": piece(judge, settings.filter, matching.SCORE, _train_filter),
        "capfilt": Piece(
            now.dataset,
            lambda: order_of(*models, settings).identity(),
            set[str],
            lambda: _bootstrap(now.dataset, *models, settings),
            lambda: _told(now, *models, settings, run),
        ),
        "pretrained": piece(pretrained, on_kept, retrieval.SCORE, partial(_train, retrieval.SCORE)),
    }


def _done(file: Path, piece: Piece, measured_by: str) -> Scores:
    """The figures of a piece, made and measured as far as the note in the file does not say that it is.

    The note is written before anything is made: what is there without one is of nobody knows what.
    """
    origins, note = piece.origins(), _note(file)
    made_of = {"made_of": kept.digest_of([origins]), "origins": json.loads(json.dumps(origins))}
    if note.get("made_of") != made_of["made_of"]:
        if "origins" not in note or not goes_on(note["origins"], made_of["origins"], piece.unset()):
            take_away(piece.place)
            note = {}
        note |= made_of
        write_json(file, note)
    piece.make()
    if note.get("measured_by") != measured_by:
        note = made_of | {"measured_by": measured_by, "scores": as_json(piece.measure())}
        write_json(file, note)
    return from_json(note["scores"], "rounds")


def _note(file: Path) -> dict[str, Any]:
    """What a file says of a piece; nothing where there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _train(score: Score, job: Job, settings: Settings, run: StageRun) -> Path:
    """Train a model that is not there yet; its curve goes beside it."""
    if job.target.is_dir():
        finish(job.name)
    else:
        train_best(job, settings, run, score)
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


def _bootstrap(target: Path, captioner: Path, judge: Path, settings: Settings) -> None:
    if not target.is_dir():
        write_bootstrapped(target, captioner, judge, settings)


def _told(now: Round, captioner: Path, judge: Path, settings: Settings, run: StageRun) -> Scores:
    """Of the dataset of a round, whose audit the stage's run keeps, or names if it is large."""
    place = DATASETS / ROUNDS / str(now.number) / AUDIT_FILE  # where it will be
    run.log_table(now.dataset / AUDIT_FILE, f"{ROUNDS}/{now.number}", place)
    return bootstrapped_scores(now.dataset, captioner, judge, settings)
