"""The end of a run: its figures, for the terminal and as Prefect artifacts; the sample's beside their bars."""

import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from rich.console import Console
from rich.table import Table

from blip.config.places import GALLERY, REPORT, REPORTS, SUMMARY
from flows.addresses import address, announced
from flows.project import settings_in_use

PAGE = REPORT / "index.html"
PICTURES, OUTCOMES = GALLERY / "index.html", GALLERY / "summary.md"
SERVED = {"Prefect": "prefect", "MLflow": "mlflow", "report and Data Docs": "reports"}  # pages by address

SAMPLE = Path("data/sample")  # of whose data the bars are
TEST, POOL = "test data, which no training has read", "the web pool, read in pre-training"
DECIMALS = {"captioning.cider": 2, "filter.roc_auc": 3}  # of the figures that are no shares


@dataclass(frozen=True)
class Figure:
    """A key of metrics/summary.json, what it says, what it should reach on the sample (or None), of what data."""

    key: str
    label: str
    bar: float | None = None
    data: str = TEST

    def row(self, value: float, half: float | None, with_bar: bool) -> dict[str, str]:
        """The figure as a line of the table; `half` is half the width of its interval over the test data, if known."""
        bar, reached = "", ""
        if with_bar and self.bar is not None:
            bar, reached = f"≥ {self.shown(self.bar)}", "yes" if value >= self.bar else "no"
        shown = self.shown(value) if half is None else f"{100 * value:.1f} ± {100 * half:.1f} %"
        return {"figure": self.label, "value": shown, "bar": bar, "reached": reached, "data": self.data}

    def shown(self, value: float) -> str:
        """Seconds as minutes, CIDEr and ROC AUC as they are, fractions as percentages."""
        if self.key == "seconds.total":
            return f"{int(value) // 60}:{int(value) % 60:02d} min"
        decimals = DECIMALS.get(self.key)
        return f"{100 * value:.1f} %" if decimals is None else f"{value:.{decimals}f}"


FIGURES = (
    Figure("retrieval.i2t_r1", "image to text, R@1", 0.55),
    Figure("retrieval.t2i_r1", "text to image, R@1", 0.55),
    Figure("retrieval.i2t_r10", "image to text, R@10", 0.88),
    Figure("retrieval.t2i_r10", "text to image, R@10", 0.88),
    Figure("captioning.exact_match", "captions, exact match", 0.55),
    Figure("captioning.cider", "captions, CIDEr"),
    Figure("bootstrap.r1_noisy", "pre-trained on the noisy pool, R@1"),
    Figure("bootstrap.r1_bootstrapped", "pre-trained on the bootstrapped pool, R@1"),
    Figure("bootstrap.gain", "what bootstrapping gave, R@1", 0.10),
    Figure("vqa.accuracy", "visual questions, accuracy", 0.80),
    Figure("vqa.open_accuracy", "visual questions, open ones", 0.70),
    Figure("vqa.question_only", "visual questions, without the picture"),
    Figure("video.t2v_r1", "text to video, zero-shot, R@1", 0.60),
    Figure("filter.roc_auc", "filter against the known noise, ROC AUC", 0.95, POOL),
    Figure("filter.precision", "filter, right of the web texts kept", 0.93, POOL),
    Figure("filter.recall", "filter, kept of the right web texts", 0.85, POOL),
    Figure("seconds.total", "time of all stages, one after another", data=""),
)


def rows() -> list[dict[str, str]]:
    """The figures of metrics/summary.json beside their bars; empty when there is no such file."""
    if not SUMMARY.is_file():
        return []
    figures = json.loads(SUMMARY.read_text(encoding="utf-8"))
    if {"bootstrap.r1_noisy", "bootstrap.r1_bootstrapped"} <= figures.keys():
        figures["bootstrap.gain"] = figures["bootstrap.r1_bootstrapped"] - figures["bootstrap.r1_noisy"]
    with_bar = tests_the_sample()
    return [
        figure.row(figures[figure.key], figures.get(f"{figure.key}_half"), with_bar)
        for figure in FIGURES
        if figure.key in figures
    ]


def tests_the_sample() -> bool:
    """Whether the test data are the sample's, of which the bars are."""
    settings = settings_in_use()
    source = settings.ingest.datasets.get(settings.evaluate.retrieval.data)
    return source is not None and Path(source.source).is_relative_to(SAMPLE)


def title() -> str:
    """Of the table; of a recipe's figures it says so."""
    recipe = settings_in_use().recipe
    return ("Figures and their bars" if tests_the_sample() else "Figures") + (
        f", recipe {recipe}" if recipe else ""
    )


def result_table() -> Table:
    """The figures for the terminal."""
    table = Table(title=title(), title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    if with_bar := tests_the_sample():
        table.add_column("bar", justify="right")
        table.add_column("reached")
    for data, group in groupby(rows(), lambda row: row["data"]):
        table.add_section()
        if data:
            table.add_row(data, style="bold")
        for row in group:
            style = {"yes": "green", "no": "bold red"}.get(row["reached"], "dim" if with_bar else "")
            beside = (row["bar"], row["reached"]) if with_bar else ()
            table.add_row(row["figure"], row["value"], *beside, style=style)
    return table


def show_results(seconds: float, message: str, with_figures: bool) -> None:
    """The end of a run in the terminal: the figures, the time, and where to look."""
    console = Console(highlight=False)
    console.print()
    if with_figures and rows():
        console.print(result_table())
    console.print(f"{message}, in {int(seconds) // 60}:{int(seconds) % 60:02d} min\n")
    print(where_to_look())


def publish_results() -> None:
    """The same figures and the way to the report as artifacts of the Prefect run."""
    create_table_artifact(table=rows(), key="results", description=title())
    publish_page(PAGE, "report of the run", key="report")
    create_markdown_artifact(key="where-to-look", markdown=f"```\n{where_to_look()}\n```")


def publish_capfilt() -> None:
    """What CapFilt kept, by outcome and source, and the way to its gallery, as artifacts of the Prefect run."""
    if not OUTCOMES.is_file():
        return
    which = " in its first round" if settings_in_use().capfilt.rounds > 1 else ""
    create_markdown_artifact(
        key="capfilt",
        markdown=OUTCOMES.read_text(encoding="utf-8"),
        description=f"What CapFilt kept{which}",
    )
    publish_page(PICTURES, f"gallery of CapFilt{which}", key="capfilt-gallery")


def publish_page(page: Path, what: str, key: str) -> None:
    """The way to a page of reports/ as an artifact: a link while `make ui` serves it, else where it lies.

    At the port that it would prefer there may be the report of another folder.
    """
    if served := announced().get("reports"):
        link = f"{served}/{page.relative_to(REPORTS)}"
        create_link_artifact(link=link, link_text=f"{what} (served by `make ui`)", key=key)
    else:
        create_markdown_artifact(markdown=f"{what} (served by `make ui`): `{page.resolve()}`", key=key)


def where_to_look() -> str:
    """The ways to the pages that there are: a run up to an early stage has made no report."""
    places = {
        "report": PAGE,
        "gallery": PICTURES,
        "figures": SUMMARY if SUMMARY.is_file() else SUMMARY.parent,
    }
    lines = [f"{name:<13}{path}" for name, path in places.items() if path.exists()]
    pages = ", ".join(f"{name} {address(key)}" for name, key in SERVED.items())
    return "\n".join([*lines, f"make ui      serves what there is: {pages}"])
