"""`dvc exp run --temp` runs the experiment's code in a folder that is removed; its run in MLflow stays."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from flows.project import BINARIES
from tests.flows.toy import ROOT, dvc, git

PARAMS = {
    "ingest": {
        "samples_per_shard": 40,
        "vocabulary": {"size": 300},
        "datasets": {
            "human": {
                "source": f"{ROOT}/data/sample/human",
                "kind": "table",
                "origin": "human",
                "role": "train",
            }
        },
    }
}


def test_every_stage_runs_the_code_of_its_folder() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    commands = [stage.get("do", stage)["cmd"] for stage in stages]
    assert all(command.startswith("python -m blip ") for command in commands)


def test_what_an_experiment_in_a_temporary_folder_logged_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    ingest = {**given["ingest"], "deps": [], "outs": ["data/datasets/human", "data/datasets/vocabulary"]}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{BINARIES}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"settings": given["settings"], "ingest": ingest}}))
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | PARAMS
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("infra/recipes").mkdir(parents=True)
    Path("infra/recipes/none.yaml").write_text("{}")
    Path("blip/config").mkdir(parents=True)
    Path("blip/config/none").write_text("")
    Path(".gitignore").write_text("/data\n/reports\n/metrics\n/.blip\n/mlflow.db*\n/mlruns\n")
    shutil.copytree(ROOT / ".dvc", ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")

    dvc(tmp_path, "exp", "run", "--temp", "--set-param", "ingest.samples_per_shard=60")

    assert not Path("data").exists()
    with closing(sqlite3.connect("mlflow.db")) as store:
        logged = store.execute("SELECT value FROM params WHERE key = 'ingest.samples_per_shard'").fetchall()
        places = store.execute("SELECT artifact_location FROM experiments WHERE name = 'blip'").fetchall()
    assert logged == [("60",)]
    assert places == [((tmp_path / "mlruns").as_uri(),)]
