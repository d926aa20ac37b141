"""The page: everything the stages left behind, in the order in which a reader asks.

    charts = draw_charts(settings, found, audit)
    html = render(settings, found, audit, facts, charts)

One file without scripts or outside resources: it opens from disk, from a server, or out of an e-mail.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from markupsafe import Markup

from blip.config import Settings
from blip.config.graph import STAGES
from blip.config.places import DATA_DOCS, DATASETS, GALLERY
from blip.report import figures, gallery, graph, provenance
from blip.report.artefacts import Artefacts, Curve
from blip.report.audit import Audit
from blip.report.chart import Chart
from blip.report.provenance import Model, RunFacts
from blip.report.results import result_table
from blip.report.rounds import rounds_table
from blip.report.templating import environment, groups

SHOWN = {"retrieval": 12, "text_to_image": 10, "captioning": 24, "vqa": 18, "classification": 12, "video": 8}


@dataclass(frozen=True)
class Charts:
    """The charts of the page, made before it so that MLflow can have them too."""

    pretraining: list[Chart]
    finetuning: list[Chart]
    scores: list[Chart]
    compare: list[Chart]

    def all(self) -> list[Chart]:
        """In the order of the page."""
        return [*self.scores, *self.pretraining, *self.finetuning, *self.compare]


@dataclass(frozen=True)
class TrainingRun:
    """A training run in a line; what its curve does not tell is NaN.

    Attributes:
        mfu: share of the device's peak that the published work of its pairs took.
        data_wait: share of the time without data to work on.
        memory_gb: the most that a rank held.
    """

    stage: str
    steps: int
    first_loss: float
    last_loss: float
    pairs_per_second: float
    mfu: float
    data_wait: float
    memory_gb: float


def draw_charts(settings: Settings, found: Artefacts, audit: Audit | None) -> Charts:
    """Draw whatever there are figures for."""
    thresholds = (found.figures.get(f"capfilt.{name}", 0.5) for name in ("threshold", "synthetic_threshold"))
    return Charts(
        figures.loss_charts(found.curves),
        figures.finetuning_charts(
            found.curves, {stage: _learns_from(settings, stage) for stage in found.curves}
        ),
        figures.score_charts(audit, *thresholds) if audit else [],
        figures.compare_charts(found.figures),
    )


def _learns_from(settings: Settings, stage: str) -> str:
    """Whose texts a training run reads, as the name of their colour; what CapFilt makes is synthetic."""
    section, _, variant = stage.partition("@")
    run = getattr(settings, section, None)
    names = getattr(getattr(run, variant, None) if variant else run, "data", ())
    known = settings.ingest.datasets
    origins = {known[name].origin if name in known else "synthetic" for name in names}
    return next((origin for origin in ("synthetic", "web") if origin in origins), "human")


def render(settings: Settings, found: Artefacts, audit: Audit | None, facts: RunFacts, charts: Charts) -> str:
    """The HTML of the page."""
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            settings=settings,
            found=found,
            figures=found.figures,
            facts=facts,
            plots=charts,
            headline=headline(settings, found, facts),
            graph=Markup(graph.draw(provenance.cells(found, facts))),
            datasets=provenance.datasets(settings, found),
            results=result_table(found, settings.gate),
            rounds=rounds_table(found.figures),
            audit=audit,
            groups=groups(audit) if audit else [],
            web_pictures=gallery.capfilt_pictures(audit, DATASETS / settings.capfilt.web) if audit else {},
            training=[training_run(stage, curve) for stage, curve in found.curves.items() if curve],
            compared=_compared(found.figures),
            examples=_examples(found),
            times=provenance.times(found, facts),
            checks=_pivot(found.stages.get("validate", {}), "validate."),
            data_docs=(DATA_DOCS / "index.html").is_file(),
            capfilt_page=(GALLERY / "index.html").is_file(),
            models=provenance.models(settings, found, facts),
            licences=[(path, Markup(html), read) for path, html, read in provenance.licence_notes(settings)],
            without_readme=provenance.without_readme(settings),
        )
    )


def headline(settings: Settings, found: Artefacts, facts: RunFacts) -> str:
    """What one wants to know first: did all of it run, how long did it take, did the models pass."""
    stages = [stage for stage in STAGES if stage != "report" and stage not in found.left_out]
    done = sum(stage in found.stages for stage in stages)
    models = provenance.models(settings, found, facts)
    judged = [model for model in models if model.passed is not None]
    reach = [model for model in judged if model.reaches_gate]
    ran = f"All {done} stages are done" if done == len(stages) else f"{done} of {len(stages)} stages are done"
    if not judged:
        return f"{ran}; no model has been judged yet"
    all_ = len(reach) == len(judged)
    verdict = f"all {len(reach)} models" if all_ else f"{len(reach)} of {len(judged)} models"
    said = f"{ran}, and {verdict} reach their gate{_champions(reach)}"
    return said.replace(" of ", "\u00a0of\u00a0")


def _champions(reach: list[Model]) -> str:
    """How many of the models that reach their gate are champions; "" where all are."""
    champions = sum(model.version == model.champion for model in reach)
    if champions == len(reach):
        return ""
    return f", {champions} of them as champions" if champions else ", none of them as champion"


def training_run(stage: str, curve: Curve) -> TrainingRun:
    """The line of a run, from its curve.

    A share of the peak that would be above 1 is in no curve: then the peak was measured too low, and those that are
    there are no more to be believed.
    """

    def usual(name: str) -> float:
        return median([value for value in curve.get(name, []) if not math.isnan(value)] or [math.nan])

    losses = curve.get("loss", [math.nan])
    rows = zip(curve.get("pairs_per_second", []), curve.get("mfu", []), strict=False)
    left_out = any(math.isnan(mfu) and not math.isnan(pairs) for pairs, mfu in rows)
    mfu = math.nan if left_out else usual("mfu")
    speed = (usual("pairs_per_second"), mfu, usual("data_wait"))
    most = max(curve.get("memory_gb", [math.nan]))
    return TrainingRun(stage, int(curve["step"][-1]), losses[0], losses[-1], *speed, most)


def _compared(values: Mapping[str, float]) -> list[dict[str, Any]]:
    """Rows of the table of compared models: by head, then by model."""
    metrics = [f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]
    rows = [
        {
            "head": title,
            "model": label,
            "colour": colour,
            "values": [values.get(f"compare.{name}.{head}{metric}") for metric in metrics],
        }
        for head, title in reversed(figures.HEADS.items())
        for name, (label, colour) in figures.COMPARED.items()
    ]
    return [row for row in rows if any(value is not None for value in row["values"])]


def _examples(found: Artefacts) -> dict[str, list[gallery.Example]]:
    """What to show of each task, with the pictures inlined."""
    shown: dict[str, list[gallery.Example]] = {task: [] for task in SHOWN}
    for task, examples in found.examples.items():
        if task == "video":
            shown[task] = gallery.clip_queries(examples, SHOWN[task])
        else:
            shown[task] = gallery.with_pictures(examples.shown, examples.folder, SHOWN[task])
        if examples.text_to_image:
            shown["text_to_image"] = gallery.retrieval_queries(examples, SHOWN["text_to_image"])
    return shown


def _pivot(values: Mapping[str, float], prefix: str) -> tuple[list[str], dict[str, dict[str, float]]]:
    """`validate.human.samples` and its like as a table: the columns, and the rows by dataset."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        dataset, _, what = name.removeprefix(prefix).rpartition(".")
        if name.startswith(prefix) and dataset:
            rows.setdefault(dataset, {})[what.replace("_", " ")] = value
    columns = list(dict.fromkeys(what for row in rows.values() for what in row))
    return columns, rows
