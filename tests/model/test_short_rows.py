"""The GPU's kernel for short rows, interpreted on the CPU; where Triton is, which a CUDA build of torch brings."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("short_rows_run.py")


@pytest.mark.skipif(find_spec("triton") is None, reason="no Triton beside this build of torch")
def test_it_equals_a_loop_over_the_rows_and_so_do_its_gradients() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(SCRIPT.parents[2])}
    done = subprocess.run(
        [sys.executable, SCRIPT], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    errors = [float(line) for line in done.stdout.split()]
    assert len(errors) == 4 and max(errors) < 1e-5
