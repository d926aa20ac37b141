"""blip stage report, with a real MLflow store."""

import json
import time
from pathlib import Path

import pytest

from blip.config import Settings
from blip.stages import run_stage
from blip.tracking import store
from blip.tracking.runs import stage_run


@pytest.fixture
def tracked(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished project with a store in which two of its stages ran."""
    return finished


def test_report_writes_the_page_and_the_summary_and_closes_the_pipeline(
    tracked: Path, settings: Settings
) -> None:
    began = time.monotonic()
    with stage_run("register", settings) as run:
        parent = run.client.get_run(run.run_id).data.tags["mlflow.parentRunId"]
    returned = run_stage("report", settings)

    page = (tracked / "reports/pipeline/index.html").read_text(encoding="utf-8")
    assert "All 18 stages are done" in page
    assert parent[:10] in page
    summary = json.loads((tracked / "metrics/summary.json").read_text())
    assert summary["retrieval.i2t_r1"] == returned["retrieval.i2t_r1"] == 0.663
    stages = (
        sum(value for name, value in summary.items() if name.startswith("seconds."))
        - summary["seconds.total"]
    )
    assert stages < summary["seconds.total"] <= stages + time.monotonic() - began
    assert not (tracked / "metrics/report.json").exists()

    client = store.client()
    closed = client.get_run(parent)
    assert closed.info.status == "FINISHED"
    assert closed.data.metrics["vqa.accuracy"] == 0.861
    [report] = client.search_runs([closed.info.experiment_id], "tags.`blip.stage` = 'report'")
    names = {file.path for file in client.list_artifacts(report.info.run_id, "figures")}
    assert {"figures/pretraining-itc.png", "figures/texts-score-good.png"} <= names
    assert "index.html" in {file.path for file in client.list_artifacts(report.info.run_id)}
