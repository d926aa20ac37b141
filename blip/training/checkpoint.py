"""Checkpoints of a run: complete or not there, the newest few kept, those of other settings kept out of the way.

    store = CheckpointStore(Path("runs/pretrain"), identity, keep=2)
    place = store.restore(engine)                 # None: there is nothing to go on from
    store.save(engine, step, {"loader": ...})

runs/pretrain/step-000200/model.safetensors   weights, momentum twin, queue: what all ranks have alike
                          rank0.safetensors   a rank's share of the optimiser's state, and its random state
                          rank0.json          sizes and digests of what the rank wrote
                          complete            written last: all files with digests, where the run stands, whose it is

Nothing in them is a pickle, and nothing says how many ranks go on: see `blip.training.fragments`. All ranks and nodes
must see one folder.
"""

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from blip.atomic import flush_directory, write_json
from blip.errors import BlipError
from blip.rereading import read_again
from blip.training.fragments import own_state, restore, whole_state
from blip.training.owner import COMPLETE, DAMAGED, claim, fingerprint
from blip.training.random_state import random_state, restore_random_state
from blip.training.tensors import Stored, Written, damage, write_tensors

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

MODEL = "model.safetensors"
SMOOTHING = 0.9  # of the loss that tells the best checkpoint, from one logged mean to the next
LONGEST_WAIT = 1800.0  # seconds that rank 0 gives the others' writing

Value = TypeVar("Value")


class CheckpointStore:
    """The checkpoints of one run under one folder.

    Args:
        directory: where they lie; those of another run are moved out of it.
        identity: what the run is made of (settings, data); a checkpoint of another one is never resumed.
        keep: how many complete checkpoints stay.
        keep_best: whether the one with the lowest smoothed loss stays beside them.
        unset: names of what in the identity is as if there were no such setting (`blip.training.owner`).
        behind: write in a thread, from a copy of the state in the host's memory, while training goes on.
    """

    def __init__(
        self,
        directory: Path,
        identity: Mapping[str, Any],
        keep: int,
        rank: int = 0,
        world: int = 1,
        *,
        keep_best: bool = False,
        behind: bool = False,
        unset: Set[str] = frozenset(),
    ) -> None:
        self.directory, self.keep, self.rank, self.world = directory, keep, rank, world
        self.keep_best, self.behind = keep_best, behind
        self.fingerprint = fingerprint(identity)
        self.loss: float | None = None  # smoothed
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        if rank == 0:
            claim(directory, identity, unset)

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        complete = self._complete()
        return complete[-1] if complete else None

    def best(self) -> Path | None:
        """The complete checkpoint with the lowest smoothed loss; None where no loss was noted."""
        known: dict[Path, float] = {}
        for path in self._complete():
            with suppress(BlipError):  # a damaged one is no best
                if (loss := _marker(path)["loss"]) is not None:
                    known[path] = loss
        return min(known, key=lambda path: known[path]) if known else None

    def note(self, loss: float) -> None:
        """Take a logged loss into the smoothed one, on rank 0."""
        self.loss = loss if self.loss is None else SMOOTHING * self.loss + (1 - SMOOTHING) * loss

    def save(self, engine: "DeepSpeedEngine", step: int, state: Mapping[str, Any]) -> None:
        """Save all ranks; the marker comes last, so that a checkpoint cut short is never taken for one.

        Args:
            state: JSON values, equal on all ranks.

        Raises:
            BlipError: the disk is full or not writable. Earlier checkpoints stay as they are.
        """
        self.wait()
        target = self.directory / _name(step)
        self._all_ranks(None, lambda: self._begin(target))
        files = {f"rank{self.rank}.safetensors": own_state(engine) | random_state(_device())}
        if self.rank == 0:
            files[MODEL] = whole_state(engine)
        own = {"step": step, "world": self.world, "loss": self.loss, "fingerprint": self.fingerprint}
        marker = {**own, **state}
        if self.behind:
            copies = {name: _copies(tensors) for name, tensors in files.items()}
            self._thread = threading.Thread(target=self._behind, args=(target, copies, marker), daemon=True)
            self._thread.start()
            return
        self._all_ranks(target, lambda: self._write(target, files))
        self._all_ranks(target, lambda: self._finish(target, marker))
        self._prune()

    def check(self) -> None:
        """Raise BlipError if a checkpoint could not be written behind the training."""
        if self._error is not None:
            raise self._failed(self._error) from self._error

    def wait(self) -> None:
        """Until no checkpoint is being written any more. All ranks call it; raises BlipError if one failed."""
        if not self.behind:
            return
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._all_ranks(None, self.check)

    def usable(self) -> Path | None:
        """The newest checkpoint that is as this run wrote it. Others are said and put aside. All ranks call it.

        Raises:
            BlipError: one cannot be read, so that nobody knows whether it is as it was written.
        """
        self.wait()
        while (step := self._newest_step()) >= 0:
            path = self.directory / _name(step)
            found = self._read(partial(self._damage, path))
            if found:
                _warn(f"checkpoint {path}: {found}; the one before it is used")
            if _all_agree(not found):
                return path
            if self.rank == 0:
                (path / COMPLETE).rename(path / DAMAGED)
            _barrier()
        return None

    def restore(self, engine: "DeepSpeedEngine", seed: int = 0) -> dict[str, Any] | None:
        """Put the newest usable checkpoint into the engine and the random generators, and remove broken-off ones.

        A rank goes on with the random state that the rank of its number had; one that there was not is seeded from
        `seed`, the step and its number.

        Returns:
            the saved state with ``step`` and ``checkpoint``, its folder; None where there is none.

        Raises:
            BlipError: one cannot be read, or all there are are damaged.
        """
        checkpoint = self.usable()
        if self.rank == 0:
            self._tidy()
        if checkpoint is None:
            self._refuse_to_begin_again()
            return None
        marker = self._read(partial(_marker, checkpoint))
        stored = Stored([checkpoint / name for name in marker["files"] if name.endswith(".safetensors")])
        restore(engine, stored)
        own = checkpoint / f"rank{self.rank}.safetensors"
        random = Stored([own]) if own.is_file() else None
        restore_random_state(_device(), random, f"{seed}/{marker['step']}/{self.rank}")
        self.loss = marker["loss"]
        _barrier()
        return {**marker, "checkpoint": checkpoint}

    def _begin(self, target: Path) -> None:
        """Rank 0: a folder for all ranks' files."""
        if self.rank:
            return
        _remove(target)
        target.mkdir(parents=True)
        flush_directory(self.directory)

    def _write(self, target: Path, files: Mapping[str, Mapping[str, Tensor]]) -> None:
        written = {name: asdict(write_tensors(target / name, tensors)) for name, tensors in files.items()}
        write_json(target / f"rank{self.rank}.json", written)

    def _finish(self, target: Path, marker: Mapping[str, Any]) -> None:
        """Rank 0: the marker, once the files of all ranks are on disk."""
        if self.rank:
            return
        files: dict[str, Any] = {}
        for rank in range(self.world):
            files |= json.loads(_awaited(target / f"rank{rank}.json").read_text(encoding="utf-8"))
        write_json(target / COMPLETE, {**marker, "files": files})

    def _behind(self, target: Path, files: dict[str, dict[str, Tensor]], marker: dict[str, Any]) -> None:
        try:
            self._write(target, files)
            files.clear()
            self._finish(target, marker)
            self._prune()
        except Exception as error:  # is raised where the training notices it
            self._error = error

    def _all_ranks(self, target: Path | None, do: Callable[[], None]) -> None:
        """Do something on every rank; all raise BlipError if one could not."""
        problem: Exception | None = None
        try:
            do()
        except (OSError, BlipError) as error:
            problem = error
        if _all_agree(problem is None):
            return
        if self.rank == 0 and target is not None and not (target / COMPLETE).is_file():
            shutil.rmtree(target, ignore_errors=True)
        if isinstance(problem, BlipError):
            raise problem
        raise self._failed(problem) from problem

    def _failed(self, error: Exception | None) -> BlipError:
        if self.latest():
            way = "The one before it is good; make room and run the stage again to continue from there"
        else:
            way = "None is complete yet; make room and run the stage again, which begins at step 0"
        why = error or "another rank failed"
        return BlipError(f"a checkpoint in {self.directory} could not be written: {why}. {way}")

    def _read(self, read: Callable[[], Value]) -> Value:
        """What every rank reads of the checkpoints; all raise BlipError if one cannot."""
        found, problem = list[Value](), None
        try:
            found.append(read_again(read))
        except OSError as error:
            problem = error
        if not _all_agree(bool(found)):
            raise BlipError(
                f"the checkpoints in {self.directory} cannot be read: {problem or 'another rank failed'}. They stay as "
                "they are, for they may be good; when their disk can be read, run the stage again"
            ) from problem
        return found[0]

    def _refuse_to_begin_again(self) -> None:
        """Raise BlipError, on all ranks, where steps were taken and none of their checkpoints can be used."""
        damaged = self._read(partial(self._marked, DAMAGED))
        if not _all_agree(not damaged):
            names = ", ".join(path.name for path in damaged)
            raise BlipError(
                f"all checkpoints in {self.directory} are damaged ({names}), and the run would begin again at step 0. "
                f"If that is meant, remove them; if their disk was at fault, rename the file {DAMAGED!r} in each to "
                f"{COMPLETE!r}. Then run the stage again"
            )

    def _newest_step(self) -> int:
        """As rank 0 sees it; -1 where there is none."""
        latest = self._read(self.latest)
        step = torch.tensor(_step(latest) if latest else -1, device=_device())
        if self.world > 1:
            dist.broadcast(step, src=0)
        return int(step)

    def _damage(self, path: Path) -> str | None:
        """Why a checkpoint cannot be used, as far as its marker and this rank's share of its files tell."""
        try:
            marker = _marker(path)
        except BlipError as error:
            return str(error)
        if marker["fingerprint"] != self.fingerprint:
            return "a run with other settings or data wrote it"
        files = list(marker["files"].items())[self.rank :: self.world]
        found = (damage(path / name, Written(**written)) for name, written in files)
        return next((problem for problem in found if problem), None)

    def _tidy(self) -> None:
        """Remove what was broken off; what only begins like a checkpoint, as a copy does, is said and left alone."""
        for path in self.directory.glob("step-*"):
            if not _is_named_so(path):
                _warn(f"{path} is passed over: a checkpoint is called step- and its number")
        self._remove_but(self._complete)

    def _complete(self) -> list[Path]:
        return self._marked(COMPLETE)

    def _marked(self, marker: str) -> list[Path]:
        found = (path.parent for path in self.directory.glob(f"step-*/{marker}"))
        return sorted(filter(_is_named_so, found), key=_step)

    def _prune(self) -> None:
        """Rank 0: remove what need not be kept any longer, now that a newer one is complete."""
        if self.rank == 0:
            self._remove_but(self._needed)

    def _needed(self) -> list[Path]:
        best = self.best() if self.keep_best else None
        return [*self._complete()[-self.keep :], *([best] if best else [])]

    def _remove_but(self, find: Callable[[], list[Path]]) -> None:
        """Remove all but what is found and the damaged ones; what cannot be done now is said, and tried next time."""
        try:
            kept = find()
        except OSError as error:
            _warn(f"old checkpoints in {self.directory} stay for now, as one cannot be read: {error}")
            return
        for path in filter(_is_named_so, self.directory.glob("step-*")):
            try:
                if path not in kept and not (path / DAMAGED).is_file():
                    _remove(path)
            except OSError as error:
                _warn(f"old checkpoint {path} cannot be removed now: {error}")


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def _is_named_so(folder: Path) -> bool:
    """Whether a folder is called as a checkpoint is; a copy beside it is not."""
    return folder.name.removeprefix("step-").isdecimal() and folder.name == _name(_step(folder))


def _marker(checkpoint: Path) -> dict[str, Any]:
    """What the marker says.

    Raises:
        BlipError: it is damaged, or that of another checkpoint.
        OSError: it cannot be read.
    """
    try:
        marker = json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8"))
        whole = MODEL in marker["files"] and all(Written(**values) for values in marker["files"].values())
        step, *_ = (marker[name] for name in ("step", "world", "loss", "fingerprint"))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BlipError(f"its file {COMPLETE!r} is damaged ({type(error).__name__}: {error})") from error
    if not whole or step != _step(checkpoint):
        raise BlipError(f"its file {COMPLETE!r} is of another one (step {step})")
    return marker


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


def _awaited(path: Path) -> Path:
    end = time.monotonic() + LONGEST_WAIT
    while not path.is_file():
        if time.monotonic() > end:
            raise BlipError(
                f"{path} did not appear within {LONGEST_WAIT:.0f} s: the rank that writes it hangs"
            )
        time.sleep(0.02)
    return path


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _remove(checkpoint: Path) -> None:
    """The marker goes first: what is left when this is cut short is no checkpoint."""
    (checkpoint / COMPLETE).unlink(missing_ok=True)
    if checkpoint.exists():
        shutil.rmtree(checkpoint)


def _all_agree(well: bool) -> bool:
    if not (dist.is_available() and dist.is_initialized()):
        return well
    verdict = torch.tensor(int(well), device=_device())
    dist.all_reduce(verdict, dist.ReduceOp.MIN)
    return bool(verdict)


def _barrier() -> None:
    _all_agree(True)


def _device() -> torch.device:
    """Where the process group wants its tensors."""
    if dist.is_available() and dist.is_initialized() and dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
