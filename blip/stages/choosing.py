"""Train, and keep the best of the run's candidates: which of their models does best on the validation data.

    model = train_best(job, settings, run, retrieval.SCORE)    # a run with `candidates: 6` has six

As published, retrieval is judged by the mean of its six recalls, captions by CIDEr and BLEU-4 together. Of equal ones
the later is kept. What the validation data say of the one that is kept is a little too good, as they have chosen it.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from blip.atomic import atomic_path
from blip.config import Run, Settings
from blip.config.places import DATASETS, RUNS, VALIDATED
from blip.config.sections import VALIDATION
from blip.stages.scores import Score
from blip.stages.training import Job, run_job
from blip.tracking.lineage import digest
from blip.tracking.runs import StageRun
from blip.training.loop import CANDIDATES, SUMMARY, candidate, candidate_steps

LAST = "last"


def train_best(job: Job, settings: Settings, run: StageRun, score: Score) -> Path:
    """Train as `run_job` does; of several candidates the best by `score` is put in the target's place.

    All lie in the folder of the run until the stage is done: one that is ended in between finds them again.

    Raises:
        BlipError: as `run_job`.
    """
    if job.run.candidates == 1:
        return run_job(job, settings, run)
    last = run_job(replace(job, target=RUNS / job.name / CANDIDATES / LAST), settings, run)
    steps = json.loads((RUNS / job.name / SUMMARY).read_text(encoding="utf-8"))["steps"]
    before = candidate_steps(steps, job.run.candidates)
    models = {step: candidate(job.name, step) for step in before} | {steps: last}
    judged = {step: _judge(job, step, model, settings, run, score) for step, model in models.items()}
    best = _best(job, judged, score.criterion)
    run.figures[f"{job.figures}.training.kept_step"] = best
    with atomic_path(job.target) as copy:  # a copy: what is moved away would not be found again
        shutil.copytree(models[best], copy)
    return job.target


def _best(job: Job, judged: Mapping[int, float | None], criterion: str) -> int:
    """The step of the best model, and of equal ones of the last; said with what each reached."""
    known = {step: value for step, value in judged.items() if value is not None}
    if len(known) < len(judged):
        best, lacking = max(judged), f"the validation data give no {criterion}: the last model is kept"
        print(f"warning: {job.name}: {lacking}", file=sys.stderr)
    else:
        best = max(known, key=lambda step: (known[step], step))
    for step in judged:
        value = f"{known[step]:.4f}" if step in known else "not measured"
        kept = "  <- kept" if step == best else ""
        print(f"{job.name}  after step {step} of {max(judged)}: {criterion} {value}{kept}", flush=True)
    return best


def validated_by(run: Run, settings: Settings, score: Score) -> dict[str, Any]:
    """What has a say in which weights of a run are kept, beside what it is made of; nothing where the last are."""
    if run.candidates == 1:
        return {}
    how = getattr(settings.validation, score.task) if score.task else None  # the filter has no setting
    name = how.data if how else VALIDATION
    return {
        "validation": how.model_dump(mode="json") if how else {},
        "on": digest(DATASETS / name / "manifest.json"),
        "without": digest(VALIDATED / f"{name}.parquet"),
    }


def _judge(job: Job, step: int, model: Path, settings: Settings, run: StageRun, score: Score) -> float | None:
    """The mean of the figures that decide, None where one is lacking; MLflow has all, as curves over the steps."""
    figures = score.measure(job.figures, model, settings).figures
    run.log_metrics({f"candidates.{name}": value for name, value in figures.items()}, step)
    names = [_figure(job, end, figures) for end in score.decides]
    return sum(figures[name] for name in names) / len(names) if figures.keys() >= set(names) else None


def _figure(job: Job, end: str, figures: Mapping[str, float]) -> str:
    """The name of a figure; that of the embeddings alone where a model has no head to re-rank by."""
    name = f"{job.figures}{end}"
    return name if name in figures else name.replace(".validation.", ".validation.itc.")
