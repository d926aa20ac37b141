"""What DVC keeps of the stages of dvc.yaml: figures and curves come back with the rest, the registry does not."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.flows.toy import ROOT, dvc, git

NAMES = ("pretrain", "register", "report")
JSON = """{"steps": '$(cat steps)', "measured": [{"figures": ["steps"], "data": "of '$(cat steps)'"}]}"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose stages write quickly where three of dvc.yaml's do, with a remote, at its first commit."""
    given = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    stages = {name: stage(name, given[name]) for name in NAMES}
    stages["register"]["deps"] += ["metrics/pretrain.json"]
    stages["report"]["deps"] += ["metrics/register.json"]
    root = tmp_path / "project"
    root.mkdir()
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (root / ".gitignore").write_text("/models/\n/metrics/\n/reports/\n/ran\n")
    monkeypatch.chdir(root)
    git(root, "init", "--quiet")
    dvc(root, "init")
    dvc(root, "remote", "add", "--default", "there", str(tmp_path / "remote"))
    assert steps(800) == list(NAMES)
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "first")
    return root


def stage(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """A stage with the figures, curves and folders of another one, all of which hold the steps."""
    kinds = {kind: given[kind] for kind in ("outs", "metrics", "plots") if kind in given}
    places = [next(iter(out)) if isinstance(out, dict) else out for outs in kinds.values() for out in outs]
    texts = {"json": JSON, "csv": "step,loss\\n1,'$(cat steps)'\\n"}
    writes = [
        f"mkdir -p $(dirname {place}) && printf '{texts.get(place.rpartition('.')[2], name)}' > {place}"
        for place in places
    ]
    return {"cmd": [f"echo {name} >> ran", *writes], "deps": ["steps"], **kinds}


def steps(number: int) -> list[str]:
    """The stages that run for a number of steps."""
    Path("steps").write_text(str(number))
    Path("ran").write_text("")
    dvc(Path(), "repro")
    return Path("ran").read_text().split()


def test_settings_of_before_train_nothing_again_and_are_registered(project: Path) -> None:
    assert steps(500) == list(NAMES)
    assert steps(800) == ["register", "report"]
    assert Path("metrics/curves/pretrain.csv").read_text() == "step,loss\n1,800\n"
    assert json.loads(Path("metrics/pretrain.json").read_text())["steps"] == 800


def test_figures_and_curves_are_compared_with_those_of_the_commit(project: Path) -> None:
    steps(500)
    shown = json.loads(dvc(project, "metrics", "diff", "--json"))
    assert shown["metrics/pretrain.json"] == {"steps": {"old": 800, "new": 500, "diff": -300}}
    now = json.loads(dvc(project, "metrics", "show", "--json"))[""]["data"]
    assert now["metrics/pretrain.json"]["data"] == {"steps": 500}
    drawn = json.loads(dvc(project, "plots", "diff", "HEAD", "--json"))["data"]["metrics/curves/pretrain.csv"]
    assert "800" in json.dumps(drawn) and "500" in json.dumps(drawn)


def test_a_clone_that_pulled_trains_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dvc(project, "push")
    git(project.parent, "clone", "--quiet", "project", "clone")
    monkeypatch.chdir(project.parent / "clone")
    dvc(Path(), "pull", "--allow-missing")
    assert steps(800) == ["register"]


def test_a_model_that_was_trained_outside_is_kept_by_dvc_commit(project: Path) -> None:
    Path("models/pretrain").write_text("trained elsewhere")
    dvc(project, "commit", "--force", "pretrain")
    assert steps(800) == []
    assert Path("models/pretrain").read_text() == "trained elsewhere"
    Path("models/pretrain").write_text("trained elsewhere again")
    steps(800)
    assert Path("models/pretrain").read_text() == "trained elsewhere"
