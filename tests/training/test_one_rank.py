"""Gradients that stay where they are move the weights as DeepSpeed's own way does, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blip.training.launch.store import rank_and_world
from tests.ports import free_port
from tests.training.tiny_run import write_dataset

ROOT = Path(__file__).parents[2]
RUN = """
import hashlib, json, sys
import torch
from blip.training import engine, one_rank
from tests.training.telemetry_run import SETTINGS, Towers, rows

def weights(name, clip, accumulate):
    changes = {"batch_size": 8 // accumulate, "accumulate": accumulate, "zero_stage": 1}
    training = SETTINGS.pretrain.training.model_copy(update=changes)
    how = SETTINGS.pretrain.optimiser.model_copy(update={"name": name, "clip": clip, "vision_lr": 1.0})
    made = engine.build_engine(Towers(), training, how)
    for step in range(4):
        for part in rows(step).chunk(accumulate):
            made.backward(made(part)["loss"])
            made.step()
    flat = torch.cat([p.detach().flatten() for p in made.module.parameters()])
    return hashlib.sha256(flat.numpy().tobytes()).hexdigest()

ways = [(name, clip, a) for name in ("adamw", "muon") for clip in (0.0, 0.1) for a in (1, 2)]
ours = [weights(*way) for way in ways]
one_rank.gradients_stay = lambda stage: False
print(json.dumps({"ours": ours, "theirs": [weights(*way) for way in ways]}))
"""


def test_weights_are_the_same_with_and_without_clipping_and_accumulation() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TORCHDYNAMO_DISABLE": "1", "DS_ACCELERATOR": "cpu"}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ours"] == found["theirs"]
    assert len(set(found["ours"])) >= 4, "clipping and the optimiser change the weights"


@pytest.mark.slow
def test_what_a_launcher_has_left_of_one_rank_changes_nothing(tmp_path: Path) -> None:
    met = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    left = [{}, {"RANK": "0"}, {"RANK": "0", "WORLD_SIZE": "1"}, {"RANK": "0", "WORLD_SIZE": "1", **met}]
    weights = [weights_after_training(tmp_path / str(number), more) for number, more in enumerate(left)]
    assert len(set(weights)) == 1


def weights_after_training(folder: Path, left: dict[str, str]) -> str:
    """The digest of the weights after a few steps in an environment with what was left there."""
    folder.mkdir()
    write_dataset(folder / "data")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TORCHDYNAMO_DISABLE": "1"}
    command = [sys.executable, "-m", "tests.training.tiny_run", str(folder), "3"]
    done = subprocess.run(
        command, env=environment | left, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "final.json").read_text())["sha256"]


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "3"}, (0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "1"}, (0, 1)),
        ({"WORLD_SIZE": "4"}, (0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "4"}, (3, 4)),
    ],
)
def test_a_rank_without_others_is_alone(
    left: dict[str, str], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert rank_and_world() == expected
