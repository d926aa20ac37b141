"""The parent MLflow run of a pipeline: opened by its first stage, shared by the others, closed by `report`.

The open one stands in .blip/pipeline.json. BLIP_PIPELINE_RUN, when set, names the pipeline instead (a flow
sets it to its own id, or to the id of an MLflow run): stages that see the same value share one parent. Two
branches may start stages at once, so every step here holds a file lock.
"""

import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from blip.atomic import write_json
from blip.config import Settings
from blip.config.places import SUMMARY
from blip.tracking import processes, store
from blip.tracking.lineage import lineage
from blip.tracking.sending import stored

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

VARIABLE = "BLIP_PIPELINE_RUN"
STATE_FILE = store.STATE / "pipeline.json"


@dataclass(frozen=True)
class Pipeline:
    """An open pipeline: its MLflow run, when it was opened (seconds since the epoch), and who named it."""

    run_id: str
    experiment_id: str
    started: float
    key: str = ""


def pipeline_started() -> float:
    """When the open pipeline's parent run was opened, in seconds since the epoch; now, when none is open."""
    pipeline = _read()
    return pipeline.started if pipeline else time.time()


def enter(client: "MlflowClient", settings: Settings) -> Pipeline:
    """The open pipeline, or a new one; it counts as running from here on."""
    key = os.environ.get(VARIABLE, "")
    with store.locked("pipeline"):
        pipeline = _read()
        if (
            pipeline is None
            or (key and key not in (pipeline.key, pipeline.run_id))
            or not _is_there(client, pipeline)
        ):
            if pipeline is not None and _is_there(client, pipeline):
                settle(client, pipeline, finished=True)
            experiment = store.experiment(client, settings.register_.experiment)
            pipeline = _find(client, experiment, key) or _create(client, experiment, key, settings)
            write_json(STATE_FILE, asdict(pipeline))
        client.update_run(pipeline.run_id, status="RUNNING")
        return pipeline


def leave(client: "MlflowClient", pipeline: Pipeline, *, finished: bool) -> None:
    """A stage has ended; the last one (`report`, `finished`) closes the parent by the outcome of all."""
    with store.locked("pipeline"):
        if not _is_there(client, pipeline):  # deleted meanwhile: nobody wants to hear how it went
            return
        if settle(client, pipeline, finished=finished) and finished:
            _log_summary(client, pipeline)
            STATE_FILE.unlink(missing_ok=True)


def settle(client: "MlflowClient", pipeline: Pipeline, *, finished: bool) -> bool:
    """Give the parent the status its stages add up to; False, and RUNNING, when one of them is still running.

    Runs of processes that are gone (kill -9) become KILLED when the pipeline is finished. Between two stages the
    parent is FINISHED: whether another comes nobody knows (`dvc repro pretrain`, the flow of a phase), and the next one
    that does has it RUNNING again.
    """
    latest: dict[str, Run] = {}
    for run in stage_runs(client, pipeline):
        latest.setdefault(run.data.tags.get("blip.stage", ""), run)
    if any(run.info.status == "RUNNING" and processes.alive(run) for run in latest.values()):
        return False
    if finished:
        for run in latest.values():
            if run.info.status == "RUNNING":
                client.set_terminated(run.info.run_id, "KILLED")
    states = {"KILLED" if run.info.status == "RUNNING" else run.info.status for run in latest.values()}
    outcome = next((bad for bad in ("FAILED", "KILLED") if bad in states), "FINISHED")
    client.set_terminated(pipeline.run_id, outcome)
    return True


def stage_runs(client: "MlflowClient", pipeline: Pipeline, stage: str | None = None) -> list["Run"]:
    """The stages' runs below the parent, newest first; of one stage when it is named."""
    query = f"tags.mlflow.parentRunId = '{pipeline.run_id}'"
    if stage is not None:
        query += f" and tags.`blip.stage` = '{stage}'"
    found = client.search_runs([pipeline.experiment_id], query, order_by=["attributes.start_time DESC"])
    return list(found)


def _read() -> Pipeline | None:
    try:
        return Pipeline(**json.loads(STATE_FILE.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _is_there(client: "MlflowClient", pipeline: Pipeline) -> bool:
    return active_run(client, pipeline.run_id) is not None


def active_run(client: "MlflowClient", run_id: str) -> "Run | None":
    """The run; None where there is none, or it was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run if run.info.lifecycle_stage == "active" else None


def _find(client: "MlflowClient", experiment: str, key: str) -> Pipeline | None:
    """The parent run that `key` names: by its own id, or by the tag of the stage that opened it."""
    if not key:
        return None
    run = active_run(client, key)
    if run is None:
        text = key.replace("'", "")
        found = client.search_runs([experiment], f"tags.`blip.pipeline` = '{text}'", max_results=1)
        run = found[0] if found else None
    if run is None:
        return None
    return Pipeline(run.info.run_id, run.info.experiment_id, run.info.start_time / 1000, key)


def _create(client: "MlflowClient", experiment: str, key: str, settings: Settings) -> Pipeline:
    now = time.time()
    tags = {"blip.kind": "pipeline", **lineage("", settings)}
    if key:
        tags["blip.pipeline"] = key
    name = f"pipeline {datetime.fromtimestamp(now):%Y-%m-%d %H:%M}"
    run = client.create_run(experiment, start_time=int(now * 1000), tags=tags, run_name=name)
    for file in ("params.yaml", "dvc.yaml"):
        if Path(file).is_file():
            stored(client.log_artifact, run.info.run_id, file)
    return Pipeline(run.info.run_id, experiment, now, key)


def _log_summary(client: "MlflowClient", pipeline: Pipeline) -> None:
    """The pipeline's figures, on the parent run too: that is where one compares pipelines."""
    if not SUMMARY.is_file():
        return
    for name, value in json.loads(SUMMARY.read_text(encoding="utf-8")).items():
        if isinstance(value, int | float):
            client.log_metric(pipeline.run_id, name, float(value))
