"""Running a test's module where compilation is on, which other tests switch off."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_compiling(module: str, cache: Path) -> int:
    """Run `module` in a process of its own and return the number of graphs that it prints at the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    environment.pop("TORCHDYNAMO_DISABLE", None)
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])
