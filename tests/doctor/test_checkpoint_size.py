"""The doctor reckons with the checkpoints that a run really writes."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from blip.config import Run
from blip.doctor.activations import Texts
from blip.doctor.footprint import footprint
from blip.doctor.inputs import disk
from tests.training.tiny_run import SETTINGS, make_objective, write_dataset

ROOT = Path(__file__).parents[2]


def reckoned(run: Run) -> float:
    """Bytes of one checkpoint of the tiny run, as the doctor says."""
    objective = make_objective({})
    held = footprint(objective, run, Texts(4, 8), "cpu", torch.float32)
    plan = SimpleNamespace(footprint=held, run=run, objective=objective)
    return disk(cast(Any, plan)).figures["checkpoint_gib"] * 2**30


@pytest.mark.parametrize(("stage", "average"), [(0, None), (1, 0.9), (3, None)])
def test_a_checkpoint_is_as_large_as_reckoned(tmp_path: Path, stage: int, average: float | None) -> None:
    changes = {"zero_stage": stage, "average": average}
    write_dataset(tmp_path / "data")
    command = [sys.executable, "-m", "tests.training.tiny_run", str(tmp_path), "3", "0", "1"]
    subprocess.run(
        [*command, json.dumps({"training": changes})], cwd=ROOT, capture_output=True, text=True, check=True
    )
    written = sum(path.stat().st_size for path in tmp_path.glob("runs/tiny/step-000003/*.safetensors"))
    training = SETTINGS.pretrain.training.model_copy(update={"batch_size": 8, **changes})
    run = SETTINGS.pretrain.model_copy(update={"training": training})
    assert reckoned(run) == pytest.approx(written, rel=0.05)
