"""The memory that `blip doctor --recipe` reckons with, beside what a training process takes on this CPU.

    python benchmarks/memory.py                                         # tiny and small: two minutes on one core
    python benchmarks/memory.py --sizes base --batches 4 8 16           # needs 9 GiB

Every row is a process of its own that builds the DeepSpeed engine and takes two steps (the first makes the optimiser's
state). Measured is the most it held, less what it held once all was imported. The C library gives freed blocks back at
once there, so that this is what tensors need; the last column is what the process holds where freed blocks are kept, as
our training does for speed: holes between them come on top, on a CPU. Prints Markdown.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch

from blip.config import Objective, Optimiser, Run, Training
from blip.data.text import SpecialTokens
from blip.doctor.activations import Texts
from blip.doctor.footprint import footprint
from blip.model.batch import PairBatch
from blip.model.blip import BlipConfig, BlipNetwork
from blip.model.objectives import ObjectiveConfig, PairObjective
from blip.model.precision import autocast
from blip.model.text import TextConfig
from blip.model.vision import VisionConfig
from blip.training.engine import build_engine, quiet, start_process_group
from blip.training.memory import keep_freed_memory

TOKENS = SpecialTokens(pad=0, sep=102, decode=30522, encode=30523)
SIZES = {"tiny": (128, 4, 4), "small": (384, 12, 6), "base": (768, 12, 12)}  # width, layers, heads
QUEUE, WORDS = 57600, 16
GIVEN_BACK = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_MMAP_MAX_": "1000000",
}
GIB = 2**30


def objective_of(row: dict[str, Any]) -> PairObjective:
    """The published objective on towers of one width."""
    width, layers, heads = SIZES[row["size"]]
    text = TextConfig(width=width, layers=layers, heads=heads, context_width=width)
    network = BlipNetwork(BlipConfig(VisionConfig(row["pixels"], 16, width, layers, heads), text))
    return PairObjective(network, ObjectiveConfig(queue=QUEUE), TOKENS)


def run_of(row: dict[str, Any]) -> Run:
    """The run that is reckoned and measured."""
    training = Training(batch_size=row["batch"], activation_checkpointing=row["checkpointing"])
    optimiser = Optimiser(name=row.get("optimiser", "adamw"), lr=1e-5, adam_lr=1e-5)
    return Run(
        data=["noise"], steps=2, training=training, optimiser=optimiser, objective=Objective(queue=QUEUE)
    )


def pairs(row: dict[str, Any]) -> PairBatch:
    """Noise with texts of equal length."""
    batch, side = row["batch"], row["pixels"]
    ids = torch.randint(1000, 30000, (batch, WORDS))
    group = torch.arange(batch)[:, None].expand(-1, 2)
    return PairBatch(torch.randn(batch, 3, side, side), ids, torch.ones_like(ids), group)


def take_steps(row: dict[str, Any]) -> int:
    """Two steps; the bytes that this process came to hold for them."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if row["kept"]:
        keep_freed_memory()
    with quiet():
        import deepspeed  # noqa: F401

        start_process_group()
    before, run = resident("VmRSS"), run_of(row)
    engine = build_engine(objective_of(row).train(), run.training, run.optimiser)
    batch = pairs(row)
    for _ in range(2):
        with autocast("cpu", getattr(torch, row["dtype"])):
            losses = engine(batch)
        engine.backward(losses["loss"])
        del losses
        engine.step()
    return resident("VmHWM") - before


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) * 1024 if found else 0


def measured(row: dict[str, Any], kept: bool) -> float:
    """GiB of a process that takes the steps."""
    command = [sys.executable, __file__, "--one", json.dumps(row | {"kept": kept})]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({} if kept else GIVEN_BACK)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1]) / GIB


def reckoned(row: dict[str, Any]) -> float:
    """GiB by formula."""
    with torch.device("meta"):
        objective = objective_of(row)
    texts = Texts(WORDS, WORDS)
    return footprint(objective, run_of(row), texts, "cpu", getattr(torch, row["dtype"])).peak / GIB


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", choices=SIZES, nargs="+", default=["tiny", "small"])
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.one:
        print(take_steps(json.loads(settings.one)))
        return
    print("| size | batch | pixels | type | reckoned | measured | ratio | freed memory kept |")
    print("|---|---|---|---|---|---|---|---|")
    for size, dtype, batch in product(settings.sizes, settings.dtypes, settings.batches):
        row = {"size": size, "batch": batch, "dtype": dtype, "pixels": settings.pixels}
        row |= {"checkpointing": settings.checkpointing}
        here, there, kept = reckoned(row), measured(row, False), measured(row, True)
        values = f"{here:.2f} GiB | {there:.2f} GiB | {here / there:.2f} | {kept:.2f} GiB"
        print(f"| {size} | {batch} | {settings.pixels} | {dtype} | {values} |", flush=True)


if __name__ == "__main__":
    main()
