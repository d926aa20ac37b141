"""A stage is one MLflow run below its pipeline, ends with the status that fits, and goes on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from blip.config import Settings
from blip.errors import BlipError, Preempted
from blip.tracking import pipeline, runs, sending, store
from blip.tracking.lineage import digest
from blip.tracking.measured import Measured, Scores
from blip.tracking.runs import StageRun, stage_run, training_run
from tests.processes import wait_until

STAGE = """
import sys, time
from pathlib import Path
from typing import Any
from blip.config import load_settings
from blip.tracking.runs import stage_run
with stage_run(sys.argv[1], load_settings()) as run:
    run.log_metrics({"loss": 1.0}, step=10)
    run.flush()
    Path(f"{sys.argv[1]}.started").write_text(run.run_id)
    time.sleep(float(sys.argv[2]))
"""


def start_stage(name: str, seconds: float, project: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", STAGE, name, str(seconds)], cwd=project, env=environment)


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 120
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.05)
    return path.read_text()


def runs_by_name() -> dict[str, list[str]]:
    client = store.client()
    experiment = client.get_experiment_by_name("blip")
    assert experiment is not None
    found: dict[str, list[str]] = {}
    for run in client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]):
        name = run.data.tags.get("blip.stage", "pipeline")
        found.setdefault(name, []).append(run.info.status)
    return found


def test_stages_share_one_parent_that_report_closes(settings: Settings, project: Path) -> None:
    parents = set()
    for stage in ("ingest", "finetune@retrieval", "report"):
        with stage_run(stage, settings) as run:
            parents.add(run.client.get_run(run.run_id).data.tags["mlflow.parentRunId"])
            (project / "metrics").mkdir(exist_ok=True)
            (project / "metrics/summary.json").write_text(json.dumps({"vqa.accuracy": 0.75}))
    assert len(parents) == 1
    assert not (project / ".blip/pipeline.json").exists()
    parent = store.client().get_run(parents.pop())
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"vqa.accuracy": 0.75}
    assert runs_by_name() == {
        name: ["FINISHED"] for name in ("pipeline", "ingest", "finetune@retrieval", "report")
    }


def test_the_next_pipeline_has_a_parent_of_its_own(settings: Settings) -> None:
    for _ in range(2):
        with stage_run("report", settings):
            pass
    assert runs_by_name() == {"pipeline": ["FINISHED"] * 2, "report": ["FINISHED"] * 2}


def test_the_clock_starts_with_the_parent(settings: Settings) -> None:
    before = time.time()
    with stage_run("ingest", settings):
        opened = pipeline.pipeline_started()
    with stage_run("report", settings):
        assert pipeline.pipeline_started() == opened
    assert before <= opened <= time.time()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BlipError("shard web-00012.tar is truncated"), "FAILED"),
        (ValueError("negative dimension"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (Preempted("step 400 saved"), "KILLED"),
    ],
)
def test_how_a_stage_ends_is_its_status(settings: Settings, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), stage_run("pretrain", settings) as run:
        raise error
    logged = run.client.get_run(run.run_id)
    assert logged.info.status == status
    assert logged.data.tags["blip.error"] == f"{type(error).__name__}: {error}"
    assert runs_by_name()["pipeline"] == [status]


def test_a_pipeline_whose_stage_failed_and_then_passed_is_finished(settings: Settings) -> None:
    with pytest.raises(BlipError), stage_run("validate", settings):
        raise BlipError("dataset web: 12 samples, fewer than 16")
    with stage_run("validate", settings):
        assert runs_by_name()["pipeline"] == ["RUNNING"]
    with stage_run("report", settings):
        pass
    assert runs_by_name() == {
        "pipeline": ["FINISHED"],
        "validate": ["FAILED", "FINISHED"],
        "report": ["FINISHED"],
    }


def test_a_pipeline_runs_while_a_stage_of_it_does(settings: Settings) -> None:
    for stage in ("ingest", "validate"):
        with stage_run(stage, settings):
            assert runs_by_name()["pipeline"] == ["RUNNING"]
        assert runs_by_name()["pipeline"] == ["FINISHED"]


def test_an_experiment_that_was_deleted_is_restored_and_that_is_said(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with stage_run("ingest", settings) as run:
        experiment = run.client.get_run(run.run_id).info.experiment_id
    run.client.delete_experiment(experiment)
    with stage_run("validate", settings):
        pass
    assert "experiment 'blip' was deleted; it is restored" in capsys.readouterr().err
    assert runs_by_name()["ingest"] == ["FINISHED"]
    assert runs_by_name()["validate"] == ["FINISHED"]


def test_a_stage_whose_pipeline_was_deleted_meanwhile_has_not_failed(settings: Settings) -> None:
    with stage_run("ingest", settings) as run:
        parent = run.client.get_run(run.run_id).data.tags["mlflow.parentRunId"]
        run.client.delete_run(parent)
    assert run.client.get_run(run.run_id).info.status == "FINISHED"


def test_a_stage_whose_run_was_deleted_meanwhile_ends_as_it_would_and_that_is_said_once(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Preempted), stage_run("pretrain", settings) as run:
        run.client.delete_run(run.run_id)
        run.log_metrics({"loss": 3.0})
        run.set_tags({"room": "warm"})
        raise Preempted("step 20 saved")
    assert capsys.readouterr().err.count(f"the MLflow run {run.run_id} of this stage was deleted") == 1


def test_a_value_that_the_store_never_takes_is_an_error(settings: Settings) -> None:
    with pytest.raises(MlflowException, match="Invalid value"), stage_run("pretrain", settings) as run:
        run.log_metrics({"loss?": 3.0})


def test_a_failed_branch_fails_the_pipeline_even_when_the_other_went_on(settings: Settings) -> None:
    with pytest.raises(BlipError), stage_run("captioner", settings):
        raise BlipError("loss is not a number at step 20")
    with stage_run("filter", settings):
        pass
    assert runs_by_name()["pipeline"] == ["FAILED"]


def test_a_preempted_stage_goes_on_in_its_run(settings: Settings) -> None:
    with pytest.raises(Preempted), stage_run("pretrain", settings) as first:
        first.log_params({"parameters": 1_000_000})
        first.log_metrics({"loss": 3.0}, step=20)
        raise Preempted("step 20 saved")
    with stage_run("pretrain", settings) as second:
        second.log_params({"parameters": 1_000_000, "device": "cpu"})
        second.log_metrics({"loss": 3.0}, step=20)
        second.log_metrics({"loss": 2.0}, step=40)
    assert second.run_id == first.run_id
    history = second.client.get_metric_history(second.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(20, 3.0), (40, 2.0)]
    logged = second.client.get_run(second.run_id)
    assert (logged.info.status, logged.data.tags["blip.attempt"]) == ("FINISHED", "2")
    assert logged.data.params["device"] == "cpu"


def test_a_run_that_goes_on_drops_the_error_that_stopped_it(settings: Settings) -> None:
    with pytest.raises(KeyboardInterrupt), stage_run("pretrain", settings) as first:
        raise KeyboardInterrupt("ctrl-c")
    assert "KeyboardInterrupt" in first.client.get_run(first.run_id).data.tags["blip.error"]
    with stage_run("pretrain", settings) as second:
        pass
    assert second.run_id == first.run_id
    assert "blip.error" not in second.client.get_run(second.run_id).data.tags


def test_other_parameters_are_another_run(settings: Settings) -> None:
    with pytest.raises(Preempted), stage_run("pretrain", settings) as first:
        raise Preempted("step 20 saved")
    changed = settings.model_copy(update={"seed": settings.seed + 1})
    with stage_run("pretrain", changed) as second:
        pass
    assert second.run_id != first.run_id


def test_a_setting_longer_than_the_store_keeps_is_the_same_setting(settings: Settings) -> None:
    objective = settings.pretrain.objective.model_copy(update={"prompt": "a picture of " * 600})
    pretrain = settings.pretrain.model_copy(update={"objective": objective})
    wordy = settings.model_copy(update={"pretrain": pretrain})
    with pytest.raises(Preempted), stage_run("pretrain", wordy) as first:
        raise Preempted("step 20 saved")
    with stage_run("pretrain", wordy) as second:
        pass
    assert second.run_id == first.run_id


def test_a_run_killed_with_9_goes_on(settings: Settings, project: Path) -> None:
    killed = start_stage("pretrain", 300, project)
    first = wait_for(project / "pretrain.started")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert runs_by_name()["pretrain"] == ["RUNNING"]
    with stage_run("pretrain", settings) as run:
        assert run.run_id == first
    assert runs_by_name()["pretrain"] == ["FINISHED"]


def test_sigterm_closes_the_run(project: Path) -> None:
    stage = start_stage("pretrain", 300, project)
    wait_for(project / "pretrain.started")
    stage.terminate()
    assert stage.wait() == 143
    assert runs_by_name() == {"pipeline": ["KILLED"], "pretrain": ["KILLED"]}


def test_branches_that_start_at_once_share_the_parent_and_the_store(project: Path) -> None:
    (project / "mlflow.db").unlink()
    stages = [start_stage(name, 1, project) for name in ("captioner", "filter", "ingest")]
    assert [stage.wait() for stage in stages] == [0, 0, 0]
    expected = {
        "pipeline": ["FINISHED"],
        **{name: ["FINISHED"] for name in ("captioner", "filter", "ingest")},
    }
    assert runs_by_name() == expected


def test_a_stage_that_still_runs_is_not_taken_over(settings: Settings, project: Path) -> None:
    other = start_stage("filter", 300, project)
    first = wait_for(project / "filter.started")
    with stage_run("filter", settings) as run:
        assert run.run_id != first
    other.terminate()
    other.wait()


def test_a_flow_names_the_pipeline(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with stage_run("ingest", settings):
        abandoned = pipeline.enter(store.client(), settings)
    monkeypatch.setenv("BLIP_PIPELINE_RUN", "flow-run-1")
    parents = set()
    for stage in ("ingest", "validate"):
        with stage_run(stage, settings) as run:
            parents.add(run.client.get_run(run.run_id).data.tags["mlflow.parentRunId"])
    assert len(parents) == 1
    assert abandoned.run_id not in parents
    assert store.client().get_run(abandoned.run_id).info.status == "FINISHED"
    monkeypatch.setenv("BLIP_PIPELINE_RUN", parents.pop())
    with stage_run("report", settings):
        pass
    assert runs_by_name()["pipeline"] == ["FINISHED", "FINISHED"]


def test_a_curve_file_is_logged_once_row_by_row(settings: Settings, project: Path) -> None:
    curve = project / "curve.csv"
    curve.write_text("step,loss,itm\n20,3.0,0.6\n40,2.0,\n")
    with stage_run("pretrain", settings) as run:
        run.log_curve(curve)
        curve.write_text("step,loss,itm\n20,3.0,0.6\n40,2.0,\n60,nan,0.4\n")
        run.log_curve(curve)
    points = {
        name: [p.step for p in run.client.get_metric_history(run.run_id, name)] for name in ("loss", "itm")
    }
    assert points == {"loss": [20, 40, 60], "itm": [20, 60]}


def test_of_a_table_of_gigabytes_the_run_has_the_digest_and_where_it_is(
    settings: Settings, project: Path
) -> None:
    small, large = project / "small.parquet", project / "large.parquet"
    small.write_bytes(b"rows")
    with large.open("wb") as handle:
        handle.truncate(runs.LARGEST_TABLE + 1)
    with stage_run("capfilt", settings) as run:
        run.log_table(small, "rounds/2", Path("data/small.parquet"))
        run.log_table(large, "rounds/2", Path("data/large.parquet"))
    kept = [path.name for path in (project / "mlruns" / run.run_id).rglob("*.parquet")]
    tags = run.client.get_run(run.run_id).data.tags
    assert kept == ["small.parquet"]
    assert tags["blip.table.data/large.parquet"] == digest(large)
    assert "blip.table.data/small.parquet" not in tags


def test_artifacts_figures_and_parameters_are_with_the_run(settings: Settings, project: Path) -> None:
    from matplotlib.figure import Figure

    (project / "pages").mkdir()
    (project / "pages/index.html").write_text("<p>report</p>")
    with stage_run("evaluate@retrieval", settings) as run:
        run.log_artifact(project / "params.yaml")
        run.log_artifact(project / "pages", "report")
        run.log_figure(Figure(), "roc.png")
    folder = project / "mlruns" / run.run_id / "artifacts"
    assert (folder / "params.yaml").is_file()
    assert (folder / "report/index.html").is_file()
    assert (folder / "figures/roc.png").is_file()
    params = run.client.get_run(run.run_id).data.params
    assert params["evaluate.retrieval.rerank"] == str(settings.evaluate.retrieval.rerank)
    assert params["seed"] == "7"


def test_system_metrics_are_sampled(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", "1")
    name = "system/system_memory_usage_percentage"
    with stage_run("pretrain", settings) as run:
        wait_until(lambda: name in run.client.get_run(run.run_id).data.metrics)
    assert 0 < run.client.get_run(run.run_id).data.metrics[name] <= 100


def test_metrics_wait_while_the_store_does_not_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow.exceptions import MlflowException

    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("database is locked")

    with stage_run("pretrain", settings) as run:
        with monkeypatch.context() as patch:
            patch.setattr(run.client, "log_batch", refuse)
            run.log_metrics({"loss": 2.0})
        assert "database is locked" in capsys.readouterr().err
    assert run.client.get_run(run.run_id).data.metrics["loss"] == 2.0


def test_a_server_that_takes_long_to_say_that_it_is_down_is_not_asked_at_each_point(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(seconds=0.0, monotonic=lambda: clock.seconds, time=time.time)  # it stands still

    def refuse_slowly(*arguments: Any, **named: Any) -> None:
        clock.seconds += 2 * runs.FLUSH_SECONDS
        MlflowClient("http://127.0.0.1:9").log_batch(*arguments, **named)

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(runs, "time", clock)
    with stage_run("pretrain", settings) as run:
        clock.seconds += 2 * runs.FLUSH_SECONDS
        with monkeypatch.context() as patch:
            patch.setattr(run.client, "log_batch", refuse_slowly)
            for step in range(5):
                run.log_metrics({"loss": 1.0}, step)
        assert capsys.readouterr().err.count("MLflow did not take it") == 1


def test_a_server_that_was_silent_is_asked_once_until_it_answers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = sending._usual_retries()
    with stage_run("pretrain", settings) as run:
        answering, run.client = run.client, MlflowClient("http://127.0.0.1:9")
        monkeypatch.setenv(sending.RETRIES, "0")
        run.set_tags({"room": "cold"})
        assert os.environ[sending.RETRIES] == "0"
        run.client = answering
        run.set_tags({"room": "warm"})
        assert os.environ[sending.RETRIES] == usual


def test_what_the_store_does_not_take_costs_no_figures(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from matplotlib.figure import Figure
    from mlflow.exceptions import MlflowException

    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("no answer")

    (project / "examples.json").write_text("[]")
    with stage_run("pretrain", settings) as run, monkeypatch.context() as patch:
        for name in ("log_batch", "log_artifact", "log_figure"):
            patch.setattr(run.client, name, refuse)
        run.log_artifact(project / "examples.json")
        run.log_figure(Figure(), "loss.png")
        run.set_tags({"warning": "none"})
        run.log_params({"ranks": 1})
    assert capsys.readouterr().err.count("no answer") >= 4


def test_files_that_their_store_cannot_take_fail_no_stage_and_leave_no_parent_behind(
    settings: Settings, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here for want of its library, boto3."""
    from matplotlib.figure import Figure

    monkeypatch.setitem(sys.modules, "boto3", None)
    store.client().create_experiment("blip", "s3://bucket/runs")
    for stage in ("ingest", "validate"):
        with stage_run(stage, settings) as run:
            run.log_artifact(project / "params.yaml")
            run.log_figure(Figure(), "loss.png")
    assert runs_by_name() == {"pipeline": ["FINISHED"], "ingest": ["FINISHED"], "validate": ["FINISHED"]}
    assert capsys.readouterr().err.count("import of boto3 halted") == 6


def test_a_store_that_is_not_there_is_said_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        pytest.raises(BlipError, match=r"the MLflow store http://127\.0\.0\.1:9 cannot be opened"),
        stage_run("x", settings),
    ):
        pass


def test_a_stage_leaves_sigterm_as_it_was(settings: Settings) -> None:
    def keep(*_: object) -> None: ...

    for handler in (signal.SIG_DFL, keep):
        signal.signal(signal.SIGTERM, handler)
        with stage_run("pretrain", settings) as run:
            assert isinstance(run, StageRun)
        assert signal.getsignal(signal.SIGTERM) is handler
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_a_model_names_the_run_that_made_it_and_what_that_came_from(
    project: Path, settings: Settings
) -> None:
    """DVC may bring back what a run before the newest one made, or what another machine made."""
    made = {}
    for weights in ("aaaa", "bbbb"):
        with stage_run("pretrain", settings) as run:
            run.note(Scores.of({"pretrain.loss": 1.0}, Measured((weights,), "", ())))
            run.tag_weights()
            run.set_tags({"blip.git_commit": f"of {weights}"})
        made[weights] = {"blip.training_run": run.run_id, "blip.git_commit": f"of {weights}"}
    with stage_run("evaluate@retrieval", settings) as run:
        run.note(Scores.of({"retrieval.i2t_r1": 1.0}, Measured(("aaaa",), "", ())))
        run.tag_weights()
    client = store.client()
    for weights, tags in made.items():
        assert training_run(client, "pretrain", weights, settings).items() >= tags.items()
    assert training_run(client, "pretrain", "cccc", settings) == {}
    assert training_run(client, "captioner", "aaaa", settings) == {}


class Forbidding(BaseHTTPRequestHandler):
    """A tracking server that lets this user read, and not write."""

    def do_GET(self) -> None:
        self.answer(200, {"experiment": {"experiment_id": "1", "lifecycle_stage": "active"}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        refused = self.path.endswith("runs/create")
        self.answer(403 if refused else 200, {"error_code": "PERMISSION_DENIED"} if refused else {})

    def answer(self, status: int, said: dict[str, object]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_lets_one_only_read_is_said_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HTTPServer(("127.0.0.1", 0), Forbidding) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{server.server_port}")
        with (
            pytest.raises(
                BlipError, match=r"http://\*\*\*@.* does not take a run of stage register: PERMISSION_DENIED"
            ),
            stage_run("register", settings),
        ):
            pass
        server.shutdown()


def test_a_parameter_that_the_store_never_takes_leaves_no_run_behind(settings: Settings) -> None:
    tolerances = settings.register_.model_copy(update={"tolerances": {"a+b": 0.1}})
    with (
        pytest.raises(MlflowException),
        stage_run("register", settings.model_copy(update={"register_": tolerances})),
    ):
        pass
    assert runs_by_name() == {"pipeline": ["FAILED"], "register": ["FAILED"]}
