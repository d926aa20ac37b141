"""Stage capfilt: bootstrap the web pairs with the captioner and the filter (BLIP paper, section 3.3).

Data in: data/datasets/web and human, models/captioner and filter.
Out: data/datasets/bootstrapped with audit.parquet; how the filter did against the pool's known truth, which is read
here, after the decisions, and nowhere before.
"""

from pathlib import Path

import pyarrow.parquet as pq
import torch

from blip.capfilt.bootstrap import AUDIT, BootstrapSettings, Counts, bootstrap
from blip.config import Settings
from blip.data.pairs import PairsDataset
from blip.data.text import clean_caption
from blip.stages.training import DATASETS, open_dataset
from blip.tasks.captioning import is_exact
from blip.tasks.inputs import open_model
from blip.tasks.matching import as_mask, precision_recall, roc_auc
from blip.tracking.runs import StageRun

TARGET = DATASETS / "bootstrapped"


def run(settings: Settings, run: StageRun, variant: str | None) -> dict[str, float]:
    """Bootstrap and compare with the truth."""
    how = settings.capfilt
    (web, excluded), (human, excluded_human) = open_dataset(how.web), open_dataset(how.human)
    counts = bootstrap(
        web,
        human,
        TARGET,
        open_model("captioner", settings.compute),
        open_model("filter", settings.compute),
        BootstrapSettings(
            how.decoding, how.top_p, how.max_tokens, how.min_tokens, how.head, how.threshold,
            how.batch_size, settings.ingest.samples_per_shard, settings.seed,
        ),
        excluded,
        excluded_human,
    )  # fmt: skip
    run.log_artifact(TARGET / AUDIT)
    return _kept_figures(counts) | truth_figures(web, TARGET / AUDIT)


def _kept_figures(counts: Counts) -> dict[str, float]:
    return {
        "capfilt.images": counts.images,
        "capfilt.web_kept": counts.web_kept / counts.images,
        "capfilt.synthetic_kept": counts.synthetic_kept / max(counts.synthetic, 1),
        "capfilt.images_dropped": sum(counts.dropped.values()) / counts.images,
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
    rows = pq.read_table(audit).to_pylist()
    truth = {row["key"]: row for row in table.to_pylist()}
    matched = as_mask([bool(int(truth[row["key"]]["truth_matched"])) for row in rows])
    labels = [truth[row["key"]]["truth_caption_true"] for row in rows]
    aucs = {
        f"filter.{name}": roc_auc(torch.tensor([row[column] for row in rows]), matched)
        for name, column in (("roc_auc", "web_score"), ("itm_roc_auc", "web_itm"), ("itc_roc_auc", "web_itc"))
    }
    kept = as_mask([row["web_kept"] for row in rows])
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
