"""What commands print for programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_with_json_nothing_else_is_on_standard_output(model: Path, dataset: Path, tmp_path: Path):
    models = ["--captioner", model, "--filter", model, "--max-tokens", 7, "--workers", 1, "--json"]
    command = [sys.executable, "-m", "blip", "capfilt", dataset, tmp_path / "cleaned", *models]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["images"] == 3
    assert "capfilt  shard 1/1" in done.stderr


@pytest.mark.parametrize("as_json", [False, True], ids=["for people", "for programs"])
def test_a_file_name_that_is_not_utf8_is_shown(model: Path, pictures: Path, as_json: bool):
    named = pictures / os.fsdecode(b"caf\xe9.png")
    (pictures / "red apple.png").rename(named)
    command = [sys.executable, "-m", "blip", "search", pictures, "red", "--model", model, "--device", "cpu"]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    asked = [*map(str, command), *(["--json"] if as_json else [])]
    done = subprocess.run(asked, capture_output=True, encoding="utf-8", check=True, env=strict)
    if as_json:
        assert str(named) in [one["image"] for one in json.loads(done.stdout)]
    else:
        assert f"{pictures}/caf\\udce9.png" in done.stdout
