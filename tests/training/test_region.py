"""A run computes in the type of its settings, whatever DeepSpeed thinks of an autocast that it did not open."""

from pathlib import Path

import pytest

from tests.training.scripts import said_by
from tests.training.tiny_run import write_dataset

SCRIPT = """
import os, sys, torch
from dataclasses import replace
from blip.config import Compute
from blip.training.loop import train
from tests.training.tiny_run import plan

asked = torch.is_autocast_enabled
torch.is_autocast_enabled = lambda device="cpu": asked(device)  # without a device it is the GPU's: here the CPU is that
os.chdir(sys.argv[1])
changes = {"training": {"accumulate": 2, "accumulate_features": sys.argv[3] == "cached"}}
planned = plan(2, zero_stage=int(sys.argv[2]), batch_size=4, changes=changes)
planned = replace(planned, compute=Compute(dtype="bfloat16"))
block = planned.objective.network.vision.blocks[0]
seen = []
block.qkv.register_forward_hook(lambda part, given, made: seen.append(made.dtype))
train(planned)
print(len(seen), *sorted({str(dtype) for dtype in seen}))
"""


@pytest.mark.parametrize(("zero_stage", "features"), [("0", "each"), ("1", "cached"), ("3", "each")])
def test_forwards_compute_in_bfloat16(tmp_path: Path, zero_stage: str, features: str) -> None:
    write_dataset(tmp_path / "data")
    forwards = 8 if features == "cached" else 4
    assert said_by(SCRIPT, str(tmp_path), zero_stage, features)[-1] == f"{forwards} torch.bfloat16"
