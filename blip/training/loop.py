"""The training loop: one step after another, resumable at any of them.

Everything specific comes from outside: the objective (a module that returns losses), the batches, and how a batch
becomes the objective's input.
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Set
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from safetensors import SafetensorError
from torch import nn

from blip.atomic import atomic_path, write_json
from blip.config import Compute, Run
from blip.config.places import CURVES, RUNS
from blip.data.loader import Batch, PairLoader
from blip.errors import BlipError, Preempted
from blip.model.precision import autocast
from blip.model.ranks import whole
from blip.training.accumulation import losses_of_step
from blip.training.average import WeightAverage
from blip.training.checkpoint import LONGEST_WAIT, CheckpointStore
from blip.training.engine import build_engine, compute_within, let_go, make_whole, quiet
from blip.training.guard import Guard
from blip.training.health import Health, note_sign, said_in
from blip.training.heartbeat import Heartbeat
from blip.training.launch.store import is_responsible
from blip.training.memory import forget_peak, release
from blip.training.owner import give_up, keep_to_itself
from blip.training.precision import LossScale, autocast_dtype
from blip.training.preemption import stop_requested
from blip.training.progress import Progress
from blip.training.schedule import Schedule
from blip.training.spikes import Spikes
from blip.training.telemetry import open_meter
from blip.training.unread import Unread
from blip.training.vote import Vote

CURVE, SUMMARY, WARNINGS = "curve.csv", "summary.json", "warnings.jsonl"  # of a run, in its folder
CANDIDATES = "candidates"  # models of some steps, in folders called by the step


@dataclass(frozen=True)
class Plan:
    """One training run.

    Attributes:
        name: of the stage, which names its checkpoints and curve too.
        objective: returns a dictionary of losses with ``loss`` the one to minimise.
        collate: turns a loader's batch into the objective's argument.
        identity: whatever a checkpoint must agree on to be resumed (settings, digests of the data).
        unset: names of what in the identity is as if there were no such setting: a run of an earlier version knew
            nothing of it, and goes on.
        run_id: of the MLflow run, which a checkpoint remembers.
        log: called on rank 0 with the step and the figures every few steps.
        pair_flops: the published work of a pair (`blip.training.flops`), for MFU; None where it is not known.
        export: writes the objective's model as a directory; a run of several candidates calls it on rank 0.
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
    export: Callable[[Path], None] = lambda directory: None
    patience: tuple[float, float] = (0.0, 0.0)
    run_id: str = ""
    unset: Set[str] = frozenset()

    @property
    def wait(self) -> timedelta:
        """How long ranks wait for each other: longer than anything may take, for who watches them says what hangs."""
        return timedelta(seconds=max(*self.patience, LONGEST_WAIT) + 60)


def train(plan: Plan) -> None:
    """Run, or resume, to the last step; the objective holds the result.

    The checkpoints, the last step's among them, stay until `finish` is called.

    Raises:
        Preempted: SIGTERM or SIGUSR1 came; a checkpoint is saved.
        BlipError: another process trains this run, too many steps had no finite gradient, too many pictures cannot
            be read, too many rollbacks, or a checkpoint cannot be written.
    """
    trainer = Trainer(plan)
    trainer.run()
    let_go(trainer.engine, plan.objective)
    del trainer
    release()  # or it stays beside the model that is validated


class Trainer:
    """One rank of a run: the engine and all that watches it."""

    def __init__(self, plan: Plan) -> None:
        training, self.plan = plan.run.training, plan
        if is_responsible():
            keep_to_itself(RUNS / plan.name)
        self.average = WeightAverage.of(plan.objective, training.average) if training.average else None
        scale = LossScale.of(plan.objective) if plan.compute.dtype == "float16" else None
        self.engine = build_engine(plan.objective, training, plan.run.optimiser, plan.wait)
        if scale:
            scale.attach(self.engine)
        self.device = torch.device(self.engine.device or "cpu")
        self.region = partial(autocast, self.device, autocast_dtype(plan.compute.dtype, self.device))
        compute_within(plan.objective, self.region)
        self.rank, self.folder = torch.distributed.get_rank(), RUNS / plan.name
        self.store = CheckpointStore(
            self.folder,
            plan.identity,
            training.keep_checkpoints,
            self.rank,
            torch.distributed.get_world_size(),
            keep_best=training.keep_best == "loss",
            behind=training.async_checkpoint,
            unset=plan.unset,
        )
        forget_peak()
        self.meter = open_meter(plan.name, self.engine, training, plan.compute, plan.pair_flops)
        torch.distributed.barrier()
        self.optimiser = cast(torch.optim.Optimizer, self.engine.optimizer)
        self.peaks = [group["lr"] for group in self.optimiser.param_groups]  # a checkpoint brings its own
        self.schedule = schedule_of(plan.run, plan.loader.batches_per_epoch)
        self.candidates = candidate_steps(self.schedule.steps, plan.run.candidates)
        self.guard = Guard(
            plan.name, self.engine, self.folder, training.max_skipped, scaled=scale is not None
        )
        self.unread = Unread(plan.name, self.folder, self.rank)
        self.spikes = Spikes(training.spikes) if training.spikes else None
        pairs, said = pairs_compared(plan.run), said_in(self.folder / WARNINGS)
        distractors = pairs if plan.run.distractors else 0
        self.health = Health(plan.objective, self.schedule.steps, pairs, said, distractors)

    def run(self) -> None:
        """All steps that are left."""
        plan, steps = self.plan, self.schedule.steps
        step = self._restore()
        progress = self._progress(step)
        plan.objective.train()
        vote, owed = Vote(plan.wait), False
        with stop_requested() as stop, Heartbeat.of_this_process(*plan.patience) as beat:
            batches = beat.watched(iter(plan.loader))
            while step < steps:
                beat.begin(step)
                due = owed or (step + 1) % plan.run.training.checkpoint_every == 0 or step + 1 == steps
                spiked = self._step(step, batches, progress, due)
                step += 1
                beat.mark("vote")
                stopping = vote(stop.is_set())
                self.store.check()
                if spiked and (back := self._roll_back(spiked)) is not None:
                    step, progress, owed = back, self._progress(back), False
                    batches = beat.watched(iter(plan.loader))
                    continue
                if due or stopping or step in self.candidates:
                    beat.mark("save")
                if step in self.candidates:
                    self._keep_candidate(step)
                if step == steps:
                    self._summarise()
                if stopping:
                    self._stop(step)
                owed = due and self.guard.in_a_row > 0  # nothing was learnt that could be saved
                if due and not owed:
                    self._save(step)
        self._end()

    def _step(self, step: int, batches: Iterator[Batch], progress: Progress, due: bool) -> int | None:
        """One step of the optimiser; a step whose loss turned out to be a spike, if one did."""
        factor = self.schedule.factor(step)
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        objective = self.plan.objective
        objective.progress = step / self.schedule.steps  # type: ignore[assignment]
        progress.expect(step + 1)
        inputs, found = self._inputs(batches), []
        for losses in losses_of_step(self.engine, objective, inputs, self.plan.run.training, self.region):
            found.append({name: loss.detach() for name, loss in losses.items()})
            self.engine.backward(losses["loss"])
            self.meter.norms.measure()
            self.engine.step()
        if self.guard.skipped(step + 1, found):
            return None
        for losses in found:
            self.meter.add(losses)
        if self.average:
            self.average.update(objective)
        rate = self.plan.run.optimiser.adam_lr * factor  # the full one, of the heads
        self._tell(step + 1, progress.report(step + 1, rate))
        return self.spikes.seen(step + 1, found, now=due) if self.spikes else None

    def _inputs(self, batches: Iterator[Batch]) -> Iterator[Any]:
        """The objective's arguments of one step, each made when it is asked for."""
        for _ in range(self.plan.run.training.accumulate):
            with self.meter.waiting():
                batch = next(batches)
            self.guard.note(batch)
            self.unread.note(batch)
            yield self.plan.collate(batch).to(self.device)

    def _tell(self, step: int, figures: dict[str, float] | None) -> None:
        if not figures or self.rank:
            return
        self.store.note(figures["loss"])
        self.plan.log(step, figures)
        for sign in self.health.examine(step, figures):
            print(f"{self.plan.name}  warning at step {step}: {sign.text}", file=sys.stderr, flush=True)
            note_sign(self.folder / WARNINGS, step, sign)

    def _save(self, step: int) -> None:
        state: dict[str, Any] = {"loader": self.plan.loader.state_dict(), "run_id": self.plan.run_id}
        if self.spikes:
            state["spikes"] = self.spikes.state_dict()
        self.store.save(self.engine, step, state)

    def _keep_candidate(self, step: int) -> None:
        """Save the model as it would be if this were the last step; all ranks, before the step's checkpoint."""
        objective = self.plan.objective
        with whole(list(objective.parameters())):
            if self.rank == 0:
                with self.average.in_place(objective) if self.average else nullcontext():
                    self._export(candidate(self.plan.name, step))

    def _export(self, directory: Path) -> None:
        try:
            self.plan.export(directory)
        except (OSError, SafetensorError) as error:
            raise BlipError(
                f"{self.plan.name}: the model of a step could not be written to {directory} ({error}); make room and "
                "run the stage again: it goes on from the last checkpoint"
            ) from error

    def _stop(self, step: int) -> NoReturn:
        """Save and end; not behind a spike, which the next step would have gone back from."""
        if self.spikes and self.spikes.settle() and self.store.usable():
            kept = "whose loss shot up: the checkpoint before it stays"
        else:
            self._save(step)
            self.store.wait()
            kept = "with a checkpoint"
        raise Preempted(f"{self.plan.name}: stopped at step {step} {kept}; run it again to go on")

    def _restore(self) -> int:
        """Go on from the newest checkpoint; the step it is of, 0 without one."""
        with quiet():
            state = self.store.restore(self.engine)
        if state is None:
            return 0
        self.plan.loader.load_state_dict(state["loader"])
        self.engine.global_steps = state["step"]
        if self.spikes and "spikes" in state:  # the rule may have come later
            self.spikes.load_state_dict(state["spikes"])
        if self.rank == 0:
            other = f" of MLflow run {state['run_id']}" if state["run_id"] != self.plan.run_id else ""
            print(
                f"{self.plan.name}  resuming at step {state['step']} from {state['checkpoint']}{other}",
                flush=True,
            )
        return state["step"]

    def _roll_back(self, spiked: int) -> int | None:
        """To the weights of the last checkpoint, and on with the data after the spike; the step that it is of.

        A run that is killed after this sees the same spike again and does the same. Without a checkpoint it goes on.
        """
        assert self.spikes is not None
        if self.store.usable() is None:
            if self.rank == 0:
                print(
                    f"{self.plan.name}  the loss shot up at step {spiked}, before there is a checkpoint to go back to",
                    file=sys.stderr,
                    flush=True,
                )
            return None
        number = self.spikes.count_rollback(self.plan.name, spiked)
        here = self.plan.loader.state_dict()
        step = self._restore()
        self.plan.loader.load_state_dict(here)
        self.spikes.rollbacks = number
        return step

    def _progress(self, start: int) -> Progress:
        steps, every = self.schedule.steps, self.plan.run.training.log_every
        curve = self.folder / CURVE if self.rank == 0 else None
        return Progress(self.plan.name, steps, every, self.meter, curve, start)

    def _end(self) -> None:
        self.store.wait()
        make_whole(self.engine, self.plan.objective)
        if self.average:
            self.average.copy_to(self.plan.objective)
        _keep_curve(self.plan.name, self.rank)

    def _summarise(self) -> None:
        """Write down how it went, before the checkpoint of the last step: going on from that does no step more."""
        summary = self.meter.summary() | {"steps": self.schedule.steps}
        if self.spikes:
            summary["rollbacks"] = self.spikes.rollbacks
        if self.rank == 0:
            write_json(self.folder / SUMMARY, summary)


def finish(name: str) -> None:
    """Forget the checkpoints of a run whose model is saved and whose stage is done; another process may train it."""
    shutil.rmtree(RUNS / name, ignore_errors=True)
    give_up(RUNS / name)


def candidate(name: str, step: int) -> Path:
    """Where the model lies that a run of that name has saved at a step."""
    return RUNS / name / CANDIDATES / f"{step:06d}"


def candidate_steps(steps: int, candidates: int) -> list[int]:
    """The steps, evenly spaced and before the last, after which a run of that many candidates saves its model."""
    return sorted({round(steps * number / candidates) for number in range(1, candidates)} - {0, steps})


def pairs_compared(run: Run) -> int:
    """The pairs of a rank that ITC compares at a time: of a batch, or of all of a step if their features are cached."""
    batches = run.training.accumulate if run.training.accumulate_features else 1
    return batches * run.training.batch_size * run.objective.captions_per_image


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


def _keep_curve(name: str, rank: int) -> None:
    if rank == 0:  # anew: what stands there may be a link into DVC's cache
        with atomic_path(CURVES / f"{name.replace('@', '_')}.csv") as curve:
            shutil.copyfile(RUNS / name / CURVE, curve)
