"""Stage capfilt: bootstrap the web pairs with the captioner and the filter (BLIP paper, section 3.3).

Data in: data/datasets/web and human, models/captioner and filter.
Out: data/datasets/bootstrapped with audit.parquet, and reports/capfilt, a page about it with its tables as Markdown;
how the filter did against the pool's known truth. The dataset stays beside its place until the stage is done, so that
one that is finished is not made again when what follows is ended: DVC removes what stands there when the stage starts.
"""

import json
from dataclasses import replace

from blip.atomic import atomic_path, link_in_place, take_away, write_json, write_text
from blip.capfilt.bootstrap import AUDIT_FILE
from blip.config import Settings
from blip.config.places import DATASETS, GALLERY
from blip.data.kept import digest_of
from blip.report.bootstrapping import Bootstrapping
from blip.stages.bootstrapping import bootstrapped_scores, order_of, write_bootstrapped
from blip.tasks.inputs import model_directory
from blip.tracking.runs import StageRun

TARGET = DATASETS / "bootstrapped"
FINISHED = DATASETS / ".capfilt" / TARGET.name
NOTE = FINISHED.with_name("made_of.json")
SHOWN = 12  # pictures of each outcome


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Bootstrap, show what became of the pool, and compare with the truth."""
    _finish(settings)
    run.log_table(FINISHED / AUDIT_FILE, place=TARGET / AUDIT_FILE)
    made = Bootstrapping.open(DATASETS / settings.capfilt.web, FINISHED, seed=settings.seed, shown=SHOWN)
    show(replace(made, target=TARGET), run)  # where it will be for who reads the page
    models = model_directory("captioner"), model_directory("filter")
    figures = run.note(bootstrapped_scores(FINISHED, *models, settings)) | made.audit.sources.figures()
    link_in_place(FINISHED, TARGET)
    run.work.append(str(FINISHED))
    return figures


def _finish(settings: Settings) -> None:
    """Bootstrap, unless that was finished and only what follows was not.

    The note is written before anything is made: what is there without one is of nobody knows what.
    """
    models = model_directory("captioner"), model_directory("filter")
    made_of = digest_of([order_of(*models, settings).identity()])
    if not NOTE.is_file() or json.loads(NOTE.read_text(encoding="utf-8")) != made_of:
        take_away(FINISHED)
        write_json(NOTE, made_of)
    if FINISHED.is_dir():
        print("capfilt  the dataset is finished already", flush=True)
        return
    write_bootstrapped(FINISHED, *models, settings)


def show(made: Bootstrapping, run: StageRun) -> None:
    """Write the page and its tables, and keep them and the charts with the run."""
    with atomic_path(GALLERY) as folder:
        folder.mkdir(parents=True)
        write_text(folder / "index.html", made.html())
        write_text(folder / "summary.md", made.markdown())
    run.log_artifact(GALLERY, GALLERY.name)
    for chart in made.charts:
        run.log_figure(chart.figure, f"{chart.name}.png")
