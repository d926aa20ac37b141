"""A run in one process that hangs ends itself, and says where."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.tiny_run import write_dataset

ROOT = Path(__file__).parents[2]
HANGING = """
from dataclasses import replace
from blip.training.loop import train
from tests.training.drill_run import with_fault
from tests.training.tiny_run import plan
train(with_fault(replace(plan(6), patience=(5.0, 120.0)), "0:4:sleep"))
"""


@pytest.mark.slow
def test_a_step_that_takes_too_long_ends_the_process_with_its_stacks(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TORCHDYNAMO_DISABLE": "1", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-c", HANGING]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    assert "Timeout (0:00:05)!" in done.stderr and "most recent call first" in done.stderr
    assert "in collate" in done.stderr and "in train" in done.stderr
    assert (tmp_path / "fault").exists()
