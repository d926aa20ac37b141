"""A project folder that was renamed, or copied beside itself, keeps its runs and its models."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

PARAMS = Path(__file__).parents[2] / "params.yaml"
REGISTER = """
import sys
from pathlib import Path
from blip.config import load_settings
from blip.tracking import registry
from blip.tracking.runs import stage_run
with stage_run("register", load_settings(Path(sys.argv[1]))) as run:
    run.log_artifact("models/vqa/config.json")
    registry.register("blip-vqa", Path("models/vqa"), run_id=run.run_id, figures={}, how={}, tags={}, task="answer")
    registry.promote("blip-vqa", 1)
"""
FIND = """
from blip.tracking import registry, store
client = store.client()
print(registry.resolve("models:/blip-vqa@champion"))
runs = client.search_runs([client.get_experiment_by_name("blip").experiment_id])
print(*(run.info.artifact_uri for run in runs))
print(*(file.path for run in runs for file in client.list_artifacts(run.info.run_id)))
"""


def run(folder: Path, script: str, *arguments: str) -> list[str]:
    """Lines that a script prints in a folder: a process of its own, as the store is opened once a process."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a registered model."""
    folder = tmp_path / "first place"
    (folder / "models/vqa").mkdir(parents=True)
    save_file({"weight": torch.ones(4)}, folder / "models/vqa/model.safetensors")
    (folder / "models/vqa/config.json").write_text("{}")
    run(folder, REGISTER, str(PARAMS))
    return folder


def test_a_renamed_project_finds_its_files(first: Path, tmp_path: Path) -> None:
    second = first.rename(tmp_path / "second 100%")
    model, uris, files = run(second, FIND)
    assert Path(model).is_relative_to(second) and Path(model).is_dir()
    assert "first" not in uris and "config.json" in files


def test_a_copy_writes_nothing_into_the_project_that_it_is_of(first: Path, tmp_path: Path) -> None:
    second = Path(shutil.copytree(first, tmp_path / "second"))
    before = sorted(path for path in first.rglob("*") if path.is_file())
    save_file({"weight": torch.zeros(4)}, second / "models/vqa/model.safetensors")
    run(second, REGISTER, str(PARAMS))
    assert sorted(path for path in first.rglob("*") if path.is_file()) == before
    assert Path(run(second, FIND)[0]).is_relative_to(second)
    assert Path(run(first, FIND)[0]).is_relative_to(first)
