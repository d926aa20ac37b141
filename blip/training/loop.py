"""The training loop: one step after another, resumable at any of them.

Everything specific comes from outside: the objective (a module that returns losses), the batches, and how a batch
becomes the objective's input.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from blip.atomic import write_json
from blip.config import Compute, Run
from blip.data.loader import Batch, PairLoader
from blip.errors import Preempted
from blip.model.precision import autocast
from blip.training.accumulation import losses_of_step
from blip.training.average import WeightAverage
from blip.training.checkpoint import CheckpointStore
from blip.training.engine import build_engine, make_whole, quiet
from blip.training.heartbeat import Heartbeat
from blip.training.precision import LossScale, autocast_dtype
from blip.training.preemption import stop_requested
from blip.training.progress import Progress
from blip.training.schedule import Schedule
from blip.training.telemetry import Meter, open_meter
from blip.training.vote import Vote

CURVES = Path("metrics/curves")
RUNS = Path("runs")
CURVE, SUMMARY = "curve.csv", "summary.json"  # of a run, in its folder


@dataclass(frozen=True)
class Plan:
    """One training run.

    Attributes:
        name: of the stage, which names its checkpoints and curve too.
        objective: returns a dictionary of losses with ``loss`` the one to minimise.
        collate: turns a loader's batch into the objective's argument.
        identity: whatever a checkpoint must agree on to be resumed (settings, digests of the data).
        log: called on rank 0 with the step and the figures every few steps.
        pair_flops: the published work of a pair (`blip.training.flops`), for MFU; None where it is not known.
        patience: seconds that a step may take and the first may take, before a run in one process ends itself with
            the stacks of its threads; 0: for ever. Ranks have an agent, which watches them.
    """

    name: str
    objective: nn.Module
    loader: PairLoader
    collate: Callable[[Batch], Any]
    run: Run
    compute: Compute
    identity: dict[str, Any]
    log: Callable[[int, dict[str, float]], None] = lambda step, means: None
    pair_flops: float | None = None
    patience: tuple[float, float] = (0.0, 0.0)


def train(plan: Plan) -> int:
    """Run, or resume, to the last step; the objective holds the result. Returns the number of steps.

    The checkpoints stay until `finish` is called, after the model is saved.

    Raises:
        Preempted: SIGTERM or SIGUSR1 came; a checkpoint is saved.
        BlipError: the loss is not finite, or a checkpoint cannot be written.
    """
    run, training = plan.run, plan.run.training
    average = WeightAverage.of(plan.objective, training.average) if training.average else None
    scale = LossScale.of(plan.objective) if plan.compute.dtype == "float16" else None
    engine = build_engine(plan.objective, training, run.optimiser)
    if scale:
        scale.attach(engine)
    device, optimiser = torch.device(engine.device or "cpu"), cast(torch.optim.Optimizer, engine.optimizer)
    region = partial(autocast, device, autocast_dtype(plan.compute.dtype, device))
    rank = torch.distributed.get_rank()
    store = CheckpointStore(RUNS / plan.name, fingerprint(plan.identity), training.keep_checkpoints, rank)
    meter = open_meter(plan.name, engine, training, plan.compute, plan.pair_flops)
    torch.distributed.barrier()
    peaks = [group["lr"] for group in optimiser.param_groups]  # before a checkpoint brings its own
    start = _resume(plan, engine, store)
    schedule = schedule_of(run, plan.loader.batches_per_epoch)
    progress = Progress(
        plan.name,
        schedule.steps,
        training.log_every,
        meter,
        RUNS / plan.name / CURVE if rank == 0 else None,
        start,
    )
    for row in progress.kept:  # what was not sent when the run was killed
        plan.log(int(row["step"]), {name: float(text) for name, text in row.items() if text})
    plan.objective.train()
    vote = Vote()
    with stop_requested() as stop, Heartbeat.of_this_process(*plan.patience) as beat:
        batches = beat.watched(iter(plan.loader))
        for step in range(start, schedule.steps):
            beat.begin(step)
            factor = schedule.factor(step)
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            plan.objective.progress = step / schedule.steps  # type: ignore[assignment]
            progress.expect(step + 1)
            inputs = _inputs(plan, batches, device, meter)
            for losses in losses_of_step(engine, plan.objective, inputs, training, region):
                meter.add(losses)
                engine.backward(losses["loss"])
                meter.norms.measure()
                engine.step()
            if average:
                average.update(plan.objective)
            figures = progress.report(step + 1, peaks[0] * factor)
            if figures and rank == 0:
                plan.log(step + 1, figures)
            due = (step + 1) % training.checkpoint_every == 0 and step + 1 < schedule.steps
            beat.mark("vote")
            stopping = vote(stop.is_set())
            if due or stopping:
                beat.mark("save")
                store.save(engine, step + 1, {"loader": plan.loader.state_dict()})
            if stopping:
                raise Preempted(
                    f"{plan.name}: stopped at step {step + 1} with a checkpoint; run it again to go on"
                )
    make_whole(engine, plan.objective)
    if average:
        average.copy_to(plan.objective)
    _keep_curve(plan.name, rank)
    summary = meter.summary() | {"steps": schedule.steps}
    if rank == 0:
        write_json(RUNS / plan.name / SUMMARY, summary)
    return schedule.steps


def finish(name: str) -> None:
    """Forget the checkpoints of a run whose model is saved."""
    shutil.rmtree(RUNS / name, ignore_errors=True)


def fingerprint(identity: dict[str, Any]) -> str:
    """A digest of everything a checkpoint must agree on."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def schedule_of(run: Run, batches_per_epoch: int) -> Schedule:
    """The schedule of a run whose epoch has that many batches on every rank."""
    settings = run.optimiser
    per_epoch = max(batches_per_epoch // run.training.accumulate, 1)
    steps = run.steps or max(round((run.epochs or 0) * per_epoch), 1)
    warmup = settings.warmup if settings.warmup > 1 else settings.warmup * steps
    peak = settings.lr if settings.name == "muon" else settings.adam_lr
    return Schedule(
        steps,
        per_epoch,
        min(round(warmup), steps),
        settings.warmup_lr / peak,
        settings.schedule,
        settings.decay,
        settings.final_lr / peak,
    )


def _inputs(plan: Plan, batches: Iterator[Batch], device: torch.device, meter: Meter) -> Iterator[Any]:
    """The objective's arguments of one step, each made when it is asked for."""
    for _ in range(plan.run.training.accumulate):
        with meter.waiting():
            batch = next(batches)
        yield plan.collate(batch).to(device)


def _resume(plan: Plan, engine: Any, store: CheckpointStore) -> int:
    checkpoint = store.latest()
    if checkpoint is None:
        return 0
    with quiet():
        state = store.load(engine, checkpoint)
    plan.loader.load_state_dict(state["loader"])
    if torch.distributed.get_rank() == 0:
        print(f"{plan.name}  resuming at step {state['step']} from {checkpoint}", flush=True)
    return state["step"]


def _keep_curve(name: str, rank: int) -> None:
    if rank == 0:
        CURVES.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(RUNS / name / CURVE, CURVES / f"{name.replace('@', '_')}.csv")
