"""What a stage has to say while MLflow does not answer is there when the next one has begun."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from blip.config import Settings
from blip.tracking import store, unsent
from blip.tracking.runs import StageRun, stage_run
from tests.tracking.test_runs import runs_by_name


def kept(project: Path) -> list[str]:
    return [file.stem for file in (project / unsent.FOLDER).rglob("*.json")]


def ended_in_silence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> StageRun:
    """A stage whose server goes away before its end."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with stage_run("pretrain", settings) as run:
        run.client = MlflowClient("http://me:S3cret@127.0.0.1:9")
        run.log_metrics({"loss": 2.0}, step=10)
        run.log_metrics({"loss": 1.0}, step=20)
        run.log_params({"ranks": 3})
        run.set_tags({"blip.weights": "4f0c"})
        if error:
            raise error
    return run


def test_a_stage_that_ended_well_is_no_killed_one(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ended_in_silence(settings, monkeypatch, None)
    assert runs_by_name()["pretrain"] == ["RUNNING"]
    assert kept(project) == [run.run_id]
    assert f"kept in {unsent.FOLDER} and sent when the next stage begins" in capsys.readouterr().err
    with stage_run("report", settings) as last:
        pass
    assert runs_by_name() == {"pipeline": ["FINISHED"], "pretrain": ["FINISHED"], "report": ["FINISHED"]}
    found = store.client().get_run(run.run_id)
    assert found.info.end_time <= store.client().get_run(last.run_id).info.start_time
    assert (found.data.params["ranks"], found.data.tags["blip.weights"]) == ("3", "4f0c")
    points = store.client().get_metric_history(run.run_id, "loss")
    assert [(point.step, point.value) for point in points] == [(10, 2.0), (20, 1.0)]
    assert kept(project) == []


def test_the_reason_of_a_failure_is_told_without_a_password(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="S3cret"):
        ended_in_silence(settings, monkeypatch, ValueError("no answer from http://me:S3cret@host"))
    (file,) = (project / unsent.FOLDER).rglob("*.json")
    assert "S3cret" not in file.read_text()
    with stage_run("report", settings):
        pass
    assert runs_by_name()["pretrain"] == ["FAILED"]
    (found,) = (run for run in runs_of_stage("pretrain"))
    assert found.data.tags["blip.error"] == "ValueError: no answer from http://***@host"


def runs_of_stage(name: str):
    client = store.client()
    experiment = client.get_experiment_by_name("blip")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], f"tags.`blip.stage` = '{name}'")


def test_where_there_is_no_room_to_keep_it_the_stage_ends_as_it_would(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / store.STATE).mkdir()
    (project / unsent.FOLDER).write_text("no folder")
    ended_in_silence(settings, monkeypatch, None)
    assert "what MLflow did not take of this run cannot be kept either: " in capsys.readouterr().err


def test_what_was_kept_of_a_run_that_is_gone_is_let_go(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended_in_silence(settings, monkeypatch, None)
    store.client().delete_run(run.run_id)
    unsent.send(store.client())
    assert kept(project) == []


def test_it_is_kept_on_while_nobody_answers_and_for_its_own_store_alone(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended_in_silence(settings, monkeypatch, None)
    unsent.send(MlflowClient("http://127.0.0.1:9"))
    assert kept(project) == [run.run_id]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/other.db")
    unsent.send(store.client())
    assert kept(project) == [run.run_id]
