"""A training run of a few steps, for tests that kill it: `python -m tests.training.tiny_run FOLDER STEPS [KILL_AT]`.

Behind KILL_AT may stand the number of ranks and changes of the settings as JSON: `{"training": {"zero_stage": 2}}`.
"""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from blip.atomic import write_json
from blip.config import Compute, Training, load_settings
from blip.data.loader import Batch, PairLoader
from blip.data.pairs import Caption, PairsDataset, PairsWriter, Sample
from blip.model.batch import PairBatch
from blip.model.blip import BlipNetwork
from blip.model.checkpoints import ModelCard, save_model
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.training.collate import PairCollate
from blip.training.loop import Plan, train
from tests import tiny

SETTINGS = load_settings(Path(__file__).parents[2] / "params.yaml")


def write_dataset(folder: Path, samples: int = 40) -> None:
    """Noise pictures with two-word captions, four shards."""
    import cv2

    random = np.random.default_rng(0)
    with PairsWriter(folder, samples_per_shard=10, parents=[], parameters={}) as writer:
        for number in range(samples):
            image = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            text = f"{tiny.WORDS[number % 5]} {tiny.WORDS[number // 5 % 5]}"
            captions = (Caption(text, "human"), Caption(f"the {text}", "human"))
            media = cv2.imencode(".png", image)[1].tobytes()
            writer.add(Sample(f"s{number:03d}", media, "png", captions, width=40, height=40))


def plan(
    steps: int,
    kill_at: int = 0,
    ranks: int = 1,
    zero_stage: int = 1,
    batch_size: int = 8,
    workers: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> Plan:
    """The run; it kills itself with SIGKILL after step `kill_at`, or asks itself to stop before -`kill_at`."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    rank, changes = int(os.environ.get("RANK", "0")), changes or {}
    objective = make_objective(changes.get("objective", {}))
    objective.register_forward_hook(losses_noted(Path(f"losses{rank}.txt")))
    training = SETTINGS.pretrain.training.model_copy(
        update={
            "batch_size": batch_size,
            "ranks": ranks,
            "checkpoint_every": 3,
            "log_every": 1,
            "zero_stage": zero_stage,
            "workers": workers,
            **changes.get("training", {}),
        }
    )
    optimiser = SETTINGS.pretrain.optimiser.model_copy(update=changes.get("optimiser", {}))
    run = SETTINGS.pretrain.model_copy(update={"steps": steps, "training": training, "optimiser": optimiser})

    def log(step: int, means: dict[str, float]) -> None:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == -kill_at:
            os.kill(os.getpid(), signal.SIGTERM)

    identity = {"steps": steps} | ({} if training.lanes else {"ranks": ranks})
    loader, collate = make_loader(training, rank, ranks), keys_noted(Path(f"keys{rank}.txt"))
    return Plan("tiny", objective, loader, collate, run, Compute(dtype="float32"), identity, log)


def make_objective(changes: Mapping[str, Any]) -> PairObjective:
    """All three losses of a tiny network."""
    tokens = tiny.tokenizer().special_tokens
    return PairObjective(tiny.network(), ObjectiveConfig(**{"queue": 24, **changes}), tokens)


def make_loader(training: Training, rank: int, ranks: int) -> PairLoader:
    """Of the dataset in this folder."""
    return PairLoader(
        [(PairsDataset.open(Path("data")), frozenset())],
        batch_size=training.batch_size,
        lanes=training.lanes,
        accumulate=training.accumulate,
        workers=training.workers,
        image_size=32,
        seed=3,
        rank=rank,
        world=ranks,
        shuffle_buffer=16,
    )


def keys_noted(file: Path) -> Callable[[Batch], PairBatch]:
    """Collation that writes down the samples of every batch."""
    collate = PairCollate(tiny.tokenizer(), 12)

    def keep_keys(batch: Batch) -> PairBatch:
        with file.open("a") as handle:
            print(batch.epoch, batch.index, *(sample.key for sample in batch.samples), file=handle)
        return collate(batch)

    return keep_keys


def losses_noted(file: Path) -> Callable[..., None]:
    """A hook that writes down the losses of every forward."""

    def keep_losses(module: torch.nn.Module, given: Any, losses: dict[str, torch.Tensor]) -> None:
        with file.open("a") as handle:
            print(*(loss.item() for loss in losses.values()), file=handle)

    return keep_losses


def main() -> None:
    """Train in FOLDER, save the model, and write the final weights' sum of absolute values and digest."""
    folder, steps, *rest = sys.argv[1:]
    kill_at, ranks, changes = (rest + ["0", "1", "{}"][len(rest) :])[:3]
    os.chdir(folder)
    planned = plan(int(steps), int(kill_at), int(ranks), changes=json.loads(changes))
    torch.manual_seed(5)
    train(planned)
    with _whole(planned):
        weights = torch.cat([p.detach().flatten() for p in planned.objective.parameters()]).cpu()
        if os.environ.get("RANK", "0") == "0":
            network = cast(BlipNetwork, planned.objective.network)
            save_model(network, tiny.tokenizer(), Path("model"), ModelCard())
            digest = hashlib.sha256(weights.numpy().tobytes()).hexdigest()
            write_json(Path("final.json"), {"sum": weights.double().abs().sum().item(), "sha256": digest})


def _whole(planned: Plan) -> AbstractContextManager[None]:
    """All weights on every rank, which they are not with ZeRO 3."""
    if planned.run.training.zero_stage < 3:
        return nullcontext()
    from deepspeed.runtime.zero.partition_parameters import GatheredParameters

    return GatheredParameters(list(planned.objective.parameters()))


if __name__ == "__main__":
    main()
