"""What the trainer costs beside the bare step: forward, backward, optimiser.

    blip bench trainer --size base --batch 8

The trainer runs as a stage runs it: DeepSpeed's engine, norms, progress line, curve, figures sent to an MLflow store,
with batches that are ready. Where it asks for its next batch, a bare step of the same work takes its turn, so that
what slows the machine slows both.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any, cast

import torch

from blip.bench.measure import timed
from blip.bench.run import prepare, versions
from blip.bench.step import batch_of, objective_of
from blip.bench.workload import Setup, computing
from blip.config import Compute, Optimiser, Run
from blip.data.loader import Batch, PairLoader
from blip.model.batch import PairBatch
from blip.model.device import machine, now
from blip.tracking import store
from blip.tracking.runs import StageRun
from blip.training.flops import pair_flops
from blip.training.loop import Plan, train
from blip.training.optimiser import build_optimiser

LOG_EVERY, USUAL_LOG_EVERY = 4, 50  # here, and by default in a run
WARM_UP = 2  # steps that make the optimisers' state and are not counted
SETTINGS = Optimiser.model_validate({"name": "adamw", "lr": 1e-5, "adam_lr": 1e-5})


@dataclass(frozen=True)
class Overhead:
    """Seconds of the trainer's and the bare step's turns.

    Attributes:
        trainer, bare: of the steps that log nothing, in turns.
        logging: the trainer's, of the steps that log, and the bare ones beside them.
    """

    setup: Setup
    zero_stage: int
    trainer: list[float]
    bare: list[float]
    logging: list[tuple[float, float]]
    machine: str
    versions: str

    @property
    def of_step(self) -> float:
        """What the trainer adds to a step that logs nothing, as a share of the bare step."""
        return statistics.median(a / b for a, b in zip(self.trainer, self.bare, strict=True)) - 1

    @property
    def of_logging(self) -> float:
        """What it adds to a step that logs."""
        return statistics.median(a / b for a, b in self.logging) - 1

    @property
    def share(self) -> float:
        """What it adds to a step of a run that logs as often as is usual."""
        return self.of_step + (self.of_logging - self.of_step) / USUAL_LOG_EVERY


def measure(setup: Setup, repeats: int = 8, zero_stage: int = 1, cpu_time: bool = False) -> Overhead:
    """Let trainer and bare step take turns, `repeats` times and as often as a line of the log needs."""
    prepare()
    steps = WARM_UP + max(repeats, LOG_EVERY)
    batch = batch_of(setup)
    turns = _Turns(
        batch, bare_step(setup, batch), setup, time.process_time if cpu_time else time.perf_counter
    )
    with tempfile.TemporaryDirectory() as folder, chdir(folder), _own_store():
        client = store.client()
        run = StageRun(client, client.create_run(store.experiment(client, "bench")).info.run_id)
        train(
            plan_of(setup, turns, steps + 1, zero_stage, lambda step, figures: run.log_metrics(figures, step))
        )
    counted = turns.seconds[WARM_UP:steps]
    logs = [(step % LOG_EVERY == 0, pair) for step, pair in enumerate(counted, WARM_UP + 1)]
    plain = [pair for logged, pair in logs if not logged]
    return Overhead(
        setup,
        zero_stage,
        [trainer for trainer, _ in plain],
        [bare for _, bare in plain],
        [pair for logged, pair in logs if logged],
        machine(setup.device),
        versions(),
    )


@contextmanager
def _own_store() -> Iterator[None]:
    """An MLflow store in the current directory, whatever MLFLOW_TRACKING_URI says."""
    before = os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        yield
    finally:
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def bare_step(setup: Setup, batch: PairBatch) -> Callable[[], dict[str, torch.Tensor]]:
    """Forward, backward and the trainer's own optimiser, without the trainer."""
    objective = objective_of(setup).to(setup.device).train()
    optimiser = build_optimiser(objective, SETTINGS)

    def step() -> dict[str, torch.Tensor]:
        with computing(setup):
            losses = objective(batch)
        losses["loss"].backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return losses

    return step


def plan_of(
    setup: Setup,
    turns: "_Turns",
    steps: int,
    zero_stage: int,
    log: Callable[[int, dict[str, float]], None],
) -> Plan:
    """The training run that is measured."""
    training = {"zero_stage": zero_stage, "log_every": LOG_EVERY, "checkpoint_every": 10**9}
    training |= {"batch_size": setup.batch, "compile": setup.compiled}
    settings = {"training": training, "optimiser": SETTINGS, "objective": {}}
    run = Run.model_validate({"data": ["ready"], "steps": steps, **settings})
    objective = objective_of(setup)
    flops = sum(pair_flops(objective.network.config, tokens=30).values())
    compute = Compute(dtype=setup.dtype)
    loader = cast(PairLoader, turns)
    return Plan("bench", objective, loader, lambda _: turns.batch, run, compute, {}, log, flops)


class _Turns:
    """A loader for a `batch` that is ready: it reads nothing, and uses the moment for a bare step."""

    batches_per_epoch = 10**6

    def __init__(
        self, batch: PairBatch, bare: Callable[[], Any], setup: Setup, clock: Callable[[], float]
    ) -> None:
        self.batch, self._bare, self._clock = batch, bare, clock
        self._device = torch.device(setup.device)
        self.seconds: list[tuple[float, float]] = []

    def state_dict(self) -> dict[str, Any]:
        return {}

    def __iter__(self) -> Iterator[Batch]:
        nothing, draw = torch.empty(0), Random(0)
        for index in count():
            handed_out = now(self._device, self._clock)
            yield Batch(nothing, (), nothing, draw, epoch=0, index=index)
            trainer = now(self._device, self._clock) - handed_out
            self.seconds.append((trainer, timed(self._bare, self._device, self._clock)))
