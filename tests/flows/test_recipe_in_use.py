"""Under DVC a stage runs again when the recipe in use changes, by itself or below, and when no other does."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

from flows.project import BINARIES, RECIPE, changed_stages
from tests.flows.toy import ROOT, dvc, git


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the stage of dvc.yaml that notes the recipe, one that waits for it, and three recipes."""
    noting = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][RECIPE]
    training = {
        "cmd": "echo trained >> log; cp reports/recipe.yaml model",
        "deps": noting["outs"],
        "outs": ["model"],
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {RECIPE: noting, "pretrain": training}}))
    (tmp_path / "params.yaml").write_text("recipe: top\n")
    (tmp_path / ".gitignore").write_text("/reports\n/model\n")
    (tmp_path / "infra/recipes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{BINARIES}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write("low", "pretrain: {steps: 5}")
    write("top", "{extends: low, pretrain: {epochs: 1}}")
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


def test_an_edit_of_another_recipe_runs_nothing_again(project: Path):
    write("other", "{extends: low, pretrain: {steps: 8}}")
    assert not changed_stages()
    dvc(project, "repro")
    assert trainings() == 1


@pytest.mark.parametrize(
    ("recipe", "text"),
    [("top", "{extends: low, pretrain: {epochs: 2}}"), ("low", "{seed: 9, pretrain: {steps: 5}}")],
    ids=["itself", "what it extends"],
)
def test_an_edit_of_the_recipe_in_use_does(project: Path, recipe: str, text: str):
    write(recipe, text)
    dvc(project, "repro")
    assert trainings() == 2


def test_the_flow_sees_the_edit_too(project: Path):
    write("top", "{extends: low, pretrain: {epochs: 2}}")
    assert changed_stages() == {"pretrain"}


def test_another_recipe_in_use_does(project: Path):
    Path("params.yaml").write_text("recipe: other\n")
    dvc(project, "repro")
    assert trainings() == 2
    assert yaml.safe_load(Path("model").read_text()) == {"pretrain": {"steps": 7}}
