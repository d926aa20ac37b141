"""Checkpoints of a run: complete or not there, the newest few kept, refused when they belong to other settings.

runs/pretrain/step-000200/   DeepSpeed's files (model, twin, queues, optimiser)
                 rank0.pt    random state and place in the data of a rank
                 complete    written last
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from blip.atomic import atomic_path, write_json
from blip.errors import BlipError

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

COMPLETE = "complete"


class CheckpointStore:
    """The checkpoints of one run under one folder.

    Args:
        directory: where they lie; it is emptied when it holds those of another run.
        fingerprint: what the run is made of (settings, data); a checkpoint of another one is never resumed.
        keep: how many complete checkpoints stay.
    """

    def __init__(self, directory: Path, fingerprint: str, keep: int, rank: int = 0) -> None:
        self.directory, self.keep, self.rank = directory, keep, rank
        owner = directory / "run.json"
        if rank == 0 and not (
            owner.is_file() and json.loads(owner.read_text())["fingerprint"] == fingerprint
        ):
            shutil.rmtree(directory, ignore_errors=True)
            write_json(owner, {"fingerprint": fingerprint})

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        complete = sorted(path.parent for path in self.directory.glob(f"step-*/{COMPLETE}"))
        return complete[-1] if complete else None

    def save(self, engine: "DeepSpeedEngine", step: int, state: Mapping[str, Any]) -> None:
        """Save all ranks; the marker comes last, so that a checkpoint cut short is never taken for one.

        Raises:
            BlipError: the disk is full or not writable. Earlier checkpoints stay as they are.
        """
        target = self.directory / f"step-{step:06d}"
        try:
            if self.rank == 0:
                shutil.rmtree(target, ignore_errors=True)
            torch.distributed.barrier()
            engine.save_checkpoint(str(self.directory), tag=target.name, save_latest=False)
            with atomic_path(target / f"rank{self.rank}.pt") as temporary:
                torch.save({**state, "random": torch.get_rng_state(), "step": step}, temporary)
            torch.distributed.barrier()
            if self.rank == 0:
                write_json(target / COMPLETE, {"step": step})
                self._prune()
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "write" not in str(error):
                raise
            shutil.rmtree(target, ignore_errors=True)
            raise BlipError(
                f"checkpoint {target} could not be written: {error}. The one before it is good; make room and "
                "run the stage again to continue from there"
            ) from error

    def load(self, engine: "DeepSpeedEngine", checkpoint: Path) -> dict[str, Any]:
        """Put a checkpoint into the engine and the random generator; returns the saved state with ``step``."""
        engine.load_checkpoint(str(self.directory), tag=checkpoint.name)
        state = torch.load(checkpoint / f"rank{self.rank}.pt", weights_only=True)
        torch.set_rng_state(state.pop("random"))
        return state

    def clear(self) -> None:
        """Remove the whole folder once the run's model is saved."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _prune(self) -> None:
        complete = sorted(path.parent for path in self.directory.glob(f"step-*/{COMPLETE}"))
        for old in complete[: -self.keep]:
            shutil.rmtree(old)
