"""A training run of a few steps, for tests that kill it: `python -m tests.training.tiny_run FOLDER STEPS [KILL_AT]`."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from blip.config import Compute, load_settings
from blip.data.loader import PairLoader
from blip.data.pairs import Caption, PairsDataset, PairsWriter, Sample
from blip.model.objectives import ObjectiveConfig, PairObjective, SpecialTokens
from blip.training.batches import PairCollate
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
    steps: int, kill_at: int = 0, ranks: int = 1, zero_stage: int = 1, batch_size: int = 8, workers: int = 0
) -> Plan:
    """The run; it kills itself with SIGKILL after step `kill_at`, or asks itself to stop before -`kill_at`."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    rank = int(os.environ.get("RANK", "0"))
    tokenizer = tiny.tokenizer()
    t = SpecialTokens(tokenizer.pad, tokenizer.cls, tokenizer.sep, tokenizer.bos, tokenizer.enc)
    objective = PairObjective(tiny.network(), ObjectiveConfig(queue=24), t)
    loader = PairLoader(
        [(PairsDataset.open(Path("data")), frozenset())],
        batch_size=batch_size,
        image_size=32,
        seed=3,
        rank=rank,
        world=ranks,
        shuffle_buffer=16,
        workers=workers,
    )
    training = SETTINGS.pretrain.training.model_copy(
        update={
            "batch_size": batch_size,
            "ranks": ranks,
            "checkpoint_every": 3,
            "log_every": 1,
            "zero_stage": zero_stage,
        }
    )
    run = SETTINGS.pretrain.model_copy(update={"steps": steps, "training": training})

    def log(step: int, means: dict[str, float]) -> None:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == -kill_at:
            os.kill(os.getpid(), signal.SIGTERM)

    identity = {"steps": steps, "ranks": ranks}
    return Plan(
        "tiny", objective, loader, PairCollate(tokenizer, 12), run, Compute(dtype="float32"), identity, log
    )


def main() -> None:
    """Train in FOLDER and write the final weights' sum of absolute values, exactly, as a fingerprint."""
    folder, steps, *rest = sys.argv[1:]
    kill_at, ranks = (rest + ["0", "1"][len(rest) :])[:2]
    os.chdir(folder)
    planned = plan(int(steps), int(kill_at), int(ranks))
    torch.manual_seed(5)
    train(planned)
    weights = torch.cat([p.detach().double().flatten() for p in planned.objective.parameters()])
    if os.environ.get("RANK", "0") == "0":
        Path("final.json").write_text(json.dumps({"sum": weights.abs().sum().item()}))


if __name__ == "__main__":
    main()
