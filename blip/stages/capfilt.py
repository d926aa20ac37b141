"""Stage capfilt: bootstrap the web pairs with the captioner and the filter (BLIP paper, section 3.3).

Data in: data/datasets/web and human, models/captioner and filter.
Out: data/datasets/bootstrapped with audit.parquet, and reports/capfilt, a page about it with its tables as Markdown;
how the filter did against the pool's known truth.
"""

from pathlib import Path

from blip.atomic import atomic_path, write_text
from blip.capfilt.bootstrap import AUDIT_FILE
from blip.config import Settings
from blip.report.bootstrapping import Bootstrapping
from blip.stages.bootstrapping import bootstrapped_figures, write_bootstrapped
from blip.stages.training import DATASETS
from blip.tasks.inputs import model_directory
from blip.tracking.runs import StageRun

TARGET = DATASETS / "bootstrapped"
PAGES = Path("reports/capfilt")
SHOWN = 12  # pictures of each outcome


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Bootstrap, show what became of the pool, and compare with the truth."""
    write_bootstrapped(TARGET, model_directory("captioner"), model_directory("filter"), settings)
    run.log_artifact(TARGET / AUDIT_FILE)
    made = Bootstrapping.open(DATASETS / settings.capfilt.web, TARGET, seed=settings.seed, shown=SHOWN)
    show(made, run)
    return bootstrapped_figures(TARGET, settings) | made.audit.sources.figures()


def show(made: Bootstrapping, run: StageRun) -> None:
    """Write the page and its tables, and keep them and the charts with the run."""
    with atomic_path(PAGES) as folder:
        folder.mkdir(parents=True)
        write_text(folder / "index.html", made.html())
        write_text(folder / "summary.md", made.markdown())
    run.log_artifact(PAGES, PAGES.name)
    for chart in made.charts:
        run.log_figure(chart.figure, f"{chart.name}.png")
