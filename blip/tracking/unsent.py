"""What MLflow was not told when a stage ended, since it did not answer: kept, and sent before the next stage begins.

if untold: unsent.keep(run_id, untold)
unsent.send(client)

.blip/unsent/STORE/RUN.json     STORE is a digest of the store's address, which may have a password in it
"""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blip.atomic import write_json
from blip.credentials import shown
from blip.tracking import store
from blip.tracking.sending import sent

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = store.STATE / "unsent"
BATCH = 900  # a request takes 1000 metrics


@dataclass
class Untold:
    """What is to be said of a run; `ended` is in milliseconds since the epoch, None where the store knows that."""

    status: str = ""
    ended: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)


def keep(run_id: str, untold: Untold) -> None:
    """Write it down for the stage that comes next; where there is no room for it, that is no reason to fail."""
    try:
        write_json(_folder() / f"{run_id}.json", asdict(untold))
        became = f"is kept in {FOLDER} and sent when the next stage begins"
    except OSError as error:
        became = f"cannot be kept either: {error}"
    print(f"warning: what MLflow did not take of this run {became}", file=sys.stderr)


def forget(run_id: str) -> None:
    """Let go of what was kept of a run: it has ended since, and the store knows how."""
    (_folder() / f"{run_id}.json").unlink(missing_ok=True)


def send(client: "MlflowClient") -> None:
    """Say what was kept for this store; what it does not take now either is kept on.

    One stage at a time, of those that begin at once: the run that one has told of may be at work again.
    """
    if not any(_folder().glob("*.json")):
        return
    with store.locked("unsent"):
        _send(client)


def _send(client: "MlflowClient") -> None:
    for file in sorted(_folder().glob("*.json")):
        if _told(client, file.stem, Untold(**json.loads(file.read_text(encoding="utf-8")))):
            file.unlink(missing_ok=True)


def _told(client: "MlflowClient", run_id: str, untold: Untold) -> bool:
    """Whether the store knows all of it, or knows no such run any more."""
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException

    try:
        if client.get_run(run_id).info.lifecycle_stage != "active":
            return True
    except MlflowException as error:
        return error.error_code == "RESOURCE_DOES_NOT_EXIST"
    params = [Param(name, value) for name, value in untold.params.items()]
    tags = [RunTag(name, value) for name, value in untold.tags.items()]
    points = [Metric(**point) for point in untold.metrics]
    batches = [{"params": params, "tags": tags}] if params or tags else []
    batches += [{"metrics": points[start : start + BATCH]} for start in range(0, len(points), BATCH)]
    try:
        if not all(sent(client.log_batch, run_id, **batch) for batch in batches):
            return False
    except MlflowException as error:  # a value that it will never take
        print(f"warning: MLflow refuses what was kept of run {run_id}: {shown(str(error))}", file=sys.stderr)
    return untold.ended is None or sent(client.set_terminated, run_id, untold.status, untold.ended)


def _folder() -> Path:
    return store.in_project(FOLDER) / hashlib.sha256(store.tracking_uri().encode()).hexdigest()[:12]
