"""The stages of dvc.yaml: one module each, run the same way.

    blip stage pretrain             # what dvc.yaml calls
    run_stage("pretrain", settings)

A module has `run(settings, run, variant) -> dict[str, float]`. It reads and writes below the current folder,
logs to the MLflow run it is given and returns its figures (for metrics/NAME.json, '@' as '_', and MLflow).
It notes with the run how those of a model were measured.
"""

import difflib
import importlib
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from blip.atomic import atomic_path, write_json
from blip.config import Settings
from blip.config.dvc_yaml import has_stage, outputs
from blip.config.places import METRICS, RUNS
from blip.data.partial import discard
from blip.errors import BadArguments
from blip.stages.seconds import counted
from blip.stages.unsaved import Made, Unsaved, forget_saved
from blip.tracking.dvc_links import see_that_dvc_takes
from blip.tracking.measured import Scores, as_json
from blip.tracking.runs import StageRun, stage_run
from blip.training.launch.finding import find_place
from blip.training.launch.place import Place
from blip.training.memory import keep_freed_memory
from blip.training.owner import give_up, keep_to_itself


class StageModule(Protocol):
    """What a module of this package offers."""

    def run(self, settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
        """Do the work of the stage and return its figures."""
        ...


@dataclass(frozen=True)
class Stage:
    """Where a stage is: its module, its variant of it, if its figures get a file of their own, if it trains.

    `by_hand`: it is no part of the graph, as the sample has no data for it. `bootstraps`: it shares the web pool among
    ranks.
    """

    module: str
    variant: str | None = None
    keeps_metrics: bool = True
    trains: bool = False
    by_hand: bool = False
    bootstraps: bool = False

    @property
    def has_ranks(self) -> bool:
        """Whether what it starts may be several processes, on several nodes."""
        return self.trains or self.bootstraps


STAGES: dict[str, Stage] = {
    "ingest": Stage("blip.stages.ingest"),
    "validate": Stage("blip.stages.validate"),
    "pretrain": Stage("blip.stages.pretrain", trains=True),
    "captioner": Stage("blip.stages.captioner", trains=True),
    "filter": Stage("blip.stages.filter", trains=True),
    "capfilt": Stage("blip.stages.capfilt", bootstraps=True),
    "pretrain_bootstrapped": Stage("blip.stages.pretrain", "bootstrapped", trains=True),
    "rounds": Stage("blip.stages.rounds", trains=True),
    **{
        f"finetune@{task}": Stage("blip.stages.finetune", task, trains=True)
        for task in ("retrieval", "captioning", "vqa")
    },
    **{
        f"evaluate@{task}": Stage("blip.stages.evaluate", task)
        for task in ("retrieval", "captioning", "vqa", "classification", "video")
    },
    "finetune@nlvr": Stage("blip.stages.finetune", "nlvr", trains=True, by_hand=True),
    "finetune@visdial": Stage("blip.stages.finetune", "visdial", trains=True, by_hand=True),
    "evaluate@nlvr": Stage("blip.stages.evaluate", "nlvr", by_hand=True),
    "evaluate@visdial": Stage("blip.stages.evaluate", "visdial", by_hand=True),
    "compare": Stage("blip.stages.compare"),
    "register": Stage("blip.stages.register"),
    "report": Stage("blip.stages.report", keeps_metrics=False),  # it writes metrics/summary.json
}
CLASSIFYING = "evaluate@classification"


def find_stage(name: str) -> Stage:
    """The stage of that name. Raises BadArguments, with the names there are, if there is none."""
    if name in STAGES:
        return STAGES[name]
    close = difflib.get_close_matches(name, STAGES, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise BadArguments(f"there is no stage {name!r}{hint}; the stages are: {', '.join(STAGES)}")


def run_stage(name: str, settings: Settings) -> dict[str, float]:
    """Run one stage under its MLflow run, and write its figures with the `seconds` it took, in all its attempts.

    Under DVC a task that the settings leave out makes what DVC waits for, empty; so does classification of pictures
    without labels, which the settings have by themselves.
    On another node than the first, do what that says, and no more; the seconds are the only figure.

    Raises:
        BadArguments: there is no such stage, or without DVC it is one that the settings leave out; or Slurm starts one
            without ranks several times.
        BlipError: what the stage says of its inputs; or another process trains it, or DVC would refuse what it makes.
    """
    stage = find_stage(name)
    if is_left_out(name, settings):
        if "DVC_STAGE" not in os.environ:
            raise BadArguments(
                f"{name}: {name.replace('@', '.')} is null in the settings, so there is nothing to do"
            )
        return leave_out(name, f"{name.replace('@', '.')} is null in the settings")
    alone = "SLURM_PTY_PORT" in os.environ  # the one shell of `srun --pty`, whatever tasks there were
    tasks = "1" if alone else os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if not stage.has_ranks and int(tasks) > 1:
        raise BadArguments(
            f"{name} has no ranks, and each of this step's {tasks} tasks would do all of it; give sbatch, or srun, "
            "--nodes=1 --ntasks=1"
        )
    place = find_place(settings.launch, os.environ) if stage.has_ranks else Place()
    if place.node:
        return _follow(place, settings)
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.compute.threads))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads give their core to whoever has work
    if name == CLASSIFYING and "DVC_STAGE" in os.environ and (dataset := _lacks_labels(settings)):
        return leave_out(name, f"no picture of {dataset} has a label (truth.csv, docs/data.md)")
    with (
        _crew(stage, place, settings),
        _alone(stage, name),
    ):  # from here on the other nodes hear what goes wrong
        return _run_here(name, stage, settings)


def is_left_out(name: str, settings: Settings) -> bool:
    """Whether a stage of the graph has nothing to do, as its task is null in the settings."""
    group, _, task = name.partition("@")
    tasks = {"finetune": settings.finetune, "evaluate": settings.evaluate}
    return group in tasks and not STAGES[name].by_hand and getattr(tasks[group], task) is None


def _lacks_labels(settings: Settings) -> str:
    from blip.stages.evaluate import lacks_labels

    return lacks_labels(settings)


def leave_out(name: str, why: str) -> dict[str, float]:
    """Make the outputs of a stage, empty, and a file of metrics without any."""
    for path in outputs(name):
        with atomic_path(path) as made:
            made.touch() if path.suffix else made.mkdir()
    write_json(_metrics_of(name), {})
    print(f"{name}: left out, as {why}", flush=True)
    return {}


def _metrics_of(name: str) -> Path:
    return METRICS / f"{name.replace('@', '_')}.json"


def _run_here(name: str, stage: Stage, settings: Settings) -> dict[str, float]:
    with stage_run(name, settings) as run:
        made = _made_once(name, stage, settings, run)
        run.measured |= made.scores.measured
        run.tag_weights()  # once what was made is kept: a server that is down takes a minute to refuse it
        run.log_metrics(made.scores.figures)
        if stage.keeps_metrics:
            write_json(_metrics_of(name), as_json(made.scores))
        _forget_checkpoints(made.trained)
        for folder in made.work:
            discard(Path(folder))
    return made.scores.figures


def _made_once(name: str, stage: Stage, settings: Settings, run: StageRun) -> Made:
    """What the stage makes; under DVC, of one that trains or bootstraps, what it made before DVC could save it."""
    by_dvc = os.environ.get("DVC_STAGE", "").rpartition(":")[2] == name and has_stage(name)
    if by_dvc:
        see_that_dvc_takes(name)
        forget_saved()
    if not (by_dvc and stage.has_ranks):
        return _make(name, stage, settings, run)
    unsaved = Unsaved.of(name, settings)
    if made := unsaved.take_up():
        print(f"{name}: was done already, and ended before DVC had saved it", flush=True)
        return made
    made = _make(name, stage, settings, run)
    return made if unsaved.keep(made) else made._replace(trained=[])


def _make(name: str, stage: Stage, settings: Settings, run: StageRun) -> Made:
    module = cast(StageModule, importlib.import_module(stage.module))
    prepare_random_numbers(settings)
    with _counted(name, stage, run) as seconds:
        figures = module.run(settings, run, stage.variant)
        figures = _finite(name, figures | run.figures)
        figures["seconds"] = round(seconds(), 2)
    return Made(Scores(figures, run.measured), run.trained, run.work)


def _counted(name: str, stage: Stage, run: StageRun) -> AbstractContextManager[Callable[[], float]]:
    """The seconds so far: of one that goes on where it was ended with those before, of another since it began anew."""
    if stage.has_ranks:
        return counted(name, run.run_id)
    began = time.monotonic()
    return nullcontext(lambda: time.monotonic() - began)


@contextmanager
def _alone(stage: Stage, name: str) -> Iterator[None]:
    """Of a stage that has ranks there is one process, before anything is said of it to MLflow, whose run goes on."""
    if not stage.has_ranks:
        yield
        return
    keep_to_itself(RUNS / name)
    try:
        yield
    finally:
        give_up(RUNS / name)


def _follow(place: Place, settings: Settings) -> dict[str, float]:
    from blip.training.launch.follow import follow

    began = time.monotonic()
    follow(place, settings.launch.start_timeout)
    return {"seconds": round(time.monotonic() - began, 2)}


def _forget_checkpoints(trained: list[str]) -> None:
    if trained:
        from blip.training.loop import finish

        for name in trained:
            finish(name)


def _crew(stage: Stage, place: Place, settings: Settings) -> AbstractContextManager[None]:
    from blip.training.launch.crew import crew_of_stage

    return crew_of_stage(place, settings.launch) if stage.has_ranks else nullcontext()


def prepare_random_numbers(settings: Settings) -> None:
    """Seed every generator that is imported so far, and keep torch fast on a CPU; again after a late import."""
    random.seed(settings.seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(settings.seed)
    if torch := sys.modules.get("torch"):
        keep_freed_memory()
        torch.manual_seed(settings.seed)
        torch.set_num_threads(settings.compute.threads)
        torch.set_flush_denormal(True)  # denormal gradients cost a step several times its time


def _finite(name: str, figures: dict[str, float]) -> dict[str, float]:
    """The figures that are numbers; JSON has no other, and a gate reads a missing figure as not reached."""
    for key in [key for key, value in figures.items() if not math.isfinite(value)]:
        print(f"warning: {name}: {key} is {figures[key]} and is left out", file=sys.stderr)
    return {key: value for key, value in figures.items() if math.isfinite(value)}
