"""blip stage report: one page about the pipeline, and its figures.

Reads metrics/, reports/evaluate, the audit of CapFilt's last round and the pictures of the web pool; asks MLflow when
each stage ran and which versions are champions. Writes reports/pipeline/index.html, one file without scripts or outside
resources, and metrics/summary.json.
"""

import time
from datetime import datetime
from pathlib import Path

from blip.atomic import atomic_path, write_json, write_text
from blip.config import Settings
from blip.config.places import DATASETS, REPORT, SUMMARY
from blip.config.rounds import last_dataset
from blip.report.artefacts import read_artefacts
from blip.report.audit import read_audit
from blip.report.page import draw_charts, render
from blip.report.provenance import RunFacts, Span
from blip.report.results import summary
from blip.tracking import registry
from blip.tracking.pipeline import Pipeline, pipeline_started, stage_runs
from blip.tracking.runs import StageRun

PAGE = REPORT / "index.html"


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Write the page and the summary, whatever stages have run; a part that is missing says so in the page.

    Raises:
        BlipError: a stage's output is there but is not what it writes.
    """
    began = time.monotonic()
    found = read_artefacts(Path())
    pool = DATASETS / settings.capfilt.web
    audit = read_audit(DATASETS / last_dataset(settings), pool, seed=settings.seed)
    charts = draw_charts(settings, found, audit)
    facts = gather_facts(settings, run)
    html = render(settings, found, audit, facts, charts)
    with atomic_path(REPORT) as folder:
        folder.mkdir(parents=True)
        write_text(folder / PAGE.name, html)
    for chart in charts.all():
        run.log_figure(chart.figure, f"{chart.name}.png")
    run.log_artifact(PAGE)
    figures = summary(found, time.monotonic() - began)
    write_json(SUMMARY, figures)
    print(f"report: {PAGE} ({len(html) / 1e6:.1f} MB)", flush=True)
    return figures


def gather_facts(settings: Settings, run: StageRun) -> RunFacts:
    """When the pipeline and each of its stages ran, what it came from, and which models are champions."""
    client = run.client
    this = client.get_run(run.run_id)
    tags = dict(this.data.tags)
    parent = Pipeline(tags["mlflow.parentRunId"], this.info.experiment_id, pipeline_started())
    champions = {name: registry.champion(name) for name in settings.gate}
    return RunFacts(
        started=datetime.fromtimestamp(parent.started).astimezone(),
        seconds=time.time() - parent.started,
        spans=_spans(run, parent),
        champions={name: version.number for name, version in champions.items() if version},
        tags=tags,
        run_id=parent.run_id,
        experiment_id=parent.experiment_id,
    )


def _spans(run: StageRun, parent: Pipeline) -> dict[str, Span]:
    """When each stage ran in this pipeline, by its newest finished run."""
    spans: dict[str, Span] = {}
    for child in stage_runs(run.client, parent):
        stage = child.data.tags.get("blip.stage", "")
        if child.info.status == "FINISHED" and child.info.end_time and stage not in spans:
            begin, end = child.info.start_time / 1000, child.info.end_time / 1000
            attempts = int(child.data.tags.get("blip.attempt", "1"))
            spans[stage] = Span(begin - parent.started, end - parent.started, attempts)
    return spans
