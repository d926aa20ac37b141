"""`blip promote` and `blip doctor` where there is nothing yet."""

import json
from pathlib import Path


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
