"""Memory of the trainer over many steps: whether anything of it grows with them.

    python benchmarks/trainer_memory.py [--steps 2000] [--warm-up 200]

One process trains a model of two narrow layers on small pictures as a stage does: loader, DeepSpeed, norms, progress
line, curve, and an MLflow store that gets every line. Printed is what is resident after each tenth of the steps, and
the growth after the warm-up, of which less than 1% counts as none.
"""

import argparse
import os
import string
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch

from blip.config import Compute, Objective, Optimiser, Run, Training
from blip.data.loader import PairLoader
from blip.data.pairs import Caption, PairsDataset, PairsWriter, Sample
from blip.data.text import SPECIALS, Tokenizer
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig
from blip.tracking import store
from blip.tracking.runs import StageRun
from blip.training.collate import PairCollate
from blip.training.flops import pair_flops
from blip.training.loop import Plan, train
from blip.training.memory import keep_freed_memory

PIXELS, SAMPLES, BATCH, LOG_EVERY, CHECKPOINT_EVERY = 32, 400, 8, 10, 500
BEARABLE = 0.01


def write_dataset(folder: Path) -> None:
    """Noise with captions of a few words."""
    random = np.random.default_rng(0)
    with PairsWriter(folder, samples_per_shard=100, parents=[], parameters={}) as writer:
        for number in range(SAMPLES):
            pixels = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            media = cv2.imencode(".jpg", pixels)[1].tobytes()
            caption = Caption(" ".join(random.choice(list("abcdefgh"), number % 7 + 1)), "human")
            writer.add(Sample(f"s{number:03d}", media, "jpg", (caption,), width=40, height=40))


def plan(steps: int, memory: list[tuple[int, int]], run: StageRun) -> Plan:
    """The training run; it notes what is resident at every line of its log."""
    letters = string.ascii_lowercase
    tokenizer = Tokenizer([*SPECIALS, *letters, *("##" + letter for letter in letters)])
    vision = VisionConfig(PIXELS, 8, 64, 2, 4)
    config = BlipConfig(vision, TextConfig(len(tokenizer), 64, 2, 4, context_width=64), projection=32)
    objective = PairObjective(BlipNetwork(config), ObjectiveConfig(queue=64), tokenizer.special_tokens)
    training = Training(
        batch_size=BATCH, log_every=LOG_EVERY, checkpoint_every=CHECKPOINT_EVERY, shuffle_buffer=64
    )
    settings = Run(
        data=["noise"],
        steps=steps,
        training=training,
        optimiser=Optimiser(lr=1e-4, adam_lr=1e-4),
        objective=Objective(),
    )
    loader = PairLoader(
        [(PairsDataset.open("data"), frozenset())],
        batch_size=BATCH,
        image_size=PIXELS,
        seed=0,
        shuffle_buffer=64,
        randaugment=True,
    )

    def log(step: int, figures: dict[str, float]) -> None:
        run.log_metrics(figures, step)
        memory.append((step, resident_bytes()))

    collate = PairCollate(tokenizer, 12)
    flops = sum(pair_flops(config, 12).values())
    compute = Compute(dtype="float32")
    return Plan("memory", objective, loader, collate, settings, compute, {}, log, flops)


def resident_bytes() -> int:
    """What this process holds now."""
    return psutil.Process().memory_info().rss


def main() -> int:
    """Train, print the table, and fail where memory grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--warm-up", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    memory: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        write_dataset(Path("data"))
        client = store.client()
        run = StageRun(client, client.create_run(store.experiment(client, "memory")).info.run_id)
        train(plan(options.steps, memory, run))
    print("\n| step | resident, MB |\n|---|---|")
    for step, held in memory[:: max(len(memory) // 10, 1)]:
        print(f"| {step} | {held / 1e6:.1f} |")
    warm = next(held for step, held in memory if step >= options.warm_up)
    growth = memory[-1][1] / warm - 1
    print(f"\nfrom step {options.warm_up} to {options.steps}: {growth:+.2%}")
    return int(growth > BEARABLE)


if __name__ == "__main__":
    sys.exit(main())
