"""The trainer and the bare step take turns over the same work."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blip.bench.step import batch_of, objective_of
from blip.bench.trainer import Overhead, _Turns, bare_step, plan_of
from blip.bench.workload import Setup

ROOT = Path(__file__).parents[2]
TINY = Setup("tiny", batch=2, image_size=32, dropout=0.0)


def test_the_command_measures_both_in_turns() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TORCHDYNAMO_DISABLE": "1"}
    environment = {k: v for k, v in environment.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    options = [
        "--size",
        "tiny",
        "--batch",
        "2",
        "--image-size",
        "32",
        "--repeats",
        "6",
        "--device",
        "cpu",
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "blip.cli", "bench", "trainer", *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert len(found["trainer"]) == len(found["bare"]) == 4
    assert len(found["logging"]) == 2
    assert min(*found["trainer"], *found["bare"]) > 0


def test_the_shares_are_medians_of_the_turns() -> None:
    found = Overhead(TINY, 1, [1.1, 2.4, 1.2], [1.0, 2.0, 1.0], [(1.7, 1.0), (3.0, 1.0)], "", "")
    assert found.of_step == pytest.approx(0.2)
    assert found.of_logging == pytest.approx(1.35)
    assert found.share == pytest.approx(0.2 + 1.15 / 50)


def test_the_bare_step_trains() -> None:
    batch = batch_of(TINY)
    step = bare_step(TINY, batch)
    torch.manual_seed(0)
    losses = [step()["loss"].item() for _ in range(3)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_said_to_be_compiled_is(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the trainer by its own switch, of the bare step by what it is made of."""
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    setup = replace(TINY, compiled=compiled)
    turns = _Turns(batch_of(setup), lambda: None, setup, time.perf_counter)
    assert plan_of(setup, turns, 3, 1, lambda step, figures: None).run.training.compile == compiled
    blocks = objective_of(setup).network.vision.blocks
    assert all((block._compiled_call_impl is not None) == compiled for block in blocks)
