"""Which stages of dvc.yaml run again after a change: training none but by what trains."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from tests.flows.toy import ROOT, dvc, git

QUICK = ("pretrain", "captioner", "filter", "capfilt", "pretrain_bootstrapped")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the real stage `settings` and all code, whose other stages write quickly what theirs do."""
    given = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    root = tmp_path_factory.mktemp("again") / "project"
    shutil.copytree(ROOT / "blip", root / "blip", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "infra/recipes", root / "infra/recipes")
    shutil.copy(ROOT / "params.yaml", root)
    stages = {"settings": {**given["settings"], "cmd": ["echo settings >> ran", given["settings"]["cmd"]]}}
    stages |= {name: quick(name, given[name]) for name in QUICK}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    git(root, "init", "--quiet")
    dvc(root, "init")
    assert run_again(root) == {"settings", *QUICK}
    return root


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def quick(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """A stage that depends on the same code, models and settings; of the datasets there are none."""
    outs = given["outs"] + given["metrics"]
    write = [f"mkdir -p $(dirname {out}) && echo {name} > {out}" for out in outs]
    deps = [dep for dep in given["deps"] if dep.startswith(("blip/", "models/"))]
    params = {"params": given["params"]}
    return {"cmd": [f"echo {name} >> ran", *write], "deps": deps, "outs": outs, **params}


def run_again(root: Path) -> set[str]:
    """The stages that `dvc repro` runs."""
    (root / "ran").write_text("")
    dvc(root, "repro")
    return set((root / "ran").read_text().split())


def setting(change: str) -> Callable[[], None]:
    return lambda: apply_overrides(Path("params.yaml"), [change])


def edit(file: str) -> Callable[[], None]:
    return lambda: Path(file).write_text(Path(file).read_text() + "\n# changed\n")


@pytest.mark.parametrize(
    "change",
    [setting("capfilt.views=[1.0]"), setting("capfilt.head=itm"), edit("blip/capfilt/judge.py")],
    ids=["views", "head", "judge.py"],
)  # fmt: skip
def test_how_the_filter_decides_trains_no_filter_again(project: Path, change: Callable[[], None]) -> None:
    change()
    assert run_again(project) - {"settings"} == {"capfilt"}


def test_what_trains_the_filter_trains_it_again(project: Path) -> None:
    setting("filter.members=2")()
    assert run_again(project) == {"settings", "filter"}
