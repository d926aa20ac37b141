"""`blip settings`; `blip promote` and `blip doctor` where there is nothing yet."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from blip.config import load_settings
from blip.doctor.scaling import GPUS
from tests.flows.toy import git


def test_promote_without_a_registry_names_what_is_missing(blip, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)

    ended = blip("promote", "blip-captioning", 3)

    assert ended.code == 1
    assert "blip-captioning" in ended.err


def test_doctor_outside_a_project_says_what_stands_in_the_way(blip, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)

    ended = blip("doctor", "--json")

    states = {finding["subject"]: finding["state"] for finding in json.loads(ended.out)}
    assert ended.code == 1
    assert (states["python"], states["torch"]) == ("good", "good")
    assert (states["dvc"], states["settings"]) == ("bad", "bad")


def test_doctor_outside_a_project_leaves_no_store_there(blip, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    found = {finding["subject"]: finding for finding in json.loads(blip("doctor", "--json").out)}

    assert found["tracking"]["state"] == "note"
    assert list(tmp_path.iterdir()) == []
    assert "no model registry here" in blip("promote", "blip-captioning", 3).err


def test_help_names_the_gpus_that_there_are_figures_of(blip):
    shown = " ".join(blip("doctor", "--help").out.replace("│", " ").split())

    assert all(f" {name}" in shown for name in GPUS)


def test_the_doctor_says_once_what_is_wrong_with_the_settings(blip, tmp_path: Path, monkeypatch):
    params = (Path(__file__).parents[2] / "params.yaml").read_text().replace("seed: 7", "seed: seven")
    (tmp_path / "params.yaml").write_text(params)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)

    found = {finding["subject"]: finding for finding in json.loads(blip("doctor", "--json").out)}

    assert [subject for subject, finding in found.items() if "seven" in finding["text"]] == ["settings"]
    assert (found["cores"]["state"], found["sources"]["state"]) == ("good", "note")


def test_the_doctor_has_little_patience_with_a_server_that_is_down(blip, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)

    found = {finding["subject"]: finding for finding in json.loads(blip("doctor", "--json").out)}

    assert found["tracking"]["state"] == "bad"
    assert "does not answer within 3 s" in found["tracking"]["text"]


def test_the_doctor_says_that_sqlite_is_for_one_machine(blip, tmp_path: Path, monkeypatch):
    params = (Path(__file__).parents[2] / "params.yaml").read_text() + "launch: {hostfile: hosts}\n"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    said = {}
    for kind, text in (("alone", "{}"), ("several", params)):
        Path("params.yaml").write_text(text)
        findings = {finding["subject"]: finding for finding in json.loads(blip("doctor", "--json").out)}
        said[kind] = findings["tracking"]

    assert said["alone"]["state"] == "good"
    assert said["several"]["state"] == "note"
    assert "SQLite is for one machine at a time" in said["several"]["text"]


def test_settings_are_shown_with_the_recipe_and_written_so_that_they_are_read_again(
    blip, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(Path(__file__).parents[2])
    given = ("settings", "--recipe", "retrieval-flickr", "--set", "seed=3")
    shown = json.loads(blip(*given, "--json").out)
    assert (shown["seed"], shown["recipe"]) == (3, "retrieval-flickr")
    assert shown["finetune"]["retrieval"]["data"] == {"flickr": 5.0}
    assert yaml.safe_load(blip(*given).out) == shown
    assert blip(*given, "--out", tmp_path / "all.yaml").code == 0
    assert yaml.safe_load((tmp_path / "all.yaml").read_text()) == shown
    assert (
        load_settings(tmp_path / "all.yaml", "none").finetune
        == load_settings(recipe="retrieval-flickr").finetune
    )


def test_pre_training_without_embeddings_is_refused_where_they_are_compared(
    blip, tmp_path: Path, monkeypatch
):
    root = Path(__file__).parents[2]
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    given = ("settings", "--set", "pretrain.objective.itc=0", "--out", tmp_path / "all.yaml")
    assert blip(*given).code == 0

    (tmp_path / "dvc.yaml").write_text((root / "dvc.yaml").read_text())
    ended = blip(*given)

    assert ended.code == 2
    assert "pretrain.objective.itc is 0: stage `compare` compares the models of both" in ended.err
    assert blip(*given, "--set", "model.start=models/blip").code == 0, "it may have learnt them before"


def test_the_doctor_goes_on_where_torch_does_not_import(tmp_path: Path):
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    root = Path(__file__).parents[2]
    own = {"PYTHONPATH": f"{tmp_path}:{root}", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    command = [sys.executable, "-m", "blip", "doctor", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | own, check=False
    )
    found = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    for subject in ("torch", "gpu"):
        assert found[subject]["state"] == "bad" and "libcudart.so.12" in found[subject]["text"]
    assert found["ports"]["state"] in ("good", "note")


def test_what_was_changed_in_params_yaml_and_the_recipe_sets_itself_is_told(
    blip, tmp_path: Path, monkeypatch
):
    root = Path(__file__).parents[2]
    params = (root / "params.yaml").read_text().replace("recipe: null", "recipe: smoke")
    changed = params.replace(
        "retrieval: {rerank: 64, rerank_by: log_odds, data", "retrieval: {rerank: 8, data"
    )
    (tmp_path / "params.yaml").write_text(params)
    (tmp_path / "infra").symlink_to(root / "infra")
    monkeypatch.chdir(tmp_path)
    given = ("settings", "--out", tmp_path / "all.yaml")
    (tmp_path / "params.yaml").write_text(changed)
    assert "note" not in blip(*given).out, "there is no commit to compare with"
    (tmp_path / "params.yaml").write_text(params)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "params.yaml")
    git(tmp_path, "commit", "--quiet", "-m", "before")
    assert "note" not in blip(*given).out

    (tmp_path / "params.yaml").write_text(changed.replace("seed: 7", "seed: 8"))

    told = blip(*given).out
    assert "'smoke' is laid over params.yaml and sets itself what was changed there" in told
    assert ": evaluate.retrieval.rerank (8 there, 4 in the recipe); change it in the recipe" in told
    assert "note" not in blip(*given, "--recipe", "none").out
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "HEAD")
    refused = blip(*given)
    assert refused.code == 2
    assert "evaluate.retrieval.rerank (8 there, 4 in the recipe)" in refused.err
