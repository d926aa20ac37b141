"""Under DVC a stage runs again when settings that it reads change, in params.yaml, in the recipe in use or below it."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from flows.project import BINARIES, SETTINGS, changed_stages
from tests.flows.toy import ROOT, dvc, git


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the stage of dvc.yaml that writes the settings, one that reads two of them, and three recipes."""
    writing = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][SETTINGS]
    watched = [{"reports/watched.yaml": ["seed", "compute", "pretrain"]}]
    training = {"cmd": "echo trained | tee -a log > model", "params": watched, "outs": ["model"]}
    stages = {SETTINGS: writing, "pretrain": training}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    params = (ROOT / "params.yaml").read_text().replace("recipe: null", "recipe: top")
    (tmp_path / "params.yaml").write_text(params)
    (tmp_path / ".gitignore").write_text("/reports\n/model\n")
    (tmp_path / "infra/recipes").mkdir(parents=True)
    (tmp_path / "blip/config").mkdir(parents=True)  # the code that is run is that of this project
    (tmp_path / "blip/config/defaults.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{BINARIES}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write("low", "pretrain: {steps: 5}")
    write("top", "{extends: low, evaluate: {batch_size: 3}}")
    write("other", "{extends: low, pretrain: {steps: 7}}")
    shutil.copytree(ROOT / ".dvc", ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    git(tmp_path, "init", "--quiet")
    dvc(tmp_path, "repro")
    assert trainings() == 1
    return tmp_path


def write(recipe: str, text: str) -> None:
    Path(f"infra/recipes/{recipe}.yaml").write_text(text)


def trainings() -> int:
    return len(Path("log").read_text().splitlines())


def replace(old: str, new: str) -> None:
    text = Path("params.yaml").read_text()
    assert old in text
    Path("params.yaml").write_text(text.replace(old, new))


def other_recipe() -> None:
    write("other", "{extends: low, pretrain: {steps: 8}}")


def other_section_of_the_recipe() -> None:
    write("top", "{extends: low, evaluate: {batch_size: 4}}")


def other_section_of_params_yaml() -> None:
    replace("max_bad_fraction: 0.02", "max_bad_fraction: 0.03")


def how_it_is_computed_and_saved() -> None:
    replace("  threads: 1 ", "  threads: 2 ")
    replace("checkpoint_every: 200", "checkpoint_every: 100")


@pytest.mark.parametrize(
    "edit",
    [other_recipe, other_section_of_the_recipe, other_section_of_params_yaml, how_it_is_computed_and_saved],
    ids=lambda f: f.__name__,
)
def test_what_a_stage_does_not_read_does_not_run_it_again(project: Path, edit) -> None:
    edit()
    assert not changed_stages()
    dvc(project, "repro")
    assert trainings() == 1


def recipe_itself() -> None:
    write("top", "{extends: low, pretrain: {steps: 6}}")


def what_it_extends() -> None:
    write("low", "{seed: 9, pretrain: {steps: 5}}")


def another_recipe() -> None:
    replace("recipe: top", "recipe: other")


def params_yaml() -> None:
    replace("seed: 7", "seed: 8")


def what_it_is_computed_in() -> None:
    replace("dtype: auto", "dtype: bfloat16")


@pytest.mark.parametrize(
    "edit",
    [recipe_itself, what_it_extends, another_recipe, params_yaml, what_it_is_computed_in],
    ids=lambda f: f.__name__,
)
def test_what_it_reads_does(project: Path, edit) -> None:
    edit()
    dvc(project, "repro")
    assert trainings() == 2


def test_the_flow_sees_an_edit_of_the_recipe(project: Path) -> None:
    recipe_itself()
    assert changed_stages() == {"pretrain"}


INGEST = """
ingest:
  samples_per_shard: 40
  vocabulary: {size: 300}
  datasets: {human: {source: data/sample/human, kind: table, origin: human, role: train}}
"""


def test_an_edit_of_params_yaml_in_a_run_is_for_the_next_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage starts after the edit; DVC has recorded what stood there before."""
    Path("data").mkdir()
    Path("data/sample").symlink_to(ROOT / "data/sample")
    values = yaml.safe_load(Path("params.yaml").read_text()) | yaml.safe_load(INGEST)
    Path("params.yaml").write_text(yaml.safe_dump(values))
    graph = yaml.safe_load(Path("dvc.yaml").read_text())
    del graph["stages"]["pretrain"]  # which reads more than is ingested here
    graph["stages"]["ingest"] = {
        "cmd": [
            "sed -i -e 's/samples_per_shard: 40/samples_per_shard: 60/' -e 's/recipe: top/recipe: low/' params.yaml",
            "python -m blip stage ingest",
        ],
        "params": [{"reports/watched.yaml": ["ingest"]}],
        "outs": ["data/datasets/human"],
    }
    Path("dvc.yaml").write_text(yaml.safe_dump(graph))

    dvc(project, "repro")

    assert "samples_per_shard: 60" in Path("params.yaml").read_text()
    manifest = json.loads(Path("data/datasets/human/manifest.json").read_text())
    assert max(shard["samples"] for shard in manifest["shards"]) == 40
    recorded = yaml.safe_load(Path("dvc.lock").read_text())["stages"]["ingest"]["params"]
    assert recorded["reports/watched.yaml"]["ingest"]["samples_per_shard"] == 40
    with closing(sqlite3.connect("mlflow.db")) as store:
        assert store.execute("SELECT value FROM tags WHERE key = 'blip.recipe'").fetchall() == [("top",)] * 2
