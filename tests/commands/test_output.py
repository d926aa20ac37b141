"""What commands print for programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_a_character_is_shown_another(pictures: Path, tmp_path: Path, encoding: str):
    (pictures / "red apple.png").rename(pictures / "\u7ea2 apple.png")
    command = [
        sys.executable,
        "-m",
        "blip",
        "ingest",
        pictures,
        "--out",
        tmp_path / "pairs",
        "--origin",
        "web",
    ]
    poor = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=poor)
    assert done.returncode == 0, done.stderr
    assert "?" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "settings",
        "settings --json",
        "inspect {dataset}",
        "evaluate retrieval {dataset} --model {model} --device cpu",
    ],
)
def test_a_reader_that_has_seen_enough_is_no_failure(dataset: Path, model: Path, command: str):
    words = [word.format(dataset=dataset, model=model) for word in command.split()]
    reading, writing = os.pipe()
    os.close(reading)
    started = [sys.executable, "-m", "blip", *words]
    done = subprocess.run(started, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    os.close(writing)
    assert done.returncode == 0, done.stderr
    assert "BrokenPipe" not in done.stderr
