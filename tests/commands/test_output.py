"""What commands print for programs."""

import json
import subprocess
import sys
from pathlib import Path


def test_with_json_nothing_else_is_on_standard_output(model: Path, dataset: Path, tmp_path: Path):
    models = ["--captioner", model, "--filter", model, "--max-tokens", 7, "--workers", 1, "--json"]
    command = [sys.executable, "-m", "blip", "capfilt", dataset, tmp_path / "cleaned", *models]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["images"] == 3
    assert "capfilt  shard 1/1" in done.stderr
