"""One MLflow run a stage, below the run of its pipeline.

    with stage_run("pretrain", settings) as run:
        run.log_metrics({"loss": 3.2}, step=20)
        run.log_curve(Path("metrics/curves/pretrain.csv"))
        run.log_figure(figure, "loss.png")

A run ends FINISHED, FAILED (an exception) or KILLED (SIGTERM, Ctrl-C, preempted with a checkpoint). A killed
stage that starts again with the same parameters goes on in the same run.
"""

import csv
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from blip.config import Settings
from blip.credentials import shown
from blip.errors import Preempted
from blip.tracking import pipeline, processes, store, unsent
from blip.tracking.lineage import VALUE_LIMIT, digest, lineage, parameters
from blip.tracking.measured import Measured, Scores
from blip.tracking.sending import sent, stored
from blip.tracking.system import system_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

LAST_STAGE = "report"
METRICS_BATCH, PARAMETERS_BATCH = 900, 90  # a request takes 1000 metrics and 100 parameters
FLUSH_SECONDS = 10.0
LARGEST_TABLE = 100_000_000  # bytes that are kept with a run
# Digests of the models that a run gave figures of: a training run, of those that it made
WEIGHTS = "blip.weights"
ORIGIN = ("blip.git_", "blip.dvc_lock", "blip.recipe", "blip.flow_run", "blip.input.")


class StageRun:
    """The MLflow run of a stage. Metrics go in batches; a store that is down costs a warning, no work."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self.run_id = run_id
        self.client = client
        logged = client.get_run(run_id).data
        self._parameters = dict(logged.params)
        self._results = dict(logged.metrics)
        self._last_steps = {name: self._last_step(name) for name in logged.metrics if "system/" not in name}
        self.figures: dict[str, float] = {}  # of what was done in the stage, to stand beside its own figures
        self.measured: dict[str, Measured] = {}  # how figures of the stage were measured
        self.trained: list[str] = []  # training runs of the stage, whose checkpoints stay until it is done
        self.work: list[
            str
        ] = []  # folders that the stage goes on from if it is ended; they stay until then, too
        self._pending: list[Metric] = []
        self._untold = unsent.Untold()
        self._flushed = time.monotonic()
        self._deleted = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers: the stage's results (no step, sent at once) or points of curves (sent every 10 s).

        Points at or before the last one of a curve are left out, for a resumed stage repeats some.
        """
        if step is None:  # a stage that was ended behind its results has them again
            self._add({n: value for n, value in metrics.items() if self._results.get(n) != value}, 0)
            self._results.update(metrics)
        else:
            self._add_points(metrics, step)
        if step is None or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def log_curve(self, path: Path, prefix: str = "") -> None:
        """Log the columns of a CSV file by its `step` column; called again, only the rows that are new."""
        with path.open(newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                self.add_row(row, prefix)
        self.flush()

    def add_row(self, row: Mapping[str, str], prefix: str = "", again: bool = False) -> None:
        """Have a row of such a file wait for the next `flush`; `again`: in the place of another one."""
        step = int(float(row["step"]))
        values = {f"{prefix}{name}": float(text) for name, text in row.items() if text and name != "step"}
        self._add_points(values, step, again)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters. One that the run has already (it was resumed) keeps its value."""
        from mlflow.entities import Param

        new = {
            name: str(value)[:VALUE_LIMIT] for name, value in params.items() if name not in self._parameters
        }
        entries = [Param(name, value) for name, value in new.items()]
        for start in range(0, len(entries), PARAMETERS_BATCH):
            batch = entries[start : start + PARAMETERS_BATCH]
            if not self._sent(self.client.log_batch, params=batch):
                self._untold.params |= {one.key: one.value for one in batch}
        self._parameters.update(new)

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags, replacing those of the same name."""
        from mlflow.entities import RunTag

        entries = [RunTag(name, str(value)[:VALUE_LIMIT]) for name, value in tags.items()]
        if not self._sent(self.client.log_batch, tags=entries):
            self._untold.tags |= {one.key: one.value for one in entries}

    def note(self, scores: Scores) -> dict[str, float]:
        """The figures, to be written with how they were measured."""
        self.measured |= scores.measured
        return scores.figures

    def tag_weights(self) -> None:
        """Say which models the figures are of: of a training stage, those that it made."""
        digests = {digest for how in self.measured.values() for digest in how.weights}
        if digests:
            self.set_tags({WEIGHTS: " ".join(sorted(digests))})

    def log_artifact(self, path: Path | str, folder: str | None = None) -> None:
        """Keep a file, or a folder with all that is in it, with the run."""
        log = self.client.log_artifacts if Path(path).is_dir() else self.client.log_artifact
        stored(log, self.run_id, str(path), folder)

    def log_table(self, path: Path, folder: str | None = None, place: Path | None = None) -> None:
        """Keep a table with the run; of one of gigabytes only its digest, in a tag that names where it will be."""
        if path.stat().st_size <= LARGEST_TABLE:
            self.log_artifact(path, folder)
        else:
            self.set_tags({f"blip.table.{place or path}": digest(path)})

    def log_figure(self, figure: "Figure", name: str) -> None:
        """Keep a matplotlib figure under a file name such as "roc.png"."""
        stored(self.client.log_figure, self.run_id, figure, f"figures/{name}")

    def flush(self) -> None:
        """Send the metrics that wait. When the store does not answer, they are kept for the next time."""
        while self._pending:
            if not self._sent(self.client.log_batch, metrics=self._pending[:METRICS_BATCH]):
                break
            del self._pending[:METRICS_BATCH]
        self._flushed = time.monotonic()  # a store that is down takes longer to say so than FLUSH_SECONDS

    def close(self, status: str, reason: str = "") -> None:
        """Send what waits and end the run: FINISHED, FAILED or KILLED, with the reason as a tag.

        What the store does not take is kept for the stage that comes next.
        """
        if reason:
            self.set_tags({"blip.error": shown(reason)})
        self.flush()
        untold, ended = self._untold, int(time.time() * 1000)
        if not self._sent(self.client.set_terminated, status, ended):
            untold.status, untold.ended = status, ended
        untold.metrics = [dict(point) for point in self._pending]
        if untold != unsent.Untold() and not self._deleted:
            unsent.keep(self.run_id, untold)
        else:
            unsent.forget(self.run_id)

    def _sent(self, call: Callable[..., object], *arguments: object, **named: object) -> bool:
        """Whether the store took a call about the run; of a run that was deleted meanwhile it takes none."""
        from mlflow.exceptions import MlflowException

        if self._deleted:
            return False
        try:
            return sent(call, self.run_id, *arguments, **named)
        except MlflowException:
            if pipeline.active_run(self.client, self.run_id):
                raise
            self._deleted = True
            print(
                f"warning: the MLflow run {self.run_id} of this stage was deleted; it has no figures there",
                file=sys.stderr,
            )
            return False

    def _add_points(self, metrics: Mapping[str, float], step: int, again: bool = False) -> None:
        """Of curves; those at or before the last one only when they come `again` with other values."""
        self._add({n: v for n, v in metrics.items() if again or step > self._last_steps.get(n, -1)}, step)
        self._last_steps.update({name: max(step, self._last_steps.get(name, -1)) for name in metrics})

    def _add(self, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._pending += [Metric(name, float(value), now, step) for name, value in metrics.items()]

    def _last_step(self, name: str) -> int:
        return max((point.step for point in self.client.get_metric_history(self.run_id, name)), default=-1)


@contextmanager
def stage_run(stage: str, settings: Settings) -> Iterator[StageRun]:
    """Open the MLflow run of a stage, and of its pipeline if none is open; close them by how the block ends.

    Raises:
        BlipError: the MLflow store cannot be opened, or takes no run.
    """
    client = store.client()
    unsent.send(client)
    with store.takes(f"a run of stage {stage}", "nothing is done yet: run it again once that is mended"):
        parent = pipeline.enter(client, settings)
        run = StageRun(client, _open(client, parent, stage, settings))
    status, reason = "FINISHED", ""
    try:
        run.log_params(parameters(stage, settings))
        with processes.sigterm_as_exit(), system_metrics(run.run_id):
            yield run
    except BaseException as error:
        status = "KILLED" if _was_stopped(error) else "FAILED"
        reason = f"{type(error).__name__}: {error}"
        raise
    finally:
        run.close(status, reason)
        sent(pipeline.leave, client, parent, finished=stage == LAST_STAGE and status == "FINISHED")


def training_run(client: "MlflowClient", stage: str, weights: str, settings: Settings) -> dict[str, str]:
    """The run of a stage that made these weights, in any pipeline, and what it came from: tags for a model.

    DVC may have brought back what an older run made, from other code, and what another machine made; {} if no run here
    says that it was it.
    """
    experiment = store.experiment(client, settings.register_.experiment)
    query = f"tags.`blip.stage` = '{stage}' and tags.`{WEIGHTS}` LIKE '%{weights}%'"
    found = client.search_runs([experiment], query, order_by=["attributes.start_time DESC"], max_results=1)
    if not found:
        return {}
    tags = {name: value for name, value in found[0].data.tags.items() if name.startswith(ORIGIN)}
    return tags | {"blip.training_run": found[0].info.run_id}


def _open(client: "MlflowClient", parent: pipeline.Pipeline, stage: str, settings: Settings) -> str:
    """The run to work in: the stage's last one under this parent if that was stopped, else a new one."""
    tags = {
        "mlflow.parentRunId": parent.run_id,
        "mlflow.source.name": f"blip stage {stage}",
        "mlflow.source.type": "LOCAL",
        "blip.stage": stage,
        "blip.attempt": "1",
        processes.TAG: processes.this_process(),
        **lineage(stage, settings),
    }
    if commit := tags.get("blip.git_commit"):
        tags["mlflow.source.git.commit"] = commit
    with store.locked("pipeline"):
        last = next(iter(pipeline.stage_runs(client, parent, stage)), None)
        # another stage may have ended since the parent was entered
        client.update_run(parent.run_id, status="RUNNING")
        if last is None or not _resumable(last, parameters(stage, settings)):
            return client.create_run(parent.experiment_id, tags=tags, run_name=stage).info.run_id
        tags["blip.attempt"] = str(int(last.data.tags.get("blip.attempt", "1")) + 1)
        client.update_run(last.info.run_id, status="RUNNING")
        for name, value in tags.items():
            client.set_tag(last.info.run_id, name, value)
        if "blip.error" in last.data.tags:  # of what stopped it, which is over
            client.delete_tag(last.info.run_id, "blip.error")
        return last.info.run_id


def _resumable(run: "Run", wanted: Mapping[str, str]) -> bool:
    stopped = run.info.status == "KILLED" or (run.info.status == "RUNNING" and not processes.alive(run))
    params = run.data.params
    return stopped and all(params.get(name, value) == value for name, value in wanted.items())


def _was_stopped(error: BaseException) -> bool:
    if isinstance(error, SystemExit):
        return error.code == processes.TERMINATED
    return isinstance(error, KeyboardInterrupt | Preempted)
