"""Stage capfilt: bootstrap the web pairs with the captioner and the filter (BLIP paper, section 3.3).

Data in: data/datasets/web and human, models/captioner and filter.
Out: data/datasets/bootstrapped with audit.parquet, and reports/capfilt, a page about it with its tables as Markdown;
how the filter did against the pool's known truth, which is read here, after the decisions, and nowhere before.
"""

from pathlib import Path

import pyarrow.parquet as pq
import torch

from blip.atomic import atomic_path, write_text
from blip.capfilt.bootstrap import AUDIT_FILE, bootstrap
from blip.capfilt.shard import Models, Pairs, Tally
from blip.config import Settings
from blip.data.jobs import open_pool
from blip.data.pairs import PairsDataset
from blip.data.text import clean_caption
from blip.report.bootstrapping import Bootstrapping
from blip.stages.training import DATASETS, VALIDATED
from blip.tasks.captioning import is_exact
from blip.tasks.inputs import device_of, model_directory
from blip.tasks.matching import as_mask, precision_recall, roc_auc
from blip.tracking.runs import StageRun

TARGET = DATASETS / "bootstrapped"
PAGES = Path("reports/capfilt")
SHOWN = 12  # pictures of each outcome


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Bootstrap and compare with the truth."""
    how, compute = settings.capfilt, settings.compute
    names = (how.web, how.human, how.held_out)
    web, human, held_out = (Pairs(DATASETS / name, VALIDATED / f"{name}.parquet") for name in names)
    models = Models(model_directory("captioner"), (model_directory("filter"),), device_of(compute))
    with open_pool(1 if models.device == "cuda" else None) as pool:
        tally = bootstrap(web, human, TARGET, models, how, settings.seed, pool, held_out=held_out)
    run.log_artifact(TARGET / AUDIT_FILE)
    made = Bootstrapping.open(web.dataset, TARGET, seed=settings.seed, shown=SHOWN)
    show(made, run)
    truth = truth_figures(PairsDataset.open(web.dataset), TARGET / AUDIT_FILE)
    cut = {"capfilt.threshold": made.threshold}
    return cut | _kept_figures(tally) | made.audit.sources.figures() | truth


def show(made: Bootstrapping, run: StageRun) -> None:
    """Write the page and its tables, and keep them and the charts with the run."""
    with atomic_path(PAGES) as folder:
        folder.mkdir(parents=True)
        write_text(folder / "index.html", made.html())
        write_text(folder / "summary.md", made.markdown())
    run.log_artifact(PAGES, PAGES.name)
    for chart in made.charts:
        run.log_figure(chart.figure, f"{chart.name}.png")


def _kept_figures(tally: Tally) -> dict[str, float]:
    images = max(tally.images, 1)
    return {
        "capfilt.images": tally.images,
        "capfilt.web_kept": tally.web_kept / max(tally.web, 1),
        "capfilt.synthetic_kept": tally.synthetic_kept / max(tally.synthetic, 1),
        "capfilt.images_dropped": tally.dropped / images,
    }


def truth_figures(web: PairsDataset, audit: Path) -> dict[str, float]:
    """Filter and captioner against the known truth of the web pool; empty when the pool has none (real data).

    ``filter.*`` is over the web texts; ``capfilt.synthetic_right`` is the share of synthetic captions that are the
    picture's true label, before and after filtering; ``capfilt.rescued`` the share of the pictures with a wrong web
    text that end up with the right label.
    """
    table = web.metadata()
    if not {"truth_matched", "truth_caption_true"} <= set(table.column_names):
        return {}
    truth = {row["key"]: row for row in table.to_pylist()}
    rows = [row for row in pq.read_table(audit).to_pylist() if row["web_texts"]]
    matched = as_mask([bool(int(truth[row["key"]]["truth_matched"])) for row in rows])
    labels = [truth[row["key"]]["truth_caption_true"] for row in rows]
    aucs = {
        f"filter.{name}": roc_auc(torch.tensor([max(row[column]) for row in rows]), matched)
        for name, column in (("roc_auc", "web_score"), ("itm_roc_auc", "web_itm"), ("itc_roc_auc", "web_itc"))
    }
    kept = as_mask([any(row["web_kept"]) for row in rows])
    right = as_mask([_right(row["synthetic_texts"], label) for row, label in zip(rows, labels, strict=True)])
    passed = as_mask([any(row["synthetic_kept"]) for row in rows])
    precision, recall = precision_recall(kept, matched)
    return {
        **aucs,
        "filter.precision": precision,
        "filter.recall": recall,
        "capfilt.synthetic_right": right.float().mean().item(),
        "capfilt.synthetic_right_kept": (right & passed).sum().item() / max(int(passed.sum()), 1),
        "capfilt.rescued": (right & passed & ~matched).sum().item() / max(int((~matched).sum()), 1),
    }


def _right(texts: list[str], label: str) -> bool:
    return any(is_exact(text, [clean_caption(label)]) for text in texts)
